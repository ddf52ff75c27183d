"""Rows of grabbed frames and numbers of bells, one decision at a time."""

import numpy as np
import pytest
from helpers import ONCE
from live.watched import scan

from stm_keras.live.nanonis_bells import MOST_TIMES, Bells
from stm_keras.live.nanonis_rows import Rows

pytestmark = ONCE
OLD, NEW, LAST = (scan(seed, 9) for seed in (1, 2, 3))


def frame(*parts):
    """Put a frame together of the next rows of each of several scans: (scan, rows)."""
    rows, at = [], 0
    for heights, count in parts:
        rows.append(
            np.full((count, 40), np.nan) if heights is None else heights[at : at + count]
        )
        at += count
    return np.concatenate(rows).astype(np.float32)


def rows_after(*frames, done):
    """Return rows of which so many are handed on, after several grabs."""
    rows = Rows()
    for each in frames:
        rows.see(each, False)
    rows.take(frames[-1], False, done)
    return rows


def test_the_end_of_a_scan_is_what_changed_and_is_not_overwritten():
    before = frame((NEW, 5), (OLD, 4))
    rows = rows_after(frame((NEW, 3), (OLD, 6)), before, done=5)
    assert rows.rest(frame((LAST, 2), (NEW, 7)), False, False, 1) == 9
    for begun, count in ((0, 9), (4, 9)):
        rows = rows_after(frame((NEW, 3), (OLD, 6)), before, done=5)
        assert (
            rows.rest(frame((LAST, begun), (NEW, 9 - begun)), False, False, begun) == count
        )


def test_the_end_is_not_known_once_all_before_it_is_overwritten():
    rows = rows_after(frame((NEW, 3), (OLD, 6)), frame((NEW, 5), (OLD, 4)), done=5)
    assert rows.rest(frame((LAST, 7), (OLD, 2)), False, False, 0) == 5


def test_the_end_is_lost_with_a_frame_that_is_cleared():
    rows = rows_after(frame((NEW, 3), (OLD, 6)), frame((NEW, 5), (OLD, 4)), done=0)
    assert rows.rest(frame((None, 9)), False, False, 0) == 0
    assert rows.rest(scan(4, 8), False, False, 0) == 0
    rows = rows_after(OLD, frame((NEW, 5), (OLD, 4)), done=0)
    assert rows.rest(frame((None, 9)), False, True, 0) == 0


def test_a_row_in_which_the_scan_was_stopped_is_not_of_its_end():
    rows = rows_after(frame((NEW, 3), (OLD, 6)), frame((NEW, 5), (OLD, 4)), done=5)
    after = frame((LAST, 2), (NEW, 4), (OLD, 3))
    after[6, :16] = NEW[6, :16]
    assert rows.rest(after, False, False, 2) == 6


def test_a_scan_that_turned_overwrites_the_end_first():
    before = frame((NEW, 5), (OLD, 4))
    for begun, count in ((0, 8), (1, 7), (5, 5)):
        rows = rows_after(frame((NEW, 3), (OLD, 6)), before, done=5)
        after = frame((NEW, 9 - begun), (LAST, begun))
        assert rows.rest(after, False, True, begun) == count


def test_part_of_a_row_is_no_row_except_half_of_the_last_one():
    for index, packets, count in ((5, 2, 5), (5, 3, 6), (8, 1, 8), (8, 2, 9)):
        rows = rows_after(OLD, frame((NEW, index), (OLD, 9 - index)), done=index)
        partial = frame((NEW, index), (OLD, 9 - index))
        partial[index, : 16 * packets] = NEW[index, : 16 * packets]
        rows.see(partial, False)
        assert rows.by_changes() == max(index, 0)
        assert rows.by_changes(over=True) == count
        if count == 9:
            ((_, heights),) = rows.take(partial, False, 9)
            assert np.isnan(heights[16 * packets :]).all()
            np.testing.assert_array_equal(heights[:32], NEW[8, :32].astype(float))


def test_rows_that_were_handed_on_do_not_change_within_a_scan():
    rows = rows_after(OLD, frame((NEW, 5), (OLD, 4)), done=4)
    assert not rows.overwritten(frame((NEW, 3), (LAST, 6)), False)
    assert rows.overwritten(frame((NEW, 2), (LAST, 7)), False)
    assert rows.overwritten(frame((None, 9)), False)
    assert not rows.overwritten(scan(4, 8), False)
    assert not rows_after(OLD, NEW, done=1).overwritten(LAST, False)


def test_nan_does_not_differ_from_nan():
    gaps = OLD.copy()
    gaps[2, 7:] = np.nan
    rows = rows_after(gaps, gaps.copy(), done=6)
    assert not rows.overwritten(gaps.copy(), False)
    assert not rows.moved


def test_bells_follow_one_another():
    bells = Bells()
    heard = [(1, 0), (1, 1), (1, 1), (2, 0), (4, 0), (3, 0), (9, 1), (1, 1)]
    told = [bells.hear(*bell, 1, 0.0) for bell in heard]
    assert told == ["line", "line", None, "line", "line", "new", "line", "new"]


@pytest.mark.parametrize(
    ("bell", "told"),
    [((0, 0, 1), None), ((-1, 3, 1), None), ((5, 2, 1), None), ((5, 3, 1), None)]
    + [((5, 0, 2), None), ((5, 0, 0), "line"), ((5, 1, 1), "line")],
)
def test_only_lines_of_the_first_pass_count(bell, told):
    bells = Bells()
    assert bells.hear(3, 0, 1, 0.0) == "line"
    assert bells.hear(*bell, 0.0) == told


def test_as_long_as_nobody_knows_how_lines_count_the_fewer_are_complete():
    for numbers, before, after in (((7, 8), 3, 8), ((7, 6), 3, 4), ((2, 3), 2, 3)):
        bells = Bells()
        bells.up = True
        bells.hear(numbers[0], 0, 1, 0.0)
        assert bells.complete(9) == (before, before - 1)
        bells.hear(numbers[1], 1, 1, 0.0)
        assert bells.complete(9) == (after, after)


def test_how_lines_count_is_remembered_for_each_direction():
    bells = Bells()
    for up, numbers in ((True, (9, 8)), (False, (1, 2))):
        bells.close()
        for number in numbers:
            bells.hear(number, 0, 1, float(number))
        bells.up = up
        assert bells.complete(9)[0] == 2
    bells.close()
    bells.hear(6, 0, 1, 66.0)
    assert bells.complete(9, up=True)[0] == 4
    assert bells.complete(9, up=False)[0] == 6
    bells.up = True
    assert (bells.time_of(3, 0, 9), bells.time_of(3, 0, 9)) == (66.0, None)


def test_what_rings_for_the_last_line_of_a_closed_scan_says_nothing():
    bells = Bells()
    bells.hear(5, 0, 1, 0.0)
    bells.close()
    assert bells.hear(5, 1, 1, 0.0) is None
    assert bells.complete(9) == (0, 0)
    assert bells.hear(1, 0, 1, 0.0) == "line"


def test_numbers_without_end_take_no_memory_without_end():
    bells = Bells()
    for number in range(1, MOST_TIMES + 500):
        bells.hear(number, 0, 1, 0.0)
    assert len(bells.times) == MOST_TIMES
    assert bells.complete(9) == (9, 8)
