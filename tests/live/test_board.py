"""What a page and programs are told of a watching."""

import base64
import json
import threading

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.errors import UsageError
from stm_keras.live.board import KEPT_PICTURES, MOST_LABELS, NONE_OF_THESE, Board
from stm_keras.live.events import BACKWARD, FORWARD, Line
from stm_keras.live.pictures import RECENT, ScanPicture
from stm_keras.live.records import encode, read_log

pytestmark = ONCE
CLASSES = ("atoms", "rows", "bad")
PIXELS = 24


class Told:
    """A board, and the records that a watching would push to it."""

    def __init__(self):
        self.board, self.seq = Board(CLASSES, ["bad"]), 0

    def push(self, event, **fields):
        self.seq += 1
        t = f"2026-11-29T10:{self.seq // 60 % 60:02}:{self.seq % 60:02}.000+00:00"
        record = {"schema": 1, "seq": self.seq, "t": t, "mono": float(self.seq)}
        record |= {"event": event, **fields}
        self.board.push(record)
        return record

    def scan(self, number, lines=16, **more):
        return self.push("scan", id=number, lines=lines, pixels=PIXELS, **more)

    def line(self, scan, number, shares=(0.7, 0.2, 0.1), direction=FORWARD, **more):
        name = CLASSES[int(np.argmax(shares))]
        fields = {"verdict": name, "class": name, "confidence": max(shares)}
        fields["probabilities"] = dict(zip(CLASSES, shares, strict=True))
        fields |= {"change_line": None, "since_change": None, "lost": False, **more}
        record = self.push(
            "line", scan=scan, line=number, row=number, direction=direction, **fields
        )
        heights = np.sin(np.arange(PIXELS) + number) * 1e-10 + number * 1e-9
        self.board.draw(Line(number, number, direction, heights, 0.0), record, 1.5)
        return record


@pytest.fixture
def told():
    return Told()


def test_before_anything_happened_the_state_says_so(told):
    state = told.board.state()
    assert state["scan"] is state["tip"] is state["last_line"] is None
    assert (state["alarms"], state["classes"], state["bad"]) == ([], [*CLASSES], ["bad"])
    assert told.board.scans() == []
    json.dumps(state, allow_nan=False)


def test_the_state_tells_the_scan_and_the_tip_since_when_it_is_so(told):
    told.push("run", source="simulated", model={"name": "h.onnx"})
    told.scan(1, name="one", line_time=0.5)
    told.line(1, 0)
    first = told.line(1, 1, shares=(0.1, 0.2, 0.7))
    told.line(1, 2, shares=(0.1, 0.1, 0.8))
    state = told.board.state()
    assert state["source"] == "simulated"
    assert (state["scan"]["number"], state["scan"]["lines_done"]) == (1, 3)
    assert state["scan"]["running"] is True
    assert (state["tip"]["verdict"], state["tip"]["bad"]) == ("bad", True)
    assert state["tip"]["confidence"] == 0.8
    assert state["since"] == {"t": first["t"], "scan": 1, "line": 1}
    assert state["last_line"]["age_s"] >= 0


def test_the_tip_of_now_is_that_since_the_change(told):
    told.scan(1)
    since = {
        "line": 4,
        "verdict": "bad",
        "class": "bad",
        "probabilities": dict(zip(CLASSES, (0.0, 0.1, 0.9), strict=True)),
    }
    told.line(1, 5, since_change=since, change_line=4)
    state = told.board.state()
    assert (state["tip"]["verdict"], state["scan"]["verdict"]) == ("bad", "atoms")
    assert state["scan"]["probabilities"]["atoms"] == 0.7
    (line,) = told.board.picture(1)[1]
    assert line["tip"] == [0.0, 0.1, 0.9]
    assert (line["now"], line["change_line"]) == ("bad", 4)


@pytest.mark.parametrize("more", [{"lost": True}, {"verdict": None}], ids=["lost", "early"])
def test_a_line_without_a_verdict_leaves_the_tip_as_it_was(told, more):
    told.scan(1)
    told.line(1, 0)
    told.line(1, 1, shares=(0.0, 0.1, 0.9), **more)
    assert told.board.state()["tip"]["verdict"] == "atoms"
    assert told.board.state()["scan"]["lines_done"] == 2


def test_backward_lines_are_drawn_and_say_nothing_of_the_tip(told):
    told.scan(1)
    told.line(1, 0)
    told.line(1, 0, shares=(0.0, 0.1, 0.9), direction=BACKWARD)
    assert told.board.state()["tip"]["verdict"] == "atoms"
    assert [each["direction"] for each in told.board.picture(1)[1]] == [FORWARD, BACKWARD]


