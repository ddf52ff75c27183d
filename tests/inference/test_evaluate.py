"""Judging whole and begun scans, and scoring the answers under a protocol."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.errors import DatasetError, MismatchError
from stm_keras.inference.evaluate import LINES_SEEN, predict_by_lines, score
from stm_keras.inference.predictor import Predictor

pytestmark = ONCE  # no backend changes what is tested here

COUNT, LINES, PIXELS = 24, 12, 16


class Oracle:
    """Stands in for a predictor: knows every class once it has seen four lines."""

    every_line = False
    by_lines = Predictor.by_lines

    def __init__(self, labels):
        self.labels = labels
        self.seen = []

    def check_classes(self, classes, source):
        if len(classes) != 4:
            raise MismatchError(f"{source}: other classes")

    def check_scans(self, shape, source):
        assert shape[1:] == (LINES, PIXELS)

    def probabilities(self, images, lines):
        self.seen.append(lines)
        known = np.eye(4)[images[:, 0, 0]]
        return known * 0.8 + 0.05 if lines >= 4 else np.full((len(images), 4), 0.25)


@pytest.fixture
def dataset():
    labels = np.arange(COUNT) % 4
    images = np.zeros((COUNT, LINES, PIXELS), np.uint8)
    images[:, 0, 0] = labels
    return made_up_dataset(COUNT, 6, images=images, lines=np.full(COUNT, LINES))


def test_lengths_of_the_issue_are_scored_up_to_the_whole_scan(dataset):
    oracle, told = Oracle(dataset.labels), []
    by_lines = predict_by_lines(
        oracle, dataset, np.arange(5), lambda *counts: told.append(counts)
    )
    assert list(by_lines) == oracle.seen == [1, 2, 4, 8, 12]
    assert told[-1] == (5, 5)
    assert {values.shape for values in by_lines.values()} == {(5, 4)}
    assert max(LINES_SEEN) == 512


def test_answers_are_in_the_order_of_the_indices(dataset):
    indices = np.array([7, 2, 21])
    by_lines = predict_by_lines(Oracle(dataset.labels), dataset, indices)
    assert by_lines[12].argmax(1).tolist() == dataset.labels[indices].tolist()


def test_nothing_to_judge_is_an_error_that_names_the_data(dataset):
    with pytest.raises(DatasetError, match="made up: no complete scan has a single class"):
        predict_by_lines(Oracle(dataset.labels), dataset, np.array([], int))


def test_other_classes_are_refused_before_any_work(dataset):
    oracle = Oracle(dataset.labels)
    with pytest.raises(MismatchError, match="made up: other classes"):
        predict_by_lines(oracle, replace(dataset, classes=("a", "b")), np.arange(5))
    assert oracle.seen == []


def test_p2_resamples_sessions_and_p1_scans(dataset):
    indices = np.arange(COUNT)
    by_lines = predict_by_lines(Oracle(dataset.labels), dataset, indices)
    scores = score(dataset, indices, by_lines, "p2", resamples=20)
    assert scores["auroc"] == 1
    assert scores["resampled"] == {"unit": "session", "units": 6, "resamples": 20}
    assert scores["by_lines"][0]["auroc"] == 0.5
    assert scores["consensus"]["n"] == int(dataset.consensus().sum())
    assert scores["full_agreement"] is None  # no rater is against any
    scores = score(dataset, indices, by_lines, "p1", resamples=20)
    assert scores["resampled"] == {"unit": "scan", "units": COUNT, "resamples": 20}


def test_groups_stand_in_for_unknown_sessions(dataset):
    indices = np.arange(4, COUNT)
    plain = replace(dataset, session=None)
    by_lines = predict_by_lines(Oracle(plain.labels), plain, indices)
    scores = score(plain, indices, by_lines, "p2", np.arange(COUNT) // 8, resamples=5)
    assert scores["resampled"]["units"] == 3
    with pytest.raises(
        DatasetError, match="Protocol p2 resamples sessions, and the data names"
    ):
        score(plain, indices, by_lines, "p2")
