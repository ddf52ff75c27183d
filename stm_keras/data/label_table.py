"""Read tables of labels: which picture or scan is of which class, or how raters voted.

A table is CSV text in UTF-8 whose first line names the columns, in any order, separated by comma,
semicolon or tab. Names of columns and classes are compared by letters and digits only.
"""

import codecs
import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.raw import (
    TEXTS,
    check_labels,
    check_votes,
    count_classes,
    listed,
    listed_keys,
    whole,
)
from stm_keras.data.validate import canonical
from stm_keras.errors import DatasetError
from stm_keras.memory import charge
from stm_keras.readers.formats import FORMATS, claims_to_be_a_scan, scan_format
from stm_keras.untrusted import read_data

NUMBERS = ("raters", "lines", "weight")
CELLS = 32  # bytes of memory for a byte of the table
DELIMITERS = (",", ";", "\t")
LARGEST = 1 << 28  # bytes
ALIKE = 0.8  # of two names, from which on one is taken for a slip of the other
HELP = (
    "A CSV file has a column `path` and either `label` (number or class name) or one "
    "column of votes per class, named as the class."
)


@dataclass(frozen=True)
class Table:
    """The cells of a table: `columns` by canonical name, and on which `numbers` lines rows are."""

    path: Path
    columns: dict[str, list[str]]
    numbers: list[int]

    def where(self, row: int) -> str:
        """Name a row, for messages."""
        return f"{self.path}: line {self.numbers[row]}"

    def cell(self, key: str, row: int) -> str:
        """Return the text of a cell, "" where there is no such column."""
        return self.columns[key][row] if key in self.columns else ""

    def number(self, key: str, row: int, gap: float | None = None) -> float:
        """Return the number in a cell; `gap`, if there is one, where it is empty or missing."""
        cell = self.cell(key, row)
        try:
            return gap if gap is not None and not cell else float(cell)
        except ValueError:
            raise DatasetError(
                f"{self.where(row)}: `{key}` must be a number. Received: {cell!r}."
            ) from None

    def array(self, key: str) -> np.ndarray:
        """Return the numbers of a column."""
        return np.array([self.number(key, row) for row in range(len(self.numbers))])


def find_table(folder: Path) -> Path:
    """Return the CSV file of a folder of pictures: `labels.csv`, or the only one.

    Raises:
        DatasetError: There is none, or more than one and no `labels.csv`.
    """
    tables = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() == ".csv")
    named = [path for path in tables if path.name.lower() == "labels.csv"]
    if not tables and (Path(folder) / "config.toml").exists():
        raise DatasetError(
            f"{folder}: is a run, not a dataset. Give the data that it was trained on."
        )
    if not tables:
        raise DatasetError(
            f"{folder}: is a folder without a CSV file of labels. {HELP} `stm-keras convert` "
            "also takes one sub-folder per class, and the records of `stm-keras label`."
        )
    if len(tables) > 1 and not named:
        names = ", ".join(path.name for path in tables)
        raise DatasetError(
            f"{folder}: holds several CSV files ({names}). Name one of them `labels.csv`."
        )
    return (named or tables)[0]


