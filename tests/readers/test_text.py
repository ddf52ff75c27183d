"""Scans as text: exports of WSxM, Gwyddion and SPIP, bare matrices and points."""

import io

import numpy as np
import pytest
from helpers import SHARED
from scan_files import surface

from stm_keras.errors import ScanError
from stm_keras.readers import gwyddion, read_scan
from stm_keras.readers.formats import scan_format
from stm_keras.readers.scan_file import choose

HEIGHTS = surface(20, 24)
NANO = HEIGHTS * 1e9
FILES = SHARED.parent / "cases" / "scan_files"


def table(array, separator="\t", decimal="."):
    rows = [separator.join(f"{value:.9g}" for value in row) for row in array]
    return "\n".join(rows).replace(".", decimal) + "\n"


def points(array, step=0.5, start=(0.0, 0.0), order="C"):
    """Return points x, y, z of an array: lines along x, or along y where order is "F"."""
    row, column = np.indices(array.shape)
    columns = (start[0] + column * step, start[1] + row * step, array)
    return np.stack([values.ravel(order) for values in columns], axis=1)


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="a.txt"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / name

    return to_file


GWYDDION = "# Channel: Topography (Backward)\n# Width: 12.0 nm\n# Height: 10.0 nm\n"
GWYDDION += "# Value units: m\n"
SPIP = (
    "# File Format = ASCII\n# Created by SPIP\n# x-pixels = 24\n# y-pixels = 20\n"
    "# x-length = 12\n# y-length = 10\n# x-offset = 0\n# y-offset = 0\n# z-unit = nm\n"
    "# Start of Data:\n"
)
WSXM = "WSxM file copyright UAM\nWSxM ASCII Matrix file\nX Amplitude: 12 nm\nY Amplitude: 10 nm\n"


@pytest.mark.parametrize(
    ("text", "name", "unit"),
    [
        (GWYDDION + table(HEIGHTS), "gwyddion text", "m"),
        (SPIP + table(NANO), "spip text", "m"),
        (SPIP.replace("# ", "") + table(NANO), "spip text", "m"),
        (SPIP.replace("z-unit = nm", "Bit2nm = 1") + table(NANO), "spip text", "m"),
        (WSXM + f"Z Amplitude: {np.ptp(NANO)} nm\n\n" + table(NANO), "wsxm text", "m"),
        (WSXM + "Z Amplitude: 40 nm\n\n" + table(NANO), "wsxm text", ""),
        (WSXM + "\n" + table(NANO), "wsxm text", ""),
    ],
)
def test_exports_with_a_header_tell_size_and_unit(text, name, unit, write):
    for written in (text, text.replace("\n", "\r\n"), b"\xef\xbb\xbf" + text.encode()):
        path = write(written)
        assert scan_format(path) == "text"
        scan = read_scan(path)
        assert (scan.format, scan.channel, scan.unit) == (name, "Z", unit)
        np.testing.assert_allclose(scan.heights, HEIGHTS if unit else NANO, rtol=1e-6)
        assert scan.size == pytest.approx((12e-9, 10e-9))
    assert scan.direction == ("backward" if name == "gwyddion text" else None)


@pytest.mark.parametrize("text", [GWYDDION + table(HEIGHTS), SPIP + table(NANO)])
def test_gwyddion_reads_the_same(text, write):
    path = write(text, "a.asc")
    ours, theirs = read_scan(path), choose(path, gwyddion.parse(path, path.read_bytes()))
    np.testing.assert_allclose(ours.heights, theirs.heights, rtol=1e-9)
    assert ours.size == pytest.approx(theirs.size)
    assert ours.unit == theirs.unit


@pytest.mark.parametrize(
    ("separator", "decimal"),
    [("\t", "."), (" ", "."), ("  ", "."), (",", "."), (";", "."), (";", ","), ("\t", ",")],
)
def test_bare_matrices_are_read_with_any_separator(separator, decimal, write):
    for start in ("", "# a comment\n", "\n"):
        path = write(start + table(NANO, separator, decimal))
        assert scan_format(path) == "numbers"
        scan = read_scan(path)
        np.testing.assert_allclose(scan.heights, NANO, rtol=1e-6)
        assert (scan.format, scan.unit, scan.size) == ("numbers", "", None)


def test_lines_longer_than_what_is_sniffed_are_read(write):
    wide = surface(20, 2000)
    path = write(table(wide))
    assert scan_format(path) == "numbers"
    np.testing.assert_allclose(read_scan(path).heights, wide, rtol=1e-6)


def test_gaps_are_not_recorded(write):
    heights = NANO.copy()
    heights[15:] = np.nan
    assert len(read_scan(write(table(heights))).recorded) == 15


