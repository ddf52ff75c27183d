"""Scans that somebody disagreed with while they were watched, from logs of `stm-keras watch`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from stm_keras.errors import InputError
from stm_keras.live.records import read_log

SUFFIX = ".jsonl"


def scans_of_logs(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield paths as they are, and in place of a log the files of its labelled scans.

    Raises:
        InputError: A log cannot be read, or no scan in it that was labelled was saved in a file.
    """
    for path in paths:
        if path.suffix == SUFFIX and path.is_file():
            yield from _labelled(path)
        else:
            yield path


def _labelled(log):
    labelled, files = set(), {}
    for record in read_log(log):
        if record["event"] == "label":
            labelled.add(record.get("scan"))
        elif record["event"] == "end" and record.get("path"):
            files[record.get("scan")] = Path(record["path"])
    found = [files[scan] for scan in sorted(labelled & files.keys())]
    if not found:
        raise InputError(
            f"{log}: nobody disagreed with a scan of this log that was saved in a file "
            f"({len(labelled)} were labelled). Give the folder of the scans instead."
        )
    yield from dict.fromkeys(found)
