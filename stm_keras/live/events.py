"""What a source of scan lines tells: scans begin, lines come, scans end, connections are lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

FORWARD, BACKWARD = "forward", "backward"
UP, DOWN = "up", "down"
COMPLETE, STOPPED = "complete", "stopped"  # why most scans end
TICK = 1.0  # s: a source says at least so often that it is alive


@dataclass(frozen=True)
class Frame:
    """How a scan is recorded.

    Args:
        pixels: int. Pixels of a line. None where only the first line will tell.
        lines: int. Lines of the complete scan. None where nobody knows.
        channel: str. What the microscope calls it, such as "Z (m)".
        unit: str. In SI, such as "m"; "" where nobody says.
        size: tuple (width, height) of the complete scan in m, or None.
        center: tuple (x, y) of its middle in m, or None.
        angle: float. Of the frame, in degrees clockwise, or None.
        slow: str. UP or DOWN, the direction of the slow axis, or None.
        line_time: float. Of one line in one direction, in s, or None.
        bias: float. In V, or None.
        setpoint: float. In A, or None.
        absolute: bool. As of `Scan`.
    """

    pixels: int | None = None
    lines: int | None = None
    channel: str = "Z"
    unit: str = "m"
    size: tuple[float, float] | None = None
    center: tuple[float, float] | None = None
    angle: float | None = None
    slow: str | None = None
    line_time: float | None = None
    bias: float | None = None
    setpoint: float | None = None
    absolute: bool = False


@dataclass(frozen=True)
class ScanBegan:
    """A scan began.

    Args:
        frame: `Frame`.
        name: str. Of the scan: of its file, or of its number in a data set; "" without one.
        finished: bool. The scan is over already, and its lines come as fast as they can.
        quiet: bool. It was over before the watching began: nobody is to be alarmed by it.
        started: float. When it began, in s since 1970 by the clock of the microscope. None of a
            scan that begins now, and where nobody knows.
    """

    frame: Frame
    name: str = ""
    finished: bool = False
    quiet: bool = False
    started: float | None = None


@dataclass(frozen=True)
class Line:
    """A line of the scan that was begun last.

    Args:
        number: int. From 0, in the order of acquisition, for each direction.
        row: int. From 0 at the top of the frame.
        direction: str. FORWARD or BACKWARD.
        heights: float array of shape `(pixels,)`, from left to right in both directions, in
            the frame's unit; NaN where nothing was recorded.
        t_end: float. When the line was complete, in s since 1970 by this computer's clock.
    """

    number: int
    row: int
    direction: str
    heights: np.ndarray
    t_end: float


@dataclass(frozen=True)
class ScanEnded:
    """The scan is over.

    Args:
        reason: str. "complete", or why it ended before its last line, such as "stopped",
            "restarted", "other pixels", "source ended".
        path: str. The file in which it was saved, or None.
    """

    reason: str
    path: str | None = None


@dataclass(frozen=True)
class Connected:
    """The source is there: who answers, as one line of text."""

    text: str


@dataclass(frozen=True)
class Lost:
    """The source is not there any more, and is looked for. One event for each outage."""

    reason: str


@dataclass(frozen=True)
class Found:
    """The source is there again, after `Lost`."""

    reason: str


@dataclass(frozen=True)
class FileSeen:
    """A file of a folder, after its scans, which came as `ScanBegan`, `Line`, `ScanEnded`.

    Args:
        size: int. In bytes.
        mtime: float. When it was written, in s since 1970.
        scans: int. Scans in it that can be judged.
        error: str. Why it, or some of it, cannot be read; None if all is well.
    """

    path: Path
    size: int
    mtime: float
    scans: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Note:
    """Something that a user should know, as one line of text."""

    text: str


@dataclass(frozen=True)
class Tick:
    """Nothing happened for a while; the source is alive. At least one event comes each `TICK`."""


Event = ScanBegan | Line | ScanEnded | Connected | Lost | Found | FileSeen | Note | Tick


class Source(Protocol):
    """Where scan lines come from.

    `events` is read in one thread, the main one, and never waits longer than `TICK` without
    an event: so Ctrl-C ends it on every system. Errors that a user can mend when the
    watching begins (no such host, a wrong channel) are children of `StmKerasError`, raised by
    the first `next` of `events` at the latest; what happens later is an event.
    """

    name: str  # of the source, as a user names it: "nanonis://stm-pc", "simulated"

    def events(self) -> Iterator[Event]:
        """Yield what happens, until the source has ended, if it ever does."""
        ...

    def close(self) -> None:
        """Let go of connections, threads and files. May be called twice."""
        ...

    def answer(self, record: dict) -> None:
        """Take the record of each `line` event, for sources whose other side waits for it."""
        ...
