"""Gwyddion's own files, and what its converter makes of other formats."""

import struct
import sys
from datetime import datetime
from types import SimpleNamespace

import gwyfile.objects as gwy
import numpy as np
import pytest
from helpers import SHARED
from scan_files import surface

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers import gwyddion, read_scan, read_scans

FILES = SHARED.parent / "cases" / "scan_files"
FORWARD, BACKWARD = surface(), surface(seed=1)


def container(path, images, masks=(), meta=None):
    """Write a .gwy file with the gwyfile library: dict of title to heights."""
    content = {}
    for number, (title, heights) in enumerate(images.items()):
        field = gwy.GwyDataField(heights, 3.2e-9, 2.4e-9, si_unit_xy="m", si_unit_z="m")
        content[f"/{number}/data"] = field
        content[f"/{number}/data/title"] = title
        if number in masks:
            content[f"/{number}/mask"] = gwy.GwyDataField(masks[number].astype(float))
        if meta:
            content[f"/{number}/meta"] = gwy.GwyContainer(meta)
    gwy.GwyContainer(content).tofile(str(path))
    return path


def simple_field(heights, unit="m"):
    lines, pixels = heights.shape
    text = (
        f"Gwyddion Simple Field 1.0\nXRes = {pixels}\nYRes = {lines}\nXReal = 3.2e-09\n"
        f"YReal = 2.4e-09\nXYUnits = m\nZUnits = {unit}\nTitle = Z backward\n"
    ).encode()
    return (
        text.ljust(len(text) + 4 - len(text) % 4, b"\0") + heights.astype("<f4").tobytes()
    )


def test_channels_are_known_by_what_programs_call_them(tmp_path):
    images = {"Topography [Right]": FORWARD, "Topography [Left]": BACKWARD}
    path = container(
        tmp_path / "a.gwy", images, meta={"Bias": "-1.5 V", "Setpoint": "50 pA"}
    )
    scan = read_scan(path)
    np.testing.assert_array_equal(scan.heights, FORWARD)
    assert (scan.channel, scan.unit, scan.format) == ("Z", "m", "gwyddion")
    assert scan.images == ("Z forward", "Z backward")
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))
    assert (scan.bias, scan.setpoint) == (-1.5, pytest.approx(5e-11))
    assert "does not say whether it was scanned downwards or upwards" in scan.warnings[0]
    np.testing.assert_array_equal(read_scan(path, "Z backward").heights, BACKWARD)


def test_masked_pixels_and_lines_of_zeros_were_not_recorded(tmp_path):
    mask = np.zeros(FORWARD.shape, bool)
    mask[9:] = mask[8, 4:] = True
    zeros = FORWARD.copy()
    zeros[:3] = 0
    path = container(
        tmp_path / "a.gwy", {"Z (Forward)": FORWARD, "Z backward": zeros}, {0: mask}
    )
    np.testing.assert_array_equal(read_scan(path).valid, ~mask)
    assert read_scan(path, "Z backward").recorded.tolist() == list(range(3, 12))


def test_simple_fields(tmp_path):
    (tmp_path / "a.gsf").write_bytes(simple_field(FORWARD))
    scan = read_scan(tmp_path / "a.gsf")
    np.testing.assert_array_equal(scan.heights, FORWARD.astype("f4"))
    assert (scan.format, scan.direction) == ("gsf", "backward")
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))
    (tmp_path / "a.gsf").write_bytes(simple_field(FORWARD * 1e9, "nm"))
    np.testing.assert_allclose(read_scan(tmp_path / "a.gsf").heights, FORWARD, rtol=1e-6)


def test_damage_is_refused_where_the_library_would_loop(tmp_path):
    path = container(tmp_path / "a.gwy", {"Z": FORWARD})
    whole = path.read_bytes()
    for data, phrase in (
        (whole[:-300], "cut short"),
        (b"GWYPGwyContainer\0" + struct.pack("<I", 6) + b"/a\0stx", "text without an end"),
        (
            b"GWYPGwyContainer\0" + struct.pack("<I", 8) + b"/a\0S\xff\xff\xff\xff",
            "cut short",
        ),
        (b"GWYPGwyContainer\0" + struct.pack("<I", 0), "holds no image"),
        (
            whole.replace(b"GwyContainer\0", b"Gwy\nontainer\0", 1),
            "file of 'Gwy.{2}ontainer'",
        ),
        (simple_field(FORWARD)[:-4], "is cut short"),
        (simple_field(FORWARD)[:60], "cut short in its header"),
    ):
        path.write_bytes(data)
        with pytest.raises(ScanError, match=phrase) as caught:
            read_scan(path)
        assert "\n" not in str(caught.value)


