"""Read scans from a folder of pictures (PNG, TIFF, JPEG, BMP) with a CSV file.

A picture need not be square. Its width is the fast axis and becomes 128 pixels; one
that is less high than wide is an aborted scan with fewer lines.
"""

import struct
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from stm_keras.data.images import Found, block_scans
from stm_keras.data.preprocess import resample_scan
from stm_keras.data.table import read_table
from stm_keras.errors import DatasetError
from stm_keras.readers import READERS
from stm_keras.readers.colours import picture_heights
from stm_keras.readers.sniff import scan_format

FORMATS = ("PNG", "TIFF", "JPEG", "BMP")
MAX_PIXELS = 1 << 26
DEEP = ("I", "F")  # modes of more than 8 bits, and those that begin with I;16
PLAIN = ("L", "LA", "RGB", "RGBA")


def read_pictures(table, lines=128, pixels=128):
    """Read a dataset from pictures and the CSV file that labels them.

    Args:
        table: `Path` of the CSV file. See `table.read_table` for its columns.
        lines, pixels: int. Size the pictures are resampled to.

    Returns:
        A `Found`, its images still in the pictures.

    Raises:
        DatasetError: The table or a picture is missing, damaged or does not fit.
    """
    arrays, classes, numbers = read_table(table)
    pictures = tuple(
        _measure(table, number, table.parent / file, lines, pixels)
        for number, file in zip(numbers, arrays.pop("file"), strict=True)
    )
    recorded = np.array([picture.lines for picture in pictures], int)
    deep = any(picture.deep for picture in pictures)
    images = PictureImages(
        pictures=pictures,
        shape=(len(pictures), lines, pixels),
        dtype=np.dtype(np.float32 if deep else np.uint8),
    )
    return Found(images=images, arrays={"lines": recorded, **arrays}, classes=classes)


@dataclass(frozen=True)
class Picture:
    """What the header of a picture tells: path, recorded lines, more than 8 bits."""

    path: object
    lines: int
    deep: bool


@dataclass(frozen=True)
class PictureImages:
    """Scans in pictures, decoded and resampled when they are read.

    Args:
        pictures: tuple of `Picture`.
        shape: tuple (scans, lines, pixels).
        dtype: uint8, or float32 if any picture has more than 8 bits.
    """

    pictures: tuple
    shape: tuple
    dtype: np.dtype

    def blocks(self):
        """Yield (slice of scans, slice of pixels, array); warn of unknown colours."""
        guessed = []
        step = block_scans(self.shape, 4)
        for start in range(0, len(self.pictures), step):
            part = self.pictures[start : start + step]
            block = np.zeros((len(part), *self.shape[1:]), self.dtype)
            for scan, picture in zip(block, part, strict=True):
                heights, known = _read_heights(picture.path)
                heights = resample_scan(heights, picture.lines, self.shape[2])
                if self.dtype == np.uint8:
                    heights = np.clip(np.round(heights), 0, 255)
                scan[: picture.lines] = heights
                if not known:
                    guessed.append(picture.path)
            yield slice(start, start + len(part)), slice(None), block
        if guessed:
            warnings.warn(
                f"{guessed[0]}: unknown colours, as in {len(guessed)} of "
                f"{len(self.pictures)} pictures. Heights are a guess, taken from the "
                "green channel. Export the scans in grey.",
                stacklevel=2,
            )


def _measure(table, number, path, lines, pixels):
    """Read the header of a picture."""
    if not path.is_file():
        hint = " Write / between folders." if "\\" in str(path) else ""
        raise DatasetError(f"{table}: line {number}: there is no picture {path}.{hint}")
    kind = scan_format(path)
    if kind in READERS and kind not in ("picture", "unknown"):
        raise DatasetError(
            f"{path}: is a microscope's file, {READERS[kind][1]}, not a picture. A table takes "
            "PNG, TIFF, JPEG and BMP. Export it, or judge it with `stm-keras predict`."
        )
    with _damage(path), _open(path) as picture:
        width, height = picture.size
        frames = getattr(picture, "n_frames", 1)
        deep = picture.mode in DEEP or picture.mode.startswith("I;16")
    if width * height > MAX_PIXELS:
        raise DatasetError(
            f"{path}: is {width} x {height} pixels. At most {MAX_PIXELS} pixels are read."
        )
    if frames > 1:
        raise DatasetError(f"{path}: holds {frames} pictures. Save one scan per file.")
    recorded = max(1, int(height * pixels / width + 0.5))
    if recorded > lines:
        raise DatasetError(
            f"{path}: is higher than wide ({width} x {height} pixels). Lines run along the "
            "width; turn or cut the picture."
        )
    return Picture(path, recorded, deep)


def _read_heights(path):
    with _damage(path), _open(path) as picture:
        if picture.mode in DEEP or picture.mode.startswith("I;16"):
            return np.asarray(picture).astype(np.float32), True
        if picture.mode not in PLAIN:
            picture = picture.convert("L" if picture.mode == "1" else "RGB")
        heights, known = picture_heights(np.asarray(picture))
        return heights.astype(np.float32), known


def _open(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=FORMATS)


@contextmanager
def _damage(path):
    """Turn what Pillow says of a picture it cannot read into one line."""
    try:
        yield
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else "unreadable"
        raise DatasetError(
            f"{path}: is damaged or no PNG, TIFF, JPEG or BMP picture ({reason}). Export "
            "it again."
        ) from None
