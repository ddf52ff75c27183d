"""Recorded scans as a source: which lines, in which order, and when."""

import time
from collections import Counter

import h5py
import numpy as np
import pytest
from helpers import ONCE, SHARED, lattice_scans, write_dataset
from scan_files import surface, sxm

from stm_keras.errors import InputError, UsageError
from stm_keras.live.events import (
    BACKWARD,
    FORWARD,
    Connected,
    Line,
    Note,
    ScanBegan,
    ScanEnded,
    Tick,
)
from stm_keras.live.replay import ReplaySource

pytestmark = ONCE  # no backend changes what is tested here


class Clock:
    """A clock that goes on while somebody waits, or as long as each line takes to judge."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def wait(self, seconds):
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def scan(tmp_path):
    """A scan of 12 lines, forward and backward, each of which took 0.2 s."""
    path = tmp_path / "scan.sxm"
    path.write_bytes(sxm({"Z": ("m", surface(), surface(seed=1))}))
    return path


def played(path, clock, judging=0.0, **options):
    """Return (second, event) of all events but ticks; each line takes so long to judge."""
    source = ReplaySource(path, clock=clock, wait=clock.wait, **options)
    events = []
    for event in source.events():
        if not isinstance(event, Tick):
            events.append((round(clock.now - 100, 6), event))
        if isinstance(event, Line):
            clock.now += judging
    return events


def times(events):
    return [when for when, each in events if isinstance(each, Line)]


def test_a_scan_is_played_in_its_own_time_forward_and_backward(scan, clock):
    events = played(scan, clock)
    assert [type(each) for _, each in events[:2]] == [Connected, ScanBegan]
    assert events[1][1].name == "scan.sxm"
    assert not events[1][1].finished
    assert events[1][1].frame.line_time == 0.2
    lines = [each for _, each in events if isinstance(each, Line)]
    assert [each.direction for each in lines] == [FORWARD, BACKWARD] * 12
    np.testing.assert_allclose(times(events), 0.2 * np.arange(1, 25))
    assert abs(lines[-1].t_end - time.time()) < 30
    assert events[-1][1] == ScanEnded("complete", str(scan))


@pytest.mark.parametrize(("speed", "step"), [(20, 0.025), (0, 0)])
def test_speed_is_lines_a_second_whichever_ways_each_has(scan, clock, speed, step):
    events = played(scan, clock, speed=speed)
    np.testing.assert_allclose(times(events), step * np.arange(1, 25))


def test_a_slow_verdict_does_not_delay_the_next_line(scan, clock):
    events = played(scan, clock, judging=0.15)
    np.testing.assert_allclose(times(events), 0.2 * np.arange(1, 25))


def test_after_a_long_sleep_of_the_computer_lines_do_not_come_in_a_burst(scan, clock):
    source = ReplaySource(scan, clock=clock, wait=clock.wait)
    when = []
    for event in source.events():
        if isinstance(event, Line):
            when.append(clock.now)
            clock.now += 3600 * (len(when) == 5)
    assert when[5] - when[4] == pytest.approx(3600)
    np.testing.assert_allclose(np.diff(when[5:]), 0.2)


def test_slow_lines_have_ticks_between_them(tmp_path, clock):
    np.save(tmp_path / "slow.npy", surface(16, 24))
    source = ReplaySource(tmp_path / "slow.npy", speed=0.25, clock=clock, wait=clock.wait)
    kinds = []
    for event in source.events():
        kinds.append(type(event))
        if kinds.count(Line) == 2:
            break
    first = kinds.index(Line)
    assert kinds[first + 1 :] == [Tick, Tick, Tick, Line]
    assert clock.now == 108


def test_where_a_file_does_not_know_its_time_lines_come_ten_a_second(tmp_path, clock):
    np.save(tmp_path / "scans.npy", np.stack([surface(24, 24), surface(24, 24, seed=1)]))
    events = played(tmp_path / "scans.npy", clock)
    np.testing.assert_allclose(times(events), 0.1 * np.arange(1, 49))
    names = [each.name for _, each in events if isinstance(each, ScanBegan)]
    assert names == ["scans.npy", "scans.npy [1]"]
    assert [each.reason for _, each in events if isinstance(each, ScanEnded)] == [
        "complete"
    ] * 2
    events = played(tmp_path / "scans.npy", clock, speed=0, channel="Z")
    assert Counter(each.direction for _, each in events if isinstance(each, Line)) == {
        FORWARD: 48
    }


def test_an_array_that_begins_with_a_lost_line_keeps_its_order(tmp_path, clock):
    heights = surface(24, 24)
    heights[[0, 7]] = np.nan
    heights[9, :5] = np.nan
    heights[20:] = np.nan
    np.save(tmp_path / "scan.npy", heights)
    events = played(tmp_path / "scan.npy", clock, speed=0)
    lines = [each for _, each in events if isinstance(each, Line)]
    assert [each.row for each in lines] == [row for row in range(20) if row not in (0, 7)]
    assert [each.number for each in lines] == list(range(18))
    np.testing.assert_array_equal(
        [each.heights for each in lines], heights[[*range(1, 7), *range(8, 20)]]
    )
    assert events[-1][1].reason == "stopped"


@pytest.mark.parametrize("suffix", [".h5", ".npz"])
def test_a_dataset_is_played_scan_by_scan(tmp_path, clock, suffix):
    path = tmp_path / f"scans{suffix}"
    images = lattice_scans([0, 1, 2], lines=32, pixels=32)
    lines = np.array([32, 20, 32])
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["images"], file["lines"] = images, lines
            file["labels"] = [0, 1, 2]
    else:
        np.savez(path, images=images, lines=lines, labels=[0, 1, 2])
    events = played(path, clock, speed=0)
    ends = [each.reason for _, each in events if isinstance(each, ScanEnded)]
    assert ends == ["complete", "stopped", "complete"]
    heights = [each.heights for _, each in events if isinstance(each, Line)]
    np.testing.assert_array_equal(heights[:52], [*images[0], *images[1, :20]])
    assert len(heights) == 84


def test_a_made_up_dataset_of_the_suite_is_played(tmp_path, clock):
    path = write_dataset(tmp_path / "made.h5", count=3, sessions=3)
    events = played(path, clock, speed=0)
    assert sum(isinstance(each, ScanEnded) for _, each in events) == 3


def test_a_folder_is_played_file_by_file_and_what_is_broken_is_told(scan, tmp_path, clock):
    (tmp_path / "again.sxm").write_bytes(scan.read_bytes())
    (tmp_path / "broken.sxm").write_bytes(scan.read_bytes()[:-9])
    (tmp_path / "notes.md").write_text("none", encoding="utf-8")
    np.save(tmp_path / "curve.npy", np.arange(5.0))
    events = [each for _, each in played(tmp_path, clock, speed=0)]
    assert [each.name for each in events if isinstance(each, ScanBegan)] == [
        *("again.sxm", "scan.sxm")
    ]
    notes = [each.text for each in events if isinstance(each, Note)]
    assert len(notes) == 1
    assert "broken.sxm: is cut short" in notes[0]


def test_what_cannot_be_played_is_one_line_at_once(tmp_path, scan):
    scan.write_bytes(scan.read_bytes()[:-9])
    (tmp_path / "notes.md").write_text("none", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("none.sxm", "does not exist"),
        ("scan.sxm", "is cut short"),
        ("notes.md", "notes.md"),
        ("empty", "holds no scan"),
    ):
        with pytest.raises(InputError, match=words):
            next(ReplaySource(tmp_path / name).events())
    for speed in (-1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="`speed` is a number of lines a second"):
            ReplaySource(scan, speed=speed)


def test_closing_ends_it_in_the_middle_of_a_wait(scan):
    source = ReplaySource(scan, speed=0.01)
    events = source.events()
    assert [type(next(events)) for _ in range(3)] == [Connected, ScanBegan, Tick]
    source.close()
    source.close()
    source.answer({})
    began = time.monotonic()
    assert list(events) == []
    assert time.monotonic() - began < 20  # a line lasts for 50 s


def test_real_scans_are_played_with_both_ways(clock):
    path = SHARED / "spm" / "Si_7x7_051.sxm"
    if not path.is_file():
        pytest.skip("no ../shared/data")
    events = played(path, clock)
    lines = [each for _, each in events if isinstance(each, Line)]
    assert Counter(each.direction for each in lines) == {FORWARD: 256, BACKWARD: 256}
    assert times(events)[-1] == pytest.approx(512 * 0.192)
    forward = [each.heights for each in lines if each.direction == FORWARD]
    backward = [each.heights for each in lines if each.direction == BACKWARD]

    def alike(others):
        pairs = zip(forward, others, strict=True)
        return np.median([np.corrcoef(one, other)[0, 1] for one, other in pairs])

    assert alike(backward) > 0.7 > alike(np.flip(backward, 1))  # neither is mirrored


def test_a_real_dataset_is_played(clock):
    path = SHARED / "processed_sample.npz"
    if not path.is_file():
        pytest.skip("no ../shared/data")
    events = played(path, clock, speed=0)
    assert {each.heights.shape for _, each in events if isinstance(each, Line)} == {(128,)}
    assert sum(isinstance(each, ScanBegan) for _, each in events) > 10
