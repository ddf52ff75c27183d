"""What a model file says of itself: nothing that judging reads is taken unseen."""

import json
import os
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import leaves, replaced

from stm_keras.data.model_metadata import check_metadata
from stm_keras.errors import InputError, StmKerasError
from stm_keras.inference.context import Context
from stm_keras.inference.judge import verdict_of
from stm_keras.inference.onnx_model import OnnxModel
from stm_keras.inference.stream import LineStream
from stm_keras.inference.verdict import calibrated

MODELS = Path(__file__).parents[2] / "models"
FUZZ = int(os.environ.get("STM_KERAS_FUZZ", "300"))
ODD = (
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    [],
    {},
    None,
    True,
    10**400,
    "x" * 10**4,
)
FACTS = {
    "format": 1,
    "classes": ["a", "b", "c"],
    "pixels": 16,
    "max_lines": 8,
    "input": "scaled",
    "min_lines": 2,
    "parameters": 12,
    "temperature": {"lines": [1, 4], "values": [1.5, 0.9]},
    "confidence": {"lines": [1, 4], "slopes": [0.9, 1.1], "shifts": [0.1, -0.2]},
    "unsure": {"coverage": 0.9, "lines": [1, 4], "thresholds": [0.4, 0.5]},
    "unknown": {"lines": [1, 4], "thresholds": [0.8, 0.7], "measured": {"4": {}}},
    "change": {"threshold": 0.8, "delay": 2, "refractory": 5},
    "size_nm": [3.0, 80.0],
    "context": {
        "transitions": [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]],
        "frequency": 0.5,
        "strength": 0.9,
        "fade_lines": 4,
    },
    "scores": {"P2": "0.9"},
    "training": {"counts": {"train": 3}, "environment": {"packages": {}, "dataset": {}}},
    "what a newer one says": {"more": [1, 2]},
}


class Network(OnnxModel):
    """Logits that are the first values of each line."""

    every_line = True

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        count = len(self.metadata["classes"])
        seen = np.cumsum(images.any(2), 1)
        found = {"state": np.resize(images, (*images.shape[:2], count)).astype("f4")}
        found |= dict.fromkeys(("change", "unknown"), found["state"][..., :1])
        return {**found, "recorded": seen[:, -1], "seen": seen}

    def start_scan(self):
        return []

    def step(self, line, cache):
        state = np.resize(line, (1, len(self.metadata["classes"])))
        return {"state": state, "change": state[:, :1], "unknown": state[:, :1]}, cache


def use(facts):
    """Judge a scan with a model that says this of itself, whole and live."""
    scan = np.random.default_rng(0).normal(size=(6, 20)).cumsum(1)
    model = Network(None, facts)
    said = [verdict_of(model, scan, size=(1e-8, 1e-8))]
    if (context := Context.of(facts)) is not None:
        alone = np.full(len(context.transitions), 1 / len(context.transitions))
        assert np.isfinite(context.combine(context.expect(None, alone), alone, 1)).all()
    stream = LineStream(model, lines=6, size=(1e-8, 1e-8))
    live = [stream.push(line) for line in scan]
    shares = [list((each["probabilities"] or {}).values()) for each in said]
    shares += [each.probabilities or () for each in live]
    assert all(np.isfinite(each).all() for each in shares)
    return said[0]


def test_good_facts_come_back_as_they_were():
    assert check_metadata(FACTS, "m.keras", "it is damaged") is FACTS
    assert use(FACTS)["class"] in FACTS["classes"]


def test_shipped_models_say_what_can_be_worked_with():
    files = sorted(MODELS.glob("*.keras"))
    assert files
    for file in files:
        with zipfile.ZipFile(file) as archive:
            facts = json.loads(archive.read("stm_keras.json"))
        assert check_metadata(facts, file, "it is damaged") is facts


def context(changes):
    """Facts whose context differs in this."""
    return {"context": {**FACTS["context"], **changes}}


