"""Scans that go on undisturbed: which lines come, when, and where in the frame they lie."""

import time

import numpy as np
import pytest
from helpers import ONCE
from live.controller import Controller
from live.watched import check_lines, hurry, scan, watching

from stm_keras.live.events import Connected, Frame, ScanBegan

pytestmark = ONCE


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("rest", ["nan", "zero", "stale"])
def test_both_directions_of_rectangular_scans_come_row_by_row(monkeypatch, rest, up):
    hurry(monkeypatch)
    with Controller(rest=rest) as controller, watching(controller) as watched:
        forward, backward = scan(1), scan(2)
        controller.start(forward, backward, up)
        for number in range(6):
            controller.part(1)
            controller.step()
            watched.until(lambda n=number: len(watched.lines()) > n)
            controller.part(2)
            controller.step()
            watched.until(lambda n=number: len(watched.lines("backward")) > n)
        watched.until_ended()
        check_lines(watched.lines(), forward, up)
        check_lines(watched.lines("backward"), backward, up)
        assert [reason for *_, reason in watched.scans()] == ["complete"]


def test_a_scan_tells_how_it_is_recorded():
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(), up=True)
        controller.step()
        watched.until(watched.lines)
        (began,) = watched.of(ScanBegan)
        assert isinstance(watched.events[0], Connected)
        assert "R13742" in watched.events[0].text
    frame = began.frame
    assert frame == Frame(
        pixels=40,
        lines=6,
        channel="Z (m)",
        unit="m",
        size=pytest.approx((4e-8, 2e-8)),
        center=pytest.approx((1e-9, -2e-9)),
        angle=30.0,
        slow="up",
        line_time=0.25,
        bias=-1.5,
        setpoint=pytest.approx(5e-11),
        absolute=True,
    )


def test_a_line_ends_when_its_bell_rings():
    with Controller() as controller, watching(controller, every=0.2) as watched:
        controller.start(scan())
        rang = []
        for _ in range(3):
            controller.step()
            rang.append(time.time())
            controller.step()
        watched.until(lambda: len(watched.lines()) == 3)
        ends = [line.t_end for line in watched.lines()]
    assert ends == pytest.approx(rang, abs=0.05)
    assert ends == sorted(ends)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("rest", ["nan", "stale"])
def test_lines_may_be_counted_from_the_upper_edge_in_scans_up_too(monkeypatch, rest, up):
    hurry(monkeypatch)
    moods = {"rest": rest, "from_above": True}
    with Controller(8, **moods) as controller, watching(controller) as watched:
        for turn in range(2):
            heights = scan(turn, 8)
            controller.start(heights, up=up)
            controller.step(16)
            watched.until_ended(turn + 1)
            lines = watched.scans()[turn][1]
            check_lines(lines, heights, up)


@pytest.mark.parametrize("up", [False, True])
def test_a_row_in_progress_is_never_told(monkeypatch, up):
    hurry(monkeypatch)
    forward, backward = scan(1), scan(2)
    with Controller(rest="stale") as controller, watching(controller) as watched:
        controller.start(scan(3), up=up)
        controller.step(12)
        watched.until_ended()
        controller.start(forward, backward, up)
        controller.step(2)
        watched.until(lambda: len(watched.scans()) == 2 and watched.scans()[-1][2])
        controller.part(2)
        controller.ring(-1, 3)  # rings for no line, while a row is partly there
        controller.ring(2, 2)
        controller.ring(2, 1, passed=2)
        grabs = controller.grabs
        controller.step()
        watched.until(lambda: len(watched.scans()[-1][1]) == 2)
        assert controller.grabs <= grabs + 2
        check_lines(watched.scans()[-1][1], forward, up)
        check_lines(watched.scans()[-1][2], backward, up)


def test_data_that_come_after_their_bell_are_waited_for(monkeypatch):
    hurry(monkeypatch)
    forward = scan(1)
    with Controller() as controller, watching(controller) as watched:
        controller.start(forward)
        controller.step(2)
        watched.until(lambda: len(watched.lines("backward")) == 1)
        controller.part(2)
        with controller.changed:
            controller._ring(2, 0)  # the last packet of line 2 is not there yet
        watched.until(lambda: controller.grabs >= 4)
        looks = controller.names().count("Scan.StatusGet")
        controller.wait(lambda: controller.names().count("Scan.StatusGet") > looks + 2)
        assert controller.grabs == 4  # until the next bell
        controller.step(3)
        watched.until(lambda: len(watched.lines()) == 3)
        check_lines(watched.lines(), forward)


