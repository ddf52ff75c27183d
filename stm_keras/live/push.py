"""Lines that any program sends, by TCP on this computer or on standard input, as a source.

Requests are read and answers are written by threads of their own: neither a client that sends
nothing nor one that reads nothing keeps the watching waiting.
"""

import contextlib
import ipaddress
import json
import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from stm_keras.errors import InputError, UsageError
from stm_keras.live.background import PATIENCE
from stm_keras.live.events import TICK, Connected, Event, Found, Lost, Note, Tick
from stm_keras.live.push_protocol import BLANK, LONGEST, PushProtocol, parse_request

PIECE = 1 << 16  # bytes that are read at a time
WAITING = 1000  # events that are not taken yet, and answers that are not read yet
STALLED = 10.0  # s for which a client reads nothing, until it is cut off
PARTING = 1.0  # s for which what still comes is read, so that the last answer arrives
LEFT = "the client left"
UNREAD = "the client does not read its answers and was cut off"
TOO_LONG = f"A request has at most {LONGEST >> 20} MiB"
HTTP = re.compile(
    rb"[A-Z]{3,10} \S+ HTTP/\d", re.ASCII
)  # of a web page, which must not push
FORM = (
    "Give push://127.0.0.1:PORT, with port 0 for any that is free, or - for standard input."
)


class Client:
    """Who sends requests and reads answers.

    Args:
        read: callable that returns the bytes that came, b"" at their end.
        write: callable of bytes.
        close: callable that makes `read` and `write` end, at once or after `PARTING`.
    """

    def __init__(
        self,
        read: Callable[[], bytes],
        write: Callable[[bytes], object],
        close: Callable[[float], object],
    ):
        self._read, self._write, self._close = read, write, close
        self._answers: queue.Queue[dict | None] = queue.Queue(WAITING)
        self.reason = LEFT  # why it went, once it is gone
        self.gone = threading.Event()
        self.served = threading.Event()  # when all that it sent was understood
        self._ending = b"\n"  # of its lines, and so of the answers
        threading.Thread(target=self._answer, daemon=True).start()

    def requests(self) -> Iterator[bytes | None]:
        """Yield what comes line by line; None in place of a line that is too long."""
        rest, skipped = b"", False
        with contextlib.suppress(OSError):
            while data := self._read():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._ending = b"\r\n" if line.endswith(b"\r") else b"\n"
                    if not skipped:
                        yield line if len(line) <= LONGEST else None
                    skipped = False
                if len(rest) > LONGEST:
                    if not skipped:
                        yield None
                    rest, skipped = b"", True
        if rest and not skipped:
            yield rest

    def send(self, answer: dict) -> None:
        """Answer as soon as the client reads; one that never does is cut off."""
        if self.gone.is_set():
            return
        try:
            self._answers.put_nowait(answer)
        except queue.Full:
            self.cut(UNREAD)

    def part(self) -> None:
        """Close the connection once the answers so far are written."""
        with contextlib.suppress(queue.Full):
            self._answers.put_nowait(None)

    def cut(self, reason: str = LEFT) -> None:
        """Close the connection now."""
        if not self.gone.is_set():
            self.reason = reason
            self.gone.set()
            self._close(0.0)

    def _answer(self):
        while (answer := self._answers.get()) is not None:
            try:
                text = json.dumps(answer, allow_nan=False).encode()
                self._write(text + self._ending)
            except TimeoutError:
                return self.cut(UNREAD)
            except OSError:
                return self.cut()
        self._close(PARTING)
        return self.cut()


