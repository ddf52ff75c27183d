"""A Nanonis controller as a source of scan lines: read only, by its TCP programming interface.

Two connections in two threads: one waits for the end of lines and does nothing else, so that
no bell is missed, and the other one grabs the frame (`nanonis_follow`).
"""

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator

from stm_keras.errors import UsageError
from stm_keras.live.events import TICK, Connected, Event, Found, Lost, Tick
from stm_keras.live.nanonis_bells import Heard
from stm_keras.live.nanonis_channel import Optional
from stm_keras.live.nanonis_client import Client
from stm_keras.live.nanonis_codec import NanonisError, RefusedError
from stm_keras.live.nanonis_follow import Follower
from stm_keras.terminal import one_line

PORTS = (6503, 6504)  # the last two of four: most other clients take the first
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # s before each try to connect again
MOST_WAITING = (
    1024  # events for the main thread; then nothing is grabbed until it took some
)
AGAIN = 30.0  # s after which a release is asked again for the line events that it refused
EARLY = 0.05  # s: an answer that took no longer was not waited for
REST = 0.5  # s after one that says nothing new, as when no scan is on
GRABS, WAITS = 0, 1  # the two connections
URL = re.compile(
    r"nanonis://(?:\[(?P<v6>[^\[\]/]+)\]|(?P<name>[^\[\]/:]+))(?::(?P<port>\d+))?/?"
)


def parse_url(url: str) -> tuple[str, tuple[int, int]]:
    """Return the host and the two ports of nanonis://HOST or nanonis://HOST:PORT.

    PORT is the first of the controller's four, 6501 unless set otherwise; the last two of the
    four are used, as most other clients take the first. HOST may be an IPv6 address in brackets.

    Raises:
        UsageError: It is not such a URL.
    """
    parts = URL.fullmatch(url.strip())
    if parts is None:
        raise UsageError(
            f"'{one_line(url)}' is not the address of a controller. Write nanonis://HOST or "
            "nanonis://HOST:6501, such as nanonis://192.168.0.10."
        )
    host = parts["v6"] or parts["name"]
    if parts["port"] is None:
        return host, PORTS
    first = int(parts["port"])
    return host, check_ports((first + 2, first + 3))


def check_ports(ports: tuple[int, ...]) -> tuple[int, int]:
    """Return two ports if they can be.

    Raises:
        UsageError: They cannot.
    """
    ports = tuple(ports)
    if (
        len(ports) != 2
        or ports[0] == ports[1]
        or not all(0 < port < 1 << 16 for port in ports)
    ):
        raise UsageError(
            "Two different ports of Nanonis are needed, each below 65536, as each serves one "
            f"client. Received: {', '.join(map(str, ports))}."
        )
    return ports


