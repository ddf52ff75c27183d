"""What is said of each scan: class, confidence, and what speaks against trusting it."""

from dataclasses import dataclass, field, replace

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import recorded_lines
from stm_keras.evaluation.changes import find_changes
from stm_keras.inference.predictor import CHUNK, HEADS, sigmoid
from stm_keras.runtime.verdict import calibrated, threshold


@dataclass(frozen=True)
class ScanVerdict:
    """What a model says of one scan.

    Args:
        probabilities: tuple of float. Of each class, in the model's order.
        lines: int. Lines up to the last that is not empty.
        unsure: bool. The confidence is below what the model asks for after so many
            lines. None where the model has no threshold.
        unknown_surface: bool. This is no surface that the model knows. None likewise.
        change_lines: tuple of int. First lines with another tip. None likewise.
        state: float array of shape `(lines, classes)`. Probabilities after each line,
            None of a model that judges whole scans.
        change: float array of shape `(lines,)`. Probability of a tip change at each
            line, None of a model without such a head.
    """

    probabilities: tuple
    lines: int
    unsure: bool | None = None
    unknown_surface: bool | None = None
    change_lines: tuple | None = None
    state: np.ndarray | None = field(default=None, compare=False, repr=False)
    change: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def confidence(self):
        """Probability of the likeliest class."""
        return max(self.probabilities)


def scan_verdicts(predictor, images, progress=None):
    """Judge scans.

    Args:
        predictor: A `Predictor`.
        images: array-like of shape `(scans, lines, pixels)`. Heights in any unit; lines
            that were not recorded are 0.
        progress: callable of (scans done, scans in all), or None.

    Returns:
        list of `ScanVerdict`.

    Raises:
        MismatchError: The scans are of another size than the model's.
    """
    found = []
    for start in range(0, len(images), CHUNK):
        part = read_images(images, np.arange(start, min(start + CHUNK, len(images))))
        found += _judge(predictor, part)
        if progress:
            progress(len(found), len(images))
    return found


def _judge(predictor, images):
    facts, heads, states = predictor.facts, {}, None
    if predictor.every_line:
        out = predictor.outputs(images)
        lines = np.maximum(out["recorded"], 1)
        rows = np.arange(len(images))
        probabilities = calibrated(out["state"][rows, lines - 1], facts, lines)
        along = np.arange(1, out["state"].shape[1] + 1)
        states = calibrated(out["state"], facts, along).astype(np.float32)
        heads = {name: sigmoid(out[name][..., 0]) for name in HEADS if name in out}
        recorded = out["recorded"]
    else:
        probabilities = predictor.probabilities(images)
        recorded = recorded_lines(images)
        lines = np.maximum(recorded, 1)
    unsure = _beyond(facts, "unsure", lines, -probabilities.max(1), sign=-1)
    unknown = changes = [None] * len(images)
    if "unknown" in heads:
        last = heads["unknown"][np.arange(len(images)), lines - 1]
        unknown = _beyond(facts, "unknown", lines, last)
    limit = threshold(facts, "change", 1)
    if "change" in heads and limit is not None:
        called = find_changes(heads["change"], limit, lines=recorded)
        changes = [tuple(np.flatnonzero(row).tolist()) for row in called]
    told = zip(
        probabilities.tolist(), recorded.tolist(), unsure, unknown, changes, strict=True
    )
    found = [ScanVerdict(tuple(p), *rest) for p, *rest in told]
    if states is None:
        return found
    change = heads.get("change")
    return [
        replace(
            verdict,
            state=states[number, : verdict.lines],
            change=None if change is None else change[number, : verdict.lines],
        )
        for number, verdict in enumerate(found)
    ]


def _beyond(facts, name, lines, values, sign=1):
    """Tell where a value is above its threshold after so many lines; None without one."""
    limits = [threshold(facts, name, count) for count in lines.tolist()]
    return [
        None if limit is None else bool(value > sign * limit)
        for value, limit in zip(values.tolist(), limits, strict=True)
    ]
