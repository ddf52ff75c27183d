"""Scans to judge, from whatever a user has at hand: no labels needed."""

from pathlib import Path

import numpy as np

from stm_keras.data.preprocess import picture_heights, resample_pixels, resample_scan
from stm_keras.errors import DatasetError, InputError

PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM")


def read_scans(path, facts):
    """Read scans without asking for labels.

    Args:
        path: str or `Path`. A dataset (HDF5, NPZ, MAT, folder of pictures with a
            table), a `.npy` array of shape `(lines, pixels)` or
            `(scans, lines, pixels)`, or one picture.
        facts: dict of the model: `pixels` and `max_lines`, which arrays and pictures
            are resampled to.

    Returns:
        array-like of shape `(scans, lines, pixels)`.

    Raises:
        InputError: The file cannot be read.
        DatasetError: It holds no scans.
    """
    path = Path(path)
    start = b""
    if path.is_file():
        try:
            with path.open("rb") as file:
                start = file.read(8)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    if start.startswith(PICTURES):
        return resample_heights(_picture(path)[None], facts)
    if start.startswith(b"\x93NUMPY"):
        return resample_heights(_array(path), facts)
    from stm_keras.data.storage import load_images

    return load_images(path)


def resample_heights(heights, facts):
    """Bring scans to the model's pixels, and long ones to its lines.

    A scan that is wider than high has ended early; its lines are scaled as its
    pixels are.

    Args:
        heights: array of shape `(scans, lines, pixels)`.
        facts: dict with `pixels` and `max_lines`.

    Returns:
        float32 array of shape `(scans, at most max_lines, pixels)`.
    """
    pixels, most = facts["pixels"], facts["max_lines"]
    lines, old = heights.shape[1:]
    if old == pixels and lines <= most:
        return heights
    if lines <= most and old <= pixels:
        return resample_pixels(heights, pixels)
    wanted = max(1, min(most, round(lines * pixels / old)))
    return resample_scan(heights, wanted, pixels)


def _picture(path):
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            if picture.mode in ("P", "CMYK", "YCbCr", "LA"):
                picture = picture.convert("RGB")
            pixels = np.asarray(picture)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
        raise InputError(f"{path}: no picture that can be read ({error}).") from None
    heights, _ = picture_heights(pixels)
    if min(heights.shape) < 2:
        raise DatasetError(f"{path}: is no scan: {heights.shape[0]} x {heights.shape[1]} pixels.")
    return heights.astype(np.float32)


def _array(path):
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = "holds Python objects" if "pickle" in str(error) else error
        raise InputError(f"{path}: no array that can be read ({reason}).") from None
    if array.dtype.kind not in "buif" or array.ndim not in (2, 3) or not array.size:
        raise DatasetError(
            f"{path}: needs numbers of shape (lines, pixels) or (scans, lines, pixels). "
            f"Received: {array.dtype} of shape {array.shape}."
        )
    array = np.asarray(array, np.float32 if array.dtype.kind == "f" else None)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.flatnonzero(~np.isfinite(array.reshape(-1, *array.shape[-2:])).all((1, 2)))
        raise DatasetError(f"{path}: NaN or infinity in {len(bad)} scans, first in {bad[0]}.")
    return array.reshape(-1, *array.shape[-2:])