def read_table(path: Path, classes: tuple | None = None) -> tuple[dict, tuple | None, list]:
    """Read names, labels and votes of pictures.

    - `file` or `path`: of the picture, seen from the folder of the table.
    - `label`: number of the class, or its name. Or, instead or as well,
    - one column per class with the share of votes, 0 to 1.
    - optional: `session`, `campaign`, `run`, `name` (else the name of the file),
      `raters`, `lines` (recorded lines of the 128), `weight`. Other columns are left alone.

    `classes` are names of all classes; None as for `class_names`.

    Returns:
        dict of str to array, the class names or None where numbers do not tell, and the line
        of the table each picture is on.

    Raises:
        DatasetError: The file is not such a table.
    """
    table = read_rows(path)
    column = table.columns
    voted = vote_classes(table, classes)
    arrays: dict[str, Any] = {"file": column["file"]}
    for file in _repeated(column["file"]):
        raise DatasetError(
            f"{path}: names the picture {file} twice. Keep one line for each."
        )
    if voted is not None:
        votes = [table.array(canonical(name)) for name in voted]
        arrays["votes"] = np.stack(votes, axis=1).astype(np.float32)
    classes = classes or voted
    if "label" in column:
        arrays["labels"], classes = label_numbers(table, classes)
        for error in unknown_labels(table, arrays["labels"], classes):
            raise error
    for key in TEXTS:
        if key in column:
            arrays[key] = np.array(column[key], dtype=np.str_)
    arrays |= {key: table.array(key) for key in NUMBERS if key in column}
    arrays.setdefault("name", np.array([Path(f).name for f in column["file"]], np.str_))
    return arrays, classes, table.numbers


def read_rows(path: Path) -> Table:
    """Read the cells of a table; nothing but its form is checked.

    Raises:
        DatasetError: The file is not a table, or names no file.
    """
    charge(path.stat().st_size * CELLS, "its cells")
    data = read_data(path, "a CSV file of labels", DatasetError, LARGEST)
    try:
        stream = io.StringIO(data.decode(_coding(data)), newline="")
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
        keys = ["file" if key == "path" else key for key in keys]
    if "file" not in keys:
        raise DatasetError(
            f"{path}: has no column `path`. Found: {listed_keys(header)}. {HELP}"
        )
    for key in _repeated([key for key in keys if key]):
        raise DatasetError(f"{path}: has two columns `{key}`. Remove one.")
    if not rows:
        raise DatasetError(f"{path}: names no file. A dataset has at least one scan.")
    for row, number in zip(rows, numbers, strict=True):
        if len(row) != len(header) or not row[keys.index("file")]:
            raise DatasetError(
                f"{path}: line {number} has {len(row)} cells for {len(header)} columns, or "
                "names no file. Mend the line."
            )
    columns = {key: [row[i] for row in rows] for i, key in enumerate(keys)}
    return Table(path, columns, numbers)


def is_table(head: bytes) -> bool:
    """Tell whether a file begins as a table of labels does, not one of verdicts."""
    first = head.decode(_coding(head), "replace").split("\n")[0]
    columns = {canonical(column) for column in re.split("[,;\t]", first)}
    return "file" in columns or ("path" in columns and "verdict" not in columns)


def _coding(data):
    """Return the coding of a text: Excel's "Unicode text" is in UTF-16."""
    wide = data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return "utf-16" if wide else "utf-8-sig"


def names_scans(path: Path) -> bool:
    """Tell whether a table names any file that is not a picture but a microscope's."""
    files = (path.parent / file for file in read_rows(path).columns["file"])
    other = set(FORMATS) - {"picture", "unknown"} | {"refused"}
    return any(scan_format(file) in other or claims_to_be_a_scan(file) for file in files)


def vote_classes(table: Table, classes: tuple | None = None) -> tuple | None:
    """Return the classes that have columns of votes, or None where there are labels instead."""
    known = (SIX_CLASSES, CLASSES) if classes is None else (classes,)
    missing = {}
    for names in known:
        missing[names] = [name for name in names if canonical(name) not in table.columns]
        if not missing[names]:
            return names
    if "label" in table.columns:
        return None
    nearest = min(missing, key=lambda names: len(missing[names]) / len(names))
    if len(missing[nearest]) == len(nearest):
        raise DatasetError(f"{table.path}: has no labels. {HELP}")
    raise DatasetError(
        f"{table.path}: has no column `{missing[nearest][0]}`. Votes need one column for each "
        f"of {', '.join(nearest)}."
    )


