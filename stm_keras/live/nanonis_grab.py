"""Grab frames of a Nanonis controller: of the channel that is meant, and not too often."""

import math
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from stm_keras.live.events import Event, Note
from stm_keras.live.nanonis_channel import (
    Ask,
    ChannelError,
    Optional,
    Recorded,
    none_is,
    read_recorded,
)
from stm_keras.live.nanonis_codec import RefusedError
from stm_keras.terminal import one_line

CURE = "Check the channels of Scan Control in Nanonis, or name another one with --channel."


class Grabber:
    """What is asked of a controller for each scan, over as many connections as it takes.

    Args:
        tell: callable of an `Event`.
        every: float. Least time between any two grabs, in s.
        wanted: str. Name of the channel or its beginning, or None.
    """

    def __init__(self, tell: Callable[[Event], None], every: float, wanted: str | None):
        self.tell, self.every, self.wanted = tell, every, wanted
        self.recorded: Recorded | None = None
        self.candidates: deque[tuple[int, str]] = deque()  # channels that may be meant
        self.channel: tuple[int, str] | None = None  # the one that was grabbed
        self.others: list[str] = []  # that the candidates in a row were instead
        self.grabbed = [-math.inf, -math.inf]  # when each direction was
        self.unsettled = True  # another scan, perhaps with other settings
        self.checked = False  # that what is grabbed is what is meant
        self.problem = ""  # with what was grabbed last
        self.failed = False  # to judge this scan, and said so

    def attach(self, ask: Ask) -> None:
        """Go on over a new connection."""
        self.ask, self.optional = ask, Optional(ask)
        self.unsettled = True

    def begin(self) -> None:
        """Note that another scan has begun."""
        self.unsettled, self.failed = True, False

    def settle(self) -> bool:
        """Ask for channels and settings, once for each scan.

        Returns:
            False if no channel can be judged any more, which is told once for each scan.

        Raises:
            ChannelError: At the first time, no channel can be judged.
        """
        if not self.unsettled:
            return True
        self.unsettled = False
        self.optional.unknown.clear()
        try:
            self.recorded = read_recorded(self.ask, self.optional, self.wanted)
        except (ChannelError, RefusedError) as error:
            if self.recorded is None:
                raise
            self.candidates.clear()
            self._complain(str(error))
            return False
        channels = self.recorded.channels
        self.candidates = deque(sorted(channels, key=lambda each: each != self.channel))
        return True

    def check(self, wait: Callable[[float], object]) -> tuple[int, np.ndarray]:
        """Grab once, to see that the channel is the one that its name says.

        Args:
            wait: callable of a float. Waits so many seconds.

        Returns:
            the direction that was grabbed, and its frame.

        Raises:
            ChannelError: It is another one.
        """
        for turn in range(len(self.candidates)):
            way = turn % 2  # in turn, so that no line is asked for twice
            wait(max(0.0, self.soonest() - time.monotonic()))
            grabbed = self.grab(way)
            if grabbed is not None:
                self.checked = True
                return way, grabbed[0]
        raise ChannelError(self.problem)

    def soonest(self) -> float:
        """Return from when on anything may be grabbed, by the monotonic clock."""
        return max(self.grabbed) + self.every

    def grab(self, way: int) -> tuple[np.ndarray, bool] | None:
        """Grab a direction, 0 forward and 1 backward.

        Returns:
            float32 array of shape `(lines, pixels)`, and whether the scan goes up; None if the
            controller gives another channel.
        """
        number, name = self.candidates[0]
        try:
            told, frame, up = self.ask("Scan.FrameDataGrab", number, 1 - way)
        except RefusedError as error:
            told, self.problem = "", f"{error}. {CURE}"
        else:
            if told == name and frame.size:
                self.channel, self.others = (number, name), []
                return frame, bool(up)
            self.problem = (
                f"Nanonis names channel {number} '{one_line(name)}', and gives a frame of "
                f"'{one_line(told)}' with {len(frame)} lines for it. {CURE}"
            )
        finally:
            self.grabbed[way] = time.monotonic()
        self.candidates.rotate(-1)
        self.others.append(told)
        if len(self.others) >= len(self.candidates):
            # all: the slots were assigned anew, perhaps
            if len(self.others) > 1 and all(each not in ("", name) for each in self.others):
                self.problem = none_is(name, self.others)
            self.channel, self.others, self.unsettled = None, [], True
            if self.checked:
                self._complain(self.problem)
        return None

    def _complain(self, text):
        """Say once in each scan why it is not judged."""
        if not self.failed:
            self.failed = True
            self.tell(Note(text))
