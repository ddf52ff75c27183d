"""What each rater said of each picture: in records of `stm-keras label`, or a table of votes.

    ratings = read_ratings("labels")
    ratings.said  # (raters, pictures, marks)

A table has a line for each picture and rater, with columns `path` (and `index`), `rater`, and
either `label` or a column of 0 and 1 for each mark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stm_keras.data.dataset import CLASSES, SIX_CLASSES, merge_votes
from stm_keras.data.label_records import (
    LabelRecord,
    latest_records,
    marks_set,
    read_records,
)
from stm_keras.data.label_table import Table, read_rows
from stm_keras.data.raw import TEXTS, listed
from stm_keras.data.validate import canonical
from stm_keras.errors import DatasetError, InputError
from stm_keras.untrusted import ordinary_file

WHAT = "a folder of records (<rater>.jsonl), or a CSV file of votes"
HELP = (
    "Votes have a line for each picture and rater: columns `path`, `rater`, and either `label` or "
    "one column for each mark, of 0 and 1."
)
NO_MARKS = {"file", "path", "rater", "index", "change line", "weight", "lines", *TEXTS}
CELLS = {"": np.nan, "0": 0.0, "0.0": 0.0, "1": 1.0, "1.0": 1.0}


@dataclass(frozen=True)
class Ratings:
    """What raters said of pictures.

    Args:
        raters: their names.
        marks: that could be set.
        said: float array `(raters, pictures, marks)`: 1 where a mark was set, 0 where not, NaN
            where nothing was said.
        change_lines: float array `(raters, pictures)`: first line with another tip, NaN without,
            inf where nobody looked.
        single: bool. Whether each rating is one label of several.
        again: of a rater, what was said at first and when the same pictures came again: a pair
            of float arrays `(pictures, marks)`.
        scans: `scan_hash` of each picture; empty where these are not known.
        notes: what else the user should know.
    """

    source: str
    raters: tuple[str, ...]
    marks: tuple[str, ...]
    said: np.ndarray
    change_lines: np.ndarray
    single: bool = False
    again: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    scans: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def merged(self) -> "Ratings":
        """Return the same of our four classes, where the marks are our six."""
        if self.marks != SIX_CLASSES:
            return self
        raters, pictures, marks = self.said.shape
        said = merge_votes(self.said.reshape(-1, marks)).reshape(raters, pictures, -1)
        again = {name: tuple(map(merge_votes, pair)) for name, pair in self.again.items()}
        return replace(self, marks=CLASSES, said=said, again=again)

    def with_model(
        self,
        name: str,
        classes: Sequence[str],
        verdicts: Mapping[str, tuple[str, Sequence[int] | None]],
    ) -> "Ratings":
        """Return the same with a model as one more rater, who sets one mark on a picture.

        Args:
            classes: of the model. Where they are our four, six marks are merged into these.
            verdicts: of each picture, by its `scan_hash`, a verdict, which says nothing where it
                is not a class, and the lines of tip changes; None of a model that finds none.

        Raises:
            DatasetError: The marks are others than the classes, or no picture is known.
        """
        ratings = self.merged() if tuple(classes) == CLASSES else self
        keys = [canonical(mark) for mark in ratings.marks]
        other = [each for each in classes if canonical(each) not in keys]
        if other:
            raise DatasetError(
                f"{self.source}: {listed(other)} of {name} are not marks of the raters. Theirs "
                f"are {listed(self.marks)}. Give a model that was trained on such labels."
            )
        if not verdicts.keys() & set(self.scans):
            raise DatasetError(
                f"{self.source}: no picture is among the scans that {name} judged. Give the "
                "scans that were labelled, by --scans."
            )
        said = np.full((1, *ratings.said.shape[1:]), np.nan)
        lines = np.full(said.shape[:2], np.nan)
        for picture, scan in enumerate(self.scans):
            verdict, changes = verdicts.get(scan, (None, None))
            if verdict in classes:
                said[0, picture] = np.eye(len(keys))[keys.index(canonical(verdict))]
            lines[0, picture] = np.inf if changes is None else min(changes, default=np.nan)
        without = int(np.isnan(said).all(2).sum())
        note = (
            f"{name} counts as a rater in all numbers. Pictures without a class: {without}."
        )
        return replace(
            ratings,
            raters=(*self.raters, name),
            said=np.concatenate([ratings.said, said]),
            change_lines=np.concatenate([self.change_lines, lines]),
            notes=[*self.notes, note],
        )


def read_ratings(
    source: str | Path, classes: Sequence[str] | None = None, blind: bool = False
) -> Ratings:
    """Read what raters said.

    Args:
        source: Folder of records, one such file, or a CSV file of votes.
        classes: All marks; None are our four or six classes where all names are among those,
            else the names in their order.
        blind: Whether to leave out what was said when the verdict of a model was shown.

    Raises:
        InputError: There is no such file, it has no records, or cannot be read.
        DatasetError: What it holds makes no sense.
    """
    source = Path(source)
    if source.is_dir() or source.suffix.lower() == ".jsonl":
        return _of_records(source, classes, blind)
    return _of_table(read_rows(ordinary_file(source, WHAT)), classes)


def _of_records(source, classes, blind):
    records, skipped = read_records(source)
    shown = [each for each in records if each.model_shown]
    if blind:
        records = [each for each in records if not each.model_shown]
    latest = latest_records(records)
    if not latest:
        raise InputError(f"{source}: holds no label (lines in its *.jsonl: {skipped}).")
    marks = _marks(marks_set(records), classes)
    raters = tuple(sorted({record.rater for same in latest.values() for record in same}))
    said = np.full((len(raters), len(latest), len(marks)), np.nan)
    change_lines = np.full(said.shape[:2], np.nan)
    for picture, same in enumerate(latest.values()):
        for record in same:
            rater = raters.index(record.rater)
            said[rater, picture] = record.votes(marks)
            if record.change_line >= 0:
                change_lines[rater, picture] = record.change_line
    notes = _choices([record for same in latest.values() for record in same])
    if skipped:
        notes.append(
            f"Lines of {source} that are not records, and were left out: {skipped}."
        )
    if shown:
        done = "left out" if blind else "counted as the others; --no-model-shown omits them"
        notes.append(
            f"Records of raters who were shown the verdict of a model: {len(shown)}, {done}."
        )
    return Ratings(
        source=str(source),
        raters=raters,
        marks=marks,
        said=said,
        change_lines=change_lines,
        again=_again(records, marks),
        scans=tuple(latest),
        notes=notes,
    )


def _choices(records):
    """Say who could choose from which marks, where these differ."""
    kinds: dict[frozenset, tuple] = {}  # marks as they were offered, and who had them
    for record in records:
        if record.choices:
            key = frozenset(map(canonical, record.choices))
            kinds.setdefault(key, (record.choices, {}))[1][record.rater] = None
    if len(kinds) < 2:
        return []
    said = "; ".join(
        f"{listed(raters)}: {listed(marks)}" for marks, raters in kinds.values()
    )
    return [
        f"Raters had different marks to choose from ({said}). Each mark counts those who had it, "
        "whole sets those who had all."
    ]


def _again(records: Sequence[LabelRecord], marks):
    """Pair what a rater said when a picture came again with what they had said before."""
    first: dict[tuple, LabelRecord] = {}
    pairs: dict[tuple, tuple] = {}  # of each rater and scan, the last one
    for record in sorted(records, key=lambda each: each.t):
        key = record.rater, record.scan
        if not record.again:
            first[key] = record
        elif key in first:
            pairs[key] = first[key], record
    said: dict[str, list] = {}
    for (rater, _), pair in pairs.items():
        if all(each.says_something for each in pair):
            said.setdefault(rater, []).append([each.votes(marks) for each in pair])
    return {
        rater: tuple(np.moveaxis(np.array(same), 1, 0))
        for rater, same in sorted(said.items())
    }


def _of_table(table: Table, classes):
    columns = table.columns
    if "rater" not in columns:
        raise DatasetError(f"{table.path}: has no column `rater`. {HELP}")
    rows = range(len(table.numbers))
    marks, votes = _labels(table, classes) if "label" in columns else _votes(table, classes)
    names = [columns["rater"][row] for row in rows]
    pictures: dict[tuple, int] = {}
    raters = tuple(sorted(set(names)))
    files = [Path(file).as_posix() for file in columns["file"]]  # ./a is a
    places = [(files[row], table.number("index", row, 0)) for row in rows]
    for place in places:
        pictures.setdefault(place, len(pictures))
    said = np.full((len(raters), len(pictures), len(marks)), np.nan)
    change_lines = np.full(said.shape[:2], np.nan)
    seen: dict[tuple[int, int], int] = {}
    for row in rows:
        if not names[row]:
            raise DatasetError(f"{table.where(row)}: names no rater. {HELP}")
        at = raters.index(names[row]), pictures[places[row]]
        if at in seen:
            raise DatasetError(
                f"{table.path}: lines {seen[at]} and {table.numbers[row]} are both by "
                f"{names[row]} of {places[row][0]}. Keep one line for each picture and rater."
            )
        seen[at] = table.numbers[row]
        said[at] = votes[row]
        line = table.number("change line", row, -1)
        change_lines[at] = line if line >= 0 else np.nan
    return Ratings(
        source=str(table.path),
        raters=raters,
        marks=marks,
        said=said,
        change_lines=change_lines,
        single="label" in columns,
    )


def _labels(table, classes):
    """Return the marks of a table of labels, and each row as votes for them."""
    cells = table.columns["label"]
    places: dict[str, str] = {}
    for row, name in enumerate(cells):
        if not canonical(name):
            raise DatasetError(f"{table.where(row)}: has no `label`. {HELP}")
        places.setdefault(name, table.where(row))
    marks = _marks(places, classes)
    keys = [canonical(mark) for mark in marks]
    return marks, np.eye(len(marks))[[keys.index(canonical(name)) for name in cells]]


def _votes(table, classes):
    """Return the marks that have columns in a table, and the votes in its rows."""
    if classes is None:
        keys = [key for key in table.columns if key not in NO_MARKS]
        marks = _known(keys) or tuple(keys)
    else:
        marks = tuple(classes)
    missing = [mark for mark in marks if canonical(mark) not in table.columns]
    if missing or not marks:
        what = f"`{missing[0]}`" if missing else "`label`, and none of a mark"
        raise DatasetError(f"{table.path}: has no column {what}. {HELP}")
    votes = np.empty((len(table.numbers), len(marks)))
    for column, mark in enumerate(marks):
        for row, cell in enumerate(table.columns[canonical(mark)]):
            if cell not in CELLS:
                raise DatasetError(
                    f"{table.where(row)}: `{mark}` must be 0 or 1. Received: {cell!r:.40}. If it "
                    "is not a mark, list those: --classes A,B."
                )
            votes[row, column] = CELLS[cell]
    return marks, votes


def _marks(places, classes):
    """Return all marks, of some that are named at `places`."""
    keys: dict[str, str] = {}
    for name in places:
        keys.setdefault(canonical(name), name)
    marks = tuple(classes or _known(keys) or keys.values())
    known = {canonical(mark) for mark in marks}
    for name, place in places.items():
        if canonical(name) not in known:
            raise DatasetError(
                f"{place}: {name!r} is not a mark. The marks are {listed(marks)}."
            )
    return marks


def _known(keys):
    """Return our six or four classes, if the names (canonical ones) are among them."""
    for names in (SIX_CLASSES, CLASSES):
        if keys and set(keys) <= {canonical(name) for name in names}:
            return names
    return None
