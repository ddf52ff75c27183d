"""What one rater says: read when they come back, and written as they go on.

with RaterFile("labels", "Ada") as file:
    file.append(scan="...", path="a.sxm", index=0, marks=["rows"], unsure=False)
"""

from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

from stm_keras.appended import AppendedFile
from stm_keras.data.label_records import LabelRecord, read_records
from stm_keras.errors import OutputError, UsageError
from stm_keras.files import check_folder, why_unwritten
from stm_keras.live.log import FORBIDDEN
from stm_keras.live.records import encode
from stm_keras.locks import locked
from stm_keras.records import check_record

SCHEMA = 1
LONGEST = 60  # letters of a rater's name


class RaterFile:
    """The records of one rater, `<folder>/<rater>.jsonl`; only ever appended to.

    Args:
        folder: of the records of all raters.
        rater: str. Who labels.

    Attributes:
        records: list of `LabelRecord`, of before and of now.
        skipped: int. Lines that are no record, such as one that a crash cut short.

    Raises:
        UsageError: `rater` is not a name, or none of a file.
        OutputError: Somebody labels by this name at present, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, rater: str):
        self.rater = rater.strip()
        fit = self.rater.strip(".") == self.rater and not FORBIDDEN.search(self.rater)
        if not fit or not 0 < len(self.rater) <= LONGEST:
            raise UsageError(
                f"`--rater`: a name of at most {LONGEST} letters, without any of / \\ : * ? | "
                f'< > ", and no full stop at its ends. Received: {rater!r:.80}.'
            )
        self.folder = check_folder(folder)
        self.path = Path(folder) / f"{self.rater}.jsonl"
        self.records: list[LabelRecord] = []
        self.skipped = 0
        self._appended = AppendedFile()
        refusal = (
            f"{self.path}: somebody labels as {self.rater} at present. End that, or give "
            "another --rater."
        )
        lock = self.path.with_suffix(".lock")
        with ExitStack() as stack:
            stack.enter_context(locked(lock, refusal))
            stack.callback(_remove, lock)  # while it is ours
            if self.path.exists():
                self.records, self.skipped = read_records(self.path)
            self._stack = stack.pop_all()

    def __enter__(self) -> "RaterFile":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, **said: object) -> LabelRecord:
        """Write what the rater says of a scan: on the disk when this returns.

        Args:
            **said: `scan`, `path`, `index`, `marks`, `choices`, `segments`, `unsure`, `seconds`,
                `model_shown`, `again` of a `LabelRecord`, as JSON has them.

        Raises:
            InputError: It makes no sense.
            OutputError: It cannot be written.
        """
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        record = {"schema": SCHEMA, "t": now, "rater": self.rater, **said}
        checked = check_record(LabelRecord, record, "The label")
        try:
            self._appended.write(self.path, encode(record))
        except OSError as error:
            raise OutputError(why_unwritten(self.path, error)) from None
        self._appended.sync()
        self.records.append(checked)
        return checked

    def latest(self) -> dict[tuple[str, bool], LabelRecord]:
        """Return the last record of each scan, by its `scan_hash` and whether it came again."""
        by_time = sorted(self.records, key=lambda each: each.t)
        return {(each.scan, each.again): each for each in by_time}

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        self._appended.close()
        self._stack.close()


def _remove(lock):
    with suppress(OSError):  # Windows keeps a file that is open
        lock.unlink()
