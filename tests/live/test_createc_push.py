"""The program beside Createc's STMAFM, against a COM object of the same words."""

import sys
import threading
from types import ModuleType

import numpy as np
import pytest
from helpers import ONCE
from live.pushed import PushedTo, example, surface, until

pytestmark = ONCE  # no backend changes what is tested here

LINES, PIXELS = 8, 6


class ComError(Exception):
    """`pywintypes.com_error`."""


class Stm:
    """`pstmafm.stmafmrem`: only what may be asked, only in its own thread, never changed.

    Args:
        heights: float array `(lines, pixels)`, in nm.
    """

    def __init__(self, heights, **parameters):
        self.thread = threading.get_ident()
        self.heights = heights
        self.shown = {1: 0 * heights, 257: 0 * heights}
        self.status, self.busy = 0, False
        self.asked = []
        self.parameters = {"Num.X": str(heights.shape[1]), "Num.Y": str(heights.shape[0])}
        self.parameters |= {"Length x[A]": "200.5", "Length y[A]": 100, "Rotation": "30,0"}
        self.parameters |= {"Biasvolt.[mV]": "-1500", **parameters}

    def _ask(self, name):
        assert threading.get_ident() == self.thread
        self.asked.append(name)
        if self.busy:
            raise ComError("RPC_E_CALL_REJECTED")

    @property
    def scanstatus(self):
        self._ask("scanstatus")
        return self.status

    def scandata(self, channel, unit):
        self._ask("scandata")
        assert unit == 4
        return tuple(map(tuple, self.shown[channel].tolist()))

    def getparam(self, name):
        self._ask("getparam")
        return self.parameters.get(name)

    def record(self, rows, part=None, channel=1):
        """Record rows, and a part of one more."""
        self.shown[channel] = self.shown[channel].copy()
        self.shown[channel][rows] = self.heights[rows]
        if part is not None:
            self.shown[channel][part, :2] = self.heights[part, :2]


class Clock:
    """`time` of the program, a second for each sleep, in which something happens."""

    def __init__(self, happens):
        self.happens, self.now = happens, 0.0

    def sleep(self, _):
        self.now += 1
        self.happens()

    def monotonic(self):
        return self.now


class Noted:
    """A `Push` that notes."""

    def __init__(self):
        self.scans = []

    def begin(self, **scan):
        self.scans.append([scan, [], False])

    def line(self, heights, row, direction):
        self.scans[-1][1].append((row, direction, np.array(heights)))

    def end(self):
        self.scans[-1][2] = True

    def rows(self, scan=-1, direction="forward"):
        return [row for row, way, _ in self.scans[scan][1] if way == direction]


@pytest.fixture
def program():
    with example("createc_push") as module:
        yield module


@pytest.fixture
def stm():
    return Stm(surface(LINES, PIXELS))


@pytest.fixture
def follow(program):
    def make(stm, *directions):
        push = Noted()
        follower = program.Follower(stm, push, directions or ("forward",))
        follower.look()
        return follower, push

    return make


def test_lines_are_pushed_once_the_next_has_begun(stm, follow):
    follower, push = follow(stm)
    assert push.scans == []
    stm.status = 2
    seen = []
    for rows, part in ([], 0), ([0], 1), ([1], 2), ([2, 3], None), ([4, 5], 6):
        stm.record(rows, part)
        follower.look()
        seen.append(push.rows())
    assert seen == [[], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3, 4, 5]]
    stm.record([6, 7])
    stm.status = 0
    follower.look()
    assert push.rows() == list(range(8))
    for row, _, heights in push.scans[0][1]:
        np.testing.assert_allclose(heights, stm.heights[row] * 1e-9)
    assert push.scans[0][0] == {
        "lines": 8,
        "pixels": 6,
        "channel": "Z",
        "unit": "m",
        "angle": None,
        "size": pytest.approx([2.005e-8, 1e-8]),
        "bias": -1.5,
    }
    assert push.scans[0][2] is True


