"""What is said of each scan: class, confidence, and what speaks against trusting it."""

from dataclasses import dataclass, field

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import recorded_lines
from stm_keras.evaluation.changes import find_changes
from stm_keras.runtime.verdict import HEADS, calibrated, sigmoid, threshold

CHUNK = 1024  # scans judged at a time, 64 MiB of float32


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

    def record(self, classes):
        """Return it as a dict for programs, JSON-ready.

        Args:
            classes: sequence of str. Names of the classes, in the model's order.

        Returns:
            dict with the keys of `stm-keras predict --json` but for path, index and error.
        """
        best = self.probabilities.index(self.confidence)
        changes = self.change_lines
        return {
            "class": classes[best],
            "probabilities": dict(zip(classes, self.probabilities, strict=True)),
            "confidence": self.confidence,
            "change_lines": None if changes is None else list(changes),
            "unsure": self.unsure,
            "unknown_surface": self.unknown_surface,
            "lines": self.lines,
        }


def verdict_of(model, heights):
    """Judge one scan, whole or begun.

    Args:
        model: `OnnxPredictor`, `OnnxScanPredictor`, or a `Predictor`.
        heights: array of shape `(lines, pixels)`, of the model's pixels. Any unit; lines
            that were not recorded are 0.

    Returns:
        dict, as of `ScanVerdict.record`.

    Raises:
        MismatchError: The scan is of another size than the model's.
    """
    (verdict,) = scan_verdicts(model, np.asarray(heights)[None])
    return verdict.record(model.classes)


def scan_verdicts(model, images, progress=None):
    """Judge scans.

    Args:
        model: A `Predictor`, `OnnxPredictor` or `OnnxScanPredictor`.
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
        found += _judge(model, part)
        if progress:
            progress(len(found), len(images))
    return found


def _judge(model, images):
    facts, out, states = model.facts, {}, None
    recorded = recorded_lines(images)
    if model.every_line:
        out = model.outputs(images)
        recorded = out["recorded"]
    lines = np.maximum(recorded, 1)
    if model.every_line:
        along = np.arange(1, out["state"].shape[1] + 1)
        states = calibrated(out["state"], facts, along)
        probabilities = states[np.arange(len(images)), lines - 1]
    else:
        probabilities = model.probabilities(images)
    heads = {name: sigmoid(out[name][..., 0]) for name in HEADS if name in out}
    unsure = _beyond(facts, "unsure", lines, -probabilities.max(1), sign=-1)
    unknown = changes = [None] * len(images)
    if "unknown" in heads:
        last = heads["unknown"][np.arange(len(images)), lines - 1]
        unknown = _beyond(facts, "unknown", lines, last)
    limit = threshold(facts, "change", 1)
    change = heads.get("change")
    if change is not None and limit is not None:
        called = find_changes(change, limit, lines=recorded)
        changes = [tuple(np.flatnonzero(row).tolist()) for row in called]
    return [
        ScanVerdict(
            probabilities=tuple(probabilities[number].tolist()),
            lines=count,
            unsure=unsure[number],
            unknown_surface=unknown[number],
            change_lines=changes[number],
            state=None if states is None else states[number, :count].astype(np.float32),
            change=None if change is None else change[number, :count],
        )
        for number, count in enumerate(recorded.tolist())
    ]


def _beyond(facts, name, lines, values, sign=1):
    """Tell where a value is above its threshold after so many lines; None without one."""
    limits = [threshold(facts, name, count) for count in lines.tolist()]
    return [
        None if limit is None else bool(value > sign * limit)
        for value, limit in zip(values.tolist(), limits, strict=True)
    ]
