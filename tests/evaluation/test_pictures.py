import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from stm_keras.evaluation.scan_figures import BROWN, picture_png, scan_picture

SCANS = Path(__file__).parents[3] / "shared" / "data" / "nottingham.h5"


def rows(lines=12, pixels=16):
    line, pixel = np.mgrid[:lines, :pixels]
    return 1e-10 * np.sin(pixel) + 1e-9 * line + 3e-10 * pixel


def test_a_picture_is_levelled():
    picture = scan_picture(rows())
    assert picture.shape == (12, 16, 3)
    np.testing.assert_allclose(picture[0], picture[11], atol=2)  # rounding
    assert np.ptp(picture[0, :, 1]) > 200


def test_the_map_is_the_operators_brown():
    assert BROWN[100].tolist() == [200, 100, 0]
    assert BROWN[200].tolist() == [255, 200, 144]


def test_lines_that_were_not_recorded_stay_black():
    heights = rows()
    heights[3] = np.nan
    heights[5] = 7  # flat, but recorded
    heights[9:] = 0
    picture = scan_picture(heights)
    np.testing.assert_array_equal(
        picture.any(axis=(1, 2)), ~np.isin(range(12), [3, 9, 10, 11])
    )


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_a_scan_without_anything_is_black(value):
    assert not scan_picture(np.full((4, 6), value)).any()


def test_a_spike_does_not_hide_the_surface():
    heights = rows(128, 50)
    heights[20, 20] = 1.0
    assert np.ptp(scan_picture(heights)[0, :, 1].astype(int)) > 150


def test_png_keeps_every_colour():
    picture = scan_picture(np.random.default_rng(0).random((30, 40)))
    again = Image.open(io.BytesIO(picture_png(picture)))
    np.testing.assert_array_equal(np.asarray(again.convert("RGB")), picture)


@pytest.mark.skipif(not SCANS.exists(), reason="the scans of Nottingham are not here")
def test_real_scans_use_the_whole_map():
    with h5py.File(SCANS) as file:
        for heights in file["images"][:40:8]:
            green = scan_picture(heights)[:, :, 1]
            assert green.min() <= 2
            assert green.max() == 255
