"""Watch some lines of a scan for a report: what rings, and which rows of the frame change."""

import threading
import time
from collections.abc import Callable

import numpy as np

from stm_keras.live.connect_asked import Asked, plain, without_host
from stm_keras.live.nanonis_codec import NanonisError

RETURNS = 20  # of the command that waits for the end of a line
FRAMES = 5, 20  # grabbed: at least where lines are told, and at most
MOST_ROWS = 64  # that changed, listed of each frame
STEP = 0.2  # s after which a wait looks for Ctrl-C, on Windows too
TELL = 10.0  # s between two words on how it goes
NAN, ZEROS, PART, DATA = "NaN", "zeros", "part", "data"


class LineWatch:
    """Wait for the ends of lines on one connection, and grab frames on the other.

    Args:
        grabs: `Asked`.
        waits: `Asked`, or None if no second port answers.
        number: int. Of the channel that is grabbed.
        period: float. Of a line both ways in s.
        end: float. When it must be over, by the monotonic clock.
    """

    def __init__(
        self, grabs: Asked, waits: Asked | None, number: int, period: float, end: float
    ):
        self.grabs, self.waits, self.number = grabs, waits, number
        self.period, self.end = period, end
        self.lines: list[dict] = []
        self.frames: list[dict] = []
        self.unscanned: set[str] = set()  # what rows held that were not reached yet
        self.missing: dict[str, str] = {}
        self.last: np.ndarray | None = None
        self.rang = threading.Event()

    def run(self, running: bool, tell: Callable[[str], object]) -> None:
        """Watch; where no scan runs, only see what a wait returns and whether frames stay."""
        listener = threading.Thread(target=self._listen, args=(running,), daemon=True)
        if self.waits is not None:
            listener.start()
        else:
            self.missing["lines"] = "A second port is needed, and only one answers."
        told = time.monotonic()
        try:
            while len(self.frames) < self._enough(running, listener.is_alive()):
                self._wait(listener.is_alive())
                if time.monotonic() > self.end:
                    break
                self._grab()
                if time.monotonic() - told > TELL:
                    told = time.monotonic()
                    tell(f"{len(self.lines)} line ends, {len(self.frames)} frames so far.")
        except NanonisError as error:
            self.missing["frames"] = without_host(error, self.grabs.host)
        while listener.is_alive():
            listener.join(STEP)

    def _enough(self, running, listening):
        """Return how many frames suffice."""
        if not running:
            return 2
        rows_are_all = "lines" in self.missing
        return FRAMES[1] if listening or rows_are_all else FRAMES[0]

    def _listen(self, running):
        """Keep what the waits for the end of a line return; runs in a thread of its own."""
        try:
            while len(self.lines) < RETURNS:
                patience = min(2 * self.period + 1, self.end - time.monotonic())
                if patience <= 0:
                    break
                milliseconds = round(patience * 1000)
                timed_out, number, movement, passed = self.waits.ask(
                    "Scan.WaitEndOfLine", milliseconds, wait=patience
                )
                self.lines.append(
                    {
                        "at": self.waits.now(),
                        "timed_out": timed_out,
                        "number": number,
                        "movement": movement,
                        "pass": passed,
                    }
                )
                if not timed_out and movement == 0:
                    self.rang.set()
                if timed_out and not running:
                    break
        except NanonisError as error:
            self.missing["lines"] = without_host(error, self.waits.host)
        self.rang.set()  # so that nobody waits for a line any more

    def _wait(self, listening):
        """Wait for a line, or for the time of one: no line is grabbed twice."""
        if listening:
            left = max(0.0, self.end - time.monotonic())
            self.rang.wait(min(2 * self.period + 1, left))
        else:
            time.sleep(self.period)
        self.rang.clear()

    def _grab(self):
        """Grab a frame, and note which rows differ from the one before and what lies ahead."""
        name, frame, up = self.grabs.grab(self.number)
        entry = {"at": self.grabs.now(), "name": plain(name), "up": bool(up)}
        self.frames.append(entry | describe_frame(frame))
        before, self.last = self.last, frame
        if before is None or before.shape != frame.shape:
            return
        changed = frame.view(np.uint32) != before.view(np.uint32)  # in which NaN equals NaN
        rows = np.flatnonzero(changed.any(1))
        self.frames[-1]["changed"] = [
            [int(row), *map(int, np.flatnonzero(changed[row])[[0, -1]])]
            for row in rows[:MOST_ROWS]
        ]
        if rows.size:
            kinds = _kinds(frame)
            self.unscanned |= set(kinds[: rows[0]] if up else kinds[rows[-1] + 1 :])


def describe_frame(frame: np.ndarray) -> dict:
    """Return the size of a frame, what its rows hold from the top, and statistics.

    Args:
        frame: float32 array of shape `(lines, pixels)`.

    Returns:
        dict of `rows`, `pixels`, `holds` (list of [kind, number of rows] from the top),
        and `mean`, `std`, `min`, `max` of all that is recorded, in the channel's unit.
    """
    holds: list[list] = []
    for kind in _kinds(frame):
        if holds and holds[-1][0] == kind:
            holds[-1][1] += 1
        else:
            holds.append([kind, 1])
    values = frame[np.isfinite(frame) & (frame != 0)].astype(float)
    statistics = {}
    if values.size:
        statistics = {
            name: plain(float(getattr(values, name)()))
            for name in ("mean", "std", "min", "max")
        }
    return {"rows": len(frame), "pixels": frame.shape[1], "holds": holds} | statistics


def compare_directions(forward: np.ndarray | None, backward: np.ndarray) -> dict | None:
    """Return how alike backward lines are to forward ones, as they are and mirrored.

    Returns:
        dict of two correlations, `straight` and `mirrored`; None if no rows can be compared.
    """
    if forward is None or forward.shape != backward.shape:
        return None
    whole = [kinds == DATA for kinds in map(np.array, map(_kinds, (forward, backward)))]
    there = np.logical_and(*whole)
    if not there.any():
        return None
    ahead, back = (_centred(each[there]) for each in (forward, backward))
    scale = np.sqrt((ahead**2).sum() * (back**2).sum())
    if not scale > 0:
        return None
    alike = {"straight": (ahead * back).sum(), "mirrored": (ahead * back[:, ::-1]).sum()}
    return {name: round(float(value / scale), 3) for name, value in alike.items()}


def _kinds(frame):
    """Return what each row holds: NaN, zeros, data, or part of a line."""
    recorded = np.isfinite(frame) & (frame != 0)
    choices = [np.isnan(frame).all(1), (frame == 0).all(1), recorded.all(1)]
    return np.select(choices, [NAN, ZEROS, DATA], PART).tolist()


def _centred(rows):
    rows = rows.astype(float)
    return rows - rows.mean(1, keepdims=True)
