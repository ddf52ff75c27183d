"""The page of a day at the microscope: the tip over time, changes, alarms and scans.

stm-keras watch --replay-log live/2026-11-29-simulated.jsonl --report day.html
"""

from datetime import datetime
from pathlib import Path

import numpy as np

from stm_keras.evaluation.style import CHANGE, GREY, NO_CLASS, verdict_colour
from stm_keras.reports import page

TICKS = 6
SHORT = 600  # s between the first scan and the last: times are told in seconds
MOST_STRETCHES = 4000  # of all scans; where there are more, each scan is one
MOST_ROWS = 2000  # of a table
ALARM, OUTAGE = "var(--bad)", "var(--doubt)"
HEADS = (
    ("scan", "number"),
    ("began", "text"),
    ("last verdict", "text"),
    ("confidence", "number"),
    ("tip changes", "number"),
    ("lines", "number"),
    ("alarms", "number"),
    ("ended", "text"),
)


def write_day(path: str | Path, day: object, overwrite: bool = False) -> None:
    """Write a `stm_keras.live.day.Day` as one HTML page.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    count = len(day.scans)
    page.write(
        path,
        "watch_day.html",
        overwrite,
        title=f"{day.source or 'Watch'}, {_date(day)}",
        cards=_cards(day),
        lanes=_lanes(day) if count else (),
        ticks=_ticks(day.scans),
        count=count,
        heads=HEADS,
        scans=[_row(scan, day.classes) for scan in day.scans],
        tables=[
            (name, heads, rows[:MOST_ROWS]) for name, heads, rows in _tables(day) if rows
        ],
        facts=_facts(day),
    )


def _cards(day):
    seconds = [each.seconds for each in day.outages if each.seconds is not None]
    lasted = f"{sum(seconds) / 60:.0f} min" if seconds else ""
    changes = sum(len(scan.changes) for scan in day.scans)
    bad = [each for each in day.alarms if each.record.get("rule") == "bad tip"]
    return [
        (
            "scans",
            f"{len(day.scans):,}",
            f"{sum(scan.lines for scan in day.scans):,} lines",
        ),
        ("tip changes", f"{changes:,}", ""),
        (
            "alarms",
            f"{len(day.alarms):,}",
            f"{len(bad)} of a bad tip" if day.alarms else "",
        ),
        ("connection lost", f"{len(day.outages):,}", lasted),
    ]


def _lanes(day):
    """Lay the scans out side by side: a lane for each verdict on the tip of now, then marks."""
    stretches = [
        (number, scan, each)
        for number, scan in enumerate(day.scans)
        for each in _stretches(scan, sum(len(scan.stretches) for scan in day.scans))
    ]
    present = {each.verdict for _, _, each in stretches}
    known = [*day.classes, *NO_CLASS]
    lanes = []
    for verdict in [
        *(each for each in known if each in present),
        *present - {*known, None},
    ]:
        bars = [
            {
                "x": number + each.first / _whole(scan),
                "width": (each.last + 1 - each.first) / _whole(scan),
                "scan": scan.number,
                "title": f"scan {scan.number}, lines {each.first} to {each.last}: {verdict}",
            }
            for number, scan, each in stretches
            if each.verdict == verdict
        ]
        lanes.append(_lane(verdict, _colour(verdict, day.classes), bars=bars))
    for name, colour, marks in _marks(day):
        if marks:
            lanes.append(_lane(name, colour, marks=marks))
    return lanes


def _lane(name, colour, bars=(), marks=()):
    return {"name": name, "colour": colour, "bars": bars, "marks": marks}


def _stretches(scan, count):
    """Return the stretches of a scan, or one of its last verdict where there are too many."""
    if count <= MOST_STRETCHES or not scan.stretches:
        return scan.stretches
    last = scan.stretches[-1]
    return [type(last)(scan.now, 0, last.last)]


def _marks(day):
    """Yield the lanes of moments: name, colour, marks."""
    changes = [
        {"x": number + line / _whole(scan), "scan": scan.number, "title": f"line {line}"}
        for number, scan in enumerate(day.scans)
        for line in scan.changes
    ]
    yield "tip change", CHANGE, changes
    rules = dict.fromkeys(each.record.get("rule") for each in day.alarms)
    for rule in [each for each in rules if each not in ("tip change", "connection lost")]:
        moments = [each for each in day.alarms if each.record.get("rule") == rule]
        yield f"alarm: {rule}", ALARM, [_mark(each, day.scans) for each in moments]
    yield "no connection", OUTAGE, [_mark(each, day.scans) for each in day.outages]


def _mark(moment, scans):
    begun, lines = moment.place
    scan = scans[begun - 1] if begun else None
    at = begun - 1 + min(lines / _whole(scan), 1) if scan else 0
    return {"x": at, "scan": scan and scan.number, "title": _time(moment.record)}


def _whole(scan):
    """Return the lines of the complete scan: 1 or more."""
    return max(scan.planned or 0, scan.lines, 1)


def _ticks(scans):
    """Name the time at which some scans began, so far apart that names do not overlap."""
    ticks, day = [], None
    if not scans:
        return ticks
    places = np.unique(np.linspace(0, len(scans) - 1, min(TICKS, len(scans))).round())
    short = (scans[-1].began - scans[0].began).total_seconds() < SHORT
    for place in places.astype(int):
        began = scans[place].began
        name = began.strftime("%H:%M:%S" if short else "%H:%M")
        name += f"\n{began:%Y-%m-%d}" if began.date() != day else ""
        day = began.date()
        ticks.append({"at": 100 * place / len(scans), "name": name})
    return ticks


def _row(scan, classes):
    verdict = scan.verdict or "not judged"
    sure = scan.confidence if verdict in classes else None
    words = [scan.reason or "not yet"]
    words += ["over before the watching began"] if scan.quiet else []
    words += [f"{scan.lost} line{'s' * (scan.lost > 1)} lost"] if scan.lost else []
    if scan.now and scan.now != scan.verdict:
        words.append(f"tip of now: {scan.now}")
    planned = f" of {scan.planned}" if scan.planned else ""
    return {
        "number": scan.number,
        "picture": scan.picture,
        "began": f"{scan.began:%H:%M:%S}",
        "sort": f"{scan.began:%Y-%m-%d %H:%M:%S}",
        "file": Path(scan.path).name if scan.path else "",
        "frame": scan.frame,
        "verdict": verdict,
        "colour": _colour(verdict, classes),
        "share": "" if sure is None else sure,
        "confidence": "" if sure is None else f"{100 * sure:.0f} %",
        "changes": scan.changes,
        "count": scan.lines,
        "lines": f"{scan.lines}{planned}",
        "alarms": scan.alarms,
        "words": words,
    }


def _tables(day):
    """Yield the tables below the timeline: name, heads, rows of texts."""
    heads = ("time", "alarm", "tip", "scan", "line", "all clear")
    yield "Alarms", heads, [_alarm(each) for each in day.alarms]
    heads = ("time", "why", "again at", "lasted")
    yield "Connection", heads, [_outage(each) for each in day.outages]
    heads = ("time", "scan", "class", "by")
    rows = [(_time(each), *_texts(each, "scan", "class", "who")) for each in day.labels]
    yield "Labels", heads, rows
    rows = [
        (_time(each), Path(each.get("path") or "?").name, each["error"])
        for each in day.files
        if each.get("error")
    ]
    yield "Files that could not be read", ("time", "file", "why"), rows
    heads = ("time", "hook", "what became of it", "ms")
    rows = [(_time(each), *_texts(each, "target", "status", "ms")) for each in day.hooks]
    yield "Hooks", heads, rows
    yield (
        "Notes",
        ("time", "note"),
        [(_time(each), *_texts(each, "text")) for each in day.notes],
    )


def _alarm(moment):
    record, ended = moment.record, moment.ended
    clear = f"{_time(ended)} {ended.get('class') or ''}" if ended else "–"
    name, p = record.get("class"), record.get("p")
    tip = f"{name or ''} {'' if p is None else f'{100 * p:.0f} %'}"
    return (
        _time(record),
        *_texts(record, "rule"),
        tip,
        *_texts(record, "scan", "line"),
        clear,
    )


def _outage(moment):
    seconds = moment.seconds
    lasted = "–" if seconds is None else f"{seconds:.0f} s"
    again = _time(moment.ended) if moment.ended else "–"
    return (_time(moment.record), *_texts(moment.record, "reason"), again, lasted)


def _facts(day):
    facts = {
        "source": day.source,
        "model": day.model,
        "classes": ", ".join(day.classes),
        "from": day.first and f"{day.first:%Y-%m-%d %H:%M:%S}",
        "to": day.last and f"{day.last:%Y-%m-%d %H:%M:%S}",
        "records": f"{day.records:,}",
        "lines of the log that are not a record": day.skipped,
    }
    return [(name, value) for name, value in facts.items() if value]


def _texts(record, *names):
    return ["–" if record.get(name) is None else str(record[name]) for name in names]


def _time(record):
    return f"{datetime.fromisoformat(record['t']):%H:%M:%S}"


def _date(day):
    return f"{day.first:%Y-%m-%d}" if day.first else "empty log"


def _colour(verdict, classes):
    known = verdict in classes or verdict in NO_CLASS
    return verdict_colour(verdict, classes) if known else GREY
