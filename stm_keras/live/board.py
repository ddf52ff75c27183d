"""What is going on at the microscope, for whoever looks: pages, and programs that ask.

    board = Board(predictor.classes, bad)
    Watch(source, predictor, log, alarms, sinks=[board.push], board=board)
    board.state()

All that a page shows comes from here, so that any number of them may be opened at any time.
Written by the thread that watches, read by any other.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from stm_keras.errors import UsageError
from stm_keras.inference.verdict import context_words, verdict_words
from stm_keras.live.alarms import TIP_CHANGE
from stm_keras.live.day import DayScan, DaySummary
from stm_keras.live.describe import frame_words
from stm_keras.live.events import BACKWARD, Line
from stm_keras.live.pictures import ScanPicture
from stm_keras.live.records import SCHEMA, scan_of
from stm_keras.terminal import one_line

KEPT_PICTURES = 20  # scans of which every line is kept; of older ones there is a thumbnail
KEPT_RECORDS = 5000  # that a program which was away for a while gets
KEPT_SCANS = 500  # of the day that a page lists
WATCHING, LOST, ENDED = "watching", "connection lost", "ended"
NONE_OF_THESE = "none of these"  # a label beside the classes
LONGEST_NAME = 60  # letters of a rater
MOST_LABELS = 20  # that wait, as writing each down takes the time of lines


class Board:
    """The state of a watching: the scan that runs, the tip of now, alarms, scans of the day.

    Args:
        classes: of the model, in its order.
        bad: of them, those of a bad tip.

    Attributes:
        classes, bad: as given, as tuples.
        failing: str. Why the log cannot be written; None if all is well.
    """

    def __init__(self, classes: Iterable[str], bad: Iterable[str]):
        self.classes, self.bad = tuple(classes), tuple(bad)
        self.failing: str | None = None
        self._lock = threading.RLock()
        self._day = DaySummary()
        self._pictures: OrderedDict[int, ScanPicture] = OrderedDict()
        self._records: deque[dict] = deque(maxlen=KEPT_RECORDS)
        self._labels: deque[dict] = deque()  # that people gave, and nobody wrote down yet
        self._listeners: list[Callable[[dict, dict | None], object]] = []
        self._run: dict = {}
        self._connection = {"state": WATCHING, "text": "", "since": None}
        self._alarms: dict[str, dict] = {}  # by rule
        self._scan: int | None = None  # that runs
        self._last: int | None = None  # that runs, or ran last
        self._tip: dict | None = None
        self._whole: dict | None = None  # what the last line said of the whole scan
        self._since: dict | None = None  # where the verdict of now began
        self._last_line: tuple[float, str] | None = None  # by a clock that never jumps

    def remember(self, records: Iterable[dict]) -> None:
        """Take what was written down earlier on this day, before the first `push`.

        Records of lines may be left out but for the last ones: lines are counted by number.
        """
        with self._lock:
            for record in records:
                self._day.take(record)
                lines = record.get("lines")
                if record["event"] == "line" and record.get("direction") != BACKWARD:
                    lines = None if record.get("line") is None else record["line"] + 1
                if record["event"] in ("line", "end") and lines is not None:
                    self._day.numbered(scan_of(record) or 0).lines = lines

    def push(self, record: dict) -> None:
        """Take a record of any event; never waits."""
        with self._lock:
            self._day.take(record)
            self._records.append(record)
            take = getattr(self, f"_take_{record['event']}", None)
            if take is not None:
                take(record)
            if record["event"] != "line":  # of which `draw` tells
                self._tell(record, None)

    def draw(self, line: Line, record: dict, sent: float) -> None:
        """Take a line of the source, after its record; `sent` is when it came, in s since 1970."""
        with self._lock:
            picture = self._pictures.get(record["scan"])
            drawn = None if picture is None else picture.add(line, record, sent)
            self._tell(record, drawn)

    def listen(self, listener: Callable[[dict, dict | None], object]) -> None:
        """Call `listener(record, line)` on all that is new, from the thread that watches.

        `line` is None of a record that is not of a line, else as of `ScanPicture`.
        """
        with self._lock:
            self._listeners.append(listener)

    def forget(self, listener: Callable[[dict, dict | None], object]) -> None:
        """End what `listen` began."""
        with self._lock:
            self._listeners.remove(listener)

    def records(self, after: int | None = None) -> list[dict]:
        """Return the records after the one with this number, as far as they are kept.

        None, or a number that is still to come, as of another log: the `run` record, and that
        of the scan that runs, so that what follows makes sense.
        """
        with self._lock:
            if after is not None and self._records and after <= self._records[-1]["seq"]:
                return [each for each in self._records if each["seq"] > after]
            picture = None if self._scan is None else self._pictures[self._scan]
            return [each for each in (self._run, picture and picture.record) if each]

    def state(self) -> dict:
        """Return all but the pictures: a dict that is ready for JSON, see docs/live.md."""
        with self._lock:
            age = None
            if self._last_line is not None:
                age = round(time.monotonic() - self._last_line[0], 2)
            return {
                "schema": SCHEMA,
                "source": self._run.get("source"),
                "model": self._run.get("model"),
                "classes": list(self.classes),
                "bad": list(self.bad),
                "connection": dict(self._connection),
                "scan": self._scan_state(),
                "tip": self._tip,
                "since": self._since,
                "alarms": list(self._alarms.values()),
                "log_failing": self.failing,
                "last_line": self._last_line and {"t": self._last_line[1], "age_s": age},
            }

    def run_record(self) -> dict:
        """Return the `run` record: versions, model, settings; empty before there is one."""
        with self._lock:
            return self._run

    def scans(self) -> list[dict]:
        """Return the scans of the day in their order, the last `KEPT_SCANS`: see `scan_row`."""
        with self._lock:
            rows = self._day.day.scans[-KEPT_SCANS:]
            labels = self._labels_of({each.number for each in rows})
            return [self._row(each, labels[each.number]) for each in rows]

    def scan(self, number: int) -> dict | None:
        """Return one of `scans`, or None."""
        with self._lock:
            row = self._day.numbered(number)
            return row and self._row(row, self._labels_of({number})[number])

    def picture(self, number: int) -> tuple[dict, list[dict]] | None:
        """Return the record and the lines of a scan; None where they are not kept."""
        with self._lock:
            picture = self._pictures.get(number)
            return None if picture is None else (picture.record, list(picture.lines))

    def thumbnail(self, number: int) -> str | None:
        """Return the small picture of a scan that has ended, as a data URL of a PNG."""
        with self._lock:
            scan = self._day.numbered(number)
            return scan and scan.picture

    def label(self, scan: object, name: object, who: object) -> None:
        """Take what a person says of a scan; the thread that watches writes it down.

        Raises:
            UsageError: There is no such scan or class, or `who` is not a name.
        """
        names = (*self.classes, NONE_OF_THESE)
        if name not in names:
            choices = ", ".join(names)
            raise UsageError(f"A label is one of: {choices}. Received: {name!r:.80}.")
        if not isinstance(who, str) or len(who) > LONGEST_NAME:
            raise UsageError(f"`who` is a name of at most {LONGEST_NAME} letters.")
        with self._lock:
            if (
                type(scan) is not int or self._day.numbered(scan) is None
            ):  # True is no number
                raise UsageError(f"There is no scan {scan!r:.20} today.")
            if len(self._labels) >= MOST_LABELS:
                raise UsageError("Too many labels wait to be written down. Try again soon.")
            who = one_line(who).strip() or None
            self._labels.append({"who": who, "scan": scan, "class": name})

    def said(self) -> list[dict]:
        """Return the labels that people gave since the last call: fields of `label` records."""
        with self._lock:
            labels = list(self._labels)
            self._labels.clear()
            return labels

    def _tell(self, record, drawn):
        for listener in self._listeners:
            listener(record, drawn)

    def _take_run(self, record):
        self._run = record

    def _take_scan(self, record):
        self._scan = self._last = scan_of(record)
        self._pictures[self._scan] = ScanPicture(record)
        while len(self._pictures) > KEPT_PICTURES:
            self._pictures.popitem(last=False)
        self._whole = None
        self._alarms.pop(TIP_CHANGE, None)

    def _take_line(self, record):
        self._last_line = time.monotonic(), record["t"]
        if record.get("direction") == BACKWARD or record.get("lost"):
            return
        now = record.get("since_change") or record
        if now.get("verdict") is None:
            return
        self._whole = {key: record.get(key) for key in ("class", "probabilities")}
        context = record.get("context")
        self._whole["context"] = context and context | {"words": context_words(context)}
        tip = {key: now.get(key) for key in ("verdict", "class", "probabilities")}
        tip["confidence"] = (now.get("probabilities") or {}).get(now.get("class"))
        tip["bad"] = tip["verdict"] in self.bad
        tip["words"] = verdict_words(tip)
        if self._tip is None or self._tip["verdict"] != tip["verdict"]:
            self._since = {key: record[key] for key in ("t", "scan", "line")}
        self._tip = tip

    def _take_end(self, record):
        self._scan = None

    def _take_alarm(self, record):
        self._alarms[record["rule"]] = {
            key: record.get(key) for key in ("rule", "class", "p", "scan", "line", "t")
        }

    def _take_clear(self, record):
        self._alarms.pop(record["rule"], None)

    def _take_connected(self, record):
        self._connect(WATCHING, record["text"], record)

    def _take_lost(self, record):
        self._connect(LOST, record["reason"], record)

    def _take_found(self, record):
        self._connect(WATCHING, record["reason"], record)

    def _take_stop(self, record):
        self._connect(ENDED, record["reason"], record)

    def _connect(self, state, text, record):
        self._connection = {"state": state, "text": text, "since": record["t"]}

    def _scan_state(self):
        if self._last is None:
            return None
        row = self._day.numbered(self._last)
        record = self._pictures[self._last].record
        kept = ("name", "channel", "unit", "frame", "pixels", "lines", "slow", "bias")
        return {
            "number": self._last,
            **{key: record.get(key) for key in (*kept, "setpoint", "line_time")},
            "words": frame_words(record),
            "running": self._scan is not None,
            "finished": bool(record.get("finished")),
            "lines_done": row.lines,
            "verdict": row.verdict,
            "confidence": row.confidence if row.verdict in self.classes else None,
            **(self._whole or dict.fromkeys(("class", "probabilities", "context"))),
            "changes": list(row.changes),
        }

    def _labels_of(self, numbers):
        """Return the labels of scans: dict of number to list of str."""
        given: dict = {number: [] for number in numbers}
        for each in self._day.day.labels:
            if each.get("scan") in given:
                given[each["scan"]].append(each.get("class"))
        return given

    def _row(self, scan: DayScan, labels):
        picture = self._pictures.get(scan.number)
        return {
            "number": scan.number,
            "name": picture and picture.record.get("name"),
            "began": scan.began.isoformat(timespec="seconds"),
            "frame": scan.frame,
            "lines": scan.lines,
            "planned": scan.planned,
            "verdict": scan.verdict,
            "confidence": scan.confidence if scan.verdict in self.classes else None,
            "now": scan.now,
            "changes": list(scan.changes),
            "alarms": list(scan.alarms),
            "reason": scan.reason,
            "path": scan.path,
            "picture": scan.picture is not None,
            "kept": picture is not None,
            "labels": labels,
        }
