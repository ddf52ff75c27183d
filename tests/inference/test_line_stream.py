"""A stream says after every line what the predictor says of the scan so far."""

import dataclasses

import numpy as np
import pytest
from streaming import FACTS, rough_scans, tiny_stream

from stm_keras.data.preprocess import has_signal
from stm_keras.data.resample import fit_heights
from stm_keras.errors import MismatchError
from stm_keras.inference.judge import scan_verdicts
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.stream import LineStream
from stm_keras.inference.verdict import Verdict
from stm_keras.models import MODELS


@pytest.fixture(scope="module", params=["gru", "attention", "mean"])
def predictor(request):
    """A tiny predictor with each mixer."""
    return tiny_stream(request.param)


@pytest.fixture(scope="module")
def stream(predictor):
    """Its stream; reset it first."""
    return LineStream(predictor)


@pytest.mark.parametrize("kind", ["metres", "uint8"])
def test_verdicts_are_those_of_the_predictor(predictor, stream, kind):
    scans = rough_scans(2, 24)
    if kind == "uint8":
        scans = np.round(scans * 1e11 * 5 + 128).clip(0, 255).astype(np.uint8)
    states, heads = predictor.after_every_line(scans), predictor.heads(scans)
    assert np.ptp(states, axis=1).max() > 0.05  # else equality says little
    for number, scan in enumerate(scans):
        stream.reset()
        verdicts = [stream.push(line) for line in scan]
        there = has_signal(scan)
        assert [verdict.verdict is not None for verdict in verdicts] == there.tolist()
        said = [verdict for verdict in verdicts if verdict.verdict is not None]
        found = np.array([verdict.probabilities for verdict in said])
        np.testing.assert_allclose(found, states[number][there], atol=1e-5)
        for name in ("change", "unknown"):
            found = [getattr(verdict, f"{name}_probability") for verdict in said]
            np.testing.assert_allclose(found, heads[name][number][there], atol=1e-5)
        # of a line that was lost, the predictor says what it said before
        held = np.maximum.accumulate(np.where(there, np.arange(len(scan)), 0))
        np.testing.assert_array_equal(states[number], states[number][held])


@pytest.mark.parametrize(
    ("lines", "pixels", "size", "recorded"),
    [
        (12, 12, None, 12),
        (24, 96, (4e-8, 1e-8), 24),
        (50, 50, (1e-8, 1e-8), 50),
        (50, 20, (5e-9, 1.25e-8), 50),  # higher than wide
        (60, 60, (1e-8, 1e-8), 23),  # aborted
    ],
)
def test_one_stream_serves_scans_of_any_frame(
    predictor, stream, lines, pixels, size, recorded
):
    step = predictor._compiled_step
    heights = rough_scans(1, recorded, pixels, seed=lines)[0]
    stream.reset(lines=lines, pixels=pixels, size=size)
    said = [stream.push(line) for line in heights]
    last = [verdict for verdict in said if verdict.verdict is not None][-1]
    fitted = fit_heights(heights, predictor.metadata, lines, size)
    (verdict,) = scan_verdicts(predictor, fitted.heights[None], [size], [fitted.planned])
    np.testing.assert_allclose(verdict.probabilities, last.probabilities, atol=1e-5)
    found = predictor.probabilities(fitted.heights[None])[0]  # calibrated for its lines
    np.testing.assert_allclose(found, last.probabilities, atol=1e-5)
    assert predictor._compiled_step is step  # nothing was compiled anew
    stream.reset(lines=None, pixels=None, size=None)


def test_a_scan_may_go_on(stream):
    stream.reset()
    verdicts = [stream.push(line) for line in rough_scans(1, 60)[0]]
    said = [each.probabilities for each in verdicts if each.verdict is not None]
    assert len(said) > 50
    assert np.isfinite(said).all()
    assert verdicts[-1].line == 59


def test_a_verdict_is_frozen_and_plain(stream):
    stream.reset()
    verdict = stream.push(rough_scans(1, 1)[0, 0])
    assert isinstance(verdict, Verdict)
    assert verdict.name in FACTS["classes"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.line = 3


def test_a_model_of_whole_scans_is_refused():
    model = MODELS["cnn_small"](3, pixels=16, max_lines=8, width=2)
    with pytest.raises(MismatchError, match="judges whole scans"):
        LineStream(KerasPredictor(model, FACTS))
