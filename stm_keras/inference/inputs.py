"""Scans to judge, from whatever a user has at hand: no labels needed."""

import warnings
from pathlib import Path

import numpy as np

from stm_keras.data.resample import Fitted, fit_heights
from stm_keras.errors import DatasetError, InputError
from stm_keras.inference.resample import read_scan_file
from stm_keras.memory import SCANS, borrow, charge, one_file
from stm_keras.readers import CURE
from stm_keras.readers.file_bytes import read_bytes
from stm_keras.readers.formats import FORMATS, scan_format
from stm_keras.readers.frames import SHAPES, as_frames
from stm_keras.readers.pictures import read_picture
from stm_keras.readers.scan_file import WORK
from stm_keras.readers.units import COUNTS, check_heights
from stm_keras.scan import bridge_gaps


def read_scans(path, facts, channel=None):
    """Read scans without asking for labels.

    Args:
        path: str or `Path`. The file of a microscope, a dataset (HDF5, NPZ, MAT, folder
            of shards or of pictures with a table), a `.npy` array of shape `(lines, pixels)` or
            `(scans, lines, pixels)`, or one picture.
        facts: dict of the model: `pixels` and `max_lines`, which scan files, arrays and
            pictures are resampled to.
        channel: str. Which image of a scan file is meant, see `readers.read_scan`.

    Returns:
        array-like of shape `(scans, lines, pixels)`.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
    """
    path = Path(path)
    with one_file(path, CURE, InputError, SCANS):
        heights = read_heights(path)
        if heights is not None:
            return resample_heights(path, heights, facts)
    if scan_format(path):
        return read_scan_file(path, facts, channel)
    images, lines = read_dataset(path, facts)
    if (lines == images.shape[1]).all():
        return images
    images = np.array(images[:])
    images[np.arange(images.shape[1]) >= lines[:, None]] = 0
    return images


def read_heights(path):
    """Read one picture or one bare array as it is, of any size.

    Args:
        path: `Path`.

    Returns:
        array of shape `(scans, lines, pixels)`; None for a file of another kind.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
    """
    start = b""
    if path.is_file():
        try:
            with path.open("rb") as file:
                start = file.read(8)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if FORMATS["picture"].fits(path, start) and scan_format(path) == "picture":
        return _picture(path)[None]
    if start.startswith(b"\x93NUMPY"):
        return _array(path)
    return None


def resample_heights(path, heights, facts):
    """Bring scans to the model's pixels.

    Pixels are square, so lines are scaled as pixels are, and a scan that is wider than
    high has ended early.

    Args:
        path: `Path`. Named in errors.
        heights: array of shape `(scans, lines, pixels)`.
        facts: dict with `pixels` and `max_lines`.

    Returns:
        array of shape `(scans, max_lines, pixels)`; lines that are not there are 0.

    Raises:
        DatasetError: The scans are higher than wide.
        ScanError: Heights are none that a microscope measures.
    """
    for index, each in enumerate(heights):
        check_scan(path, index, each)
    fits = heights.shape[1:] == (facts["max_lines"], facts["pixels"])
    if fits and all(map(is_whole, heights)):
        return heights
    charge(len(heights) * facts["max_lines"] * facts["pixels"] * 4, "all of its scans")
    fitted = (fit_array(path, recorded(path, each), facts, len(each)) for each in heights)
    return np.stack([each.heights.astype(np.float32) for each in fitted])


def check_scan(path: Path, index: int, heights: np.ndarray) -> None:
    """Raise a `ScanError` where heights without a unit are not to be believed.

    Args:
        path: `Path`. Named in the error.
        index: int. Number of the scan in its file.
        heights: array of any shape; NaN or infinite where not recorded.
    """
    if heights.dtype.kind == "f":
        check_heights(path, f"scan {index}", heights[np.isfinite(heights)], "")


def is_whole(heights: np.ndarray) -> bool:
    """Tell whether every pixel of one scan was recorded: none is NaN or infinite."""
    return heights.dtype.kind != "f" or bool(np.isfinite(heights).all())


