"""Bytes of Nanonis' TCP programming interface: requests, answers, and the errors in them.

Big endian. A request is a header of 40 bytes (name, size of the body, 1 for "answer, please",
0) and its body; so is an answer, whose body ends with a block (status, length, text) that says
whether the controller could do it.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from stm_keras.errors import InputError
from stm_keras.terminal import one_line

HEADER = struct.Struct(">32siHH")
MAX_BODY = 256 << 20  # bytes of an answer; a frame of 8192 x 8192 pixels has as many
NUMBERS = {kind: struct.Struct(f">{kind}") for kind in "HIifd"}
BLOCK = struct.Struct(">Ii")  # error status, length of its text


class NanonisError(InputError):
    """A controller cannot be reached, cannot be used, or is not there any more."""


class DamagedError(NanonisError):
    """What came is no answer to what was asked: the connection is of no use any more."""


class RefusedError(NanonisError):
    """The controller answered with an error. The connection goes on."""


@dataclass(frozen=True)
class Command:
    """What a command takes and returns.

    Args:
        takes: str. Types of the body as of `struct`.
        returns: tuple of tuples of str, one for each release that differs. "text" is a string,
            "texts" an array of strings, "ints" an array of int32 after its length, "frame" a
            2-D array of float32; else a type as of `struct`.
        more: bool. Other values follow, which differ by release and are not read.
    """

    takes: str = ""
    returns: tuple[tuple[str, ...], ...] = ((),)
    more: bool = False


NUMBER = Command(returns=(("f",),))
COMMANDS: Mapping[str, Command] = MappingProxyType(  # all that this program may ever send
    {
        "Scan.WaitEndOfLine": Command("i", (("I", "i", "H", "i"),)),
        "Scan.FrameDataGrab": Command("II", (("text", "frame", "I"),)),
        "Scan.StatusGet": Command(returns=(("I",),)),
        "Scan.BufferGet": Command(returns=(("ints", "i", "i"),)),
        "Scan.FrameGet": Command(returns=(("f",) * 5,)),
        "Scan.SpeedGet": Command(returns=(("f", "f", "f", "f", "H", "f"),)),
        "Scan.PropsGet": Command(returns=(("I", "I", "I", "text", "text"),), more=True),
        "Scan.WaitEndOfScan": Command("i", (("I", "text"),)),
        "Signals.NamesGet": Command(returns=(("texts",),)),
        "Signals.InSlotsGet": Command(returns=(("texts", "ints"),)),
        "Bias.Get": NUMBER,
        "Current.Get": NUMBER,
        "ZCtrl.SetpntGet": NUMBER,
        "ZCtrl.ZPosGet": NUMBER,
        "ZCtrl.OnOffGet": Command(returns=(("I",),)),
        "Util.VersionGet": Command(
            returns=(
                ("text", "text", "I", "I"),
                ("text", "text", "I"),  # R10862
                ("text", "text"),
            )
        ),
        "Util.SessionPathGet": Command(returns=(("text",),)),
    }
)


def encode_request(name: str, types: str = "", *values: float) -> bytes:
    """Return the bytes of a request.

    Args:
        name: str. Of the command.
        types: str. Of its values, as of `struct`.
        *values: Numbers.
    """
    body = struct.pack(f">{types}", *values)
    return HEADER.pack(name.encode("ascii"), len(body), 1, 0) + body


def decode_header(header: bytes, name: str) -> int:
    """Return how many bytes follow the header of an answer.

    Raises:
        DamagedError: It answers something else, or its size cannot be.
    """
    echo, size, _, _ = HEADER.unpack(header)
    if echo != name.encode("ascii").ljust(32, b"\0"):
        found = one_line(echo.rstrip(b"\0").decode(errors="replace"))
        raise DamagedError(
            f"The answer to {name} is named '{found}'. If it stays so, the port is not one of "
            "Nanonis' TCP interface: look at its number."
        )
    if not 0 <= size <= MAX_BODY:
        raise DamagedError(f"The answer to {name} says that it has {size} bytes.")
    return size


def decode_body(name: str, command: Command, body: bytes) -> tuple:
    """Return the values of an answer.

    An error comes as zeros for the values and then its block, or as the block alone. Values and
    block are tried first: the other way round a wait that timed out at line 14 would look
    like an error of 14 characters.

    Raises:
        RefusedError: The controller reports an error.
        DamagedError: The length fits neither.
    """
    alone = _read_block(body)
    if command.more and alone and alone[0]:
        raise _refused(name, alone[1])
    for types in command.returns:
        reader = _Reader(body)
        try:
            values = tuple(reader.take(each) for each in types)
        except _TooShort:
            continue
        block = (0, "") if command.more else _read_block(body[reader.at :])
        if block is None:
            continue
        if block[0]:
            raise _refused(name, block[1])
        return values
    if alone and alone[0]:
        raise _refused(name, alone[1])
    raise DamagedError(f"The answer to {name} has {len(body)} bytes, which do not fit.")


def _refused(name, text):
    text = one_line(text.strip()) or "an error without a text"
    return RefusedError(f"Nanonis refuses {name}: {text}")


def _read_block(data):
    """Return (status, text) where an error block takes all of the bytes, else None."""
    if len(data) < BLOCK.size:
        return None
    status, length = BLOCK.unpack_from(data)
    text = data[BLOCK.size :]
    return (status, _decode_text(text)) if len(text) == length else None


def _decode_text(data):
    """Decode a string, in UTF-8 or else in Latin-1: nobody says which it is."""
    try:
        return bytes(data).decode()
    except UnicodeDecodeError:
        return bytes(data).decode("latin-1", errors="replace")


class _TooShort(Exception):
    """A value would end behind the body."""


class _Reader:
    """The values of a body, one after the other, none of which may end behind it."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, kind):
        if kind in NUMBERS:
            return NUMBERS[kind].unpack(self._bytes(NUMBERS[kind].size))[0]
        return getattr(self, f"_take_{kind}")()

    def _bytes(self, size):
        if not 0 <= size <= len(self.data) - self.at:
            raise _TooShort
        self.at += size
        return self.data[self.at - size : self.at]

    def _take_text(self):
        return _decode_text(self._bytes(self.take("i")))

    def _take_texts(self):
        self.take("i")  # bytes in all: with or without the lengths, as it seems
        count = self.take("i")
        if not 0 <= count <= len(self.data) // 4:
            raise _TooShort
        return [self._take_text() for _ in range(count)]

    def _take_ints(self):
        count = self.take("i")
        return np.frombuffer(self._bytes(4 * count), ">i4").tolist()

    def _take_frame(self):
        rows, columns = self.take("i"), self.take("i")
        if rows < 0 or columns < 0:
            raise _TooShort
        data = self._bytes(4 * rows * columns)
        return np.frombuffer(data, ">f4").reshape(rows, columns).astype(np.float32)