def test_alarms_stay_until_all_is_clear_and_a_change_until_the_next_scan(told):
    told.scan(1)
    told.push("alarm", rule="bad tip", **{"class": "bad"}, p=0.9, scan=1, line=3)
    told.push("alarm", rule="tip change", **{"class": "bad"}, p=0.8, scan=1, line=2)
    assert [each["rule"] for each in told.board.state()["alarms"]] == [
        "bad tip",
        "tip change",
    ]
    told.scan(2)
    assert [each["rule"] for each in told.board.state()["alarms"]] == ["bad tip"]
    told.push("clear", rule="bad tip", scan=2, line=1)
    assert told.board.state()["alarms"] == []


def test_a_lost_connection_is_told_with_its_reason_until_it_is_found(told):
    lost = told.push("lost", reason="no answer")
    connection = told.board.state()["connection"]
    assert connection == {
        "state": "connection lost",
        "text": "no answer",
        "since": lost["t"],
    }
    told.push("found", reason="it answers")
    assert told.board.state()["connection"]["state"] == "watching"
    told.push("stop", reason="SIGINT")
    assert told.board.state()["connection"]["state"] == "ended"


def test_scans_of_the_day_are_listed_with_those_of_before(told):
    before = Told()
    earlier = [
        before.push("scan", id=4, lines=16),
        before.push("end", scan=4, reason="stopped"),
    ]
    told.board.remember(earlier)
    told.scan(5)
    told.line(5, 0)
    told.push("label", scan=5, **{"class": "rows"}, who="Ada")
    rows = told.board.scans()
    assert [(row["number"], row["reason"], row["kept"]) for row in rows] == [
        (4, "stopped", False),
        (5, None, True),
    ]
    assert rows[1]["labels"] == ["rows"]
    assert told.board.scan(4) == rows[0]
    assert told.board.scan(9) is None


def test_a_day_is_remembered_from_a_log_of_which_most_lines_are_passed_over(told, tmp_path):
    before, whole = Told(), Board(CLASSES, ["bad"])
    records = []
    before.board.listen(lambda record, line: records.append(record))
    for scan in (1, 2):
        before.scan(scan)
        for number in range(5 * scan):
            before.line(scan, number, (0.5, 0.4, 0.1) if number % 2 else (0.1, 0.2, 0.7))
        if scan == 1:
            before.push("end", scan=1, reason="stopped", lines=5, verdict="bad")
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(map(encode, records)))
    brief = read_log(log, brief=True)
    assert [each.get("line") for each in brief] == [None, 4, None, None, 9]
    told.board.remember(brief)
    whole.remember(read_log(log))
    assert told.board.scans() == whole.scans()
    assert [each["lines"] for each in whole.scans()] == [5, 10]


def test_only_the_last_pictures_are_kept(told):
    for number in range(1, KEPT_PICTURES + 3):
        told.scan(number)
        told.line(number, 0)
    assert told.board.picture(2) is None
    assert len(told.board.picture(3)[1]) == 1
    assert len(told.board.scans()) == KEPT_PICTURES + 2


def test_records_after_a_number_are_those_that_somebody_missed(told):
    run = told.push("run", source="simulated")
    told.push("note", text="one")
    scan = told.scan(1)
    line = told.line(1, 0)
    assert told.board.records() == [run, scan]
    assert told.board.records(after=scan["seq"]) == [line]
    assert told.board.records(after=line["seq"]) == []
    told.push("end", scan=1, reason="complete")
    assert told.board.records() == [run]


def test_a_program_that_knows_another_log_begins_anew(told):
    run = told.push("run", source="simulated")
    scan = told.scan(1)
    told.line(1, 0)
    assert told.board.records(after=999) == [run, scan]


def test_one_scan_is_told_as_in_the_list_without_the_others(told, monkeypatch):
    for number in (1, 2, 3):
        told.scan(number)
    told.push("label", scan=2, **{"class": "rows"})
    asked = []
    row = told.board._row
    monkeypatch.setattr(
        told.board, "_row", lambda scan, *more: asked.append(scan) or row(scan, *more)
    )
    scan = told.board.scan(2)
    assert [each.number for each in asked] == [2]
    assert scan["labels"] == ["rows"]
    assert scan == told.board.scans()[1]
    assert told.board.scan(4) is None


def test_a_label_waits_for_the_thread_that_writes(told):
    told.scan(1)
    told.board.label(1, "rows", " A\x1bda ")
    told.board.label(1, NONE_OF_THESE, "")
    said = told.board.said()
    assert said[0] == {"who": "A\\x1bda", "scan": 1, "class": "rows"}
    assert said[1] == {"who": None, "scan": 1, "class": NONE_OF_THESE}
    assert told.board.said() == []


