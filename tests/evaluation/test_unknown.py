import json

import numpy as np
import pytest

from stm_keras.errors import MismatchError
from stm_keras.evaluation.abstention import (
    score_unknown,
    unknown_threshold,
)


def draw(scans, shift, seed):
    return np.random.default_rng(seed).normal(shift, 1, scans)


def test_the_area_is_the_chance_to_score_above_a_known_scan():
    def area(known, other):
        return score_unknown(known, other, 0, resamples=0)["auroc"]

    assert area([0, 1, 2], [3, 4]) == 1
    assert area([0, 1, 2], [-1]) == 0
    assert area([0, 1], [1, 1, 0]) == pytest.approx((0.75 * 2 + 0.25) / 3)
    known, other = draw(200, 0, 0), draw(150, 1, 1)
    expected = (other[:, None] > known).mean()
    assert area(known, other) == pytest.approx(expected)
    assert area(known, []) is None


@pytest.mark.parametrize("share", [0, 0.05, 0.5])
def test_a_threshold_allows_the_stated_false_alarms(share):
    known = draw(1000, 0, 2)
    assert (known > unknown_threshold(known, share)).mean() == pytest.approx(share)
    ties = np.repeat([0.0, 1.0], [96, 4])
    assert (ties > unknown_threshold(ties, 0.03)).mean() == 0


def test_a_score_at_the_threshold_is_not_above_it():
    scores = score_unknown([0.1, 0.5], [0.5, 0.5, 0.9], 0.5, resamples=0)
    assert scores["false_alarms"] == 0
    assert scores["found"] == pytest.approx(1 / 3)


def test_scores_of_other_surfaces_are_given_for_each_kind():
    known = draw(400, 0, 3)
    other = np.r_[draw(100, 4, 4), draw(50, 0, 5)]
    kinds = np.repeat(["graphite", "blank"], [100, 50])
    threshold = unknown_threshold(draw(400, 0, 6), 0.05)
    result = score_unknown(
        known, other, threshold, kinds=kinds, groups=np.arange(400) % 9, resamples=100
    )
    assert result["false_alarms"] == pytest.approx((known > threshold).mean())
    assert result["found"] == pytest.approx((other > threshold).mean())
    assert result["kinds"]["graphite"]["auroc"] > 0.98
    assert result["kinds"]["graphite"]["found"] > 0.95
    assert 0.35 < result["kinds"]["blank"]["auroc"] < 0.65
    assert result["kinds"]["blank"]["n"] == 50
    low, high = result["interval"]
    assert low < result["auroc"] < high
    assert (result["n_known"], result["n_other"]) == (400, 150)
    needed = np.sort(other)[::-1][142]  # 143 of 150 are 95 %
    assert result["false_alarms_at_95"] == pytest.approx((known >= needed).mean())
    histogram = result["histogram"]
    assert sum(histogram["known"]) == 400
    assert sum(histogram["other"]) == 150
    assert len(histogram["edges"]) == len(histogram["known"]) + 1
    json.dumps(result, allow_nan=False)


def test_sessions_widen_the_interval():
    base = np.repeat(draw(8, 0, 7), 50)
    known = base + 0.1 * draw(400, 0, 8)
    other = draw(400, 1.5, 9)
    options = {"threshold": 0, "resamples": 200}
    alone = score_unknown(known, other, **options)["interval"]
    grouped = score_unknown(known, other, groups=np.arange(400) // 50, **options)[
        "interval"
    ]
    assert np.diff(grouped) > 2 * np.diff(alone)


def test_scores_without_spread_or_scans_are_undefined():
    result = score_unknown(np.ones(4), np.ones(3), 1, resamples=10)
    assert result["auroc"] == 0.5
    assert result["histogram"] is None
    result = score_unknown(draw(5, 0, 0), [], 0.5)
    assert result["auroc"] is result["found"] is result["interval"] is None


def test_wrong_arguments_are_named():
    with pytest.raises(MismatchError, match="`known` is empty"):
        unknown_threshold([], 0.05)
    with pytest.raises(MismatchError, match="`other` must be numbers .* 1 of them not fin"):
        score_unknown([0.0], [np.nan, 1], 0.5)
