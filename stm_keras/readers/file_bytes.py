"""Read the bytes of a scan file, and turn what is wrong with them into one line."""

import io
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.memory import charge

DEFLATE = 1100  # bytes one stored byte can become, a little more than deflate can
MAX_PIXELS = 1 << 30  # of one image: no microscope has more, whatever the memory
LONGEST_END = 22 + (1 << 16)  # bytes after the list of a zip archive, with its comment
ENTRY = 16  # bytes of memory for a byte of that list
PIECE = 1 << 14  # packed bytes that are unpacked at a time
NOT_READ = (
    r"(?:invalid literal for int\(\).*?|could not convert string to float): (.{1,60}).*"
)
POINTER = b"version https://git-lfs"

# What parsing raises for damaged bytes, depending on the byte that is wrong.
DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


class Later:
    """An array of a file that is read when it is first looked at; NumPy takes it as one.

    `read` is a function without arguments that returns the array, and charges its memory.
    """

    def __init__(self, shape: tuple, dtype: object, read: Callable[[], np.ndarray]):
        self.shape, self.dtype = tuple(map(int, shape)), np.dtype(dtype)
        self.ndim = len(self.shape)
        self._read, self._array = read, None

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        if self._array is None:
            self._array, self._read = self._read(), None
        # NumPy before 2 knows no `copy=None`
        return np.array(self._array, dtype) if copy else np.asarray(self._array, dtype)

    def __iter__(self) -> Iterator["Later"]:
        for index in range(self.shape[0]):
            yield Later(self.shape[1:], self.dtype, lambda i=index: np.asarray(self)[i])

    def __getitem__(self, index: object):
        if index is None:
            return Later((1, *self.shape), self.dtype, lambda: np.asarray(self)[None])
        return np.asarray(self)[index]

    def transpose(self, axes: tuple) -> "Later":
        """Return the array with its axes in another order, read as late."""
        shape = tuple(self.shape[axis] for axis in axes)
        return Later(shape, self.dtype, lambda: np.asarray(self).transpose(axes))


def read_bytes(path: str | Path) -> bytes:
    """Read a whole file at once, so that one being written does not change underneath.

    Raises:
        ScanError: The file is missing, empty, not an ordinary file, may not be read, or is a
            pointer that Git LFS left in its place.
        StmKerasError: It is larger than the memory that one file may take.
    """
    path = Path(path)
    if path.is_dir():
        raise ScanError(f"{path}: is a folder. Give a scan file.")
    if not path.exists():
        raise ScanError(f"{path}: does not exist. Give the path of a scan file.")
    if not path.is_file():
        raise ScanError(f"{path}: is not an ordinary file. Give a scan file.")
    try:
        size = path.stat().st_size
        charge(size, "to be read")
        with path.open("rb") as file:
            data = file.read(size)
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if not data:
        raise ScanError(f"{path}: is empty. Copy it again from the microscope's computer.")
    if data.startswith(POINTER):
        raise ScanError(f"{path}: is a Git LFS pointer, not the scan. Run: git lfs pull")
    return data


@contextmanager
def damage(path: object, kind: str) -> Iterator:
    """Turn what parsing raises for damaged bytes into a `ScanError`.

    `kind` is what the file seems to be, such as "Nanonis file".
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except ScanError:
        raise
    except DAMAGE as error:
        named = isinstance(error, KeyError) and error.args  # whose text is in quotes
        reason = str(error.args[0] if named else error).strip()
        reason = re.sub(NOT_READ, r"\1 is not a number", reason) or type(error).__name__
        reason = reason.splitlines()[0]
        raise ScanError(
            f"{path}: is a damaged {kind} ({reason[:160]}). Copy it again from the "
            "microscope's computer."
        ) from None


def charge_list(file: BinaryIO) -> None:
    """Charge the list of a zip archive, which `zipfile` reads whole. Leaves the file at 0."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - LONGEST_END, 0))
    end = file.read()
    start = end.rfind(b"PK\5\6")
    if start >= 0 and len(end) >= start + 16:
        listed = struct.unpack_from("<I", end, start + 12)[0]
        charge(min(listed, size) * ENTRY, "the list of its members")
    file.seek(0)


def check_length(
    path: object, needed: int, size: int, who: str = "its header promises"
) -> None:
    """Raise a `ScanError` unless a file has as many bytes of data as `who` says it should."""
    if size < needed:
        raise ScanError(
            f"{path}: is cut short: {size} bytes of data where {who} {needed}. Copy it "
            "again in binary mode, or wait until it is written."
        )


def check_shape(path: object, lines: int, pixels: int, images: int = 1) -> None:
    """Raise a `ScanError` unless a header's image is one that can be."""
    if lines < 1 or pixels < 2 or images < 1 or lines * pixels > MAX_PIXELS:
        raise ScanError(
            f"{path}: has an impossible header: {images} images of {lines} lines x "
            f"{pixels} pixels. Copy it again."
        )


def inflate(path: object, data: bytes, needed: int) -> memoryview:
    """Unpack deflated bytes, no more than are needed.

    Returns:
        Bytes in memory, at most `needed` of them: fewer where the stream is cut.

    Raises:
        ScanError: More bytes are promised than so few can hold.
        StmKerasError: They are more than one file may take.
        zlib.error: The stream is damaged.
    """
    if needed > len(data) * DEFLATE:
        raise ScanError(
            f"{path}: is cut short: {len(data)} packed bytes cannot hold the {needed} "
            "that its header promises. Copy it again in binary mode."
        )
    charge(needed, "unpacked")
    unpacked, size, stream = memoryview(bytearray(needed)), 0, zlib.decompressobj()
    packed = memoryview(data)
    for start in range(0, len(packed), PIECE):
        piece = packed[start : start + PIECE]
        while len(piece) and size < needed:  # a limit of 0 would be none
            part = stream.decompress(piece, needed - size)
            unpacked[size : size + len(part)] = part
            size, piece = size + len(part), stream.unconsumed_tail
        if size == needed or stream.eof:
            break
    return unpacked[:size]
