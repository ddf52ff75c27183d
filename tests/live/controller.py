"""A Nanonis controller for tests: its four ports, its protocol to the byte, and its moods.

Written from the protocol, not from the client. Tests move the tip by hand (`step`, `part`) or let
it `run` at any speed. All that was asked is in `log`.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np

PACKET = 16
SIGNALS = [f"Input {number} (V)" for number in range(128)]
SIGNALS[0], SIGNALS[24], SIGNALS[30] = "Current (A)", "Bias (V)", "Z (m)"
SLOTS = [0, 24, 30, *range(3, 24)]  # signal in each slot: Z is in slot 2


@dataclass
class Asked:
    """A request: when it came and was answered, and what else was under way then."""

    port: int
    connection: int
    name: str
    body: bytes
    flag: int
    at: float
    rung: int  # bells until then
    pipelined: bool
    answered: float | None = None


@dataclass
class Moods:
    """What differs between controllers, releases and days."""

    numbers: str = "signals"  # of channels, or "slots"
    channels: tuple = (0, 30)
    slots_told: bool = True
    line_events: bool = True
    status_told: bool = True
    errors: str = "alone"  # or "zeros"
    rest: str = "nan"  # rows not reached: "nan", "zero", "stale"
    from_above: bool = False  # lines are counted, in scans up too
    last_bell: bool = True
    at_once: int | None = None  # what a wait says, 1 timed out, where no scan is on
    continuous: int = 0
    feedback: int = 1
    signals: list = field(default_factory=lambda: list(SIGNALS))
    slots: list = field(default_factory=lambda: list(SLOTS))
    line_time: float = 0.25
    frame: tuple = (1e-9, -2e-9, 4e-8, 2e-8, 30.0)
    version: tuple = ("Nanonis SPM Control Software", "Generic 5", 13742, 13000)


class Refuse(Exception):
    """Answer with an error."""


class Hang(Exception):
    """Do not answer."""


class Controller:
    """Serve on four ports of this machine.

    Args:
        lines, pixels: int. Of the scan buffer.
        **moods: fields of `Moods`.
    """

    def __init__(self, lines=6, pixels=40, **moods):
        self.moods, self.lines, self.pixels = Moods(**moods), lines, pixels
        self.changed = threading.Condition()
        self.log, self.waiting, self.grabs = [], 0, 0
        self.bells, self.rung = (
            deque([(0, 3, 1)], 500),
            0,
        )  # the last ones, and how many rang
        self.shown = np.full((2, lines, pixels), np.nan, np.float32)  # forward, backward
        self.scan = None
        self.up = self.running = False
        self.done = [0, 0]
        self.mangle = None  # callable(port, name, answer) -> bytes, for faults
        self.piece = None  # bytes sent at a time
        self.out = False  # who comes is sent away at once
        self.closed = threading.Event()
        self.connections: dict[int, socket.socket] = {}  # by number of the port
        self.count = 0
        self.listeners = []
        for index in range(4):
            self._listen(index)
        self.ports = tuple(each.getsockname()[1] for each in self.listeners)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # The microscope

    def start(self, forward, backward=None, up=False):
        """Begin a scan of float arrays of shape `(lines, pixels)`, row 0 above."""
        forward = np.asarray(forward, np.float32)
        backward = forward if backward is None else np.asarray(backward, np.float32)
        with self.changed:
            self.lines, self.pixels = forward.shape
            blank = {"nan": np.nan, "zero": 0.0}.get(self.moods.rest)
            if blank is not None or self.shown.shape[1:] != forward.shape:
                blank = np.nan if blank is None else blank
                self.shown = np.full((2, *forward.shape), blank, np.float32)
            self.scan, self.up, self.running = (forward, backward), up, True
            self.done = [0, 0]
            self.changed.notify_all()

    def part(self, packets):
        """Show the first packets of the row in progress."""
        way = int(self.done[0] > self.done[1])
        with self.changed:
            row = self._row(self.done[way])
            end = PACKET * packets
            self.shown[way, row, :end] = self.scan[way][row, :end]

    def step(self, times=1, heard=True):
        """End a line forward or backward, in turn, and ring its bell.

        With `heard` it rings when somebody waits for it.
        """
        for _ in range(times):
            if heard:
                self.wait(lambda: self.waiting > 0 or not self.moods.line_events)
            with self.changed:
                way = int(self.done[0] > self.done[1])
                index = self.done[way]
                row = self._row(index)
                self.shown[way, row] = self.scan[way][row]
                self.done[way] += 1
                if index < self.lines - 1 or self.moods.last_bell:
                    number = row + 1 if self.moods.from_above else index + 1
                    self._ring(number, way)

    def ring(self, number, movement, passed=1):
        """Ring a bell that is not of a line, when somebody waits for it."""
        self.wait(lambda: self.waiting > 0)
        with self.changed:
            self._ring(number, movement, passed)

    def _ring(self, number, movement, passed=1):
        self.bells.append((number, movement, passed))
        self.rung += 1
        self.waiting = 0  # until they ask again
        self.changed.notify_all()

    def stop(self):
        """End the scan, or notice that it is over."""
        with self.changed:
            self.running = False
            self.changed.notify_all()

    def run(self, lines, seconds, halves=True):
        """Do so many lines in real time, each of which takes so long both ways."""
        for _ in range(lines):
            for _ in range(2):
                if halves:
                    time.sleep(seconds / 4)
                    self.part(1)
                time.sleep(seconds / 4 if halves else seconds / 2)
                self.step(heard=False)

    def wait(self, condition, seconds=10):
        """Wait until a condition holds, for tests."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the controller waited in vain"
            time.sleep(0.001)

    def _row(self, index):
        return self.lines - 1 - index if self.up else index

    # The commands

    def answer(self, name, body):
        """Return the values of an answer as bytes.

        Raises:
            Refuse: It is an error.
        """
        moods = self.moods
        if name == "Scan.WaitEndOfLine":
            return self._wait_for_line(struct.unpack(">i", body)[0])
        if name == "Scan.FrameDataGrab":
            return self._grab(*struct.unpack(">II", body))
        if name == "Scan.StatusGet" and moods.status_told:
            return struct.pack(">I", self.running)
        if name == "Scan.BufferGet":
            count = len(moods.channels)
            numbers = (count, *moods.channels, self.pixels, self.lines)
            return struct.pack(f">{count + 3}i", *numbers)
        if name == "Scan.FrameGet":
            return struct.pack(">5f", *moods.frame)
        if name == "Scan.SpeedGet":
            return struct.pack(
                ">4fHf", 1e-7, 1e-7, moods.line_time, moods.line_time, 2, 1.0
            )
        if name == "Scan.PropsGet":
            return (
                struct.pack(">3I", moods.continuous, 0, 0)
                + text("scan")
                + text("")
                + texts(["Bias"])
            )
        if name == "Signals.NamesGet":
            return texts(moods.signals)
        if name == "Signals.InSlotsGet" and moods.slots_told:
            names = [moods.signals[number] for number in moods.slots]
            return texts(names) + struct.pack(">25i", 24, *moods.slots)
        if name == "ZCtrl.OnOffGet":
            return struct.pack(">I", moods.feedback)
        if name == "Util.VersionGet":
            words, releases = moods.version[:2], moods.version[2:]
            return b"".join(map(text, words)) + struct.pack(f">{len(releases)}I", *releases)
        numbers = {"Bias.Get": -1.5, "ZCtrl.SetpntGet": 5e-11, "Current.Get": 5e-11}
        if name in numbers:
            return struct.pack(">f", numbers[name])
        raise Refuse(f"{name} is not known")

    def _wait_for_line(self, milliseconds):
        if not self.moods.line_events:
            raise Refuse("Scan.WaitEndOfLine is not known")
        end = time.monotonic() + milliseconds / 1000
        with self.changed:
            if self.moods.at_once is not None and not self.running:
                return struct.pack(">IiHi", self.moods.at_once, *self.bells[-1])
            heard = self.rung
            self.waiting += 1
            while self.rung == heard and not self.closed.is_set():
                left = end - time.monotonic()
                if left <= 0:
                    self.waiting -= 1
                    return struct.pack(">IiHi", 1, *self.bells[-1])
                self.changed.wait(left)
            if self.closed.is_set():
                raise Hang
            first = max(heard - self.rung, -len(self.bells))
            return struct.pack(">IiHi", 0, *self.bells[first])

    def _grab(self, channel, forward):
        moods = self.moods
        if moods.numbers == "slots":
            if channel >= len(moods.slots):
                raise Refuse("there is no such slot")
            channel = moods.slots[channel]
        if channel >= len(moods.signals):
            raise Refuse("there is no such channel")
        name = moods.signals[channel]
        with self.changed:
            self.grabs += 1
            data = self.shown[0 if forward else 1].astype(">f4")
            if name not in ("Z (m)", "Current (A)", "Zr\xe9 (m)"):
                data = np.zeros_like(data)
            size = struct.pack(">ii", *data.shape)
            return text(name) + size + data.tobytes() + struct.pack(">I", self.up)

    # The ports

    def _listen(self, index):
        listener = socket.create_server(("127.0.0.1", 0))
        self.listeners.append(listener)
        threading.Thread(target=self._serve, args=(index, listener), daemon=True).start()

    def _serve(self, index, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            if self.out:
                connection.close()
                continue
            self.connections[index] = connection
            self.count += 1
            with connection, contextlib.suppress(OSError, ValueError, Hang):
                self._talk(index, self.count, connection)

    def _talk(self, index, number, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while (header := receive(connection, 40)) is not None:
            raw, size, flag, zero = struct.unpack(">32siHH", header)
            assert zero == 0
            name = raw.rstrip(b"\0").decode()
            body = receive(connection, size)
            now = time.monotonic()
            asked = Asked(index, number, name, body, flag, now, self.rung, False)
            self.log.append(asked)
            answer = self._answer(raw, name, body)
            if self.mangle is not None:
                answer = self.mangle(index, name, answer)
            asked.pipelined = bool(select.select([connection], [], [], 0)[0]) and bool(
                connection.recv(1, socket.MSG_PEEK)
            )
            asked.answered = time.monotonic()
            step = self.piece or len(answer) or 1
            for start in range(0, len(answer), step):
                connection.sendall(answer[start : start + step])

    def _answer(self, raw, name, body):
        try:
            values = self.answer(name, body) + bytes(8)
        except Refuse as error:
            reason = str(error).encode("latin-1")
            block = struct.pack(">Ii", 1, len(reason)) + reason
            values = (ZEROS.get(name, b"") if self.moods.errors == "zeros" else b"") + block
        return raw + struct.pack(">iI", len(values), 0) + values

    def cut(self, *ports, out=False):
        """Hang up on clients; they may come again, unless they are to stay out."""
        self.out = out
        for port in ports or range(4):
            connection = self.connections.pop(port, None)
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def close(self):
        """Hang up and listen no more."""
        self.closed.set()
        for listener in self.listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self.changed:
            self.changed.notify_all()
        self.cut()

    def names(self, port=None):
        """Return the names of all commands, or of those on one port."""
        return [each.name for each in list(self.log) if port in (None, each.port)]


ZEROS = {
    "Scan.WaitEndOfLine": bytes(14),
    "Scan.FrameDataGrab": bytes(16),
    "Scan.StatusGet": bytes(4),
    "Signals.InSlotsGet": bytes(12),
    "Util.VersionGet": bytes(16),
}


def receive(connection, size):
    """Return so many bytes, None if the other side hung up."""
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return data


def text(words):
    """Return the bytes of a string."""
    data = words.encode("latin-1")
    return struct.pack(">i", len(data)) + data


def texts(items):
    """Return the bytes of an array of strings."""
    data = b"".join(map(text, items))
    return struct.pack(">ii", len(data), len(items)) + data
