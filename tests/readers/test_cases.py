"""Made-up files that fail as real ones did, kept outside of the repository."""

import numpy as np
import pytest
from helpers import SHARED

from stm_keras.readers import read_scan

FOLDER = SHARED.parent / "cases" / "scan_files"
CASES = {  # file, channel asked for: channel, direction, unit, mean of the heights
    ("createc_channelselect30.dat", None): ("Current", "forward", "A", None),
    ("createc_channelselect30.dat", "ADC1"): ("ADC1", "forward", "V", None),
    ("createc_hex_channelselect.dat", None): ("Z", "forward", "m", None),
    ("createc_v1_int16.dat", None): ("Z", "forward", "m", None),
    ("gxsm4-Xm-Topo.nc", None): ("Z", "backward", "m", 5.0e-9),
    ("gxsm4-Xp-Topo.nc", None): ("Z", "forward", "m", 5.0e-9),
    ("gxsm4-stalename-M-Xp-Topo.nc", None): ("Z", "forward", "m", 5.0e-9),
    ("gxsm4-Xp-TimeMon.nc", None): ("Time-Mon", "forward", "s", 0.65),
    ("nxstm.nxs", None): ("Z", "forward", "m", 4.99e-10),
    ("nxstm.nxs", "Z backward"): ("Z", "backward", "m", 5.99e-10),
    ("lia_current.gwy", "Current"): ("Current", "forward", "A", 7.0e-11),
    ("multipass.sxm", None): ("Z", "forward", "m", None),
    ("multipass.sxm", "P2 Z forward down"): ("P2 Z", "forward", "m", None),
}
FACTS = {  # file: size in nm, bias, setpoint
    "createc_v1_int16.dat": ((0.4395, 0.4395), 0.1, None),
    "createc_hex_channelselect.dat": ((10, 10), 0.1, 5e-11),
    "gxsm4-Xp-Topo.nc": ((80, 80), 0.1, 1e-11),
    "nxstm.nxs": ((4, 4), 0.05, 5e-10),
    "multipass.sxm": ((10, 7.5), 1.0, 5e-11),
}
needs_files = pytest.mark.skipif(
    not FOLDER.exists(), reason="the shared cases are not here"
)


@needs_files
@pytest.mark.parametrize(("name", "channel"), CASES)
def test_each_image_is_what_its_file_says(name, channel):
    scan = read_scan(FOLDER / name, channel)
    *expected, mean = CASES[name, channel]
    assert [scan.channel, scan.direction, scan.unit] == expected
    if mean is not None:
        assert scan.heights.mean() == pytest.approx(mean, rel=0.01)
    assert len(set(scan.images)) == len(scan.images)


@needs_files
@pytest.mark.parametrize("name", FACTS)
def test_size_bias_and_setpoint_are_found(name):
    size, bias, setpoint = FACTS[name]
    scan = read_scan(FOLDER / name)
    assert np.array(scan.size) * 1e9 == pytest.approx(size, rel=1e-3)
    assert scan.bias == pytest.approx(bias)
    assert scan.setpoint == (setpoint and pytest.approx(setpoint))


@needs_files
def test_backward_lines_of_a_redpitaya_are_as_they_lay():
    forward, backward = (
        read_scan(FOLDER / f"gxsm4-{way}-Topo.nc").heights for way in ("Xp", "Xm")
    )
    assert (np.diff(forward[0]) > 0).all()
    assert (np.diff(backward[0]) > 0).all()
