"""Judge a scan while it is recorded: lines in, a verdict after each."""

from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from stm_keras.data.preprocess import line_shapes, resample_pixels, scale_shapes
from stm_keras.data.resample import LineResampler, aspect_of
from stm_keras.errors import InputError, MismatchError, UsageError
from stm_keras.evaluation.changes import DELAY, REFRACTORY, ChangeTracker
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.sizes import unknown_size
from stm_keras.inference.verdict import (
    HEADS,
    Verdict,
    calibrated_by,
    calibration_at,
    final_verdict,
    lines_needed,
    sigmoid,
    threshold,
)

LARGEST = 1e18  # whose square float32 still holds
UNCHANGED: Any = object()  # what `reset` leaves as it was


class LineStream:
    """A scan that is being recorded, judged line by line.

        stream = LineStream(load_predictor("h_si100.keras"))
        for line in lines:
            verdict = stream.push(line)

    The lines of the scan become those of the model as they would of the file of the scan
    (`data.resample`), so the last verdict is that on the file. Between two lines of the model
    the last verdict is held. A line without a signal, such as one that was lost, changes nothing.

    `last_was_lost` tells whether the last line showed no signal.

    To make one of a Keras model takes seconds, in which the network is compiled: one stream
    serves many scans of any size, with `reset` between them.

    Args:
        predictor: `Predictor` of a model that goes from line to line.
        lines: int. Lines that the complete scan will have. None where that is not known: it
            is taken as square, and may go on.
        pixels: int. Pixels of a line, None for those of the first line.
        size: tuple (width, height) of the complete scan in metres. None where that is not
            known: pixels are taken as square.
        min_lines: int. Lines before the first verdict, None for as many as the model needs to
            know the surface.

    Raises:
        MismatchError: The model does not go line by line.
        UsageError: `lines`, `pixels` or `size` is not what it must be.
    """

    def __init__(
        self,
        predictor: Predictor,
        lines: int | None = None,
        pixels: int | None = None,
        size: tuple | None = None,
        min_lines: int | None = None,
    ):
        self.predictor = predictor
        self.metadata = predictor.metadata
        self.classes = predictor.classes
        self._first_cache = predictor.start_scan()
        self._needed = lines_needed(self.metadata) if min_lines is None else min_lines
        self._calibration = _calibration(self.metadata)
        self.lines: int | None = None
        self.pixels: int | None = None
        self.size: tuple | None = None
        self.reset(lines, pixels, size)

    def reset(
        self,
        lines: int | None = UNCHANGED,
        pixels: int | None = UNCHANGED,
        size: tuple | None = UNCHANGED,
    ) -> None:
        """Forget everything: the next line is the first of a scan.

        Args:
            lines, pixels, size: As of the class; what is left out stays as it was.

        Raises:
            UsageError: As of the class. The stream is then as it was.
        """
        lines = self.lines if lines is UNCHANGED else _count(lines, "lines")
        pixels = self.pixels if pixels is UNCHANGED else _count(pixels, "pixels")
        size = self.size if size is UNCHANGED else size
        aspect_of(size, lines, pixels)
        self.lines, self.pixels = lines, pixels
        self.size = None if size is None else tuple(map(float, size))
        self._unknown_size = unknown_size(self.metadata, self.size, self.pixels)
        self._resampler: LineResampler | None = None  # from the first line on
        self._cache = self._first_cache
        self._total = (np.zeros(1), np.zeros(1))
        self._pushed = 0  # lines
        self._usable: list[int] = []  # numbers of those with a signal
        self._taken = 0  # lines that the model took
        self._verdict = None
        self._change_line = None
        self.last_was_lost = False
        self._tracker = None
        settings = self.metadata.get("change") or {}
        if settings.get("threshold") is not None:
            self._tracker = ChangeTracker(
                settings["threshold"],
                settings.get("delay", DELAY),
                settings.get("refractory", REFRACTORY),
            )

    def push(self, line: np.ndarray) -> Verdict:
        """Take the next line.

        Args:
            line: array of shape `(pixels,)`, at least 2. Heights in any unit; 0 where the
                line was lost.

        Returns:
            A `Verdict`.

        Raises:
            MismatchError: It is not a line, or has another number of pixels than was announced.
            InputError: It holds something else than finite numbers.
        """
        heights = check_line(line)
        if self.pixels is not None and len(heights) != self.pixels:
            raise MismatchError(
                f"Lines of {self.pixels} pixels were announced. Received: a line of "
                f"{len(heights)}. Reset the stream with the right `pixels`."
            )
        number, self._pushed = self._pushed, self._pushed + 1
        shape, deviation = line_shapes(heights)
        self.last_was_lost = not deviation
        if self.last_was_lost:
            return Verdict(line=number, change_line=self._change_line)
        if self._resampler is None:
            aspect = aspect_of(self.size, self.lines, len(heights))
            self._resampler = LineResampler(self.metadata, len(heights), self.lines, aspect)
            self._unknown_size = unknown_size(self.metadata, self.size, len(heights))
        if not self._resampler.complete:
            self._usable.append(number)
        # a copy: it is kept for the lines to come, and the next may be read into this one's place
        narrow = resample_pixels(heights.astype(float), self.metadata["pixels"], "float64")
        rows = self._resampler.push(narrow)
        if rows:
            same = rows[-1] is narrow and narrow.shape == heights.shape
            return self._take(rows, number, (shape, deviation) if same else None)
        if self._verdict is None:  # a first answer, replaced by the next line's
            line, _ = self._prepare(*line_shapes(self._resampler.first()))
            logits = self.predictor.step(line, self._cache)[0]
            return self._judge(logits, _heads(logits), number, 1)
        change = None if self._verdict.change is None else False
        self._verdict = replace(self._verdict, line=number, change=change)
        return self._verdict

    def _take(self, rows, number, known=None):
        """Give the model lines; `known` are the shape and deviation of the last."""
        called, logits, heads = [], None, None
        for row in rows:
            found = known if known and row is rows[-1] else line_shapes(row)
            line, total = self._prepare(*found)
            if not line.any():  # what lines have in common may cancel out
                continue
            self._total = total
            logits, self._cache = self.predictor.step(line, self._cache)
            self._taken += 1
            heads = _heads(logits)
            if self._tracker is not None and "change" in heads:
                called.append(self._tracker.push(heads["change"]))
        if logits is None:
            held = self._verdict or Verdict(line=number)
            return replace(held, line=number, change=None if held.change is None else False)
        if self._tracker is not None and self._resampler.complete:
            called += self._tracker.finish()
        called = [each for each in called if each is not None]
        if called:
            self._change_line = self._usable[self._resampler.begin(called[-1])]
        self._verdict = self._judge(logits, heads, number, self._taken, called)
        return self._verdict

    def _judge(self, logits, heads, number, seen, called=()):
        *calibration, sure, known = (
            each and each[min(seen, len(each)) - 1] for each in self._calibration
        )
        state = calibrated_by(logits["state"][0], *calibration)
        best = int(state.argmax())
        change, unknown = map(heads.get, HEADS)
        tracked = self._tracker is not None and change is not None
        unsure = None if sure is None else bool(state[best] < sure)
        strange = None if None in (unknown, known) else unknown > known
        verdict = Verdict(
            line=number,
            probabilities=tuple(state.tolist()),
            name=self.classes[best],
            confidence=float(state[best]),
            verdict=final_verdict(self.classes[best], unsure, strange, self._unknown_size),
            unsure=unsure,
            change_probability=change,
            change=bool(called) if tracked else None,
            change_line=self._change_line,
            unknown_probability=unknown,
            unknown=strange,
            unknown_size=self._unknown_size,
            seen=seen,
        )
        if seen >= self._needed:
            return verdict
        return Verdict(line=number, change_line=self._change_line, early=verdict)

    def _prepare(self, shape, deviation):
        if self.metadata.get("input", "standardised") == "scaled":
            line, total = scale_shapes(shape[None], deviation[None], self._total)
            return line[None], total
        return shape[None, None], self._total


