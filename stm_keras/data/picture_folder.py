"""Read scans from a folder of pictures (PNG, TIFF, JPEG, BMP) with a CSV file.

A picture need not be square. Its width is the fast axis and becomes 128 pixels; one
that is less high than wide is an aborted scan with fewer lines.
"""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from stm_keras.data.images import Found, block_scans
from stm_keras.data.preprocess import resample_scan
from stm_keras.data.table import read_table
from stm_keras.errors import DatasetError
from stm_keras.memory import SCANS, charge, one_file
from stm_keras.readers import READERS
from stm_keras.readers.pictures import heights_of, is_deep, open_picture
from stm_keras.readers.sniff import scan_format

WHAT = "damaged or no PNG, TIFF, JPEG or BMP picture"
RESAMPLED = 16  # bytes of memory for a pixel, beside what unpacking takes


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
    with _opened(path) as picture:
        width, height = picture.size
        deep = is_deep(picture)
    recorded = max(1, int(height * pixels / width + 0.5))
    if recorded > lines:
        raise DatasetError(
            f"{path}: is higher than wide ({width} x {height} pixels). Lines run along the "
            "width; turn or cut the picture."
        )
    return Picture(path, recorded, deep)


def _read_heights(path):
    with _opened(path) as picture:
        heights, known = heights_of(picture)
        return heights.astype(np.float32), known is not False


@contextmanager
def _opened(path):
    with (
        one_file(path, "save it smaller", DatasetError, SCANS),
        open_picture(path, path, WHAT, DatasetError) as picture,
    ):
        width, height = picture.size
        charge(width * height * RESAMPLED, f"a picture of {width} x {height} pixels")
        yield picture
