import numpy as np
import pytest

from stm_keras.evaluation import bootstrap
from stm_keras.evaluation.bootstrap import (
    draw_weights,
    interval,
    resampled_area,
    resampled_scores,
    reverse_interval,
)
from stm_keras.evaluation.calibration import expected_calibration_error
from stm_keras.evaluation.metrics import (
    accuracy,
    auroc,
    balanced_accuracy,
    confusion_matrix,
    recall,
)


def draw(scans, seed=0, tied=False):
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=scans)
    scores = random.random((scans, 3)) + 0.6 * np.eye(3)[labels]
    if tied:
        scores = np.ceil(3 * scores)
    return labels, scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_weights_give_what_drawn_scans_give(grouped, tied):
    labels, probabilities = draw(70, 1, tied)
    groups = np.arange(70) % 9 if grouped else None
    scores = resampled_scores(labels, probabilities, groups=groups, resamples=11, seed=4)
    weights = np.hstack(list(draw_weights(70, 11, 4, groups)))
    for index, times in enumerate(weights.T):
        drawn = np.repeat(np.arange(70), times)
        some, sure = labels[drawn], probabilities[drawn]
        predicted = sure.argmax(1)
        macro, areas = auroc(some, sure)
        found = recall(confusion_matrix(some, predicted, 3))
        expected = {
            "auroc": macro,
            "class_auroc": areas,
            "class_recall": found,
            "accuracy": accuracy(some, predicted),
            "balanced_accuracy": balanced_accuracy(some, predicted, 3),
            "ece": expected_calibration_error(some, sure),
        }
        assert scores.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(scores[name][index], value, atol=1e-12)


def test_the_area_of_one_class_is_resampled_alone_as_among_all_scores():
    labels, probabilities = draw(40)
    draws = {"groups": np.arange(40) % 7, "resamples": 50, "seed": 3}
    every = resampled_scores(labels, probabilities, **draws)["class_auroc"]
    alone = resampled_area(labels == 2, probabilities[:, 2], **draws)
    np.testing.assert_array_equal(alone, every[:, 2])


def test_the_seed_decides():
    labels, probabilities = draw(30)
    first, again, other = (
        resampled_scores(labels, probabilities, resamples=5, seed=seed)["auroc"]
        for seed in (7, 7, 8)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_memory_does_not_change_the_draw(monkeypatch):
    labels, probabilities = draw(30)
    whole = resampled_scores(labels, probabilities, resamples=10)
    monkeypatch.setattr(bootstrap, "CHUNK", 90)
    assert [each.shape for each in draw_weights(30, 7, 0)] == [(30, 3), (30, 3), (30, 1)]
    pieces = resampled_scores(labels, probabilities, resamples=10)
    for name in whole:
        np.testing.assert_allclose(pieces[name], whole[name], atol=1e-12)


def test_scans_of_a_group_are_drawn_together():
    groups = np.array(["b", "a", "b", "c", "a"])
    weights = np.hstack(list(draw_weights(5, 40, 0, groups)))
    np.testing.assert_array_equal(weights[0], weights[2])
    np.testing.assert_array_equal(weights[1], weights[4])
    assert (weights[[0, 1, 3]].sum(0) == 3).all()


def test_groups_that_differ_widen_the_interval():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 40)
    good = random.random(10)[groups]
    labels = np.zeros(400, int)
    right = random.random(400) < good
    probabilities = np.stack([right, ~right], 1).astype(float)
    widths = [
        np.ptp(interval(resampled_scores(labels, probabilities, groups=g)["accuracy"]))
        for g in (None, groups)
    ]
    assert widths[1] > 2 * widths[0]


@pytest.mark.smoke
def test_interval_of_a_share_is_as_wide_as_theory_says():
    labels = np.zeros(900, int)
    right = np.arange(900) < 720
    probabilities = np.stack([right, ~right], 1).astype(float)
    values = resampled_scores(labels, probabilities, resamples=2000)["accuracy"]
    low, high = interval(values)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 900)
    assert low == pytest.approx(0.8 - half, abs=0.004)
    assert high == pytest.approx(0.8 + half, abs=0.004)


def test_a_resample_that_lacks_a_class_does_not_count():
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    probabilities = np.eye(3)[labels]
    scores = resampled_scores(labels, probabilities, resamples=60)
    weights = np.hstack(list(draw_weights(7, 60, 0)))
    lacking = (weights[6] == 0) | (weights[:3].sum(0) == 0) | (weights[3:6].sum(0) == 0)
    assert 0 < lacking.sum() < 60
    np.testing.assert_array_equal(np.isnan(scores["auroc"]), lacking)
    np.testing.assert_array_equal(np.isnan(scores["balanced_accuracy"]), lacking)
    assert np.isfinite(scores["accuracy"]).all()
    assert interval(scores["auroc"]) == (1, 1)


def test_a_class_that_no_scan_has_is_left_out():
    labels, probabilities = draw(40)
    kept = labels != 1
    scores = resampled_scores(labels[kept], probabilities[kept], resamples=20)
    assert np.isnan(scores["class_auroc"][:, 1]).all()
    assert np.isfinite(scores["auroc"]).all()


def test_mostly_undefined_values_have_no_interval():
    assert np.isnan(interval([1.0, np.nan, np.nan])).all()
    assert np.isnan(interval([])).all()
    assert interval([np.nan, 1.0, 1.0]) == (1, 1)


def test_reverse_interval_takes_the_chance_out():
    low, high = reverse_interval(0.1, np.linspace(0.1, 0.2, 1001))
    assert (low, high) == pytest.approx((0.0025, 0.0975))
    assert reverse_interval(0.1, np.array([0.3, 0.4])) == (0, 0)
    assert np.isnan(reverse_interval(0.1, np.full(3, np.nan))).all()
