"""What a scan says of itself is believed only where a microscope could have said it."""

import json

import numpy as np
import pytest
from scan_files import createc, sxm

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.info import scan_metadata
from stm_keras.readers.scan_file import Image, ScanFile, choose
from stm_keras.readers.units import quantity

HEIGHTS = np.random.default_rng(0).normal(size=(12, 16)) * 1e-10
NINES = "9" * 5000
UNREADABLE = [  # of a header: entry, text, what of the scan, the note
    *(
        ("SCAN_RANGE", text, "size", "the size is not two numbers")
        for text in (
            "nan nan",
            "inf 1",
            "1e-8",
            "1e-8 " * 10_000,
            "1e-8 0x10",
            "1e-8 n/a 1",
        )
    ),
    ("SCAN_RANGE", "1e999 1", "size", "the size inf x 1 m is impossible"),
    ("BIAS", "nan", "bias", "the bias is not a number"),
    ("BIAS", "0x10", "bias", "the bias is not a number"),
    ("BIAS", "1.2.3", "bias", "the bias is not a number"),
    ("BIAS", "one", "bias", "the bias is not a number"),
    ("BIAS", "1e999", "bias", "the bias inf V is impossible"),
    ("BIAS", NINES, "bias", "the bias inf V is impossible"),
    ("SCAN_ANGLE", "nan", "angle", "the angle is not a number"),
    ("SCAN_TIME", "nan nan", "line_time", "the line time is not a number"),
    ("SCAN_TIME", "-1 -1", "line_time", "the line time -1 s is impossible"),
    ("SCAN_TIME", "1e30 1", "line_time", "the line time 1e+30 s is impossible"),
    *(
        ("Z_CONTROLLER", f"\tName\ton\tSetpoint\n\tlog\t1\t{text} A", "setpoint", note)
        for text, note in (
            *((text, "the setpoint is not a number") for text in ("nan", "-inf", "0x10")),
            ("1e999", "the setpoint inf A is impossible"),
        )
    ),
]
UNTOLD = [
    *(("SCAN_RANGE", text, "size") for text in ("", "0 0", "n/a n/a")),
    *(("BIAS", text, "bias") for text in ("", "n/a", "N/A", "none", "--", "unknown")),
    ("SCAN_ANGLE", "", "angle"),
    ("SCAN_TIME", "", "line_time"),
    ("Z_CONTROLLER", "\tName\ton\tSetpoint\n\tlog\t1\tn/a", "setpoint"),
]
ABSURD = [  # name, value, what the note says
    ("size", (1e-300, 1e300), "the size 1e-300 x 1e+300 m is impossible"),
    ("size", (-1e-9, 1e-9), "the size -1e-09 x 1e-09 m is impossible"),
    ("size", (float("nan"), 1e-9), "the size is not two numbers"),
    ("size", (float("inf"), 1e-9), "the size inf x 1e-09 m is impossible"),
    ("size", (5e3, 5e3), "the size 5e+03 x 5e+03 m is impossible"),
    ("bias", float("nan"), "the bias is not a number"),
    ("bias", -3e7, "the bias -3e+07 V is impossible"),
    ("setpoint", 50.0, "the setpoint 50 A is impossible"),
    ("line_time", -1.0, "the line time -1 s is impossible"),
    ("line_time", 1e12, "the line time 1e+12 s is impossible"),
    ("angle", 1e30, "the angle 1e+30 degrees is impossible"),
]
FINE = {
    "size": (1e-9, 2e-4),
    "bias": -300.0,
    "setpoint": -1e-13,
    "line_time": 3600.0,
    "angle": -720.0,
}


def found(**facts):
    return ScanFile((Image(heights=HEIGHTS, **facts),))


@pytest.mark.parametrize(("name", "value", "note"), ABSURD)
def test_what_cannot_be_is_not_told_and_noted(name, value, note):
    scan = choose("a", found(**{name: value}))
    assert getattr(scan, name) is None
    assert f"{note} and is left out" in scan.warnings
    json.dumps(scan_metadata(scan), allow_nan=False)


@pytest.mark.parametrize("name", FINE)
def test_what_can_be_is_told_without_a_word(name):
    scan = choose("a", found(**{name: FINE[name]}))
    assert getattr(scan, name) == FINE[name]
    assert not any("is impossible" in text for text in scan.warnings)