def recorded(path: Path, heights: np.ndarray) -> np.ndarray:
    """Return the lines of an array that were recorded, as `Scan.lines` and `bridge_gaps` do.

    Args:
        path: `Path`. Named in errors.
        heights: array of shape `(lines, pixels)`; NaN or infinite where not recorded.

    Returns:
        array of shape `(recorded lines, pixels)`, gaps bridged or, in a line of which less
        than half is there, NaN.

    Raises:
        DatasetError: No line was recorded.
    """
    if is_whole(heights):
        return np.asarray(heights)
    there = np.isfinite(heights)
    if not there.any():
        raise DatasetError(f"{path}: no line was recorded: it holds NaN alone.")
    return bridge_gaps(np.where(there, heights, np.nan)[there.any(1)])


def fit_array(path: Path, heights: np.ndarray, facts: dict, lines: int) -> Fitted:
    """Bring one scan of which only the heights are known to the model's pixels.

    Args:
        path, facts: As for `resample_heights`.
        heights: float array of shape `(recorded lines, pixels)`.
        lines: int. Lines that the array has, recorded or not.

    Returns:
        `Fitted`. A scan that is wider than high is one that has ended early.

    Raises:
        DatasetError: It is higher than wide.
    """
    pixels = heights.shape[1]
    with borrow(lines * pixels * WORK, f"a scan of {lines} x {pixels} pixels"):
        return _fit_array(path, heights, facts, lines)


def _fit_array(path, heights, facts, lines):
    pixels = heights.shape[1]
    square = round(facts["max_lines"] * pixels / facts["pixels"])
    if round(lines * facts["pixels"] / pixels) > facts["max_lines"]:
        raise DatasetError(
            f"{path}: is higher than wide ({pixels} x {lines} pixels). Lines run along the "
            "width; turn or cut it."
        )
    return fit_heights(heights, facts, max(lines, square))


def read_dataset(path, facts, streamed=False):
    """Read the images of a dataset, labelled or not; those in HDF5 stay in their file.

    Args:
        path: `Path`.
        facts: dict of the model: `pixels` and `max_lines`.
        streamed: bool. Whether the images will be read in order, see `load_images`, and
            given to `check_scan` one by one.

    Returns:
        Tuple of an array-like of shape `(scans, lines, pixels)`, and an int array `(scans,)`:
        how many lines of each were recorded.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
    """
    cure = "convert it to HDF5, which is read piece by piece"
    try:
        with one_file(path, cure, DatasetError, SCANS):
            return _read_dataset(path, facts, streamed)
    except PermissionError:
        raise InputError(f"{path}: may not be read. Change its permissions.") from None


def _read_dataset(path, facts, streamed):
    from stm_keras.data.raw import (
        check_images,
        check_lengths,
        load_images,
        scans_last,
        whole,
    )

    found = _find(path, facts)
    check_images(path, found.images, None)
    if scans_last(found.images.shape, facts["pixels"]):
        check_images(path, found.images, (facts["max_lines"], facts["pixels"]))
    count, most = found.images.shape[:2]
    lines = found.arrays.get("lines")
    if lines is None:
        lines = np.full(count, most)
    check_lengths(path, count, {"lines": lines})
    lines = whole(path, "lines", lines, 0, most)
    lazy = hasattr(found.images, "in_dtype")
    most = np.inf if streamed else COUNTS
    return load_images(path, found.images, lines, lazy, streamed, most), lines


def _find(path, facts):
    from stm_keras.data.load import read_raw, sniff  # h5py takes long to import

    kind = sniff(path)
    if kind == "shards":
        from stm_keras.data.shards import read_shards

        return read_shards(path)[0]
    return read_raw(kind, path, facts["max_lines"], facts["pixels"])


def _picture(path):
    heights, known, _ = read_picture(path, read_bytes(path))
    if min(heights.shape) < 2:
        size = f"{heights.shape[1]} x {heights.shape[0]} pixels"
        raise DatasetError(f"{path}: is no scan, but a picture of {size}.")
    if known is False:
        warnings.warn(
            f"{path}: unknown colours. Heights are a guess, taken from the green channel. "
            "Export the scan in grey.",
            stacklevel=2,
        )
    return heights


def _array(path):
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "Python objects" in str(error) or "pickle" in str(error):
            raise InputError(
                f"{path}: holds Python objects. Reading them could run code and is refused."
            ) from None
        raise InputError(f"{path}: is a damaged array ({error}). Save it again.") from None
    if array.dtype.kind not in "buif" or not array.size:
        raise DatasetError(
            f"{path}: needs numbers of shape {SHAPES}. Received: {array.dtype} of shape "
            f"{array.shape}."
        )
    return as_frames(path, "", array)
