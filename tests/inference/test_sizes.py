"""How large a scan may be, and how a larger one is cut."""

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.data.dataset import CLASSES
from stm_keras.inference.sizes import (
    cut_tiles,
    tiles_along,
    too_coarse,
    trained_sizes,
    unknown_size,
    widest_nm,
)
from stm_keras.scan import Scan

pytestmark = ONCE  # no backend changes what is tested here

FACTS = {"classes": list(CLASSES), "pixels": 16, "max_lines": 16}
NOTTINGHAM = {
    "training": {"environment": {"dataset": {"source": "University of Nottingham x"}}}
}
SIMULATED = {"training": {"environment": {"dataset": {"source": "simulated, seed 1"}}}}


def scan(lines=48, pixels=60, nm=(90, 72), slow="down", recorded=None):
    row, column = np.mgrid[:lines, :pixels]
    heights = row * 1e-10 + np.sin(column) * 1e-12
    valid = np.ones(heights.shape, bool)
    if recorded is not None:
        valid[recorded:] = False
        valid = valid if slow == "down" else valid[::-1]
    return Scan(heights, valid, slow=slow, size=tuple(v * 1e-9 for v in nm), path="a")


def test_the_range_is_that_of_the_model_file_or_of_its_training_data():
    told = trained_sizes({"size_nm": [5, 9], **NOTTINGHAM})
    assert (told.low, told.high) == (5, 9)
    assert "model file" in told.source
    known = trained_sizes(NOTTINGHAM)
    assert (known.low, known.high) == (3, 80)
    assert "Gordon" in known.source
    assert "not measured" in known.source
    assert (trained_sizes(SIMULATED).low, trained_sizes(SIMULATED).high) == (3, 30)
    assert trained_sizes({}) is None
    assert trained_sizes({"training": {"environment": "odd"}}) is None


@pytest.mark.parametrize(
    ("width", "remark"),
    [
        (2.9, "2.9 nm wide, trained on 3 to 80 nm"),
        (2.95, None),  # as good as 3
        (3, None),
        (80.4, None),
        (82, "82 nm wide"),
        (1e4, "10000 nm"),
    ],
)
def test_a_scan_outside_is_told(width, remark):
    size = scan(nm=(width, width)).size
    said = trained_sizes(NOTTINGHAM).remark(size)
    assert said is None if remark is None else remark in said
    assert unknown_size(NOTTINGHAM, size) is (remark is not None)
    assert unknown_size({}, size) is None


def test_a_scan_without_a_size_is_not():
    unknown = Scan(np.ones((4, 4)), np.ones((4, 4), bool))
    assert trained_sizes(NOTTINGHAM).remark(unknown.size) is None
    assert unknown_size(NOTTINGHAM, unknown.size) is None
    assert cut_tiles(unknown, FACTS, 1.0) == []


def test_rows_need_two_pixels():
    assert widest_nm({**FACTS, "pixels": 128}) == pytest.approx(49.152)
    assert widest_nm({**FACTS, "pixels": 512, **NOTTINGHAM}) == 80
    assert widest_nm({**FACTS, "classes": ["a"]}) is None


@pytest.mark.parametrize(("width", "coarse"), [(49, False), (49.3, True), (98, True)])
def test_less_than_two_pixels_for_a_row_are_an_unknown_size(width, coarse):
    size = (width * 1e-9, 1e-8)  # only along the lines, which the model looks at
    assert too_coarse(FACTS, size, 128) is coarse
    assert unknown_size(FACTS, size, 128) is (True if coarse else None)
    assert not too_coarse({**FACTS, "classes": ["a", "b"]}, size, 128), "rows of what?"
    assert not too_coarse(FACTS, None, 128)
    assert not too_coarse(FACTS, size, None)


@pytest.mark.parametrize(
    ("pixels", "width", "count"),
    [
        (24, 1000, 1),  # large in nanometres alone
        (25, 1000, 2),
        (60, 29, 1),  # large in pixels alone
        (60, 31, 2),
        (60, 90, 3),
        (60, 1000, 3),  # never finer than the model's pixels
        (1600, 1e6, 8),
    ],
)
def test_tiles_are_no_smaller_than_needed(pixels, width, count):
    assert tiles_along(scan(16, pixels, (width, width)), FACTS, 30.0) == count


@pytest.mark.parametrize(
    ("model", "pixels", "width", "count"),
    [
        (128, 256, 60, 2),  # rows of 1.6 pixels of the model
        (256, 256, 60, 1),  # of 3.3
        (256, 512, 60, 1),
        (256, 512, 98, 1),
        (256, 512, 99, 2),  # of less than 2
    ],
)
def test_a_model_of_more_pixels_needs_tiles_of_wider_scans_alone(
    model, pixels, width, count
):
    facts = {**FACTS, "pixels": model, "max_lines": model}
    each = scan(16, pixels, (width, width))
    assert tiles_along(each, facts, widest_nm(facts)) == count


def test_tiles_cover_the_frame_and_know_their_lines():
    tiles = cut_tiles(scan(), FACTS, 30.0)
    assert [(tile.row, tile.column) for tile in tiles] == [
        (row, column) for row in range(2) for column in range(3)
    ]
    assert [tile.lines for tile in tiles[::3]] == [(0, 24), (24, 48)]
    assert tiles[4].nm == pytest.approx((30, 36, 30, 36))
    for tile in tiles:
        assert tile.heights.shape == (16, 16)
        assert tile.bounds[0] == tile.lines[0]


def test_of_an_up_scan_the_bottom_was_first():
    tiles = cut_tiles(scan(slow="up"), FACTS, 30.0)
    assert [tile.lines for tile in tiles[::3]] == [(24, 48), (0, 24)]
    assert tiles[3].bounds[0] == 0


def test_tiles_that_were_hardly_recorded_are_left_out():
    assert {tile.row for tile in cut_tiles(scan(recorded=37), FACTS, 30.0)} == {0, 1}
    assert {tile.row for tile in cut_tiles(scan(recorded=30), FACTS, 30.0)} == {0}
    up = cut_tiles(scan(recorded=30, slow="up"), FACTS, 30.0)
    assert {tile.row for tile in up} == {1}
    assert cut_tiles(scan(recorded=5), FACTS, 30.0) == []
