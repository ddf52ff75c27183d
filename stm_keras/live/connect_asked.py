"""A connection that keeps what was asked, how long each answer took, and the bytes of errors."""

import math
import re
import time

import numpy as np

from stm_keras.live.nanonis_client import Client
from stm_keras.live.nanonis_codec import (
    COMMANDS,
    DamagedError,
    NanonisError,
    decode_body,
)

EVERY = (
    0.5  # s between two grabs: controllers are known to hang when they are asked more often
)
LONGEST = 110.0  # s after which nothing more is asked
MOST_HEX = 512  # bytes of an answer that are kept; more is no text of an error
MOST_TEXT, MOST_ITEMS = 300, 256  # characters of a text, values of a list
PRIVATE = {
    "Scan.PropsGet",
    "Scan.FrameDataGrab",
}  # answers that may hold a comment or heights
HEAD = 16  # bytes of these that hold neither


class Asked:
    """Ask over a connection, and keep of each exchange what it was and how long it took.

    Args:
        client: `Client`.
        exchanges: list, to which a dict is appended for each.
        begun: float. When the report was begun, by the monotonic clock.
    """

    def __init__(self, client: Client, exchanges: list[dict], begun: float):
        self.client, self.host, self.exchanges = client, client.host, exchanges
        self.begun = begun
        self.lost: str | None = None  # why the connection is of no use any more
        self.grabbed = -math.inf

    def now(self) -> float:
        """Return the time since the report was begun in s, to the millisecond."""
        return round(time.monotonic() - self.begun, 3)

    def ask(self, name: str, *arguments: int, wait: float = 0.0) -> tuple:
        """Do as `Client.ask`.

        Raises:
            NanonisError: Also if the connection was lost before, or the time is over.
        """
        if self.lost or self.now() > LONGEST:
            raise NanonisError(self.lost or "Not asked: the two minutes are over.")
        at = self.now()
        entry = {"at": at, "port": self.client.port, "command": name, "values": arguments}
        self.exchanges.append(entry)
        try:
            body = self.client.exchange(name, *arguments, wait=wait)
        except NanonisError as error:
            self.lost = entry["error"] = without_host(error, self.host)
            raise
        finally:
            entry["seconds"] = round(self.now() - at, 3)
        entry["bytes"] = len(body)
        try:
            return decode_body(name, COMMANDS[name], body)
        except NanonisError as error:
            entry |= {
                "error": without_host(error, self.host),
                "hex": _hex(name, body, error),
            }
            raise

    def soonest(self) -> float:
        """Return how many s must pass until anything may be grabbed."""
        return max(0.0, self.grabbed + EVERY - time.monotonic())

    def grab(self, number: int, backward: bool = False) -> tuple[str, np.ndarray, int]:
        """Grab a channel, half a second after the grab before at the earliest."""
        time.sleep(self.soonest())
        try:
            return self.ask("Scan.FrameDataGrab", number, int(not backward))
        finally:
            self.grabbed = time.monotonic()


def plain(value):
    """Return what was read as JSON holds it: of bounded length, numbers to 7 digits."""
    if isinstance(value, list):
        return [plain(each) for each in value[:MOST_ITEMS]]
    if isinstance(value, float):
        short = f"{value:.7g}"  # float32 has no more
        return float(short) if math.isfinite(value) else short
    return value[:MOST_TEXT] if isinstance(value, str) else value


def without_host(error: Exception, host: str) -> str:
    """Return the text of an error without the name of the computer."""
    return re.sub(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", "HOST", plain(str(error)))


def _hex(name, body, error):
    """Return the bytes of an answer that was an error or did not fit, without what is private."""
    secret = name in PRIVATE and isinstance(error, DamagedError)
    whole = len(body) <= MOST_HEX and not secret
    return body[: None if whole else HEAD].hex()
