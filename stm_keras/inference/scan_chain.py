"""The verdict with the scans before: of one scan after the other, as they are recorded or read.

    chain = ScanChain(Context.of(predictor.metadata), predictor)
    chain.begin(Circumstances(began=0.0, bias=-1.5))
    chain.see(line)  # of absolute heights
    told = chain.judge(probabilities, lines=8)
    chain.end(probabilities, changed=False, ended=300.0)

It is a verdict of its own: that on the scan alone stays as it is, and no tip change is called or
missed by it. Where it cannot be given it says why.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from stm_keras.inference.context import Context
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.verdict import (
    FADED,
    ScanContext,
    final_verdict,
    lines_needed,
    threshold,
)
from stm_keras.scan import ENOUGH, middle

PAUSE = 3600.0  # s without a scan, after which the tip may be another
JUMP = 0.2  # share by which bias or setpoint may differ between scans of one tip
# m: drift and creep of an hour take some nm, a frame that is 500 nm away or sloped by a degree
# more over so much 9 nm, terraces 0.1 nm each. A coarse step, a crash, a new place take tens.
HEIGHT_JUMP = 1e-8
NANO = 1e9
LAST = 5  # lines whose middle is the height at which a scan ended
FIRST = "no scan before it"
CHANGED = "a tip change was called in the scan before"
CHANGED_NOW = "a tip change was called in this scan"
PAUSED = "more than an hour after the scan before"
UNKNOWN = "the surface or size of the scan is unknown"
NO_TIME = "nobody says when the scan began"
NOT_AFTER = "the scan before it in the list is a later one"
ELSEWHERE = "the scan before is of another folder or image"
OTHER = "another {} than in the scan before"
JUMPED = "the height jumped by {:.0f} nm after the scan before"


@dataclass(frozen=True)
class Circumstances:
    """How a scan is recorded, as far as it tells whether the tip can be that of the scan before.

    Args:
        began: float. When it began, in s of any clock; None where nobody knows.
        bias: float. In V, or None.
        setpoint: float. In A, or None.
        place: str. What must be the same, such as the folder of its file.
    """

    began: float | None
    bias: float | None = None
    setpoint: float | None = None
    place: str = ""


class ScanChain:
    """What the scans before say, from scan to scan.

    Args:
        context: `Context` of the model.
        predictor: `Predictor`, whose threshold says when a verdict is unsure.
    """

    def __init__(self, context: Context, predictor: Predictor):
        self.context, self.predictor = context, predictor
        self.forget(FIRST)

    def forget(self, reason: str) -> None:
        """Forget all scans; the next has none before it, for this reason."""
        self._expected: np.ndarray | None = None
        self._last: Circumstances | None = None  # of the scan before, from its end on
        self._now: Circumstances | None = None
        self._ended: float | None = None
        self._scans = 0  # before the present one
        self._known = False  # whether the scan just before was judged: its surface
        self._span: tuple[float, float] | None = None  # of heights of the scan before
        self._heights: list[float] = []  # of lines of the present scan
        self._absent: str = reason

    def begin(self, now: Circumstances) -> None:
        """Begin with the next scan: forget those before if the tip may be another since."""
        reason = self._break(now)
        if reason is not None:
            self.forget(reason)
        self._now, self._heights = now, []

    def _break(self, now):
        """Return why scans before say nothing of this one, or None."""
        last = self._last
        if now.began is None:
            return NO_TIME
        if last is None:
            return CHANGED if self._absent == CHANGED else FIRST
        if last.place != now.place:
            return ELSEWHERE
        if now.began < last.began:
            return NOT_AFTER
        if now.began - self._ended > PAUSE:
            return PAUSED
        for name in ("bias", "setpoint"):
            if _jumps(getattr(last, name), getattr(now, name)):
                return OTHER.format(name)
        return None

    def see(self, line: np.ndarray) -> None:
        """See where a line of the present scan lies; forget the scans before after a jump.

        What lies between the begin and the end of the scan before is none: a frame has a slope,
        and the next one begins at either end of it.

        Args:
            line: float array `(pixels,)`. Positions of the Z piezo in m, NaN where nothing was
                recorded; lines whose heights have a level of their own must not be seen.
        """
        recorded = line[np.isfinite(line)]
        if len(recorded) < ENOUGH * len(line):
            return
        height, now = float(middle(recorded)), self._now
        if not self._heights and self._span is not None:
            jump = max(self._span[0] - height, height - self._span[1])
            if jump > HEIGHT_JUMP:
                self.forget(JUMPED.format(NANO * jump))
                self._now = now
        self._heights.append(height)

    def judge(
        self,
        probabilities: Iterable[float] | None,
        lines: int | None,
        changed: bool = False,
        unknown: bool = False,
    ) -> ScanContext:
        """Judge the present scan after some lines, with the scans before.

        Args:
            probabilities: of the classes, by the lines of the scan alone, `early` where these
                are few; None where they have no signal.
            lines: int. Lines of the model behind them.
            changed: bool. Whether a tip change was called in the scan.
            unknown: bool. Whether the surface or size of the scan is called unknown.
        """
        if lines is not None and self.context.weight(lines) <= 0:
            return ScanContext(absent=FADED)
        if self._expected is None:
            return ScanContext(absent=self._absent)
        if changed or unknown:
            return ScanContext(absent=CHANGED_NOW if changed else UNKNOWN)
        if probabilities is None or lines < self._needed():
            return ScanContext(scans=self._scans)
        alone = np.asarray(tuple(probabilities))
        shares = self.context.combine(self._expected, alone, lines)
        best = int(shares.argmax())
        name, confidence = self.predictor.classes[best], float(shares[best])
        limit = threshold(self.predictor.metadata, "unsure", lines)
        unsure = None if limit is None else bool(confidence < limit)
        return ScanContext(
            classes=self.predictor.classes,
            probabilities=tuple(shares.tolist()),
            name=name,
            confidence=confidence,
            verdict=final_verdict(name, unsure),
            scans=self._scans,
        )

    def _needed(self):
        """Return the lines of the present scan from which on it is judged."""
        alone, least = lines_needed(self.predictor.metadata), self.context.min_lines
        return min(alone, least) if self._known and least is not None else alone

    def end(
        self,
        probabilities: Iterable[float] | None,
        changed: bool,
        ended: float | None = None,
    ) -> None:
        """End the present scan: take its answer for what is expected of the next.

        Args:
            probabilities: of the classes, by all of its lines; None where it was not judged, or
                its surface or size is called unknown.
            changed: bool. Whether a tip change was called in it.
            ended: float. When it ended, by the clock of `Circumstances.began`, None where nobody
                knows: as it began.
        """
        now, expected = self._now, self._expected
        if now is None or now.began is None:
            return
        if changed:
            self.forget(CHANGED)
            return
        if probabilities is not None:
            alone = np.asarray(tuple(probabilities))
            self._expected = self.context.expect(expected, alone)
            self._scans += 1
        self._known = probabilities is not None
        self._span = None
        if self._heights:
            ends = self._heights[0], float(middle(np.array(self._heights[-LAST:])))
            self._span = min(ends), max(ends)
        self._last, self._ended = now, now.began if ended is None else ended


def seconds(started: datetime | None) -> float | None:
    """Return a time by the clock of a microscope, which knows no zone, in s; None of None."""
    return None if started is None else started.replace(tzinfo=UTC).timestamp()


def _jumps(before, now):
    """Tell whether a quantity is another than before; not where nobody says."""
    if before is None or now is None:
        return False
    return abs(now - before) > JUMP * max(abs(before), abs(now))
