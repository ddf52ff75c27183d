"""Nanonis files: order of lines, gaps, what to look at, and damage by git."""

from datetime import datetime

import numpy as np
import pytest
from scan_files import SIZE, surface, sxm

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.nanonis import parse_header, stored_images

FORWARD, BACKWARD = surface(), surface(seed=1)
TOPOGRAPHY = {"Z": ("m", FORWARD, BACKWARD)}
FLAT = np.zeros_like(FORWARD)
OFF = "\tName\ton\tSetpoint\n\tlog\t0\t5.000E-11 A"


@pytest.fixture
def write(tmp_path):
    def to_file(*arguments, **entries):
        path = tmp_path / "scan.sxm"
        path.write_bytes(sxm(*arguments, **entries))
        return path

    return to_file


@pytest.mark.smoke
@pytest.mark.parametrize("slow", ["down", "up"])
def test_both_directions_lie_as_under_the_tip_whichever_way_was_scanned(write, slow):
    path = write(TOPOGRAPHY, slow)
    for channel, expected in (("Z", FORWARD), ("Z backward", BACKWARD)):
        scan = read_scan(path, channel)
        np.testing.assert_array_equal(scan.heights, expected.astype("f4"))
        assert scan.valid.all()
        assert scan.slow == slow
        lines = expected[::-1] if slow == "up" else expected
        np.testing.assert_array_equal(scan.lines(), lines.astype("f4"))


@pytest.mark.smoke
def test_the_header_tells_everything_in_si(write):
    scan = read_scan(write(TOPOGRAPHY))
    assert scan.size == pytest.approx(SIZE)
    assert (scan.bias, scan.setpoint, scan.line_time, scan.angle) == (-1.5, 5e-11, 0.2, 35)
    assert (scan.channel, scan.unit, scan.direction) == ("Z", "m", "forward")
    assert scan.images == ("Z forward down", "Z backward down")
    assert (scan.format, scan.warnings) == ("nanonis", ())


def test_the_header_tells_when_the_scan_began(write):
    told = {"REC_DATE": " 03.10.2015", "REC_TIME": "14:05:59"}
    assert read_scan(write(TOPOGRAPHY, **told)).started == datetime(2015, 10, 3, 14, 5, 59)
    assert read_scan(write(TOPOGRAPHY, **told | {"REC_DATE": "yesterday"})).started is None
    unset = told | {"REC_DATE": "01.01.1970"}  # the clock of a computer without a battery
    assert read_scan(write(TOPOGRAPHY, **unset)).started is None
    assert read_scan(write(TOPOGRAPHY)).started is None


def test_a_setpoint_in_hertz_is_no_current(write):
    table = "\tName\ton\tSetpoint\n\tAFM\t1\t-2.5E+0 Hz"
    assert read_scan(write(TOPOGRAPHY, Z_CONTROLLER=table)).setpoint is None


def test_the_setpoint_is_that_of_the_controller_at_work(write):
    table = "\tName\ton\tSetpoint\n\tAFM\t0\t-2.5E+0 Hz\n\tlog Current\t1\t7.0E-11 A"
    for tabs in (True, False):
        scan = read_scan(write(TOPOGRAPHY, Z_CONTROLLER=table, tabs=tabs))
        assert scan.setpoint == 7e-11
    images = TOPOGRAPHY | {"Current": ("A", FORWARD, None)}
    off = table.replace("\t1\t", "\t0\t")
    scan = read_scan(write(images, Z_CONTROLLER=off, tabs=False))
    assert scan.channel == "Current"  # no controller was at work


def test_units_are_si_whatever_a_program_wrote(write):
    scan = read_scan(write({"Z": ("nm", FORWARD * 1e9, None)}))
    np.testing.assert_allclose(scan.heights, FORWARD, rtol=1e-6)
    assert scan.unit == "m"


def test_later_passes_over_the_lines_can_be_asked_for(write):
    second = surface(seed=2)
    images = {
        "[P1]_Z": ("m", FORWARD, BACKWARD),
        "[P1]_Current": ("A", FORWARD, None),
        "[P2]_Z": ("m", second, -second),
    }
    path = write(images)
    assert read_scan(path).images == (
        *("Z forward down", "Z backward down", "Current forward down"),
        *("P2 Z forward down", "P2 Z backward down"),
    )
    for channel, expected in (
        (None, FORWARD),
        ("Z", FORWARD),
        ("P1 Z backward", BACKWARD),
        ("P2 Z forward down", second),
        ("p2 z", second),
        ("[P2]_Z", second),
        ("P2 Z backward", -second),
    ):
        np.testing.assert_array_equal(
            read_scan(path, channel).heights, expected.astype("f4")
        )


@pytest.mark.parametrize(
    ("rows", "biases"),
    [
        ("", (-1.5, -1.5)),
        ("\n\tTRUE\t0.1\n\tTRUE\t0.2", (0.1, 0.2)),
        ("\n\tTRUE\t\n\tTRUE\t0.2", (-1.5, 0.2)),
        ("\n\tTRUE\t0.1", (-1.5, None)),  # of which pass?
    ],
)
def test_passes_have_their_own_bias(rows, biases, write):
    images = {"[P1]_Z": ("m", FORWARD, None), "[P2]_Z": ("m", BACKWARD, None)}
    path = write(images, **{"Multipass-Config": "\tRecord_Ch\tBias_Override" + rows})
    assert (read_scan(path, "Z").bias, read_scan(path, "P2 Z").bias) == biases


