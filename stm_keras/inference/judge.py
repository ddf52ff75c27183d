"""What is said of each scan: class, confidence, and what speaks against trusting it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import pack_lines
from stm_keras.data.resample import fit_heights, fit_scan_lines, lines_of, lines_seen
from stm_keras.evaluation.changes import DELAY, REFRACTORY, find_changes
from stm_keras.inference.sizes import unknown_size
from stm_keras.inference.verdict import (
    HEADS,
    calibrated,
    final_verdict,
    sigmoid,
    threshold,
    too_few,
)
from stm_keras.scan import Scan

CHUNK = 1024  # scans judged at a time, 64 MiB of float32


@dataclass(frozen=True)
class ScanVerdict:
    """What a model says of one scan.

    Args:
        classes: tuple of str. Names of the classes, in the model's order.
        probabilities: tuple of float. Of each class; None where nothing could be judged.
        lines: int. Lines up to the last with a signal.
        unsure: bool. The confidence is below what the model asks for after so many
            lines. None where the model has no threshold, or nothing could be judged.
        unknown_surface: bool. This is not a surface that the model knows. None likewise.
        unknown_size: bool. The scan is wider or narrower than those the model was trained
            on. None where one of the two is not known.
        change_lines: tuple of int. First lines with another tip. None as for `unsure`.
        reason: str. Why nothing could be judged, else None.
        state: float array of shape `(lines, classes)`. Probabilities after each line,
            None of a model that judges whole scans.
        change: float array of shape `(lines,)`. Probability of a tip change at each
            line, None of a model without such a head.
    """

    classes: tuple
    probabilities: tuple | None
    lines: int
    unsure: bool | None = None
    unknown_surface: bool | None = None
    unknown_size: bool | None = None
    change_lines: tuple | None = None
    reason: str | None = None
    state: np.ndarray | None = field(default=None, compare=False, repr=False)
    change: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def number(self) -> int | None:
        """Number of the likeliest class; None where nothing could be judged."""
        return None if self.probabilities is None else int(np.argmax(self.probabilities))

    @property
    def name(self) -> str | None:
        """The likeliest class; None where nothing could be judged."""
        return None if self.probabilities is None else self.classes[self.number]

    @property
    def confidence(self) -> float | None:
        """Probability of the likeliest class; None where nothing could be judged."""
        return None if self.probabilities is None else max(self.probabilities)

    @property
    def verdict(self) -> str:
        """What to act on: the likeliest class, or why not to, see `final_verdict`."""
        return final_verdict(
            self.name, self.unsure, self.unknown_surface, self.unknown_size
        )

    def record(self) -> dict:
        """Return it as a dict for programs, JSON-ready.

        Returns:
            dict with the keys of `stm-keras predict --json` that tell the verdict.
        """
        shares, changes = self.probabilities, self.change_lines
        return {
            "verdict": self.verdict,
            "class": self.name,
            "probabilities": shares and dict(zip(self.classes, shares, strict=True)),
            "confidence": self.confidence,
            "change_lines": None if changes is None else list(changes),
            "unsure": self.unsure,
            "unknown_surface": self.unknown_surface,
            "unknown_size": self.unknown_size,
            "lines": self.lines,
            "error": self.reason,
        }


def verdict_of(
    model: object, heights: Scan | np.ndarray, size: tuple | None = None
) -> dict:
    """Judge one scan, whole or begun.

    Args:
        model: `OnnxPredictor`, `OnnxScanPredictor`, or a `Predictor`.
        heights: `Scan`; or array of shape `(lines, pixels)`, lines in the order of
            acquisition, any unit; lines that were not recorded are 0 or NaN.
        size: tuple (width, height) of the complete scan in metres; None where that is not
            known, or is that of the `Scan`.

    Returns:
        dict, as of `ScanVerdict.record`, in the lines of the scan.
    """
    facts = model.facts
    if isinstance(heights, Scan):
        size = heights.size if size is None else size
        fitted = fit_scan_lines(heights, facts)
    else:
        heights = np.asarray(heights)
        fitted = fit_heights(heights, facts, size=size)
    pixels = (heights.heights if isinstance(heights, Scan) else heights).shape[1]
    (verdict,) = scan_verdicts(
        model, fitted.heights[None], [size], [fitted.planned], [pixels]
    )
    changes = lines_of(fitted.bounds, verdict.change_lines)
    return verdict.record() | {
        "change_lines": None if changes is None else list(changes),
        "lines": lines_seen(fitted.bounds, verdict.lines),
    }


def scan_verdicts(
    model: object,
    images: object,
    sizes: Sequence | None = None,
    planned: Sequence | None = None,
    pixels: Sequence | None = None,
    progress: Callable | None = None,
) -> list[ScanVerdict]:
    """Judge scans.

    Args:
        model: A `Predictor`, `OnnxPredictor` or `OnnxScanPredictor`.
        images: array-like of shape `(scans, lines, pixels)`, of the model's pixels. Heights
            in any unit; lines that were not recorded are 0.
        sizes: sequence of tuple (width, height) in m or None, one for each scan. None where
            nobody knows.
        planned: sequence of int: lines of the model that each scan has when it is complete.
            None for those of the images.
        pixels: sequence of int: pixels of a line of each scan as it was recorded. None where
            nobody knows.
        progress: callable of (scans done, scans in all), or None.

    Returns:
        list of `ScanVerdict`.

    Raises:
        MismatchError: The scans are of another size than the model's.
    """
    count, lines = images.shape[:2]
    sizes = [None] * count if sizes is None else sizes
    pixels = [None] * count if pixels is None else pixels
    strange = [unknown_size(model.facts, *pair) for pair in zip(sizes, pixels, strict=True)]
    planned = np.full(count, lines) if planned is None else np.asarray(planned)
    found = []
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        chosen = read_images(images, np.arange(part.start, part.stop))
        found += _judge(model, chosen, strange[part], planned[part])
        if progress:
            progress(len(found), count)
    return found


def _judge(model, images, strange, planned):
    facts, out = model.facts, {}
    packed, seen = pack_lines(images)
    usable = seen[:, -1]
    lines = np.maximum(usable, 1)
    last = np.arange(len(images)), lines - 1
    states = None
    if model.every_line:
        out = model.outputs(packed)
        along = np.arange(1, images.shape[1] + 1)
        states = calibrated(out["state"], facts, along)
        probabilities = states[last]
    else:
        probabilities = model.probabilities(images)
    heads = {name: sigmoid(out[name][..., 0]) for name in HEADS if name in out}
    unsure = _beyond(facts, "unsure", lines, -probabilities.max(1), sign=-1)
    unknown = changes = [None] * len(images)
    if "unknown" in heads:
        unknown = _beyond(facts, "unknown", lines, heads["unknown"][last])
    change = heads.get("change")
    if change is not None and threshold(facts, "change", 1) is not None:
        changes = _changes(facts, change, usable, planned)
    found = []
    for number, count in enumerate(usable.tolist()):
        # a line of the image for each line with a signal, and the end of the last of them
        place = np.flatnonzero(np.diff(seen[number], prepend=0))
        reason = too_few(count, facts)
        judged = reason is None
        there = seen[number, : place[-1] + 1] if count else seen[number, :0]
        held = np.maximum(there - 1, 0)  # a line without a signal changes nothing
        called = changes[number]
        found.append(
            ScanVerdict(
                classes=model.classes,
                probabilities=tuple(probabilities[number].tolist()) if judged else None,
                lines=len(there),
                unsure=unsure[number] if judged else None,
                unknown_surface=unknown[number] if judged else None,
                unknown_size=strange[number],
                change_lines=tuple(place[called].tolist())
                if judged and called is not None
                else None,
                reason=reason,
                state=states[number, held].astype(np.float32)
                if judged and states is not None
                else None,
                change=change[number, held] if judged and change is not None else None,
            )
        )
    return found


def _changes(facts, scores, usable, planned):
    """Return the lines with a new tip of each scan, as a stream would have told them."""
    settings = facts["change"]
    delay = settings.get("delay", DELAY)
    found = find_changes(
        scores,
        settings["threshold"],
        lines=usable,
        delay=delay,
        refractory=settings.get("refractory", REFRACTORY),
    )
    for row, lines, complete in zip(found, usable, usable >= planned, strict=True):
        if not complete:  # what the lines still to come have a say in
            row[max(lines - delay, 0) :] = False
    return [np.flatnonzero(row) for row in found]


def _beyond(facts, name, lines, values, sign=1):
    """Tell where a value is above its threshold after so many lines; None without one."""
    limits = [threshold(facts, name, count) for count in lines.tolist()]
    return [
        None if limit is None else bool(value > sign * limit)
        for value, limit in zip(values.tolist(), limits, strict=True)
    ]
