"""Read the arrays of an old MATLAB file (version 5 to 7, not 7.3).

Only arrays of real numbers and of letters are taken; objects, cells and structures are
passed over, and nothing in the file is run. SciPy reads such files too, but is not part of a
plain installation.

Source: MAT-File Format, The MathWorks, chapter 1 (level 5).
"""

import math
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from stm_keras.readers.file_bytes import Later, damage, inflate

MAGIC = b"MATLAB 5.0"
HEADER = 128
MATRIX, PACKED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
TYPES |= {12: "i8", 13: "u8", 16: "u1", 17: "u2"}
NUMBERS, LETTERS = range(6, 16), 4  # classes of arrays
MOST = 1000
LONGEST = 4096  # letters of a text
BEGINNING = 4096  # bytes of an array that hold its name


def read_arrays(path: str | Path, data: bytes) -> dict:
    """Read all arrays of numbers, and texts: dict of str to `Later` or str, in file order.

    They are as MATLAB shows them: an image's first axis is its lines.
        ValueError, struct.error: The file is damaged.
    """
    order = ">" if data[126:128] == b"MI" else "<"
    arrays, start, data = {}, HEADER, memoryview(data)
    while start + 8 <= len(data) and len(arrays) < MOST:
        kind, size = struct.unpack_from(f"{order}II", data, start)
        body = data[start + 8 : start + 8 + size]
        if len(body) < size:
            raise ValueError(f"ends after {len(body)} of {size} bytes of an array")
        start += 8 + size
        head, packed = body[:BEGINNING], kind == PACKED
        if packed:
            head = zlib.decompressobj().decompress(body, BEGINNING + 8)
            kind, size = struct.unpack_from(f"{order}II", head)
            head = head[8:]
        if kind == MATRIX:
            read = partial(memoryview, body)
            if packed:
                read = partial(_unpacked, path, body, size)
            name, value = _matrix(path, head, size, order, read)
            if value is not None:
                arrays[name] = value
    return arrays


def _unpacked(path, body, size):
    return inflate(path, body, size + 8)[8:]


def read_names(path: str | Path) -> set:
    """List the names of a file's arrays, reading only their beginnings.

    Of a damaged file these are the names before the damage.
    """
    names = set()
    with Path(path).open("rb") as file:
        order = ">" if file.read(HEADER)[126:128] == b"MI" else "<"
        try:
            for _ in range(MOST):
                kind, size = struct.unpack(f"{order}II", file.read(8))
                body, after = file.read(min(size, BEGINNING)), file.tell() + size
                after -= min(size, BEGINNING)
                if kind == PACKED:
                    body = zlib.decompressobj().decompress(body, BEGINNING)
                    kind, body = struct.unpack_from(f"{order}I", body)[0], body[8:]
                if kind == MATRIX:
                    names.add(_header(body, order)[0])
                file.seek(after)
        except (struct.error, zlib.error, ValueError, LookupError):
            return names
    return names


def _header(body, order):
    """Return name, flags, shape and where the values of an array begin."""
    flags, start = _element(body, 0, order)
    shape, start = _element(body, start, order)
    name, start = _element(body, start, order)
    with np.errstate(invalid="ignore"):  # a damaged name may be of any kind of numbers
        name = bytes(name.astype("u1")).decode("latin-1")
    return name, int(flags[0]), shape, start


def _matrix(path, head, size, order, read):
    """Return the name of an array, and the array, which is read later; or a text."""
    name, flags, shape, start = _header(head, order)
    kind, complex_ = flags & 255, flags & 0x800
    if complex_ or (kind != LETTERS and kind not in NUMBERS):
        return name, None
    dtype, length, start, _ = _tag(head, start, order)
    shape, count = tuple(shape.tolist()), length // dtype.itemsize
    if kind == LETTERS:
        letters = np.frombuffer(read()[start:], dtype, min(count, LONGEST))
        return name, "".join(map(chr, letters.astype(int)))
    if math.prod(shape) != count or min(shape) < 0:
        raise ValueError(f"{name} has {count} values where its shape says more")
    if length > size - start:
        raise ValueError("ends within an array")

    def values():
        with damage(path, "MATLAB file"):
            array = np.frombuffer(read(), dtype, count, start)
        return array.reshape(shape, order="F")

    return name, Later(shape, dtype, values)


def _element(body, start, order):
    """Read one element: tuple of its array and where the next begins."""
    dtype, size, start, after = _tag(body, start, order)
    if size > len(body) - start:
        raise ValueError("ends within an array")
    return np.frombuffer(body, dtype, size // dtype.itemsize, start), after


def _tag(body, start, order):
    """Read what stands before an element: dtype, bytes, its start, and that of the next."""
    (first,) = struct.unpack_from(f"{order}I", body, start)
    if first >> 16:  # a small one, its length and type in one word
        kind, size = first & 0xFFFF, first >> 16
        start, after = start + 4, start + 8
    else:
        kind = first
        (size,) = struct.unpack_from(f"{order}I", body, start + 4)
        start += 8
        after = start + size + -size % 8
    return np.dtype(TYPES[kind]).newbyteorder(order), size, start, after
