"""A record as one line of plain text, as a terminal or a pipe shows it.

12:03:41  scan 3 line 57 (row 70): rows 0.93; tip of now since line 41: generic defects 0.81
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePath

from stm_keras.inference.verdict import verdict_words
from stm_keras.live.events import BACKWARD
from stm_keras.live.records import scan_of, when
from stm_keras.terminal import one_line

NANO, PICO = 1e9, 1e12


def day_lines(records: Iterable[dict]) -> Iterator[str]:
    """Yield the lines of all records, with the date where a day begins."""
    day = None
    for record in records:
        text = describe(record)
        if text is None:
            continue
        if when(record).date() != day:
            day = when(record).date()
            yield f"{day}"
        yield text


def describe(record: dict) -> str | None:
    """Return the line of a record: time and what happened; None of an event nobody knows."""
    words = WORDS.get(record["event"])
    return None if words is None else one_line(f"{when(record):%H:%M:%S}  {words(record)}")


def alarm_words(record: dict) -> str:
    """Say what an alarm or an all-clear is about, behind its rule: `: rows 0.93 (scan 3)`."""
    name, p, scan, line = (record.get(key) for key in ("class", "p", "scan", "line"))
    likeliest = "" if name is None else f": {name}" + (f" {p:.2f}" if p is not None else "")
    places = [f"scan {scan}"] if scan else []
    places += [f"line {line}"] if line is not None else []
    return likeliest + (f" ({', '.join(places)})" if places else "")


def frame_words(record: dict) -> str:
    """Say how a scan is recorded, as far as its record tells."""
    frame = record.get("frame")
    size = record.get("size") or (frame.get("size") if isinstance(frame, dict) else frame)
    bias, setpoint, seconds = (record.get(key) for key in ("bias", "setpoint", "line_time"))
    pixels, lines = record.get("pixels"), record.get("lines")
    words = [record.get("channel")]
    words += [f"{lines or '?'} lines x {pixels or '?'} px" if lines or pixels else None]
    if isinstance(size, list) and len(size) == 2 and all(map(_is_number, size)):
        words += [" x ".join(f"{NANO * length:.4g}" for length in size) + " nm"]
    words += [record.get("slow"), None if seconds is None else f"{seconds:.3g} s a line"]
    words += [None if bias is None else f"{bias:.3g} V"]
    words += [None if setpoint is None else f"{PICO * setpoint:.3g} pA"]
    return ", ".join(filter(None, words))


def _run(record):
    model, source = record.get("model"), record.get("source")
    model = model.get("name") if isinstance(model, dict) else model
    return f"watching {source or ''}" + (f" with {model}" if model else "")


def _line(record):
    where = f"scan {record.get('scan')} line {record.get('line')}"
    if record.get("row") is not None:
        where += f" (row {record['row']})"
    if record.get("direction") == BACKWARD:
        where += " backward"
    words = "line lost" if record.get("lost") else verdict_words(record)
    since = record.get("since_change")
    if since and not record.get("lost"):
        words += f"; tip of now since line {since.get('line')}: {verdict_words(since)}"
    context = record.get("context") or {}
    if context.get("verdict") is not None and not record.get("lost"):
        words += f"; with the scans before: {verdict_words(context)}"
    return f"{where}: {words}"


def _change(record):
    p = record.get("probability")
    sure = "" if p is None else f" ({p:.2f})"
    return f"scan {record.get('scan')}: TIP CHANGE at line {record.get('line')}{sure}"


def _end(record):
    words = [f"scan {record.get('scan')} ended ({record.get('reason') or 'no reason'})"]
    if record.get("lines") is not None:
        words += [f"after {record['lines']} lines"]
    verdict = record.get("verdict")
    words = " ".join(words) + (f": {verdict}" if verdict else "")
    return f"{words}, saved as {record['path']}" if record.get("path") else words


def _file(record):
    name = PurePath(record.get("path") or "?").name
    return f"file {name}: {record.get('error') or record.get('verdict') or 'read'}"


def _hook(record):
    words = [f"hook {record.get('target')}: {record.get('status')}"]
    if record.get("ms") is not None:
        words += [f"({record['ms']:.0f} ms)"]
    if record.get("dropped"):
        words += [f"and {record['dropped']} alarms it never got"]
    if isinstance(record.get("stderr"), list):
        words += [f"| {line}" for line in record["stderr"]]
    return " ".join(words)


def _reason(words):
    def say(record):
        reason = record.get("reason") or record.get("text")
        return f"{words}: {reason}" if reason else words

    return say


def _is_number(value):
    return isinstance(value, int | float)


WORDS = {
    "run": _run,
    "connected": _reason("connected"),
    "lost": _reason("CONNECTION LOST"),
    "found": _reason("connected again"),
    "scan": lambda record: f"scan {scan_of(record)} begins: {frame_words(record)}",
    "line": _line,
    "change": _change,
    "alarm": lambda record: f"ALARM, {record.get('rule')}{alarm_words(record)}",
    "clear": lambda record: f"all clear, {record.get('rule')}{alarm_words(record)}",
    "end": _end,
    "file": _file,
    "hook": _hook,
    "label": lambda record: (
        f"label of {record.get('who') or 'somebody'}: scan {record.get('scan')} is "
        f"{record.get('class')}"
    ),
    "note": lambda record: f"note: {record.get('text') or ''}",
    "stop": _reason("stopped"),
}
