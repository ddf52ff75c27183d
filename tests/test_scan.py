"""The scan that all readers give."""

import numpy as np
import pytest

from stm_keras.scan import Scan, bridge_gaps, middle


def scan(valid_rows, slow, **changes):
    heights = np.arange(5.0)[:, None] + np.arange(4) / 10
    valid = np.zeros((5, 4), bool)
    valid[valid_rows] = True
    return Scan(heights=heights, valid=valid, slow=slow, **changes)


def test_lines_come_in_the_order_of_acquisition_and_only_those_recorded():
    down = scan([0, 1, 2], "down")
    assert down.recorded.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(down.lines()[:, 0], [0, 1, 2])
    up = scan([2, 3, 4], "up")
    assert up.recorded.tolist() == [4, 3, 2]
    np.testing.assert_array_equal(up.lines()[:, 0], [4, 3, 2])
    np.testing.assert_array_equal(up.lines()[0], [4, 4.1, 4.2, 4.3])  # never mirrored
    assert scan([1, 3], None).recorded.tolist() == [1, 3]


def test_a_line_that_was_broken_off_has_nan_where_the_tip_never_was():
    valid = np.ones((5, 4), bool)
    valid[3, 2:] = valid[4] = False
    lines = Scan(heights=np.ones((5, 4)), valid=valid, slow="down").lines()
    assert lines.shape == (4, 4)
    np.testing.assert_array_equal(np.isnan(lines), ~valid[:4])


def test_pixels_may_be_longer_than_wide():
    assert scan([0], "down").aspect == 1
    assert scan([0], "down", size=(4e-9, 5e-9)).aspect == pytest.approx(1)
    assert scan([0], "down", size=(4e-9, 10e-9)).aspect == pytest.approx(2)


def test_gaps_are_bridged_along_the_line_where_half_of_it_is_there():
    nan = np.nan
    bridged = bridge_gaps([[0, nan, nan, 3], [nan, nan, nan, 1], [nan, 2, 3, 4]])
    np.testing.assert_allclose(bridged[0], [0, 1, 2, 3])
    assert np.isnan(bridged[1]).all()
    np.testing.assert_allclose(bridged[2], [2, 2, 3, 4])


def test_the_middle_is_the_median():
    values = np.random.default_rng(0).normal(size=(3, 5))
    assert middle(values) == np.median(values)
    assert middle(values[:2]) == np.median(values[:2])
    assert middle(values[0, :1]) == values[0, 0]
