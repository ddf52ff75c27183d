"""What tests of programs that push lines share: the watch's side of the connection."""

import contextlib
import socket
import sys
import threading
import time

import numpy as np
from helpers import REPOSITORY

from stm_keras.errors import UsageError
from stm_keras.live.events import Line, ScanBegan, ScanEnded
from stm_keras.live.push import PushSource

WAIT = 20  # s, of which a machine that is busy needs few


@contextlib.contextmanager
def example(name):
    """Import a file of examples/ as if it lay in the working directory; forget it then."""
    folder = str(REPOSITORY / "examples")
    sys.path.insert(0, folder)
    try:
        yield __import__(name)
    finally:
        sys.path.remove(folder)
        for each in (name, "push_lines"):
            sys.modules.pop(each, None)


class PushedTo:
    """A watch that takes lines by TCP and answers each, in a block.

    Args:
        port: int. 0 for any that is free, which is in `port` then.
    """

    def __init__(self, port=0):
        self.port, self.events = port, []
        self.source = PushSource(f"push://127.0.0.1:{port}")

    def __enter__(self):
        until(self._open)
        self.port = int(self.source.name.rpartition(":")[2])
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.source.close()
        self.thread.join(WAIT)
        until(self._closed)

    def _open(self):
        """Begin to listen; False while a watch before this one still has the port."""
        self._coming = self.source.events()
        try:
            next(self._coming)
        except UsageError:
            return False
        return True

    def _closed(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return True
        return False

    def _read(self):
        for event in self._coming:
            self.events.append(event)
            if isinstance(event, Line):
                told = {"line": event.number, "row": event.row, "verdict": "rows"}
                told |= {"direction": event.direction, "change_line": None}
                self.source.answer(told)

    def scans(self):
        """Return the scans that came: list of (frame, lines, reason of the end or None)."""
        found = []
        for event in list(self.events):
            if isinstance(event, ScanBegan):
                found.append([event.frame, [], None])
            elif isinstance(event, Line):
                found[-1][1].append(event)
            elif isinstance(event, ScanEnded):
                found[-1][2] = event.reason
        return found

    def rows(self, scan=-1, direction="forward"):
        """Return the rows of a scan in the order in which they came."""
        lines = self.scans()[scan][1] if self.scans() else []
        return [each.row for each in lines if each.direction == direction]


def until(condition, seconds=WAIT):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def surface(lines, pixels, seed=0):
    """Make up heights in nm of which no pixel is 0: float array `(lines, pixels)`."""
    return np.random.default_rng(seed).normal(5, 0.1, (lines, pixels))
