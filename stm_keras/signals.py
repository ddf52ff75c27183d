"""Stop where nothing is lost: on Ctrl-C, `kill`, and the signals of SLURM.

SLURM sends SIGUSR1 some minutes before the time limit where a job asks for it, and SIGTERM
when another job needs the node. The command then exits with `EXIT_CODE`: start it again to
go on.
"""

import contextlib
import os
import signal
import sys
import threading

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: "try again later"
INTERRUPTED = 130  # by Ctrl-C, as shells say of SIGINT
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGUSR1", "SIGTERM") if hasattr(signal, name)
)


class Preempted(BaseException):
    """A signal told the process to stop. No `Exception`, so that no library swallows it."""


class Notice:
    """The signal that came, and whether it waits for `check`.

    A signal interrupts Python anywhere, also inside a callback of a C library, which
    prints the exception and loses it, or between two writes that belong together. So a
    training defers it and stops between two steps; elsewhere the exception comes at once.
    """

    def __init__(self):
        self.number = 0  # of the signal that came
        self.deferred = False

    def note(self, number, frame=None):
        """Handle a signal."""
        self.number = number
        if not self.deferred:
            self.check()

    def check(self):
        """Raise `Preempted` if a signal came."""
        if self.number:
            raise Preempted(signal.Signals(self.number).name)


notice = Notice()


class CtrlC:
    """Whether Ctrl-C came in this block, whatever became of the exception.

    A C extension that is being loaded raises an ImportError in its place, or prints the
    exception and goes on.
    """

    def __init__(self):
        self.came = False

    def __enter__(self):
        self.former = None
        handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread() and raises(handler):
            self.former = handler
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind, error, trace):
        if self.former is not None:
            signal.signal(signal.SIGINT, self.former)

    def _note(self, number, frame):
        self.came = True
        self.former(number, frame)


def raises(handler):
    """Tell whether a handler of Ctrl-C is Python's own, or ours that calls it."""
    ours = isinstance(getattr(handler, "__self__", None), CtrlC)
    return ours or handler is signal.default_int_handler


@contextlib.contextmanager
def importing():
    """Turn Ctrl-C into a `KeyboardInterrupt`, whatever libraries make of it in this block."""
    with CtrlC() as pressed:
        try:
            yield
        except BaseException:
            if pressed.came:
                raise KeyboardInterrupt from None
            raise
    if pressed.came:
        raise KeyboardInterrupt


def end_process(code):
    """Write what was printed and end this process without exit handlers.

    TensorFlow's may wait for ever for a step that was interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def watched():
    """Raise `Preempted` when one of `SIGNALS` comes in this block."""
    former = {}
    notice.number, notice.deferred = 0, False
    with contextlib.suppress(ValueError):  # not the main thread: no signals come here
        for number in SIGNALS:
            former[number] = signal.signal(number, notice.note)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        notice.number, notice.deferred = 0, False
