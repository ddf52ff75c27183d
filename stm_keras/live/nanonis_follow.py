"""Follow the scans of a Nanonis controller: when to grab, which lines are new, what ends a scan."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

from stm_keras.live.events import (
    BACKWARD,
    DOWN,
    FORWARD,
    UP,
    Event,
    Line,
    ScanBegan,
    ScanEnded,
)
from stm_keras.live.nanonis_bells import Bells, Heard
from stm_keras.live.nanonis_channel import HEIGHT, Ask, read_place, unit_of
from stm_keras.live.nanonis_grab import Grabber
from stm_keras.live.nanonis_rows import Rows

LOOK = 0.5  # s between two questions whether a scan runs, and where its frame lies
SLACK = 1.1  # lines between two grabs where no bell tells that a line is over
WAYS = (FORWARD, BACKWARD)  # and their numbers, 0 and 1, as in the movements of bells


class Follower:
    """What is known of the scan, over as many connections as it takes.

    Args:
        heard: `Heard`.
        tell: callable of an `Event`. May wait, so that no more lines pile up.
        every: float. Least time between any two grabs, in s.
        wanted: str. Name of the channel or its beginning, or None.
    """

    def __init__(
        self, heard: Heard, tell: Callable[[Event], None], every: float, wanted: str | None
    ):
        self.heard, self.tell = heard, tell
        self.grabber = Grabber(tell, every, wanted)
        self.bells = Bells()
        self.rows = (Rows(), Rows(backward=True))
        self.place: dict = {}
        self.shape, self.up = (0, 0), False
        self.running: bool | None = None  # what the controller says, if it does
        self.on = False  # a scan is on
        self.told = False  # it has begun, for those who listen
        self.over: str | None = None  # why it is another one than the one that was told
        self.unsure = False  # there were others in between
        self.most = 0  # lines that it had, by its bells
        self.rang = -math.inf  # when a line ended forward
        self.pace = 0.0  # s from one to the next
        self.calm = False  # no bell rang for a while, and that was looked at
        self.wish = [False, False]  # to grab each direction though no bell rang
        self.asked = [0, 0]  # complete lines when each direction was grabbed last
        self.looked = -math.inf

    @property
    def patience(self) -> float:
        """How long to wait for a line until it is news that none comes, in s."""
        recorded = self.grabber.recorded
        period = recorded.period if recorded else 1.0
        return min(2 * period + 1, 600.0)

    def attach(self, ask: Ask) -> None:
        """Go on over a new connection.

        Raises:
            ChannelError: At the first time, no channel can be judged.
        """
        self.grabber.attach(ask)
        self._look()
        self._settle()

    def check_channel(self) -> None:
        """Grab once, to see that the channel is the one that its name says.

        Raises:
            ChannelError: It is another one.
        """
        way, frame = self.grabber.check(self.heard.take)
        self.rows[way].restart(frame)

    def follow(self) -> None:
        """Tell what happens, until the watching ends.

        Raises:
            NanonisError: The connection is lost.
        """
        while True:
            bells, quiet = self.heard.take(self._pause())
            if self.heard.stopped:
                return
            for bell in bells:
                self._hear(bell)
            if quiet and not bells and not self.calm:
                self.calm = True
                self._wish_for_the_rest()
            if time.monotonic() >= self.looked + LOOK:
                self._look()
            self._settle()
            way = self._due()
            if way is not None and self._next_grab(way) <= time.monotonic():
                self._work(way)
            self._end_if_over()

    # When to ask

    def _pause(self):
        """Return for how long there is nothing to do but to listen, in s."""
        way = self._due()
        next_grab = math.inf if way is None else self._next_grab(way)
        return max(0.0, min(self.looked + LOOK, next_grab) - time.monotonic())

    def _due(self):
        """Return the direction to grab next, or None."""
        if not (self.on and self.grabber.candidates):
            return None
        complete = self.bells.complete(self._lines())
        if self.heard.mute and self.running is not False:
            due = [0, 1]
        else:
            known = [0 if self.over else rows.done for rows in self.rows]
            due = [
                way
                for way in (0, 1)
                if self.wish[way] or complete[way] > max(self.asked[way], known[way])
            ]
        if self.over and due:  # what the frame still has of the scan before
            return int(self.rows[0].done >= self._lines())
        if 0 in due and (self.wish[0] or complete[0] >= self._lines() - 1):
            return 0  # the end first, before it is overwritten; its bell may not ring
        return min(due, key=lambda way: self.grabber.grabbed[way], default=None)

    def _next_grab(self, way):
        """Return from when on a direction may be grabbed."""
        soonest = max(self.grabber.soonest(), time.monotonic())
        period = self._recorded().period
        if self.heard.mute and not self.wish[way]:
            return max(soonest, self.grabber.grabbed[way] + SLACK * period)
        period = max(self.pace, period)
        end = self.rang + self._left() * period
        if self._left() and soonest < end + period and end <= soonest + self.grabber.every:
            return end + period  # else it would be too soon for another one at the end
        return soonest

    def _left(self):
        """Return how many lines are left of a frame that the next scan will overwrite."""
        if not (self.told and self._recorded().continuous) or self.over:
            return 0
        return self._lines() - self.bells.complete(self._lines())[0]

    def _wish_for_the_rest(self):
        """Have the lines grabbed whose bells did not ring, as that of the last one."""
        self.wish = [self.on and rows.done < self._lines() for rows in self.rows]

    def _lines(self):
        if self.told:
            return self.shape[0]
        return self.grabber.recorded.lines if self.grabber.recorded else 0

    # What to ask

    def _look(self):
        """Ask whether a scan runs and where its frame lies."""
        status = self.grabber.optional("Scan.StatusGet")
        before, self.running = self.running, None if status is None else bool(status[0])
        self.looked = time.monotonic()
        if not self.on:
            started = self.running and before is not True
            if self.running is False:
                self.bells.close()  # what rang was the last word of a scan
            elif started or self.heard.mute or not self.bells.closed:
                self._restart()
            return
        place = read_place(self.grabber.optional)
        if self.running is False and before is not False:
            self._wish_for_the_rest()
        elif self.running and before is False:
            self._end("stopped")
            self._restart()
        elif _moved(self.place, place):
            if self.over:
                self.over = "other frame"
            else:
                self._end("other frame")
                self._restart()
        self.place = place

    def _settle(self):
        """Ask for the settings of another scan."""
        if not self.grabber.unsettled:
            return
        if self.grabber.settle():
            frame = self._recorded().frame
            self.place = {"center": frame.center, "size": frame.size, "angle": frame.angle}
        elif self.over:  # no frame of the next scan will be grabbed
            self._end(self.over, another=True)
            self._restart(keep_bells=True)
            self.grabber.unsettled = False

    def _recorded(self):
        assert self.grabber.recorded is not None
        return self.grabber.recorded

    # What it means

    def _hear(self, bell):
        complete = self.bells.complete(self._lines())[0]
        heard = self.bells.hear(*bell)
        if heard is None:
            return
        self.calm = False
        if bell[1] == 0:
            now, count = time.monotonic(), self.bells.complete(self._lines())[0]
            if count > complete > 0:
                self.pace = (now - self.rang) / (count - complete)
            self.rang = now
        if not self.on:
            self.looked = -math.inf  # is it a scan, or the last word of one?
        elif heard == "new":
            if self.told:
                self.unsure = self.over is not None
                self.over = self.over or "restarted"
                self.most = max(self.most, complete)
                self.asked, self.wish = [0, 0], [False, False]
                self.grabber.begin()
            else:
                self._restart(keep_bells=True)

    def _restart(self, keep_bells=False):
        """Begin to count the lines of another scan, of which bells may have rung already."""
        for rows in self.rows:
            rows.restart(None if self.heard.mute or self.on else rows.frame)
        if self.on and not keep_bells:
            self.bells.close()
        self.on, self.told, self.over, self.unsure = True, False, None, False
        self.most, self.asked, self.wish = 0, [0, 0], [False, False]
        self.grabber.begin()

    def _work(self, way):
        """Grab a direction and hand on what is new in it."""
        before = self.grabber.grabbed[way]
        grabbed = self.grabber.grab(way)
        wished, self.wish[way] = self.wish[way], False
        complete = self.bells.complete(self._lines())
        self.asked[way] = complete[way]
        if grabbed is None:
            return
        frame, up = grabbed
        t = time.time()
        rows = self.rows[way]
        if self.told and (reason := self._other_scan(rows, frame, up)):
            if self.heard.mute:  # about as many lines ended since then
                passed = (self.grabber.grabbed[way] - before) / self._recorded().period
                self.most = int(self.rows[way].done + passed + 0.5)
            self._end_with_rest(way, frame, up, reason)
            self._restart(keep_bells=True)
            self._settle()
        if not self.told:
            self.shape, self.up = frame.shape, up
        self.bells.up = up
        complete = self.bells.complete(len(frame))
        self.asked[way] = complete[way]
        rows.see(frame, up, complete[way])
        self._hand_on(way, frame, self._new_end(way, complete[way], wished), t)

    def _end_with_rest(self, way, frame, up, reason):
        """End a scan with what a frame of the next one still has of it."""
        rows, lines = self.rows[way], len(frame)
        last = self.bells.complete(self.shape[0])[0]
        begun = self.bells.complete(lines, up)[way]
        if self.over is None and not rows.begins_with(frame, up, begun):
            self.most = max(self.most, last)
            self.bells.close()  # they rang for the scan before
            begun = 0 if up == self.up else lines  # as nobody knows
        if frame.shape == self.shape and not self.unsure:
            end = rows.rest(frame, self.up, up, begun)
            self._hand_on(way, frame, end, time.time(), rang=False)
        self._end(reason, another=True)

    def _other_scan(self, rows, frame, up):
        """Return why what was grabbed is of another scan than the one that was told."""
        if frame.shape != self.shape:
            return "other pixels"
        if up != self.up:
            return "other direction"
        return self.over or ("restarted" if rows.overwritten(frame, up) else None)

    def _new_end(self, way, complete, wished):
        """Return how many lines of a direction may be handed on."""
        rows, stopped = self.rows[way], self.running is False
        if stopped:
            end = max(rows.by_bells(complete), rows.by_changes(over=True))
            forward = self.rows[0].done
            return max(end, forward - (forward < len(rows.frame))) if way else end
        end = rows.by_changes() if self.heard.mute else rows.by_bells(complete)
        still = wished or (self.heard.mute and not rows.moved)
        last = rows.by_changes(over=True) if still else 0
        return last if last == len(rows.frame) else end

    def _hand_on(self, way, frame, count, t, rang=True):
        """Tell the first lines of a frame, as far as they are new.

        Each was complete when its bell rang, or else at `t`, when the frame was grabbed.
        """
        lines = len(frame)
        for index, heights in self.rows[way].take(frame, self.up, count):
            if not self.told:
                self.told = True
                self.tell(ScanBegan(self._describe()))
            end = self.bells.time_of(index, way, lines) if rang else None
            row = lines - 1 - index if self.up else index
            self.tell(Line(index, row, WAYS[way], heights, t if end is None else end))

    def _describe(self):
        assert self.grabber.channel is not None
        name = self.grabber.channel[1]
        return replace(
            self._recorded().frame,
            lines=self.shape[0],
            pixels=self.shape[1],
            channel=name,
            unit=unit_of(name),
            slow=UP if self.up else DOWN,
            absolute=name == HEIGHT,
        )

    def _end_if_over(self):
        if not self.on or self.over:
            return
        lines = self._lines()
        whole = self.told and all(rows.done >= lines for rows in self.rows)
        waits = any(self.wish) and self.grabber.candidates
        if (whole and not self.heard.mute) or (self.running is False and not waits):
            self._end("stopped")
            self.on = False
            self.bells.close()

    def _end(self, reason, another=False):
        """Tell that the scan is over.

        Args:
            reason: str. Why, unless it is complete.
            another: bool. The next one has begun: then the last line may be missing.
        """
        if not self.told:
            return
        lines = self.shape[0]
        complete = 0 if another else self.bells.complete(lines)[0]
        most = max(self.most, complete, self.rows[0].done)
        self.told = False
        self.tell(ScanEnded("complete" if most >= lines - another else reason))


def _moved(before, after):
    """Tell whether a frame lies elsewhere, by more than the rounding of its numbers."""
    if not before.get("size") or not after.get("size"):
        return False
    nearly = 1e-3 * max(before["size"])
    old, new = (each["center"] + each["size"] for each in (before, after))
    turned = abs(before["angle"] - after["angle"]) > 0.01
    return turned or any(abs(a - b) > nearly for a, b in zip(old, new, strict=True))
