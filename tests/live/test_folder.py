"""A watched folder: which files are read, when, how often, and as which events."""

import os
import pathlib
import shutil
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import ONCE, SHARED
from PIL import Image
from scan_files import surface, sxm

from stm_keras.errors import InputError
from stm_keras.live import folder as folder_module
from stm_keras.live.events import (
    BACKWARD,
    FORWARD,
    Connected,
    FileSeen,
    Found,
    Line,
    Lost,
    Note,
    ScanBegan,
    ScanEnded,
    Tick,
)
from stm_keras.live.folder import FolderSource

pytestmark = ONCE  # no backend changes what is tested here

NOON = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
HOUR, DAY = 3600, 86400


class Watched:
    """A source whose clock stands still between two looks."""

    def __init__(self, path, **options):
        self.now, self.ahead = NOON, 0.0  # s by which the clock of the computer is wrong
        self.source = FolderSource(
            path, clock=lambda: self.now + self.ahead, timer=lambda: self.now, **options
        )

    def look(self, times=1, seconds=1.0):
        """Look so many times, read what is ready, and return the events."""
        events = []
        for _ in range(times):
            self.now += seconds
            events += self.source.look()
            while path := self.source.newest():
                events += self.source.judge(path)
        return events


@pytest.fixture
def watched(tmp_path):
    """A source that has looked at a folder without scans."""
    source = Watched(tmp_path)
    assert source.look() == []
    return source


def scan(seed=0, **entries):
    """Bytes of a scan of 12 lines x 16 pixels, forward and backward."""
    return sxm({"Z": ("m", surface(seed=seed), surface(seed=seed + 100))}, **entries)


