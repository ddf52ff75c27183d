"""Read datasets from NPZ archives, straight into place and without any pickle."""

import struct
import zipfile
import zlib
from contextlib import contextmanager
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from stm_keras.data.hdf5 import ARRAYS
from stm_keras.data.raw import BLOCK_BYTES, Found, listed_keys
from stm_keras.errors import DatasetError
from stm_keras.memory import charge
from stm_keras.readers.file_bytes import DEFLATE, charge_list
from stm_keras.untrusted import plain_members


def read_npz(path):
    """Read a dataset from an NPZ archive with `images` and `labels` or `votes`.

    Args:
        path: `Path`.

    Returns:
        A `Found`, its images still in the file.

    Raises:
        DatasetError: The archive is damaged, holds Python objects, or has no
            `images`.
    """
    with path.open("rb") as file:
        charge_list(file)
    with _damage(path), zipfile.ZipFile(path) as archive:
        infos = {
            info.filename.removesuffix(".npy"): info for info in plain_members(archive)
        }
        if "images" not in infos:
            raise DatasetError(
                f"{path}: has no `images`. Found: {listed_keys(infos)}. An NPZ dataset has "
                "`images` with `labels` or `votes`: name the scans so."
            )
        arrays = {
            key: _read_array(path, archive, infos[key])
            for key in (*ARRAYS, "classes", "source")
            if key in infos
        }
        images = NpzImages(path, archive, infos["images"])
    classes, source = arrays.pop("classes", None), arrays.pop("source", None)
    return Found(
        images=images,
        arrays=arrays,
        classes=None if classes is None else tuple(classes.astype(np.str_).ravel()),
        source=None if source is None else str(source),
        keys=tuple(infos),
    )


class NpzImages:
    """Images in an NPZ archive, which can only be read in order.

    Args:
        path: `Path` of the archive.
        archive: open `zipfile.ZipFile`.
        info: `zipfile.ZipInfo` of the array.
    """

    def __init__(self, path, archive, info):
        self.path = path
        self.info = info
        with archive.open(info) as stream:
            self.shape, self.fortran, self.dtype = _header(path, info, stream)
        self.ndim = len(self.shape)

    def blocks(self):
        """Yield (slice of scans, slice of pixels, array), in the order of the file."""
        stored = self.shape[::-1] if self.fortran else self.shape
        row = self.dtype.itemsize * stored[1] * stored[2]
        step = max(1, BLOCK_BYTES // row)
        with (
            _damage(self.path),
            zipfile.ZipFile(self.path) as archive,
            archive.open(self.info) as stream,
        ):
            _header(self.path, self.info, stream)
            for start in range(0, stored[0], step):
                rows = slice(start, min(start + step, stored[0]))
                block = np.empty((rows.stop - start, *stored[1:]), self.dtype)
                _fill(stream, block)
                if self.fortran:
                    yield slice(None), rows, block.transpose(2, 1, 0)
                else:
                    yield rows, slice(None), block
            stream.read(1)  # at its end zipfile compares the checksum


def _read_array(path, archive, info):
    with archive.open(info) as stream:
        shape, fortran, dtype = _header(path, info, stream)
        charge(info.file_size, f"`{info.filename}`")
        array = np.empty(shape[::-1] if fortran else shape, dtype)
        _fill(stream, array)
        stream.read(1)
    if dtype.kind == "U" and dtype.itemsize and array.size:
        letters = np.frombuffer(array.tobytes(), dtype.str[0] + "u4")
        if letters.max() >= 0x110000:
            key = info.filename.removesuffix(".npy")
            raise DatasetError(f"{path}: `{key}` is damaged: no letters. Make it again.")
    return array.T if fortran else array


def _header(path, info, stream):
    """Return shape, order and dtype of an array, if its data can be in the archive."""
    key = info.filename.removesuffix(".npy")
    kept = min(info.compress_size, path.stat().st_size)
    if info.file_size > kept * (DEFLATE if info.compress_type else 1):
        raise DatasetError(
            f"{path}: `{key}` declares {info.file_size} bytes, but only {kept} are stored. "
            "The file is damaged: make it again."
        )
    try:
        version = npy.read_magic(stream)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, fortran, dtype = readers[version](stream)
    except (ValueError, KeyError, TypeError, SyntaxError, TokenError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path}: `{key}` is no plain NumPy array ({reason}).") from None
    if dtype.hasobject:
        raise DatasetError(
            f"{path}: `{key}` holds Python objects. Reading them could run code and is "
            'refused. Save numbers, or text as `array.astype("U")`.'
        )
    if dtype.kind not in "biufUS":
        raise DatasetError(
            f"{path}: `{key}` must hold numbers or text. Received: dtype {dtype}."
        )
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if declared != info.file_size - stream.tell() or min(shape, default=0) < 0:
        raise DatasetError(
            f"{path}: `{key}` declares {declared} bytes (shape {shape}, {dtype}), but "
            f"holds {info.file_size - stream.tell()}. The file is damaged: make it again."
        )
    return shape, fortran, dtype


def _fill(stream, array):
    if not array.nbytes:
        return
    target = memoryview(array.reshape(-1).view(np.uint8))
    position = 0
    while position < len(target):
        count = stream.readinto(target[position:])
        if not count:
            raise EOFError
        position += count


@contextmanager
def _damage(path):
    """Turn what zipfile says of a damaged archive into one line."""
    try:
        yield
    except NotImplementedError as error:
        raise DatasetError(f"{path}: {error}. Save it with numpy.savez.") from None
    except PermissionError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        OSError,
        RuntimeError,
        ValueError,
    ) as error:
        reason = repr(str(error) or "unexpected end")[1:-1]
        raise DatasetError(
            f"{path}: is damaged or cut short ({reason}). Copy the file again."
        ) from None
