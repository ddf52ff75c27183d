"""Lines for `stm-keras watch push://127.0.0.1:4000`, from any program in Python.

    push = Push(4000)
    push.begin(lines=256, pixels=256, size=[2e-8, 2e-8], slow="down", unit="m")
    push.line(heights, row=0)
    for answer in push.talk():
        print(answer)
    push.end()
    push.close()

The keys of `begin` and of the answers are those of docs/live.md, "Lines from any program".

A microscope's program must not wait for this. So `begin`, `line` and `end` only note what is to
be sent, and `talk`, to be called about once a second, sends and receives as much as goes without
waiting. Only a new connection is waited for, half a second at most and every five seconds. A
watch that was started again gets the scan that runs from its beginning.

The standard library is enough. Used by createc_push.py and gxsm_push.py.
"""

import json
import math
import socket
import time
from collections import deque

CONNECTING = 0.5  # s
PAUSE = 5.0  # s from one attempt to connect to the next
PARTING = 1.0  # s in which the last lines are sent at the end
KEPT = 1024  # lines of a scan that are sent again
STUCK = 64 << 20  # bytes that the watch does not read, until the connection is given up


class Push:
    """The connection to a watch, which may come and go.

    Args:
        port: int. Of the watch.
        say: callable of a str, told when the watch is there and when not.
    """

    def __init__(self, port, say=print):
        self._port, self._say = port, say
        self._socket, self._due = None, 0.0  # when to connect next
        self._scan, self._lines = b"", deque(maxlen=KEPT)  # requests of the scan that runs
        self._unsent, self._received = bytearray(), b""
        self._there = None  # whether the watch was there when that was told last

    def begin(self, **scan):
        """Announce a scan: `lines`, `pixels`, `size` in m, `slow`, `channel`, `unit` ..."""
        known = {key: value for key, value in scan.items() if value is not None}
        self._scan = _request({"scan": known})
        self._lines.clear()
        self._send(self._scan)

    def line(self, heights, row=None, direction="forward"):
        """Note the next line.

        Args:
            heights: numbers from left to right, NaN or infinite where nothing was recorded.
            row: int. From 0 at the top of the frame; None for the next.
            direction: str. "forward" or "backward".
        """
        numbers = [float(each) if math.isfinite(each) else None for each in heights]
        request = {"line": numbers, "direction": direction}
        self._lines.append(
            _request(request if row is None else {**request, "row": int(row)})
        )
        self._send(self._lines[-1])

    def end(self):
        """Note that the scan is over."""
        if self._scan:
            self._send(_request({"end": True}))
        self._scan = b""
        self._lines.clear()

    def talk(self):
        """Send and receive what goes without waiting; return the answers: list of dict."""
        try:
            if self._socket is None:
                self._connect()
            if self._socket is not None:
                self._write()
                self._read()
        except OSError:
            self._lose()
        *texts, self._received = self._received.split(b"\n")
        return list(map(_answer, texts))

    def close(self):
        """Send what is left, a second at most, and hang up."""
        if self._socket is None:
            return
        end = time.monotonic() + PARTING
        try:
            self._socket.settimeout(PARTING)
            self._socket.sendall(self._unsent)
            self._socket.shutdown(
                socket.SHUT_WR
            )  # unread answers would undo the last lines
            while time.monotonic() < end and self._socket.recv(1 << 16):
                pass
        except OSError:
            pass
        self._socket.close()
        self._socket = None

    def _send(self, request):
        if self._socket is not None:
            self._unsent += request

    def _connect(self):
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PAUSE
        address = ("127.0.0.1", self._port)
        self._socket = socket.create_connection(address, timeout=CONNECTING)
        self._socket.setblocking(False)
        self._unsent = bytearray(b"".join([self._scan, *self._lines]))
        self._tell(True, f"The watch at port {self._port} is there.")

    def _write(self):
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            if len(self._unsent) > STUCK:
                raise OSError("the watch does not read") from None

    def _read(self):
        try:
            while True:
                data = self._socket.recv(1 << 16)
                if not data:
                    raise OSError("the watch hung up")
                self._received += data
                if len(self._received) > STUCK:
                    raise OSError("this is not a watch")
        except BlockingIOError:
            pass

    def _lose(self):
        if self._socket is not None:
            self._socket.close()
        self._socket, self._unsent = None, bytearray()
        self._received = self._received[: self._received.rfind(b"\n") + 1]
        self._tell(
            False, f"No watch at port {self._port}. It is looked for again and again."
        )

    def _tell(self, there, text):
        if there != self._there:
            self._say(text)
        self._there = there


def _request(told):
    return json.dumps(told).encode() + b"\n"


def _answer(text):
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else {"error": f"not a watch: {text[:80]!r}"}


def summary(answer):
    """Say an answer in a few words: str, "" where there is no verdict."""
    if "error" in answer:
        return f"Error: {answer['error']}"
    if answer.get("verdict") is None:
        return ""
    changed = answer.get("change_line")
    since = "" if changed is None else f", tip changed at line {changed}"
    return f"{answer['direction']} row {answer['row']}: {answer['verdict']}{since}"
