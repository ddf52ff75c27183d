"""Which rows of a grabbed frame are complete, and which of them are new.

Row 0 of a frame is its upper edge in both directions, and an up scan fills it from the last
row. Rows that are not reached yet are NaN, 0 or those of the scan before, and the row in
progress is there in packets of 16 pixels: so what is recorded says nothing, what changes does.
"""

import numpy as np

from stm_keras.scan import ENOUGH

PACKET = 16  # pixels that arrive together


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

    def begins_with(self, frame: np.ndarray, up: bool, count: int) -> bool:
        """Tell whether the first rows of a frame, at least one, were all recorded anew."""
        new = _ordered(frame, up)[:count]
        if self.frame is not None and frame.shape == self.frame.shape:
            old = _ordered(self.frame, up)[:count]
            new = np.where(_bits(new) != _bits(old), new, np.nan)
        return count > 0 and bool(_recorded(new).any(1).all())

    def see(self, frame: np.ndarray, up: bool, complete: int = 0) -> None:
        """Take the frame of a grab, when by the bells so many rows were complete."""
        changed = self._changes(frame, up)
        if self.touched is None:
            self.touched = np.zeros_like(changed)
            self.first = complete - (self.frame is not None)
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

        Its end, handed on by nobody yet, is there until it is overwritten. If all before it
        is, nobody can tell how far the next scan has come.

        Args:
            frame: float32 array of shape `(lines, pixels)`.
            up, new_up: bool. Directions of both scans.
            begun: int. Complete rows of the next scan, the one after which may be under way, by
                its bells.
        """
        if self.touched is None or self.frame is None or frame.shape != self.frame.shape:
            return self.done
        if self.done and not np.array_equal(
            *(_bits(_ordered(each, up)[self.done - 1]) for each in (self.frame, frame))
        ):
            return self.done
        there = _packets(_recorded(_ordered(frame, up)))
        touched = self.touched = (self.touched | self._changes(frame, up)) & there
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
            changed &= _recorded(new)
        return _packets(changed)

    def _whole(self, index, touched):
        """Tell whether a row is complete though no later one has begun.

        Of the last row of a frame half is enough: the tip was withdrawn, or pixels saturated.
        """
        share = touched[index].mean()
        return share == 1 or (index == len(touched) - 1 and share >= ENOUGH)


def _ordered(frame, up):
    """Return a frame with its rows in the order of acquisition."""
    return frame[::-1] if up else frame


def _recorded(frame):
    """Tell which pixels were recorded: no others are NaN or 0."""
    return np.isfinite(frame) & (frame != 0)


def _packets(pixels):
    """Return the packets in which any pixel is set: bool array of shape `(lines, packets)`."""
    return np.logical_or.reduceat(pixels, range(0, pixels.shape[1], PACKET), axis=1)


def _bits(frame):
    """Return a float32 frame as integers, in which NaN equals NaN."""
    return np.ascontiguousarray(frame).view(np.uint32)
