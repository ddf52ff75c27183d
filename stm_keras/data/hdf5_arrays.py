"""Images that stay in their HDF5 file and are read when indexed."""

import os
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from stm_keras.data.dataset import StoredRows
from stm_keras.data.raw import block_scans, listed_keys
from stm_keras.errors import DatasetError, InputError
from stm_keras.memory import borrow, charge, limited
from stm_keras.readers.file_bytes import DEFLATE
from stm_keras.readers.hdf5_open import (
    SMALL,
    check_heaps,
    is_plain,
    longest_text,
    names_of,
    read_all,
)
from stm_keras.readers.hdf5_parts import Parts

CHUNK_CACHE = 4 << 20  # room for chunks of many scans; HDF5's own 1 MiB is too little
# What h5py raises for damaged headers and data, depending on the byte that is wrong.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


class StoredImages(StoredRows):
    """Scans in an HDF5 file, which look like an array of `(scans, lines, pixels)`.

    The file is opened at the first use in each process: an open HDF5 file survives
    neither pickling nor a fork. Indexing gives 0 for what is not finite.

    Args:
        path: str or `Path` of the file.
        key: str. Name of the HDF5 dataset.
        shape: tuple of int.
        stored_dtype: dtype in the file.
        dtype: dtype that indexing gives, or None for that of the file.
    """

    def __init__(self, path, key, shape, stored_dtype, dtype=None):
        self.path = Path(path).absolute()
        self.key = key
        self.shape = tuple(shape)
        self.stored_dtype = np.dtype(stored_dtype)
        self.dtype = np.dtype(stored_dtype if dtype is None else dtype)
        self._stamp = _stamp(self.path)
        self._opened = None

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def blocks(self):
        """Yield (slice of scans, slice of pixels, array) as stored, NaN and all."""
        step = block_scans(self.shape, self.stored_dtype.itemsize)
        for start in range(0, len(self), step):
            scans = slice(start, min(start + step, len(self)))
            yield scans, slice(None), self.read(scans.start, scans.stop)

    def in_dtype(self, dtype):
        """Return the same images with another dtype."""
        return type(self)(self.path, self.key, self.shape, self.stored_dtype, dtype)

    def read(self, start, stop):
        """Read scans `start` to `stop` as they are stored."""
        try:
            return self._slice(self._open(), start, stop)
        except DAMAGE as error:
            raise damaged(self.path, error) from None

    def _slice(self, stored, start, stop):
        return stored.read((slice(start, stop),))

    def _pick(self, positions):
        picked = np.empty((len(positions), *self.shape[1:]), self.dtype)
        order = np.argsort(positions, kind="stable")
        breaks = np.flatnonzero(np.diff(positions[order]) != 1) + 1
        step = block_scans(self.shape, self.stored_dtype.itemsize)
        for run in np.split(order, breaks):
            for part in (run[i : i + step] for i in range(0, len(run), step)):
                first = int(positions[part[0]])
                picked[part] = self._clean(self.read(first, first + len(part)))
        return picked

    def _clean(self, block):
        with np.errstate(over="ignore", invalid="ignore"):
            block = block.astype(self.dtype, copy=False)
        if self.stored_dtype.kind != "f" or np.isfinite(block).all():
            return block
        return np.where(np.isfinite(block), block, self.dtype.type(0))

    def _open(self):
        process, stored = self._opened or (None, None)
        if process != os.getpid():
            if _stamp(self.path) != self._stamp:
                raise InputError(
                    f"{self.path}: changed since it was loaded. Load it again."
                )
            file = open_unlocked(self.path)
            stored = Parts(file[self.key])
            self._opened = os.getpid(), stored
        return stored


def _stamp(path):
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    return status.st_size, status.st_mtime_ns


