"""GXSM files, netCDF 3 and 4: Angstrom whatever they say, backward lines mirrored."""

from datetime import datetime

import h5py
import numpy as np
import pytest
from scan_files import gxsm4, netcdf3, surface

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.netcdf import read_classic

COUNTS = np.round(surface() * 1e12).astype("f4")


def test_lengths_are_angstrom_whatever_unit_is_shown(tmp_path):
    for unit in ("AA", "nm", "um"):
        netcdf3(tmp_path / "a.nc", COUNTS, unit=unit)
        scan = read_scan(tmp_path / "a.nc")
        np.testing.assert_allclose(scan.heights, COUNTS * 0.5e-10)
        assert (scan.unit, scan.size) == ("m", pytest.approx((3.2e-9, 2.4e-9)))
        assert (scan.bias, scan.line_time, scan.angle) == (-0.5, pytest.approx(0.2), 10)
        assert scan.setpoint == pytest.approx(2e-11)
        assert (scan.slow, scan.direction, scan.format) == ("down", "forward", "gxsm")


def test_backward_images_are_mirrored_also_when_renamed(tmp_path):
    netcdf3(tmp_path / "renamed.nc", COUNTS, name="scan-Xm-Topo.nc")
    netcdf3(tmp_path / "scan-Xm-Topo.nc", COUNTS, name="")
    for name in ("renamed.nc", "scan-Xm-Topo.nc"):
        scan = read_scan(tmp_path / name)
        assert scan.direction == "backward"
        np.testing.assert_allclose(scan.heights, COUNTS[:, ::-1] * 0.5e-10)


def test_lines_of_zeros_were_not_recorded(tmp_path):
    counts = COUNTS.copy()
    counts[:4] = 0
    netcdf3(tmp_path / "a.nc", counts, control="BottomUp")
    assert read_scan(tmp_path / "a.nc").recorded.tolist() == list(range(11, 3, -1))


def test_currents_are_amperes(tmp_path):
    netcdf3(tmp_path / "a.nc", COUNTS, unit="nA")
    scan = read_scan(tmp_path / "a.nc")
    assert scan.unit == "A"
    np.testing.assert_allclose(scan.heights, COUNTS * 0.5e-9)


def test_gxsm4_writes_hdf5(tmp_path):
    gxsm4(tmp_path / "a.nc", COUNTS)
    scan = read_scan(tmp_path / "a.nc")
    np.testing.assert_allclose(scan.heights, COUNTS * 0.5e-10)
    assert (scan.slow, scan.bias) == ("up", 0.25)
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon Dec 11 11:45:58 2023\n", datetime(2023, 12, 11, 11, 45, 58)),
        ("Thu Feb  2 02:04:08 2023 \0\0", datetime(2023, 2, 2, 2, 4, 8)),
        ("Thu Feb 30 02:04:08 2023", None),
        ("Thu Jan  1 00:00:00 1970", None),  # a clock that nobody set
        ("Do Dez 02 02:04:08 2023", None),
        ("2023-02-02", None),
    ],
)
def test_the_file_tells_when_the_scan_began(text, expected, tmp_path):
    netcdf3(tmp_path / "a.nc", COUNTS, reftime=text)
    gxsm4(tmp_path / "b.nc", COUNTS, date=text)
    assert [read_scan(tmp_path / name).started for name in ("a.nc", "b.nc")] == [
        expected
    ] * 2
    netcdf3(tmp_path / "a.nc", COUNTS)
    assert read_scan(tmp_path / "a.nc").started is None


def test_a_redpitaya_mirrors_backward_lines_itself(tmp_path):
    for hardware, expected in (("rpspmc", COUNTS), ("sranger_mk2", COUNTS[:, ::-1])):
        gxsm4(tmp_path / "a.nc", COUNTS, name="scan-Xm-Topo.nc", hardware=hardware)
        scan = read_scan(tmp_path / "a.nc")
        assert scan.direction == "backward"
        np.testing.assert_allclose(scan.heights, expected * 0.5e-10)


def test_the_name_of_the_file_beats_that_of_an_earlier_scan(tmp_path):
    gxsm4(tmp_path / "new-M-Xp-Topo.nc", COUNTS, name="old-Xm-Topo.nc")
    assert read_scan(tmp_path / "new-M-Xp-Topo.nc").direction == "forward"
    netcdf3(tmp_path / "new-Xm-Topo.nc", COUNTS, name="old-M-Xp-Topo.nc")
    scan = read_scan(tmp_path / "new-Xm-Topo.nc")
    assert scan.direction == "backward"
    np.testing.assert_allclose(scan.heights, COUNTS[:, ::-1] * 0.5e-10)
    netcdf3(tmp_path / "renamed.nc", COUNTS, name="renamed")
    assert read_scan(tmp_path / "renamed.nc").direction is None


@pytest.mark.parametrize(
    ("unit", "factor", "symbol"),
    [
        ("ms", 1e-3, "s"),
        ("V", 1.0, "V"),
        ("nA", 1e-9, "A"),
        ("dB", 1.0, "dB"),
        ("", 1.0, ""),
        ("nm", 1e-10, "m"),  # the unit of the display
    ],
)
def test_only_lengths_are_metres(unit, factor, symbol, tmp_path):
    gxsm4(tmp_path / "a.nc", COUNTS, unit=unit)
    scan = read_scan(tmp_path / "a.nc", "Mon")
    np.testing.assert_allclose(scan.heights, COUNTS * 0.5 * factor)
    assert scan.unit == symbol


def test_the_setpoint_is_that_of_a_servo_that_was_on(tmp_path):
    for mode, expected in ((3, 1e-11), (1, 1e-11), (0, None), (2, None)):
        gxsm4(tmp_path / "a.nc", COUNTS, mode=mode)
        scan = read_scan(tmp_path / "a.nc")
        assert scan.setpoint == (expected and pytest.approx(expected))


def test_movies_and_other_netcdf_are_refused(tmp_path):
    with h5py.File(tmp_path / "movie.nc", "w") as file:
        file["FloatField"] = np.ones((3, 1, 8, 8))
    with pytest.raises(ScanError, match="holds 3 x 1 layers, a movie"):
        read_scan(tmp_path / "movie.nc")
    netcdf3(tmp_path / "a.nc", COUNTS)
    data = (tmp_path / "a.nc").read_bytes()
    for changed, phrase in (
        (data.replace(b"FloatField", b"OtherField"), "is a netCDF file without an image"),
        (data[:600], "is a damaged netCDF file"),
    ):
        (tmp_path / "b.nc").write_bytes(changed)
        with pytest.raises(ScanError, match=phrase):
            read_scan(tmp_path / "b.nc")


def test_variables_of_netcdf3_are_those_scipy_wrote(tmp_path):
    from scipy.io import netcdf_file

    netcdf3(tmp_path / "a.nc", COUNTS)
    own, _ = read_classic((tmp_path / "a.nc").read_bytes())
    with netcdf_file(tmp_path / "a.nc", mmap=False) as file:
        assert list(own) == list(file.variables)
        for name, variable in file.variables.items():
            np.testing.assert_array_equal(own[name][0], variable.data)
    assert own["FloatField"][1]["ZLabel"] == "Z"
