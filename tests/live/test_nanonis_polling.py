"""Releases without line events, where rows are found by what changed between two grabs."""

import pytest
from helpers import ONCE
from live.controller import Controller
from live.watched import check_lines, hurry, scan, watching

pytestmark = ONCE
OLD = {"line_events": False, "numbers": "slots", "channels": (0, 2), "line_time": 0.02}
OLD |= {"version": ("Nanonis", "R10862", 10862)}


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("rest", ["nan", "zero", "stale"])
@pytest.mark.parametrize("errors", ["alone", "zeros"])
def test_lines_come_without_line_events(monkeypatch, rest, up, errors):
    hurry(monkeypatch)
    moods = {"rest": rest, "errors": errors}
    with Controller(12, **OLD, **moods) as controller, watching(controller) as watched:
        for turn in range(2):
            forward, backward = scan(turn, 12), scan(turn + 5, 12)
            controller.start(forward, backward, up)
            controller.run(12, 0.04)
            controller.stop()
            watched.until_ended(turn + 1)
            _, there, back, reason = watched.scans()[turn]
            check_lines(there, forward, up)
            check_lines(back, backward, up)
            assert (len(there), len(back), reason) == (12, 12, "complete")


@pytest.mark.parametrize("bouncy", [False, True])
@pytest.mark.parametrize("rest", ["nan", "stale"])
def test_a_continuous_scan_is_several(monkeypatch, rest, bouncy):
    hurry(monkeypatch)
    with Controller(12, rest=rest, **OLD) as controller, watching(controller) as watched:
        for turn in range(3):
            controller.start(scan(turn, 12), up=bouncy and turn == 1)
            controller.run(12, 0.04)
        controller.stop()
        watched.until_ended(3)
        for turn, (_, lines, _, reason) in enumerate(watched.scans()):
            check_lines(lines, scan(turn, 12), bouncy and turn == 1)
            assert len(lines) >= 10 + 2 * (turn == 2)
            assert reason == "complete"


def test_a_stop_hands_on_no_partial_row(monkeypatch):
    hurry(monkeypatch)
    with Controller(12, **OLD) as controller, watching(controller) as watched:
        controller.start(scan(1, 12))
        controller.run(5, 0.04)
        controller.part(1)
        controller.stop()
        watched.until_ended()
        ((_, lines, _, reason),) = watched.scans()
        check_lines(lines, scan(1, 12))
        assert (len(lines), reason) == (5, "stopped")


def test_a_release_that_tells_nothing_is_polled(monkeypatch):
    hurry(monkeypatch)
    old = OLD | {"status_told": False}
    with Controller(12, **old) as controller, watching(controller) as watched:
        for turn in range(2):
            controller.start(scan(turn, 12))
            controller.run(12, 0.04)
            watched.until(lambda n=turn: len(watched.scans()[n][1]) == 12)
        check_lines(watched.scans()[0][1], scan(0, 12))
        check_lines(watched.scans()[1][1], scan(1, 12))


def test_nothing_is_grabbed_more_often_than_lines_can_end(monkeypatch):
    hurry(monkeypatch)
    with Controller(8, **(OLD | {"line_time": 0.1})) as controller, watching(controller):
        controller.start(scan(1, 8))
        controller.run(6, 0.2)
    for forward in (b"\0\0\0\1", b"\0\0\0\0"):
        grabs = [
            each.at
            for each in controller.log
            if each.name == "Scan.FrameDataGrab" and each.body[4:] == forward
        ]
        gaps = [after - before for before, after in zip(grabs, grabs[1:], strict=False)]
        assert gaps
        assert min(gaps) >= 0.2
