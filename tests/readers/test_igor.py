"""Igor waves: images are [x, y] with y upwards; curves and grids are refused."""

import numpy as np
import pytest
from scan_files import ibw, surface

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan

HEIGHTS = surface()
WAVE = HEIGHTS[::-1].T  # as Igor keeps it


@pytest.fixture
def write(tmp_path):
    def to_file(data, name="a.ibw"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return to_file


def test_a_wave_lies_as_under_the_tip(write):
    scan = read_scan(write(ibw(WAVE)))
    np.testing.assert_array_equal(scan.heights, HEIGHTS.astype("f4"))
    assert (scan.channel, scan.unit, scan.direction, scan.slow) == (
        "Z",
        "m",
        "forward",
        "down",
    )
    assert scan.size == pytest.approx((16 * 2e-10, 12 * 2e-10))
    assert scan.bias == pytest.approx(0.5)


def test_layers_are_named_by_their_labels(write):
    layers = np.stack([WAVE, WAVE * 2], axis=2)
    path = write(ibw(layers, labels=("HeightTrace", "HeightRetrace")))
    assert read_scan(path).images == ("Z forward", "Z backward")
    np.testing.assert_allclose(
        read_scan(path, "Z backward").heights, 2 * HEIGHTS, rtol=1e-6
    )


def test_the_suffix_does_not_matter(write):
    assert read_scan(write(ibw(WAVE), "a.dat")).format == "igor"


def test_curves_grids_and_damage_are_refused(write):
    whole = ibw(WAVE)
    for data, phrase in (
        (ibw(HEIGHTS.ravel()), r"of shape \(192,\): curves, not an image"),
        (ibw(np.ones((16, 3))), "curves, not an image"),
        (ibw(np.ones((16, 12, 3))), "without channel names: a spectroscopy grid"),
        (whole[:-100], "is cut short"),
    ):
        with pytest.raises(ScanError, match=phrase):
            read_scan(write(data))


def test_the_missing_library_is_named(write, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "igor2", None)
    monkeypatch.setitem(sys.modules, "igor2.binarywave", None)
    path = write(ibw(WAVE))
    with pytest.raises(ScanError, match=rf'{path.name}: is an .*pip install "\.\[spm\]"'):
        read_scan(path)
