"""The loop of `stm-keras watch`: what a source tells becomes verdicts, and these records.

Everything is done in one thread, line by line. What may wait for others (hooks, subscribers,
a page) takes records and has threads of its own.
"""

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from stm_keras.errors import InputError, MismatchError
from stm_keras.inference.context import Context
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.scan_chain import Circumstances, ScanChain
from stm_keras.inference.verdict import NOT_JUDGED
from stm_keras.live import events
from stm_keras.live.alarms import Alarms
from stm_keras.live.board import Board
from stm_keras.live.day import thumbnail
from stm_keras.live.events import BACKWARD, FORWARD, Frame, Source
from stm_keras.live.hooks import Hooks
from stm_keras.live.log import EventLog
from stm_keras.live.tip import TipStream, TipVerdict

DISAGREE = 20  # lines in a row on which forward and backward name other classes
THUMB = 64  # lines and pixels that are kept of a scan for its picture
MORE_LINES = 4096  # kept for it where nobody said how many lines a scan has


class Watch:
    """Judges what a source tells, and writes down all that happens.

        Watch(source, predictor, log, Alarms()).run()

    Args:
        source: `Source`.
        predictor: `Predictor` of a model that goes from line to line.
        log: `EventLog`.
        alarms: `Alarms`.
        sinks: callables that get each record after the log, and never wait.
        hooks: `Hooks` whose results are written down.
        board: `Board` that is to draw lines, and knows what people say of scans.
        context: bool. Whether scans are judged with those before them as well, a verdict of its
            own that raises no alarm, where the model knows how scans follow each other.
    """

    def __init__(
        self,
        source: Source,
        predictor: Predictor,
        log: EventLog,
        alarms: Alarms,
        sinks: Iterable[Callable[[dict], object]] = (),
        hooks: Hooks | None = None,
        board: Board | None = None,
        context: bool = True,
    ):
        self.source, self.log, self.alarms = source, log, alarms
        self.sinks, self.hooks, self.board = tuple(sinks), hooks, board
        self.classes = predictor.classes
        self.streams = {each: TipStream(predictor) for each in (FORWARD, BACKWARD)}
        known = Context.of(predictor.metadata) if context else None
        self.chain = None if known is None else ScanChain(known, predictor)
        self._busy, self._asked = False, ""  # by which signal it shall end
        self.failing: str | None = None  # why the log cannot be written
        self.scan: _Scan | None = None  # that is being recorded
        self.before: _Scan | None = None  # that ended last

    def run(self) -> None:
        """Watch until the source ends.

        Raises:
            KeyboardInterrupt: `interrupt` was called. Nothing was left half done.
        """
        for event in self.source.events():
            self._busy = True
            self.take(event)
            self._busy = False
            if self._asked:
                raise KeyboardInterrupt(self._asked)
        self._end("the source ended")

    def interrupt(self, number: int, frame: object = None) -> None:
        """Handle a signal: end the watching, once what an event gave rise to is written down.

        A second one ends it wherever it is.
        """
        again, self._asked = self._asked, signal.Signals(number).name
        if again or not self._busy:
            raise KeyboardInterrupt(self._asked)

    def take(self, event: events.Event) -> None:
        """Take what a source told."""
        for told in self.hooks.results() if self.hooks else ():
            self.emit("hook", **told)
        for label in self.board.said() if self.board else ():
            self.emit("label", **label)
        match event:
            case events.Line():
                self._line(event)
            case events.ScanBegan():
                self._begin(event)
            case events.ScanEnded():
                self._end(event.reason, event.path)
            case events.FileSeen():
                self._file(event)
            case events.Connected() | events.Note():
                name = "note" if isinstance(event, events.Note) else "connected"
                self.emit(name, text=event.text)
            case events.Lost() | events.Found():
                name = "lost" if isinstance(event, events.Lost) else "found"
                self.emit(name, reason=event.reason)

    def stop(self, reason: str) -> None:
        """Write the last record: why the watching ended."""
        self._end("the watching ended")
        for label in self.board.said() if self.board else ():
            self.emit("label", **label)
        for told in self.hooks.close() if self.hooks else ():
            self.emit("hook", **told)
        self.emit("stop", reason=reason)

    def emit(self, event: str, /, **fields) -> dict:
        """Write a record, hand it on, and see whether it is a reason for an alarm."""
        record = self._write(event, **fields)
        self._alarm(record)
        return record

    def _alarm(self, record):
        for name, told in self.alarms.push(record):
            self._write(name, **told)

    def _write(self, event, /, **fields):
        record = self.log.write(event, **fields)
        for sink in self.sinks:
            sink(record)
        if self.log.failing != self.failing:
            self.failing = self.log.failing
            if self.board is not None:
                self.board.failing = self.failing
            text = "The log is written again."
            if self.failing:
                text = (
                    f"The log cannot be written, and the watching goes on: {self.failing}."
                )
            self._write("note", text=text)
        return record

    def _begin(self, began):
        self._end("restarted")
        frame = began.frame
        self.scan = _Scan(self.log.last_scan + 1, began)
        for stream in self.streams.values():
            stream.begin(frame)
        if self.chain is not None:
            self.chain.begin(_circumstances(began))
        self.emit(
            "scan",
            id=self.scan.number,
            name=began.name,
            channel=frame.channel,
            unit=frame.unit,
            frame={"size": frame.size, "center": frame.center, "angle": frame.angle},
            pixels=frame.pixels,
            lines=frame.lines,
            slow=frame.slow,
            bias=frame.bias,
            setpoint=frame.setpoint,
            line_time=frame.line_time,
            finished=began.finished,
            quiet=began.quiet,
        )

    def _line(self, line):
        came = time.time()
        if self.scan is None:
            self._begin(events.ScanBegan(Frame(pixels=len(line.heights))))
        stream = self.streams[line.direction]
        try:
            told = stream.push(line.heights)
        except MismatchError:  # the source did not tell of other pixels
            began = self.scan.began
            self._end("other pixels")
            frame = replace(began.frame, pixels=len(line.heights))
            self._begin(replace(began, frame=frame))
            told = stream.push(line.heights)
        except InputError:  # heights that no microscope has: the line is lost
            told = stream.push(np.full(len(line.heights), np.nan))
        scan = self.scan
        scan.add(line, told)
        record = self._write(
            "line",
            scan=scan.number,
            line=line.number,
            row=line.row,
            direction=line.direction,
            **told.record(self.classes),
            **self._with_scans_before(line, told),
            late_ms=round((time.time() - line.t_end) * 1e3, 1),
            lost=told.lost,
        )
        self.source.answer(record)
        if self.board is not None:
            self.board.draw(line, record, came)
        if told.changed:
            self._write(
                "change",
                scan=scan.number,
                line=told.scan.change_line,
                probability=told.change_probability,
                direction=line.direction,
            )
        self._alarm(record)
        if scan.disagree == DISAGREE and not scan.noted:
            scan.noted = True
            names = " and ".join(f"{way} {name}" for way, name in scan.named.items())
            self.emit("note", text=f"Scan {scan.number}: {names}, for {DISAGREE} lines.")

    def _with_scans_before(self, line, told):
        """Return the key "context" of the record of a forward line, if there is a chain."""
        if self.chain is None or line.direction != FORWARD:
            return {}
        if self.scan.began.frame.absolute and not told.lost:
            self.chain.see(line.heights)
        scan = told.scan.early or told.scan
        changed = scan.change_line is not None
        unknown = bool(scan.unknown or scan.unknown_size)
        verdict = self.chain.judge(scan.probabilities, scan.seen, changed, unknown)
        return {"context": verdict.record()}

    def _end_of_chain(self, scan):
        told, ended = scan.last and scan.last.scan, None
        if not scan.began.finished:
            ended = time.time()
        elif scan.began.started is not None:
            line_time = scan.began.frame.line_time or 0
            ended = scan.began.started + 2 * line_time * scan.lines
        shares = told and not (told.unknown or told.unknown_size) and told.probabilities
        changed = bool(told and told.change_line is not None)
        self.chain.end(shares or None, changed, ended)

    def _end(self, reason, path=None):
        if self.scan is None:
            return
        scan, self.scan = self.scan, None
        self.before = scan
        if self.chain is not None:
            self._end_of_chain(scan)
        told = scan.last
        self.emit(
            "end",
            scan=scan.number,
            reason=reason,
            lines=scan.lines,
            verdict=scan.verdict,
            tip=told and told.tip.verdict,
            change_line=told and told.scan.change_line,
            path=path,
            picture=scan.picture(),
        )

    def _file(self, file):
        verdict = self.before.verdict if file.scans and self.before else None
        self.emit(
            "file",
            path=str(file.path),
            size=file.size,
            mtime=file.mtime,
            scans=file.scans,
            verdict=verdict,
            error=file.error,
        )


