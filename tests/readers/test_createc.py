"""Createc files: packed floats, zeros for lines that were not recorded."""

import numpy as np
import pytest
from scan_files import SIZE, createc, surface

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan

COUNTS = [np.round(surface(seed=seed) * 1e14).astype("f4") for seed in range(4)]
VOLT = 20 / 2**20
HEIGHT = VOLT * 20 * 10 * 1e-10  # ZPiezoconst and GainZ, in Angstrom


@pytest.fixture
def write(tmp_path):
    def to_file(data):
        (tmp_path / "A.dat").write_bytes(data)
        return tmp_path / "A.dat"

    return to_file


def test_heights_and_current_have_factors_of_their_own(write):
    path = write(createc(COUNTS))
    for number, (channel, factor) in enumerate(
        [("Z", HEIGHT), ("Current", VOLT / 1e9), ("Z backward", HEIGHT)]
    ):
        scan = read_scan(path, channel)
        np.testing.assert_allclose(scan.heights, COUNTS[number] * factor, rtol=1e-6)
    scan = read_scan(path)
    assert scan.size == pytest.approx(SIZE)
    assert (scan.bias, scan.setpoint) == (pytest.approx(0.5), pytest.approx(1e-10))
    assert (scan.line_time, scan.angle, scan.slow) == (0.5, 15, "down")


def test_zeros_are_at_the_top_of_an_up_scan(write):
    scan = read_scan(write(createc(COUNTS, "up", recorded=5)))
    assert scan.slow == "up"
    assert scan.recorded.tolist() == [11, 10, 9, 8, 7]
    np.testing.assert_allclose(scan.lines(), COUNTS[0][:6:-1] * HEIGHT, rtol=1e-6)
    scan = read_scan(write(createc(COUNTS, "down", recorded=5)))
    assert scan.recorded.tolist() == [0, 1, 2, 3, 4]


def test_a_line_with_some_zeros_was_recorded(write):
    counts = [image.copy() for image in COUNTS]
    counts[0][3, 4:9] = 0
    assert read_scan(write(createc(counts))).valid.all()


def test_forward_lines_alone(write):
    scan = read_scan(write(createc(COUNTS[:2], both=False)))
    assert scan.images == ("Z forward down", "Current forward down")


def test_damage_is_refused(write):
    whole = createc(COUNTS)
    for data, phrase in (
        (whole[:-200], "is cut short"),
        (whole[:9000], "without packed data"),
        (
            whole.replace(b"Num.X / Num.X=16", b"Num.X / Num.X=99999999"),
            "impossible header",
        ),
        (whole.replace(b"Num.X=16\r\nN", b"Num.X=60000\r\n"), "cut short|damaged"),
        (whole.replace(b"Channels / Channels=4", b"Channels / Channels=x"), "is a damaged"),
        (createc([image * 0 for image in COUNTS]), "was recorded"),
    ):
        with pytest.raises(ScanError, match=phrase):
            read_scan(write(data))
