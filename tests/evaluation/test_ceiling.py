"""The ceiling that raters leave to models, on made-up raters of known accuracy."""

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.evaluation.ceiling import choose_types, score_ceiling
from stm_keras.evaluation.human import RatedScans

pytestmark = ONCE  # no backend changes what is tested here

RIGHT = 0.8  # how often a made-up rater sees the class; else one of the two others


def population(scans, right=RIGHT, seed=0):
    """Scans of three classes, as common, two thirds of them with one rater, the rest with two."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=scans)
    said = (truth + (rng.random((2, scans)) > right) * rng.integers(1, 3, (2, scans))) % 3
    raters = 1 + (np.arange(scans) % 3 == 0)
    votes = np.eye(3)[said[0]]
    votes[raters == 2] = (votes + np.eye(3)[said[1]])[raters == 2] / 2
    return RatedScans(votes, raters, rng.integers(12, size=scans))


def test_the_ceiling_of_raters_of_known_accuracy_is_found():
    found = [
        score_ceiling(population(4000, seed=seed), tried=(1, 2, 3, 4), resamples=20)
        for seed in range(4)
    ]
    # one rater's label is right in 0.8; two give one where they agree: 0.64 right, 0.02 wrong
    accuracy = (2 * 0.8 + 0.64) / (2 + 0.66)
    wrong = (1 - accuracy) / 2  # for each other class
    expected = {
        ("single-class", "accuracy"): accuracy,
        ("single-class", "balanced_accuracy"): accuracy,
        ("single-class", "auroc"): (1 + accuracy - wrong) / 2,
        ("consensus", "accuracy"): 0.64 / 0.66,
        ("consensus", "auroc"): (1 + 0.64 / 0.66 - 0.01 / 0.66) / 2,
    }
    for (kind, score), value in expected.items():
        scores = np.array([each["scores"][kind][score] for each in found])
        assert scores[:, 0].mean() == pytest.approx(value, abs=0.01), (kind, score)
        held = (scores[:, 1] < value) & (value < scores[:, 2])
        assert held.sum() >= 3, (kind, score)
    assert [each["types"] for each in found] == [3, 3, 3, 3]
    pairs = np.mean([each["pairs"]["accuracy"] for each in found])
    assert pairs == pytest.approx(0.66, abs=0.02)
    for each in found:
        low, high = each["range"]["single-class"]["accuracy"]
        assert low <= each["scores"]["single-class"]["accuracy"][0] <= high


def test_raters_who_never_differ_leave_no_ceiling_below_one():
    found = score_ceiling(population(600, right=1.1), tried=(3,), resamples=5)
    assert found["scores"]["single-class"]["accuracy"][0] > 0.99
    assert found["pairs"]["accuracy"] > 0.99


def test_the_fewest_types_are_chosen_that_no_other_clearly_beats():
    rng = np.random.default_rng(0)
    best = -100 + rng.normal(size=30)
    held = {2: best - 5 + rng.normal(size=30), 3: best - 0.01 + rng.normal(size=30)}
    number, among = choose_types({**held, 4: best})
    assert (number, among) == (3, [3, 4])
