"""Scan files in the size of a model: order, proportion, square pixels, gaps."""

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.errors import DatasetError
from stm_keras.inference.inputs import fit_scan
from stm_keras.scan import Scan

pytestmark = ONCE  # no backend changes what is tested here

FACTS = {"pixels": 128, "max_lines": 128}


def scan(lines, pixels, recorded=None, slow="down", size=(1e-8, 1e-8), offset=0.0):
    row, column = np.mgrid[:lines, :pixels]
    heights = (row + 0.01 * column + 0.1 * np.sin(column)) * 1e-12 + offset
    valid = np.ones(heights.shape, bool)
    if recorded is not None:
        valid[recorded:] = False
        valid = valid if slow == "down" else valid[::-1]
    return Scan(heights=heights, valid=valid, slow=slow, size=size, path="a")


@pytest.mark.parametrize(
    ("shape", "recorded", "size", "expected"),
    [
        ((128, 128), None, (1, 1), 128),
        ((512, 512), None, (1, 1), 128),
        ((512, 512), 60, (1, 1), 14),  # the next waits for more lines of the scan
        ((48, 48), None, (1, 1), 128),
        ((48, 48), 12, (1, 1), 31),
        ((64, 256), None, (1, 1), 128),  # pixels four times as long as wide
        ((64, 256), 32, (1, 1), 63),
        ((64, 256), None, (4, 1), 32),  # a frame four times as wide as high
        ((256, 256), 1, (1, 1), 1),
        ((64, 256), 32, None, 15),
    ],
)
def test_the_number_of_lines_keeps_its_proportion(shape, recorded, size, expected):
    size = None if size is None else tuple(value * 1e-8 for value in size)
    fitted = fit_scan(scan(*shape, recorded, size=size), FACTS)
    assert fitted.shape == (128, 128)
    assert fitted.dtype == np.float32
    there = fitted.any(1)
    assert there.sum() == expected
    assert there[:expected].all()


def test_lines_come_in_the_order_of_acquisition():
    down, up = (fit_scan(scan(64, 64, 32, slow), FACTS)[:63] for slow in ("down", "up"))
    assert (np.diff(down[1:-1, 5]) > 0).all()
    assert (np.diff(up[1:-1, 5]) < 0).all()
    for image in (down, up):  # pixels never turn round
        assert (image[:, 64:].mean(1) > image[:, :64].mean(1)).all()


def test_an_offset_of_micrometres_costs_no_picometres():
    plain = fit_scan(scan(128, 128), FACTS)
    np.testing.assert_allclose(
        fit_scan(scan(128, 128, offset=-5e-7), FACTS), plain, atol=1e-3
    )


def test_resampling_is_antialiased():
    fine = scan(512, 512)
    stripes = np.where(np.arange(512) % 2, 1e-10, -1e-10) + np.zeros((512, 1))
    noise = np.random.default_rng(0).normal(0, 1e-12, (512, 512))
    fitted = fit_scan(Scan(stripes + noise, fine.valid, size=fine.size), FACTS)
    assert np.abs(fitted[:, 4:-4]).max() < 0.05


def test_broken_lines_are_bridged_or_left_out():
    whole = scan(128, 128)
    valid = whole.valid.copy()
    valid[100, 80:] = valid[101:] = False
    assert fit_scan(Scan(whole.heights, valid, slow="down"), FACTS).any(1).sum() == 101
    valid[100, 40:] = False
    fitted = fit_scan(Scan(whole.heights, valid, slow="down"), FACTS)
    assert fitted.any(1).sum() == 100
    assert np.isfinite(fitted).all()
    valid[:100] = False
    with pytest.raises(DatasetError, match="a: no line shows more than a straight slope"):
        fit_scan(Scan(whole.heights, valid, path="a", slow="down"), FACTS)


def test_of_a_scan_higher_than_wide_the_first_square_is_judged():
    with pytest.warns(UserWarning, match="its first 64 of 128 recorded lines are judged"):
        fitted = fit_scan(scan(128, 64, size=(1e-8, 2e-8)), FACTS)
    assert fitted.any(1).all()


@pytest.mark.filterwarnings("ignore:.*higher than wide")
def test_absurd_sizes_and_heights_still_give_numbers():
    for size in ((1e-30, 1.0), (1.0, 1e-30)):
        assert np.isfinite(fit_scan(scan(32, 32, size=size), FACTS)).all()
    large = scan(32, 32)
    heights = large.heights / large.heights.max() * 1.7e308
    assert np.isfinite(fit_scan(Scan(heights - 8e307, large.valid), FACTS)).all()


@pytest.mark.parametrize("kind", [0.0, 5e-9, "plane", "plane in whole numbers"])
def test_what_shows_no_more_than_a_plane_is_named(kind):
    row, column = np.mgrid[:32, :32]
    plane = (row - 3 * column) * 1e-12
    heights = {"plane": plane, "plane in whole numbers": np.round(plane * 3e11)}.get(kind)
    heights = np.full((32, 32), kind) if heights is None else heights
    with pytest.raises(DatasetError, match="a: no line shows more than a straight slope"):
        fit_scan(Scan(heights, np.ones((32, 32), bool), path="a"), FACTS)
