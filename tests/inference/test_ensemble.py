"""Several models as one predictor: means of calibrated probabilities, heads and thresholds."""

import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import ONCE, check_error, lattice_scans, stm

from stm_keras.errors import MismatchError
from stm_keras.inference.ensemble import EnsemblePredictor
from stm_keras.inference.find_model import runs_in
from stm_keras.inference.judge import scan_verdicts
from stm_keras.inference.predictor import Predictor, in_chunks
from stm_keras.inference.stream import LineStream
from stm_keras.inference.verdict import softmax, threshold

pytestmark = ONCE  # plain NumPy

CLASSES = ["sharp", "double", "blunt"]
LINES, PIXELS = 9, 16


def sums(lines, weights):
    """Return made-up logits after lines `(..., pixels)`: of the mean size, turned by weights."""
    size = np.abs(lines).mean(-1, keepdims=True)
    return (size * np.asarray(weights)).astype(np.float32)


@dataclass(frozen=True)
class Made(Predictor):
    """A predictor whose answer after a line is a function of that line alone."""

    metadata: dict
    weights: tuple
    heads_of: tuple = (2.0, -1.0)  # change, unknown
    every_line: bool = True

    def outputs(self, images, batch_size=64, progress=None, lines=None):
        return in_chunks(self._compute, images, 4, self.every_line, self.prepare, lines)

    def _compute(self, prepared, usable):
        if not self.every_line:
            return {"state": sums(prepared.mean(1), self.weights)}
        return self._logits(prepared)

    def _logits(self, prepared):
        out = {"state": sums(prepared, self.weights)}
        for name, weight in zip(("change", "unknown"), self.heads_of, strict=True):
            out[name] = sums(prepared, (weight,))
        return out

    def start_scan(self):
        return 0

    def step(self, line, cache):
        return {name: value[:, 0] for name, value in self._logits(line).items()}, cache + 1


def metadata(warmth, unsure, unknown, change, **more):
    lines = [1, 8]
    return {
        "classes": CLASSES,
        "pixels": PIXELS,
        "max_lines": LINES,
        "temperature": {"lines": lines, "values": [warmth, 2 * warmth]},
        "confidence": {"lines": lines, "slopes": [0.7, 0.9], "shifts": [0.1, -0.2]},
        "unsure": {"lines": lines, "thresholds": unsure},
        "unknown": {"lines": lines, "thresholds": unknown},
        "change": {"threshold": change},
        **more,
    }


ONE = Made(metadata(0.8, [0.8, 0.3], [0.2, 0.4], 0.6, min_lines=2), (1.0, -2.0, 0.5))
OTHER = Made(
    metadata(1.7, [1.0, 0.48], [0.9, 0.45], 0.8, min_lines=3), (-0.5, 1.5, 1.0), (1.0, 0.3)
)
BOTH = EnsemblePredictor((ONE, OTHER))
SCANS = lattice_scans(np.arange(5), lines=LINES, pixels=PIXELS).astype(float)
SCANS[1, 6:] = 0  # began
SCANS[2, 3] = 0  # a lost line


def test_probabilities_after_each_number_of_lines_are_the_mean_of_the_calibrated():
    for lines in (1, 3, LINES):
        expected = (ONE.probabilities(SCANS, lines) + OTHER.probabilities(SCANS, lines)) / 2
        np.testing.assert_allclose(BOTH.probabilities(SCANS, lines), expected, atol=1e-6)
    expected = (ONE.after_every_line(SCANS) + OTHER.after_every_line(SCANS)) / 2
    np.testing.assert_allclose(BOTH.after_every_line(SCANS), expected, atol=1e-6)
    alone = softmax(np.log(expected)) - ONE.after_every_line(SCANS)
    assert np.abs(alone).max() > 0.05  # the mean is neither of both


def test_heads_and_thresholds_are_means():
    for name in ("change", "unknown"):
        expected = (ONE.heads(SCANS)[name] + OTHER.heads(SCANS)[name]) / 2
        np.testing.assert_allclose(BOTH.heads(SCANS)[name], expected, atol=1e-6)
    assert threshold(BOTH.metadata, "change", 5) == pytest.approx(0.7)
    for lines in (1, 3, 8):
        values = [threshold(each.metadata, "unsure", lines) for each in (ONE, OTHER)]
        assert threshold(BOTH.metadata, "unsure", lines) == pytest.approx(np.mean(values))
    assert BOTH.metadata["min_lines"] == 3


