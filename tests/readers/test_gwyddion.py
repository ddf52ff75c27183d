"""Gwyddion's own files, and what its converter makes of other formats."""

import struct
import sys
from types import SimpleNamespace

import gwyfile.objects as gwy
import numpy as np
import pytest
from scan_files import surface

from stm_keras.errors import ScanError
from stm_keras.readers import converted, read_scan

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
    assert "does not tell whether it was scanned downwards or upwards" in scan.warnings[0]
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
    assert converter.calls == [(".xyz", OTHERS[name][:4], converted.SECONDS)]


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
    with pytest.raises(ScanError, match=r"converter is missing. Type.*: pip install "):
        read_scan(tmp_path / "a.top")


def test_the_converter_itself_reads_wsxm(tmp_path):
    pytest.importorskip("gwyddionpy", reason="the extra [gwyddion] is not installed")
    lines, pixels = FORWARD.shape
    stored = np.round(FORWARD * 1e13).astype("<i2")
    header = (
        "WSxM file copyright Nanotec Electronica\r\nSxM Image file\r\n"
        "Image header size: {size}\r\n\r\n[Control]\r\n\r\n    X Amplitude: 3.2 nm\r\n"
        "    Y Amplitude: 2.4 nm\r\n\r\n[General Info]\r\n\r\n    Image Data Type: short\r\n"
        f"    Number of columns: {pixels}\r\n    Number of rows: {lines}\r\n"
        f"    Z Amplitude: {np.ptp(stored) * 1e-4} nm\r\n\r\n[Header end]\r\n"
    )
    data = header.format(size=len(header.format(size=100))).encode()
    (tmp_path / "a.stp").write_bytes(data + stored[::-1, ::-1].tobytes())  # from the end
    scan = read_scan(tmp_path / "a.stp")
    assert scan.format == "wsxm"
    assert scan.heights.shape == (12, 16)
    assert np.corrcoef(scan.heights.ravel(), FORWARD.ravel())[0, 1] > 0.999
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))


def test_the_converter_itself_reads_nanoscope(tmp_path):
    pytest.importorskip("gwyddionpy", reason="the extra [gwyddion] is not installed")
    heights = surface(32, 32)
    stored = np.round(heights * 1e13).astype("<i2")
    header = (
        "\\*File list\r\n\\Version: 0x05120000\r\n\\Data length: 8192\r\n"
        "\\*Scanner list\r\n\\@Sens. Zscan: V 10.0 nm/V\r\n"
        "\\*Ciao scan list\r\n\\Scan size: 3.2 nm\r\n\\Lines: 32\r\n"
        "\\*Ciao image list\r\n\\Data offset: 8192\r\n\\Data length: 2048\r\n"
        "\\Bytes/pixel: 2\r\n\\Samps/line: 32\r\n\\Number of lines: 32\r\n"
        '\\Scan size: 3.2 3.2 nm\r\n\\@2:Image Data: S [Height] "Height"\r\n'
        "\\@2:Z scale: V [Sens. Zscan] (0.0001 V/LSB) 6.5536 V\r\n\\*File list end\r\n\x1a"
    )
    path = tmp_path / "a.000"
    path.write_bytes(header.encode().ljust(8192, b"\0") + stored[::-1].tobytes())
    scan = read_scan(path)
    assert (scan.format, scan.channel, scan.unit) == ("nanoscope", "Z", "m")
    np.testing.assert_allclose(scan.heights, stored * 1e-12, atol=1e-14)
    assert scan.size == pytest.approx((3.2e-9, 3.2e-9))
