"""Labels that raters gave with `stm-keras label`: their records, and what they say together.

    records, skipped = read_records("labels")
    for scan, ratings in latest_records(records).items():
        votes = [record.votes(classes) for record in ratings]
        votes, change_line = merge_ratings(votes, [record.change_line for record in ratings])

Each rater has a file, `labels/<rater>.jsonl`, with a record a line. It is only ever appended to,
so that several of them may be put together; a correction is a later record of the same rater and
scan. A scan is known by its heights, wherever its file lies.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from stm_keras.data.validate import canonical
from stm_keras.errors import InputError
from stm_keras.records import Count, Record, Text, check_record
from stm_keras.untrusted import ordinary_file, parse_json

MAX_LINE = 1 << 20  # bytes of a record
MAJORITY = 0.5  # of the raters: more must have marked a tip change for a scan to have one


def _time(text):
    if not isinstance(text, str):
        raise ValueError("must be an ISO 8601 time")
    return datetime.fromisoformat(text).astimezone()  # one without an offset is a local one


class Segment(Record):
    """Lines of a scan with one tip: from which line on, and what they show."""

    start: Count = Field(alias="from")
    marks: list[Text]


class LabelRecord(Record):
    """What one rater said of one scan, once. `place` is file and line, for messages."""

    version: Literal[1] = Field(alias="schema")
    t: Annotated[datetime, BeforeValidator(_time)]
    rater: Text
    scan: Text  # as of `scan_hash`
    path: Text = ""
    index: Count | None = None
    marks: list[Text]
    choices: list[Text] = []  # marks that could be set; none where the record does not say
    segments: list[Segment] = []
    unsure: bool = False
    seconds: float | None = None
    model_shown: bool = False
    again: bool = False  # shown once more, to see how well raters agree with themselves
    place: str = ""

    @property
    def change_line(self) -> int:
        """First line of the scan, in the order of acquisition, with another tip; -1 without."""
        return min((each.start for each in self.segments if each.start), default=-1)

    @property
    def says_something(self) -> bool:
        """Whether it is a vote: "not sure" without a mark is none."""
        return bool(self.marks) or not self.unsure

    def votes(self, classes: Sequence[str]) -> np.ndarray:
        """Return which classes the rater marked: float array `(classes,)` of 0 and 1.

        NaN is a class that the rater could not choose: not to mark it says nothing.
        """
        names = [canonical(name) for name in classes]
        marked, choices = (set(map(canonical, each)) for each in (self.marks, self.choices))
        could = [not choices or name in choices | marked for name in names]
        return np.where(could, [name in marked for name in names], np.nan)


def read_records(folder: str | Path) -> tuple[list[LabelRecord], int]:
    """Read the records of all raters: the `*.jsonl` of a folder, or one such file.

    Returns:
        Tuple of the list of records in the order of their files, and int: how many lines are
        no record, such as one that a crash cut short.

    Raises:
        InputError: There is no such file, or one cannot be read.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.jsonl")) if folder.is_dir() else [folder]
    if not paths:
        raise InputError(f"{folder}: holds no records of labels (<rater>.jsonl).")
    records, skipped = [], 0
    for path in paths:
        for number, line in _lines(path):
            place = f"{path}: line {number}"
            try:
                record = check_record(LabelRecord, parse_json(line, place), place)
            except InputError:
                skipped += 1
                continue
            records.append(record.model_copy(update={"place": place}))
    return records, skipped


def latest_records(records: Iterable[LabelRecord]) -> dict[str, list[LabelRecord]]:
    """Keep of each rater and scan the latest record, if it says something.

    What was said when a scan came `again` corrects nothing.

    Returns:
        dict of `scan_hash` to the records of its raters.
    """
    latest = {
        (each.scan, each.rater): each
        for each in sorted(records, key=lambda each: each.t)
        if not each.again
    }
    scans: dict[str, list[LabelRecord]] = {}
    for (scan, _), record in latest.items():
        if record.says_something:
            scans.setdefault(scan, []).append(record)
    return scans


def marks_set(records: Sequence[LabelRecord]) -> dict[str, str]:
    """Return each mark that was set and where at first, in the order in which they were offered."""
    offered = {
        mark: None for record in records for mark in (*record.choices, *record.marks)
    }
    places: dict[str, str] = {}
    for record in records:
        for mark in record.marks:
            places.setdefault(mark, record.place)
    return {mark: places[mark] for mark in offered if mark in places}


def merge_ratings(
    votes: Sequence[np.ndarray], change_lines: Sequence[int]
) -> tuple[np.ndarray, int]:
    """Merge what the raters of one scan said.

    Args:
        votes: of each rater, `(classes,)` from 0 to 1; NaN counts as nothing said.
        change_lines: of each rater, -1 without a tip change.

    Returns:
        Tuple of the mean votes, float array `(classes,)`, 0 where no rater had the choice, and
        the median of the lines with another tip; -1 unless more than half of the raters marked
        one.
    """
    lines = [line for line in change_lines if line >= 0]
    changed = len(lines) > MAJORITY * len(change_lines)
    heard = np.isfinite(votes).sum(axis=0)
    mean = np.nansum(votes, axis=0) / np.maximum(heard, 1)
    return mean, int(np.median(lines)) if changed else -1


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and text of lines that are not empty; one that is too long comes in pieces."""
    number, ended = 0, True
    try:
        with ordinary_file(path, "records of labels (<rater>.jsonl)").open("rb") as file:
            while line := file.readline(MAX_LINE):
                number += ended
                ended = line.endswith(b"\n")
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from None