def save(path, data=None, when=NOON):
    """Write a file as if at a time, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(scan() if data is None else data)
    os.utime(path, (when, when))
    return path


def files(events):
    return [each for each in events if isinstance(each, FileSeen)]


def names(events):
    return [each.path.name for each in files(events)]


def kinds(events):
    return Counter(type(each) for each in events)


def test_a_file_is_read_at_the_second_look_at_which_it_stands_still(watched, tmp_path):
    path = save(tmp_path / "new.sxm", scan()[:700])
    assert watched.look() == []
    save(path, scan(), NOON + 1)  # it grew
    assert watched.look(2) == []
    events = watched.look()
    assert files(events) == [FileSeen(path, len(scan()), NOON + 1, scans=1)]
    assert kinds(events) == {ScanBegan: 1, Line: 24, ScanEnded: 1, FileSeen: 1}
    assert events[0].finished
    assert not events[0].quiet
    assert watched.look(50) == []


def test_a_clock_that_jumps_delays_nothing(watched, tmp_path):
    save(tmp_path / "new.sxm")
    assert watched.look(2) == []
    watched.ahead = -DAY
    assert names(watched.look()) == ["new.sxm"]
    save(tmp_path / "cut.sxm", scan()[:700])
    watched.look(3)
    watched.ahead = DAY
    assert watched.look() == []  # as it has not stood still for so long
    watched.ahead = -DAY
    assert names(watched.look(31)) == ["cut.sxm"]


@pytest.mark.parametrize("slow", ["down", "up"])
def test_lines_come_as_they_were_recorded_each_forward_one_before_its_backward_one(
    watched, tmp_path, slow
):
    path = save(tmp_path / "scan.sxm", scan(slow=slow))
    events = watched.look(3)
    lines = [each for each in events if isinstance(each, Line)]
    assert [each.direction for each in lines] == [FORWARD, BACKWARD] * 12
    assert [each.number for each in lines] == sorted(2 * list(range(12)))
    assert {each.t_end for each in lines} == {NOON}
    rows = [each.row for each in lines]
    assert rows == sorted(rows, reverse=slow == "up")
    for line in lines:
        image = surface(seed=0 if line.direction == FORWARD else 100)
        np.testing.assert_array_equal(line.heights, image[line.row].astype("f4"))
    frame = events[0].frame
    assert (frame.lines, frame.pixels, frame.slow, frame.size) == (
        *(12, 16, slow),
        (3.2e-9, 2.4e-9),
    )
    assert (frame.channel, frame.unit, frame.bias, frame.setpoint) == (
        "Z",
        "m",
        -1.5,
        5e-11,
    )
    assert events[-2] == ScanEnded("complete", str(path))


def test_a_scan_that_lacks_its_last_lines_was_stopped_and_gaps_are_nan(watched, tmp_path):
    forward, backward = surface(), surface(seed=1)
    forward[9:], backward[8:], forward[4, :3] = np.nan, np.nan, np.nan
    save(tmp_path / "scan.sxm", sxm({"Z": ("m", forward, backward)}))
    events = watched.look(3)
    lines = [each for each in events if isinstance(each, Line)]
    assert Counter(each.direction for each in lines) == {FORWARD: 9, BACKWARD: 8}
    assert np.isnan(lines[8].heights).tolist() == [True] * 3 + [False] * 13
    assert events[-2].reason == "stopped"


def test_the_same_content_is_nothing_new_and_other_content_is(watched, tmp_path):
    path = save(tmp_path / "scan.sxm")
    assert len(files(watched.look(3))) == 1
    save(path, when=NOON + 5)  # touched, or copied anew
    assert watched.look(9) == []
    save(path, scan(seed=3), NOON + 5)  # which no list tells: the same size and time
    save(path, scan(seed=3), NOON + 6)
    assert len(files(watched.look(9))) == 1
    save(path, scan()[:-9], NOON + 70)
    assert watched.look(4) == []
    save(path, scan(seed=3), NOON + 6)  # back before it was told as broken
    assert watched.look(40) == []


def test_a_file_that_was_moved_is_known_and_a_copy_is_another_file(watched, tmp_path):
    path = save(tmp_path / "scan.sxm")
    watched.look(3)
    moved = tmp_path / "kept" / "2026-11-26.sxm"
    moved.parent.mkdir()
    path.rename(moved)
    assert watched.look(9) == []
    shutil.copy2(moved, tmp_path / "copy.sxm")
    assert names(watched.look(9)) == ["copy.sxm"]


def test_at_the_start_files_of_today_are_quiet_and_older_ones_are_counted(tmp_path):
    save(tmp_path / "today.sxm", scan(1), NOON - 11 * HOUR)
    save(tmp_path / "judged.sxm", scan(2), NOON - HOUR)
    for name, when in (("a.sxm", NOON - 13 * HOUR), ("year/b.sxm", NOON - 300 * DAY)):
        save(tmp_path / name, scan(3), when)
    save(tmp_path / "old.log", b"words", NOON - 2 * DAY)
    judged = (str(tmp_path / "judged.sxm"), len(scan()), NOON - HOUR)
    watched = Watched(tmp_path, seen=[judged])
    events = watched.look(5)
    assert names(events) == ["today.sxm"]
    assert [each.quiet for each in events if isinstance(each, ScanBegan)] == [True]
    text = f"2 older files are left alone; judge them with `stm-keras predict {tmp_path}`."
    assert [each for each in events if isinstance(each, Note)] == [Note(text)]
    save(tmp_path / "a.sxm", scan(4), NOON + 6)  # written anew
    save(tmp_path / "judged.sxm", scan(5), NOON + 6)
    events = watched.look(5)
    assert sorted(names(events)) == ["a.sxm", "judged.sxm"]
    assert not any(each.quiet for each in events if isinstance(each, ScanBegan))


def test_a_file_that_cannot_be_read_is_told_once_and_read_when_it_is_mended(
    watched, tmp_path
):
    path = save(tmp_path / "broken.sxm", scan()[:-9])
    assert watched.look(29) == []
    events = watched.look(90)
    assert names(events) == ["broken.sxm"]
    assert len(events) == 1
    assert events[0].scans == 0
    assert "is cut short" in events[0].error
    save(path, when=NOON + 200)
    assert [each.error for each in files(watched.look(9))] == [None]


def test_a_file_that_is_readable_before_that_is_not_told_as_broken(
    watched, tmp_path, monkeypatch
):
    save(tmp_path / "scan.sxm")

    def refuse(path, channel):
        raise InputError(f"{path}: its index is not there yet.")

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "recorded_scans", refuse)
        assert watched.look(9) == []
    assert [each.error for each in files(watched.look(9))] == [None]


def test_what_nobody_thought_of_in_one_file_ends_nothing(watched, tmp_path, monkeypatch):
    save(tmp_path / "odd.sxm")

    def fail(path, channel):
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(folder_module, "recorded_scans", fail)
    events = watched.look(60)
    assert [type(each) for each in events] == [FileSeen]
    assert "ZeroDivisionError" in events[0].error


def test_a_file_that_may_not_be_opened_yet_is_waited_for(watched, tmp_path, monkeypatch):
    path = save(tmp_path / "written.sxm")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:  # as Windows does while another program writes
        patch.setattr(folder_module, "open", refuse, raising=False)
        assert watched.look(29) == []
        events = watched.look(90)
    assert [each.error for each in events] == [
        f"{path}: cannot be read (Permission denied)."
    ]
    assert names(watched.look(2)) == ["written.sxm"]  # though neither size nor time changed


def test_a_burst_is_read_newest_first_and_none_is_lost(watched, tmp_path):
    for number in range(200):
        data = scan(number)[:-9] if number == 77 else scan(number)
        save(tmp_path / f"day{number % 3}" / f"{number:03}.sxm", data, NOON + number)
    events = watched.look(40)
    order = names(events)
    whole = [f"{number:03}.sxm" for number in reversed(range(200)) if number != 77]
    assert order == [*whole, "077.sxm"]
    assert kinds(events)[ScanEnded] == 199
    assert len([each for each in files(events) if each.error]) == 1


def test_while_a_burst_is_read_a_new_file_is_read_next(tmp_path):
    for number in range(5):
        save(tmp_path / f"{number}.sxm", scan(number), time.time() - 60 + number)
    source = FolderSource(tmp_path, poll=0.01)
    events, order = source.events(), []
    try:
        for event in events:
            if isinstance(event, FileSeen):
                order.append(event.path.name)
            if len(order) == 5:
                break
    finally:
        source.close()
        source.close()
    assert order == [f"{number}.sxm" for number in (4, 3, 2, 1, 0)]
    assert not any(isinstance(each, ScanBegan) for each in events)  # it ends


def test_a_share_that_vanishes_is_lost_once_and_found_once(watched, tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    watched = Watched(share)
    first = save(share / "first.sxm", scan(1))
    half = save(share / "half.sxm", scan(2)[:-9])
    assert names(watched.look(5)) == ["first.sxm"]
    share.rename(tmp_path / "away")
    events = watched.look(100)
    assert [type(each) for each in events] == [Lost]
    assert str(share) in events[0].reason
    away = tmp_path / "away"
    save(away / "second.sxm", scan(3))
    save(away / half.name, scan(2), NOON + 50)
    away.rename(share)
    events = watched.look(9)
    assert isinstance(events[0], Found)
    assert sorted(names(events)) == ["half.sxm", "second.sxm"]
    assert first.name not in names(events)
    assert kinds(events)[Found] == 1
    shutil.rmtree(share)
    assert kinds(watched.look(3)) == {Lost: 1}


def test_time_without_the_share_is_not_time_of_standing_still(tmp_path):
    share = tmp_path / "share"
    save(share / "half.sxm", scan()[:-9])
    watched = Watched(share)
    watched.look(5)
    share.rename(tmp_path / "away")
    watched.look(100)
    (tmp_path / "away").rename(share)
    assert [type(each) for each in watched.look(20)] == [Found]
    assert kinds(watched.look(20)) == {FileSeen: 1}


def test_what_is_no_scan_or_is_not_done_is_left_alone(watched, tmp_path):
    Image.fromarray(surface().astype("u1")).save(tmp_path / "export.png")
    np.savetxt(tmp_path / "export.txt", surface())
    np.save(tmp_path / "curve.npy", np.arange(5.0))
    for name in (".hidden.sxm", ".scan-stm01234567-12-abcdefgh.sxm", "a.sxm.part", "b.tmp"):
        save(tmp_path / name)
    save(tmp_path / ".hidden" / "scan.sxm")
    save(tmp_path / "spectrum.dat", b"Experiment\tbias spectroscopy\n")
    save(tmp_path / "note.pdf", b"%PDF-1.7")
    assert watched.look(60) == []


def test_all_scans_of_a_file_come_and_what_is_wrong_with_some_is_told(watched, tmp_path):
    scans = np.stack([surface(16, 24, seed) for seed in range(3)])
    path = save(tmp_path / "day" / "three.npy", b"")
    np.save(path, scans)
    events = watched.look(5)
    began = [each.name for each in events if isinstance(each, ScanBegan)]
    assert began == ["three.npy", "three.npy [1]", "three.npy [2]"]
    assert files(events)[0].scans == 3
    lines = [each.heights for each in events if isinstance(each, Line)]
    np.testing.assert_array_equal(lines, scans.reshape(48, 24))
    assert {each.frame.lines for each in events if isinstance(each, ScanBegan)} == {24}
    assert {each.reason for each in events if isinstance(each, ScanEnded)} == {"stopped"}
    scans[1] = 1e300
    np.save(path, scans)
    seen = files(watched.look(5))[0]
    assert seen.scans == 2
    assert seen.error.startswith("1 of 3 scans are not judged: ")


def test_linked_folders_are_watched_and_circles_are_not_followed(watched, tmp_path):
    elsewhere = tmp_path.with_name(tmp_path.name + "-elsewhere")
    save(elsewhere / "far.sxm", scan(1))
    save(tmp_path / "day" / "near.sxm", scan(2))
    try:
        (tmp_path / "link").symlink_to(elsewhere)
    except OSError:
        pytest.skip("no links on this system")
    (tmp_path / "day" / "round").symlink_to(tmp_path)
    (elsewhere / "round").symlink_to(elsewhere)
    assert sorted(names(watched.look(5))) == ["far.sxm", "near.sxm"]


def test_a_year_of_files_takes_little_memory(watched, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "recorded_scans", lambda path, channel: iter(()))
    for number in range(1000):
        save(tmp_path / f"{number}.sxm", b"%d" % number * 1000)
    names_of_paths = tracemalloc.Filter(False, pathlib.__file__)  # a table of Python's own
    tracemalloc.start()
    try:
        watched.look(4)
        taken = tracemalloc.take_snapshot().filter_traces([names_of_paths])
    finally:
        tracemalloc.stop()
    assert watched.source.newest() is None
    used = sum(each.size for each in taken.statistics("filename"))
    assert 100 < used / 1000 < 800  # bytes a file: 30 MB after a year of 100 a day


def test_a_channel_that_is_asked_for_is_taken(tmp_path):
    images = {"Z": ("m", surface(), None), "Frequency_Shift": ("Hz", surface(seed=5), None)}
    save(tmp_path / "scan.sxm", sxm(images))
    events = Watched(tmp_path, channel="Frequency Shift").look(3)
    assert events[0].frame.unit == "Hz"
    assert {each.direction for each in events if isinstance(each, Line)} == {FORWARD}


def test_an_idle_folder_ticks_and_a_missing_one_is_one_line(tmp_path):
    source = FolderSource(tmp_path / "none")
    with pytest.raises(InputError, match="none: is not a folder"):
        next(source.events())
    source = FolderSource(tmp_path)
    events = source.events()
    assert isinstance(next(events), Connected)
    began = time.monotonic()
    assert isinstance(next(events), Tick)
    assert time.monotonic() - began < 3  # one second, on a machine that is busy
    source.answer({})
    source.close()


def test_real_files_come_as_they_are_read(tmp_path):
    spm = SHARED / "spm"
    if not spm.is_dir():
        pytest.skip("no ../shared/data")
    chosen = (
        "Si_7x7_051.sxm",
        "stm-nanosurf-nid.nid",
        "A200621.161352.dat",
        "img_0247.sxm",
    )
    for name in chosen:
        shutil.copy(spm / name, tmp_path / name)
    watched = Watched(tmp_path)
    watched.now = time.time()
    events = watched.look(3)
    assert sorted(names(events)) == sorted(chosen)
    assert not [each.error for each in files(events) if each.error]
    ways = Counter(each.direction for each in events if isinstance(each, Line))
    assert min(ways[FORWARD], ways[BACKWARD]) > 500
    assert {each.reason for each in events if isinstance(each, ScanEnded)} == {
        *("complete", "stopped")
    }
    assert all(Path(each.path).exists() for each in events if isinstance(each, ScanEnded))
