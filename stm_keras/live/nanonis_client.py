"""One connection to a Nanonis controller that can only read: all else is refused unsent."""

import contextlib
import socket
import time
from collections.abc import Callable

from stm_keras.live.nanonis_codec import (
    COMMANDS,
    HEADER,
    DamagedError,
    NanonisError,
    decode_body,
    decode_header,
    encode_request,
)
from stm_keras.terminal import one_line

PATIENCE = 5.0  # s without a byte, after which nobody is there
LONGEST = 60.0  # s for all of an answer, once it has begun to be late
PIECE = 1 << 20  # bytes: memory grows with what came, not with what was promised


class Client:
    """A connection to one port, on which commands go strictly in turn.

    It connects to whichever address of the host answers: on Windows "localhost" is an IPv6
    address first, and Nanonis listens on IPv4.

    Args:
        host: str. Name or address.
        port: int.
        wire: callable of a str, or None. Told each command before it is sent.

    Raises:
        NanonisError: There is no such host, or nobody listens.
    """

    ALLOWED = frozenset(COMMANDS)  # reading only; no setting and no argument widens it

    def __init__(self, host: str, port: int, wire: Callable[[str], None] | None = None):
        self.host, self.port, self.wire = host, port, wire
        self.answered = False
        try:
            self.socket = socket.create_connection((host, port), PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError) as reason:  # ValueError: a name that cannot be one
            raise NanonisError(_why_not(host, port, reason)) from None

    def ask(self, name: str, *arguments: int, wait: float = 0.0) -> tuple:
        """Send a command and return the values of its answer.

        Args:
            name: str. One of `ALLOWED`.
            *arguments: Its values.
            wait: float. How long the controller may take on purpose, in s.

        Raises:
            PermissionError: The command is not allowed. Nothing was sent.
            RefusedError: The controller reports an error.
            NanonisError: The connection is lost, or of no use any more.
        """
        body = self.exchange(name, *arguments, wait=wait)
        return decode_body(name, COMMANDS[name], body)

    def exchange(self, name: str, *arguments: int, wait: float = 0.0) -> bytes:
        """Send a command and return the body of its answer as it came; `ask` says the rest."""
        if name not in Client.ALLOWED:
            raise PermissionError(f"{name} is not a command that this program may send.")
        request = encode_request(name, COMMANDS[name].takes, *arguments)
        try:
            self._refuse_strays(name)
            if self.wire is not None:
                self.wire(" ".join(map(str, (self.port, name, *arguments))))
            self.socket.settimeout(PATIENCE)
            self.socket.sendall(request)
            last = time.monotonic() + wait + LONGEST
            size = decode_header(self._read(HEADER.size, wait, last), name)
            body = self._read(size, 0.0, last)
        except TimeoutError:
            raise NanonisError(self._silence(PATIENCE + wait)) from None
        except OSError as reason:
            raise NanonisError(self._lost(reason)) from None
        self.answered = True
        return body

    def close(self) -> None:
        """Hang up. May be called twice, and while another thread waits for an answer."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def _refuse_strays(self, name):
        """See that nothing waits to be read: else each answer would be one behind."""
        self.socket.settimeout(0)
        try:
            stray = self.socket.recv(1)
        except BlockingIOError:
            return
        if not stray:
            raise ConnectionResetError
        raise DamagedError(
            f"Port {self.port} of {self.host} sent something before {name} was asked: "
            "question and answer are out of step."
        )

    def _read(self, size, wait, last):
        data = bytearray()
        while len(data) < size:
            left = min(PATIENCE + wait, last - time.monotonic())
            self.socket.settimeout(max(left, 0.001))
            piece = self.socket.recv(min(size - len(data), PIECE))
            if not piece:
                raise ConnectionResetError
            data += piece
            if time.monotonic() > last:
                raise TimeoutError
        return bytes(data)

    def _silence(self, seconds):
        if self.answered:
            return f"{self._place()} has not answered for {seconds:.0f} s."
        return f"{self._place()} accepts connections, but does not answer: {_TAKEN}"

    def _lost(self, reason):
        if self.answered:
            return f"{self._place()} closed the connection{_because(reason)}."
        return f"{self._place()} closed the connection without an answer: {_TAKEN}"

    def _place(self):
        return f"Port {self.port} of {one_line(self.host)}"


_TAKEN = (
    "it is probably taken by another client. Close that client, or name two free ports of the "
    "Nanonis options with --ports."
)


def _because(reason):
    return f" ({reason.strerror})" if reason.strerror else ""


def _why_not(host, port, reason):
    """Say in one line why a connection cannot be made, and what to do."""
    host = one_line(host)
    if isinstance(reason, socket.gaierror | ValueError):
        return (
            f"No such host: '{host}'. Give the name or the address of the PC on which Nanonis "
            "runs, such as nanonis://192.168.0.10."
        )
    if isinstance(reason, ConnectionRefusedError):
        return (
            f"Nothing listens on port {port} of {host}. Start Nanonis there, enable the TCP "
            "programming interface in its options, and give the ports that are listed there "
            "with --ports."
        )
    if isinstance(reason, TimeoutError):
        return (
            f"{host} does not answer on port {port}. See that the PC is on and in the same "
            "network, and that its firewall lets the port pass."
        )
    return f"No connection to port {port} of {host}{_because(reason)}. See that it can be reached."