@contextmanager
def open_file(path):
    """Open an HDF5 file to read; what HDF5 says of a damaged one becomes one line."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  a path may be a str
            longest_text.set(check_heaps(file))
        with limited(), open_unlocked(path) as file:
            yield file
    except PermissionError:
        raise
    except DAMAGE as error:
        raise damaged(path, error) from None


def open_unlocked(path):
    """Open an HDF5 file to read without a lock: some network file systems have none.

    Args:
        path: str or `Path`.

    Returns:
        open `h5py.File`.
    """
    return h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE, locking=False)


def damaged(path, error):
    """Return the `DatasetError` for what HDF5 says, which may be many lines."""
    reason = (str(error).strip("\"' \n") or type(error).__name__).splitlines()[0]
    if "unable to lock" in reason:
        return DatasetError(
            f"{path}: cannot be locked, as HDF5_USE_FILE_LOCKING asks for ({reason}). Type: "
            "unset HDF5_USE_FILE_LOCKING"
        )
    return DatasetError(
        f"{path}: is damaged, cut short or compressed in an unknown way ({reason}). Copy "
        "the file again."
    )


def member(path, file, key):
    """Return an array of an HDF5 file, if its data are really in the file.

    Args:
        path: str or `Path`. Named in errors.
        file: open `h5py.File` or group.
        key: str.

    Returns:
        `h5py.Dataset`.

    Raises:
        DatasetError: There is no such array, it lies in another file, or less is
            stored than its shape says.
    """
    if key not in names_of(file):
        raise DatasetError(
            f"{path}: has no `{key}`. Found: {listed_keys(file)}. A dataset has `images` "
            "with `labels` or `votes`; a MATLAB file has `x_raw` and `y`. A scan without "
            "labels is judged by `stm-keras predict`."
        )
    if not isinstance(file.get(key, getlink=True), h5py.HardLink):
        raise DatasetError(
            f"{path}: `{key}` is a link, which is not followed. Copy the data into this "
            "file."
        )
    stored = file[key]
    if not isinstance(stored, h5py.Dataset) or stored.shape is None:
        raise DatasetError(f"{path}: `{key}` must be an array. Received: {_kind(stored)}.")
    if stored.is_virtual or stored.external:
        raise DatasetError(
            f"{path}: the data of `{key}` are in another file, which is not followed. Copy "
            "them into this file."
        )
    if not is_plain(stored.id.get_type()):
        raise DatasetError(
            f"{path}: `{key}` must hold numbers or text. Received: dtype {stored.dtype}."
        )
    _check_stored(path, key, stored)
    with borrow(Parts(stored).work, f"a part of `{key}`"):
        return stored


def values(path, file, key):
    """Read one small array of an HDF5 file; text becomes a str array.

    Args:
        path, file, key: as for `member`.

    Returns:
        array, without Python objects.

    Raises:
        DatasetError: As for `member`, or the array holds neither numbers nor text.
    """
    stored = member(path, file, key)
    if h5py.check_string_dtype(stored.dtype):
        try:
            raw = np.array(read_all(stored), object)
            texts = [text.decode() for text in raw.ravel()]
        except UnicodeDecodeError:
            raise DatasetError(f"{path}: `{key}` is text, but not in UTF-8.") from None
        charge(4 * max(map(len, texts), default=0) * len(texts), f"the texts of `{key}`")
        return np.array(texts, dtype=np.str_).reshape(stored.shape)
    return read_all(stored)


def _kind(stored):
    return "an empty one" if isinstance(stored, h5py.Dataset) else "a group"


def _check_stored(path, key, stored):
    # A header may promise terabytes, and numpy would try to allocate them.
    declared = stored.size * stored.dtype.itemsize
    if declared <= SMALL:
        return
    kept = stored.id.get_storage_size()
    packed = stored.id.get_create_plist().get_nfilters() > 0
    complete = kept * (DEFLATE if packed else 1) >= declared
    if stored.chunks is not None:
        per_axis = zip(stored.shape, stored.chunks, strict=True)
        chunks = int(np.prod([-(-n // chunk) for n, chunk in per_axis], dtype=object))
        complete = complete and stored.id.get_num_chunks() == chunks
    if not complete:
        raise DatasetError(
            f"{path}: `{key}` has shape {stored.shape}, but only {kept} bytes of it are "
            "stored. The file was not written to its end: make it again."
        )