WRONG = [
    ({"max_lines": 0}, "`max_lines` must be a number from 1 to 16384. Received: 0"),
    ({"max_lines": True}, "`max_lines` must be a number"),
    ({"pixels": 10**9}, "`pixels` must be a number from 2"),
    ({"pixels": 16000, "max_lines": 16000}, "16000 pixels are too large to be true"),
    ({"classes": ["a"]}, "`classes` must be 2 to 1000 different names"),
    ({"classes": ["a", "a"]}, "`classes` must be 2 to 1000 different names"),
    ({"classes": ["a", 3]}, "`classes` must be 2 to 1000 different names"),
    ({"classes": ["a", "x" * 201]}, "longer than 200 characters"),
    ({"temperature": {"lines": [1], "values": [-1]}}, "`temperature.values` must be 1 num"),
    ({"temperature": {"lines": [1], "values": [0]}}, "`temperature.values` must be"),
    ({"temperature": {"lines": [4, 1], "values": [1, 1]}}, "rising numbers of lines"),
    ({"temperature": {"lines": [1, 4], "values": [1]}}, "must be 2 numbers from 0.001"),
    ({"temperature": []}, "`temperature` is not an object"),
    ({"unknown": {"threshold": "high"}}, "`unknown.threshold` must be a probability"),
    ({"unknown": {"lines": [1], "thresholds": [7]}}, "`unknown.thresholds` must be"),
    ({"change": {}}, "`change.threshold` must be a probability"),
    ({"change": {"threshold": [1]}}, "`change.threshold` must be a probability"),
    ({"change": {"threshold": 0.5, "delay": -1}}, "`change.delay` must be a number of l"),
    (context({"transitions": [[1, 0], [0, 1]]}), "must be 3 rows of 3 probabilities"),
    (context({"transitions": [[0.5] * 3] * 3}), "that sum to 1"),
    (context({"transitions": [[2, -1, 0]] * 3}), "`context.transitions` must be 3 rows"),
    (context({"transitions": [["a"] * 3] * 3}), "`context.transitions` must be 3 rows"),
    (context({"strength": -1}), "`context.strength` must be a number from 0 to 10"),
    (context({"frequency": 2}), "`context.frequency` must be a number from 0 to 1"),
    (context({"min_lines": 0}), "`context.min_lines` must be a number of lines from 1"),
    (context({"min_lines": 1.5}), "`context.min_lines` must be a number of lines from 1"),
    (context({"fade_lines": 1}), "`context.fade_lines` must be a number of lines from 2"),
    ({"context": 3}, "`context` is not an object"),
    ({"size_nm": [80, 3]}, "`size_nm` must be two widths in nm"),
    ({"min_lines": 9}, "`min_lines` must be a number of lines from 1 to 8"),
    ({"training": {"environment": []}}, "`training.environment` is not an object"),
    ({"format": True}, "is of a newer stm-keras"),
    ({"input": ["scaled"]}, "is of a newer stm-keras"),
]


@pytest.mark.parametrize(("changes", "phrase"), WRONG)
def test_what_makes_no_sense_is_named(changes, phrase):
    with pytest.raises(InputError) as told:
        check_metadata({**FACTS, **changes}, "m.keras", "stm_keras.json is damaged")
    assert str(told.value).startswith("m.keras: ")
    assert phrase in str(told.value)


def test_any_value_may_be_odd():
    rng, told = random.Random(0), []
    every = list(leaves(FACTS))
    for _ in range(FUZZ):
        facts = replaced(FACTS, rng.choice(every), rng.choice(ODD))
        try:
            use(check_metadata(facts, "m.keras", "it is damaged"))
        except StmKerasError as error:
            told.append(str(error))
    assert len(told) > FUZZ / 3
    assert all(line.startswith("m.keras: ") and "\n" not in line for line in told)


def test_logits_that_are_no_numbers_give_no_verdict():
    for odd in (np.nan, np.inf, -np.inf):
        with pytest.raises(StmKerasError, match="numbers that are not finite"):
            calibrated(np.array([0.0, odd, 1.0]), FACTS, 4)
