"""Read datasets from MATLAB v7.3 files, which are HDF5 with the axes reversed."""

import numpy as np

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.images import Found
from stm_keras.data.members import member, open_file
from stm_keras.data.stored import StoredImages
from stm_keras.errors import DatasetError


class MatlabImages(StoredImages):
    """Scans in `x_raw`, which HDF5 shows as `(pixels, scans * lines)`."""

    def _slice(self, stored, start, stop):
        _, lines, pixels = self.shape
        block = stored[:, start * lines : stop * lines]
        return block.reshape(pixels, stop - start, lines).transpose(1, 2, 0)


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
        if heights.ndim != 2 or heights.shape[1] % lines:
            raise DatasetError(
                f"{path}: `x_raw` must have one row per pixel and {lines} columns per "
                f"scan, as h5py shows it. Received: shape {heights.shape}."
            )
        scans = heights.shape[1] // lines
        shape = (scans, lines, heights.shape[0])
        images = MatlabImages(path, "x_raw", shape, heights.dtype)
        votes = _read_votes(path, member(path, file, "y"), scans, lines)
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
        return _narrow(stored[()].T)
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
