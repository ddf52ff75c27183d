"""Make in a thread what takes long, so that events come in time and Ctrl-C is heard."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stm_keras.live.events import TICK, Tick

PATIENCE = 0.1  # s until a thread that waits sees that it is not needed any more


class Background:
    """Items that a thread of its own makes, a few ahead of who takes them.

    Args:
        make: callable of `threading.Event` that returns an iterable of items, of which none
            is None. It runs in the thread, and should end soon once the event is set.
        ahead: int. Items that are made before the first of them is taken.
    """

    def __init__(self, make: Callable[[threading.Event], Iterable], ahead: int = 2):
        self.closed = threading.Event()
        self._made: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
        self._over = False
        self._make = make
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        try:
            for item in self._make(self.closed):
                if not self._put((item, None)):
                    return
            self._put((None, None))
        except BaseException as error:  # which would end with the thread, and be lost
            self._put((None, error))

    def _put(self, made):
        while not self.closed.is_set():
            try:
                self._made.put(made, timeout=PATIENCE)
            except queue.Full:
                continue
            return True
        return False

    def items(self, tick: float = TICK) -> Iterator:
        """Yield the items; `Tick` where none came for so many seconds.

        What the thread raises is raised here.
        """
        while not (self._over or self.closed.is_set()):
            try:
                item, error = self._made.get(timeout=tick)
            except queue.Empty:
                yield Tick()
                continue
            self._over = item is None
            if error is not None:
                raise error
            if item is not None:
                yield item

    def close(self) -> None:
        """Let the thread end; its items are lost. May be called twice."""
        self.closed.set()
