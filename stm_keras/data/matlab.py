"""Read datasets from MATLAB files: v7.3, which is HDF5 with the axes reversed, and older.

MATLAB has no axis of less than two, and scans may lie along the first axis or the last.
"""

from pathlib import Path

import numpy as np

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.hdf5_arrays import StoredImages, member, open_file
from stm_keras.data.raw import Found, blocks_of, listed_keys
from stm_keras.errors import DatasetError
from stm_keras.readers.file_bytes import damage, read_bytes
from stm_keras.readers.frames import as_frames, frame_axes
from stm_keras.readers.hdf5_parts import read_values
from stm_keras.readers.mat5 import read_arrays


class MatlabImages(StoredImages):
    """Scans in `x_raw`, which HDF5 shows as `(pixels, scans * lines)`."""

    def _slice(self, stored, start, stop):
        _, lines, pixels = self.shape
        block = stored.read((slice(None), slice(start * lines, stop * lines)))
        return block.reshape(pixels, stop - start, lines).transpose(1, 2, 0)


class MatlabStack(StoredImages):
    """Scans in a 3-D array, whose axes HDF5 shows in reverse."""

    def __init__(self, path, key, shape, stored_dtype, dtype=None, axes=(0, 1, 2)):
        super().__init__(path, key, shape, stored_dtype, dtype)
        self.axes = axes

    def in_dtype(self, dtype):
        return type(self)(
            self.path, self.key, self.shape, self.stored_dtype, dtype, self.axes
        )

    def _slice(self, stored, start, stop):
        place = [slice(None)] * 3
        place[self.axes[0]] = slice(start, stop)
        return stored.read(tuple(place)).transpose(self.axes)


class HeldImages:
    """Scans that are in memory already, as `Found` takes them.

    Args:
        array: array of shape `(scans, lines, pixels)`.
    """

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def blocks(self):
        """Yield (slice of scans, slice of pixels, array)."""
        return blocks_of(self.array)


def stack_of(path: Path, stored: object) -> StoredImages:
    """Return the `images` of a MATLAB v7.3 file with its axes in our order.

    Args:
        path: `Path`.
        stored: `h5py.Dataset` that MATLAB wrote, such as 128 x 128 x scans.

    Raises:
        ScanError: It does not tell which axis counts the scans.
    """
    axes = frame_axes(path, "images", stored.shape[::-1], matlab=True)
    if len(axes) == 2:
        raise DatasetError(
            f"{path}: `images` must have shape (scans, lines, pixels). Received: one image of "
            f"shape {stored.shape[::-1]}."
        )
    reversed_axes = tuple(2 - axis for axis in axes)
    shape = tuple(stored.shape[axis] for axis in reversed_axes)
    return MatlabStack(path, "images", shape, stored.dtype, axes=reversed_axes)


def as_matlab(key: str, array: np.ndarray) -> np.ndarray:
    """Return a small array in our shape: MATLAB makes a list of labels a row or a column.

    Args:
        key: str. Name of a field of a dataset.
        array: array, as MATLAB shows it.
    """
    if key in ("votes", "line_labels") or array.ndim != 2 or 1 not in array.shape:
        return array
    return array.ravel()


def read_matlab(path, lines=128):
    """Read `x_raw` and `y` from a MATLAB v7.3 file.

    As h5py shows them, `x_raw` has one row per pixel and one column per scan line,
    `y` one row per class and one column per scan line or per scan. In the result
    row = line and column = pixel.

    Args:
        path: `Path`.
        lines: int. Lines of a scan, which the file does not tell.

    Returns:
        A `Found`, its images still in the file.

    Raises:
        DatasetError: The file is damaged, the shapes do not fit, or the lines of one
            scan have different labels.
    """
    with open_file(path) as file:
        heights = member(path, file, "x_raw")
        scans = _count(path, heights.shape, lines)
        shape = (scans, lines, heights.shape[0])
        images = MatlabImages(path, "x_raw", shape, heights.dtype)
        votes = read_values(member(path, file, "y"))
        return _labelled(images, _read_votes(path, votes, scans, lines))


