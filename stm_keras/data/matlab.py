"""Read `x_raw` and `y` from MATLAB files: v7.3, which is HDF5 with the axes reversed, and older.

MATLAB has no axis of less than two, and scans may lie along the first axis or the last.
"""

from pathlib import Path

import numpy as np

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.hdf5 import ARRAYS, squeeze_list
from stm_keras.data.hdf5_arrays import StoredImages, member, open_file
from stm_keras.data.raw import RawDataset, listed_keys, must
from stm_keras.errors import DatasetError
from stm_keras.readers.file_bytes import damage, read_bytes
from stm_keras.readers.frames import as_frames
from stm_keras.readers.hdf5_parts import read_values
from stm_keras.readers.mat5 import read_arrays


class MatlabImages(StoredImages):
    """Scans in `x_raw`, which HDF5 shows as `(pixels, scans * lines)`."""

    def _read_slice(self, parts, start, stop):
        _, lines, pixels = self.shape
        block = parts.read((slice(None), slice(start * lines, stop * lines)))
        return block.reshape(pixels, stop - start, lines).transpose(1, 2, 0)


def read_matlab(path: Path, lines: int = 128, pixels: int = 128) -> RawDataset:
    """Read `x_raw` and `y` from a MATLAB v7.3 file; the images stay in the file.

    As h5py shows them, `x_raw` has one row per pixel and one column per scan line,
    `y` one row per class and one column per scan line or per scan. The file does not
    tell how many lines a scan has: `lines` where these have so many `pixels`, else as many.

    Raises:
        DatasetError: The file is damaged, the shapes do not fit, or the lines of one
            scan have different labels.
    """
    with open_file(path) as file:
        heights = member(path, file, "x_raw")
        lines = _lines_of_scan(heights.shape, lines, pixels)
        scans = _count_scans(path, heights.shape, lines)
        shape = (scans, lines, heights.shape[0])
        images = MatlabImages(path, "x_raw", shape, heights.dtype)
        votes = _scan_votes(path, read_values(member(path, file, "y")), scans, lines)
        return _labelled(images, votes)


def read_old_matlab(path: Path, lines: int, pixels: int) -> RawDataset:
    """Read a MATLAB file before version 7.3: `x_raw` and `y`, or `images` as of HDF5.

    Raises:
        DatasetError, ScanError: The file is damaged, or the shapes do not fit.
    """
    with damage(path, "MATLAB file"):
        contents = read_arrays(path, read_bytes(path))
    arrays = {key: value for key, value in contents.items() if not isinstance(value, str)}
    if "images" in arrays:
        frames = as_frames(path, "images", arrays["images"], matlab=True)
        fields = {key: np.asarray(arrays[key]) for key in ARRAYS if key in arrays}
        return RawDataset(
            images=frames,
            arrays={key: squeeze_list(key, array) for key, array in fields.items()},
            keys=tuple(arrays),
        )
    for key in ("x_raw", "y"):
        if key not in arrays:
            raise DatasetError(
                f"{path}: has no `{key}`. Found: {listed_keys(arrays)}. A MATLAB file has "
                "`x_raw` and `y`, or `images` with `labels`: name the scans so."
            )
    heights, votes = (np.asarray(arrays[key]) for key in ("x_raw", "y"))
    lines = _lines_of_scan(heights.T.shape, lines, pixels)
    scans = _count_scans(path, heights.T.shape, lines)
    images = heights.reshape(scans, lines, heights.shape[1])
    return _labelled(images, _scan_votes(path, votes.T, scans, lines))


def _lines_of_scan(shape, lines, pixels):
    return lines if not shape or shape[0] in (0, pixels) else shape[0]


def _count_scans(path, shape, lines):
    if len(shape) != 2 or shape[1] % lines:
        wanted = f"have one row per pixel and {lines} columns per scan, as h5py shows it"
        raise must(path, "x_raw", wanted, f"shape {shape}")
    return shape[1] // lines


def _labelled(images, votes):
    classes = SIX_CLASSES if votes.shape[1] == len(SIX_CLASSES) else CLASSES
    one_hot = ((votes == 0) | (votes == 1)).all() and (votes.sum(1) == 1).all()
    arrays = {"labels": votes.argmax(1)} if one_hot else {"votes": votes}
    return RawDataset(images=images, arrays=arrays, classes=classes)


def _scan_votes(path, stored, scans, lines):
    """Return the votes of each scan, `(scans, classes)`, if its lines agree on them.

    `stored` has the shape `(classes, scans)` or `(classes, scans * lines)`.
    """
    columns = (scans * lines, scans)
    rows = (len(SIX_CLASSES), len(CLASSES))
    if stored.ndim != 2 or stored.shape[0] not in rows or stored.shape[1] not in columns:
        wanted = (
            f"have 6 or 4 rows, one per class, and {columns[0]} columns, one per line, or "
            f"{scans}, one per scan, as h5py shows it"
        )
        raise must(path, "y", wanted, f"shape {stored.shape}")
    if stored.dtype.kind not in "biuf":
        raise must(path, "y", "hold numbers", f"dtype {stored.dtype}")
    if stored.shape[1] == scans:
        return _as_float32(stored.T)
    votes = stored.reshape(-1, scans, lines).transpose(1, 2, 0)  # (scans, lines, classes)
    first = votes[:, :1]
    same = (votes == first) | (np.isnan(votes) & np.isnan(first))
    if not same.all():
        scan, line, _ = np.argwhere(~same)[0]
        raise DatasetError(
            f"{path}: the lines of a scan must have one label. In `y`, line {line} of "
            f"scan {scan} has {_row(votes[scan, line])}, line 0 has {_row(votes[scan, 0])}."
        )
    return _as_float32(votes[:, 0])


def _as_float32(votes):
    with np.errstate(over="ignore"):  # what is not 0 to 1 is refused later
        return votes.astype(np.float32)


def _row(votes):
    return "[" + " ".join(f"{vote:g}" for vote in votes) + "]"
