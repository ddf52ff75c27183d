"""Look into TIFF files: scans hidden in them, and real numbers that Pillow cannot read.

Park and JPK keep a scan in TIFF tags of their own, beside a coloured preview.

Source: TIFF revision 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
"""

import io
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.memory import charge
from stm_keras.readers.file_bytes import DEFLATE, check_length, check_shape, inflate

ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
MAKERS = {  # tags that only one maker writes: how its files are called here
    **dict.fromkeys(range(50432, 50442), "park"),
    **dict.fromkeys(range(32816, 32900), "jpk"),
}
DIRECTORIES, ENTRIES = 4, 4096  # at most, of a file and of one of them
LISTED = 40  # bytes of a number in a list
CODES = {1: "B", 3: "H", 4: "I"}  # whole numbers, by their type
WIDTH, HEIGHT, BITS, PACKING = 256, 257, 258, 259
OFFSETS, SAMPLES, COUNTS, PREDICTOR, TILES, KIND = 273, 277, 279, 317, 322, 339
DEFLATED = (8, 32946)
KINDS = {(3, 16): "f2", (3, 32): "f4", (3, 64): "f8", (2, 8): "i1", (2, 64): "i8"}
KINDS |= {(2, 16): "i2", (2, 32): "i4", (1, 16): "u2", (1, 32): "u4", (1, 64): "u8"}


def maker(path: Path, head: bytes) -> str | None:
    """Tell whose scan a TIFF file holds: "park", "jpk", or None for a plain picture."""
    try:
        with path.open("rb") as file:
            tags = (tag for directory in _directories(file) for tag in directory)
            return next((MAKERS[tag] for tag in tags if tag in MAKERS), None)
    except (struct.error, OSError, OverflowError):
        return None


def real_values(path: Path, file: BinaryIO) -> np.ndarray | None:
    """Read a TIFF file of one channel of numbers that are not shades of grey.

    Returns:
        array of shape `(lines, pixels)`; None where Pillow reads the file as it is: 8 or
        16 bits, or 32 that are floats or signed.
    """
    try:
        if _at(file, 0, 4) not in ORDERS:
            return None
        directories = list(_directories(file))
        tags = directories[0] if directories else {}
        order = ORDERS[_at(file, 0, 4)]
        bits, kind = (_numbers(file, order, tags.get(tag)) for tag in (BITS, KIND))
        samples = _numbers(file, order, tags.get(SAMPLES)) or (1,)
        dtype = KINDS.get(((kind or (1,))[0], (bits or (1,))[0]))
        if samples != (1,) or dtype in (None, "u2", "i2", "i4", "f4"):
            return None
        if len(directories) > 1:
            raise ScanError(f"{path}: holds several pictures. Save one scan per file.")
        return _strips(path, file, order, tags, order + dtype)
    except (struct.error, LookupError, ValueError, OverflowError, zlib.error) as error:
        raise ScanError(f"{path}: is a damaged TIFF ({error}). Export it again.") from None


def _strips(path, file, order, tags, dtype):
    def numbers(tag, default=()):
        return _numbers(file, order, tags.get(tag)) or default

    (lines,), (pixels,) = numbers(HEIGHT), numbers(WIDTH)
    check_shape(path, lines, pixels)
    packing, predictor = numbers(PACKING, (1,))[0], numbers(PREDICTOR, (1,))[0]
    if packing not in (1, *DEFLATED) or predictor != 1 or TILES in tags:
        raise ScanError(
            f"{path}: is a TIFF of {np.dtype(dtype).name}, packed in a way that is not read. "
            "Save it without compression, or as 32-bit float."
        )
    needed = left = lines * pixels * np.dtype(dtype).itemsize
    charge(2 * needed, f"a picture of {lines} x {pixels} pixels")
    strips = []
    for offset, count in zip(numbers(OFFSETS), numbers(COUNTS), strict=True):
        strip = _at(file, offset, count)
        if packing != 1:
            strip = inflate(path, strip, min(left, len(strip) * DEFLATE))
        strips.append(strip[:left])
        left -= len(strips[-1])
    check_length(path, needed, needed - left)
    return np.frombuffer(b"".join(strips), dtype).reshape(lines, pixels)


def _directories(file):
    """Yield the first directories of a TIFF file: dict of tag to (type, count, offset)."""
    order = ORDERS.get(_at(file, 0, 4))
    seen, offset = set(), order and struct.unpack(f"{order}I", _at(file, 4, 4))[0]
    while offset and offset not in seen and len(seen) < DIRECTORIES:
        seen.add(offset)
        (count,) = struct.unpack(f"{order}H", _at(file, offset, 2))
        raw = _at(file, offset + 2, 12 * min(count, ENTRIES))
        entries = struct.iter_unpack(f"{order}HHI4x", raw[: len(raw) // 12 * 12])
        yield {
            tag: (kind, number, offset + 2 + 12 * index + 8)
            for index, (tag, kind, number) in enumerate(entries)
        }
        after = _at(file, offset + 2 + 12 * count, 4)
        (offset,) = struct.unpack(f"{order}I", after) if len(after) == 4 else (0,)


def _numbers(file, order, entry):
    """Return the whole numbers of a tag: tuple of int; () where there is none."""
    if entry is None or entry[0] not in CODES:
        return ()
    kind, count, start = entry
    size = struct.calcsize(CODES[kind])
    charge(min(count, file.seek(0, io.SEEK_END)) * LISTED, "the list of its strips")
    if count * size > 4:
        (start,) = struct.unpack(f"{order}I", _at(file, start, 4))
    raw = _at(file, start, count * size)
    raw = raw[: len(raw) // size * size]
    return struct.unpack(f"{order}{len(raw) // size}{CODES[kind]}", raw)


def _at(file, offset, count):
    file.seek(offset)
    return file.read(count)