def test_verdicts_are_what_the_means_say():
    verdicts = scan_verdicts(BOTH, SCANS)
    shares = (ONE.probabilities(SCANS) + OTHER.probabilities(SCANS)) / 2
    last = [LINES - 1, 5, LINES - 1, LINES - 1, LINES - 1]
    unknown = [
        np.mean([each.heads(SCANS)["unknown"][scan, last[scan]] for each in (ONE, OTHER)])
        for scan in range(5)
    ]
    for scan, verdict in enumerate(verdicts):
        usable = int(SCANS[scan].any(-1).sum())
        np.testing.assert_allclose(verdict.probabilities, shares[scan], atol=1e-6)
        limit = threshold(BOTH.metadata, "unsure", usable)
        assert verdict.unsure == (shares[scan].max() < limit)
        limit = threshold(BOTH.metadata, "unknown", usable)
        assert verdict.unknown_surface == (unknown[scan] > limit)
    # scan 1 has fewer lines, after which more is asked for
    assert [each.unsure for each in verdicts] == [False, True, False, False, False]
    assert [each.unknown_surface for each in verdicts] == [True, False, True, True, True]


def test_a_stream_says_after_the_last_line_what_the_scan_says():
    stream = LineStream(BOTH, LINES, PIXELS)
    for line in SCANS[0]:
        verdict = stream.push(line)
    (whole,) = scan_verdicts(BOTH, SCANS[:1])
    np.testing.assert_allclose(verdict.probabilities, whole.probabilities, atol=1e-5)


def test_a_model_of_whole_scans_makes_the_ensemble_one():
    whole = replace(OTHER, every_line=False)
    mixed = EnsemblePredictor((ONE, whole))
    expected = (ONE.probabilities(SCANS) + whole.probabilities(SCANS)) / 2
    np.testing.assert_allclose(mixed.probabilities(SCANS), expected, atol=1e-6)
    assert not mixed.every_line
    assert not {"unknown", "change"} & set(mixed.metadata)
    assert scan_verdicts(mixed, SCANS)[0].unknown_surface is None


def test_a_threshold_that_one_lacks_none_has():
    without = {key: value for key, value in OTHER.metadata.items() if key != "unsure"}
    both = EnsemblePredictor((ONE, replace(OTHER, metadata=without)))
    assert "unsure" not in both.metadata
    assert scan_verdicts(both, SCANS)[0].unsure is None


@pytest.mark.parametrize(
    ("key", "value"), [("classes", ["a", "b", "c"]), ("pixels", 32), ("max_lines", 8)]
)
def test_models_that_do_not_fit_each_other_are_refused(key, value):
    other = replace(OTHER, metadata={**OTHER.metadata, key: value})
    with pytest.raises(MismatchError, match=f"the same `{key}`. Received: .* of model 2"):
        EnsemblePredictor((ONE, other))


def test_sizes_are_those_that_all_were_trained_on():
    sizes = ([3.0, 9.0], [4.0, 30.0])
    members = [
        replace(each, metadata={**each.metadata, "size_nm": size})
        for each, size in zip((ONE, OTHER), sizes, strict=True)
    ]
    assert EnsemblePredictor(tuple(members)).metadata["size_nm"] == [4.0, 9.0]


def test_predict_averages_shipped_models_however_they_are_named(tmp_path):
    path = tmp_path / "scan.npy"
    np.save(path, lattice_scans([0])[0].astype(float))
    names = ("h_si100", "h_si100_simulated")

    def shares(*words):
        result = stm("predict", *words, path, "--json")
        assert result.exit_code == 0, result.stderr
        return np.array(list(json.loads(result.stdout)["probabilities"].values()))

    alone = [shares("--model", name) for name in names]
    given = [word for name in names for word in ("--model", name)]
    np.testing.assert_allclose(shares(*given), np.mean(alone, 0), atol=2e-6)
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    folder = tmp_path / "folds"
    folder.mkdir()
    check_error(stm("predict", "--model", folder, path), 3, "is not a run")


def test_a_folder_of_runs_is_all_that_are_finished(trained_run, tmp_path):
    folds = tmp_path / "folds"
    for name in ("a-0", "a-1", "a-2"):
        shutil.copytree(trained_run, folds / name)
    (folds / "a-1" / "best.keras").unlink()
    assert runs_in(folds) == [folds / "a-0", folds / "a-2"]
    assert runs_in(trained_run) == [trained_run]
    path = tmp_path / "scan.npy"
    np.save(path, lattice_scans([0])[0].astype(float))
    runs = runs_in(folds)
    one, *others = (
        stm("predict", *words, path, "--json").stdout
        for words in (
            ["--model", trained_run],
            ["--model", folds],
            runs,
            ["--model", *runs],
        )
    )
    assert others == [one] * 3
    for run in runs:
        (run / "best.keras").unlink()
    check_error(stm("predict", "--model", folds, path), 3, "none of its 3 runs has a model")