def read_old_matlab(path: Path, lines: int, fields: tuple) -> Found:
    """Read a dataset from a MATLAB file before version 7.3: `x_raw` and `y`, or `images`.

    Args:
        path: `Path`.
        lines: int. Lines of a scan in `x_raw`.
        fields: tuple of str. Fields of a `Dataset` that may stand beside `images`.

    Returns:
        A `Found`.

    Raises:
        DatasetError, ScanError: The file is damaged, or the shapes do not fit.
    """
    with damage(path, "MATLAB file"):
        arrays = read_arrays(path, read_bytes(path))
    texts = {key for key, value in arrays.items() if isinstance(value, str)}
    arrays = {key: value for key, value in arrays.items() if key not in texts}
    if "images" in arrays:
        return Found(
            images=HeldImages(as_frames(path, "images", arrays["images"], matlab=True)),
            arrays={
                k: as_matlab(k, np.asarray(v)) for k, v in arrays.items() if k in fields
            },
            keys=tuple(arrays),
        )
    for key in ("x_raw", "y"):
        if key not in arrays:
            raise DatasetError(
                f"{path}: has no `{key}`. Found: {listed_keys(arrays)}. A MATLAB file has "
                "`x_raw` and `y`, or `images` with `labels`: name the scans so."
            )
    heights = np.asarray(arrays["x_raw"]).T  # as h5py shows a file of today
    scans = _count(path, heights.shape, lines)
    images = heights.T.reshape(scans, lines, heights.shape[0])
    return _labelled(
        HeldImages(images), _read_votes(path, np.asarray(arrays["y"]).T, scans, lines)
    )


def _count(path, shape, lines):
    if len(shape) != 2 or shape[1] % lines:
        raise DatasetError(
            f"{path}: `x_raw` must have one row per pixel and {lines} columns per "
            f"scan, as h5py shows it. Received: shape {shape}."
        )
    return shape[1] // lines


def _labelled(images, votes):
    classes = SIX_CLASSES if votes.shape[1] == len(SIX_CLASSES) else CLASSES
    one_hot = ((votes == 0) | (votes == 1)).all() and (votes.sum(1) == 1).all()
    arrays = {"labels": votes.argmax(1)} if one_hot else {"votes": votes}
    return Found(images=images, arrays=arrays, classes=classes)


def _read_votes(path, stored, scans, lines):
    """Return the votes of each scan, `(scans, classes)`, if its lines agree on them."""
    columns = (scans * lines, scans)
    rows = (len(SIX_CLASSES), len(CLASSES))
    if stored.ndim != 2 or stored.shape[0] not in rows or stored.shape[1] not in columns:
        raise DatasetError(
            f"{path}: `y` must have 6 or 4 rows, one per class, and {columns[0]} columns, "
            f"one per line, or {scans}, one per scan, as h5py shows it. Received: shape "
            f"{stored.shape}."
        )
    if stored.dtype.kind not in "biuf":
        raise DatasetError(
            f"{path}: `y` must hold numbers. Received: dtype {stored.dtype}."
        )
    if stored.shape[1] == scans:
        return _narrow(stored.T)
    votes = np.empty((scans, stored.shape[0]), np.float32)
    step = 256
    for start in range(0, scans, step):
        stop = min(start + step, scans)
        block = stored[:, start * lines : stop * lines]
        block = block.reshape(-1, stop - start, lines).transpose(1, 2, 0)
        votes[start:stop] = _narrow(block[:, 0])
        both_nan = np.isnan(block) & np.isnan(block[:, :1])
        differs = ((block != block[:, :1]) & ~both_nan).any(2)
        if differs.any():
            scan, line = np.argwhere(differs)[0]
            raise DatasetError(
                f"{path}: the lines of a scan must have one label. In `y`, line {line} of "
                f"scan {start + scan} has {_row(block[scan, line])}, line 0 has "
                f"{_row(block[scan, 0])}."
            )
    return votes


def _narrow(votes):
    with np.errstate(over="ignore"):  # what is not 0 to 1 is refused later
        return votes.astype(np.float32)


def _row(votes):
    return "[" + " ".join(f"{vote:g}" for vote in votes) + "]"
