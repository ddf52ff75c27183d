"""What happened on a day: the records of a log as scans, alarms, outages and the like."""

import base64
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from stm_keras.inference.verdict import NOT_JUDGED, UNKNOWN_SIZE, UNKNOWN_SURFACE, UNSURE
from stm_keras.live.describe import frame_words
from stm_keras.live.events import BACKWARD
from stm_keras.live.records import scan_of, when

SIDE = 64  # pixels of a thumbnail, at most
SHADES = 64
PNG = "data:image/png;base64,"
PICTURE = re.compile(
    PNG + "[A-Za-z0-9+/]{1,40000}={0,2}"
)  # no other address gets on a page
NO_CLASS = (UNSURE, UNKNOWN_SURFACE, UNKNOWN_SIZE, NOT_JUDGED)
MOST_CLASSES = 40  # that a page can show; a log that holds more is not one of ours


@dataclass
class Stretch:
    """Neighbouring lines of a scan with the same verdict on the tip of now.

    Args:
        verdict: str, or None where there was none.
        first, last: int. Lines of it.
    """

    verdict: str | None
    first: int
    last: int


@dataclass
class DayScan:
    """A scan of the day; what nobody told is None.

    Args:
        planned: int. Lines of the complete scan.
        lines: int. Forward lines that came, of which `lost` were lost.
        changes: list of int. First lines with another tip.
        verdict, confidence: on all its lines. `now`: the last verdict on the tip of now.
        frame: str. How it was recorded.
        reason: str. Why it ended; None if it has not.
        path: str. Its file.
        picture: str. Its thumbnail, a data URL.
        alarms: list of str. Rules.
        quiet: bool. It was over before the watching began.
    """

    number: int
    began: datetime
    frame: str = ""
    planned: int | None = None
    lines: int = 0
    lost: int = 0
    stretches: list[Stretch] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    verdict: str | None = None
    confidence: float | None = None
    now: str | None = None
    reason: str | None = None
    path: str | None = None
    picture: str | None = None
    alarms: list[str] = field(default_factory=list)
    quiet: bool = False


@dataclass
class Moment:
    """Something that has a time, and a place in the scans.

    Args:
        place: tuple of two int. How many scans had begun, and lines of the last of them.
        record: dict. Of what happened.
        ended: dict. Record of the all-clear, or of the connection that is there again.
        seconds: float. From the one to the other; None where it never came or nobody knows.
    """

    place: tuple[int, int]
    record: dict
    ended: dict | None = None
    seconds: float | None = None


@dataclass
class Day:
    """A day, or all that one log holds.

    Args:
        source: str. What was watched.
        model: str. What judged.
        first, last: datetime of the first and the last record; None of an empty log.
        classes: tuple of str. In the model's order, as far as the log tells.
        alarms, outages: list of `Moment`.
        files, hooks, labels, notes: list of records.
        skipped: int. Lines of the log that are not a record.
    """

    source: str = ""
    model: str = ""
    first: datetime | None = None
    last: datetime | None = None
    classes: tuple[str, ...] = ()
    scans: list[DayScan] = field(default_factory=list)
    alarms: list[Moment] = field(default_factory=list)
    outages: list[Moment] = field(default_factory=list)
    files: list[dict] = field(default_factory=list)
    hooks: list[dict] = field(default_factory=list)
    labels: list[dict] = field(default_factory=list)
    notes: list[dict] = field(default_factory=list)
    records: int = 0
    skipped: int = 0


def summarise(records: Iterable[dict]) -> Day:
    """Sum up a log, as `read_log` gives it, or records of any origin that were checked."""
    summary = DaySummary()
    for record in records:
        summary.take(record)
    summary.day.skipped = getattr(records, "skipped", 0)
    return summary.day


