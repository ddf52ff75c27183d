"""Judge whole scans: class, confidence, and what makes a verdict unreliable."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import pack_lines
from stm_keras.data.resample import fit_heights, fit_scan_lines
from stm_keras.evaluation.changes import DELAY, REFRACTORY, find_changes
from stm_keras.inference.inputs import unfit
from stm_keras.inference.predictor import CHUNK, Predictor, at_last
from stm_keras.inference.sizes import unknown_size
from stm_keras.inference.verdict import (
    HEADS,
    ScanVerdict,
    calibrated,
    sigmoid,
    threshold,
    too_few,
)
from stm_keras.scan import Scan


def verdict_of(
    model: Predictor, heights: Scan | np.ndarray, size: tuple | None = None
) -> dict:
    """Judge one scan, whole or begun.

    Args:
        model: A `Predictor`.
        heights: `Scan`; or array of shape `(lines, pixels)`, lines in the order of
            acquisition, any unit; lines that were not recorded are 0 or NaN. A `Scan` that
            `stm-keras predict` would refuse is not judged here either, see `inputs.unfit`.
        size: tuple (width, height) of the complete scan in metres; None where that is not
            known, or is that of the `Scan`.

    Returns:
        dict, as of `ScanVerdict.record`, in the lines of the scan.
    """
    return judge_scan(model, heights, size).record()


def judge_scan(
    model: Predictor, heights: Scan | np.ndarray, size: tuple | None = None
) -> ScanVerdict:
    """Judge one scan as `verdict_of` does: `ScanVerdict`, in the lines of the scan."""
    metadata = model.metadata
    if isinstance(heights, Scan):
        size = heights.size if size is None else size
        reason = unfit(heights)
        if reason is not None:
            return ScanVerdict(model.classes, None, lines=0, reason=reason)
        fitted = fit_scan_lines(heights, metadata)
    else:
        heights = np.asarray(heights)
        fitted = fit_heights(heights, metadata, size=size)
    pixels = (heights.heights if isinstance(heights, Scan) else heights).shape[1]
    (verdict,) = scan_verdicts(
        model, fitted.heights[None], [size], [fitted.planned], [pixels], states=False
    )
    return verdict.in_scan(fitted.bounds)


def scan_verdicts(
    model: Predictor,
    images: Any,
    sizes: Sequence | None = None,
    planned: Sequence | None = None,
    pixels: Sequence | None = None,
    progress: Callable | None = None,
    states: bool = True,
) -> list[ScanVerdict]:
    """Judge scans.

    Args:
        model: A `Predictor`.
        images: array-like of shape `(scans, lines, pixels)`, of the model's pixels. Heights
            in any unit; lines that were not recorded are 0.
        sizes: sequence of tuple (width, height) in m or None, one for each scan. None where
            nobody knows.
        planned: sequence of int: lines of the model that each scan has when it is complete.
            None for those of the images.
        pixels: sequence of int: pixels of a line of each scan as it was recorded. None where
            nobody knows.
        progress: callable of (scans done, scans in all), or None.
        states: bool. Whether verdicts hold `state`, the probabilities after each line. Some
            models take half of the time without.

    Returns:
        list of `ScanVerdict`.

    Raises:
        MismatchError: The scans are of another size than the model's.
    """
    count, lines = images.shape[:2]
    sizes = [None] * count if sizes is None else sizes
    pixels = [None] * count if pixels is None else pixels
    unknown = [
        unknown_size(model.metadata, *pair) for pair in zip(sizes, pixels, strict=True)
    ]
    complete = np.full(count, lines) if planned is None else np.asarray(planned)
    verdicts: list[ScanVerdict] = []
    for start in range(0, count, CHUNK):
        part = slice(start, min(start + CHUNK, count))
        chosen = read_images(images, np.arange(part.start, part.stop))
        verdicts += _judge_chunk(model, chosen, unknown[part], complete[part], states)
        if progress:
            progress(len(verdicts), count)
    return verdicts


def _judge_chunk(model, images, unknown_sizes, planned, with_states):
    metadata, out = model.metadata, {}
    # a lost line changes nothing: models get the lines with a signal alone, and what they
    # answer after the n-th of these holds for all lines up to the next
    packed, seen = pack_lines(images)
    usable = seen[:, -1]  # lines with a signal
    lines = np.maximum(usable, 1)
    states = None
    if model.every_line:
        out = model.outputs(packed) if with_states else model.last_outputs(packed)
        if with_states:
            counts = np.arange(1, images.shape[1] + 1)
            states = calibrated(out["state"], metadata, counts)
        out = at_last(out)
        probabilities = calibrated(out["state"], metadata, lines)
    else:
        probabilities = model.probabilities(images)
    heads = {name: sigmoid(out[name][..., 0]) for name in HEADS if name in out}
    unsure = _beyond(metadata, "unsure", lines, -probabilities.max(1), sign=-1)
    unknown = changes = [None] * len(images)
    if "unknown" in heads:
        unknown = _beyond(metadata, "unknown", lines, heads["unknown"])
    change = heads.get("change")
    if change is not None and threshold(metadata, "change", 1) is not None:
        changes = _changes(metadata, change, usable, planned)
    verdicts = []
    for scan, count in enumerate(usable.tolist()):
        offsets = np.flatnonzero(np.diff(seen[scan], prepend=0))  # of lines with a signal
        total = int(offsets[-1]) + 1 if count else 0  # lines up to the last of them
        answer = np.maximum(seen[scan, :total] - 1, 0)  # that holds at each line
        changed, reason = changes[scan], too_few(count, metadata)
        verdict = ScanVerdict(
            classes=model.classes,
            probabilities=tuple(probabilities[scan].tolist()),
            lines=total,
            unsure=unsure[scan],
            unknown_surface=unknown[scan],
            unknown_size=unknown_sizes[scan],
            change_lines=None if changed is None else tuple(offsets[changed].tolist()),
            state=None if states is None else states[scan, answer].astype(np.float32),
            change=None if change is None else change[scan, answer],
        )
        if reason is not None:
            verdict = ScanVerdict(
                classes=model.classes,
                probabilities=None,
                lines=total,
                unknown_size=unknown_sizes[scan],
                reason=reason,
                early=verdict if count else None,
            )
        verdicts.append(verdict)
    return verdicts


def _changes(metadata, scores, usable, planned):
    """Return the lines with a new tip of each scan, as a stream would have told them."""
    settings = metadata["change"]
    delay = settings.get("delay", DELAY)
    changed = find_changes(
        scores,
        settings["threshold"],
        lines=usable,
        delay=delay,
        refractory=settings.get("refractory", REFRACTORY),
    )
    for row, lines, complete in zip(changed, usable, usable >= planned, strict=True):
        if not complete:  # lines still to come have a say in these
            row[max(lines - delay, 0) :] = False
    return [np.flatnonzero(row) for row in changed]


def _beyond(metadata, name, lines, values, sign=1):
    """Tell where a value is above its threshold after so many lines; None without one."""
    limits = [threshold(metadata, name, count) for count in lines.tolist()]
    return [
        None if limit is None else bool(value > sign * limit)
        for value, limit in zip(values.tolist(), limits, strict=True)
    ]
