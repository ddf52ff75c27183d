"""Get the bytes of a scan file, and turn what is wrong with them into one line."""

import struct
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from stm_keras.errors import ScanError

MAX_BYTES = 1 << 30  # of a file, and of what it unpacks to
MAX_PIXELS = 1 << 26  # of one image: 8192 x 8192
DEFLATE = 1100  # bytes one stored byte can become, a little more than deflate can
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


def read_bytes(path):
    """Read a whole file at once, so that one being written does not change underneath.

    Args:
        path: str or `Path`.

    Returns:
        bytes.

    Raises:
        ScanError: The file is missing, empty, no ordinary file, too large, may not be
            read, or is a pointer that Git LFS left in its place.
    """
    path = Path(path)
    if path.is_dir():
        raise ScanError(f"{path}: is a folder. Give a scan file.")
    if not path.exists():
        raise ScanError(f"{path}: does not exist. Give the path of a scan file.")
    if not path.is_file():
        raise ScanError(f"{path}: is no ordinary file. Give a scan file.")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ScanError(
                f"{path}: has {path.stat().st_size / 2**30:.1f} GiB. Scan files of up to "
                f"{MAX_BYTES / 2**30:.0f} GiB are read."
            )
        data = path.read_bytes()
    except OSError as error:
        raise ScanError(f"{path}: cannot be read ({error.strerror or error}).") from None
    if not data:
        raise ScanError(f"{path}: is empty. Copy it again from the microscope's computer.")
    if data.startswith(POINTER):
        raise ScanError(f"{path}: is a Git LFS pointer, not the scan. Type: git lfs pull")
    return data


@contextmanager
def damage(path, what):
    """Turn what parsing raises for damaged bytes into a `ScanError`.

    Args:
        path: str or `Path`. Named in the error.
        what: str. What the file seems to be, such as "Nanonis file".
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except ScanError:
        raise
    except DAMAGE as error:
        reason = (str(error).strip("\"' \n") or type(error).__name__).splitlines()[0]
        raise ScanError(
            f"{path}: is a damaged {what} ({reason[:160]}). Copy it again from the "
            "microscope's computer."
        ) from None


def check_length(path, needed, there, what="its header promises"):
    """Raise a `ScanError` unless a file has as many bytes of data as it should.

    Args:
        path: str or `Path`. Named in the error.
        needed: int. Bytes that there should be.
        there: int. Bytes that there are.
        what: str. Who says so.
    """
    if there < needed:
        raise ScanError(
            f"{path}: is cut short: {there} bytes of data where {what} {needed}. Copy it "
            "again in binary mode, or wait until it is written."
        )


def check_shape(path, lines, pixels, images=1):
    """Raise a `ScanError` unless a header's image is one that can be.

    Args:
        path: str or `Path`. Named in the error.
        lines, pixels, images: int. What the header says.
    """
    if lines < 1 or pixels < 2 or images < 1 or lines * pixels > MAX_PIXELS:
        raise ScanError(
            f"{path}: has an impossible header: {images} images of {lines} lines x "
            f"{pixels} pixels. Copy it again."
        )


def inflate(path, data, needed):
    """Unpack deflated bytes, no more than are needed.

    Args:
        path: str or `Path`. Named in the error.
        data: bytes.
        needed: int. Bytes that should come out.

    Returns:
        bytes, at most `needed` of them: fewer where the stream is cut.

    Raises:
        ScanError: More bytes are promised than so few can hold.
    """
    if needed > min(len(data) * DEFLATE, MAX_BYTES):
        raise ScanError(
            f"{path}: is cut short: {len(data)} packed bytes cannot hold the {needed} "
            "that its header promises. Copy it again in binary mode."
        )
    return zlib.decompressobj().decompress(data, max(needed, 1))
