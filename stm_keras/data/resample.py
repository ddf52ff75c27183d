"""Bring the lines of a scan to the lines and pixels of a model: one rule, whole or live.

A model judges square pixels. Each of its lines is a weighted mean of neighbouring lines of the
scan (a triangle filter, as of `preprocess.triangle_weights`), and it is made as soon as the last
of them has been recorded. So a scan that is pushed line by line, a scan that was stopped early
and the same scan read from a file give a model the same lines.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from stm_keras.data.preprocess import has_signal, resample_pixels
from stm_keras.errors import MismatchError, UsageError
from stm_keras.scan import Scan, bridge_gaps, middle

CLOSE = 1e-9  # lines: a triangle that ends at a line does not need it


class LineResampler:
    """Lines of a scan in, lines of a model out, as soon as they are certain.

    Args:
        facts: metadata of the model: `pixels` and `max_lines`.
        pixels: of a line of the scan.
        lines: of the complete scan. None where that is not known: it is taken as square, and
            the lines go on for as long as they are pushed.
        aspect: as of `aspect_of`.
    """

    def __init__(
        self, facts: dict, pixels: int, lines: int | None = None, aspect: float = 1.0
    ):
        ratio = aspect * facts["pixels"] / pixels  # lines of the model for one of the scan
        square = max(1, round(min(facts["max_lines"] / ratio, 1e9)))
        self.judged = square if lines is None else min(lines, square)
        self.wanted = min(max(1, round(self.judged * ratio)), facts["max_lines"])
        self.ends = lines is not None
        # A line of the model is a triangle of lines of the scan, `_width` to either side.
        self._scale = self.judged / self.wanted
        self._width = max(self._scale, 1.0)
        self._lines: deque[np.ndarray] = deque(
            maxlen=2 * int(np.ceil(self._width)) + 2
        )  # the latest
        self.seen = 0  # lines of the scan
        self.made = 0  # lines of the model

    @property
    def complete(self) -> bool:
        """Whether all lines that are judged have come, of a scan whose number is known."""
        return self.ends and self.seen >= self.judged

    def begin(self, line: int) -> int:
        """Return the line of the scan with which a line of the model begins."""
        return line * self.judged // self.wanted

    def push(self, line: np.ndarray) -> list:
        """Take the next line, float `(pixels of the model,)`; return those it completes."""
        if self.complete:  # a scan that is higher than wide: its first square is judged
            return []
        self._lines.append(line)
        self.seen += 1
        completed = []
        while self.complete or self._last(self.made) < self.seen:
            if self.ends and self.made == self.wanted:
                break
            completed.append(self._weigh(self.made))
            self.made += 1
        return completed

    def first(self) -> np.ndarray:
        """Return the first line of the model from the lines there are, before it is certain."""
        return self._weigh(0)

    def _centre(self, line):
        return (line + 0.5) * self._scale - 0.5

    def _last(self, line):
        """Return the last line of the scan that a line of the model needs."""
        return int(np.ceil(self._centre(line) + self._width - CLOSE)) - 1

    def _weigh(self, line):
        first = self.seen - len(self._lines)
        if self._scale == 1:
            return self._lines[line - first]
        distance = np.abs(np.arange(first, self.seen) - self._centre(line))
        weights = np.maximum(1 - distance / self._width, 0)
        there = np.flatnonzero(weights)
        if len(there) == 1:  # no rounding where nothing is mixed
            return self._lines[there[0]]
        return weights @ np.array(self._lines) / weights.sum()


@dataclass(frozen=True)
class Fitted:
    """A scan in the lines and pixels of a model."""

    # float32 (max_lines, pixels), from their median, at most 1; 0 where there is no line.
    heights: np.ndarray
    # (lines that are there + 1,): line of the scan with which each begins; the end of the last.
    bounds: np.ndarray
    planned: int  # lines of the model that the complete scan has
    left: int = 0  # recorded lines that are not judged, since the scan is higher than wide
    scale: float = 1.0  # a power of two: times it, heights are in the unit of the scan


def fit_heights(
    lines: np.ndarray,
    facts: dict,
    planned: int | None = None,
    size: tuple | None = None,
) -> Fitted:
    """Bring recorded lines to the lines and pixels of a model.

    Lines without a signal, constant or no more than a slope, were lost and do not count. Without
    a usable line the heights are all 0, and the bounds are `[0]`.

    Args:
        lines: array of shape `(lines, pixels)`, in the order of acquisition, any unit; NaN
            where not recorded.
        facts: metadata of the model: `pixels` and `max_lines`.
        planned: lines that the complete scan has; None for those there are.
        size: (width, height) of the complete scan; None where pixels are taken as square.

    Raises:
        MismatchError: It is not a scan.
    """
    lines = np.asarray(lines)
    if lines.ndim != 2 or lines.dtype.kind not in "buif" or min(lines.shape) < 1:
        raise MismatchError(
            "A scan has the shape (lines, pixels) and holds real numbers. "
            f"Received: {lines.dtype} of shape {lines.shape}."
        )
    planned, pixels = planned or len(lines), lines.shape[1]
    taken = LineResampler(facts, pixels, planned, aspect_of(size, planned, pixels))
    fitted = np.zeros((facts["max_lines"], facts["pixels"]), np.float32)
    usable = np.isfinite(lines).all(1)
    usable[usable] = has_signal(lines[usable])
    recorded = np.flatnonzero(usable)
    if not len(recorded):
        return Fitted(fitted, np.zeros(1, int), taken.wanted)
    kept = recorded[: taken.judged]
    heights = lines[kept].astype(np.float64)
    # Of any unit, so that neither squares overflow nor an offset takes the digits. By powers of
    # two, so that float32 rounds them alike in the unit of the scan, as a dataset keeps them.
    heights, first = _scaled(heights)
    heights, second = _scaled(heights - middle(heights))
    narrow = resample_pixels(heights, facts["pixels"], "float64")
    made = [row for line in narrow for row in taken.push(line)] or [taken.first()]
    fitted[: len(made)] = made
    starts = [kept[taken.begin(line)] for line in range(len(made))]
    bounds = np.array([*starts, kept[taken.seen - 1] + 1])
    scale = float(np.ldexp(1.0, first + second))
    return Fitted(fitted, bounds, taken.wanted, len(recorded) - len(kept), scale)


def _scaled(heights):
    """Return heights as parts of the power of two above the largest, and its exponent."""
    exponent = int(np.frexp(np.abs(heights).max())[1])
    return np.ldexp(heights, -exponent), exponent


def fit_scan_lines(scan: Scan, facts: dict, bridged: np.ndarray | None = None) -> Fitted:
    """Bring a scan of a microscope to a model; the bounds are lines of `scan.lines()`.

    `bridged` is what `bridge_gaps(scan.lines())` gave, if that is at hand.
    """
    lines = bridge_gaps(scan.lines()) if bridged is None else bridged
    return fit_heights(lines, facts, len(scan.heights), scan.size)


def lines_of(bounds: np.ndarray, lines: tuple | None) -> tuple | None:
    """Return the lines of a scan with which lines of the model begin, bounds as of `Fitted`."""
    if lines is None:
        return None
    return tuple(int(bounds[min(line, len(bounds) - 1)]) for line in lines)


def lines_seen(bounds: np.ndarray, lines: int) -> int:
    """Return how many lines of a scan so many lines of the model cover: int."""
    return 0 if lines < 1 else int(bounds[min(lines, len(bounds) - 1)])


def aspect_of(size: tuple | None, lines: int | None, pixels: int | None) -> float:
    """Return how much longer a pixel is along the slow axis than along a line.

    `size` is (width, height) of the frame; pixels are square where anything is not known.
    """
    if size is None:
        return 1.0
    fine = np.shape(size) == (2,) and np.isfinite(size).all() and min(size) > 0
    if not fine:
        raise UsageError(
            "`size` is the width and height of the frame in metres, two positive numbers. "
            f"Received: size={size!r}."
        )
    if lines is None or pixels is None:
        return 1.0
    return (size[1] / lines) / (size[0] / pixels)
