import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as reference

from stm_keras.errors import MismatchError
from stm_keras.evaluation.metrics import (
    accuracy,
    auroc,
    balanced_accuracy,
    confusion_matrix,
    precision,
    recall,
    roc_points,
)


def draw(seed, scans=60, classes=4, levels=None):
    """Labels of every class, and probabilities; with few `levels` many are tied."""
    random = np.random.default_rng(seed)
    labels = np.r_[np.arange(classes), random.integers(classes, size=scans - classes)]
    scores = random.random((scans, classes)) + np.eye(classes)[labels] / 2
    if levels:
        scores = np.ceil(scores * levels)
    return labels, scores / scores.sum(1, keepdims=True)


@pytest.mark.parametrize("levels", [None, 2, 5])
@pytest.mark.parametrize("classes", [3, 4, 7])
def test_auroc_equals_scikit_learn(classes, levels):
    for seed in range(10):
        labels, probabilities = draw(seed, 83, classes, levels)
        macro, per_class = auroc(labels, probabilities)
        expected = [
            reference.roc_auc_score(labels == i, probabilities[:, i])
            for i in range(classes)
        ]
        whole = reference.roc_auc_score(
            labels, probabilities, multi_class="ovr", average="macro"
        )
        assert abs(macro - whole) < 1e-12
        np.testing.assert_allclose(per_class, expected, atol=1e-12)


def test_auroc_takes_what_a_backend_gives():
    labels, probabilities = draw(0)
    macro, _ = auroc(labels.astype("int32").tolist(), probabilities.astype("float32"))
    assert isinstance(macro, float)
    assert macro == pytest.approx(auroc(labels, probabilities)[0], abs=1e-6)


def test_a_constant_answer_ranks_nothing():
    assert auroc([0, 1, 2, 2], np.full((4, 3), 1 / 3))[0] == 0.5


def test_an_absent_class_is_left_out_of_the_average():
    labels, probabilities = draw(1, 40, 3)
    kept = labels != 1
    macro, per_class = auroc(labels[kept], probabilities[kept])
    assert np.isnan(per_class[1])
    assert macro == pytest.approx((per_class[0] + per_class[2]) / 2)


def test_without_two_classes_there_is_no_area():
    macro, per_class = auroc([1, 1, 1], np.eye(3))
    assert np.isnan(macro)
    assert np.isnan(per_class).all()
    macro, per_class = auroc(np.zeros(0, int), np.zeros((0, 3)))
    assert np.isnan(macro)
    assert per_class.shape == (3,)


def test_a_score_that_is_no_number_gives_nan_instead_of_a_crash():
    labels, probabilities = draw(2)
    probabilities[5, 2] = np.nan
    macro, per_class = auroc(labels, probabilities)
    assert np.isnan(macro)
    np.testing.assert_array_equal(np.isnan(per_class), [False, False, True, False])


@pytest.mark.parametrize("seed", range(5))
def test_counts_equal_scikit_learn(seed):
    labels, probabilities = draw(seed, 50, 5)
    predicted = probabilities.argmax(1)
    confusion = confusion_matrix(labels, predicted, 5)
    np.testing.assert_array_equal(
        confusion, reference.confusion_matrix(labels, predicted, labels=range(5))
    )
    assert balanced_accuracy(labels, predicted, 5) == pytest.approx(
        reference.balanced_accuracy_score(labels, predicted), abs=1e-12
    )
    assert accuracy(labels, predicted) == reference.accuracy_score(labels, predicted)
    np.testing.assert_allclose(
        recall(confusion), reference.recall_score(labels, predicted, average=None)
    )
    np.testing.assert_allclose(
        precision(confusion), reference.precision_score(labels, predicted, average=None)
    )


def test_balanced_accuracy_is_over_the_classes_that_occur():
    labels, predicted = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 2])
    assert balanced_accuracy(labels, predicted, 3) == 0.75
    assert np.isnan(recall(confusion_matrix(labels, predicted, 3))[1])


def test_no_scans_give_nan():
    nothing = np.zeros(0, int)
    assert np.isnan(accuracy(nothing, nothing))
    assert np.isnan(balanced_accuracy(nothing, nothing, 3))
    assert confusion_matrix(nothing, nothing, 3).sum() == 0


@pytest.mark.parametrize("levels", [None, 3])
def test_roc_points_equal_scikit_learn(levels):
    labels, probabilities = draw(3, levels=levels)
    taken, found = roc_points(labels == 1, probabilities[:, 1])
    expected = reference.roc_curve(
        labels == 1, probabilities[:, 1], drop_intermediate=False
    )
    np.testing.assert_allclose(taken, expected[0])
    np.testing.assert_allclose(found, expected[1])


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 4], np.ones((2, 4)), "`labels` must lie between 0 and 3. Received: 0 to 4."),
        ([0, -1], np.ones((2, 4)), "Received: -1 to 0. Score single-class scans"),
        (
            [0.0, 1.0],
            np.ones((2, 4)),
            "must be integers of shape .scans,.. Received: float",
        ),
        ([[0], [1]], np.ones((2, 4)), r"of shape \(2, 1\)"),
        ([0, 1, 2], np.ones((2, 4)), "Received: 3 labels, 2 probabilities."),
        ([0, 1], np.ones(2), r"of shape \(scans, classes\). Received: float64 of shape"),
        ([0, 1], np.array([["a", "b"]] * 2), "must be numbers"),
    ],
)
def test_what_does_not_fit_is_named(labels, probabilities, message):
    with pytest.raises(MismatchError, match=message):
        auroc(labels, probabilities)


def test_training_can_import_it_without_waiting():
    heavy = "{'scipy', 'sklearn', 'matplotlib', 'keras', 'pandas'}"
    code = (
        f"import sys, stm_keras.evaluation.metrics as m; print({heavy} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "set()", run.stderr
