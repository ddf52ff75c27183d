"""Splices of two scans: how they are made, and what is counted."""

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.errors import MismatchError
from stm_keras.inference.predictor import Predictor
from stm_keras.live.splices import WITHIN, judge_splices, splice_scans, summarise

pytestmark = ONCE

LINES = 64


@pytest.fixture(scope="module")
def dataset():
    return made_up_dataset(count=48, sessions=4)


class Told(Predictor):
    """Names a class by the first pixel of a line; calls a change where that says so."""

    every_line = True

    def __init__(self, names_late=False, change=True):
        self.names_late, self.change = names_late, change
        self.metadata = {
            "classes": ["a", "b", "c", "d"],
            "pixels": 8,
            "max_lines": LINES,
            "input": "scaled",
            "change": {"threshold": 0.5, "delay": 1},
        }

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        raise NotImplementedError

    def start_scan(self):
        return None

    def step(self, line, cache):
        """`cache` is the class that the network believes in, and whether it saw another."""
        now = int(line[0, 0, 2:6].argmax())
        first, changed = cache or (now, False)
        believed = first if self.names_late else now
        state = np.zeros((1, 4), np.float32)
        state[0, believed] = 5
        is_change = self.change and now != first and not changed
        out = {"state": state, "change": np.array([[9.0 if is_change else -9.0]])}
        return out, (believed, changed or now != first)


def scans_of(classes):
    """Scans whose largest pixel is that of their class: `(scans, 64, 8)`."""
    rng = np.random.default_rng(4)
    images = rng.uniform(0, 0.2, (len(classes), LINES, 8))  # steps of one are no signal
    for scan, name in enumerate(classes):
        images[scan, :, name + 2] += 1  # where no slope is
    return images


def made(count=12):
    from stm_keras.live.splices import Splices

    rng = np.random.default_rng(0)
    before = rng.integers(0, 4, count)
    after = (before + 1) % 4
    cuts = rng.integers(20, 40, count)
    images = np.array(
        [
            np.concatenate([scans_of([a])[0, :cut], scans_of([b])[0, cut:]])
            for a, b, cut in zip(before, after, cuts, strict=True)
        ]
    )
    sessions = np.array([f"s{number % 3}" for number in range(count)])
    return Splices(images, cuts, before, after, scans_of(before), sessions)


def test_a_splice_is_of_two_scans_of_a_session_and_of_two_classes(dataset):
    told = splice_scans(dataset, np.arange(24), count=9, seed=3)
    assert len(told.images) == 9
    for image, cut, before, after, session in zip(
        told.images, told.change_line, told.before, told.after, told.sessions, strict=True
    ):
        assert before != after
        found = [
            next(
                i
                for i in range(24)
                if dataset.labels[i] == label
                and dataset.session[i] == session
                and np.array_equal(dataset.images[i][rows], image[rows])
            )
            for label, rows in ((before, slice(cut)), (after, slice(cut, None)))
        ]
        assert len(set(found)) == 2
        lines = dataset.images.shape[1]
        assert lines / 4 <= cut <= 3 * lines / 4


def test_the_same_seed_gives_the_same_splices_and_another_gives_others(dataset):
    first, same, other = (
        splice_scans(dataset, np.arange(24), count=9, seed=seed).images
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_only_scans_of_full_agreement_are_taken(dataset):
    from dataclasses import replace

    agreed = np.zeros(len(dataset), bool)
    agreed[:12] = True
    told = splice_scans(replace(dataset, unanimous=agreed), np.arange(48), count=20)
    known = {image.tobytes() for image in np.asarray(dataset.images[:12])}
    assert {image.tobytes() for image in told.calm} <= known


def test_scans_without_sessions_or_pairs_are_refused(dataset):
    from dataclasses import replace

    with pytest.raises(MismatchError, match="sessions"):
        splice_scans(replace(dataset, session=None), np.arange(24))
    one = np.flatnonzero(dataset.labels == 0)
    with pytest.raises(MismatchError, match="different classes"):
        splice_scans(dataset, one)


def test_a_model_that_names_each_tip_at_once_has_all_of_them():
    told = summarise([judge_splices(Told(), made())])
    assert told["splices"] == 12
    assert told["named"][0] == 1
    assert told["named"][1:] == [1, 1]
    assert told["median_lines"] == 1
    assert told["called"][0] == 1
    assert told["disturbed"] == 0
    assert told["at"]["end"] == [1, 1]


def test_a_scan_that_believes_in_its_first_tip_for_ever_is_helped_by_the_tip_of_now():
    told = summarise([judge_splices(Told(names_late=True), made())])
    assert told["named_by_scan"][0] == 0
    assert told["named"][0] == 1
    assert 1 < told["median_lines"] <= WITHIN


def test_without_a_called_change_it_is_not():
    told = summarise([judge_splices(Told(names_late=True, change=False), made())])
    assert told["called"][0] == told["named"][0] == 0
    assert told["median_lines"] is None


def test_folds_are_pooled_and_the_interval_is_of_sessions():
    parts = [
        judge_splices(Told(), made()),
        judge_splices(Told(change=False, names_late=True), made()),
    ]
    told = summarise(parts)
    assert told["splices"] == 24
    assert told["named"][0] == 0.5
    low, high = told["named"][1:]
    assert low <= 0.5 <= high