def thumbnail(frame: np.ndarray, aspect: float = 1.0) -> str | None:
    """Draw a scan as a small picture, for the `picture` of the record that ends it.

    Args:
        frame: float array of shape `(rows, pixels)`. Heights in any unit, row 0 at the top of
            the frame; a row with NaN was not recorded and is hatched.
        aspect: float. How much longer a pixel is along the slow axis than along a line.

    Returns:
        A data URL of a PNG of at most 64 x 64 pixels, some 5 kB, at most twice as high as
        wide; None of an empty array.
    """
    from PIL import Image

    from stm_keras.data.draw import draw_scan

    frame = np.asarray(frame, float)
    if frame.ndim != 2 or frame.size == 0:
        return None
    rows, pixels = frame.shape
    width = min(SIDE, max(SIDE // 2, int(SIDE * pixels / (rows * aspect))))
    picture = draw_scan(frame, rows, width=width, aspect=aspect)[:SIDE]
    stream = io.BytesIO()
    Image.fromarray(picture).quantize(SHADES).save(stream, "PNG", optimize=True)
    return PNG + base64.b64encode(stream.getvalue()).decode("ascii")


class DaySummary:
    """Takes records in their order and makes a `Day` of them.

    Attributes:
        day: `Day` so far.
    """

    def __init__(self):
        self.day = Day()
        self._scans: dict[int, DayScan] = {}

    def take(self, record: dict) -> None:
        """Take the next record."""
        self.day.records += 1
        self.day.last = when(record)
        self.day.first = self.day.first or self.day.last
        if record["event"] in EVENTS:
            EVENTS[record["event"]](self, record)

    def numbered(self, number: int | None) -> DayScan | None:
        """Return the scan of this number, or None."""
        return self._scans.get(number)

    def run(self, record):
        model = record.get("model")
        model = model.get("name") if isinstance(model, dict) else model
        self.day.source = record.get("source") or self.day.source
        self.day.model = str(model or self.day.model)

    def scan(self, record):
        scan = self._scan_of(record)
        scan.planned, scan.frame = record.get("lines"), frame_words(record)
        scan.quiet = bool(record.get("quiet"))

    def line(self, record):
        if record.get("direction") == BACKWARD:
            return
        scan = self._scan_of(record)
        scan.lines += 1
        scan.lost += bool(record.get("lost"))
        self._know(record.get("probabilities"))
        now = record.get("since_change") or record
        verdict = None if record.get("lost") else now.get("verdict")
        if record.get("verdict") is not None and not record.get("lost"):
            scan.verdict, scan.confidence = record["verdict"], record.get("confidence")
            scan.now = verdict or scan.now
        self._know([verdict] if verdict else [])
        number = scan.lines - 1
        if scan.stretches and scan.stretches[-1].verdict == verdict:
            scan.stretches[-1].last = number
        else:
            scan.stretches.append(Stretch(verdict, number, number))

    def change(self, record):
        if record.get("line") is not None:
            self._scan_of(record).changes.append(record["line"])

    def alarm(self, record):
        self.day.alarms.append(Moment(self._place(), record))
        if self.day.scans and record.get("rule"):
            self.day.scans[-1].alarms.append(record["rule"])

    def clear(self, record):
        open_ = [
            each
            for each in self.day.alarms
            if each.record.get("rule") == record.get("rule") and each.ended is None
        ]
        if open_:
            _end(open_[-1], record)

    def lost(self, record):
        self.day.outages.append(Moment(self._place(), record))

    def found(self, record):
        if self.day.outages and self.day.outages[-1].ended is None:
            _end(self.day.outages[-1], record)

    def end(self, record):
        scan = self._scan_of(record)
        scan.reason, scan.path = record.get("reason") or "no reason", record.get("path")
        scan.verdict = record.get("verdict") or scan.verdict
        self._know([scan.verdict] if scan.verdict else [])
        picture = record.get("picture") or ""
        scan.picture = picture if PICTURE.fullmatch(picture) else None

    def _scan_of(self, record):
        """Return the scan of a record, also where the record that began it is lost."""
        number = scan_of(record) or 0
        if number not in self._scans:
            self._scans[number] = DayScan(number, when(record))
            self.day.scans.append(self._scans[number])
        return self._scans[number]

    def _place(self):
        scans = self.day.scans
        return len(scans), scans[-1].lines if scans else 0

    def _know(self, names):
        """Note names of classes in the order in which the log tells them."""
        new = [each for each in names or () if each not in (*self.day.classes, *NO_CLASS)]
        self.day.classes = (*self.day.classes, *new)[:MOST_CLASSES]


def _end(moment, record):
    moment.ended = record
    seconds = record["mono"] - moment.record["mono"]
    moment.seconds = seconds if seconds >= 0 else None  # the computer was started anew


EVENTS = {
    **{
        name: getattr(DaySummary, name)
        for name in (
            "run",
            "scan",
            "line",
            "change",
            "alarm",
            "clear",
            "lost",
            "found",
            "end",
        )
    },
    "file": lambda summary, record: summary.day.files.append(record),
    "hook": lambda summary, record: summary.day.hooks.append(record),
    "label": lambda summary, record: summary.day.labels.append(record),
    "note": lambda summary, record: summary.day.notes.append(record),
}
