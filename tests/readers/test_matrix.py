"""MATRIX files: up to four images, with, without and with a renamed index."""

import numpy as np
import pytest
from scan_files import SIZE, matrix_counts, matrix_index, matrix_result, surface

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan

NAME = "session--3_1.Z_mtrx"


def counts(seed, side=16):
    return np.round(surface(side, side, seed) * 1e12).astype(int)


UP, UP_BACK, DOWN, DOWN_BACK = (counts(seed) for seed in range(4))
FOUR = matrix_counts([(UP, UP_BACK), (DOWN, DOWN_BACK)])
PLANNED = 4 * 16 * 16


@pytest.fixture
def write(tmp_path):
    def to_folder(data, index=None, name=NAME, index_name="session_0001.mtrx"):
        (tmp_path / name).write_bytes(data)
        if index is not None:
            (tmp_path / index_name).write_bytes(index)
        return tmp_path / name

    return to_folder


def test_one_file_holds_four_images(write):
    path = write(matrix_result(FOUR, PLANNED), matrix_index(NAME, 16, 16))
    for channel, expected in (
        ("Z", UP),
        ("Z backward up", UP_BACK),
        ("Z forward down", DOWN),
        ("backward down", DOWN_BACK),
    ):
        scan = read_scan(path, channel)
        np.testing.assert_allclose(scan.heights, expected * 1e-12, atol=1e-18)
        assert (scan.unit, scan.size, scan.bias) == ("m", pytest.approx(SIZE), 1.25)
        assert (scan.setpoint, scan.line_time) == (3e-10, pytest.approx(0.16))
        assert scan.warnings == ()
    assert len(scan.images) == 4
    up = read_scan(path)
    assert (up.slow, up.direction) == ("up", "forward")
    np.testing.assert_allclose(up.lines()[0], UP[-1] * 1e-12, atol=1e-18)


def test_an_aborted_scan_keeps_its_frame(write):
    recorded = FOUR[: 5 * 2 * 16]
    path = write(matrix_result(recorded, PLANNED), matrix_index(NAME, 16, 16))
    scan = read_scan(path)
    assert scan.heights.shape == (16, 16)
    assert scan.recorded.tolist() == [15, 14, 13, 12, 11]
    np.testing.assert_allclose(scan.lines(), UP[:10:-1] * 1e-12, atol=1e-18)
    down = write(matrix_result(FOUR[: 20 * 32], PLANNED), matrix_index(NAME, 16, 16))
    scan = read_scan(down, "Z forward down")
    assert scan.recorded.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(scan.lines(), DOWN[:4] * 1e-12, atol=1e-18)


def test_frames_need_not_be_square(write):
    stored = np.concatenate([UP[::-1][:6].ravel()])
    index = matrix_index(NAME, 6, 16, retrace=(False, False))
    scan = read_scan(write(matrix_result(stored, 96), index))
    assert scan.heights.shape == (6, 16)
    assert scan.images == ("Z forward up",)
    np.testing.assert_allclose(scan.lines(), UP[::-1][:6] * 1e-12, atol=1e-18)


