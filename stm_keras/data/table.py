"""Read the CSV file that labels a folder of pictures."""

import codecs
import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.raw import listed_keys
from stm_keras.data.validate import canonical
from stm_keras.errors import DatasetError
from stm_keras.memory import charge
from stm_keras.untrusted import read_data

TEXTS = ("session", "campaign", "run", "name")
NUMBERS = ("raters", "lines")
CELLS = 32  # bytes of memory for a byte of the table
DELIMITERS = (",", ";", "\t")
LARGEST = 1 << 28  # bytes
HELP = (
    "A CSV file has a column `file` and either `label` (number or class name) or one "
    "column of votes per class, named as the class."
)


def find_table(folder):
    """Return the CSV file of a folder of pictures.

    Args:
        folder: `Path`.

    Returns:
        `Path` of `labels.csv`, or of the only CSV file.

    Raises:
        DatasetError: There is none, or more than one and no `labels.csv`.
    """
    tables = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() == ".csv")
    named = [path for path in tables if path.name.lower() == "labels.csv"]
    if not tables:
        raise DatasetError(f"{folder}: is a folder without a CSV file of labels. {HELP}")
    if len(tables) > 1 and not named:
        found = ", ".join(path.name for path in tables)
        raise DatasetError(
            f"{folder}: holds several CSV files ({found}). Name one of them `labels.csv`."
        )
    return (named or tables)[0]


def read_table(path):
    """Read names, labels and votes of pictures.

    The first line names the columns, in any order, separated by comma, semicolon or
    tab; the text is UTF-8.

    - `file`: path of the picture, seen from the folder of the table.
    - `label`: number of the class, or its name. Or, instead or as well,
    - one column per class with the share of votes, 0 to 1. The names of the classes
      are compared by letters and digits only: `tip_change` is `tip change`.
    - optional: `session`, `campaign`, `run`, `name` (else the name of the file),
      `raters`, `lines` (recorded lines of the 128).

    Other columns are left alone.

    Args:
        path: `Path`.

    Returns:
        Tuple of dict of str to array, tuple of class names or None where numbers do
        not tell, and list of the line of the table each picture is on.

    Raises:
        DatasetError: The file is no such table.
    """
    charge(path.stat().st_size * CELLS, "its cells")
    header, rows, numbers = _read_rows(path)
    keys = [canonical(column) for column in header]
    column = {key: [row[i] for row in rows] for i, key in enumerate(keys)}
    classes = _vote_classes(path, keys)
    arrays = {"file": column["file"]}
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
        raise DatasetError(f"{path}: is no CSV text in UTF-8 ({error}). {HELP}") from None
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
                f"{path}: line {number}: `label` {cell!r} is no class. Known: "
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