class NanonisSource:
    """The scans of a Nanonis controller, line by line.

    Args:
        host: str. Name or address of the PC on which Nanonis runs.
        ports: tuple of two ints, for grabbing and for waiting.
        every: float. Least time between any two grabs, in s.
        channel: str. Name of a channel or its beginning; None for the height or, where the
            feedback is off when a scan begins, the current.
        wire: callable of a str, or None. Told each command before it is sent, as "6503
            Scan.StatusGet", in the thread that sends it.

    Raises:
        UsageError: The ports, or `every`, make no sense.
    """

    def __init__(
        self,
        host: str,
        ports: tuple[int, int] = PORTS,
        every: float = 0.5,
        channel: str | None = None,
        wire: Callable[[str], None] | None = None,
    ):
        if not 0 <= every < float("inf"):
            raise UsageError(f"`every` must be 0 s or more. Received: {every}.")
        self.host, self.ports, self.wire = host, check_ports(ports), wire
        self.name = f"nanonis://{f'[{host}]' if ':' in host else host}"
        self._heard = Heard()
        self._events: queue.Queue[Event | BaseException] = queue.Queue(MOST_WAITING)
        self._follower = Follower(self._heard, self._tell, every, channel)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._clients: dict[int, Client] = {}
        self._lost: set[int] = set()  # connections
        self._begun = False  # both have answered once
        self._threads = [
            threading.Thread(target=self._run, args=(work,), daemon=True, name=name)
            for work, name in (
                (self._grab_lines, "nanonis grabs"),
                (self._wait_for_lines, "nanonis waits"),
            )
        ]

    def events(self) -> Iterator[Event]:
        """Yield what happens, for ever. The first event is `Connected`.

        Raises:
            NanonisError: At the first `next`: nobody answers, or no channel can be judged.
        """
        self._threads[GRABS].start()
        waiting = True
        while not self._stop.is_set():
            try:
                event = self._events.get(timeout=TICK / 2)
            except queue.Empty:
                if waiting:  # an error comes before the first event
                    continue
                event = Tick()
            if self._stop.is_set():
                return
            if isinstance(event, BaseException):
                self.close()
                raise event
            waiting = False
            yield event

    def close(self) -> None:
        """Hang up and end the threads. May be called twice."""
        self._stop.set()
        self._heard.tell(stopped=True)
        with contextlib.suppress(queue.Full):
            self._events.put_nowait(Tick())  # so that who waits for an event sees that
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            client.close()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(TICK)  # one that looks up a name ends later, by itself

    def answer(self, record: dict) -> None:
        """Take no answer: nothing is ever written to the controller."""

    def _run(self, work):
        """Do the work of a thread, and have the main one raise what nobody has thought of."""
        try:
            work()
        except Exception as error:
            self._tell(error)

    def _tell(self, event):
        """Hand an event to the main thread, and wait while it has not taken enough of them."""
        while not self._stop.is_set():
            try:
                return self._events.put(event, timeout=TICK / 5)
            except queue.Full:
                continue
        return None

    def _grab_lines(self):
        def attach(client):
            self._follower.attach(client.ask)
            if not self._begun:
                self._follower.check_channel()
                self._version = _version(client)
                self._threads[WAITS].start()

        self._keep(GRABS, attach, lambda client: self._follower.follow())

    def _wait_for_lines(self):
        def attach(client):
            Optional(client.ask)(
                "Util.VersionGet"
            )  # so that it is known at once who is there
            if not self._begun:
                self._begun = True
                where = f"{one_line(self.host)}, ports {self.ports[0]} and {self.ports[1]}"
                self._tell(Connected(f"{self._version} at {where}"))

        self._keep(WAITS, attach, self._hear)

    def _hear(self, client):
        """Wait for one line after the other.

        Where no scan is on, some controllers may answer at once: they are not asked in a tight
        loop, which is known to hang them.
        """
        last = None
        while not self._stop.is_set():
            patience, asked = self._follower.patience, time.monotonic()
            try:
                timed_out, number, movement, passed = client.ask(
                    "Scan.WaitEndOfLine", round(patience * 1000), wait=patience
                )
            except RefusedError:
                self._heard.tell(mute=True)
                self._stop.wait(AGAIN)
                continue
            bell = number, movement, passed
            if timed_out:
                self._heard.tell(quiet=True, mute=False)
            else:
                self._heard.tell((*bell, time.time()), mute=False)
            if (timed_out or bell == last) and time.monotonic() - asked < EARLY:
                self._stop.wait(REST)
            last = bell

    def _keep(self, which, attach, work):
        """Connect, work, and connect again for ever when the connection is lost."""
        tries = 0
        while not self._stop.is_set():
            try:
                client = self._connect(which)
                attach(client)
                self._up(which)
                tries = 0
                work(client)
            except NanonisError as error:
                if self._stop.is_set():
                    return
                if not self._begun:
                    self._tell(error)
                    return
                self._down(which, error)
                self._stop.wait(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
            finally:
                self._hang_up(which)

    def _connect(self, which):
        client = Client(self.host, self.ports[which], self.wire)
        with self._lock:
            self._clients[which] = client
        if self._stop.is_set():  # `close` did not see this one
            client.close()
        return client

    def _hang_up(self, which):
        with self._lock:
            client = self._clients.pop(which, None)
        if client is not None:
            client.close()

    def _down(self, which, error):
        with self._lock:
            first = not self._lost
            self._lost.add(which)
        if first:
            self._tell(Lost(str(error)))

    def _up(self, which):
        with self._lock:
            last = self._lost == {which}
            self._lost.discard(which)
        if last:
            self._tell(Found(f"{self.name} answers again."))


def _version(client):
    """Return who answers, as one line."""
    answer = Optional(client.ask)("Util.VersionGet")
    if answer is None:
        return "Nanonis"
    releases = [f"R{number}" for number in answer[2:]]
    return one_line(" ".join([*filter(None, answer[:2]), *releases])) or "Nanonis"
