"""`examples/onnx_alone.py` says of scans what stm-keras says, in a process without it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers import ONCE, REPOSITORY

from stm_keras import scan_verdicts
from stm_keras.export.onnx_graph import put_facts

pytestmark = ONCE  # no backend changes what is tested here

pytest.importorskip("onnxruntime")
EXAMPLE = REPOSITORY / "examples" / "onnx_alone.py"
LIMITS = {"lines": [1, 8], "coverage": 0.9}
FACTS = {
    "min_lines": 3,
    "confidence": {"lines": [1, 8], "slopes": [0.8, 1.3], "shifts": [0.2, -0.3]},
}


def told(model, scans, folder):
    """Return what the example says of each scan: list of str."""
    np.save(folder / "scans.npy", scans)
    words = [sys.executable, EXAMPLE, model, folder / "scans.npy"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["vit", "attention"])
def test_an_onnx_file_is_read_without_stm_keras(name, predictors, exported, tmp_path):
    predictor, (model, *_) = predictors[name], exported(name, "onnx-scan")
    scans = np.random.default_rng(1).normal(size=(3, 6, 16)).cumsum(2) * 1e-10
    blank = np.tile(np.linspace(0, 1e-9, 16), (1, 6, 1))
    *lines, last = told(model, np.concatenate([scans, blank]), tmp_path)
    for line, share in zip(lines, predictor.probabilities(scans), strict=True):
        assert line.startswith(predictor.classes[share.argmax()])
        assert abs(float(line.split()[-1]) - share.max()) < 2e-3
    assert last.split() == ["not", "judged"]


def _between(values):
    """Return a number that half of some are below, and none is but for rounding."""
    return float(np.sort(values)[len(values) // 2 - 1 :][:2].mean())


def test_what_is_not_reliable_gets_no_class_without_stm_keras(
    predictors, exported, tmp_path
):
    scans = np.random.default_rng(1).normal(size=(9, 8, 16)).cumsum(2) * 1e-10
    scans[1, [0, 5, 6]] = 0  # lost lines
    scans[2, 2:] = 0  # fewer lines than the model needs
    ours = replace(
        predictors["attention"], metadata={**predictors["attention"].metadata, **FACTS}
    )
    strange = ours.heads(scans)["unknown"][:, -1]
    ours.metadata["unknown"] = {**LIMITS, "thresholds": [_between(strange)] * 2}
    known = [v for v in scan_verdicts(ours, scans) if v.verdict in ours.classes]
    sure = _between([verdict.confidence for verdict in known])
    ours.metadata["unsure"] = {**LIMITS, "thresholds": [sure] * 2}
    network = onnx.load(exported("attention", "onnx-scan")[0])
    put_facts(network, ours.metadata)
    onnx.save(network, tmp_path / "model.onnx")
    verdicts = scan_verdicts(ours, scans)
    kinds = {verdict.verdict for verdict in verdicts}
    assert {"not judged", "unknown surface", "unsure"} < kinds
    lines = told(tmp_path / "model.onnx", scans, tmp_path)
    for line, verdict in zip(lines, verdicts, strict=True):
        assert line.startswith(verdict.verdict)
        if verdict.verdict in ours.classes:
            share = float(line.split()[-1])
            assert share == pytest.approx(verdict.confidence, abs=2e-3)


def test_the_example_needs_numpy_and_onnxruntime_alone():
    text = EXAMPLE.read_text()
    imported = [line.split()[1] for line in text.splitlines() if line.startswith("import ")]
    assert imported == ["json", "sys", "numpy", "onnxruntime"]
