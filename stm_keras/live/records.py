"""Records of what happened while a microscope was watched: written as JSON, read and checked.

for record in read_log("live/2026-11-29-simulated.jsonl"):
    print(record["seq"], record["event"])
"""

import json
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from stm_keras.errors import InputError, StmKerasError
from stm_keras.untrusted import ordinary_file, parse_json

SCHEMA = 1
MAX_LINE = 1 << 20  # bytes of a record
BLOCK = 1 << 16  # bytes that are read at once from the end of a log
OF_LINE, HEAD = (
    b'"event":"line"',
    200,
)  # what begins the record of a line, and within which bytes
LONGEST = 10_000  # letters of a text
MOST = 1000  # values of a list or table
TEXTS = (  # fields of records by what they hold; each may be missing or null
    *(
        "absent",
        "channel",
        "class",
        "direction",
        "error",
        "kind",
        "name",
        "path",
        "picture",
        "reason",
    ),
    *("rule", "slow", "source", "status", "target", "text", "unit", "verdict", "who"),
)
COUNTS = ("change_line", "dropped", "line", "lines", "pixels", "row", "scan", "scans")
NUMBERS = (
    *("bias", "confidence", "late_ms", "line_time", "ms", "mtime", "p", "probability"),
    "setpoint",
)
VERDICTS = ("since_change", "context")  # objects in the record of a line
FLAGS = ("finished", "lost", "quiet")


class LogReader:
    """The records of a log in their order; what is not a record is skipped and counted.

    Args:
        path: str or `Path`.
        brief: bool. Pass over all records of lines but those in front of another record, as
            they are nearly all of a log, and a day of them takes minutes to read.

    Attributes:
        skipped: int. Lines so far that are not a record.

    Raises:
        InputError: The file cannot be read.
    """

    def __init__(self, path: str | Path, brief: bool = False):
        self.brief = brief
        self.path = ordinary_file(path, "a log of `stm-keras watch`")
        self.skipped = 0

    def __iter__(self) -> Iterator[dict]:
        self.skipped = 0
        passed = b""
        try:
            with self.path.open("rb") as file:
                while line := file.readline(MAX_LINE):
                    whole = line.endswith(b"\n") or len(line) < MAX_LINE
                    if self.brief and whole and OF_LINE in line[:HEAD]:
                        passed = line
                        continue
                    if passed:
                        yield from filter(None, [parse_record(passed)])
                        passed = b""
                    record = parse_record(line) if whole else None
                    while not whole:  # the rest of what is too long
                        rest = file.readline(MAX_LINE)
                        whole = rest.endswith(b"\n") or len(rest) < MAX_LINE
                    if record is not None:
                        yield record
                    elif line.strip():
                        self.skipped += 1
                if passed:
                    yield from filter(None, [parse_record(passed)])
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be read ({error.strerror or error})."
            ) from None


def read_log(path: str | Path, brief: bool = False) -> LogReader:
    """Read a log record by record, however long it is; see `LogReader`.

    Raises:
        InputError: The file cannot be read.
    """
    return LogReader(path, brief)


def read_backwards(path: Path) -> Iterator[dict]:
    """Yield the records of a log from the last to the first, and read no more than is taken."""
    with path.open("rb") as file:
        position, rest = file.seek(0, 2), b""
        while position:
            start = max(0, position - BLOCK)
            file.seek(start)
            rest = file.read(position - start) + rest
            position = start
            first, *lines = rest.split(b"\n")
            lines = [first, *lines] if not position else lines
            rest = first if len(first) <= MAX_LINE else b""
            for line in reversed(lines):
                if (record := parse_record(line)) is not None:
                    yield record


def parse_record(line: bytes) -> dict | None:
    """Return the record that a line of a log holds, or None if it is not one."""
    try:
        record = parse_json(line, "line")
    except StmKerasError:
        return None
    return record if isinstance(record, dict) and _is_record(record) else None


def scan_of(record: dict) -> int | None:
    """Return the number of the scan that a record is about."""
    return record.get("scan", record.get("id") if record["event"] == "scan" else None)


def when(record: dict) -> datetime:
    """Return the time of a record, as the clock of its computer showed it."""
    return datetime.fromisoformat(record["t"])


def encode(record: dict) -> bytes:
    """Write a record as one line of JSON in UTF-8, with its newline."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace") + b"\n"  # a half character: \udc80


def plain(value: object) -> object:
    """Return a value as JSON has it: NumPy's as Python's, a path as text, NaN as null."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def _is_record(record):
    """Tell whether what a line holds has the fields of every record, and those of its event."""
    event, seq, mono = (record.get(name) for name in ("event", "seq", "mono"))
    if record.get("schema") != SCHEMA or not isinstance(event, str) or len(event) > LONGEST:
        return False
    if not _is_count(seq) or not _is_number(mono):
        return False
    try:
        aware = datetime.fromisoformat(record["t"]).tzinfo is not None
    except (KeyError, TypeError, ValueError):
        return False
    size = record.get("size") if event == "file" else None
    count = record.get("id") if event == "scan" else None
    fine = all(each is None or _is_count(each) for each in (size, count))
    return aware and fine and _has_kinds(record)


def _has_kinds(record):
    """Tell whether the fields that are known hold what they must."""
    return (
        all(_is_text(record[name]) for name in TEXTS if record.get(name) is not None)
        and all(_is_count(record[name]) for name in COUNTS if record.get(name) is not None)
        and all(
            _is_number(record[name]) for name in NUMBERS if record.get(name) is not None
        )
        and all(record.get(name) in (None, True, False) for name in FLAGS)
        and _is_shares(record.get("probabilities"))
        and all(_is_verdict(record.get(name)) for name in VERDICTS)
    )


def _is_text(value):
    return isinstance(value, str) and len(value) <= LONGEST


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_shares(value):
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and len(value) <= MOST
        and all(map(_is_number, value.values()))
    )


def _is_verdict(value):
    return (
        value is None
        or isinstance(value, dict)
        and not any(name in value for name in VERDICTS)
        and _has_kinds(value)
    )
