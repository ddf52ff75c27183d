"""Read scans from a folder of pictures (PNG, TIFF, JPEG, BMP) with a CSV file.

A picture need not be square. Its width is the fast axis and becomes 128 pixels; one
that is less high than wide is an aborted scan with fewer lines.
"""

import codecs
import csv
import io
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.preprocess import resample_scan
from stm_keras.data.raw import TEXTS, RawDataset, block_scans, listed_keys
from stm_keras.data.validate import canonical
from stm_keras.errors import DatasetError
from stm_keras.memory import SCANS, charge, one_file
from stm_keras.readers.formats import FORMATS, scan_format
from stm_keras.readers.pictures import heights_of, is_deep, open_picture
from stm_keras.untrusted import read_data

NUMBERS = ("raters", "lines")
CELLS = 32  # bytes of memory for a byte of the table
DELIMITERS = (",", ";", "\t")
LARGEST = 1 << 28  # bytes
HELP = (
    "A CSV file has a column `file` and either `label` (number or class name) or one "
    "column of votes per class, named as the class."
)
WHAT = "damaged or not a PNG, TIFF, JPEG or BMP picture"
RESAMPLED = 16  # bytes of memory for a pixel, beside what unpacking takes


def read_pictures(table: Path, lines: int = 128, pixels: int = 128) -> RawDataset:
    """Read a dataset from pictures, resampled to `lines` and `pixels`, and their CSV file.

    The images stay in the pictures.

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
            f"{path}: is a microscope's file, {FORMATS[kind].label}, not a picture. A table takes "
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


def find_table(folder: Path) -> Path:
    """Return the CSV file of a folder of pictures: `labels.csv`, or the only one."""
    tables = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() == ".csv")
    named = [path for path in tables if path.name.lower() == "labels.csv"]
    if not tables and (Path(folder) / "config.toml").exists():
        raise DatasetError(
            f"{folder}: is a run, not a dataset. Give the data that it was trained on."
        )
    if not tables:
        raise DatasetError(f"{folder}: is a folder without a CSV file of labels. {HELP}")
    if len(tables) > 1 and not named:
        names = ", ".join(path.name for path in tables)
        raise DatasetError(
            f"{folder}: holds several CSV files ({names}). Name one of them `labels.csv`."
        )
    return (named or tables)[0]


def read_table(path: Path) -> tuple[dict, tuple | None, list]:
    """Read names, labels and votes of pictures.

    The first line names the columns, in any order, separated by comma, semicolon or
    tab; the text is UTF-8.

    - `file`: path of the picture, seen from the folder of the table.
    - `label`: number of the class, or its name. Or, instead or as well,
    - one column per class with the share of votes, 0 to 1. The names of the classes
      are compared by letters and digits only: `tip_change` is `tip change`.
    - optional: `session`, `campaign`, `run`, `name` (else the name of the file),
      `raters`, `lines` (recorded lines of the 128). Other columns are left alone.

    Returns:
        dict of str to array, the class names or None where numbers do not tell, and the line
        of the table each picture is on.
    """
    charge(path.stat().st_size * CELLS, "its cells")
    header, rows, numbers = _read_rows(path)
    keys = [canonical(column) for column in header]
    column = {key: [row[i] for row in rows] for i, key in enumerate(keys)}
    classes = _vote_classes(path, keys)
    arrays: dict[str, Any] = {"file": column["file"]}
    for file in _repeated(column["file"]):
        raise DatasetError(
            f"{path}: names the picture {file} twice. Keep one line for each."
        )
    if classes is not None:
        votes = [_numbers(path, name, column[canonical(name)], numbers) for name in classes]
        arrays["votes"] = np.stack(votes, axis=1).astype(np.float32)
    if "label" in column:
        arrays["labels"], classes = _labels(path, column["label"], numbers, classes)
    for key in TEXTS:
        if key in column:
            arrays[key] = np.array(column[key], dtype=np.str_)
    for key in NUMBERS:
        if key in column:
            arrays[key] = _numbers(path, key, column[key], numbers)
    arrays.setdefault("name", np.array([Path(f).name for f in column["file"]], np.str_))
    return arrays, classes, numbers


def _read_rows(path):
    """Return the header, the rows and the line number of each row."""
    data = read_data(path, "a CSV file of labels", DatasetError, LARGEST)
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:  # Excel's "Unicode text" is in UTF-16
        stream = io.StringIO(data.decode("utf-16" if wide else "utf-8-sig"), newline="")
        delimiter = max(DELIMITERS, key=stream.readline().count)
        stream.seek(0)
        reader = csv.reader(stream, delimiter=delimiter)
        header = [name.strip() for name in next(reader, [])]
        rows, numbers = [], []
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                numbers.append(reader.line_num)
    except (UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path}: is not CSV text in UTF-8 ({error}). {HELP}") from None
    keys = [canonical(name) for name in header]
    if "file" not in keys:
        raise DatasetError(
            f"{path}: has no column `file`. Found: {listed_keys(header)}. {HELP}"
        )
    for key in _repeated([key for key in keys if key]):
        raise DatasetError(f"{path}: has two columns `{key}`. Remove one.")
    if not rows:
        raise DatasetError(f"{path}: names no picture. A dataset has at least one scan.")
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != len(header) or not row[keys.index("file")]:
            raise DatasetError(
                f"{path}: line {number} has {len(row)} cells for {len(header)} columns, or "
                "names no file. Mend the line."
            )
    return header, rows, numbers


def _vote_classes(path, keys):
    """Return the classes that have columns of votes, or None."""
    missing = {}
    for classes in (SIX_CLASSES, CLASSES):
        missing[classes] = [name for name in classes if canonical(name) not in keys]
        if not missing[classes]:
            return classes
    if "label" in keys:
        return None
    nearest = min(missing, key=lambda classes: len(missing[classes]) / len(classes))
    if len(missing[nearest]) == len(nearest):
        raise DatasetError(f"{path}: has no labels. {HELP}")
    raise DatasetError(
        f"{path}: has no column `{missing[nearest][0]}`. Votes need one column for each of "
        f"{', '.join(nearest)}."
    )


def _labels(path, cells, numbers, classes):
    """Return numbers of classes and the classes, which numbers alone do not tell."""
    try:
        return np.array([float(cell) for cell in cells]), classes
    except ValueError:
        pass
    tables = (CLASSES, SIX_CLASSES) if classes is None else (classes,)
    for names in tables:
        index = {canonical(name): i for i, name in enumerate(names)}
        if all(canonical(cell) in index for cell in cells):
            return np.array([index[canonical(cell)] for cell in cells]), names
    known = {canonical(name) for names in tables for name in names}
    for cell, number in zip(cells, numbers, strict=True):
        if canonical(cell) not in known:
            raise DatasetError(
                f"{path}: line {number}: `label` {cell!r} is not a class. Known: "
                f"{'; or '.join(', '.join(names) for names in tables)}."
            )
    raise DatasetError(
        f"{path}: `label` mixes the names of four and of six classes. Use either "
        f"{'; or '.join(', '.join(names) for names in tables)}."
    )


def _numbers(path, name, cells, numbers):
    values = []
    for cell, number in zip(cells, numbers, strict=True):
        try:
            values.append(float(cell))
        except ValueError:
            raise DatasetError(
                f"{path}: line {number}: `{name}` must be a number. Received: {cell!r}."
            ) from None
    return np.array(values)


def _repeated(names):
    return [name for name, count in Counter(names).items() if count > 1]
