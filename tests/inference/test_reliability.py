"""How far a model can be trusted, scored on scans made for it."""

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.inference import evaluate as subject
from stm_keras.inference.evaluate import changed_scans, reliability_scores

pytestmark = ONCE  # no backend changes what is tested here


class Oracle:
    """Knows every class, every change, and that only made-up scans are known."""

    every_line = True
    metadata = {"unknown": {"thresholds": [0.2, 0.5]}, "change": {"threshold": 0.5}}

    def __init__(self, *known):
        self.known = {bytes(np.asarray(image)): i for part in known for i, image in part}
        self.change_line = {}

    def probabilities(self, images):
        return np.eye(4)[np.arange(len(images)) % 4] * 0.8 + 0.05

    def heads(self, images):
        change = np.zeros((len(images), 128), np.float32)
        unknown = np.ones_like(change)
        for row, image in enumerate(images):
            unknown[row] = bytes(image) not in self.known
            line = self.change_line.get(bytes(image), -1)
            if line >= 0:
                change[row, line] = 0.9
        return {"change": change, "unknown": unknown}


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(subject, "NUM_UNKNOWN", 19)
    monkeypatch.setattr(subject, "NUM_CHANGED", 24)


def test_an_oracle_gets_full_marks(few):
    votes = np.arange(16) % 2
    part = made_up_dataset(16, 4, parameters={"tip_change_votes": votes})
    oracle = Oracle(enumerate(part.images))
    scans = changed_scans(24, subject.TEST_SEED)
    oracle.change_line = dict(zip(map(bytes, scans.images), scans.change_line, strict=True))
    for image, vote in zip(part.images, votes, strict=True):
        oracle.change_line[bytes(image)] = 40 if vote else -1
    scores = reliability_scores(
        oracle, part, oracle.probabilities(part.images), part.session
    )
    assert scores["unknown"]["auroc"] == 1
    assert scores["unknown"]["threshold"] == 0.5
    assert scores["unknown"]["found"] == 1
    assert scores["changes"]["found"] == 1
    assert scores["changes"]["false_alarms"] == 0
    assert scores["changes"]["votes"]["auroc"] == 1
    assert scores["rejection"]["accuracy"] == 1


def test_scans_that_taught_a_model_do_not_say_how_well_it_knows_them(few):
    votes = np.arange(16) % 2
    part = made_up_dataset(16, 4, parameters={"tip_change_votes": votes})
    oracle = Oracle(enumerate(part.images))
    scores = reliability_scores(oracle, part, trained_on=True)
    assert scores["unknown"] is None
    assert "found" in scores["changes"]
    assert "votes" not in scores["changes"]


def test_a_model_without_the_heads_is_not_asked():
    oracle = Oracle()
    oracle.metadata = {}
    scores = reliability_scores(oracle, made_up_dataset(16))
    assert scores == {"rejection": None, "unknown": None, "changes": None}
