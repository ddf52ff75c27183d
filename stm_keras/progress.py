"""What a command says of its progress on stderr: a bar on a terminal, lines in a log.

On a terminal the last line shows what is being done, with a bar and the time left where that is
known, so that no command is silent for longer than two seconds. In a log a long stage gets a line
now and then.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator

from stm_keras.terminal import Outlet, printable, redraw

SILENCE = 1.0  # s without a text after which a terminal shows what is being done
PACE = 0.25  # s between two drawings
LOGGED = 10.0  # s between two lines of a bar in a log
WIDTH = 24  # characters of a bar


class Progress:
    """What is being done, shown on a stream while others write to it as well.

    Args:
        stream: open text file: that of stderr.
        quiet: bool. Whether to show nothing.
        timed: bool. Whether lines say the time since the command began.
    """

    def __init__(self, stream, quiet: bool = False, timed: bool = False):
        # below the outlet, which clears the line of progress before it writes
        self.stream = stream.stream if isinstance(stream, Outlet) else stream
        self.quiet, self.timed = quiet, timed
        self.start = self.drawn_at = self.logged_at = time.monotonic()
        self.lock = threading.RLock()
        self.shown, self.written_at = "", self.start
        self.ended = threading.Event()
        self.drawing = stream.isatty() and not quiet
        self.stage("")

    def stage(self, title: str) -> None:
        """Say what is done now, without knowing how long it takes."""
        with self.lock:
            self.title, self.done, self.total = title, 0, 0
            self.began = time.monotonic()

    def update(self, title: str, done: int, total: int) -> None:
        """Say that so much of so much is done."""
        with self.lock:
            if title != self.title:
                self.stage(title)
                self.logged_at = self.began
            self.done, self.total = done, total
            now = time.monotonic()
            if self.quiet:
                return
            if self.drawing:
                if now - self.drawn_at > PACE:
                    self.draw()
            elif now - self.logged_at > LOGGED and done < total:
                self.logged_at = now
                self.stream.write(f"{self.text()}\n")
                self.stream.flush()

    def text(self) -> str:
        """Return the title with a bar and the time left, or with the time so far."""
        seconds = time.monotonic() - self.began
        if not 0 < self.done < self.total:
            return f"{self.title}  {duration(seconds)}"
        left = seconds * (self.total - self.done) / self.done
        bar = ("#" * (WIDTH * self.done // self.total)).ljust(WIDTH, ".")
        return f"{self.title}  [{bar}] {self.done}/{self.total}  {duration(left)} left"

    def draw(self) -> None:
        """Show the text as the last line of the terminal."""
        with self.lock:
            self.shown, self.drawn_at = self.text(), time.monotonic()
            with contextlib.suppress(OSError, ValueError):  # nobody looks any more
                redraw(self.shown, self.stream)

    def clear(self, text: str = "\n") -> None:
        """Make room for a text that is about to be written."""
        with self.lock:
            if self.shown:
                self.shown = ""
                with contextlib.suppress(OSError, ValueError):
                    redraw("", self.stream)
            # a line that is not ended, such as a question, must not be drawn over
            self.written_at = time.monotonic() if text.endswith("\n") else float("inf")

    def tick(self) -> None:
        """Draw while nobody else writes, until `ended`."""
        while not self.ended.wait(PACE):
            with self.lock:
                if self.shown or time.monotonic() - self.written_at > SILENCE:
                    self.draw()


_current: Progress | None = None  # of this process, which has one stderr


@contextlib.contextmanager
def showing(title: str, quiet: bool = False, timed: bool = False) -> Iterator[Progress]:
    """Show the progress of a command until it ends.

    Args:
        quiet: Whether to show none.
        timed: Whether lines say the time since the command began.
    """
    global _current
    former, shown = _current, Progress(sys.stderr, quiet, timed)
    shown.stage(title)
    thread = threading.Thread(target=shown.tick, daemon=True)
    _current = shown
    if shown.drawing:
        Outlet.make_room = staticmethod(shown.clear)
        thread.start()
    try:
        yield shown
    finally:
        shown.ended.set()
        if shown.drawing:
            thread.join()
            shown.clear()
            Outlet.make_room = staticmethod(lambda text: None)
        _current = former


def stage(title: str) -> None:
    """Say what a command does now, where one is shown, and at once: an import may hold threads."""
    if _current is not None:
        _current.stage(title)
        if _current.drawing and _current.written_at <= time.monotonic():
            _current.draw()


def progress(title: str) -> Callable[[int, int], None]:
    """Return a callable (done, total) that shows a bar with the time left."""
    shown = _current or Progress(sys.stderr)
    return lambda done, total: shown.update(title, done, total)


def is_quiet() -> bool:
    """Tell whether a command was asked to show no progress."""
    return _current is not None and _current.quiet


def is_timed() -> bool:
    """Tell whether a command was asked to say more: `-v`."""
    return _current is not None and _current.timed


@contextlib.contextmanager
def progress_on_stderr() -> Iterator[None]:
    """Print on stderr, a line each, what the package logs of its progress inside."""
    logger, handler = logging.getLogger("stm_keras"), logging.StreamHandler(sys.stderr)
    handler.format = _line
    former = logger.level, logger.propagate
    logger.setLevel(logging.WARNING if is_quiet() else logging.INFO)
    logger.propagate = False  # to a handler of a library
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former[0])
        logger.propagate = former[1]


def _line(record):
    text = printable(record.getMessage())
    if _current is not None:
        _current.stage(text.rstrip("."))
    if not is_timed():
        return text
    return f"[{time.monotonic() - _current.start:7.1f} s] {text}"


def duration(seconds: float) -> str:
    """Write a time as people do: "8 s", "3 min", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
