"""The log of what happened: one JSON object a line, which no crash and no full disk ends.

    with EventLog("live", "nanonis://stm-pc") as log:
        record = log.write("note", text="the tip was changed")

Records are ordered by `seq`; durations are differences of `mono`, as clocks jump.
"""

import contextlib
import hashlib
import re
import time
from collections import deque
from datetime import datetime
from pathlib import Path

from stm_keras.appended import AppendedFile
from stm_keras.files import check_folder
from stm_keras.live.records import SCHEMA, encode, plain, read_backwards, read_log, scan_of
from stm_keras.locks import locked

LONGEST_NAME = 100  # bytes of a source in the name of a file
MOST_WAITING = 8 << 20  # bytes of records that cannot be written, about an hour of lines
LOST = "The log could not be written for a while: {} records are lost"
CANDIDATES = 3  # files in which the last record is looked for
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f/:\\<>"|?*\ud800-\udfff]')  # Windows' and ours


class EventLog:
    """Writes the records of one source, one file for each local day.

    Every record but those of lines is on the disk when `write` returns; those of lines are
    with the system, so that a kill loses none. Where the disk is full or the folder is gone,
    `failing` says why, and the records wait in memory until it works again. What has to be
    dropped then is counted, and a note says so in the log. Not safe between threads.

    Args:
        folder: str or `Path`. Of the logs.
        source: str. Name of the source, which becomes a part of the name of each file.

    Attributes:
        seq: int. Number of the last record; a log that is opened again goes on.
        last_scan: int. Number of the last scan in the log, 0 without one.
        failing: str. Why nothing can be written at present; None if all is well.

    Raises:
        OutputError: Another process writes this log, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, source: str):
        self.folder, self.name = Path(folder), name_of(source)
        self.seq, self.last_scan = 0, 0
        self.failing: str | None = None
        self._waiting: deque[tuple[str, bytes, bool]] = deque()  # day, record, to the disk?
        self._size = self._dropped = 0
        self._appended = AppendedFile()
        check_folder(self.folder)
        self._lock = contextlib.ExitStack()
        refusal = (
            f"{self.folder}: another `stm-keras watch` writes the log of {source} here. End "
            "that one, or choose another folder with --log."
        )
        self._lock.enter_context(locked(self.folder / f".{self.name}.lock", refusal))
        self._resume()

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()

    def path(self, day: str | None = None) -> Path:
        """Return the file of a day, such as "2026-11-29", or of today."""
        return self.folder / f"{day or _now().date().isoformat()}-{self.name}.jsonl"

    def write(self, event: str, /, **fields) -> dict:
        """Write a record and return it, whether it could be written or not.

        Args:
            event: str. What happened.
            **fields: JSON-ready values in their order, also paths and what NumPy makes. A
                number that is not finite becomes null.
        """
        now = _now()
        self.seq += 1
        record = {
            "schema": SCHEMA,
            "seq": self.seq,
            "t": now.isoformat(timespec="milliseconds"),
            "mono": round(time.monotonic(), 6),
            "event": event,
            **{name: plain(value) for name, value in fields.items()},
        }
        self.last_scan = max(self.last_scan, scan_of(record) or 0)
        self._waiting.append((now.date().isoformat(), encode(record), event != "line"))
        self._size += len(self._waiting[-1][1])
        self._flush()
        return record

    def judged_files(self) -> set[tuple[str, int, float]]:
        """Return path, size and mtime of the files in the two newest logs."""
        return {
            (record["path"], record["size"], record["mtime"])
            for path in self._paths()[:2]
            for record in read_log(path, brief=True)
            if record["event"] == "file" and {"path", "size", "mtime"} <= record.keys()
        }

    def close(self) -> None:
        """Try once more to write what waits, and let another process have the log."""
        self._flush()
        self._appended.close()
        self._lock.close()

    def _paths(self):
        """Return the files of this source, the newest first."""
        days = "[0-9]" * 4 + "-[0-9][0-9]" * 2
        name = re.sub(r"([\[\]])", r"[\1]", self.name)
        return sorted(self.folder.glob(f"{days}-{name}.jsonl"), reverse=True)

    def _resume(self):
        """Go on with the numbers of the last record and the last scan."""
        paths = self._paths()
        today = [path for path in paths if path == self.path()]
        recent = paths[:CANDIDATES]  # not the newest alone: a clock may have been wrong
        for path in dict.fromkeys(today + recent):
            seq = scan = 0
            with contextlib.suppress(OSError):
                for record in read_backwards(path):
                    seq, scan = max(seq, record["seq"]), scan or scan_of(record) or 0
                    if scan:
                        break
            self.seq, self.last_scan = max(self.seq, seq), max(self.last_scan, scan)

    def _flush(self):
        """Write all that waits, or note why that cannot be done."""
        try:
            while self._waiting:
                self._put(*self._waiting[0])
        except OSError as error:
            self.failing = f"{self.folder}: {error.strerror or error}"
            self._appended.close()  # which is opened again, where the folder is there again
            while self._size > MOST_WAITING:
                self._size -= len(self._waiting.popleft()[1])
                self._dropped += 1
            return
        self.failing = None
        if self._dropped:
            lost, self._dropped = self._dropped, 0
            self.write("note", text=LOST.format(lost))

    def _put(self, day, data, to_disk):
        self._appended.write(self.path(day), data)
        self._waiting.popleft()  # at once, so that no Ctrl-C has it written twice
        self._size -= len(data)
        if to_disk:
            self._appended.sync()


def name_of(source: str) -> str:
    """Return the name of a source as a part of the name of a file on any system."""
    name = FORBIDDEN.sub("-", source).strip(" .") or "source"
    data = name.encode()
    if len(data) > LONGEST_NAME:  # the end, which tells more, and what makes it unique
        digest = hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()[:8]
        name = f"{digest}-{data[9 - LONGEST_NAME :].decode(errors='ignore')}"
    return name


def _now():
    return datetime.now().astimezone()
