"""What headers tell is read: ways, angle, bias, setpoint, line time, of each image."""

import numpy as np
import pytest
from helpers import SHARED
from scan_files import ibw, jpk, mul, nanoscope, park, surface, wsxm

from stm_keras.readers import read_scan, read_scans
from stm_keras.readers.metadata import read_metadata

HEIGHTS, OTHER = surface(20, 24), surface(20, 24, seed=1)
COUNTS, OTHERS = (np.round(heights * 1e13).astype(int) for heights in (HEIGHTS, OTHER))
FILES = SHARED.parent / "cases" / "scan_files"
TELL_NOT = "does not say whether it was scanned"


@pytest.fixture
def write(tmp_path):
    def to_file(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return to_file


def likeness(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


@pytest.mark.parametrize(
    ("meta", "told"),
    [
        ({"General Info::Y scanning direction": "Down"}, {"slow": "down"}),
        ({"General Info::X scanning direction": "Backward"}, {"direction": "backward"}),
        ({"Frame direction": "Up", "Line Direction": "Retrace"}, "up backward"),
        ({"Scanning direction": "Bottom to top"}, {"slow": "up"}),
        ({"Line direction": "Right to left"}, {"direction": "backward"}),
        ({"Direction": "down"}, {"slow": "down"}),
        ({"Bias": "nan V", "Gap Voltage": "0.5 V"}, {"bias": 0.5}),
        ({"Setpoint": "0x10 nA", "Current": "1e-9 A"}, {"setpoint": 1e-9}),
        ({"Setpoint": "0x10 nA"}, {"setpoint": pytest.approx(float("nan"), nan_ok=True)}),
        ({"Rotation": "off", "Bias": "n/a"}, {}),
        ({"Scan Direction": "Left"}, {"direction": "backward"}),
        ({"scanUp": "FALSE"}, {"slow": "down"}),
        ({"ScanDown": "0"}, {"slow": "up"}),
        ({"ScanYMode / ScanYMode": "2"}, {"slow": "up"}),
        ({"Direction": "Nan,1,-1,0,"}, {}),
        ({"Bias": "-1.5 V"}, {"bias": -1.5}),
        ({"BiasVoltage / BiasVolt.[mV]": "100.00"}, {"bias": 0.1}),
        ({"EEPA:GapVoltageControl.Voltage [Volt]": "1.5e+00"}, {"bias": 1.5}),
        ({"Tip bias": "0 V", "Sample bias": "0.7 V"}, {"bias": 0.7}),
        ({"Tip bias": "0.7 V", "Sample bias": "0 V"}, {"bias": 0.7}),
        ({"2:Bias": "250 mV"}, {"bias": 0.25}),
        ({"Bias": "12"}, {}),
        ({"Control::Set Point": "0.1 nA"}, {"setpoint": 1e-10}),
        ({"Control::Set Point": "-0.3727 V"}, {}),
        ({"Z controller Setpoint": "2.500E-10 A"}, {"setpoint": 2.5e-10}),
        ({"EEPA:Regulator.Setpoint_1 [Ampere]": "3e-10"}, {"setpoint": 3e-10}),
        ({"Rotation angle": "15 deg"}, {"angle": 15}),
        ({"Angle": "0\N{DEGREE SIGN}"}, {"angle": 0}),
        ({"Tilt": "30 deg"}, {}),
        ({"Control::X-Frequency": "2 Hz"}, {"line_time": 0.25}),
        ({"Scan rate": "2 s<sup>-1</sup>"}, {"line_time": 0.25}),
        ({"Scan rate": "0"}, {}),
        ({"Time/Line": "100ms"}, {"line_time": 0.1}),
        ({"Period": "0.005 s"}, {}),
        ({"Period": "0.005 s", "Page ID": "1"}, {"line_time": 0.5}),
    ],
)
def test_settings_are_known_under_their_many_names(meta, told):
    told = {"slow": "up", "direction": "backward"} if told == "up backward" else told
    assert read_metadata(meta, 50, 100) == pytest.approx(told)


def test_wsxm(write):
    control = {"Topography Bias": "250 mV", "Set Point": "0.1 nA", "Angle": "30 Deg"}
    ways = {"X scanning direction": "Backward", "Y scanning direction": "Up"}
    data = wsxm(COUNTS, {**control, "X-Frequency": "2 Hz"}, ways)
    scan = read_scan(write("a.stp", data))
    assert (scan.format, scan.slow, scan.direction) == ("wsxm", "up", "backward")
    assert (scan.bias, scan.setpoint) == pytest.approx((0.25, 1e-10))
    assert (scan.angle, scan.line_time) == (30, 0.25)
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))
    assert likeness(scan.heights, HEIGHTS) > 0.999
    np.testing.assert_allclose(np.ptp(scan.heights), np.ptp(HEIGHTS), rtol=1e-3)
    assert not scan.warnings


def test_nanoscope_tells_the_way_of_each_image(write):
    trace, retrace = ((f"Frame direction: {w}", f"Line Direction: {d}") for w, d in WAYS)
    images = [("Height", trace, COUNTS), ("Height", retrace, OTHERS)]
    scan_list = (
        "Scan Rate: 4.0",
        "Rotate Ang.: 30",
        "@2:Bias: V [Sens.] (0.1 V/LSB) 0.5 V",
    )
    path = write("a.000", nanoscope(images, scan_list))
    scan = read_scan(path)
    assert scan.images == ("Z forward up", "Z backward up")
    assert len(read_scans(path)) == 1
    np.testing.assert_allclose(scan.heights, COUNTS * 1e-12, atol=1e-14)
    np.testing.assert_allclose(read_scan(path, "Z backward").heights, OTHERS * 1e-12)
    assert (scan.bias, scan.angle, scan.line_time) == (0.5, 30, 0.125)
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))


