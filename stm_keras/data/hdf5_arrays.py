"""Arrays of HDF5 files: small ones are read, images stay there and are read when indexed."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from stm_keras.data.dataset import LazyArray
from stm_keras.data.raw import block_scans, clean, listed_keys, must
from stm_keras.errors import DatasetError, InputError
from stm_keras.memory import borrow, charge, limited
from stm_keras.readers.hdf5_open import (
    SMALL,
    UNSEEN,
    check_heaps,
    is_plain,
    is_stored,
    longest_text,
    names_of,
    read_all,
)
from stm_keras.readers.hdf5_parts import Parts

CHUNK_CACHE = 4 << 20  # room for chunks of many scans; HDF5's own 1 MiB is too little
# What h5py raises for damaged headers and data, depending on the byte that is wrong.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


class StoredImages(LazyArray):
    """Scans in an HDF5 file, which look like an array of `(scans, lines, pixels)`.

    The file is opened at the first use in each process: an open HDF5 file survives
    neither pickling nor a fork. Indexing gives 0 for what is not finite.

    `axes` are those of the HDF5 dataset `key` that hold scans, lines and pixels.
    """

    def __init__(self, path, key, shape, stored_dtype, dtype=None, axes=(0, 1, 2)):
        self.path = Path(path).absolute()
        self.key = key
        self.shape = tuple(shape)
        self.stored_dtype = np.dtype(stored_dtype)
        self.dtype = np.dtype(stored_dtype if dtype is None else dtype)
        self.axes = axes
        self._stamp = _stamp(self.path)
        self._opened = None

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def blocks(self) -> Iterator[tuple]:
        """Yield (slice of scans, array) as stored, NaN and all."""
        step = block_scans(self.shape, self.stored_dtype.itemsize)
        for start in range(0, len(self), step):
            scans = slice(start, min(start + step, len(self)))
            yield scans, self.read(scans.start, scans.stop)

    def in_dtype(self, dtype: np.dtype) -> "StoredImages":
        """Return the same images with another dtype."""
        stored = self.shape, self.stored_dtype
        return type(self)(self.path, self.key, *stored, dtype, self.axes)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read scans `start` to `stop` as they are stored."""
        try:
            return self._read_slice(self._open(), start, stop)
        except DAMAGE as error:
            raise damaged(self.path, error) from None

    def _read_slice(self, parts, start, stop):
        where = [slice(None)] * 3
        where[self.axes[0]] = slice(start, stop)
        return parts.read(tuple(where)).transpose(self.axes)

    def _read_rows(self, indices):
        rows = np.empty((len(indices), *self.shape[1:]), self.dtype)
        # Scans that follow one another are read together, a block at a time.
        order = np.argsort(indices, kind="stable")
        breaks = np.flatnonzero(np.diff(indices[order]) != 1) + 1
        step = block_scans(self.shape, self.stored_dtype.itemsize)
        for run in np.split(order, breaks):
            for part in (run[i : i + step] for i in range(0, len(run), step)):
                first = int(indices[part[0]])
                block = self.read(first, first + len(part))
                with np.errstate(over="ignore", invalid="ignore"):
                    rows[part] = clean(block.astype(self.dtype, copy=False))
        return rows

    def _open(self):
        process, parts = self._opened or (None, None)
        if process != os.getpid():
            if _stamp(self.path) != self._stamp:
                raise InputError(
                    f"{self.path}: changed since it was loaded. Load it again."
                )
            parts = Parts(open_unlocked(self.path)[self.key])
            self._opened = os.getpid(), parts
        return parts


def _stamp(path):
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    return status.st_size, status.st_mtime_ns


@contextmanager
def open_file(path: str | Path, search: bool = True) -> Iterator[h5py.File]:
    """Open an HDF5 file to read; what HDF5 says of a damaged one becomes one line.

    To `search` it for damaged heaps of texts takes as long as to read it.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a path may be a str
            longest_text.set(check_heaps(file) if search else UNSEEN)
        with limited(), open_unlocked(path) as file:
            yield file
    except PermissionError:
        raise InputError(f"{path}: may not be read. Change its permissions.") from None
    except DAMAGE as error:
        raise damaged(path, error) from None


def open_unlocked(path: str | Path) -> h5py.File:
    """Open an HDF5 file to read without a lock: some network file systems have none."""
    return h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE, locking=False)


def damaged(path: str | Path, error: Exception) -> DatasetError:
    """Return the `DatasetError` for what HDF5 says, which may be many lines."""
    reason = (str(error).strip("\"' \n") or type(error).__name__).splitlines()[0]
    if "unable to lock" in reason:
        return DatasetError(
            f"{path}: cannot be locked, as HDF5_USE_FILE_LOCKING asks for ({reason}). Run: "
            "unset HDF5_USE_FILE_LOCKING"
        )
    return DatasetError(
        f"{path}: is damaged, cut short or compressed in an unknown way ({reason}). Copy "
        "the file again."
    )


def member(path: str | Path, file: h5py.Group, key: str) -> h5py.Dataset:
    """Return an array of an open HDF5 file, if its data are really in the file."""
    if key not in names_of(file):
        raise DatasetError(
            f"{path}: has no `{key}`. Found: {listed_keys(names_of(file))}. A dataset has "
            "`images` with `labels` or `votes`; a MATLAB file has `x_raw` and `y`. A scan "
            "without labels is judged by `stm-keras predict`."
        )
    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        raise DatasetError(
            f"{path}: `{key}` is a link, which is not followed. Copy the data into this "
            "file."
        )
    array = file[key]
    if not isinstance(array, h5py.Dataset) or array.shape is None:
        kind = "an empty one" if isinstance(array, h5py.Dataset) else "a group"
        raise must(path, key, "be an array", kind)
    if array.is_virtual or array.external:
        raise DatasetError(
            f"{path}: the data of `{key}` are in another file, which is not followed. Copy "
            "them into this file."
        )
    if not is_plain(array.id.get_type()):
        raise must(path, key, "hold numbers or text", f"dtype {array.dtype}")
    if not (is_stored(array) and _all_chunks(array)):
        raise DatasetError(
            f"{path}: `{key}` has shape {array.shape}, but only "
            f"{array.id.get_storage_size()} bytes of it are stored. The file was not "
            "written to its end: make it again."
        )
    with borrow(Parts(array).work, f"a part of `{key}`"):
        return array


def values(path: str | Path, file: h5py.Group, key: str) -> np.ndarray:
    """Read one small array of an HDF5 file; text becomes a str array."""
    array = member(path, file, key)
    if not h5py.check_string_dtype(array.dtype):
        return np.asarray(read_all(array))
    try:
        raw = np.array(read_all(array), object)
        texts = [text.decode() for text in raw.ravel()]
    except UnicodeDecodeError:
        raise DatasetError(f"{path}: `{key}` is text, but not in UTF-8.") from None
    charge(4 * max(map(len, texts), default=0) * len(texts), f"the texts of `{key}`")
    return np.array(texts, dtype=np.str_).reshape(array.shape)


def _all_chunks(array):
    """Tell whether every chunk of an array was written; what is small may be left out."""
    if array.chunks is None or math.prod(array.shape) * array.dtype.itemsize <= SMALL:
        return True
    grid = zip(array.shape, array.chunks, strict=True)
    return array.id.get_num_chunks() == math.prod(-(-n // chunk) for n, chunk in grid)
