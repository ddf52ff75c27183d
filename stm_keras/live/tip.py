"""Two verdicts after every line: on the scan, and on the tip of now, since it last changed.

A network that has seen a good tip for a hundred lines takes long to believe in the bad one
that came after. So where a change was called, a second stream begins anew with the line of
the change: the lines since then are pushed again, and each new one goes to both.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stm_keras.data.preprocess import has_signal
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.stream import LineStream
from stm_keras.inference.verdict import Verdict, final_verdict
from stm_keras.live.events import Frame
from stm_keras.scan import bridge_gaps

KEPT = 512  # lines to look back for a change: it is called a few lines of the model late


@dataclass(frozen=True)
class TipVerdict:
    """What is said after a line.

    Args:
        scan: `Verdict` on all lines of the scan so far.
        since_change: `Verdict` on the lines since the last change that was called; its `line`
            is the line of that change. None where none was called.
        changed: bool. Whether a change was called with this line.
        change_probability: float. That of the change which was called, else None.
        lost: bool. The line has gaps in more than half of it, or shows no signal: it has no
            verdict and changes nothing.
    """

    scan: Verdict
    since_change: Verdict | None
    changed: bool
    change_probability: float | None
    lost: bool

    @property
    def tip(self) -> Verdict:
        """The verdict on the tip of now."""
        return self.scan if self.since_change is None else self.since_change

    def record(self, classes: tuple) -> dict:
        """Return the keys of a `line` record that are about the verdict, JSON-ready."""
        since = self.since_change
        return {
            **_named(self.scan, classes),
            "confidence": self.scan.confidence,
            "change_line": self.scan.change_line,
            "since_change": since and {"line": since.line, **_named(since, classes)},
        }


def _named(verdict, classes):
    shares = verdict.probabilities
    return {
        "verdict": verdict.verdict,
        "class": verdict.name,
        "probabilities": shares and dict(zip(classes, shares, strict=True)),
    }


class TipStream:
    """The lines of a scan in one direction, with two verdicts after each.

        stream = TipStream(load_onnx("h_si100.onnx"))
        stream.begin(frame)
        verdict = stream.push(heights)

    Args:
        predictor: `Predictor` of a model that goes from line to line.

    Raises:
        MismatchError: The model does not go line by line.
    """

    def __init__(self, predictor: Predictor):
        self._scan = LineStream(predictor)
        self._since = LineStream(predictor, min_lines=1)
        self.classes = predictor.classes
        self.begin(Frame())

    def begin(self, frame: Frame) -> None:
        """Forget everything: the next line is the first of a scan."""
        self._frame = frame
        self._scan.reset(frame.lines, frame.pixels, frame.size)
        self._lines: deque[np.ndarray] = deque(maxlen=KEPT)
        self._changes: deque[float | None] = deque(maxlen=KEPT)  # probability at each line
        self._number = 0  # of the next line
        self._change: int | None = None  # the line with which the present tip began
        self._tip: Verdict | None = None

    def push(self, heights: np.ndarray) -> TipVerdict:
        """Take the next line.

        Args:
            heights: float array of shape `(pixels,)`, any unit, NaN where nothing was recorded.

        Raises:
            MismatchError, InputError: As of `LineStream.push`.
        """
        line = whole_line(heights)
        number, self._number = self._number, self._number + 1
        self._lines.append(line)
        scan, probability = self._scan.push(line), None
        self._changes.append(scan.change_probability)
        changed = scan.change_line is not None and scan.change_line != self._change
        if changed:
            self._change = scan.change_line
            since = max(self._change - (number + 1 - len(self._lines)), 0)
            probability = max(filter(None, list(self._changes)[since:]), default=None)
            self._begin_tip(list(self._lines)[since:])
        elif self._change is not None:
            self._push_tip(line)
        lost = self._scan.last_was_lost
        tip = None if self._tip is None else self._judged(self._tip, scan)
        return TipVerdict(scan, None if lost else tip, changed, probability, lost)

    def _begin_tip(self, lines):
        """Push the lines since a change again, as a scan of their own."""
        frame, left, size = self._frame, None, self._frame.size
        if frame.lines is not None:
            left = max(frame.lines - self._change, 1)
            if size is not None:  # a pixel stays as long as it was
                size = (size[0], size[1] * left / frame.lines)
        self._since.reset(left, len(lines[-1]), size)
        self._tip = None
        for line in lines:
            self._push_tip(line)

    def _push_tip(self, line):
        told = self._since.push(line)
        if told.verdict is not None:
            self._tip = told

    def _judged(self, tip, scan):
        """Return the verdict on the tip of now; the surface is that of the whole scan."""
        verdict = tip.name
        if tip.name is not None:
            verdict = final_verdict(tip.name, tip.unsure, scan.unknown, scan.unknown_size)
        return replace(tip, line=self._change, verdict=verdict)


def whole_line(heights: Any) -> np.ndarray:
    """Return a line without gaps, from its median, in float64: all 0 where it was lost.

    Gaps are bridged and lost lines told as they are in files (`scan.bridge_gaps`,
    `has_signal`), before the level is taken off, which leaves rounding of its own. Without its
    level the line may become float32 anywhere: of 5 micrometres that number keeps no picometres.
    """
    (line,) = bridge_gaps(np.asarray(heights, np.float64)[None])
    if not (np.isfinite(line).all() and has_signal(line)):
        return np.zeros_like(line)
    return line - np.median(line)
