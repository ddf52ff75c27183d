import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, precision_score, roc_auc_score

from stm_keras.errors import MismatchError
from stm_keras.evaluation.scores import score_predictions, worst_mistakes

CLASSES = ("atoms", "rows", "defects")


def draw(scans=80, seed=0, worth=0.6):
    random = np.random.default_rng(seed)
    labels = np.r_[0, 1, 2, random.integers(3, size=scans - 3)]
    scores = random.random((scans, 3)) + worth * np.eye(3)[labels]
    return labels, scores / scores.sum(1, keepdims=True)


@pytest.mark.smoke
def test_scores_equal_scikit_learn():
    labels, probabilities = draw()
    scores = score_predictions(labels, probabilities, CLASSES, resamples=20)
    predicted = probabilities.argmax(1)
    assert scores["auroc"] == pytest.approx(
        roc_auc_score(labels, probabilities, multi_class="ovr"), abs=1e-12
    )
    assert scores["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(labels, predicted), abs=1e-12
    )
    assert scores["accuracy"] == (labels == predicted).mean()
    expected = precision_score(labels, predicted, average=None)
    for index, name in enumerate(CLASSES):
        row = scores["per_class"][name]
        assert row["precision"] == pytest.approx(expected[index])
        assert row["count"] == (labels == index).sum()
    assert np.sum(scores["confusion"]) == scores["n"] == 80


def test_every_key_is_there_and_json_can_hold_it():
    labels, probabilities = draw()
    scores = score_predictions(
        labels,
        probabilities,
        CLASSES,
        by_lines={np.int64(8): probabilities, 2: probabilities[:, ::-1]},
        groups=np.arange(80) % 11,
        full_agreement=np.arange(80) % 4 > 0,
        consensus=np.arange(80) % 2 == 0,
        resamples=20,
    )
    again = json.loads(json.dumps(scores, allow_nan=False))
    assert again == scores
    assert set(scores) == {
        *("auroc", "balanced_accuracy", "accuracy", "ece", "per_class", "confusion"),
        *("by_lines", "intervals", "full_agreement", "consensus", "n", "resampled"),
    }
    assert [entry["lines"] for entry in scores["by_lines"]] == [2, 8]
    assert scores["by_lines"][1]["auroc"] == scores["auroc"]
    assert scores["by_lines"][1]["intervals"]["auroc"] == scores["intervals"]["auroc"]
    assert scores["full_agreement"]["n"] == 60
    assert scores["consensus"]["n"] == 40
    assert len(scores["consensus"]["intervals"]["ece"]) == 2
    assert scores["resampled"] == {"unit": "session", "units": 11, "resamples": 20}
    for name in CLASSES:
        low, high = scores["intervals"]["per_class"][name]["auroc"]
        assert low <= scores["per_class"][name]["auroc"] <= high
    for name in ("auroc", "balanced_accuracy", "accuracy"):
        low, high = scores["intervals"][name]
        assert low <= scores[name] <= high


def test_the_seed_decides():
    labels, probabilities = draw()
    first, again, other = (
        score_predictions(labels, probabilities, CLASSES, seed=seed, resamples=30)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first["intervals"] != other["intervals"]
    assert first["auroc"] == other["auroc"]


def test_what_is_undefined_is_none():
    labels, probabilities = draw()
    kept = labels != 0
    scores = score_predictions(labels[kept], probabilities[kept], CLASSES, resamples=20)
    assert scores["per_class"]["atoms"]["auroc"] is None
    assert scores["per_class"]["atoms"]["count"] == 0
    assert scores["intervals"]["per_class"]["atoms"] == {"auroc": None, "recall": None}
    assert scores["auroc"] is not None
    json.dumps(scores, allow_nan=False)


def test_one_class_has_no_area_but_an_accuracy():
    scores = score_predictions([1, 1, 1], np.eye(3), CLASSES, resamples=20)
    assert scores["auroc"] is None
    assert scores["intervals"]["auroc"] is None
    assert scores["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "more", [{"resamples": 0}, {"groups": np.zeros(80), "resamples": 20}]
)
def test_nothing_to_resample_means_no_interval(more):
    labels, probabilities = draw()
    lines = {4: probabilities}
    scores = score_predictions(labels, probabilities, CLASSES, by_lines=lines, **more)
    assert scores["intervals"]["auroc"] is None
    assert scores["intervals"]["per_class"]["rows"]["auroc"] is None
    assert scores["by_lines"][0]["intervals"]["accuracy"] is None
    assert scores["auroc"] is not None


def test_no_consensus_is_none():
    labels, probabilities = draw()
    nobody = np.zeros(80, bool)
    scores = score_predictions(
        labels, probabilities, CLASSES, consensus=nobody, resamples=0
    )
    assert scores["consensus"] is None


def test_worst_mistakes_are_the_surest_ones():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7], [0.1, 0.9]])
    labels = np.array([0, 0, 0, 1, 0])
    np.testing.assert_array_equal(worst_mistakes(labels, probabilities), [4, 1, 2])
    np.testing.assert_array_equal(worst_mistakes(labels, probabilities, 1), [4])
    assert not len(worst_mistakes(np.arange(2), np.eye(2)))


def test_messages():
    labels, probabilities = draw(9)
    cases = [
        ((labels, probabilities, CLASSES[:2]), {}, "of the 2 classes. Received: 3 columns"),
        (
            (labels, probabilities, CLASSES),
            {"by_lines": {5: probabilities[1:]}},
            "Received: 9 labels, 8 probabilities",
        ),
        ((labels, probabilities * np.nan, CLASSES), {}, "not a number for 9 of 9 scans"),
        ((labels, probabilities * 9, CLASSES), {}, "Take the softmax of logits first"),
    ]
    for arguments, more, message in cases:
        with pytest.raises(MismatchError, match=message):
            score_predictions(*arguments, **more)
