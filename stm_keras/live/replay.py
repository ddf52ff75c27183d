"""Recorded scans as a source: line by line, at the speed of a microscope or another."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.inference.find_files import find_files, is_dataset
from stm_keras.live.background import Background
from stm_keras.live.events import TICK, Connected, Event, Note, Tick
from stm_keras.live.recorded import RecordedScan, recorded_scans

SPEED = 10.0  # lines a second where nobody says
FORGIVEN = 5.0  # s of delay that are made up for; a computer may have slept for longer


class Pace:
    """When lines are due, by a clock that never jumps: a late line does not delay the next.

    Args:
        clock: callable that returns seconds.
        wait: callable that waits for so many seconds; True ends the waiting.
    """

    def __init__(self, clock: Callable[[], float], wait: Callable[[float], object]):
        self._clock, self._wait = clock, wait
        self._due = clock()

    def after(self, seconds: float) -> Iterator[Tick]:
        """Wait until so long after what was due last; yield a `Tick` each `TICK`."""
        now = self._clock()
        self._due += seconds
        if now - self._due > FORGIVEN:
            self._due = now
        while (left := self._due - now) > 0:
            if self._wait(min(left, TICK)):
                return
            now = self._clock()
            if left > TICK:
                yield Tick()


class PacedSource:
    """Scans one after the other, each line when it is due; what sources of such scans share.

    Args:
        name: str. Of the source.
        make: callable of `threading.Event` that returns an iterable of `RecordedScan` and of
            errors, see `Background`.
        speed: float. Lines a second; 0 is as fast as it goes, None as each scan was
            recorded. A backward line shares the time of its forward line then.
        clock, wait: as of `Pace`; for tests.

    Raises:
        UsageError: `speed` is below 0.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[threading.Event], Iterable[RecordedScan | StmKerasError]],
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ):
        if speed is not None and not 0 <= speed < float("inf"):
            raise UsageError(
                f"`speed` is a number of lines a second, or 0 for as fast as it goes. "
                f"Received: {speed}."
            )
        self.name, self._make, self._speed = name, make, speed
        self._closed = threading.Event()
        self._clock, self._wait = clock, wait or self._closed.wait
        self._background: Background | None = None

    def events(self) -> Iterator[Event]:
        """Yield the events of all scans, then end.

        Raises:
            InputError: The first scan cannot be had.
        """
        self._background = Background(self._make)
        items = self._background.items()
        first = list(islice(items, 1))  # or what is wrong with it
        yield Connected(self.text())
        pace = None
        for item in chain(first, items):
            if isinstance(item, Tick):
                yield item
            elif isinstance(item, StmKerasError):
                yield Note(f"A scan is left out: {item}")
            else:
                pace = pace or Pace(self._clock, self._wait)
                yield from self._play(item, pace)
            if self._closed.is_set():
                return

    def text(self) -> str:
        """Return what the source says of itself when it begins."""
        return f"{self.name} is replayed."

    def began(self, scan: RecordedScan) -> None:
        """Note that a scan begins; for sources that know more of it."""

    def _play(self, scan, pace):
        self.began(scan)
        yield scan.began()
        step = self._seconds(scan)
        for line in scan.lines():
            yield from pace.after(step)
            if self._closed.is_set():
                return
            yield replace(line, t_end=time.time())
        yield scan.ended()

    def _seconds(self, scan):
        """Return how long one line takes in one direction."""
        if self._speed is None and scan.scan.line_time:
            return scan.scan.line_time
        speed = SPEED if self._speed is None else self._speed
        ways = 1 if scan.backward is None else 2
        return 1 / (speed * ways) if speed else 0.0

    def close(self) -> None:
        """Stop."""
        self._closed.set()
        if self._background is not None:
            self._background.close()

    def answer(self, record: dict) -> None:
        """Do nothing: nobody waits for a verdict."""


class ReplaySource(PacedSource):
    """The scans of a file, or of the files of a folder, line by line; then it ends.

    Args:
        path: str or `Path`. What `stm-keras predict` reads: the file of a microscope, an
            array, a dataset, or a folder of them, file by file in the order of their names.
        speed, clock, wait: As of `PacedSource`. Where a file does not say how long its lines
            took, 10 a second.
        channel: str. As `read_scan` takes it.

    Raises:
        InputError: There is no such file, by the first event.
    """

    def __init__(
        self,
        path: str | Path,
        speed: float | None = None,
        channel: str | None = None,
        **timing: Callable,
    ):
        super().__init__(str(path), self._scans, speed, **timing)
        self._path, self._channel = Path(path), channel

    def _scans(self, closed):
        if not self._path.is_dir() or is_dataset(self._path):
            yield from recorded_scans(self._path, self._channel)
            return
        for file in find_files([self._path]):
            if file.error is not None:
                raise file.error
            try:
                yield from recorded_scans(file.path, self._channel)
            except StmKerasError as error:
                if not file.leave_out(error):
                    yield error
