"""Damage bytes: as a broken disk or cable would, and as somebody who knows the format."""

import random
import re
import struct

from fuzz import structures

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000)
EXTREMES += (0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0xFFFFFFFFFFFFFFFF)
FLOATS = (float("nan"), float("inf"), -float("inf"), 1e300, -1e30, 1e-300, 0.0, -1.0)
WORDS = (b"1e308", b"-1e308", b"1e-308", b"-1", b"0", b"nan", b"inf", b"1e999")
WORDS += (
    b"99999999999",
    b"2147483648",
    b"-2147483649",
    b"18446744073709551616",
    b"9" * 5000,
)
PIECES = (b"\0", b"\n", b"=", b"\xff\xfe", b"\x1b[2J", b"%s%n", b"\t", b":", b"\xc3", b'"')
EARLY = 0.1  # share of a file in which headers are


def mutate(
    data: bytes, draw: random.Random, other: bytes = b"", deep: bool = True
) -> bytes:
    """Return a damaged copy of a file, from a single bit to another file's half.

    Args:
        data: bytes.
        draw: `random.Random`; the same gives the same.
        other: bytes of another file, to splice.
        deep: bool. Whether the format may be known: parts are unpacked, damaged and packed
            again, so that what comes after their checks is reached as well.
    """
    if deep and draw.random() < 0.5:
        known = structures.damaged(data, draw, mutate)
        if known is not None:
            data = known
            if draw.random() < 0.7:
                return data
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        data = draw.choice(WAYS)(data, draw, other)
    return data


def _place(data, draw):
    share = draw.random() * (EARLY if draw.random() < 0.5 else 1)
    return int(share * len(data))


def _flip(data, draw, other):
    data = bytearray(data)
    if data:
        data[_place(data, draw)] ^= 1 << draw.randrange(8)
    return bytes(data)


def _put(data, draw, other):
    place, piece = _place(data, draw), _piece(draw)
    return data[:place] + piece + data[place + len(piece) :]


def _insert(data, draw, other):
    place = _place(data, draw)
    return data[:place] + _piece(draw) * draw.choice((1, 1, 1, 50)) + data[place:]


def _piece(draw):
    if draw.random() < 0.3:
        return draw.choice(PIECES + WORDS[:-1])
    return draw.randbytes(draw.randint(1, 16))


def _number(data, draw, other):
    """Replace an integer or a float by an extreme or by its neighbour, in either order."""
    width, order = draw.choice((1, 2, 4, 4, 8)), draw.choice("<>")
    place = _place(data, draw)
    place -= place % draw.choice((1, width))
    old = data[place : place + width]
    if len(old) < width:
        return data
    if width >= 4 and draw.random() < 0.25:
        new = struct.pack(
            order + {4: "f", 8: "d"}[width], _fits(draw.choice(FLOATS), width)
        )
    else:
        code = order + {1: "B", 2: "H", 4: "I", 8: "Q"}[width]
        (value,) = struct.unpack(code, old)
        value = draw.choice((value + 1, value - 1, value * 2, -value, *EXTREMES))
        new = struct.pack(code, value % (1 << 8 * width))
    return data[:place] + new + data[place + width :]


def _fits(value, width):
    return float("inf") if width == 4 and abs(value) > 1e38 else value


def _digits(data, draw, other):
    """Replace a number that stands in a file as text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?", data[: 1 << 16]))
    if not found:
        return _put(data, draw, other)
    one = draw.choice(found)
    return data[: one.start()] + draw.choice(WORDS) + data[one.end() :]


def _line(data, draw, other):
    """Drop, double, move or cut short a line of a header."""
    head, rest = data[: 1 << 16], data[1 << 16 :]
    lines = head.split(b"\n")
    number = draw.randrange(len(lines))
    way = draw.randrange(4)
    if way == 0:
        del lines[number]
    elif way == 1:
        lines.insert(number, lines[draw.randrange(len(lines))])
    elif way == 2:
        lines[number] = lines[draw.randrange(len(lines))]
    else:
        lines[number] = lines[number][: draw.randrange(len(lines[number]) + 1)]
    return b"\n".join(lines) + rest


def _cut(data, draw, other):
    return data[: max(_place(data, draw), 1)]


def _drop(data, draw, other):
    place = _place(data, draw)
    return data[:place] + data[place + draw.choice((1, 2, 4, 16, 256)) :]


def _double(data, draw, other):
    place, length = _place(data, draw), draw.choice((4, 64, 1024))
    return (
        data[:place] + data[place : place + length] * draw.choice((2, 2, 9)) + data[place:]
    )


def _fill(data, draw, other):
    place, length = _place(data, draw), draw.choice((2, 8, 64, 1024))
    run = bytes([draw.choice((0, 255, 32, draw.randrange(256)))]) * length
    return data[:place] + run[: max(len(data) - place, 0)] + data[place + length :]


def _splice(data, draw, other):
    """Join the beginning of one file to the end of another, or put a block of it in."""
    other = other or data
    if draw.random() < 0.5:
        return data[: _place(data, draw)] + other[int(draw.random() * len(other)) :]
    place, start, length = _place(data, draw), _place(other, draw), draw.randint(4, 512)
    return data[:place] + other[start : start + length] + data[place + length :]


WAYS = (_flip, _flip, _put, _put, _insert, _number, _number, _number, _number)
WAYS += (_digits, _digits, _line, _cut, _drop, _double, _fill, _splice)