def test_nan_at_the_start_the_end_and_within_a_line_was_not_recorded(write):
    broken = FORWARD.copy()
    broken[7, 5:] = broken[8:] = np.nan
    scan = read_scan(write({"Z": ("m", broken, BACKWARD)}))
    assert scan.recorded.tolist() == list(range(8))
    assert scan.valid.sum() == 7 * 16 + 5
    late = FORWARD.copy()
    late[6:] = np.nan  # an up scan of the upper half alone
    scan = read_scan(write({"Z": ("m", late, None)}, "up"))
    assert scan.recorded.tolist() == [5, 4, 3, 2, 1, 0]
    assert scan.direction == "forward"


def test_an_empty_scan_is_refused(write):
    path = write({"Z": ("m", np.full((12, 16), np.nan), None)})
    with pytest.raises(
        ScanError, match=r"scan.sxm: no line of Z forward down was recorded"
    ):
        read_scan(path)


def test_at_constant_height_the_current_is_taken_and_the_user_told(write):
    images = {"Z": ("m", FORWARD, None), "Current": ("A", BACKWARD, None)}
    scan = read_scan(write(images, Z_CONTROLLER=OFF))
    assert scan.channel == "Current"
    assert (
        "feedback was off (constant height); Current forward down is taken"
        in (scan.warnings[0])
    )
    assert read_scan(write(images, Z_CONTROLLER=OFF), "Z").channel == "Z"
    images["Z"] = ("m", FLAT, None)
    scan = read_scan(write(images))  # the flag lies, heights do not
    assert scan.channel == "Current"
    assert "topography is flat" in scan.warnings[0]


def test_lines_that_took_unequal_time_are_not_to_be_compared(write):
    path = write(TOPOGRAPHY, SCAN_TIME="  2.5E+1   2.0E-1")
    assert read_scan(path).line_time == 25
    assert read_scan(path, "Z backward").line_time == 0.2
    assert "25 s forward and 0.2 s backward" in read_scan(path).warnings[0]


def test_frames_and_pixels_need_not_be_square(write):
    scan = read_scan(write(TOPOGRAPHY, size=(8e-9, 3e-9)))
    assert scan.heights.shape == (12, 16)
    assert scan.aspect == pytest.approx(0.5)


def test_columns_may_be_separated_by_spaces(write):
    scan = read_scan(write(TOPOGRAPHY, tabs=False))
    np.testing.assert_array_equal(scan.heights, FORWARD.astype("f4"))


def test_offsets_of_micrometres_keep_their_picometres(write):
    scan = read_scan(write({"Z": ("m", FORWARD - 513e-9, None)}))
    assert scan.heights.dtype == np.float64
    np.testing.assert_allclose(scan.heights + 513e-9, FORWARD, atol=1e-13)


def test_what_git_and_full_disks_leave_is_refused(write):
    path = write(TOPOGRAPHY)
    whole = path.read_bytes()
    for data, phrase in (
        (whole[:-8], "is cut short: 1528 bytes of data where its header promises 1536"),
        (whole.replace(b"\n", b"\r\n") + b"\r", "line ends were converted"),
        (whole[:300], "header has no end"),
        (whole.replace(b"      16       12", b"16000000 16000000"), "impossible header"),
        (whole.replace(b":DATA_INFO:", b":DATA_XNFO:"), "is a damaged Nanonis file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (b"", "is empty"),
    ):
        path.write_bytes(data)
        with pytest.raises(ScanError, match=phrase) as caught:
            read_scan(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "text", "phrase"),
    [
        *(
            (
                "SCAN_PIXELS",
                text,
                f"its SCAN_PIXELS, '{text}', are not two whole numbers. C",
            )
            for text in ("", "32", "32.5 24", "1e2 24", "1 2 3", "a b")
        ),
        ("SCAN_PIXELS", "9" * 5000 + " 2", f"its SCAN_PIXELS, '{'9' * 37}...', are not"),
        ("SCANIT_TYPE", "X", "SCANIT_TYPE is 'X', not FLOAT MSBFIRST or FLOAT LSBFIRST"),
        ("SCANIT_TYPE", "INT LSBFIRST", "SCANIT_TYPE is 'INT LSBFIRST', not FLOAT"),
    ],
)
def test_what_the_heights_cannot_be_read_without_is_refused_in_words(
    entry, text, phrase, write
):
    with pytest.raises(ScanError) as caught:
        read_scan(write(TOPOGRAPHY, **{entry: text}))
    assert phrase in str(caught.value)


def test_numbers_are_big_endian_unless_the_header_says_otherwise(write):
    path = write(TOPOGRAPHY, SCANIT_TYPE="")
    np.testing.assert_array_equal(read_scan(path).heights, FORWARD.astype("f4"))
    swapped = FORWARD.astype("f4").byteswap()
    path = write({"Z": ("m", swapped, None)}, SCANIT_TYPE="FLOAT LSBFIRST")
    np.testing.assert_array_equal(read_scan(path).heights, FORWARD.astype("f4"))


def test_a_channel_that_is_not_there_is_answered_with_those_that_are(write):
    with pytest.raises(
        ScanError, match="no channel 'Zz'. Channels: Z forward down, Z back"
    ):
        read_scan(write(TOPOGRAPHY), "Zz")


def test_header_and_table_are_parsed_without_a_file():
    header = parse_header(":A:\n1\n2\n:B C:\n\n3\n")
    assert header == {"A": "1\n2", "B C": "3"}
    table = "Channel\tName\n\t14\tZ\tm\tboth\t1\n\t0\tCurrent\tA\tbackward\t1"
    assert stored_images(table) == [
        ("Z", "m", "forward"),
        ("Z", "m", "backward"),
        ("Current", "A", "backward"),
    ]
