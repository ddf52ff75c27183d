"""Read scans from a folder of pictures (PNG, TIFF, JPEG, BMP) with a CSV file.

A picture need not be square. Its width is the fast axis and becomes 128 pixels; one
that is less high than wide is an aborted scan with fewer lines.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stm_keras.data.label_table import read_table
from stm_keras.data.preprocess import resample_scan
from stm_keras.data.raw import RawDataset, block_scans
from stm_keras.errors import DatasetError
from stm_keras.memory import SCANS, charge, one_file
from stm_keras.readers.formats import FORMATS, scan_format
from stm_keras.readers.pictures import heights_of, is_deep, open_picture
from stm_keras.terminal import shell

WHAT = "damaged or not a PNG, TIFF, JPEG or BMP picture"
RESAMPLED = 16  # bytes of memory for a pixel, beside what unpacking takes


def read_pictures(
    table: Path, lines: int = 128, pixels: int = 128, classes: tuple | None = None
) -> RawDataset:
    """Read a dataset from pictures, resampled to `lines` and `pixels`, and their CSV file.

    `classes` are as for `read_table`.

    The images stay in the pictures.

    Raises:
        DatasetError: The table or a picture is missing, damaged or does not fit.
    """
    arrays, classes, numbers = read_table(table, classes)
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
    return RawDataset(images=images, arrays={"lines": recorded, **arrays}, classes=classes)


class Picture(NamedTuple):
    """What the header of a picture tells."""

    path: Path
    lines: int  # recorded
    deep: bool  # more than 8 bits


@dataclass(frozen=True)
class PictureImages:
    """Scans in pictures, decoded and resampled when they are read.

    They are uint8, or float32 if any picture has more than 8 bits.
    """

    pictures: tuple[Picture, ...]
    shape: tuple[int, int, int]
    dtype: np.dtype

    def blocks(self) -> Iterator[tuple]:
        """Yield (slice of scans, array); warn of unknown colours."""
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
            yield slice(start, start + len(part)), block
        if guessed:
            warnings.warn(
                f"{guessed[0]}: unknown colours, as in {len(guessed)} of "
                f"{len(self.pictures)} pictures. Heights are a guess, taken from the "
                "green channel. Export the scans in grey.",
                stacklevel=2,
            )


def _measure(table, number, path, lines, pixels):
    if not path.is_file():
        hint = " Write / between folders." if "\\" in str(path) else ""
        raise DatasetError(f"{table}: line {number}: there is no picture {path}.{hint}")
    kind = scan_format(path)
    if kind in FORMATS and kind not in ("picture", "unknown"):
        raise DatasetError(
            f"{path}: is a microscope's file, {FORMATS[kind].label}, not a picture. Make a dataset "
            f"of the table first: stm-keras convert {shell([str(table)])} -o NEW.h5."
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
