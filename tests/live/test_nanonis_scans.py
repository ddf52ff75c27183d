"""Scans that do not go on undisturbed: one after the other, stopped, begun again, changed."""

import time

import pytest
from helpers import ONCE
from live.controller import Controller
from live.watched import check_lines, hurry, scan, watching

from stm_keras.live.events import Frame
from stm_keras.live.nanonis_bells import Heard
from stm_keras.live.nanonis_channel import Recorded
from stm_keras.live.nanonis_follow import Follower

pytestmark = ONCE


def each_scan(watched, *expected):
    """See what came of each scan: its heights, direction, number of lines and reason."""
    assert len(watched.scans()) == len(expected)
    for (_, lines, _, reason), (heights, up, count, why) in zip(
        watched.scans(), expected, strict=True
    ):
        check_lines(lines, heights, up)
        assert (len(lines), reason) == (count, why)


@pytest.mark.parametrize("last_bell", [True, False])
def test_a_continuous_scan_ends_with_each_frame(monkeypatch, last_bell):
    hurry(monkeypatch)
    scans = [scan(1), scan(2), scan(3)]
    moods = {"rest": "stale", "last_bell": last_bell}
    with Controller(**moods) as controller, watching(controller) as watched:
        for number, heights in enumerate(scans):
            controller.start(heights)
            controller.step(12)
            seen = 6 * number + (6 if last_bell else 5)  # before the frame is overwritten
            watched.until(lambda seen=seen: len(watched.lines()) >= seen)
        controller.stop()
        watched.until_ended(3)
        each_scan(watched, *[(heights, False, 6, "complete") for heights in scans])


@pytest.mark.parametrize("rest", ["nan", "stale"])
@pytest.mark.parametrize("from_above", [False, True])
def test_a_bouncy_scan_turns_with_each_frame(monkeypatch, rest, from_above):
    hurry(monkeypatch)
    scans = [scan(1), scan(2), scan(3), scan(4)]
    moods = {"rest": rest, "from_above": from_above}
    with Controller(**moods) as controller, watching(controller) as watched:
        for number, heights in enumerate(scans):
            controller.start(heights, up=number % 2 == 1)
            controller.step(12)
            watched.until_ended(number + 1)  # before its frame is cleared
        each_scan(
            watched,
            *[(heights, n % 2 == 1, 6, "complete") for n, heights in enumerate(scans)],
        )


def test_a_grab_that_would_miss_the_end_of_a_frame_waits_for_it():
    follower = Follower(Heard(), print, every=0.5, wanted=None)
    begun = time.monotonic()
    follower.told, follower.shape = True, (10, 4)
    follower.grabber.grabbed = [begun - 1, begun - 2]

    def pause(lines, continuous=True):
        """Return when the next grab is after so many lines of 0.1 s each."""
        channels = ((30, "Z (m)"),)
        follower.grabber.recorded = Recorded(channels, 10, 0.1, Frame(), continuous)
        follower._hear((lines, 0, 1, 0.0))
        follower.pace = 0.1
        return follower._next_grab(0) - time.monotonic()

    assert pause(4) == pytest.approx(0, abs=0.03)
    assert pause(7) == pytest.approx(0.4, abs=0.03)
    assert pause(8, continuous=False) == pytest.approx(0, abs=0.03)
    assert pause(9) == pytest.approx(0.2, abs=0.03)
    assert pause(10) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(("number", "way"), [(8, 1), (9, 0), (10, 0)])
def test_forward_lines_are_grabbed_first_at_an_end_whose_bell_may_not_ring(number, way):
    follower = Follower(Heard(), print, every=0.5, wanted=None)
    follower.on, follower.told, follower.shape = True, True, (10, 4)
    channels = ((30, "Z (m)"),)
    follower.grabber.recorded = Recorded(channels, 10, 0.1, Frame(), continuous=True)
    follower.grabber.candidates.extend(channels)
    follower.grabber.grabbed = [2.0, 1.0]
    for each in (number - 1, number):
        follower._hear((each, 0, 1, 0.0))
    assert follower._due() == way


def test_the_end_of_a_scan_is_taken_from_the_frame_of_the_next(monkeypatch):
    hurry(monkeypatch)
    first, second = scan(1, 12), scan(2, 12)
    with (
        Controller(12, rest="stale") as controller,
        watching(controller, every=0.3) as watched,
    ):
        controller.start(first)
        controller.step(18)
        watched.until(lambda: len(watched.lines()) == 9)
        controller.step(6)  # too soon for another grab
        controller.start(second)
        controller.step(3)
        watched.until_ended(1)
        controller.step(21)
        watched.until_ended(2)
        each_scan(watched, (first, False, 12, "complete"), (second, False, 12, "complete"))


