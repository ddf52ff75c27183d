"""Images that stay in their HDF5 file and are read when indexed."""

import os
from pathlib import Path

import numpy as np

from stm_keras.data.images import block_scans
from stm_keras.data.members import DAMAGE, damaged, open_unlocked
from stm_keras.data.rows import StoredRows
from stm_keras.errors import InputError
from stm_keras.readers.hdf5_parts import Parts


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
