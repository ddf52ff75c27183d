"""The loop of `stm-keras watch`: which records come of what a source tells."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE

from stm_keras import load_onnx, shipped_path
from stm_keras.live.alarms import Alarms
from stm_keras.live.board import Board
from stm_keras.live.events import (
    BACKWARD,
    FORWARD,
    Connected,
    FileSeen,
    Found,
    Frame,
    Line,
    Lost,
    Note,
    ScanBegan,
    ScanEnded,
    Tick,
)
from stm_keras.live.log import EventLog
from stm_keras.live.records import read_log
from stm_keras.live.watch import DISAGREE, Watch
from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.generate import simulate

pytest.importorskip("onnxruntime")
pytestmark = ONCE

LINE_KEYS = [
    *("schema", "seq", "t", "mono", "event", "scan", "line", "row", "direction"),
    *("verdict", "class", "probabilities", "confidence", "change_line", "since_change"),
    *("context", "late_ms", "lost"),
]
LINES = 64
FRAME = Frame(pixels=128, lines=LINES, size=(4e-9, 1.25e-9), slow="up")


@pytest.fixture(scope="module")
def model():
    return load_onnx(shipped_path().with_suffix(".onnx"))


@pytest.fixture(scope="module")
def tips():
    """Lines with a good tip, and lines with a bad one: each `(64, 128)`."""
    made = simulate(64, 5, SimulationConfig(p_tip_change=0))
    good = (made.lines == 128) & (made.change_line < 0)
    first = [np.flatnonzero(good & (made.labels == c))[0] for c in (0, 3)]
    return [made.images[scan][:LINES].astype(float) for scan in first]


class Told:
    """A source that tells what it was given, and keeps the answers."""

    name = "told"

    def __init__(self, *events):
        self.told, self.answers = events, []

    def events(self):
        yield from self.told

    def close(self):
        pass

    def answer(self, record):
        self.answers.append(record)


class Kept:
    def __init__(self):
        self.records = []

    def push(self, record):
        self.records.append(record)


def lines(heights, direction=FORWARD, start=0, slow="up"):
    t = time.time()
    count = len(heights)
    return [
        Line(n, count - 1 - n if slow == "up" else n, direction, line, t)
        for n, line in enumerate(heights, start)
    ]


def records(model, tmp_path, *events, **more):
    kept = Kept()
    source = Told(*events)
    with EventLog(tmp_path, "told") as log:
        watch = Watch(
            source, model, log, Alarms(classes=model.classes), [kept.push], **more
        )
        watch.run()
        watch.stop("done")
        path = log.path()
    assert list(read_log(path)) == json.loads(json.dumps(kept.records))
    return kept.records, source


def of(records, event):
    return [record for record in records if record["event"] == event]


def test_a_line_says_exactly_what_is_promised(model, tips, tmp_path):
    told, source = records(
        model, tmp_path, ScanBegan(FRAME, "one"), *lines(tips[0]), ScanEnded("complete")
    )
    said = of(told, "line")
    assert [list(record) for record in said] == [LINE_KEYS] * LINES
    assert [record["line"] for record in said] == list(range(LINES))
    assert [record["row"] for record in said] == list(range(LINES))[::-1]
    assert said[-1]["class"] == "individual atoms"
    assert sum(said[-1]["probabilities"].values()) == pytest.approx(1)
    assert said[0]["verdict"] is None  # fewer lines than the model needs
    assert all(0 <= record["late_ms"] < 60_000 for record in said)
    assert source.answers == said


def test_a_scan_is_told_of_when_it_begins_and_when_it_ends(model, tips, tmp_path):
    frame = Frame(
        128, LINES, "Z (m)", "m", (4e-9, 1e-9), (1e-9, 2e-9), 15.0, "up", 0.4, -2.0
    )
    told, _ = records(
        model,
        tmp_path,
        ScanBegan(frame, "one"),
        *lines(tips[0]),
        ScanEnded("complete", "a.sxm"),
    )
    (scan,), (end,) = of(told, "scan"), of(told, "end")
    assert scan["id"] == 1
    assert scan["frame"] == {"size": [4e-9, 1e-9], "center": [1e-9, 2e-9], "angle": 15.0}
    kept = {name: scan[name] for name in ("channel", "pixels", "lines", "slow", "bias")}
    assert kept == {
        "channel": "Z (m)", "pixels": 128, "lines": LINES, "slow": "up", "bias": -2.0
    }  # fmt: skip
    assert (end["scan"], end["reason"], end["lines"]) == (1, "complete", LINES)
    assert end["verdict"] == of(told, "line")[-1]["verdict"]
    assert end["path"] == "a.sxm"
    assert end["picture"].startswith("data:image/png;base64,")


def test_a_lost_line_has_no_verdict_and_no_alarm(model, tips, tmp_path):
    bad = np.full((3, 128), np.nan)
    told, _ = records(model, tmp_path, ScanBegan(FRAME), *lines([*tips[0][:20], *bad]))
    for record in of(told, "line")[-3:]:
        assert record["lost"]
        for name in ("verdict", "class", "probabilities", "confidence", "since_change"):
            assert record[name] is None
    assert not of(told, "alarm")


def test_heights_that_no_microscope_has_lose_their_line(model, tips, tmp_path):
    told, _ = records(
        model, tmp_path, ScanBegan(FRAME), *lines([*tips[0][:10], np.full(128, 1e200)])
    )
    assert of(told, "line")[-1]["lost"]


def test_a_change_is_told_before_its_alarm_and_after_its_line(model, tips, tmp_path):
    both = np.concatenate(tips)
    frame = Frame(pixels=128, lines=2 * LINES)
    told, _ = records(
        model, tmp_path, ScanBegan(frame), *lines(both), ScanEnded("complete")
    )
    (change,) = of(told, "change")
    assert abs(change["line"] - LINES) <= 4
    assert 0.5 < change["probability"] <= 1
    at = told.index(change)
    assert (told[at - 1]["event"], told[at - 1]["change_line"]) == ("line", change["line"])
    assert (told[at + 1]["event"], told[at + 1]["rule"]) == ("alarm", "tip change")
    rules = [record["rule"] for record in of(told, "alarm")]
    assert rules == ["tip change", "bad tip"]
    last = of(told, "line")[-1]
    assert last["since_change"]["class"] == "generic defects"
    assert last["since_change"]["line"] == change["line"]


def test_backward_lines_have_a_stream_of_their_own(model, tips, tmp_path):
    forward = lines(tips[0])
    mixed = [
        each
        for pair in zip(forward, lines(tips[1], BACKWARD), strict=True)
        for each in pair
    ]
    told, _ = records(model, tmp_path / "a", ScanBegan(FRAME), *mixed)
    alone, _ = records(model, tmp_path / "b", ScanBegan(FRAME), *forward)
    kept = ("line", "verdict", "probabilities", "change_line")
    assert [
        [record[name] for name in kept]
        for record in of(told, "line")
        if record["direction"] == FORWARD
    ] == [[record[name] for name in kept] for record in of(alone, "line")]
    assert of(told, "line")[-1]["class"] == "generic defects"
    assert not of(told, "alarm")  # alarms are of the forward lines
    (note,) = of(told, "note")  # but that they disagree for long is news
    assert f"for {DISAGREE} lines" in note["text"]


def test_other_pixels_in_the_middle_of_a_scan_end_it_and_begin_another(
    model, tips, tmp_path
):
    told, _ = records(
        model,
        tmp_path,
        ScanBegan(FRAME),
        *lines(tips[0][:12]),
        *lines(tips[0][:12, ::2]),
    )
    assert [record["id"] for record in of(told, "scan")] == [1, 2]
    assert [record["pixels"] for record in of(told, "scan")] == [128, 64]
    assert [record["reason"] for record in of(told, "end")] == [
        "other pixels",
        "the source ended",
    ]


def test_a_scan_that_begins_ends_the_one_before(model, tips, tmp_path):
    told, _ = records(
        model, tmp_path, ScanBegan(FRAME), *lines(tips[0][:5]), ScanBegan(FRAME)
    )
    assert of(told, "end")[0]["reason"] == "restarted"
    assert of(told, "end")[0]["verdict"] == "not judged"


def test_more_lines_than_were_announced_are_counted_and_nothing_ends(model, tips, tmp_path):
    frame = Frame(pixels=128, lines=20)
    told, _ = records(model, tmp_path, ScanBegan(frame), *lines(tips[0]))
    assert len(of(told, "line")) == LINES
    assert of(told, "end")[0]["lines"] == LINES


def test_lines_without_a_scan_begin_one(model, tips, tmp_path):
    told, _ = records(model, tmp_path, *lines(tips[0][:10]))
    assert len(of(told, "scan")) == 1
    assert len(of(told, "line")) == 10


def test_a_row_far_away_costs_no_memory(model, tips, tmp_path):
    import tracemalloc

    far = [Line(n, n << 19, FORWARD, line, 0.0) for n, line in enumerate(tips[0][:3])]
    tracemalloc.start()
    told, _ = records(model, tmp_path, ScanBegan(Frame(pixels=128)), *far)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert of(told, "end")[0]["picture"].startswith("data:image/png")
    assert peak < 50e6


def test_the_connection_and_notes_are_told(model, tmp_path):
    told, _ = records(
        model, tmp_path, Connected("here"), Lost("gone"), Tick(), Found("back"), Note("odd")
    )
    names = [record["event"] for record in told]
    assert names == ["connected", "lost", "alarm", "found", "clear", "note", "stop"]
    assert told[2]["rule"] == "connection lost"


def test_a_file_of_a_folder_has_the_verdict_of_its_scan(model, tips, tmp_path):
    path = tmp_path / "scan.sxm"
    told, _ = records(
        model,
        tmp_path,
        ScanBegan(FRAME, str(path), finished=True),
        *lines(tips[0]),
        ScanEnded("complete", str(path)),
        FileSeen(path, 10, 5.0, 1),
        FileSeen(tmp_path / "broken.sxm", 3, 6.0, 0, "it is damaged"),
    )
    good, broken = of(told, "file")
    assert good["verdict"] == of(told, "end")[0]["verdict"]
    assert good["error"] is None
    assert broken["verdict"] is None
    assert broken["error"] == "it is damaged"


def test_a_scan_that_was_over_before_alarms_nobody(model, tips, tmp_path):
    told, _ = records(
        model, tmp_path / "a", ScanBegan(FRAME, finished=True, quiet=True), *lines(tips[1])
    )
    assert not of(told, "alarm")
    told, _ = records(model, tmp_path / "b", ScanBegan(FRAME), *lines(tips[1]))
    assert of(told, "alarm")[0]["rule"] == "bad tip"


def test_what_hooks_did_is_written_down(model, tmp_path):
    class Done:
        def results(self):
            return [{"kind": "command", "target": "beep", "status": "ok", "ms": 3.0}]

        def close(self):
            return []

    told, _ = records(model, tmp_path, Tick(), hooks=Done())
    (hook,) = of(told, "hook")
    assert hook["status"] == "ok"


def test_a_log_that_cannot_be_written_is_said_and_the_watching_goes_on(
    model, tips, tmp_path, monkeypatch
):
    import os

    write = os.write

    def full(descriptor, data):
        if b'"line":15,' in data:
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    kept, board, failing = Kept(), Board(model.classes, ()), []
    with EventLog(tmp_path, "told") as log:
        watch = Watch(Told(), model, log, Alarms(), [kept.push, board.push], board=board)
        watch.take(ScanBegan(FRAME))
        for line in lines(tips[0]):
            watch.take(line)
            failing.append(board.state()["log_failing"])
        monkeypatch.undo()
        watch.take(Tick())
        watch.stop("done")
    assert len(of(kept.records, "line")) == LINES
    texts = [record["text"] for record in of(kept.records, "note")]
    assert any("cannot be written" in text for text in texts)
    assert any("written again" in text for text in texts)
    seqs = [record["seq"] for record in read_log(log.path())]
    assert seqs == sorted(seqs)
    assert len(seqs) == len(kept.records)
    assert failing[14] is None
    assert "No space left" in failing[16]
    assert board.state()["log_failing"] is None


def test_what_a_person_says_is_written_down_with_the_next_event(model, tips, tmp_path):
    board = Board(model.classes, ())

    class Disagreeing(Told):
        def events(self):
            yield from super().events()
            board.label(1, "rows", "Ada")
            yield Tick()
            board.label(1, "individual atoms", "")

    kept = Kept()
    source = Disagreeing(ScanBegan(FRAME), *lines(tips[0][:9]))
    with EventLog(tmp_path, "told") as log:
        watch = Watch(source, model, log, Alarms(), [kept.push, board.push], board=board)
        watch.run()
        watch.stop("done")
    said = [
        (each["who"], each["scan"], each["class"]) for each in of(kept.records, "label")
    ]
    assert said == [("Ada", 1, "rows"), (None, 1, "individual atoms")]
    _, drawn = board.picture(1)
    assert [each["line"] for each in drawn] == list(range(9))
    assert all(each["heights"] for each in drawn)


def test_heights_that_no_microscope_has_are_drawn_as_a_lost_line(model, tips, tmp_path):
    board = Board(model.classes, ())
    heights = [*tips[0][:4], np.full(128, 1e200), np.full(128, np.inf)]
    with EventLog(tmp_path, "told") as log:
        source = Told(ScanBegan(FRAME), *lines(heights))
        Watch(source, model, log, Alarms(), [board.push], board=board).run()
    drawn = board.picture(1)[1]
    assert [each["heights"] is None for each in drawn] == [False] * 4 + [True] * 2
    json.dumps([board.state(), drawn], allow_nan=False)


def scans_in_a_row(model, tmp_path, scans, **more):
    """Watch the first 20 lines of scans, each a `ScanBegan` and heights, in both directions.

    Returns the contexts of their forward lines: a list for each scan.
    """
    events = []
    for began, heights in scans:
        ways = lines(heights[:20], BACKWARD), lines(heights[:20])
        events += [began, *ways[1], *ways[0], ScanEnded("stopped")]
    told, _ = records(model, tmp_path, *events, **more)
    said = [each for each in of(told, "line") if each["direction"] == FORWARD]
    assert not any("context" in each for each in of(told, "line") if each not in said)
    numbers = range(1, len(scans) + 1)
    return [[each.get("context") for each in said if each["scan"] == k] for k in numbers]


@pytest.fixture(scope="module")
def sure(model):
    """The same model, to which no surface is unknown and no line a change."""
    left_out = ("unknown", "change", "unsure", "size_nm", "min_lines")
    metadata = {key: each for key, each in model.metadata.items() if key not in left_out}
    return replace(model, metadata=metadata)


def test_first_lines_are_judged_with_the_scans_before_as_well(sure, tips, tmp_path):
    began = ScanBegan(FRAME)
    first, second, third = scans_in_a_row(
        sure, tmp_path, [(began, tips[1]), (began, tips[1]), (began, tips[0])]
    )
    assert {each["absent"] for each in first} == {"no scan before it"}
    assert second[0]["absent"] is None
    assert (second[0]["scans"], third[0]["scans"]) == (1, 2)
    assert second[0]["verdict"] == "generic defects"
    assert sum(second[0]["probabilities"].values()) == pytest.approx(1)


def test_the_first_lines_have_a_verdict_with_the_scans_before_alone(sure, tips, tmp_path):
    table = {**sure.metadata["context"], "min_lines": 2}
    metadata = {**sure.metadata, "min_lines": 8, "context": table}
    scans = [ScanBegan(FRAME), *lines(tips[1][:20]), ScanEnded("stopped")] * 2
    told = of(records(replace(sure, metadata=metadata), tmp_path, *scans)[0], "line")
    first, second = ([each for each in told if each["scan"] == k] for k in (1, 2))
    silent = [line for line in second if line["verdict"] is None]
    assert len(silent) == len([line for line in first if line["verdict"] is None]) > 10
    assert {line["context"]["absent"] for line in first} == {"no scan before it"}
    both = [line["context"]["verdict"] for line in silent]
    assert both[0] is None  # one line of the model
    assert None not in both[4:]


def test_the_verdict_on_the_scan_alone_is_the_same_without_context(sure, tips, tmp_path):
    events = [ScanBegan(FRAME), *lines(tips[1][:12]), ScanEnded("stopped")] * 2
    both, alone = (
        of(records(sure, tmp_path / str(context), *events, context=context)[0], "line")
        for context in (True, False)
    )
    assert not any("context" in each for each in alone)
    keys = (
        "verdict",
        "class",
        "probabilities",
        "confidence",
        "change_line",
        "since_change",
    )
    assert [[each[k] for k in keys] for each in both] == [
        [each[k] for k in keys] for each in alone
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bias": 2.0}, "another bias than in the scan before"),
        ({"channel": "Current"}, "the scan before is of another folder or image"),
    ],
)
def test_the_scans_before_are_dropped_where_the_scan_is_another(
    sure, tips, tmp_path, changes, reason
):
    before = replace(FRAME, bias=-1.5)
    scans = [ScanBegan(before), ScanBegan(replace(before, **changes))]
    _, second = scans_in_a_row(sure, tmp_path, [(each, tips[1]) for each in scans])
    assert {each["absent"] for each in second} == {reason}


@pytest.mark.parametrize("absolute", [True, False])
def test_a_jump_of_absolute_height_drops_the_scans_before(sure, tips, tmp_path, absolute):
    began = ScanBegan(replace(FRAME, absolute=absolute))
    heights = 1e-12 * tips[1]
    torn = np.vstack([np.full(128, 5e-7), heights - 5e-8])  # a line without a signal, lost
    scans = [(began, heights), (began, heights + 5e-9), (began, torn)]
    _, second, third = scans_in_a_row(sure, tmp_path, scans)
    assert second[0]["absent"] is None
    jumped = "the height jumped by 55 nm after the scan before" if absolute else None
    assert third[1]["absent"] == third[-1]["absent"] == jumped


def test_of_scans_that_were_over_before_the_times_of_their_files_count(
    sure, tips, tmp_path
):
    times = [100.0, 200.0, 9000.0, None]
    scans = [ScanBegan(FRAME, "", True, True, time_) for time_ in times]
    told = scans_in_a_row(sure, tmp_path, [(each, tips[1]) for each in scans])
    assert [each[-1]["absent"] for each in told] == [
        "no scan before it",
        None,
        "more than an hour after the scan before",
        "nobody says when the scan began",
    ]


def test_a_called_change_ends_what_the_scans_before_say(model, tips, tmp_path):
    known = ("unknown", "size_nm", "min_lines")
    metadata = {key: each for key, each in model.metadata.items() if key not in known}
    changing = replace(model, metadata=metadata)
    both = [*tips[0][:32], *tips[1][:32]]
    began, calm = ScanBegan(FRAME), tips[0][:20]
    events = [began, *lines(calm), ScanEnded("stopped"), began, *lines(both)]
    events += [ScanEnded("complete"), began, *lines(calm), ScanEnded("stopped")]
    told, _ = records(changing, tmp_path, *events)
    said = of(told, "line")
    changed = [
        each for each in said if each["scan"] == 2 and each["change_line"] is not None
    ]
    assert changed
    assert {each["context"]["absent"] for each in changed} == {
        "a tip change was called in this scan"
    }
    last = {each["context"]["absent"] for each in said if each["scan"] == 3}
    assert last == {"a tip change was called in the scan before"}


def test_a_scan_of_an_unknown_size_is_passed_over(sure, tips, tmp_path):
    sized = replace(sure, metadata={**sure.metadata, "size_nm": [3.0, 5.0]})
    wide = replace(FRAME, size=(9e-8, 9e-8))
    scans = [(ScanBegan(wide), tips[1]), (ScanBegan(FRAME), tips[1])]
    first, second = scans_in_a_row(sized, tmp_path, scans)
    assert {each["absent"] for each in (*first, *second)} == {"no scan before it"}
