"""Lines in, a verdict after each: what a stream does whoever computes the network."""

from dataclasses import replace
from numbers import Integral

import numpy as np

from stm_keras.data.preprocess import scale_lines, standardise_lines, triangle_weights
from stm_keras.errors import InputError, MismatchError, UsageError
from stm_keras.evaluation.changes import DELAY, REFRACTORY, ChangeTracker
from stm_keras.runtime.verdict import HEADS, Verdict, calibrated, sigmoid, threshold

LARGEST = 1e18  # whose square float32 still holds


class Stream:
    """A scan that is being recorded.

    Args:
        facts: dict. What the model file says of itself.
        step: callable of line, float32 `(1, 1, pixels)`, and cache that returns a dict of
            logits of each head, `(1, outputs)`, and the next cache.
        cache: what `step` takes with the first line.
        lines: int. Lines that the complete scan will have, or None where unknown. A scan
            of more lines than the model's has its lines averaged in groups, so that
            structures keep the shape that the model learned; in between the last
            verdict is held. Otherwise lines are taken as they come.

    Raises:
        UsageError: `lines` is no number of lines.
    """

    def __init__(self, facts, step, cache, lines=None):
        if lines is not None and not (isinstance(lines, Integral) and lines > 0):
            raise UsageError(
                f"`lines` must be a number of lines, or None. Received: lines={lines!r}."
            )
        self.facts = facts
        self.classes = tuple(facts["classes"])
        self.lines = lines
        self._grouped = lines is not None and lines > facts["max_lines"]
        self._step = step
        self._first = cache
        self._weights = None  # of resampling, for lines as long as the last
        limit = facts.get("change")
        self._change_threshold = limit and limit.get("threshold")
        self.reset()

    def reset(self):
        """Forget everything: the next line is the first of a scan."""
        self._cache = self._first
        self._total = (np.zeros(1), np.zeros(1))
        self._pushed = 0  # lines
        self._taken = 0  # lines that the model took: groups
        self._group = []
        self._verdict = None
        self._tracker = None
        self._change_line = None
        if self._change_threshold is not None:
            settings = self.facts["change"]
            self._tracker = ChangeTracker(
                self._change_threshold,
                settings.get("delay", DELAY),
                settings.get("refractory", REFRACTORY),
            )

    def push(self, line):
        """Take the next line.

        Args:
            line: array of shape `(pixels,)`, any number of pixels from 2 on. Heights in
                any unit; 0 where the line was lost.

        Returns:
            A `Verdict`.

        Raises:
            MismatchError: It is no line.
            InputError: It holds something else than finite numbers.
        """
        heights = self._resample(check_line(line))
        number, self._pushed = self._pushed, self._pushed + 1
        if not self._grouped:
            return self._take(heights, number)
        self._group.append(heights)
        mean = _mean_line(self._group)
        if self._group_of(number + 1) > self._group_of(number):
            self._group = []
            return self._take(mean, number)
        if self._verdict is None:  # a first word, taken back with the next line
            line, _ = self._prepare(mean)
            return self._judge(self._step(line, self._cache)[0], number, 1)
        change = None if self._verdict.change is None else False
        self._verdict = replace(self._verdict, line=number, change=change)
        return self._verdict

    def _take(self, heights, number):
        line, self._total = self._prepare(heights)
        logits, self._cache = self._step(line, self._cache)
        self._taken += 1
        called = None
        if self._tracker is not None and "change" in logits:
            score = float(sigmoid(logits["change"][0, 0]))
            called = [self._tracker.push(score)]
            if number + 1 == self.lines:
                called += self._tracker.finish()
            called = [each for each in called if each is not None]
            if called:
                self._change_line = self._line_of(called[-1])
        self._verdict = self._judge(logits, number, self._taken, called)
        return self._verdict

    def _judge(self, logits, number, seen, called=()):
        state = calibrated(logits["state"][0], self.facts, seen)
        best = int(state.argmax())
        change, unknown = (
            float(sigmoid(logits[name][0, 0])) if name in logits else None for name in HEADS
        )
        tracked = self._tracker is not None and change is not None
        unsure = threshold(self.facts, "unsure", seen)
        strange = threshold(self.facts, "unknown", seen)
        return Verdict(
            line=number,
            probabilities=tuple(state.tolist()),
            name=self.classes[best],
            confidence=float(state[best]),
            unsure=None if unsure is None else bool(state[best] < unsure),
            change_probability=change,
            change=bool(called) if tracked else None,
            change_line=self._change_line,
            unknown_probability=unknown,
            unknown=None if None in (unknown, strange) else unknown > strange,
        )

    def _prepare(self, heights):
        if self.facts.get("input", "standardised") == "scaled":
            line, total = scale_lines(heights[None], self._total)
            return line[None], total
        return standardise_lines(heights)[None, None], self._total

    def _resample(self, heights):
        pixels, old = self.facts["pixels"], len(heights)
        if old == pixels:
            return heights
        if self._weights is None or len(self._weights) != old:
            self._weights = triangle_weights(old, pixels)
        return heights.astype(np.float32) @ self._weights

    def _group_of(self, number):
        return number * self.facts["max_lines"] // self.lines

    def _line_of(self, place):
        """Return the line of the scan with which one of the model's lines begins."""
        if not self._grouped:
            return place
        return -(-place * self.lines // self.facts["max_lines"])


def check_line(line):
    """Return a line as an array of finite numbers.

    Raises:
        MismatchError: It has another rank, or fewer than two pixels.
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


def _mean_line(lines):
    """Average lines; those without structure were lost and do not count."""
    there = [line for line in lines if standardise_lines(line).any()]
    return np.mean(there, axis=0) if there else np.zeros_like(lines[0])
