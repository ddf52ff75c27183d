"""Judge a scan while it is recorded: lines in, a verdict after each."""

from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from stm_keras.data.preprocess import (
    has_signal,
    resample_pixels,
    scale_lines,
    standardise_lines,
)
from stm_keras.data.resample import LineResampler, aspect_of
from stm_keras.errors import InputError, MismatchError, UsageError
from stm_keras.evaluation.changes import DELAY, REFRACTORY, ChangeTracker
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.sizes import unknown_size
from stm_keras.inference.verdict import (
    HEADS,
    Verdict,
    calibrated,
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
        self.last_was_lost = not has_signal(heights)
        if self.last_was_lost:
            return Verdict(line=number, change_line=self._change_line)
        if self._resampler is None:
            aspect = aspect_of(self.size, self.lines, len(heights))
            self._resampler = LineResampler(self.metadata, len(heights), self.lines, aspect)
            self._unknown_size = unknown_size(self.metadata, self.size, len(heights))
        if not self._resampler.complete:
            self._usable.append(number)
        narrow = resample_pixels(heights, self.metadata["pixels"], "float64")
        rows = self._resampler.push(narrow)
        if rows:
            return self._take(rows, number)
        if self._verdict is None:  # a first answer, replaced by the next line's
            line, _ = self._prepare(self._resampler.first())
            return self._judge(self.predictor.step(line, self._cache)[0], number, 1)
        change = None if self._verdict.change is None else False
        self._verdict = replace(self._verdict, line=number, change=change)
        return self._verdict

    def _take(self, rows, number):
        called, logits = [], None
        for row in rows:
            line, total = self._prepare(row)
            if not line.any():  # what lines have in common may cancel out
                continue
            self._total = total
            logits, self._cache = self.predictor.step(line, self._cache)
            self._taken += 1
            if self._tracker is not None and "change" in logits:
                called.append(self._tracker.push(float(sigmoid(logits["change"][0, 0]))))
        if logits is None:
            held = self._verdict or Verdict(line=number)
            return replace(held, line=number, change=None if held.change is None else False)
        if self._tracker is not None and self._resampler.complete:
            called += self._tracker.finish()
        called = [each for each in called if each is not None]
        if called:
            self._change_line = self._usable[self._resampler.begin(called[-1])]
        self._verdict = self._judge(logits, number, self._taken, called)
        return self._verdict

    def _judge(self, logits, number, seen, called=()):
        if seen < self._needed:
            return Verdict(line=number, change_line=self._change_line)
        state = calibrated(logits["state"][0], self.metadata, seen)
        best = int(state.argmax())
        change, unknown = (
            float(sigmoid(logits[name][0, 0])) if name in logits else None for name in HEADS
        )
        tracked = self._tracker is not None and change is not None
        sure, known = (
            threshold(self.metadata, name, seen) for name in ("unsure", "unknown")
        )
        unsure = None if sure is None else bool(state[best] < sure)
        strange = None if None in (unknown, known) else unknown > known
        return Verdict(
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
        )

    def _prepare(self, heights):
        if self.metadata.get("input", "standardised") == "scaled":
            line, total = scale_lines(heights[None], self._total)
            return line[None], total
        return standardise_lines(heights)[None, None], self._total


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
    if line.dtype.kind == "f" and not np.isfinite(line).all():
        raise InputError(
            "The line holds NaN or infinity. Push 0 for all of a line that was lost."
        )
    if line.dtype.kind == "f" and np.abs(line).max() > LARGEST:
        raise InputError(
            f"The line holds heights of up to {np.abs(line).max():.1e}. Use another unit."
        )
    return line
