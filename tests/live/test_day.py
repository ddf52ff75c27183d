"""A log shown again: as lines of text, and as the page of a day."""

import base64
import io
import json
from datetime import datetime
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import ONCE
from PIL import Image

from stm_keras.errors import OutputError
from stm_keras.live import log as log_module
from stm_keras.live.day import summarise, thumbnail
from stm_keras.live.describe import day_lines, describe
from stm_keras.live.log import EventLog, read_log
from stm_keras.live.records import SCHEMA
from stm_keras.reports import watch_day
from stm_keras.reports.watch_day import write_day

pytestmark = ONCE
CLASSES = ("fine", "poor")


class Log:
    """Makes up records, a second apart."""

    def __init__(self):
        self.records = []

    def __call__(self, event, **fields):
        seq = len(self.records) + 1
        time = datetime(2026, 11, 29, 12, seq // 60, seq % 60).astimezone().isoformat()
        about = {
            "schema": SCHEMA,
            "seq": seq,
            "t": time,
            "mono": 100.0 + seq,
            "event": event,
        }
        self.records.append({**about, **fields})
        return self.records[-1]

    def line(self, number, poor, since=None, **changed):
        name = "poor" if poor > 0.5 else "fine"
        shares = {"fine": 1 - poor, "poor": poor}
        fields = {"scan": 1, "line": number, "row": 9 - number, "direction": "forward"}
        now = {"verdict": name, "class": name, "probabilities": shares}
        fields |= {**now, "confidence": max(shares.values()), "change_line": since}
        fields["since_change"] = since and {"line": since, **now}
        if since:
            fields |= {"verdict": "fine", "class": "fine", "confidence": 0.9}
        return self("line", **{**fields, "lost": False, **changed})


@pytest.fixture
def log():
    """A day with two scans, a tip change, alarms, an outage and the like."""
    log = Log()
    log("run", source="nanonis://pc", model={"name": "h_si100"})
    picture = thumbnail(np.random.default_rng(0).normal(size=(10, 16)))
    log("scan", scan=1, channel="Z (m)", pixels=16, lines=10, size=[2e-8, 1e-8], slow="up")
    for number in range(4):
        log.line(number, 0.1, lost=number == 2)
    log("change", scan=1, line=4, probability=0.9)
    for number in range(4, 7):
        log.line(number, 0.8, since=4)
        log.line(number, 0.8, direction="backward")
    log("alarm", rule="bad tip", **{"class": "poor"}, p=0.8, scan=1, line=6)
    log("lost", reason="no answer")
    log("alarm", rule="connection lost", scan=1)
    log("found", reason="port 6503")
    log("clear", rule="connection lost", scan=1, **{"class": "poor"})
    log(
        "end",
        scan=1,
        reason="stopped",
        lines=7,
        verdict="fine",
        path="/d/a.sxm",
        picture=picture,
    )
    log("scan", scan=2, lines=5)
    log.line(0, 0.1, scan=2)
    log("clear", rule="bad tip", scan=2, line=0, p=0.9, **{"class": "fine"})
    log("end", scan=2, reason="complete", lines=1, verdict="unknown size")
    log("file", path="/d/cut.sxm", size=1, mtime=1.0, error="cut.sxm: <cut>.")
    log("hook", kind="command", target="tell.py", status="exit code 3", ms=4.2, dropped=2)
    log("label", who="anna", scan=2, **{"class": "fine"})
    log("note", text="pulsed \x1b[31m")
    log("stop", reason="Ctrl-C")
    return log


def shown(part):
    return " ".join("".join(part.itertext()).split())


def page_of(day, path):
    write_day(path, day)
    text = path.read_text(encoding="utf-8")
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


@pytest.mark.smoke
def test_a_day_is_summed_up(log):
    day = summarise(log.records)
    assert (day.source, day.model, day.classes) == ("nanonis://pc", "h_si100", CLASSES)
    first, second = day.scans
    assert (first.number, first.planned, first.lines, first.lost) == (1, 10, 7, 1)
    stretches = [(each.verdict, each.first, each.last) for each in first.stretches]
    assert stretches == [("fine", 0, 1), (None, 2, 2), ("fine", 3, 3), ("poor", 4, 6)]
    assert (first.verdict, first.confidence, first.now) == ("fine", 0.9, "poor")
    assert (first.changes, first.reason, first.path) == ([4], "stopped", "/d/a.sxm")
    assert first.alarms == ["bad tip", "connection lost"]
    assert second.verdict == "unknown size"
    bad, outage = day.alarms
    assert (bad.place, bad.ended["class"]) == ((1, 7), "fine")
    assert outage.seconds == 2
    assert (day.outages[0].place, day.outages[0].seconds) == ((1, 7), 2)
    assert [len(each) for each in (day.files, day.hooks, day.labels, day.notes)] == [1] * 4
    assert day.records == len(log.records)


def test_what_lacks_its_beginning_is_shown_as_far_as_it_is_there(log):
    kept = [each for each in log.records if each["event"] not in ("run", "scan", "lost")]
    day = summarise(kept)
    assert [scan.planned for scan in day.scans] == [None, None]
    assert day.outages == []
    again = {**log.records[-1], "event": "lost", "mono": 9000.0}
    ended = {**log.records[-1], "event": "found", "mono": 1.0}  # the computer started anew
    assert summarise([again, ended]).outages[0].seconds is None


def test_the_page_shows_verdicts_changes_alarms_and_scans(log, tmp_path):
    page = page_of(summarise(log.records), tmp_path / "day.html")
    assert page.find(".//h1").text == "nanonis://pc, 2026-11-29"
    cards = [shown(card) for card in page.iter("div") if card.get("class") == "card"]
    assert cards == [
        "scans28 lines",
        "tip changes1",
        "alarms21 of a bad tip",
        "connection lost10 min",
    ]
    lanes = {svg.get("aria-label"): svg for svg in page.iter("svg")}
    assert list(lanes) == ["fine", "poor", "tip change", "alarm: bad tip", "no connection"]
    bars = [(bar.get("x"), bar.get("width")) for bar in lanes["fine"].iter("rect")]
    assert bars == [("0.0000", "0.2000"), ("0.3000", "0.1000"), ("1.0000", "0.2000")]
    assert lanes["tip change"].find(".//path").get("d") == "M0.4000 0V1"
    assert lanes["no connection"].find(".//path").get("d") == "M0.7000 0V1"
    first, second = page.findall(".//table[@id='scans']/tbody/tr")
    for word in ("a.sxm", "7 of 10", "line 4", "90 %", "stopped", "1 line lost", "poor"):
        assert word in shown(first)
    assert "20 x 10 nm" in shown(first)
    assert "unknown size" in shown(second)
    assert "%" not in shown(second)
    assert first.find(".//img").get("src").startswith("data:image/png;base64,")
    assert second.find(".//img") is None
    text = shown(page)
    assert "cut.sxm: <cut>." in text
    assert r"pulsed \x1b[31m" in text
    for heading in ("Alarms", "Connection", "Labels", "Hooks", "Notes"):
        assert heading in [part.text for part in page.iter("h2")]


def test_the_page_asks_for_nothing_and_its_links_lead_somewhere(log, tmp_path):
    evil = "data:text/html,<script>", "https://example.org/a.png", "javascript:alert(1)"
    for number, picture in enumerate(evil, start=3):
        log("end", scan=number, reason='"><script>alert(1)</script>', picture=picture)
    page = page_of(summarise(log.records), tmp_path / "day.html")
    ids = {part.get("id") for part in page.iter()}
    links = {link.get("href") for link in page.iter("a")} - {None}
    assert {link[1:] for link in links} <= ids
    assert len(list(page.iter("img"))) == 1
    assert len(list(page.iter("script"))) == 1
    text = (tmp_path / "day.html").read_text(encoding="utf-8")
    assert not {"https://", "http://", "url("} & set(
        text.replace("nanonis://", "").split('"')
    )
    assert "example.org" not in text


def test_an_empty_log_and_a_log_of_many_scans_have_a_page(log, tmp_path, monkeypatch):
    assert "empty log" in shown(page_of(summarise([]), tmp_path / "empty.html"))
    monkeypatch.setattr(watch_day, "MOST_STRETCHES", 3)
    page = page_of(summarise(log.records), tmp_path / "many.html")
    bars = [(bar.get("x"), bar.get("width")) for bar in page.iter("rect")]
    assert bars == [("1.0000", "0.2000"), ("0.0000", "0.7000")]
    with pytest.raises(OutputError, match="exists already"):
        write_day(tmp_path / "many.html", summarise([]))


def test_a_log_of_a_stranger_is_shown_too(tmp_path):
    log = Log()
    for number in range(60):
        log.line(0, 0.1, scan=number, verdict=f"made up {number}")
    day = summarise(log.records)
    assert len(day.classes) == 40
    assert "made up 59" in shown(page_of(day, tmp_path / "day.html"))


def test_damaged_lines_of_a_log_are_counted_on_the_page(log, tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [*map(json.dumps, log.records), "{", '{"schema": 3}']
    path.write_text("\n".join(lines), encoding="utf-8")
    day = summarise(read_log(path))
    assert day.skipped == 2
    page = page_of(day, tmp_path / "day.html")
    assert "lines of the log that are not a record2" in shown(page)


@pytest.mark.parametrize(
    ("shape", "aspect", "size"),
    [
        ((128, 128), 1.0, (64, 64)),
        ((64, 256), 1.0, (64, 16)),
        ((300, 30), 1.0, (32, 64)),
        ((32, 128), 4.0, (64, 64)),
        ((1, 7), 1.0, (64, 9)),
    ],
)
def test_a_thumbnail_has_the_shape_of_the_frame(shape, aspect, size):
    frame = np.random.default_rng(0).normal(size=shape) * 1e-10
    frame[-1] = np.nan
    url = thumbnail(frame, aspect)
    assert len(url) < 10_000
    picture = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert picture.size == size


def test_a_thumbnail_is_flattened_by_line_and_of_an_empty_frame_there_is_none():
    line, pixel = np.mgrid[:64, :64]
    wave = np.sin(pixel / 3)
    assert thumbnail(wave + 50 * line - 3 * pixel * (line % 2)) == thumbnail(wave)
    assert thumbnail(np.zeros((0, 8))) is None
    assert thumbnail(np.full((4, 8), np.nan)) is not None


LINES = {
    "run": "watching nanonis://pc with h_si100",
    "scan": "scan 1 begins: Z (m), 10 lines x 16 px, 20 x 10 nm, up",
    "change": "scan 1: TIP CHANGE at line 4 (0.90)",
    "alarm": "ALARM, bad tip: poor 0.80 (scan 1, line 6)",
    "lost": "CONNECTION LOST: no answer",
    "found": "connected again: port 6503",
    "clear": "all clear, connection lost: poor (scan 1)",
    "end": "scan 1 ended (stopped) after 7 lines: fine, saved as /d/a.sxm",
    "file": "file cut.sxm: cut.sxm: <cut>.",
    "hook": "hook tell.py: exit code 3 (4 ms) and 2 alarms it never got",
    "label": "label of anna: scan 2 is fine",
    "note": r"note: pulsed \x1b[31m",
    "stop": "stopped: Ctrl-C",
}


def test_each_event_has_a_line_of_text(log):
    for event, text in LINES.items():
        record = next(each for each in log.records if each["event"] == event)
        assert describe(record) == f"{record['t'][11:19]}  {text}"
    assert {*LINES, "line"} == {each["event"] for each in log.records}
    assert describe(log("something new")) is None


def test_a_line_says_both_verdicts_and_where_it_is():
    log = Log()
    where = "12:00:{:02}  scan 1 line 6 (row 3)"
    assert describe(log.line(6, 0.1)) == where.format(1) + ": fine 0.90"
    changed = where.format(2) + ": fine 0.90; tip of now since line 4: poor 0.80"
    assert describe(log.line(6, 0.8, since=4)) == changed
    unsure = where.format(3) + ": unsure (perhaps fine 0.60)"
    assert describe(log.line(6, 0.4, verdict="unsure")) == unsure
    lost = where.format(4) + " backward: line lost"
    assert describe(log.line(6, 0.4, lost=True, direction="backward")) == lost
    unknown = where.format(5) + ": unknown surface"
    assert describe(log.line(6, 0.1, verdict="unknown surface")) == unknown
    none = log.line(6, 0.1, verdict=None, confidence=None, **{"class": None})
    assert describe(none) == where.format(6) + ": no verdict yet"
    before = {"verdict": "poor", "class": "poor", "confidence": 0.7}
    both = where.format(7) + ": fine 0.90; with the scans before: poor 0.70"
    assert describe(log.line(6, 0.1, context=before)) == both
    absent = {"verdict": None, "absent": "no scan before it"}
    assert describe(log.line(6, 0.1, context=absent)) == where.format(8) + ": fine 0.90"


def test_a_day_begins_with_its_date_and_is_on_one_line_each(log):
    text = list(day_lines(log.records))
    assert text[0] == "2026-11-29"
    assert len(text) == 1 + len(log.records)
    assert "\n" not in "".join(text)


def test_a_log_that_was_written_is_shown_again(tmp_path, monkeypatch):
    noon = datetime(2026, 11, 29, 12).astimezone()
    monkeypatch.setattr(log_module, "_now", lambda: noon)
    frame = np.random.default_rng(0).normal(size=(64, 64))
    with EventLog(tmp_path, "simulated") as log:
        log.write("scan", id=1, lines=64)
        log.write("end", scan=1, lines=0, reason="stopped", picture=thumbnail(frame))
    day = summarise(read_log(log.path()))
    assert day.scans[0].picture == thumbnail(frame)
    assert "12:00:00  scan 1 begins: 64 lines x ? px" in day_lines(read_log(log.path()))
