"""The bells that a Nanonis controller rings at the end of lines, and what their numbers say."""

import threading
from collections import deque

Bell = tuple[int, int, int, float]  # number of the line, movement, pass, s since 1970
FEW = 3  # bells that may be missed between two that are heard
MOST_TIMES = 100_000  # bells remembered, whatever their numbers
MOST_HEARD = 4096  # bells that wait; rows come from frames, so that more add nothing


class Heard:
    """What the thread that waits for lines has heard, kept for the one that grabs."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.bells: deque[Bell] = deque(maxlen=MOST_HEARD)
        self.quiet = False
        self.mute = False  # the release knows no line events
        self.stopped = False

    def tell(self, bell: Bell | None = None, **facts: bool) -> None:
        """Add a bell, or set `quiet`, `mute` or `stopped`."""
        with self.changed:
            if bell is not None:
                self.bells.append(bell)
            vars(self).update(facts)
            self.changed.notify_all()

    def take(self, seconds: float) -> tuple[list[Bell], bool]:
        """Wait until something is heard, no longer than so many seconds.

        Returns:
            the bells that rang, and whether a wait for one ended without.
        """
        with self.changed:
            if not (self.bells or self.quiet or self.stopped):
                self.changed.wait(seconds)
            bells, quiet = list(self.bells), self.quiet
            self.bells.clear()
            self.quiet = False
        return bells, quiet


class Bells:
    """How many rows of a scan are complete, by the bells that rang at the end of lines.

    The number of a line counts from 1 in the order of acquisition, or perhaps from the upper
    edge in up scans too: which it is shows when it rises or falls.
    """

    def __init__(self):
        self.senses = {False: 1}  # of scans down and up, once known: 1 rises, -1 falls
        self.last: tuple[int, int] | None = None  # number and movement
        self.close()

    def close(self) -> None:
        """End the scan. What still rings for its last line is not of another one."""
        self.closed = True
        self.times: dict[tuple[int, int], float] = {}
        self.step = 0  # 1 if the numbers rise, -1 if they fall, 0 as long as nobody knows
        self.up: bool | None = None  # the direction of the scan, once a frame told it

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
        before, bell = self.last or (0, 1), (number, movement)
        if number == before[0] and (self.closed or movement <= before[1]):
            return None
        rises, falls = number > before[0], number < before[0]
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

    def complete(self, lines: int, up: bool | None = None) -> tuple[int, int]:
        """Return how many rows are complete, forward and backward, of a scan of `lines`.

        `up` is its direction, if it is not yet known that these bells are of it.
        """
        if self.closed or self.last is None:
            return 0, 0
        number, movement = self.last
        number = min(number, lines)
        other = lines - number + 1
        count = {1: number, -1: other, 0: min(number, other)}[self._sense(up)]
        return count, count - 1 + movement

    def time_of(self, index: int, movement: int, lines: int) -> float | None:
        """Return when a row was complete, or None if its bell was not heard."""
        number = lines - index if self._sense() < 0 else index + 1
        return self.times.pop((number, movement), None)

    def _sense(self, up=None):
        if self.up is not None and self.step:
            self.senses[self.up] = self.step
        up = self.up if up is None else up
        return self.step or (0 if up is None else self.senses.get(up, 0))
