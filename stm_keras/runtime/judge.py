"""What an exported model says of one scan, as a dict for programs."""

import numpy as np

from stm_keras.data.preprocess import INPUTS
from stm_keras.evaluation.changes import find_changes
from stm_keras.runtime.verdict import calibrated, sigmoid, threshold


def verdict_of(model, heights):
    """Judge one scan, whole or begun.

    Args:
        model: `OnnxPredictor` or `OnnxScanPredictor`.
        heights: array of shape `(lines, pixels)`, of the model's pixels. Any unit; lines
            that were not recorded are 0.

    Returns:
        dict, JSON-ready, with the keys of `stm-keras predict --json` but for path and
        index: `class`, `probabilities` by name, `confidence`, `change_lines`, `unsure`,
        `unknown_surface`, `lines`. What the model has no head or threshold for is None.

    Raises:
        MismatchError: The scan is of another size than the model's.
    """
    facts, scan = model.facts, np.asarray(heights)[None]
    out = model.outputs(scan)
    there = np.flatnonzero(INPUTS[facts.get("input", "standardised")](scan)[0].any(-1))
    lines = int(there[-1]) + 1 if len(there) else 0
    seen = max(lines, 1)
    state = out["state"][0] if out["state"].ndim == 2 else out["state"][0, seen - 1]
    shares = calibrated(state, facts, seen)
    best = int(shares.argmax())
    unsure, strange = (threshold(facts, name, seen) for name in ("unsure", "unknown"))
    limit = threshold(facts, "change", 1)
    heads = {
        name: sigmoid(out[name][..., 0]) for name in ("change", "unknown") if name in out
    }
    changes = unknown = None
    if "change" in heads and limit is not None:
        called = find_changes(heads["change"], limit, lines=np.array([lines]))
        changes = np.flatnonzero(called[0]).tolist()
    if "unknown" in heads and strange is not None:
        unknown = bool(heads["unknown"][0, seen - 1] > strange)
    return {
        "class": facts["classes"][best],
        "probabilities": dict(zip(facts["classes"], shares.tolist(), strict=True)),
        "confidence": float(shares[best]),
        "change_lines": changes,
        "unsure": None if unsure is None else bool(shares[best] < unsure),
        "unknown_surface": unknown,
        "lines": lines,
    }
