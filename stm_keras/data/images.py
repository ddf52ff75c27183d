"""Take scans from a file block by block, so that no file is in memory twice."""

import math
from dataclasses import dataclass

import numpy as np

from stm_keras.data.rows import StoredRows
from stm_keras.errors import DatasetError
from stm_keras.memory import charge, left, shown
from stm_keras.readers.plausible import COUNTS

BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class Found:
    """What a reader found in a file, before anything was checked.

    Args:
        images: an object with `shape`, `dtype` and `blocks()`, which yields tuples
            (slice of scans, slice of pixels, array) that cover all images.
        arrays: dict of str to array. `labels`, `votes` and any other field of a
            `Dataset`, as the file has them.
        classes: sequence of str, or None where the file names none.
        parameters: dict of str to array.
        source: str. Where the scans come from, or None where the file does not say.
        own: bool. Whether `save_dataset` wrote the file.
        keys: tuple of str. Names of all that is in the file.
    """

    images: object
    arrays: dict
    classes: tuple | None = None
    parameters: dict | None = None
    source: str | None = None
    own: bool = False
    keys: tuple = ()


def block_scans(shape, itemsize):
    """Number of scans that make a block of about `BLOCK_BYTES`."""
    return int(max(1, BLOCK_BYTES // max(1, itemsize * shape[1] * shape[2])))


def blocks_of(images):
    """Yield (slice of scans, slice of pixels, array) for images that can be indexed."""
    step = block_scans(images.shape, images.dtype.itemsize)
    for start in range(0, images.shape[0], step):
        scans = slice(start, min(start + step, images.shape[0]))
        yield scans, slice(None), images[scans]


class StreamedImages(StoredRows):
    """Scans that can only be read from the first to the last, which look like an array.

    Going back means to begin again: for what is written or judged in order.

    Args:
        images: as in `Found`.
        dtype: dtype that indexing gives.
    """

    def __init__(self, images, dtype):
        self.images, self.shape, self.dtype = images, images.shape, np.dtype(dtype)
        self._rest, self._scans, self._block = None, slice(0, 0), None

    def _pick(self, positions):
        picked = np.empty((len(positions), *self.shape[1:]), self.dtype)
        for place in np.argsort(positions, kind="stable"):
            picked[place] = self._scan(positions[place])
        return picked

    def _scan(self, position):
        if self._rest is None or position < self._scans.start:
            self._rest, self._scans = self.images.blocks(), slice(0, 0)
        while position >= self._scans.stop:
            self._block = None  # before the next one
            self._scans, _, self._block = next(self._rest)
        scan = self._block[position - self._scans.start].astype(self.dtype)
        return scan if scan.dtype.kind != "f" else np.where(np.isfinite(scan), scan, 0)


def loaded_bytes(images) -> int:
    """Return how much memory images may need that are read from a file."""
    exact = images.dtype.kind == "b" or images.dtype == np.uint8
    most = 1 if exact else 4 if images.dtype.itemsize <= 2 or images.dtype == "f4" else 8
    return math.prod(images.shape) * most


def load_images(path, images, lines, lazy=False, streamed=False, most=COUNTS):
    """Read and check images in the smallest dtype that holds them exactly.

    8-bit pictures stay uint8; all else becomes float32, or float64 where float32
    would change a value. So the same scans are the same dataset whether a file
    holds them as float32 or, as MATLAB does, as float64. Pixels of lines that were
    not recorded become 0 where they are not finite.

    Args:
        path: str or `Path`. Named in errors.
        images: as in `Found`.
        lines: int array of shape `(scans,)`. Recorded lines.
        lazy: bool. Leave the images in their file.
        streamed: bool. Whether they will be read in order, so that they may stay in a file
            that can only be read so, where they need more memory than is left.
        most: float. The largest height that is believed.

    Returns:
        array of shape `(scans, lines, pixels)`, or, if lazy, an object that reads
        them when indexed.

    Raises:
        DatasetError: A recorded line holds NaN, inf or more than is believed.
    """
    checked = lazy and getattr(images, "checked", False)
    if checked and max(map(abs, images.heights or (0,))) <= most:
        return images
    if not lazy and streamed and loaded_bytes(images) > left():
        if getattr(images, "fortran", False):  # its blocks are of pixels, not of scans
            raise DatasetError(
                f"{path}: has its images column by column, so they cannot be read scan by "
                "scan. Save numpy.ascontiguousarray(images), or set STM_KERAS_MEMORY="
                f"{shown(2 * loaded_bytes(images)).replace(' ', '')}."
            )
        lazy = True
    if not lazy:
        charge(loaded_bytes(images), "its images")
    if images.dtype.kind == "b" or images.dtype == np.uint8:
        return _load(path, images, lines, np.dtype(np.uint8), lazy, most)
    try:
        return _load(path, images, lines, np.dtype(np.float32), lazy, most)
    except _Inexact:
        pass  # and only then read again: the error keeps the first array in memory
    return _load(path, images, lines, np.dtype(np.float64), lazy, most)


class _Inexact(Exception):
    """A dtype cannot hold a value."""


def _load(path, images, lines, dtype, lazy, most):
    recorded = np.arange(images.shape[1]) < lines[:, None]
    bad, huge = np.zeros((2, images.shape[0]), bool)
    small = images.dtype.kind in "bui" and images.dtype.itemsize <= 2
    out = None if lazy else np.empty(images.shape, dtype)
    for scans, pixels, block in () if lazy and small else images.blocks():
        with np.errstate(over="ignore", invalid="ignore"):
            values = block.astype(dtype, copy=False)
        if not small and dtype == np.float32 and block.dtype.itemsize > 4:
            _check_exact(values, block)
        if dtype.kind == "f" and not small:
            values, wrong = _fill_gaps(values)
            if wrong is not None:
                bad[scans] |= (wrong & recorded[scans][:, :, None]).any((1, 2))
            if np.abs(values).max(initial=0) > most:
                wrong = np.abs(values) > most
                huge[scans] |= (wrong & recorded[scans][:, :, None]).any((1, 2))
        if out is not None:
            out[scans, :, pixels] = values
    if bad.any():
        raise DatasetError(
            f"{path}: {bad.sum()} of {len(bad)} scans hold NaN or inf in recorded lines; "
            f"the first is scan {bad.argmax()}. Remove them, or tell in `lines` how many "
            "lines were recorded."
        )
    if huge.any():
        raise DatasetError(
            f"{path}: {huge.sum()} of {len(huge)} scans hold heights above {most:.2g} in "
            f"recorded lines; the first is scan {huge.argmax()}. Remove them, or save heights "
            "in metres."
        )
    if lazy and not hasattr(images, "in_dtype"):
        return StreamedImages(images, dtype)
    return images.in_dtype(dtype) if lazy else out


def _check_exact(values, block):
    same = values == block
    if not same.all() and not np.isnan(block[~same]).all():
        raise _Inexact


def _fill_gaps(values):
    finite = np.isfinite(values)
    if finite.all():
        return values, None
    return np.where(finite, values, values.dtype.type(0)), ~finite