@pytest.mark.parametrize("rest", ["nan", "zero", "stale"])
def test_a_scan_that_is_stopped_keeps_its_lines(monkeypatch, rest):
    hurry(monkeypatch)
    with Controller(rest=rest) as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(7)
        controller.part(1)
        controller.stop()
        watched.until_ended(1)
        controller.start(scan(2))
        controller.step(12)
        watched.until_ended(2)
        each_scan(watched, (scan(1), False, 4, "stopped"), (scan(2), False, 6, "complete"))
        assert len(watched.scans()[0][2]) == 3


@pytest.mark.parametrize("rest", ["nan", "zero", "stale"])
@pytest.mark.parametrize("steps", [5, 8])
def test_a_scan_that_begins_again_is_another_one(monkeypatch, rest, steps):
    hurry(monkeypatch)
    with Controller(rest=rest) as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(steps)
        watched.until(lambda: len(watched.lines()) == (steps + 1) // 2)
        controller.start(scan(2))
        controller.step(12)
        watched.until_ended(2)
        each_scan(
            watched,
            (scan(1), False, (steps + 1) // 2, "restarted"),
            (scan(2), False, 6, "complete"),
        )


def test_other_pixels_and_another_direction_are_another_scan(monkeypatch):
    hurry(monkeypatch)
    wide, up = scan(2, 7, 64), scan(3, 7, 64)
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(4)
        watched.until(lambda: len(watched.lines()) == 2)
        controller.start(wide)
        controller.step(6)
        watched.until(lambda: len(watched.lines()) == 5)
        controller.start(up, up=True)
        controller.step(14)
        watched.until_ended(3)
        each_scan(
            watched,
            (scan(1), False, 2, "other pixels"),
            (wide, False, 3, "other direction"),
            (up, True, 7, "complete"),
        )
        assert [frame.lines for frame, *_ in watched.scans()] == [6, 7, 7]
        assert [frame.pixels for frame, *_ in watched.scans()] == [40, 64, 64]
        assert [frame.slow for frame, *_ in watched.scans()] == ["down", "down", "up"]


def test_another_frame_is_another_scan(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(4)
        watched.until(lambda: len(watched.lines()) == 2)
        controller.moods.frame = (5e-9, 0.0, 4e-8, 2e-8, 30.0)
        watched.until_ended(1)
        controller.start(scan(2))
        controller.step(12)
        watched.until_ended(2)
        each_scan(
            watched, (scan(1), False, 2, "other frame"), (scan(2), False, 6, "complete")
        )
        assert watched.scans()[1][0].center == pytest.approx((5e-9, 0.0))


def test_a_pause_is_no_end(monkeypatch):
    hurry(monkeypatch)
    with Controller(line_time=0.05) as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(5)
        controller.part(1)
        controller.wait(lambda: controller.waiting == 1)
        time.sleep(1.6)  # a wait times out, and one more grab each brings nothing
        grabs = controller.grabs
        assert len(watched.lines()) == 3
        controller.step(7)
        watched.until_ended()
        each_scan(watched, (scan(1), False, 6, "complete"))
        assert grabs <= 1 + 5 + 2


def test_a_pause_that_is_told_as_a_stop_ends_in_a_scan_with_all_lines(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(6)
        watched.until(lambda: len(watched.lines("backward")) == 3)
        controller.stop()
        watched.until_ended(1)
        controller.running = True
        controller.step(6)
        watched.until_ended(2)
        each_scan(watched, (scan(1), False, 3, "stopped"), (scan(1), False, 6, "complete"))


def test_a_scan_of_which_no_line_was_complete_is_not_told(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.part(1)
        looks = controller.names().count("Scan.StatusGet")
        controller.wait(lambda: controller.names().count("Scan.StatusGet") > looks + 1)
        controller.stop()
        looks = controller.names().count("Scan.StatusGet")
        controller.wait(lambda: controller.names().count("Scan.StatusGet") > looks + 1)
        controller.start(scan(2))
        controller.step(12)
        watched.until_ended()
        each_scan(watched, (scan(2), False, 6, "complete"))


def test_a_bell_after_the_stop_is_of_no_scan(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:

        def look():
            looks = controller.names().count("Scan.StatusGet")
            controller.wait(lambda: controller.names().count("Scan.StatusGet") > looks + 1)

        controller.start(scan(1))
        controller.step(4)
        watched.until(lambda: len(watched.lines("backward")) == 2)
        controller.stop()
        watched.until_ended(1)
        controller.ring(5, 0)
        look()
        controller.start(scan(2))
        look()
        controller.step(12)
        watched.until_ended(2)
        each_scan(watched, (scan(1), False, 2, "stopped"), (scan(2), False, 6, "complete"))


def test_nothing_is_grabbed_while_no_scan_runs(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(12)
        controller.stop()
        watched.until_ended()
        grabs, looks = controller.grabs, controller.names().count("Scan.StatusGet")
        controller.wait(lambda: controller.names().count("Scan.StatusGet") > looks + 5)
        assert controller.grabs == grabs
