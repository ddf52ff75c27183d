"""Read scans from whatever a user has at hand, in the pixels of a model: no labels needed."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from stm_keras.data.resample import Fitted, fit_heights, fit_scan_lines
from stm_keras.errors import DatasetError, InputError, ScanError
from stm_keras.inference.verdict import NO_SIGNAL
from stm_keras.memory import SCANS, borrow, charge, one_file
from stm_keras.readers import CURE
from stm_keras.readers import read_scans as read_microscope_file
from stm_keras.readers.file_bytes import read_bytes
from stm_keras.readers.formats import FORMATS, scan_format
from stm_keras.readers.frames import SHAPES, as_frames
from stm_keras.readers.info import NANO, image_name
from stm_keras.readers.pictures import read_picture
from stm_keras.readers.scan_file import FEW, WORK
from stm_keras.readers.units import COUNTS, check_heights
from stm_keras.scan import Scan, bridge_gaps

UNITS = ("m", "A", "")  # of images that are judged without being asked for by their names


def read_scans(path: str | Path, metadata: dict, channel: str | None = None) -> Any:
    """Read scans without asking for labels: array-like of shape `(scans, lines, pixels)`.

    Args:
        path: str or `Path`. The file of a microscope, a dataset (HDF5, NPZ, MAT, folder
            of shards or of pictures with a table), a `.npy` array of shape `(lines, pixels)` or
            `(scans, lines, pixels)`, or one picture.
        metadata: dict of the model: `pixels` and `max_lines`, which scan files, arrays and
            pictures are resampled to.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
    """
    path = Path(path)
    with one_file(path, CURE, InputError, SCANS):
        heights = read_heights(path)
        if heights is not None:
            return resample_heights(path, heights, metadata)
    if scan_format(path):
        return read_scan_file(path, metadata, channel)
    images, lines, _ = read_dataset(path, metadata)
    if (lines == images.shape[1]).all():
        return images
    images = np.array(images[:])
    images[np.arange(images.shape[1]) >= lines[:, None]] = 0
    return images


def read_scan_file(
    path: str | Path, metadata: dict, channel: str | None = None
) -> np.ndarray:
    """Read a scan file as a model takes it, and warn of what the file does not tell.

    Args:
        path: str or `Path`.
        metadata: dict of the model: `pixels` and `max_lines`.
        channel: str or None. As `read_scan` takes it.

    Returns:
        float32 array of shape `(scans, max_lines, pixels)`; most files hold one scan.

    Raises:
        ScanError: The file cannot be read or holds no such image.
        DatasetError: No line of it has a signal.
    """
    scans = []
    for scan in read_microscope_file(path, channel):
        if isinstance(scan, ScanError):
            raise scan
        scans.append(scan)
    for text in dict.fromkeys(text for scan in scans for text in scan.warnings):
        warnings.warn(f"{path}: {text}.", stacklevel=2)
    return np.stack([fit_scan(scan, metadata) for scan in scans])


def unfit(scan: Scan) -> str | None:
    """Say why an image is not judged: it is not a frame, or shows neither heights nor a current
    and was not asked for by its name. None where it is.
    """
    lines, pixels = scan.heights.shape
    if min(lines, pixels) < FEW:
        return f"{lines} lines of {pixels} pixels are not the frame of a scan"
    if scan.asked or scan.unit in UNITS:
        return None
    return f"{image_name(scan)} is in {scan.unit}, neither heights nor a tunnelling current"


def fit_scan(scan: Scan, metadata: dict) -> np.ndarray:
    """Take the recorded lines in the order of acquisition, in the pixels of a model.

    Pixels become square, so a scan of which half was recorded fills half the lines, and
    missing ones are 0. Of a scan that is higher than wide only the first square is taken.

    Args:
        scan: `Scan`.
        metadata: dict with `pixels` and `max_lines`.

    Returns:
        float32 array of shape `(max_lines, pixels)`. Heights from their median, at most 1.

    Raises:
        DatasetError: No line of it has a signal.
    """
    fitted = fit_lines(scan, metadata)
    if len(fitted.bounds) < 2:
        raise DatasetError(f"{scan.path}: {NO_SIGNAL}. Give another scan or channel.")
    return fitted.heights


def fit_lines(scan: Scan, metadata: dict, bridged: np.ndarray | None = None) -> Fitted:
    """Do what `fit_scan` does, and tell where the lines come from, see `Fitted`.

    `bridged` is what `bridge_gaps(scan.lines())` gave, if that is at hand.
    """
    fitted = fit_scan_lines(scan, metadata, bridged)
    if fitted.left:
        recorded = len(scan.recorded)
        warnings.warn(
            f"{scan.path}: is higher than wide; its first {recorded - fitted.left} of "
            f"{recorded} recorded lines are judged.",
            stacklevel=2,
        )
    return fitted


def read_heights(path):
    """Read one picture or one bare array as it is, of any size.

    Returns:
        array of shape `(scans, lines, pixels)`; None for a file of another kind.
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