def test_a_scan_that_goes_up_is_pushed_from_below(stm, follow):
    follower, push = follow(stm)
    stm.status = 2
    for rows, part in ([7], 6), ([6, 5], 4), ([4], 3):
        stm.record(rows, part)
        follower.look()
    assert push.rows() == [7, 6, 5, 4]
    stm.record([3, 2, 1, 0])
    stm.status = 0
    follower.look()
    assert push.rows() == list(range(7, -1, -1))


def test_rows_of_the_scan_before_are_not_pushed_again(stm, follow):
    stm.shown[1] = surface(LINES, PIXELS, seed=1)
    follower, push = follow(stm)
    for scan in range(2):
        stm.heights, stm.status = surface(LINES, PIXELS, seed=5 + scan), 2
        for row in range(4):
            stm.record([row], row + 1)
            follower.look()
        assert push.rows() == [0, 1, 2, 3]
        stm.record([4])
        stm.status = 0
        follower.look()
    assert [push.rows(scan) for scan in range(2)] == [[0, 1, 2, 3]] * 2  # 4 may be cut
    np.testing.assert_allclose(push.scans[1][1][3][2], stm.heights[3] * 1e-9)


@pytest.mark.parametrize("fresh", [0, 1])
def test_a_picture_that_is_emptied_or_loaded_before_a_scan_is_no_scan(fresh, stm, follow):
    stm.shown[1] = surface(LINES, PIXELS, seed=1)
    follower, push = follow(stm)
    stm.shown[1], stm.status = fresh * surface(LINES, PIXELS, seed=2), 2
    for row in range(3):
        stm.record([row], row + 1)
        follower.look()
    # of a picture that was loaded meanwhile nobody knows what was scanned at the first look
    assert push.rows() == [[0, 1, 2], [1, 2]][fresh]


def test_a_program_that_is_started_during_a_scan_pushes_the_rest(stm, follow):
    stm.status = 2
    stm.record([0, 1, 2], 3)
    follower, push = follow(stm)
    for row in (3, 4, 5):
        stm.record([row], row + 1)
        follower.look()
    assert push.rows() == [3, 4, 5]


def test_another_number_of_lines_begins_another_scan(stm, follow):
    follower, push = follow(stm)
    for lines in (8, 5):
        stm.heights = surface(lines, 4, seed=lines)
        stm.shown, stm.status = {1: 0 * stm.heights}, 2
        for row in range(3):
            stm.record([row], row + 1)
            follower.look()
    assert [scan["lines"] for scan, _, _ in push.scans] == [8, 5]
    assert push.rows() == [0, 1, 2]


def test_backward_lines_are_pushed_where_they_are_asked_for(stm, follow):
    follower, push = follow(stm, "forward", "backward")
    stm.status = 2
    for row in range(3):
        for channel in (1, 257):
            stm.record([row], row + 1, channel)
        follower.look()
    assert push.rows() == push.rows(direction="backward") == [0, 1, 2]


@pytest.mark.parametrize("form", ["turned", "flat"])
def test_a_picture_is_read_whichever_way_it_comes(form, stm, follow, monkeypatch):
    whole = Stm.scandata

    def other(self, channel, unit):
        rows = np.array(whole(self, channel, unit))
        return (rows.T if form == "turned" else rows.ravel()).tolist()

    monkeypatch.setattr(Stm, "scandata", other)
    follower, push = follow(stm)
    stm.status = 2
    for row in range(3):
        stm.record([row], row + 1)
        follower.look()
    assert push.rows() == [0, 1, 2]
    np.testing.assert_allclose(push.scans[0][1][2][2], stm.heights[2] * 1e-9)


def test_a_square_picture_is_turned_where_that_is_asked_for(program, follow, monkeypatch):
    monkeypatch.setattr(program, "TURNED", True)
    stm = Stm(surface(5, 5))
    np.testing.assert_allclose(program.picture(stm, 1), stm.shown[1].T * 1e-9)
    stm.record([0, 1])
    np.testing.assert_allclose(program.picture(stm, 1)[:, 1], stm.heights[1] * 1e-9)