@pytest.fixture
def converter(monkeypatch, tmp_path):
    """Put a made-up gwyddionpy in place, whose converter gives one container."""

    class Missing(Exception):
        pass

    class Failed(Exception):
        pass

    def run(source, target, timeout):
        calls.append((source.suffix, source.read_bytes()[:4], timeout))
        mask = np.zeros(FORWARD.shape, bool)
        mask[:5] = True
        container(
            target,
            {"Topography [Left]": BACKWARD, "Topography [Right]": FORWARD},
            {1: mask},
        )

    calls = []
    library = SimpleNamespace(
        run_converter=run,
        ConverterNotFoundError=Missing,
        ConversionError=Failed,
        calls=calls,
    )
    monkeypatch.setitem(sys.modules, "gwyddionpy", library)
    return library


OTHERS = {
    "rhk": b"\xac\x00" + "STiMage 005.006 1".encode("utf-16-le"),
    "wsxm": b"WSxM file copyright Nanotec Electronica\nSxM Image file\n",
    "nanoscope": b"\\*File list\r\n\\Version: 0x05120000\r\n",
    "gwyddion 1": b"GWYOGwyContainer\0",
    "unknown": b"\x03\x00\x7f\x00 a format that is not sniffed",
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_come_with_their_masks(name, converter, tmp_path):
    (tmp_path / "a.xyz").write_bytes(OTHERS[name])
    scan = read_scan(tmp_path / "a.xyz")
    assert (scan.format, scan.direction) == (name, "forward")
    assert scan.recorded.tolist() == list(range(5, 12))
    assert converter.calls == [(".xyz", OTHERS[name][:4], gwyddion.SECONDS)]


@pytest.mark.parametrize(
    ("module", "expected"),
    [("rhk-sm4", datetime(2021, 3, 4, 19, 8, 26)), ("rhk-spm32", None), (None, None)],
)
def test_dates_count_where_day_and_month_are_known(module, expected, converter, tmp_path):
    def run(source, target, timeout):
        container(target, {"Z": FORWARD}, meta={"Date": "03/04/21 19:08:26"})
        return module

    converter.run_converter = run
    (tmp_path / "a.sm4").write_bytes(OTHERS["rhk"])
    assert read_scan(tmp_path / "a.sm4").started == expected
    container(tmp_path / "a.gwy", {"Z": FORWARD}, meta={"Date": "03/04/21 19:08:26"})
    assert read_scan(tmp_path / "a.gwy").started is None


@pytest.mark.parametrize("name", OTHERS)
def test_without_gwyddion_the_extra_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gwyddionpy", None)
    (tmp_path / "a.xyz").write_bytes(OTHERS[name])
    with pytest.raises(ScanError, match=r'pip install "\.\[gwyddion\]"'):
        read_scan(tmp_path / "a.xyz")


def test_what_gwyddion_cannot_read_is_one_line(converter, tmp_path):
    def fail(source, target, timeout):
        raise converter.ConversionError(f"gwyconvert: cannot load '{source}'\nmore")

    converter.run_converter = fail
    (tmp_path / "a.top").write_bytes(OTHERS["wsxm"])
    with pytest.raises(ScanError, match=r"a.top: cannot be read by Gwyddion \(.*cut short"):
        read_scan(tmp_path / "a.top")
    converter.run_converter = lambda *_, **__: None
    with pytest.raises(ScanError, match="found no image"):
        read_scan(tmp_path / "a.top")

    def missing(source, target, timeout):
        raise converter.ConverterNotFoundError("none")

    converter.run_converter = missing
    with pytest.raises(ScanError, match=r"converter is missing. Run.*: pip install "):
        read_scan(tmp_path / "a.top")


def field(path, *channels):
    """Write a .gwy file of channels: dict with title, heights, and what else differs."""
    content = {}
    for number, channel in enumerate(channels):
        told = {"size": (3.2e-9, 2.4e-9), "unit": "m", "lateral": "m", **channel}
        made = gwy.GwyDataField(
            told.get("heights", FORWARD),
            *told["size"],
            xoff=told.get("offset", 0.0),
            si_unit_xy=told["lateral"],
            si_unit_z=told["unit"],
        )
        content[f"/{number}/data"] = made
        content[f"/{number}/data/title"] = told["title"]
        if "meta" in told:
            content[f"/{number}/meta"] = gwy.GwyContainer(told["meta"])
    gwy.GwyContainer(content).tofile(str(path))
    return path


def test_each_image_has_its_own_size_and_settings(tmp_path):
    path = field(
        tmp_path / "a.gwy",
        {"title": "Current", "unit": "A", "size": (1e-7, 1e-7), "meta": {"Bias": "1 V"}},
        {"title": "Topography crop", "meta": {"Bias": "-2 V", "Direction": "up"}},
    )
    scan = read_scan(path)
    assert (scan.channel, scan.bias, scan.slow) == ("Z", -2, "up")
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))
    current = read_scan(path, "Current")
    assert (current.bias, current.slow) == (1, None)
    assert current.size == pytest.approx((1e-7, 1e-7))
    assert [scan.channel for scan in read_scans(path)] == ["Current", "Z"]