def resample_heights(path, heights, metadata):
    """Bring scans to the model's pixels.

    Pixels are square, so lines are scaled as pixels are, and a scan that is wider than
    high has ended early: `(scans, max_lines, pixels)` with 0 in the lines that are missing.
    """
    for index, each in enumerate(heights):
        check_scan(path, index, each)
    fits = heights.shape[1:] == (metadata["max_lines"], metadata["pixels"])
    if fits and all(map(is_whole, heights)):
        return heights
    charge(
        len(heights) * metadata["max_lines"] * metadata["pixels"] * 4, "all of its scans"
    )
    fitted = (
        fit_array(path, recorded(path, each), metadata, len(each)) for each in heights
    )
    return np.stack([each.heights for each in fitted])


def check_scan(path: Path, index: int, heights: np.ndarray) -> None:
    """Raise a `ScanError` where heights without a unit cannot be true.

    They are NaN or infinite where not recorded.
    """
    if heights.dtype.kind == "f":
        check_heights(path, f"scan {index}", heights[np.isfinite(heights)], "")


def is_whole(heights: np.ndarray) -> bool:
    """Tell whether every pixel of one scan was recorded: none is NaN or infinite."""
    return heights.dtype.kind != "f" or bool(np.isfinite(heights).all())


def recorded(path: Path, heights: np.ndarray) -> np.ndarray:
    """Return the lines of an array that were recorded, as `Scan.lines` and `bridge_gaps` do.

    Pixels that were not recorded are NaN or infinite: gaps are bridged or, in a line of which
    less than half was recorded, NaN.
    """
    if is_whole(heights):
        return np.asarray(heights)
    finite = np.isfinite(heights)
    if not finite.any():
        raise DatasetError(f"{path}: no line was recorded: it holds NaN alone.")
    return bridge_gaps(np.where(finite, heights, np.nan)[finite.any(1)])


def fit_array(path: Path, heights: np.ndarray, metadata: dict, lines: int) -> Fitted:
    """Bring one scan of which only the heights are known to the model's pixels.

    `heights` are the recorded lines; `lines` counts those that the array has, recorded or not.
    """
    pixels = heights.shape[1]
    with borrow(lines * pixels * WORK, f"a scan of {lines} x {pixels} pixels"):
        if round(lines * metadata["pixels"] / pixels) > metadata["max_lines"]:
            raise DatasetError(
                f"{path}: is higher than wide ({pixels} x {lines} pixels). Lines run along "
                "the width; turn or cut it."
            )
        square = square_lines(metadata, pixels)
        return fit_heights(heights, metadata, max(lines, square))


def square_lines(metadata: dict, pixels: int) -> int:
    """Return the lines of a complete scan with so many square pixels a line."""
    return round(metadata["max_lines"] * pixels / metadata["pixels"])


def read_dataset(path, metadata, streamed=False):
    """Read the images of a dataset, labelled or not; those in HDF5 stay in their file.

    Args:
        streamed: bool. Whether the images will be read in order, see `load_images`, and
            given to `check_scan` one by one.

    Returns:
        Tuple of an array-like of shape `(scans, lines, pixels)`; an int array `(scans,)`,
        how many lines of each were recorded; and of each the size of its frame, (width, height)
        in m, or None.
    """
    cure = "convert it to HDF5, which is read piece by piece"
    try:
        with one_file(path, cure, DatasetError, SCANS):
            return _read_dataset(path, metadata, streamed)
    except PermissionError:
        raise InputError(f"{path}: may not be read. Change its permissions.") from None


def _read_dataset(path, metadata, streamed):
    from stm_keras.data.raw import (
        check_images,
        check_lengths,
        load_images,
        scans_last,
        whole,
    )

    raw = _find_dataset(path, metadata)
    check_images(path, raw.images, None)
    if scans_last(raw.images.shape, metadata["pixels"]):
        check_images(path, raw.images, (metadata["max_lines"], metadata["pixels"]))
    count, most = raw.images.shape[:2]
    lines = raw.arrays.get("lines")
    if lines is None:
        lines = np.full(count, most)
    check_lengths(path, count, {"lines": lines})
    lines = whole(path, "lines", lines, 0, most)
    lazy = hasattr(raw.images, "in_dtype")
    largest = np.inf if streamed else COUNTS
    images = load_images(path, raw.images, lines, lazy, streamed, largest)
    return images, lines, _sizes(raw.arrays.get("size_nm"), count)


def _sizes(nm, count):
    """Return the size of each frame of a dataset, None where it does not say."""
    if nm is None or nm.dtype.kind not in "iuf" or nm.shape not in ((2,), (count, 2)):
        return [None] * count
    sizes = np.broadcast_to(nm, (count, 2)) / NANO
    known = np.isfinite(sizes).all(1) & (sizes > 0).all(1)
    return [tuple(s) if k else None for s, k in zip(sizes.tolist(), known, strict=True)]


def _find_dataset(path, metadata):
    from stm_keras.data.load import read_raw, sniff  # h5py takes long to import

    kind = sniff(path)
    if kind == "shards":
        from stm_keras.data.shards import read_shards

        return read_shards(path)[0]
    return read_raw(kind, path, metadata["max_lines"], metadata["pixels"])


def _picture(path):
    heights, known, _ = read_picture(path, read_bytes(path))
    if min(heights.shape) < FEW:
        size = f"{heights.shape[1]} x {heights.shape[0]} pixels"
        raise DatasetError(f"{path}: is not a scan, but a picture of {size}.")
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