def test_zeros_for_a_size_are_no_size_and_no_news():
    scan = choose("a", found(size=(0.0, 0.0)))
    assert scan.size is None
    assert not any("is impossible" in text for text in scan.warnings)


@pytest.mark.parametrize(
    ("unit", "factor"), [("m", 1e14), ("A", 1e12), ("V", 1e18), ("", 1e31), ("eV", 1e31)]
)
def test_heights_that_cannot_be_are_no_scan(unit, factor):
    image = Image(heights=HEIGHTS, factor=factor, unit=unit)
    with pytest.raises(
        ScanError, match=r"Z is damaged, or in another unit than it says: up to"
    ):
        choose("a", ScanFile((image,)))
    image = Image(heights=HEIGHTS, factor=1e5, unit=unit)
    assert choose("a", ScanFile((image,))).unit == unit


def test_what_was_not_recorded_may_be_anything():
    heights = HEIGHTS.copy()
    heights[9:] = 1e30
    there = np.arange(12)[:, None] < np.full(16, 9)
    image = Image(heights=heights, valid=there)
    assert len(choose("a", ScanFile((image,))).recorded) == 9


def test_a_factor_that_overflows_leaves_no_infinity():
    heights = np.where(HEIGHTS > 1e-10, 1e300, HEIGHTS * 1e-12)
    image = Image(heights=heights, factor=1e10)
    scan = choose("a", ScanFile((image,)))
    assert np.isfinite(scan.heights[scan.valid]).all()
    assert not scan.valid.all()


@pytest.mark.parametrize(
    ("entry", "text", "name", "note"), UNREADABLE, ids=lambda value: value[:20]
)
def test_what_cannot_be_read_is_missing_with_one_note(entry, text, name, note, tmp_path):
    path = tmp_path / "a.sxm"
    path.write_bytes(sxm({"Z": ("m", HEIGHTS, HEIGHTS)}, **{entry: text}))
    scan = read_scan(path)
    assert getattr(scan, name) is None
    assert scan.warnings == (f"{note} and is left out",)
    json.dumps(scan_metadata(scan), allow_nan=False)


@pytest.mark.parametrize(("entry", "text", "name"), UNTOLD)
def test_what_a_header_leaves_out_is_missing_without_a_word(entry, text, name, tmp_path):
    path = tmp_path / "a.sxm"
    path.write_bytes(sxm({"Z": ("m", HEIGHTS, HEIGHTS)}, **{entry: text}))
    assert (getattr(read_scan(path), name), read_scan(path).warnings) == (None, ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,5 nA", 1.5e-9),
        ("500mA", 0.5),
        ("2 V", None),
        ("n/a", None),
        ("- A", None),
        ("3 nanoamperes", 3e-9),
    ],
)
def test_a_quantity_is_a_number_with_its_unit(text, told):
    assert quantity(text, "A") == (told if told is None else pytest.approx(told))


@pytest.mark.parametrize("text", ["NaN A", "0x10 nA", "1.2.3 A", "-Infinity pA"])
def test_a_quantity_that_is_no_number_is_nan(text):
    assert np.isnan(quantity(text, "A"))


def test_every_reader_is_asked(tmp_path):
    (tmp_path / "a.sxm").write_bytes(
        sxm({"Z": ("m", HEIGHTS, HEIGHTS)}, size=(1e-300, 1e300), SCAN_TIME="-1 -5")
    )
    (tmp_path / "a.dat").write_bytes(createc([HEIGHTS] * 4, **{"Sec/line:": -4}))
    for name in ("a.sxm", "a.dat"):
        scan = read_scan(tmp_path / name)
        assert scan.line_time is None
        assert any("the line time -" in text for text in scan.warnings)
    told = {"Sec/line:": "0x10", "BiasVoltage / BiasVolt.[mV]": "nan", "Rotation": "1e999"}
    (tmp_path / "b.dat").write_bytes(createc([HEIGHTS] * 4, **told))
    scan = read_scan(tmp_path / "b.dat")
    assert (scan.line_time, scan.bias, scan.angle) == (None, None, None)
    for name in ("line time is not a", "bias is not a", "angle inf degrees is impossible"):
        assert any(text.startswith(f"the {name}") for text in scan.warnings)
    assert read_scan(tmp_path / "a.sxm").size is None
