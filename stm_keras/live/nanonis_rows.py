"""Which rows of a grabbed frame are complete, by the numbers of bells or by what changed.

Row 0 of a frame is its upper edge in both directions, and an up scan fills it from the last
row. Rows that are not reached yet are NaN, 0 or those of the scan before, and the row in
progress is there in packets of 16 pixels: so what is recorded says nothing, what changes does.
"""

import numpy as np

from stm_keras.scan import ENOUGH

PACKET = 16  # pixels that arrive together
FEW = 3  # bells that may be missed between two that are heard
MOST_TIMES = 100_000  # bells remembered, whatever their numbers


class Bells:
    """How many rows of a scan are complete, by the bells that rang at the end of lines.

    The number of a line counts from 1 in the order of acquisition, or perhaps from the lower
    edge: which it is shows when it rises or falls by one.
    """

    def __init__(self):
        self.senses = {False: 1}  # of scans down and up, once known: 1 rises, -1 falls
        self.last: tuple[int, int] | None = None  # number and movement
        self.close()

    def close(self) -> None:
        """End the scan. What still rings for its last line is not of another one."""
        self.closed = True
        self.times: dict[tuple[int, int], float] = {}
        self.step = 0

    def hear(self, number: int, movement: int, passed: int, t: float) -> str | None:
        """Take a bell.

        Args:
            number: int. Of the line; below 1 in start-ups.
            movement: int. 0 forward, 1 backward; 2 and 3 are no lines.
            passed: int. Of a scan with several passes, of which the first counts.
            t: float. When it rang, in s since 1970.

        Returns:
            "line", "new" for a line of another scan, or None if it says nothing.
        """
        if number < 1 or movement not in (0, 1) or passed > 1:
            return None
        before, bell = self.last, (number, movement)
        if before and number == before[0] and (self.closed or movement <= before[1]):
            return None
        rises = before is not None and number > before[0]
        falls = before is not None and number < before[0]
        heard = "line"
        if self.closed:
            self.closed = False
        elif self.step and (falls if self.step > 0 else rises):
            heard = "new"
        elif not self.step and rises:
            self.step = 1
        elif not self.step and falls:
            near = number > 1 and before[0] - number <= FEW
            self.step, heard = (-1, "line") if near else (0, "new")
        if heard == "new":
            self.close()
            self.closed = False
        self.last = bell
        if len(self.times) < MOST_TIMES:
            self.times[bell] = t
        return heard

    def complete(self, lines: int, up: bool) -> tuple[int, int]:
        """Return how many rows are complete, forward and backward, of a scan of `lines`."""
        if self.closed or self.last is None:
            return 0, 0
        sense = self._sense(up)
        number, movement = self.last
        number = min(number, lines)
        other = lines - number + 1
        count = {1: number, -1: other, 0: min(number, other)}[sense]
        return count, count - 1 + movement

    def time_of(self, index: int, movement: int, lines: int, up: bool) -> float | None:
        """Return when a row was complete, or None if its bell was not heard."""
        number = lines - index if self._sense(up) < 0 else index + 1
        return self.times.pop((number, movement), None)

    def _sense(self, up):
        if self.step:
            self.senses[up] = self.step
        else:
            self.step = self.senses.get(up, 0)
        return self.step