@pytest.mark.parametrize("recorded", [PLANNED, 5 * 32, 11 * 32 + 7])
def test_without_an_index_the_geometry_is_guessed_and_said(write, recorded):
    scan = read_scan(write(matrix_result(FOUR[:recorded], PLANNED)))
    assert scan.heights.shape == (16, 16)
    assert (scan.unit, scan.size, scan.bias, scan.setpoint) == ("", None, None, None)
    assert "index (.mtrx) of the session is missing: assumed 16 x 16" in scan.warnings[0]
    lines = UP[::-1].ravel()[: recorded // 32 * 16].reshape(-1, 16)
    np.testing.assert_array_equal(scan.lines()[: len(lines)], lines)
    broken = scan.lines()[len(lines) :]
    assert np.isfinite(broken).sum() == recorded % 32  # the line it was stopped in


def test_a_renamed_index_is_found_by_its_content(write):
    index = matrix_index(NAME, 16, 16)
    path = write(matrix_result(FOUR, PLANNED), index, index_name="copy of monday.mtrx")
    scan = read_scan(path)
    assert (scan.bias, scan.warnings) == (1.25, ())
    np.testing.assert_allclose(scan.heights, UP * 1e-12, atol=1e-18)


def test_an_index_in_parts_is_put_together(write):
    index = matrix_index(NAME, 16, 16)
    half = index.index(b"YSCC")
    path = write(matrix_result(FOUR, PLANNED), index[:half])
    (path.parent / "session_0002.mtrx").write_bytes(b"ONTMATRX0101" + index[half:])
    assert read_scan(path).bias == 1.25


def test_a_renamed_file_does_not_get_the_settings_of_the_end_of_the_session(write):
    index = matrix_index("session--9_9.Z_mtrx", 16, 16)
    scan = read_scan(write(matrix_result(FOUR, PLANNED), index))
    assert (scan.size, scan.bias, scan.setpoint, scan.line_time) == (None,) * 4
    assert "the index never names this file (renamed?)" in scan.warnings[0]
    np.testing.assert_allclose(scan.heights, UP * 1e-12, atol=1e-18)


@pytest.mark.parametrize(
    ("lines", "points", "phrase"),
    [(20, 16, "the index is of another scan"), (300, 300, "the index does not help")],
)
def test_an_index_of_another_geometry_is_not_believed(write, lines, points, phrase):
    index = matrix_index("session--9_9.Z_mtrx", lines, points)
    scan = read_scan(write(matrix_result(FOUR, PLANNED), index))
    assert phrase in scan.warnings[0]
    assert "assumed 16 x 16 points" in scan.warnings[0]
    np.testing.assert_array_equal(scan.heights, UP)


def test_an_index_over_which_the_library_stumbles_is_passed_over(write):
    names = ["Angle".encode("utf-16-le"), "Anglo".encode("utf-16-le")]
    index = matrix_index(NAME, 16, 16).replace(*names)
    scan = read_scan(write(matrix_result(FOUR, PLANNED), index))
    assert "the index is damaged (" in scan.warnings[0]
    np.testing.assert_array_equal(scan.heights, UP)


def test_the_suffix_names_the_channel(write):
    name = NAME.replace(".Z_", ".I_")
    index = matrix_index(name, 16, 16, channel="I")
    scan = read_scan(write(matrix_result(FOUR, PLANNED), index, name=name))
    assert (scan.channel, scan.bias) == ("Current", 1.25)
    path = write(matrix_result(FOUR, PLANNED), name=name)
    path.with_name("session_0001.mtrx").unlink()
    assert read_scan(path).channel == "Current"


def test_without_the_library_the_file_is_still_read(write, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "access2thematrix", None)
    path = write(matrix_result(FOUR, PLANNED), matrix_index(NAME, 16, 16))
    scan = read_scan(path)
    assert 'pip install ".[spm]"' in scan.warnings[0]
    np.testing.assert_array_equal(scan.heights, UP)


def test_what_is_no_scan_is_refused(write):
    whole = matrix_result(FOUR, PLANNED)
    for data, name, phrase in (
        (whole, "session--3_1.I(V)_mtrx", "is a MATRIX file of curves, I\\(V\\)"),
        (
            matrix_index(NAME, 16, 16),
            "session_0001.mtrx",
            "is the index of a MATRIX session",
        ),
        (whole[:-40], NAME, "is cut short"),
        (whole[:30], NAME, "is a MATRIX file cut short"),
        (matrix_result([], PLANNED), NAME, "is an empty scan"),
        (matrix_result(FOUR[:999], 999), "a--1_1.Z_mtrx", "no square image has 999 points"),
    ):
        with pytest.raises(ScanError, match=phrase):
            read_scan(write(data, name=name))