@pytest.mark.parametrize("start_up", [[], [(-1, 3)], [(-1, 3), (0, 2)]])
def test_start_ups_of_any_length_are_no_lines(start_up):
    with Controller() as controller, watching(controller) as watched:
        heights = scan()
        controller.start(heights)
        for number, movement in start_up:
            controller.ring(number, movement)
        controller.step(12)
        watched.until_ended()
        check_lines(watched.lines(), heights)


@pytest.mark.parametrize("rest", ["nan", "zero", "stale"])
def test_bells_that_nobody_heard_cost_no_line(rest):
    forward, backward = scan(1, 9), scan(2, 9)
    with Controller(9, rest=rest) as controller, watching(controller) as watched:
        controller.start(forward, backward)
        controller.step(3)
        controller.step(7, heard=False)
        controller.step()
        watched.until(lambda: len(watched.lines("backward")) == 5)
        controller.step(7)
        watched.until_ended()
        check_lines(watched.lines(), forward)
        check_lines(watched.lines("backward"), backward)


@pytest.mark.parametrize("rest", ["nan", "zero", "stale"])
@pytest.mark.parametrize("up", [False, True])
def test_the_last_line_comes_though_no_bell_rings_for_it(monkeypatch, rest, up):
    hurry(monkeypatch)
    forward, backward = scan(1), scan(2)
    moods = {"rest": rest, "last_bell": False}
    with Controller(**moods) as controller, watching(controller, every=0.05) as watched:
        for turn in range(2):
            controller.start(forward + turn, backward + turn, up)
            controller.step(12)
            controller.stop()
            watched.until_ended(turn + 1)
            _, there, back, reason = watched.scans()[turn]
            check_lines(there, np.float32(forward + turn), up)
            check_lines(back, np.float32(backward + turn), up)
            assert reason == "complete"


def test_a_wait_that_times_out_brings_the_last_line(monkeypatch):
    moods = {"last_bell": False, "status_told": False, "line_time": 0.05}
    with Controller(**moods) as controller, watching(controller) as watched:
        forward = scan(1)
        controller.start(forward)
        controller.step(12)
        watched.until_ended()
        check_lines(watched.lines(), forward)


def test_no_more_than_one_grab_for_each_line_and_direction(monkeypatch):
    hurry(monkeypatch)
    with Controller(20) as controller, watching(controller) as watched:
        controller.start(scan(1, 20))
        controller.run(20, 0.03)
        watched.until_ended()
        check_lines(watched.lines(), scan(1, 20))
        grabs = [each for each in controller.log if each.name == "Scan.FrameDataGrab"]
        asked = [(each.rung, each.body) for each in grabs]
        assert len(asked) == len(set(asked))
        assert len(asked) <= 41


def test_fast_scans_hand_over_several_lines_a_grab(monkeypatch):
    hurry(monkeypatch)
    forward, backward = scan(1, 40), scan(2, 40)
    with Controller(40) as controller, watching(controller, every=0.1) as watched:
        controller.start(forward, backward)
        controller.run(40, 0.012, halves=False)
        controller.stop()
        watched.until_ended()
        check_lines(watched.lines(), forward)
        check_lines(watched.lines("backward"), backward)
        assert controller.grabs < 16


def test_names_and_settings_are_asked_once_a_scan(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        for turn in range(3):
            controller.start(scan(turn))
            controller.step(12)
            watched.until_ended(turn + 1)
            controller.stop()
        for name in ("Signals.NamesGet", "Bias.Get", "Scan.BufferGet"):
            assert controller.names().count(name) <= 1 + 3


def test_lost_lines_keep_their_place(monkeypatch):
    hurry(monkeypatch)
    for rest, gone in (("nan", np.nan), ("zero", 0.0)):
        heights = scan(1)
        heights[2], heights[4, 25:] = gone, np.nan
        with Controller(rest=rest) as controller, watching(controller) as watched:
            controller.start(heights)
            controller.step(12)
            watched.until_ended()
            heights[2] = np.nan
            check_lines(watched.lines(), heights)


def test_a_scan_under_way_comes_from_its_first_line(monkeypatch):
    hurry(monkeypatch)
    for rest, up in (("nan", True), ("stale", False), ("stale", True)):
        heights = scan(2, 12)
        with Controller(12, rest=rest) as controller:
            controller.start(scan(1, 12), up=up)
            controller.step(24, heard=False)
            controller.start(heights, up=up)
            controller.step(8, heard=False)
            controller.part(1)
            with watching(controller) as watched:
                controller.step(16)
                watched.until_ended()
                check_lines(watched.lines(), heights, up)
