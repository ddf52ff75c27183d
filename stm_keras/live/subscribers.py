"""The records as they are written, for any number of programs on this computer.

    subscribers = Subscribers(7654)
    subscribers.send(record)

A program connects to 127.0.0.1 and reads: one JSON object a line, first the `run` record, then
all from the moment it connected. It has nothing to say. Who sends more than blanks is cut off,
above all a browser: a web page must not read what a microscope does.
"""

import contextlib
import errno
import os
import selectors
import socket
import threading
import time
from collections import deque

from stm_keras.errors import UsageError
from stm_keras.live.records import encode

HOST = "127.0.0.1"
MOST_WAITING = 1 << 20  # bytes for a subscriber, some minutes of lines
MOST = 200  # subscribers
SILENCE = 0.2  # s in which a browser would have sent its request, before anything is sent


class Subscribers:
    """Sends records to whoever listens, in a thread of its own.

    A subscriber that reads too slowly, or not at all, is cut off, so that nobody waits for it.

    Args:
        port: int. 0: one that is free.

    Attributes:
        port: int. Where programs connect.
        cut_off: int. Subscribers that read too slowly or sent something.

    Raises:
        UsageError: `port` is not a port, or another program has it.
    """

    def __init__(self, port: int):
        if not 0 <= port < 1 << 16:
            raise UsageError(
                f"`--serve-json` takes a port from 0 to 65535. Received: {port}."
            )
        self._listener = listen(port, "--serve-json")
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self.cut_off = 0
        self._inbox: deque[bytes] = deque()
        self._run_record = b""  # in front of what a new subscriber gets
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._bell, self._ear = socket.socketpair()
        self._everybody: dict[socket.socket, _Subscriber] = {}
        for each in (self._bell, self._ear):
            each.setblocking(False)
        for each in (self._listener, self._ear):
            self._selector.register(each, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def send(self, record: dict) -> None:
        """Send a record to everybody; never waits."""
        if self._open:
            self._inbox.append(encode(record))
            self._ring()

    def close(self, seconds: float = 0.5) -> None:
        """Send what can be sent within so many seconds, and hang up. May be called twice."""
        if self._open:
            self._open = False
            self._ring()
            self._thread.join(seconds + 1)

    def _ring(self):
        with contextlib.suppress(OSError):  # full: it rings already
            self._bell.send(b"\0")

    def _serve(self):
        try:
            while self._open or self._inbox:
                waits = any(each.silent_until for each in self._everybody.values())
                for key, ready in self._selector.select(SILENCE / 4 if waits else None):
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj is self._ear:
                        self._hear()
                    else:
                        self._meet(key.data, ready)
                self._send_all()
        finally:
            self._open = False
            for each in [*self._everybody.values()]:
                self._drop(each)
            for each in (self._listener, self._bell, self._ear, self._selector):
                each.close()

    def _accept(self):
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has gone again, or there are no descriptors left
            time.sleep(0.01)
            return
        if len(self._everybody) >= MOST:
            connection.close()
            return
        connection.setblocking(False)
        subscriber = _Subscriber(connection, self._run_record)
        self._everybody[connection] = subscriber
        self._selector.register(connection, selectors.EVENT_READ, subscriber)

    def _hear(self):
        """Hand every record that came to every subscriber."""
        with contextlib.suppress(OSError):
            while self._ear.recv(4096):
                pass
        while self._inbox:
            data = self._inbox.popleft()
            if b'"event":"run"' in data[:200]:
                self._run_record = data
            for each in [*self._everybody.values()]:
                each.waiting += data

    def _meet(self, subscriber, ready):
        """Read what a subscriber should not have sent."""
        if not ready & selectors.EVENT_READ:
            return
        try:
            said = subscriber.connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            self._drop(subscriber)
            return
        if said.strip():
            self.cut_off += 1
            self._drop(subscriber)
        elif not said:  # it will send nothing more, and may still read
            subscriber.reads = False

    def _send_all(self):
        now = time.monotonic()
        for each in [*self._everybody.values()]:
            if each.silent_until and now < each.silent_until and self._open:
                continue
            each.silent_until = 0.0
            try:
                each.send()
            except OSError:
                self._drop(each)
                continue
            if len(each.waiting) > MOST_WAITING:
                self.cut_off += 1
                self._drop(each)
                continue
            self._watch(each)

    def _watch(self, subscriber):
        """Have the selector tell what a subscriber is waited for."""
        wanted = selectors.EVENT_READ if subscriber.reads else 0
        wanted |= selectors.EVENT_WRITE if subscriber.waiting else 0
        connection = subscriber.connection
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        if wanted:
            self._selector.register(connection, wanted, subscriber)

    def _drop(self, subscriber):
        self._everybody.pop(subscriber.connection, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(subscriber.connection)
        subscriber.connection.close()


class _Subscriber:
    """A program that listens, and what it has not got yet."""

    def __init__(self, connection, first):
        self.connection, self.waiting = connection, bytearray(first)
        self.silent_until = time.monotonic() + SILENCE
        self.reads = True  # whether we still read what it sends

    def send(self):
        with contextlib.suppress(BlockingIOError):
            while self.waiting:
                del self.waiting[: self.connection.send(self.waiting[: 1 << 16])]


def listen(port: int, option: str, host: str = HOST) -> socket.socket:
    """Take a port of this computer, for an option that is named in errors.

    Args:
        port: int. 0: one that is free.
        host: str. Address at which to listen.

    Raises:
        UsageError: Another program has the port, or the address is not of this computer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "nt":  # where two programs could share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        reason = (
            "another program has this port. Choose another one, or 0 for any that is free"
            if taken
            else error.strerror or error
        )
        raise UsageError(f"`{option} {port}`: {reason}.") from None
    return listener
