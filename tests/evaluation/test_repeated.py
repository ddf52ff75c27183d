"""Scores of few labels: folds of whole sessions, plain words, and a forecast."""

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.evaluation import repeated
from stm_keras.evaluation.repeated import (
    doubts,
    learning_curve,
    paired_difference,
    repeated_folds,
    score_folds,
)

pytestmark = ONCE  # no backend changes what is tested here


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(repeated, "RESAMPLES", 60)


def labelled(count=36, sessions=6, classes=3):
    return np.arange(count) % classes, np.arange(count) // (count // sessions)


def answers(labels, sure, repeats=2, seed=0):
    """Probabilities, right the more often the larger `sure` is: (repeats, scans, classes)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(repeats, len(labels), labels.max() + 1))
    logits += sure * np.eye(labels.max() + 1)[labels]
    odds = np.exp(logits)
    return odds / odds.sum(-1, keepdims=True)


def test_no_fold_splits_a_session_and_repeats_differ():
    labels, session = labelled()
    folds = repeated_folds(labels, session, 3, repeats=4)
    assert folds.number.shape == (4, 36)
    assert not folds.optimistic
    for number in folds.number:
        assert len(np.unique(number)) == 5
        assert all(len(np.unique(number[session == each])) == 1 for each in range(6))
    assert len(np.unique(folds.number, axis=0)) > 1


def test_every_scan_is_judged_once_a_repeat_without_its_session():
    labels, session = labelled()
    folds = repeated_folds(labels, session, 3, repeats=2)
    judged = np.zeros((2, 36), int)
    for repeat, train, held_out in folds.parts():
        judged[repeat, held_out] += 1
        assert not set(session[train]) & set(session[held_out])
    assert (judged == 1).all()


@pytest.mark.parametrize(
    ("session", "mark"),
    [
        (np.zeros(30, int), "optimistic: one session"),
        (np.arange(30) // 15, "optimistic: two sessions"),
        (None, "optimistic: sessions unknown"),
    ],
)
def test_fewer_than_three_sessions_are_split_into_blocks_and_marked(session, mark):
    folds = repeated_folds(np.arange(30) % 2, session, 2, repeats=1)
    assert folds.optimistic == mark
    assert folds.groups.tolist() == np.repeat(np.arange(10), 3).tolist()
    for number in folds.number:
        assert all(len(np.unique(number[folds.groups == k])) == 1 for k in range(10))


def test_scores_count_each_scan_once():
    labels, session = labelled()
    folds = repeated_folds(labels, session, 3, repeats=2)
    scores = score_folds(labels, answers(labels, 3), folds, "abc")
    assert scores["n"] == 36
    assert [part["count"] for part in scores["per_class"].values()] == [12, 12, 12]
    assert scores["resampled"]["unit"] == "session"
    assert scores["resampled"]["units"] == 6
    assert sum(map(sum, scores["confusion"])) == pytest.approx(36, abs=2)


def test_paired_difference_is_that_of_the_same_scans():
    labels, session = labelled()
    good, bad = answers(labels, 4), answers(labels, 0)
    same = paired_difference(labels, good, good, session)
    assert same["auroc"] == {"difference": 0, "interval": [0, 0]}
    better = paired_difference(labels, good, bad, session)
    assert better["auroc"]["interval"][0] > 0.1
    worse = paired_difference(labels, bad, good, session)
    assert worse["auroc"]["difference"] == -better["auroc"]["difference"]


def test_forecast_goes_on_as_the_scores_rose_and_never_beyond_one():
    labels, session = labelled()
    folds = repeated_folds(labels, session, 3, repeats=2)
    curve = learning_curve(
        labels, {n: answers(labels, n / 20) for n in (10, 20, 40)}, folds
    )
    assert [point["labels"] for point in curve["points"]] == [10, 20, 40]
    gain, low, high = curve["forecast"]["auroc"]
    assert 0 < gain <= 1 - curve["points"][-1]["auroc"]
    assert low <= gain <= high
    best = learning_curve(labels, {10: answers(labels, 1), 20: answers(labels, 30)}, folds)
    assert best["forecast"]["auroc"][0] == 0
    assert learning_curve(labels, {10: answers(labels, 1)}, folds)["forecast"] is None


def test_too_few_labels_are_named():
    labels = np.repeat([0, 1, 2], [20, 20, 4])
    session = np.r_[np.arange(20) // 5, np.arange(20) // 5, 0, 0, 1, 1]
    folds = repeated_folds(labels, session, 3, repeats=2)
    said = doubts(labels, answers(labels, 6), folds, ("good", "bad", "double"))
    assert said == [
        "'double': 4 scans in 2 sessions, too few for a score that holds. Label more."
    ]
    alone = np.where(labels == 2, 3, session)
    said = doubts(
        labels, answers(labels, 6), folds.__class__(folds.number, alone, ""), "abc"
    )
    assert "nothing is known of it" in said[0]


def test_classes_that_cannot_be_told_apart_are_named():
    labels, session = labelled(48, 6, 4)
    folds = repeated_folds(labels, session, 4, repeats=2)
    told = answers(labels, 6)
    told[..., :2] = told[..., :2].sum(-1, keepdims=True) / 2  # between these two it guesses
    said = doubts(labels, told, folds, ("a", "b", "c", "d"))
    assert [each.split(" In")[0] for each in said] == [
        "Cannot be told apart with these labels: 'a' and 'b' (0.50)."
    ]