class Rows:
    """The rows of one direction of a scan, found in its frame each time that it is grabbed.

    "Index" counts rows in the order of acquisition.

    Args:
        backward: bool. The direction along the line.
    """

    def __init__(self, backward: bool = False):
        self.backward = backward
        self.frame: np.ndarray | None = None
        self.restart(None)

    def restart(self, frame: np.ndarray | None) -> None:
        """Begin another scan, before which the frame was as given, None if nobody knows."""
        self.done = 0
        self.frame = frame
        self.touched: np.ndarray | None = None  # packets of this scan: (lines, packets)
        self.moved = False
        self.first: int | None = None  # index of the row under way when the watching began

    def overwritten(self, frame: np.ndarray, up: bool) -> bool:
        """Tell whether rows that were handed on have changed: another scan is there.

        The last one does not count: its last packet may come after its bell.
        """
        if self.frame is None or self.done < 2 or frame.shape != self.frame.shape:
            return False
        old, new = (_ordered(each, up)[: self.done - 1] for each in (self.frame, frame))
        return not np.array_equal(_bits(old), _bits(new))

    def see(self, frame: np.ndarray, up: bool, complete: int = 0) -> None:
        """Take the frame of a grab, when by the bells so many rows were complete."""
        changed = self._changes(frame, up)
        if self.touched is None:
            self.touched = np.zeros_like(changed)
            self.first = complete
        self.moved = bool(changed.any())
        self.touched |= changed
        self.frame = frame

    def by_bells(self, complete: int) -> int:
        """Return how many rows may be handed on, of those complete by the bells.

        The data of the last one may lag behind its bell: then part of it has changed and the
        end has not.
        """
        assert self.touched is not None
        assert self.first is not None
        last = complete - 1
        if last >= self.done and last > self.first:
            packets = self.touched[last]
            if packets.any() and not packets[0 if self.backward else -1]:
                return last
        return max(complete, self.done)

    def by_changes(self, over: bool = False) -> int:
        """Return how many rows are complete, as a later one has begun or the scan is over."""
        assert self.touched is not None
        begun = np.flatnonzero(self.touched.any(1))
        if not begun.size:
            return self.done
        last = int(begun[-1])
        return max(self.done, last + (over and self._whole(last, self.touched)))

    def rest(self, frame: np.ndarray, up: bool, new_up: bool, begun: int) -> int:
        """Return how many rows of the scan before are complete, in a frame of the next one.

        Its end, handed on by nobody yet, is there until it is overwritten.

        Args:
            frame: float32 array of shape `(lines, pixels)`.
            up, new_up: bool. Directions of both scans.
            begun: int. Complete rows of the next scan; the one after may be under way.
        """
        if self.touched is None or self.frame is None or frame.shape != self.frame.shape:
            return self.done
        touched = self.touched = self.touched | self._changes(frame, up)
        count, lines = self.done, len(frame)
        for index in range(self.done, lines):
            place = index if up == new_up else lines - 1 - index
            if place <= begun or not touched[index].any():
                break
            count = index + 1
        if count > self.done and not self._whole(count - 1, touched):
            count -= 1
        return count

    def take(self, frame: np.ndarray, up: bool, count: int) -> list[tuple[int, np.ndarray]]:
        """Hand on all rows below `count` that were not yet: list of (index, heights).

        Heights are float64 with NaN where nothing was recorded.
        """
        rows = _ordered(frame, up)[self.done : count].astype(np.float64)
        rows[~(rows != 0).any(1)] = np.nan  # not reached, where that is zero
        first, self.done = self.done, max(self.done, min(count, len(frame)))
        if rows.size and self.done == len(frame) and self.touched is not None:
            there = self.touched[-1]
            if there.any():  # what is left of the scan before is not of this one
                rows[-1, ~np.repeat(there, PACKET)[: frame.shape[1]]] = np.nan
        return [(first + i, row) for i, row in enumerate(rows)]

    def _changes(self, frame, up):
        """Return which packets came since the grab before, in the order of acquisition."""
        new = _ordered(frame, up)
        if self.frame is None or self.frame.shape != frame.shape:
            changed = np.zeros(frame.shape, bool)
        else:
            changed = _bits(new) != _bits(_ordered(self.frame, up))
            changed &= np.isfinite(new) & (new != 0)
        starts = range(0, frame.shape[1], PACKET)
        return np.logical_or.reduceat(changed, starts, axis=1)

    def _whole(self, index, touched):
        """Tell whether a row is complete though no later one has begun.

        Of the last row of a frame half is enough: the tip was withdrawn, or pixels saturated.
        """
        share = touched[index].mean()
        return share == 1 or (index == len(touched) - 1 and share >= ENOUGH)


def _ordered(frame, up):
    """Return a frame with its rows in the order of acquisition."""
    return frame[::-1] if up else frame


def _bits(frame):
    """Return a float32 frame as integers, in which NaN equals NaN."""
    return np.ascontiguousarray(frame).view(np.uint32)