@pytest.mark.parametrize("nothing", [None, (), ((),)])
def test_before_the_first_scan_there_is_no_picture(nothing, follow, monkeypatch):
    stm = Stm(surface(LINES, PIXELS), **{"Num.X": None})
    monkeypatch.setattr(Stm, "scandata", lambda *_: nothing)
    follower, push = follow(stm)
    stm.status = 2
    follower.look()
    assert push.scans == []
    monkeypatch.undo()
    for row in range(3):
        stm.record([row], row + 1)
        follower.look()
    assert push.rows() == [0, 1, 2]


@pytest.fixture
def windows(monkeypatch):
    """The modules of pywin32; `dispatch` is what gives the COM object."""
    client, types = ModuleType("win32com.client"), ModuleType("pywintypes")
    types.com_error = ComError
    package = ModuleType("win32com")
    package.client = client
    monkeypatch.setitem(sys.modules, "win32com", package)
    monkeypatch.setitem(sys.modules, "win32com.client", client)
    monkeypatch.setitem(sys.modules, "pywintypes", types)
    return client


def test_the_program_pushes_a_scan_to_a_watch_and_only_reads(
    program, windows, monkeypatch, capsys
):
    names, said, stm = [], [], None

    def dispatch(name):
        nonlocal stm
        names.append(name)
        stm = Stm(surface(LINES, PIXELS))
        return stm

    windows.Dispatch = dispatch
    looks = 0

    def tick():
        """Let time pass: a scan, during which STMAFM is busy now and then."""
        nonlocal looks
        looks += 1
        row = looks - 2
        stm.busy = looks % 3 == 0
        stm.status = 2 if 0 <= row < LINES else 0
        if 0 <= row < LINES:
            stm.record([row], min(row + 1, LINES - 1))
        said.append(capsys.readouterr().out)
        until(lambda: row < 4 or len(watch.rows()) >= 2)
        if looks > LINES + 4:
            until(lambda: len(watch.rows()) == LINES)
            if "forward row 7: rows" in "".join(said) or looks > 10_000:
                raise KeyboardInterrupt

    monkeypatch.setattr(program, "time", Clock(tick))
    monkeypatch.setattr(program, "PATIENCE", 3)
    with PushedTo() as watch:
        program.main(watch.port, ["forward"])
        until(lambda: watch.scans()[0][2])
    assert watch.rows() == list(range(LINES))
    assert watch.scans()[0][2] == "complete"
    assert watch.scans()[0][0].size == pytest.approx((2.005e-8, 1e-8))
    assert names == ["pstmafm.stmafmrem"]
    assert set(stm.asked) == {"scanstatus", "scandata", "getparam"}
    assert "forward row 7: rows" in "".join(said)


def test_the_program_ends_where_stmafm_does_not_answer_and_does_not_start_it_again(
    program, windows, monkeypatch
):
    dispatched = []

    def dispatch(name):
        dispatched.append(Stm(surface(LINES, PIXELS)))
        return dispatched[-1]

    def gone():
        dispatched[-1].busy = True

    windows.Dispatch = dispatch
    monkeypatch.setattr(program, "time", Clock(gone))
    monkeypatch.setattr(program, "PATIENCE", 0.05)
    with pytest.raises(SystemExit, match=r"did not answer for 0\.05 s\. Start this again"):
        program.main(1, ["forward"])
    assert len(dispatched) == 1


def test_a_stmafm_that_is_not_there_is_one_line(program, windows):
    def dispatch(name):
        raise ComError("Invalid class string")

    windows.Dispatch = dispatch
    with pytest.raises(
        SystemExit, match=r"^Error: STMAFM cannot be reached \(Invalid class"
    ):
        program.main(1, ["forward"])