WAYS = (("Up", "Trace"), ("Up", "Retrace"))


def test_each_image_of_a_mul_file_is_a_scan_with_its_own_settings(write):
    wide = (COUNTS, (200, 150), 1.5, 0.3, 10)
    narrow = (OTHERS, (40, 30), -0.5, 0.1, 11)
    scans = read_scans(write("a.mul", mul([wide, narrow, (OTHERS, *wide[1:4], 12)])))
    assert [scan.index for scan in scans] == [0, 1, 2]
    assert [scan.size[0] for scan in scans] == pytest.approx([20e-9, 4e-9, 20e-9])
    assert [scan.bias for scan in scans] == pytest.approx([1.5, -0.5, 1.5], rel=1e-3)
    assert [scan.setpoint for scan in scans] == pytest.approx([3e-10, 1e-10, 3e-10])
    assert {(scan.format, scan.channel, scan.unit) for scan in scans} == {("mul", "Z", "m")}
    assert {(scan.angle, scan.line_time) for scan in scans} == {(30, 0.6)}
    for scan, heights in zip(scans, (HEIGHTS, OTHER, OTHER), strict=True):
        assert likeness(scan.heights, heights) > 0.999


@pytest.mark.parametrize(("up", "forward"), [(True, True), (False, False)])
def test_the_scan_in_a_park_tiff_is_read_never_its_preview(up, forward, write):
    scan = read_scan(write("a.tiff", park(COUNTS, up, forward)))
    assert (scan.format, scan.channel, scan.unit) == ("park", "Z", "m")
    assert scan.slow == ("up" if up else "down")
    assert scan.direction == ("forward" if forward else "backward")
    np.testing.assert_allclose(scan.heights, COUNTS * 1e-13, rtol=1e-6)
    assert (scan.bias, scan.setpoint) == pytest.approx((-1.25, 3e-10))
    assert (scan.angle, scan.line_time) == (15, 0.25)
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))


def test_the_scan_in_a_jpk_tiff_is_read_never_its_preview(write):
    path = write("a.jpk", jpk(COUNTS + 5000, OTHERS + 5000))
    scan = read_scan(path)
    assert (scan.format, scan.images) == ("jpk", ("Z forward", "Z backward"))
    assert len(read_scans(path)) == 1
    np.testing.assert_allclose(scan.heights, (COUNTS + 5000) * 1e-13, rtol=1e-6)
    np.testing.assert_allclose(
        read_scan(path, "Z backward").heights, (OTHERS + 5000) * 1e-13, rtol=1e-6
    )
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))
    assert scan.line_time == pytest.approx(0.25)
    assert TELL_NOT in scan.warnings[0]


def test_the_note_of_asylum_is_read(write):
    note = (
        "ScanDown: 0\rScanAngle: 45\rScanRate: 2\rSurfaceVoltage: 0.5\rSetpoint: 0.0008\r"
    )
    layers = np.stack([HEIGHTS[::-1].T, HEIGHTS[::-1].T * 1e-2], axis=2)
    path = write("a.ibw", ibw(layers, labels=("HeightTrace", "CurrentRetrace"), note=note))
    scan = read_scan(path)
    assert (scan.slow, scan.angle, scan.bias, scan.line_time) == ("up", 45, 0.5, 0.25)
    assert scan.setpoint is None  # it is of another unit
    assert (scan.unit, read_scan(path, "Current").unit) == ("m", "A")
    assert not scan.warnings
    path = write("a.ibw", ibw(HEIGHTS[::-1].T, "Height", note="ScanDown: 1\r"))
    assert read_scan(path).slow == "down"


@pytest.mark.skipif(not FILES.exists(), reason="the shared cases are not here")
def test_the_shared_wsxm_scan_tells_all():
    scan = read_scan(FILES / "y_up.f.top")
    assert (scan.slow, scan.direction, scan.warnings) == ("up", "forward", ())
    assert (scan.bias, scan.setpoint) == pytest.approx((0.25, 1e-10))


@pytest.mark.skipif(not (SHARED / "spm").exists(), reason="the shared scans are not here")
def test_real_headers_are_read():
    (rhk,) = (SHARED / "spm").glob("*.sm4")
    scans = read_scans(rhk)
    assert {scan.channel for scan in scans} >= {"Z"}
    assert (scans[0].bias, scans[0].setpoint, scans[0].angle) == pytest.approx(
        (0.5, 1e-10, 0)
    )
    assert scans[0].line_time == pytest.approx(0.625)
    assert TELL_NOT in scans[0].warnings[0]
    wsxm_scan = read_scan(SHARED / "spm" / "top-1.top")
    assert (wsxm_scan.slow, wsxm_scan.direction, wsxm_scan.bias) == ("up", "forward", 0)
    assert wsxm_scan.line_time == pytest.approx(0.5 / 1.628)
    assert wsxm_scan.setpoint is None  # of an oscillating cantilever, in V
