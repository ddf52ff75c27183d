import json

import numpy as np
import pytest

from stm_keras.errors import MismatchError
from stm_keras.evaluation.abstention import (
    area_under_risk_coverage,
    confidence_threshold,
    risk_coverage,
    score_rejection,
)


def sure_of(confidence, right):
    """Probabilities of two classes: this sure, and judged right or wrong (label 0)."""
    confidence, right = np.asarray(confidence, float), np.asarray(right, bool)
    first = np.where(right, confidence, 1 - confidence)
    return np.zeros(len(first), int), np.stack([first, 1 - first], 1)


def draw(scans, seed=0, classes=4):
    """Calibrated probabilities: the label is drawn from them."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.4), scans)
    labels = (probabilities.cumsum(1) > random.random((scans, 1))).argmax(1)
    return labels, probabilities


def test_the_surest_verdicts_come_first():
    coverage, risk, confidence = risk_coverage(*sure_of([0.6, 0.9, 0.8, 0.7], [0, 1, 1, 0]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert confidence == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_scans_of_one_confidence_come_together():
    coverage, risk, _ = risk_coverage(*sure_of([0.9, 0.9, 0.9, 0.6], [0, 1, 1, 1]))
    assert coverage.tolist() == [0.75, 1]
    assert risk == pytest.approx([1 / 3, 1 / 4])


def test_the_area_is_the_mean_risk_over_all_coverages():
    labels, probabilities = draw(300)
    right = probabilities.argmax(1) == labels
    order = np.argsort(-probabilities.max(1))
    risk = np.cumsum(~right[order]) / np.arange(1, 301)
    area = area_under_risk_coverage(labels, probabilities)
    assert area == pytest.approx(risk.mean())
    assert area < 1 - right.mean()


def test_the_area_of_a_confidence_that_tells_nothing_is_the_error():
    assert area_under_risk_coverage(*sure_of([0.8] * 10, [1] * 7 + [0] * 3)) == (
        pytest.approx(0.3)
    )
    assert np.isnan(area_under_risk_coverage(np.zeros(0, int), np.zeros((0, 3))))


def test_the_best_order_of_verdicts_has_the_smallest_area():
    right = np.arange(50) < 40
    best = area_under_risk_coverage(*sure_of(np.linspace(0.99, 0.6, 50), right))
    worst = area_under_risk_coverage(*sure_of(np.linspace(0.6, 0.99, 50), right))
    expected = np.maximum(np.arange(1, 51) - 40, 0) / np.arange(1, 51)
    assert best == pytest.approx(expected.mean())
    assert worst > 0.4 > best


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.7, 0.95])
def test_a_threshold_keeps_the_coverage_it_was_chosen_for(coverage):
    _, probabilities = draw(1000, seed=1)
    threshold = confidence_threshold(probabilities, coverage)
    kept = (probabilities.max(-1) >= threshold).mean()
    assert kept == pytest.approx(coverage)
    _, others = draw(1000, seed=2)
    kept = (others.max(-1) >= threshold).mean()
    assert kept == pytest.approx(coverage, abs=0.05)


def test_scores_say_what_is_gained_and_what_is_left():
    labels, probabilities = draw(800, seed=3)
    _, validation = draw(600, seed=4)
    result = score_rejection(
        labels,
        probabilities,
        validation,
        groups=np.arange(800) % 20,
        resamples=200,
    )
    assert [point["wanted"] for point in result["points"]] == [0.95, 0.9, 0.8]
    assert result["validation"] == 600
    assert result["accuracy"] == pytest.approx((probabilities.argmax(1) == labels).mean())
    fewest = result["points"][2]
    sure = probabilities.max(1) >= fewest["threshold"]
    assert fewest["n"] == sure.sum()
    assert fewest["coverage"] == pytest.approx(sure.mean())
    right = probabilities.argmax(1) == labels
    assert fewest["accuracy"] == pytest.approx(right[sure].mean())
    assert fewest["accuracy"] > result["points"][0]["accuracy"] > result["accuracy"]
    for name in ("coverage", "accuracy"):
        low, high = fewest["intervals"][name]
        assert low < fewest[name] < high
    curve = result["curve"]
    assert len(curve["coverage"]) == len(curve["risk"]) == 200
    assert curve["coverage"][-1] == 1
    assert curve["risk"][-1] == pytest.approx(1 - result["accuracy"])
    json.dumps(result, allow_nan=False)


def test_a_threshold_above_every_confidence_leaves_no_verdict():
    labels, probabilities = sure_of([0.6, 0.7], [1, 0])
    surer = sure_of([0.8, 0.9], [1, 1])[1]
    result = score_rejection(labels, probabilities, surer, resamples=0)
    point = result["points"][0]
    assert (point["coverage"], point["n"]) == (0, 0)
    assert point["accuracy"] is point["balanced_accuracy"] is None
    assert point["intervals"] == {"coverage": None, "accuracy": None}


def test_logits_are_refused():
    with pytest.raises(MismatchError, match="Take the softmax"):
        risk_coverage([0], [[3.0, -2.0]])


@pytest.mark.parametrize(("coverage", "kept"), [(0.5, 4), (0.6, 5), (4 / 7, 4), (0.01, 1)])
def test_a_threshold_keeps_at_least_the_share_that_was_asked_for(coverage, kept):
    confidence = np.array([0.9, 0.6, 0.8, 0.7, 0.65, 0.75, 0.95])
    _, probabilities = sure_of(confidence, np.ones(7))
    threshold = confidence_threshold(probabilities, coverage)
    assert threshold == np.sort(confidence)[-kept]
    assert (probabilities.max(1) >= threshold).sum() == kept