@pytest.mark.parametrize(
    ("scan", "name", "who", "phrase"),
    [
        (1, "dimers", "", "atoms, rows, bad"),
        (2, "rows", "", "no scan 2"),
        (None, "rows", "", "no scan None"),
        ([], "rows", "", "no scan []"),
        (1, {}, "", "Received: {}"),
        (1, "rows", "x" * 61, "60 letters"),
        (1, "rows", 7, "60 letters"),
    ],
)
def test_a_label_that_makes_no_sense_is_refused(told, scan, name, who, phrase):
    told.scan(1)
    with pytest.raises(UsageError, match=phrase.replace("[", r"\[")):
        told.board.label(scan, name, who)
    assert told.board.said() == []


def test_more_labels_than_can_be_written_soon_are_refused(told):
    told.scan(1)
    for _ in range(MOST_LABELS):
        told.board.label(1, "rows", "")
    with pytest.raises(UsageError, match="Try again soon"):
        told.board.label(1, "rows", "")
    assert len(told.board.said()) == MOST_LABELS
    told.board.label(1, "rows", "")


def test_listeners_hear_each_record_once_and_lines_with_what_is_drawn(told):
    heard = []
    told.board.listen(lambda record, line: heard.append((record["event"], line)))
    told.scan(1)
    told.line(1, 0)
    assert [event for event, _ in heard] == ["scan", "line"]
    assert heard[0][1] is None
    assert heard[1][1]["sent"] == 1500.0


def test_a_picture_holds_each_line_levelled_in_its_own_unit():
    picture = ScanPicture({})
    x = np.linspace(0, 1, 50)
    tilted = 3e-9 + 2e-9 * x + 1e-11 * np.sin(20 * x)
    record = {"line": 0, "row": 7, "direction": FORWARD, "lost": False}
    drawn = picture.add(Line(0, 7, FORWARD, tilted, 0.0), record, 2.0)
    heights = np.frombuffer(base64.b64decode(drawn["heights"]), "<f4")
    assert heights.shape == (50,)
    assert abs(np.polyfit(x, heights, 1)[0]) < 1e-15  # without a slope
    assert 1e-11 < np.ptp(heights) < 3e-11
    low, high = drawn["range"]
    assert heights.min() <= low < high <= heights.max()
    gone = {"line": 1, "row": 6, "direction": FORWARD, "lost": True}
    lost = picture.add(Line(1, 6, FORWARD, np.full(50, np.nan), 0.0), gone, 2.0)
    assert lost["heights"] is None
    assert lost["range"] == drawn["range"]


def test_one_line_that_is_far_off_does_not_take_the_colours():
    picture = ScanPicture({})
    rng = np.random.default_rng(0)
    for number in range(30):
        scale = 1e-6 if number == 11 else 1e-11
        record = {"line": number, "row": number, "direction": FORWARD, "lost": False}
        heights = rng.normal(0, scale, 40)
        drawn = picture.add(Line(number, number, FORWARD, heights, 0.0), record, 0.0)
    assert drawn["range"][1] - drawn["range"][0] < 1e-10


def test_many_threads_read_while_one_writes(told):
    told.scan(1)
    errors = []

    def read():
        try:
            while not done.is_set():
                json.dumps([told.board.state(), told.board.scans(), told.board.picture(1)])
        except Exception as error:
            errors.append(error)

    done = threading.Event()
    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(200):
        told.line(1, number)
    done.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert len(told.board.picture(1)[1]) == 200


def test_the_colours_are_those_of_the_lines_that_came_last():
    picture = ScanPicture({})
    for number in range(2 * RECENT):
        scale = 1e-9 if number < RECENT else 1e-12
        heights = scale * np.random.default_rng(number).normal(size=PIXELS)
        drawn = picture.add(Line(number, number, FORWARD, heights, 0.0), {}, 0.0)
    low, high = drawn["range"]
    assert high - low < 1e-11  # and what an endless scan costs does not grow


def test_the_state_says_the_verdict_with_the_scans_before_or_why_there_is_none(told):
    told.scan(1)
    told.line(1, 0)
    assert told.board.state()["scan"]["context"] is None  # of a model that has none
    context = {"verdict": "rows", "class": "rows", "confidence": 0.6, "scans": 3}
    told.line(1, 1, context={**context, "absent": None})
    words = told.board.state()["scan"]["context"]["words"]
    assert words == "With the 3 scans before: rows 0.60."
    told.line(1, 2, context={**context, "scans": 1, "absent": None})
    words = told.board.state()["scan"]["context"]["words"]
    assert words == "With the scan before: rows 0.60."
    told.line(1, 3, context={"verdict": None, "absent": "no scan before it"})
    words = told.board.state()["scan"]["context"]["words"]
    assert words == "Not judged with the scans before: no scan before it."
    assert (
        told.board.state()["tip"]["class"] == "atoms"
    )  # the tip of now is that of the lines
    told.scan(2)
    assert told.board.state()["scan"]["context"] is None
