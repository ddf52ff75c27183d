import numpy as np
import pytest

from stm_keras.errors import MismatchError
from stm_keras.evaluation.change_scores import (
    choose_change_threshold,
    score_changes,
    score_votes,
)
from stm_keras.evaluation.changes import ChangeTracker, find_changes, largest_change


def quiet(scans, lines=40, seed=0):
    return np.random.default_rng(seed).uniform(0, 0.3, (scans, lines))


def with_peaks(scores, **peaks):
    for place, height in peaks.items():
        scan, line = map(int, place.split("_")[1:])
        scores[scan, line] = height
    return scores


def called(found):
    return [list(np.flatnonzero(scan)) for scan in found]


@pytest.mark.smoke
def test_a_change_is_called_where_the_probability_is_highest():
    scores = with_peaks(quiet(3), at_0_11=0.9, at_0_12=0.95, at_0_13=0.8, at_2_5=0.6)
    assert called(find_changes(scores, 0.5)) == [[12], [], [5]]


def test_an_echo_is_not_called_again():
    scores = with_peaks(quiet(2), at_0_10=0.9, at_0_16=0.99, at_1_10=0.9, at_1_30=0.7)
    assert called(find_changes(scores, 0.5, refractory=8)) == [[10], [10, 30]]
    assert called(find_changes(scores, 0.5, refractory=5)) == [[10, 16], [10, 30]]


def test_the_first_line_is_no_change_and_a_plateau_is_one():
    scores = with_peaks(quiet(2), at_0_0=0.9, at_1_7=0.9, at_1_8=0.9)
    assert called(find_changes(scores, 0.5)) == [[], [7]]


def test_lines_that_were_not_recorded_are_not_called():
    scores = with_peaks(quiet(2), at_0_20=0.9, at_1_19=0.9, at_1_20=0.95)
    assert called(find_changes(scores, 0.5, lines=np.array([20, 20]))) == [[], [19]]


@pytest.mark.parametrize("delay", [0, 1, 3, 6])
def test_a_call_uses_only_the_lines_up_to_its_delay(delay):
    scores = np.random.default_rng(delay).random((30, 25))
    for line in range(25):
        other = scores.copy()
        other[:, line + delay + 1 :] = np.random.default_rng(line + 99).random(
            other[:, line + delay + 1 :].shape
        )
        before = find_changes(scores, 0.7, delay=delay)[:, : line + 1]
        after = find_changes(other, 0.7, delay=delay)[:, : line + 1]
        assert np.array_equal(before, after)


def test_a_later_line_within_the_delay_does_matter():
    scores = with_peaks(quiet(1), at_0_10=0.8)
    higher = with_peaks(scores.copy(), at_0_13=0.9)
    assert called(find_changes(scores, 0.5)) == [[10]]
    assert called(find_changes(higher, 0.5)) == [[13]]
    assert called(find_changes(higher, 0.5, delay=2, refractory=5)) == [[10]]


@pytest.mark.smoke
@pytest.mark.parametrize(("delay", "refractory"), [(0, 0), (3, 10), (2, 1), (5, 4)])
def test_line_by_line_calls_are_those_of_the_whole_scan(delay, refractory):
    scores = np.round(np.random.default_rng(1).random((40, 30)), 1)  # with ties
    lines = np.random.default_rng(2).integers(1, 31, 40)
    found = find_changes(scores, 0.6, lines=lines, delay=delay, refractory=refractory)
    for scan, number, expected in zip(scores, lines, called(found), strict=True):
        tracker = ChangeTracker(0.6, delay, refractory)
        calls = []
        for line, score in enumerate(scan[:number]):
            change = tracker.push(score)
            if change is not None:
                assert change == line - delay
                calls.append(change)
        assert calls + tracker.finish() == expected


def test_a_scan_is_scored_by_its_likeliest_recorded_change():
    scores = with_peaks(quiet(2), at_0_0=1.0, at_0_9=0.8, at_1_30=0.9)
    largest = largest_change(scores, np.array([40, 20]))
    assert largest[0] == 0.8
    assert largest[1] == scores[1, 1:20].max()
    assert np.isfinite(largest_change(scores, np.array([1, 0]))).all()


def test_the_threshold_allows_one_false_alarm_in_twenty_scans():
    scores, change = quiet(200, seed=3), np.full(200, -1)
    scores[:30, 17] = np.linspace(0.5, 0.9, 30)
    threshold = choose_change_threshold(scores, change)
    assert find_changes(scores, threshold).sum() == 10
    lower = np.nextafter(np.sort(scores[:30, 17])[19], -1)
    assert find_changes(scores, lower).sum() > 10
    assert choose_change_threshold(scores, change, false_alarms=0) > 0.9
    assert choose_change_threshold(scores, change, false_alarms=40) < 0.3


def test_scans_with_a_change_do_not_set_the_threshold():
    scores, change = quiet(60, seed=4), np.repeat([-1, 12], 30)
    expected = choose_change_threshold(scores[:30], change[:30])
    scores[30:, 12] = 0.99
    assert choose_change_threshold(scores, change) == expected


def test_scores_count_hits_misses_and_false_alarms():
    scores = with_peaks(
        np.full((6, 40), 0.01),
        at_0_13=0.9,  # 3 late: a hit
        at_1_16=0.9,  # 4 late: a miss, and one too many
        at_2_10=0.9,  # a hit, and one too many
        at_2_30=0.9,
        at_4_20=0.9,  # nothing changed
        at_4_35=0.9,
    )
    change = np.array([10, 12, 10, 10, -1, -1])
    result = score_changes(scores, change, 0.5)
    assert result["found"] == 0.5
    assert result["false_alarms"] == 1.0
    assert result["extra"] == 0.5
    assert (result["n_changes"], result["n_calm"]) == (4, 2)
    assert result["offset"] == 3
    assert {o: n for o, n in result["offsets"].items() if n} == {"0": 1, "3": 1, "4": 1}
    assert result["auroc"] == pytest.approx((1.5 * 3 + 0.5 + 0) / 8)


def test_the_curve_ends_where_nothing_is_called():
    scores = quiet(50, seed=5)
    change = np.where(np.arange(50) % 2, 20, -1)
    scores[change > 0, 20] += 0.6
    result = score_changes(scores, change, 0.5)
    assert result["found"] == 1
    assert result["false_alarms"] == 0
    curve = result["curve"]
    assert curve["threshold"] == sorted(curve["threshold"])
    assert max(curve["found"]) == 1
    assert curve["false_alarms"][0] > 1
    assert curve["found"][-1] < 0.1


def test_without_changes_or_calm_scans_the_score_is_undefined():
    result = score_changes(quiet(4), np.full(4, -1), 0.5)
    assert result["found"] is None
    assert result["auroc"] is None
    assert result["offset"] is None
    assert score_changes(quiet(4), np.full(4, 9), 0.5)["false_alarms"] is None


def test_votes_are_compared_with_the_largest_score():
    scores = with_peaks(
        np.full((5, 9), 0.1), at_0_3=0.9, at_1_3=0.5, at_2_3=0.7, at_3_4=0.2
    )
    result = score_votes(scores, np.array([1.0, 0.6, 0.5, 0.0, 0.0]))
    assert result == {
        "auroc": pytest.approx(5 / 6),
        "auroc_clear": 1.0,
        "n": 5,
        "n_ticked": 2,
        "n_clear": 3,
    }


def test_scores_that_are_not_numbers_are_named():
    with pytest.raises(MismatchError, match="`scores` are not a number in 2 of 2 scans"):
        find_changes(np.full((2, 3), np.nan), 0.5)