def _calibration(metadata):
    """Return what a verdict depends on after each number of lines: lists, or None.

    They are the numbers of `calibrated_by`, and the thresholds "unsure" and "unknown".
    """
    counts = np.arange(1, metadata["max_lines"] + 1)
    limits = (threshold(metadata, name, counts) for name in ("unsure", "unknown"))
    return [
        None if each is None else np.broadcast_to(each, counts.shape).tolist()
        for each in (*calibration_at(metadata, counts), *limits)
    ]


def _heads(logits):
    """Return the probabilities of the heads beside "state": dict of float."""
    names = [name for name in HEADS if name in logits]
    found = sigmoid([logits[name][0, 0] for name in names]) if names else np.zeros(0)
    return dict(zip(names, found.tolist(), strict=True))


def _count(value, name):
    """Return a number of lines or pixels, or None.

    Raises:
        UsageError: It is neither.
    """
    fine = isinstance(value, Integral) and not isinstance(value, bool) and value > 0
    if value is None or fine:
        return value
    raise UsageError(
        f"`{name}` must be a number of {name}, or None. Received: {name}={value!r}."
    )


def check_line(line):
    """Return a line as an array of finite numbers.

    Raises:
        MismatchError: It is of another rank, or has fewer than two pixels.
        InputError: It holds something else than finite numbers.
    """
    line = np.asarray(line)
    if line.ndim != 1 or len(line) < 2:
        raise MismatchError(
            "A line has the shape (pixels,), with at least 2 pixels. "
            f"Received: shape {line.shape}. Push one line after the other."
        )
    if line.dtype.kind not in "buif":
        raise InputError(
            f"A line holds heights, real numbers. Received: {line.dtype}. Convert them."
        )
    largest = float(np.abs(line).max()) if line.dtype.kind == "f" else 0.0
    if not np.isfinite(largest):
        raise InputError(
            "The line holds NaN or infinity. Push 0 for all of a line that was lost."
        )
    if largest > LARGEST:
        raise InputError(
            f"The line holds heights of up to {largest:.1e}. Use another unit."
        )
    return line