class PushSource:
    """Lines that one program at a time sends as JSON, and reads the verdicts on.

    A client that leaves in the middle of a scan is `Lost`, the next one `Found`; between two
    scans it may come and go.

    Args:
        address: str. "push://127.0.0.1:PORT", with port 0 for any that is free; "-" for
            standard input and output.
        stdin, stdout: int. Descriptors in their place; for tests.

    Raises:
        UsageError: It is not such an address, or not of this computer alone.
    """

    def __init__(self, address: str, stdin: int | None = None, stdout: int | None = None):
        self.name = address
        self._host, self._port = (None, 0) if address == "-" else _host_and_port(address)
        self._standard = stdin, stdout
        self._events: queue.Queue = queue.Queue(
            WAITING
        )  # of (client, event or answer or END)
        self._closed = threading.Event()
        self._client: Client | None = None
        self._asking: Client | None = None  # sent the line that was yielded last
        self._lost = False

    def events(self) -> Iterator[Event]:
        """Yield what clients send; of standard input until it ends.

        Raises:
            UsageError: The port is taken.
        """
        yield Connected(self._open())
        while not self._closed.is_set():
            try:
                client, item = self._events.get(timeout=TICK)
            except queue.Empty:
                yield Tick()
                continue
            if item is None:
                client.part()
                if self._host is None:
                    yield from _until(client.gone)
                    return
            elif isinstance(item, dict):
                client.send(item)
            else:
                self._asking = client
                yield item

    def close(self) -> None:
        """Let go of the port and of the client."""
        self._closed.set()
        if self._client is not None and self._host is not None:
            self._client.cut()

    def answer(self, record: dict) -> None:
        """Send the record of the line that `events` yielded last to who sent that line."""
        if self._asking is not None:
            self._asking.send(record)

    def _open(self):
        """Begin to listen, and say where."""
        if self._host is None:
            stdin, stdout = self._standard
            stdin = sys.stdin.fileno() if stdin is None else stdin
            stdout = sys.stdout.fileno() if stdout is None else stdout
            # not through the buffers of Python, which would wait for this thread at the end
            self._client = Client(
                lambda: os.read(stdin, PIECE),
                lambda data: _write(stdout, data),
                lambda _: None,
            )
            threading.Thread(target=self._serve, args=(self._client,), daemon=True).start()
            return "Lines are read from standard input."
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._port), family=family)
        except OSError as error:
            raise UsageError(
                f"{self.name}: the port cannot be had ({error.strerror or error}). Choose "
                "another, or 0 for any that is free."
            ) from None
        self._port = listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.name = f"push://{host}:{self._port}"
        return f"Lines are awaited at {self.name}."

    def _accept(self, listener):
        listener.settimeout(PATIENCE)
        with listener:
            while not self._closed.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                except OSError:
                    return
                connection.settimeout(STALLED)
                client = Client(
                    lambda each=connection: _receive(each),
                    connection.sendall,
                    lambda patience, each=connection: _hang_up(each, patience),
                )
                # it may have just left, and come back as this one
                if self._client is not None and not self._client.served.wait(PARTING):
                    client.send({"error": "Another client is connected. Come back later."})
                    client.part()
                    continue
                self._client = client
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        """Turn the requests of a client into events, until it leaves."""
        try:
            if self._host is None:
                self._requests(client, PushProtocol())
            else:
                self._visit(client, PushProtocol())
        finally:
            self._put(client, None)
            client.served.set()

    def _visit(self, client, protocol):
        """Serve one of several clients, which come and go."""
        came = Found("A client is connected again.") if self._lost else None
        self._put(client, came or Note("A client is connected."))
        self._lost = self._requests(client, protocol)
        reason = client.reason[0].upper() + client.reason[1:] + "."
        self._put(client, Lost(reason) if self._lost else Note(reason))

    def _requests(self, client, protocol):
        """Serve a client until it leaves; return whether that was in the middle of a scan."""
        for text in client.requests():
            is_web = self._host is not None and HTTP.match(text or b"")
            if text is None or is_web:
                reason = "Requests are lines of JSON, not HTTP" if is_web else TOO_LONG
                if self._host is not None:
                    self._put(client, {"error": f"{reason}; the connection is closed."})
                    client.reason = "the client sent what is not a request"
                    break
                self._put(client, {"error": f"{reason}."})
            elif text.strip(BLANK):
                self._request(client, protocol, text)
        scanning = protocol.scanning
        for event in protocol.left(client.reason):
            self._put(client, event)
        return scanning

    def _request(self, client, protocol, text):
        try:
            for event in protocol.events(parse_request(text)):
                self._put(client, event)
        except InputError as error:
            self._put(client, {"error": str(error)})

    def _put(self, client, item):
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                return self._events.put((client, item), timeout=PATIENCE)
        return None


def _host_and_port(address):
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(f"{address}: is not an address. {FORM}") from None
    if parts.scheme != "push" or not host or port is None or parts.path.strip("/"):
        raise UsageError(f"{address}: is not an address. {FORM}")
    host = "127.0.0.1" if host == "localhost" else host
    try:
        is_own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_own = False
    if not is_own:
        raise UsageError(
            f"{address}: is not this computer alone, and lines are taken from nowhere else. "
            f"{FORM}"
        )
    return host, port


def _until(event):
    """Wait for an event for as long as a client may be slow; yield a `Tick` meanwhile."""
    for _ in range(round(STALLED / TICK)):
        if event.wait(TICK):
            return
        yield Tick()


def _receive(connection):
    while True:
        with contextlib.suppress(TimeoutError):  # it has nothing to say for a while
            return connection.recv(PIECE)


def _write(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


def _hang_up(connection, patience):
    """Close a connection; with patience, so that the other side gets what was sent."""
    with contextlib.suppress(OSError):
        if patience:
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(patience)
            end = time.monotonic() + patience
            while time.monotonic() < end and connection.recv(PIECE):
                pass
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
