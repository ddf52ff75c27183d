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


def test_a_line_of_zeros_was_recorded_where_the_header_says_that_all_were(write):
    counts = [COUNTS[0], COUNTS[1] * 0]
    for reached, expected in ((13, True), (8, False), (None, False)):
        path = write(createc(counts, both=False, ImageYPosMax=reached))
        assert read_scan(path, "Z").valid.all()
        if expected:
            assert read_scan(path, "Current").valid.all()
            continue
        with pytest.raises(ScanError, match="no line of Current"):
            read_scan(path, "Current")


def test_forward_lines_alone(write):
    scan = read_scan(write(createc(COUNTS[:2], both=False)))
    assert scan.images == ("Z forward down", "Current forward down")


BITS = [  # Channelselectval, ways, images: what they are
    ("3", 2, 4, "Z forward, Current forward, Z backward, Current backward"),
    ("0x00000003", 2, 4, "Z forward, Current forward, Z backward, Current backward"),
    ("30", 1, 4, "Current forward, ADC1 forward, ADC2 forward, ADC3 forward"),
    ("0x1E", 1, 4, "Current forward, ADC1 forward, ADC2 forward, ADC3 forward"),
    ("2", 2, 2, "Current forward, Current backward"),
    ("129", 1, 2, "Z forward, df forward"),
    ("32768", 1, 1, "channel 16 forward"),
    ("1", 2, 4, "Z forward, Z backward, P2 Z forward, P2 Z backward"),
    ("1", 1, 3, "Z forward, P2 Z forward, P3 Z forward"),
    ("", 2, 4, "Z forward, Current forward, Z backward, Current backward"),
    ("", 2, 3, "Z forward, Current forward, ADC1 forward"),
]


@pytest.mark.parametrize(("bits", "ways", "count", "expected"), BITS)
def test_the_header_tells_which_channels_there_are(bits, ways, count, expected, write):
    path = write(createc(COUNTS[:count], both=ways == 2, Channelselectval=bits))
    labels = [f"{label} down" for label in expected.split(", ")]
    assert list(read_scan(path).images) == labels
    for label, counts in zip(labels, COUNTS, strict=False):
        scan = read_scan(path, label)
        known = {"Z": (HEIGHT, "m"), "Current": (VOLT / 1e9, "A")}
        factor, unit = known.get(scan.channel.split()[-1], (VOLT, "V"))
        np.testing.assert_allclose(scan.heights, counts * factor, rtol=1e-6)
        assert scan.unit == unit
    told = [text for text in read_scan(path).warnings if "times; P2 is the second" in text]
    assert bool(told) == ("P2" in expected)


def test_a_current_is_never_shown_as_heights(write):
    scan = read_scan(write(createc(COUNTS, both=False, Channelselectval=30)))
    assert (scan.channel, scan.unit) == ("Current", "A")
    assert "there is no topography" in scan.warnings[0]


def test_at_constant_height_the_current_is_taken(write):
    for entry in ({"CHMode / CHMode": 1}, {"FBOff": 1}):
        scan = read_scan(write(createc(COUNTS, **entry)))
        assert scan.channel == "Current"
        assert "the feedback was off (constant height)" in scan.warnings[0]
    assert read_scan(write(createc(COUNTS, **{"CHMode / CHMode": 0}))).channel == "Z"


@pytest.mark.parametrize(("version", "bits"), [("et32", 20), ("eter", 16)])
def test_old_files_are_not_packed(version, bits, write):
    counts = [np.round(image / 1e2) for image in COUNTS]
    steps = {"Delta X / Delta X [Dac]": 16, "Delta Y / Delta Y [Dac]": 8}
    steps |= {"GainX / GainX": 10, "GainY": 10, "Xpiezoconst": 100.0, "YPiezoconst": 50.0}
    path = write(
        createc(counts, version=version, ScanYMode=None, **{"DAC-Type": None}, **steps)
    )
    volt = 20 / 2**bits
    scan = read_scan(path)
    np.testing.assert_allclose(scan.heights, counts[0] * volt * 200 * 1e-10)
    assert (scan.channel, scan.unit, scan.slow) == ("Z", "m", None)
    assert scan.size == pytest.approx(
        (16 * 16 * 10 * 100 * volt * 1e-10, 12 * 8 * 10 * 50 * volt * 1e-10)
    )
    backward = read_scan(path, "Current backward")
    np.testing.assert_allclose(backward.heights, counts[3] * volt / 1e9)
    with pytest.raises(ScanError, match="is cut short"):
        read_scan(write(path.read_bytes()[:-9]))


def test_the_setpoint_is_a_voltage_behind_the_amplifier(write):
    for entries, expected in (
        ({"Gainpre 10^": 6}, 1e-7),
        ({"Current[A]": "5.0E-07"}, 5e-7),
        ({"SetPoint": "2.0E-11"}, 2e-11),
        ({"FBChannel": 0}, 1e-10),
        ({"SetPoint": "0.0", "Current[A]": "0"}, 1e-10),
        ({"FBChannel": 4, "SetPoint": "7.0"}, None),  # the feedback went by a frequency
        ({"PLLOn": 1}, None),
        ({"PLLOn": 1, "FBChannel": 0}, 1e-10),
    ):
        scan = read_scan(write(createc(COUNTS, **entries)))
        assert scan.setpoint == (expected and pytest.approx(expected))


def test_scans_at_several_voltages_have_no_common_one(write):
    path = write(createc(COUNTS, Channelselectval=1, **{"Scantype / Scantype": 2}))
    assert read_scan(path).bias is None


def test_without_the_piezo_constant_heights_are_from_that_of_the_converter(write):
    entries = {"ZPiezoconst": None, "Dacto[Å]z": 0.00038}
    scan = read_scan(write(createc(COUNTS, **entries)))
    np.testing.assert_allclose(scan.heights, COUNTS[0] * 3.8e-13, rtol=1e-6)
    scan = read_scan(write(createc(COUNTS, ZPiezoconst=None)))
    assert scan.unit == ""


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
        (
            whole.replace(b"Channels / Channels=4", b"Channels / Channels=x"),
            r"is a damaged Createc file \('x' is not a number\)\.",
        ),
        (createc([image * 0 for image in COUNTS]), "was recorded"),
    ):
        with pytest.raises(ScanError, match=phrase):
            read_scan(write(data))
