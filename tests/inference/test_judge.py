"""What is said of each scan beside its class."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import ONCE, lattice_scans

from stm_keras.data.preprocess import recorded_lines
from stm_keras.inference.judge import scan_verdicts, verdict_of
from stm_keras.inference.predictor import Predictor

pytestmark = ONCE  # no backend changes what is tested here

FACTS = {
    "classes": list("abcd"),
    "pixels": 16,
    "max_lines": 24,
    "unsure": {"coverage": 0.9, "lines": [1, 24], "thresholds": [0.2, 0.5]},
    "unknown": {"false_alarms": 0.05, "lines": [1, 24], "thresholds": [0.9, 0.4]},
    "change": {"threshold": 0.5, "false_alarms": 0.05},
}


@dataclass(frozen=True)
class Live(Predictor):
    """Class a at 0.4 from the first line on; a change at line 12; unknown at 0.6."""

    metadata: dict
    every_line = True

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        shape = (*images.shape[:2], 1)
        state = np.log(np.tile([0.4, 0.2, 0.2, 0.2], (*images.shape[:2], 1)))
        change, unknown = np.full(shape, -9.0), np.full(shape, np.log(0.6 / 0.4))
        change[:, 12] = 9
        recorded = recorded_lines(images)
        return {"state": state, "change": change, "unknown": unknown, "recorded": recorded}


@pytest.fixture
def scans():
    scans = lattice_scans(np.arange(3), lines=24, pixels=16)
    scans[1, 6:] = 0
    return scans


@pytest.mark.smoke
def test_thresholds_are_those_of_the_lines_there_are(scans):
    whole, begun, _ = scan_verdicts(Live(FACTS), scans)
    assert whole.probabilities == pytest.approx((0.4, 0.2, 0.2, 0.2))
    assert whole.confidence == pytest.approx(0.4)
    assert (whole.lines, begun.lines) == (24, 6)
    assert whole.unsure
    assert not begun.unsure  # less is asked for after 6 lines
    assert whole.unknown_surface
    assert not begun.unknown_surface
    assert whole.change_lines == (12,)
    assert begun.change_lines == ()  # the scan ended before


def test_what_the_model_cannot_tell_is_none(scans):
    facts = {name: FACTS[name] for name in ("classes", "pixels", "max_lines")}
    (verdict, *_) = scan_verdicts(Live(facts), scans)
    assert verdict.unsure is verdict.unknown_surface is verdict.change_lines is None


def test_lines_end_with_the_last_that_is_not_constant(scans):
    scans[2, 5] = 7  # lost, in the middle
    scans[2, 20:] = 7
    assert recorded_lines(scans).tolist() == [24, 6, 20]
    assert recorded_lines(np.zeros((2, 4, 5))).tolist() == [0, 0]


@pytest.mark.smoke
def test_one_scan_is_told_as_a_record(scans):
    told = verdict_of(Live(FACTS), scans[1])
    assert told["class"] == "a"
    assert told["probabilities"] == pytest.approx({"a": 0.4, "b": 0.2, "c": 0.2, "d": 0.2})
    assert told["confidence"] == told["probabilities"]["a"]
    rest = {"change_lines": [], "unsure": False, "unknown_surface": False, "lines": 6}
    assert {name: told[name] for name in rest} == rest
