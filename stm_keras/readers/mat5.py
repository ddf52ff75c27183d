"""Read the arrays of an old MATLAB file (version 5 to 7, not 7.3).

Only arrays of real numbers and of letters are taken; objects, cells and structures are
passed over, and nothing in the file is run.

Source: MAT-File Format, The MathWorks, chapter 1 (level 5).
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np

from stm_keras.readers.source import DEFLATE, MAX_BYTES, inflate

MAGIC = b"MATLAB 5.0"
HEADER = 128
MATRIX, PACKED = 14, 15
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8"}
TYPES |= {12: "i8", 13: "u8", 16: "u1", 17: "u2"}
NUMBERS, LETTERS = range(6, 16), 4  # classes of arrays
MOST = 1000
BEGINNING = 4096  # bytes of an array that hold its name


def read_arrays(path, data):
    """Read all arrays of numbers, and texts.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.

    Returns:
        dict of str to array or str, in the order of the file. As MATLAB shows them: an
        image's first axis is its lines.

    Raises:
        ValueError, struct.error: The file is damaged.
    """
    order = ">" if data[126:128] == b"MI" else "<"
    found, place = {}, HEADER
    while place + 8 <= len(data) and len(found) < MOST:
        kind, size = struct.unpack_from(f"{order}II", data, place)
        body = data[place + 8 : place + 8 + size]
        if len(body) < size:
            raise ValueError(f"ends after {len(body)} of {size} bytes of an array")
        place += 8 + size
        if kind == PACKED:
            body = inflate(path, body, min(len(body) * DEFLATE, MAX_BYTES))
            kind, size = struct.unpack_from(f"{order}II", body)
            body = body[8 : 8 + size]
        if kind == MATRIX:
            name, value = _matrix(body, order)
            if value is not None:
                found[name] = value
    return found


def read_names(path: str | Path) -> set:
    """List the names of a file's arrays, of which only the beginnings are read.

    Args:
        path: str or `Path`.

    Returns:
        set of str; of a damaged file, those before the damage.

    Raises:
        OSError: The file cannot be read.
    """
    found = set()
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
                    found.add(_about(body, order)[0])
                file.seek(after)
        except (struct.error, zlib.error, ValueError, LookupError):
            return found
    return found


def _about(body, order):
    """Return name, flags, shape and where the values of an array begin."""
    flags, place = _element(body, 0, order)
    shape, place = _element(body, place, order)
    name, place = _element(body, place, order)
    return bytes(name.astype("u1")).decode("latin-1"), int(flags[0]), shape, place


def _matrix(body, order):
    name, flags, shape, place = _about(body, order)
    kind, complex_ = flags & 255, flags & 0x800
    if complex_ or (kind != LETTERS and kind not in NUMBERS):
        return name, None
    values, place = _element(body, place, order)
    if kind == LETTERS:
        return name, "".join(map(chr, values.astype(int).ravel()[:4096]))
    if math.prod(shape.tolist()) != len(values) or (shape < 0).any():
        raise ValueError(f"{name} has {len(values)} values where its shape says more")
    return name, values.reshape(shape.tolist(), order="F")


def _element(body, place, order):
    """Read one element: tuple of its array and where the next begins."""
    (first,) = struct.unpack_from(f"{order}I", body, place)
    if first >> 16:  # a small one, its length and type in one word
        kind, size, start = first & 0xFFFF, first >> 16, place + 4
        after = place + 8
    else:
        kind = first
        (size,) = struct.unpack_from(f"{order}I", body, place + 4)
        start = place + 8
        after = start + size + -size % 8
    dtype = np.dtype(TYPES[kind]).newbyteorder(order)
    if size > len(body) - start:
        raise ValueError("ends within an array")
    return np.frombuffer(body, dtype, size // dtype.itemsize, start), after