def label_numbers(
    table: Table, classes: tuple | None = None
) -> tuple[np.ndarray, tuple | None]:
    """Return the number of each row's class, -1 for a name that is none, and the classes.

    Of labels that are all numbers, these; they do not tell the classes.
    """
    cells = table.columns["label"]
    try:
        return np.array([float(cell) for cell in cells]), classes
    except ValueError:
        pass
    places: dict[str, str] = {}
    for row, name in enumerate(cells):
        places.setdefault(name, table.where(row))
    classes = class_names(table.path, places, classes)
    index = {canonical(name): number for number, name in enumerate(classes)}
    return np.array([index.get(canonical(name), -1) for name in cells]), classes


def unknown_labels(
    table: Table, numbers: np.ndarray, classes: tuple | None
) -> Iterator[DatasetError]:
    """Yield an error for each row whose label is no class."""
    for row in np.flatnonzero(numbers == -1) if classes else ():
        name = table.columns["label"][row]
        yield DatasetError(
            f"{table.where(row)}: {name!r} is not a class. The classes are {listed(classes)}."
        )


def read_votes(
    table: Table, classes: tuple | None = None
) -> tuple[tuple, np.ndarray, bool, list[DatasetError]]:
    """Return what each row of a table says of the classes.

    Returns:
        The classes; float array `(rows, classes)`, NaN where a label is no class; whether there
        are columns of votes; and an error for each label that is no class.

    Raises:
        DatasetError: There are neither labels nor votes, or they make no sense.
    """
    voted = vote_classes(table, classes)
    if voted is not None:
        votes = np.stack([table.array(canonical(name)) for name in voted], axis=1)
        return voted, check_votes(table.path, votes), True, []
    numbers, classes = label_numbers(table, classes)
    numbers = whole(table.path, "label", numbers)
    if classes is None:
        known = {len(SIX_CLASSES): SIX_CLASSES, len(CLASSES): CLASSES}
        classes = known[count_classes(table.path, numbers, known)]
    check_labels(table.path, numbers, classes, own=True)
    votes = np.eye(len(classes))[numbers]
    votes[numbers < 0] = np.nan
    return classes, votes, False, list(unknown_labels(table, numbers, classes))


def class_names(
    path: Path | str,
    places: Mapping[str, str],
    classes: tuple | None = None,
    offered: bool = False,
) -> tuple[str, ...]:
    """Return all classes of a dataset in which some are named.

    They are `classes` where these are given; our four or six where all names are among those;
    else the names, in their order: classes of somebody's own.

    Args:
        path: of what names them, for messages.
        places: each name, and the place where it is first.
        offered: Whether they were chosen from a list, so that none is a slip.

    Raises:
        DatasetError: A name is empty or may be a slip, four and six classes are mixed, or
            there is one class alone.
    """
    if classes is not None:
        return classes
    keys: dict[str, str] = {}
    for name in places:
        keys.setdefault(canonical(name), name)
    tables = [{canonical(name) for name in names} for names in (CLASSES, SIX_CLASSES)]
    known = tables[0] | tables[1]
    for names, table in zip((CLASSES, SIX_CLASSES), tables, strict=True):
        if keys.keys() <= table:
            return names
    if keys.keys() <= known:
        raise DatasetError(
            f"{path}: `label` mixes the names of four and of six classes. Use either "
            f"{listed(CLASSES)}; or {listed(SIX_CLASSES)}."
        )
    for key, name in keys.items():
        if not key:
            raise DatasetError(
                f"{places[name]}: names no class. Write one, or take it out."
            )
        alike = difflib.get_close_matches(key, known, 1, ALIKE)
        if key not in known and alike and not offered:
            raise DatasetError(
                f"{places[name]}: {name!r} may be a slip for {alike[0]!r}. Mend it, or list "
                "all classes by --classes A,B,..."
            )
    if len(keys) < 2:
        raise DatasetError(
            f"{path}: knows no class but {listed(keys.values())}. A dataset has two or more: "
            "list all by --classes A,B,..."
        )
    return tuple(keys.values())


def _repeated(names):
    return [name for name, count in Counter(names).items() if count > 1]