def test_an_image_in_metres_is_topography_unless_another_is_or_it_says_what_it_is(tmp_path):
    for titles, channel in (
        (["Au on mica, spot 3"], "Z"),
        (["Sensor", "Height"], "Z"),
        (["Amplitude Error"], "Amplitude Error"),
    ):
        path = field(tmp_path / "a.gwy", *({"title": title} for title in titles))
        assert read_scan(path).channel == channel
        assert len(read_scans(path)) == 1
    assert (
        read_scan(field(tmp_path / "a.gwy", {"title": "Au", "unit": "V"})).channel == "Au"
    )


def test_directions_and_channels_are_one_scan_frames_are_several(tmp_path):
    one = [
        {"title": "Z (Forward)", "meta": {"Date": "Monday"}},
        {"title": "Z (Backward)", "meta": {"Date": "Monday"}},
        {"title": "Current (Forward)", "unit": "A", "meta": {"Date": "Monday"}},
        {"title": "LIA Current (Forward)", "unit": "A", "meta": {"Date": "Monday"}},
    ]
    path = tmp_path / "a.gwy"
    assert len(read_scans(field(path, *one))) == 1
    for other in (
        [{**channel, "size": (1e-8, 1e-8)} for channel in one],
        [{**channel, "offset": 5e-9} for channel in one],
        [{**channel, "meta": {"Date": "Tuesday"}} for channel in one],
        one,  # no more than a second topography tells that there are two
    ):
        scans = read_scans(field(path, *one, *other))
        assert [(scan.index, scan.channel) for scan in scans] == [(0, "Z"), (1, "Z")]
        assert {scan.direction for scan in scans} == {"forward"}


def test_what_was_computed_has_the_settings_of_the_file_but_not_its_direction(tmp_path):
    path = field(
        tmp_path / "a.gwy",
        {"title": "Z", "meta": {"Bias": "1 V", "Line direction": "Left"}},
        {"title": "Phase", "unit": "deg"},
    )
    assert read_scan(path).direction == "backward"
    scan = read_scan(path, "Phase")
    assert (scan.bias, scan.direction) == (1, None)


@pytest.mark.parametrize(
    ("channel", "phrase"),
    [
        ({"lateral": "V"}, "holds no image, but an array over V, not over metres"),
        ({"lateral": "1/m"}, "but an array over 1/m"),
        ({"meta": {"Line type": "7"}}, "holds no image, but spectra along a line"),
        ({"heights": np.ones((8, 512))}, "but curves: 8 lines of 512 pixels"),
        ({"heights": np.ones((256, 3))}, "but curves: 256 lines of 3 pixels"),
    ],
)
def test_spectra_and_colour_maps_are_no_frames(channel, phrase, tmp_path):
    path = field(tmp_path / "a.gwy", {"title": "Z", **channel})
    with pytest.raises(NoImageError, match=phrase):
        read_scan(path)
    path = field(tmp_path / "a.gwy", {"title": "Map", **channel}, {"title": "Z"})
    assert read_scan(path).images == ("Z",)


@pytest.mark.parametrize("module", ["dm3file", "surffile", "metropro", "nrrdfile"])
def test_what_is_of_no_probe_microscope_is_refused(module, converter, tmp_path):
    run = converter.run_converter
    converter.run_converter = lambda *args, **kwargs: run(*args, **kwargs) or module
    (tmp_path / "a.dm3").write_bytes(OTHERS["unknown"])
    with pytest.raises(NoImageError, match=f"not a scan of a probe microscope.*'{module}'"):
        read_scan(tmp_path / "a.dm3")
    converter.run_converter = lambda *args, **kwargs: run(*args, **kwargs) or "nt-mdt"
    assert read_scan(tmp_path / "a.dm3").format == "unknown"


def test_the_converter_itself_tells_what_is_no_probe_file(tmp_path):
    header = "NRRD0001\ntype: float\ndimension: 2\nsizes: 16 12\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(
        header.encode() + (FORWARD * 0).astype("<f4").tobytes()
    )
    with pytest.raises(NoImageError, match="Gwyddion reads it as 'nrrdfile'"):
        read_scan(tmp_path / "a.nrrd")


@pytest.mark.skipif(not FILES.exists(), reason="the shared cases are not here")
def test_the_shared_containers_are_read():
    scan = read_scan(FILES / "two_sizes.gwy")
    assert (scan.channel, scan.size) == ("Z", pytest.approx((2e-8, 2e-8)))
    assert len(read_scans(FILES / "two_sizes.gwy")) == 2
    assert len(read_scans(FILES / "lia_current.gwy")) == 1
