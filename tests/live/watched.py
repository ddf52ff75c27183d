"""What tests of the Nanonis source share: scans, a source that is read, the rules of the wire."""

import contextlib
import threading
import time

import numpy as np

from stm_keras.live import nanonis, nanonis_follow
from stm_keras.live.events import Line, ScanBegan, ScanEnded, Tick
from stm_keras.live.nanonis import NanonisSource
from stm_keras.live.nanonis_client import Client


def scan(seed=0, lines=6, pixels=40):
    """Make up a scan: float32 array of shape `(lines, pixels)`, of which no pixel is 0."""
    heights = np.random.default_rng(seed).normal(1e-9, 1e-11, (lines, pixels))
    return heights.astype(np.float32)


class Watched:
    """A source that a thread reads, and what came of it."""

    def __init__(self, source):
        self.source, self.events, self.error = source, [], None
        self.hold = threading.Event()
        self.hold.set()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for event in self.source.events():
                if not isinstance(event, Tick):
                    self.events.append(event)
                self.hold.wait()
        except Exception as error:
            self.error = error

    def of(self, kind, direction=None):
        """Return the events of a kind, and lines of one direction."""
        found = [each for each in list(self.events) if isinstance(each, kind)]
        return [each for each in found if direction is None or each.direction == direction]

    def lines(self, direction="forward"):
        return self.of(Line, direction)

    def until(self, condition, seconds=10):
        """Wait until a condition holds; tell what came where it never does."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.error is None, self.error
            assert time.monotonic() < end, self._short()
            time.sleep(0.001)

    def _short(self):
        """Return what came last, for the message of a test that fails."""
        brief = {Line: lambda line: f"{line.direction} {line.number}"}
        return [brief.get(type(each), str)(each) for each in self.events[-30:]]

    def until_ended(self, count=1):
        self.until(lambda: len(self.of(ScanEnded)) == count)

    def scans(self):
        """Return the scans that came: list of (frame, forward lines, backward lines, reason)."""
        found = []
        for event in list(self.events):
            if isinstance(event, ScanBegan):
                found.append([event.frame, [], [], None])
            elif isinstance(event, Line):
                found[-1][1 + (event.direction == "backward")].append(event)
            elif isinstance(event, ScanEnded):
                found[-1][3] = event.reason
        return found


@contextlib.contextmanager
def watching(controller, every=0.0, ports=None, connected=True, **options):
    """Watch a controller with a source that is closed in the end; check the wire then."""
    ports = ports or controller.ports[2:]
    watched = Watched(NanonisSource("127.0.0.1", ports, every=every, **options))
    try:
        if connected:
            watched.until(lambda: watched.events)
        yield watched
    finally:
        watched.source.close()
        watched.hold.set()
        watched.thread.join(5)
        check_wire(controller, every)


def check_wire(controller, every):
    """See that only what may be asked was asked, in turn, and no more often than allowed."""
    log = list(controller.log)
    assert {each.name for each in log} <= Client.ALLOWED
    assert all(each.flag == 1 for each in log)
    assert not any(each.pipelined for each in log)
    grabs = [each for each in log if each.name == "Scan.FrameDataGrab"]
    for before, after in zip(grabs, grabs[1:], strict=False):
        assert after.at - before.at >= every
    waits = {each.connection for each in log if each.name == "Scan.WaitEndOfLine"}
    assert not waits & {each.connection for each in grabs}


def check_lines(lines, heights, up=False):
    """See that lines are those of a scan, each once, in order and in its place."""
    count = len(heights)
    assert [line.number for line in lines] == list(range(len(lines)))
    rows = [count - 1 - line.number if up else line.number for line in lines]
    assert [line.row for line in lines] == rows
    for line in lines:
        np.testing.assert_array_equal(line.heights, heights[line.row].astype(float))


def hurry(monkeypatch, look=0.02, pauses=(0.01, 0.02)):
    """Look and connect again sooner than at a microscope."""
    monkeypatch.setattr(nanonis_follow, "LOOK", look)
    monkeypatch.setattr(nanonis, "PAUSES", pauses)
