"""Nanosurf files: bottom line first, numbers with commas."""

import numpy as np
import pytest
from scan_files import nid, surface

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan

FORWARD, BACKWARD = (np.round(surface(seed=s) * 1e13).astype(int) for s in range(2))
STEP = 1e-7 / 2**16


@pytest.fixture
def write(tmp_path):
    def to_file(data):
        (tmp_path / "a.nid").write_bytes(data)
        return tmp_path / "a.nid"

    return to_file


def test_both_directions_lie_as_under_the_tip(write):
    path = write(nid(FORWARD, BACKWARD))
    np.testing.assert_allclose(read_scan(path).heights, FORWARD * STEP, atol=1e-16)
    backward = read_scan(path, "Z backward")
    np.testing.assert_allclose(backward.heights, BACKWARD * STEP, atol=1e-16)
    assert read_scan(path).channel == "Z"


def test_numbers_may_have_a_comma(write):
    scan = read_scan(write(nid(FORWARD, BACKWARD)))
    assert (scan.bias, scan.setpoint) == (1.5, pytest.approx(1.25e-9))
    assert (scan.line_time, scan.angle) == (pytest.approx(0.1), 5)
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))


def test_an_up_scan_begins_at_the_bottom(write):
    scan = read_scan(write(nid(FORWARD, BACKWARD, up=True)))
    np.testing.assert_allclose(scan.lines()[0], FORWARD[-1] * STEP, atol=1e-16)


def test_lines_of_zeros_were_not_recorded(write):
    scan = read_scan(write(nid(FORWARD, BACKWARD, recorded=5)))
    assert scan.recorded.tolist() == [0, 1, 2, 3, 4]


def test_curves_and_damage_are_refused(write):
    whole = nid(FORWARD, BACKWARD)
    for data, phrase in (
        (whole[:-10], "is cut short"),
        (whole[:200], "cut short in its header"),
        (nid(FORWARD[:2], BACKWARD[:2]), "is a Nanosurf file of curves"),
        (whole.replace(b"SaveBits=16", b"SaveBits=17"), "is a damaged Nanosurf file"),
        (whole.replace(b"Points=16", b"Points=99999999"), "impossible header"),
    ):
        with pytest.raises(ScanError, match=phrase):
            read_scan(write(data))