def test_points_on_a_grid_are_laid_out(write):
    wsxm = "WSxM file copyright UAM\nWSxM ASCII XYZ file\nX[nm]\tY[nm]\tZ[nm]\n\n"
    for order, start in (("C", (0, 0)), ("F", (-3, 7))):
        listed = points(NANO, 0.5, start, order)
        expected = HEIGHTS if order == "C" else HEIGHTS.T
        size = (12e-9, 10e-9) if order == "C" else (10e-9, 12e-9)
        path = write(wsxm + table(listed))
        assert scan_format(path) == "text"
        scan = read_scan(path)
        np.testing.assert_allclose(scan.heights, expected, rtol=1e-6)
        assert (scan.format, scan.unit) == ("xyz", "m")
        assert scan.size == pytest.approx(size)
        path = write(table(listed, " "))
        assert scan_format(path) == "numbers"
        scan = read_scan(path)
        np.testing.assert_allclose(scan.heights, expected * 1e9, rtol=1e-6)
        assert (scan.size, scan.unit) == (None, "")


def test_points_from_right_to_left_lie_as_under_the_tip(write):
    listed = points(NANO).reshape(20, 24, 3)[:, ::-1].reshape(-1, 3)
    np.testing.assert_allclose(read_scan(write(table(listed))).heights, NANO, rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "epoch,loss,accuracy\n" + "".join(f"{i},{i / 7},0.5\n" for i in range(50)),
        "".join(f"{i},{i / 7:.3f},0.5\n" for i in range(50)),  # a log without a header
        "".join(f"scan{i}.sxm,{i % 4}\n" for i in range(50)),
        "".join(f"{i} {i % 4}\n" for i in range(50)),
        "".join("0,1,0,0,0.5,1\n" for _ in range(50)),
        "# Read me\n\nHow 24 scans were made, 1 2 3.\n",
        "2020-01-02 10:11:12 began\n" * 40,
        table(NANO).replace("\n", "\tend\n"),
        table(NANO)[:-30].replace("\t", "\t\t", 3).replace("\n", "\t1\n", 3),
        '{"a": [1, 2, 3]}',
        "",
    ],
)
def test_other_texts_are_no_scans(text, write):
    assert scan_format(write(text)) is None


def test_what_is_no_whole_table_is_refused(write):
    listed = points(NANO)
    for text, phrase in (
        (table(NANO)[:-40], "damaged table of numbers, or one that is cut short"),
        (table(NANO) + "the end\n", "damaged table of numbers"),
        (table(NANO[:4]), "is a table of 4 lines of 24 numbers, not an image"),
        (
            table(np.tile(NANO, (3, 1))),
            "a table of 60 lines of 24 numbers, much higher than",
        ),
        (
            SPIP + table(NANO[:5]),
            "is cut short: 120 numbers where its header promises 20 lines of 24",
        ),
        (SPIP.replace("= 24", "= 99999999") + table(NANO), "has an impossible header"),
        (SPIP.replace("= 24", "= many") + table(NANO), "is a damaged text export"),
        (SPIP, "no numbers in it"),
        (table(listed[:-7]), "do not lie on a grid, or that is cut short"),
        (table(np.roll(listed, 7, axis=0)[::-1]), "do not lie on a grid"),
        (table(np.concatenate([listed[:24]] * 20)), "do not lie on a grid"),
    ):
        with pytest.raises(ScanError, match=phrase) as caught:
            read_scan(write(text))
        assert "\n" not in str(caught.value)


def test_a_text_that_is_too_long_is_refused(write, monkeypatch):
    with pytest.raises(ScanError, match="a line of more than 1048576 characters"):
        read_scan(write("1 " * 600_000))
    monkeypatch.setenv("STM_KERAS_MEMORY", "1MB")
    with pytest.raises(
        ScanError, match=r"a text of numbers.*1 MB are allowed for one file"
    ):
        read_scan(write(table(np.tile(NANO, (5, 5)))))


@pytest.mark.skipif(not FILES.exists(), reason="the shared cases are not here")
def test_the_shared_texts_are_read_alike():
    names = ("matrix.txt", "pts.xyz", "gwyascii.txt", "wsxm_matrix.txt")
    scans = [read_scan(FILES / name) for name in names]
    for scan, factor in zip(scans, (1, 1, 1e9, 1), strict=True):
        np.testing.assert_allclose(scan.heights * factor, scans[0].heights, rtol=1e-9)
    assert [scan.unit for scan in scans] == ["", "", "m", ""]
    assert scans[2].size == scans[3].size == pytest.approx((2e-8, 2e-8))


def test_numpy_itself_writes_what_is_read(write):
    text = io.StringIO()
    np.savetxt(text, NANO, header="heights in nm")
    np.testing.assert_array_equal(read_scan(write(text.getvalue())).heights, NANO)
