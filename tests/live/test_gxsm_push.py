"""The program inside GXSM, against a `gxsm` module of the same words."""

import sys
from types import ModuleType

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY
from live.pushed import PushedTo, surface, until

pytestmark = ONCE  # no backend changes what is tested here

LINES, PIXELS = 9, 7
FOLDER = REPOSITORY / "examples"


class Gxsm(ModuleType):
    """`gxsm` of GXSM 4's Python, of which only what may be asked is there.

    Args:
        looks: iterable of int: the line that is recorded at each look, -1 without a scan.
        final: int. What `y_current` says after a scan; None for the line before it ended.
    """

    def __init__(self, looks, final=None, lines=LINES):
        super().__init__("gxsm")
        self.looks, self.final = iter(looks), final
        self.heights = surface(lines, PIXELS)  # in Angstrom
        self.line = self.seen = next(self.looks)
        self.control, self.slept, self.ends = 1.0, [], lambda: None

    def waitscan(self, blocking):
        assert blocking is False
        return self.line

    def y_current(self):
        return self.seen if self.final is None else self.final

    def get_dimensions(self, channel):
        assert channel == 0
        lines, pixels = self.heights.shape
        return pixels, lines, 1, 1

    def get_geometry(self, channel):
        assert channel == 0
        return 200.0, 100.0, 5.0, 6.0, 30.0

    def get_slice(self, channel, v, t, first, count):
        assert (channel, v, t) == (0, 0, 0)
        if first + count > len(self.heights):
            return -1
        return self.heights[first : first + count].copy()

    def get(self, name):
        assert name == "script-control"
        return self.control

    def sleep(self, tenths):
        """Sleep, while the scan goes on."""
        self.slept.append(tenths)
        self.seen = self.line if self.line >= 0 else self.seen
        self.line = next(self.looks, None)
        if self.line is None:
            self.ends()
            self.control, self.line = 0.0, -1


@pytest.fixture
def console(monkeypatch):
    """Return a function that runs the program as GXSM's console does, with a watch."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(gxsm, enough=lambda watch: True):
        text = (FOLDER / "gxsm_push.py").read_text(encoding="utf-8")
        monkeypatch.setitem(sys.modules, "gxsm", gxsm)
        with PushedTo() as watch:
            text = text.replace("PORT = 4000", f"PORT = {watch.port}")
            text = text.replace('FOLDER = ""', f"FOLDER = {str(FOLDER)!r}")
            gxsm.ends = lambda: until(lambda: enough(watch))
            exec(compile(text, "<console>", "exec"), {"__name__": "__main__"})
            until(lambda: watch.source._client.served.is_set())
        return watch

    yield run
    sys.modules.pop("push_lines", None)


def test_a_scan_is_pushed_line_by_line_as_it_lies(console, capsys):
    gxsm = Gxsm([-1, 0, 2, 3, 3, 6, 8, -1, -1])
    watch = console(gxsm)
    assert watch.rows() == list(range(LINES))
    frame, lines, reason = watch.scans()[0]
    assert (frame.lines, frame.pixels, frame.unit, reason) == (
        LINES,
        PIXELS,
        "m",
        "complete",
    )
    assert frame.size == pytest.approx((2e-8, 1e-8))
    for each in lines:
        np.testing.assert_allclose(each.heights, gxsm.heights[each.row] * 1e-10)
    assert set(gxsm.slept) == {5}
    assert "is there" in capsys.readouterr().out


def test_the_line_that_is_recorded_is_not_taken(console):
    watch = console(
        Gxsm([-1, 0, 2, 5]), enough=lambda watch: watch.rows() == [0, 1, 2, 3, 4]
    )
    assert watch.rows() == [0, 1, 2, 3, 4]


def test_a_scan_that_goes_up_is_pushed_from_below(console):
    watch = console(Gxsm([-1, 8, 6, 3, 0, -1]))
    assert watch.rows() == list(range(8, -1, -1))
    assert watch.scans()[0][2] == "complete"


@pytest.mark.parametrize(
    ("looks", "rows"),
    [([-1, 0, 3, 5, -1], [0, 1, 2, 3, 4]), ([-1, 8, 5, 4, -1], [8, 7, 6, 5])],
)
def test_of_a_scan_that_is_stopped_the_last_line_is_left_out(looks, rows, console):
    watch = console(Gxsm(looks))
    assert watch.rows() == rows
    assert watch.scans()[0][2] == "stopped"


def test_the_last_lines_are_taken_where_the_end_was_between_two_looks(console):
    assert console(Gxsm([-1, 0, 4, 6, -1], final=8)).rows() == list(range(9))


@pytest.mark.parametrize(
    ("looks", "final", "rows"),
    [([-1, 0, 3, 5, -1], 0, [0, 1, 2, 3, 4]), ([-1, 8, 7, 6, -1], 0, [8, 7])],
)
def test_a_line_that_is_reset_at_the_end_is_not_believed(looks, final, rows, console):
    assert console(Gxsm(looks, final)).rows() == rows


def test_scans_that_follow_without_a_pause_are_told_apart(console):
    watch = console(Gxsm([-1, 0, 5, 8, 0, 3, 8, 0, 2]))
    assert [watch.rows(scan) for scan in range(3)] == [
        *([*range(8)], [*range(8)], [0, 1]),
    ]
    bouncing = console(Gxsm([-1, 0, 5, 8, 7, 4, 0, 2]))
    assert [bouncing.rows(scan) for scan in range(2)] == [[*range(8)], [*range(8, 0, -1)]]


def test_a_program_that_is_started_during_a_scan_pushes_it_from_its_beginning(console):
    assert console(Gxsm([4, 4, 6, 7])).rows() == [0, 1, 2, 3, 4, 5, 6]


def test_a_channel_that_lost_its_lines_is_left_alone(console, monkeypatch):
    gxsm = Gxsm([-1, 0, 3, 5, 6])
    gxsm.get_dimensions = lambda _: (PIXELS, LINES + 5, 1, 1)
    gxsm.heights = gxsm.heights[:4]
    assert console(gxsm).rows() == [0, 1, 2]


def test_script_control_0_ends_it_before_a_scan_as_well(console):
    assert console(Gxsm([-1, -1])).scans() == []