def _circumstances(began):
    """Return the `Circumstances` of a scan that begins now, or that was over before."""
    frame, time_ = began.frame, began.started if began.finished else time.time()
    return Circumstances(time_, frame.bias, frame.setpoint, frame.channel)


class _Scan:
    """The scan that is being recorded: its last verdicts, and enough of it for a picture."""

    def __init__(self, number, began):
        self.number, self.began = number, began
        self.lines = 0
        self.last: TipVerdict | None = None  # of the forward lines, where there are any
        self.named: dict[str, str | None] = {}  # class by direction
        self.disagree, self.noted = 0, False
        self._step = max(1, (began.frame.lines or THUMB) // THUMB)  # of rows that are kept
        self._rows: dict[int, np.ndarray] = {}

    @property
    def verdict(self):
        """The last verdict on the whole scan."""
        return NOT_JUDGED if self.last is None else self.last.scan.verdict

    def add(self, line, told):
        """Note a line and its verdicts."""
        main = line.direction == FORWARD or FORWARD not in self.named
        if told.tip.name is not None:
            self.named[line.direction] = told.tip.name
        both = len(self.named) == 2 and len(set(self.named.values())) == 2
        if line.direction == FORWARD:
            self.disagree = self.disagree + 1 if both else 0
        if not main:
            return
        self.lines = line.number + 1
        if not told.lost and told.scan.verdict is not None:
            self.last = told
        if line.row % self._step == 0 and len(self._rows) < MORE_LINES:
            step = max(1, len(line.heights) // THUMB)
            heights = np.full(len(line.heights), np.nan) if told.lost else line.heights
            self._rows[line.row] = np.asarray(heights, np.float32)[::step]

    def picture(self):
        """Return a small picture as the address of a PNG; None without two lines."""
        if len(self._rows) < 2:
            return None
        frame = self.began.frame
        last = max(frame.lines or 0, max(self._rows) + 1)
        pixels = min(map(len, self._rows.values()))
        rows = range(0, last, max(self._step, last // MORE_LINES))
        lost = np.full(pixels, np.nan)
        heights = np.array([self._rows.get(row, lost)[:pixels] for row in rows])
        aspect = 1.0 if frame.size is None else frame.size[1] / frame.size[0]
        return thumbnail(heights, aspect * pixels / len(rows))
