"""All formats together: which reader, which image, what is refused, and real files."""

import os
import tracemalloc
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from helpers import SHARED
from scan_files import createc, ibw, nid, surface, sxm

from stm_keras.data.preprocess import remove_line_trend
from stm_keras.errors import ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.formats import FORMATS, scan_format
from stm_keras.readers.scan_file import Image, ScanFile, choose, choose_each
from stm_keras.readers.units import channel_of, number, quantity, si_unit

FOLDER = SHARED / "spm"
HEIGHTS = surface()


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Z", ("Z", None, None)),
        ("Topography", ("Z", None, None)),
        ("Z-Axis", ("Z", None, None)),
        ("Height", ("Z", None, None)),
        ("HeightRetrace", ("Z", "backward", None)),
        ("7-100 Z TraceUp ", ("Z", "forward", "up")),
        ("7-100 Z ReTraceDown ", ("Z", "backward", "down")),
        ("Z (Forward)", ("Z", "forward", None)),
        ("Topography [Left]", ("Z", "backward", None)),
        ("Topography [Right]", ("Z", "forward", None)),
        ("BW_Z", ("Z", "backward", None)),
        ("ZS-Topo", ("Z", None, None)),
        ("[P1]_Z_(m)", ("Z", None, None)),
        ("Tip Current", ("Current", None, None)),
        ("--37_1-I 3_Backward_Down", ("Current", "backward", "down")),
        ("FW_I", ("Current", "forward", None)),
        ("LI Demod 1 X", ("LI Demod 1 X", None, None)),
        ("OC M1 Freq. Shift", ("OC M1 Freq. Shift", None, None)),
        ("Zeit", ("Zeit", None, None)),
        ("ADC0-I", ("Current", None, None)),
        ("ADC1", ("ADC1", None, None)),
        ("Z error", ("Z error", None, None)),
        ("Z error (Forward)", ("Z error", "forward", None)),
        ("Height Sensor", ("Height Sensor", None, None)),
        ("LIA Current", ("LIA Current", None, None)),
        ("LIA_Current_Backward", ("LIA Current", "backward", None)),
        ("Current error [Left]", ("Current error", "backward", None)),
        ("I-AC", ("I-AC", None, None)),
        ("Current (A)", ("Current", None, None)),
        ("[P2]_Z", ("P2 Z", None, None)),
        ("[P12]_Current_(A)", ("P12 Current", None, None)),
    ],
)
def test_channels_are_known_under_their_many_names(title, expected):
    assert channel_of(title) == expected


@pytest.mark.smoke
def test_numbers_and_units_of_headers():
    assert [number(text) for text in ("1,5 V", " -2e-3x", ".5", "V", None, "1e999")] == (
        [1.5, -0.002, 0.5, None, None, None]
    )
    assert quantity("1,25nA", "A") == pytest.approx(1.25e-9)
    assert quantity("-2.5 Hz", "A") is None
    assert quantity("300 mV", "V") == pytest.approx(0.3)
    assert si_unit("Å") == (1e-10, "m")
    assert si_unit("µm") == (pytest.approx(1e-6), "m")
    assert si_unit("counts") == (1.0, "counts")
    for text, unit in (
        ("meter", (1.0, "m")),
        ("nanometers", (1e-9, "m")),
        ("Volts", (1.0, "V")),
        ("picoampere", (1e-12, "A")),
        ("hertz", (1.0, "Hz")),
        ("angstroms", (1e-10, "m")),
        ("degrees", (1.0, "deg")),
        ("A/V", (1.0, "A/V")),
        ("parameter", (1.0, "parameter")),
    ):
        assert si_unit(text) == (pytest.approx(unit[0]), unit[1])


@pytest.mark.parametrize(
    ("prefix", "spoken", "power"),
    [
        ("f", "femto", -15),
        ("p", "pico", -12),
        ("n", "nano", -9),
        ("u", "micro", -6),
        ("m", "milli", -3),
        ("", "", 0),
        ("k", "kilo", 3),
        ("M", None, 6),
        ("G", None, 9),
    ],
)
def test_every_prefix_is_its_power_of_ten(prefix, spoken, power):
    for symbol, word in (("m", "metre"), ("A", "ampere"), ("V", "volt"), ("Hz", "hertz")):
        assert si_unit(prefix + symbol) == (
            pytest.approx(10.0**power, rel=1e-9, abs=0),
            symbol,
        )
        if spoken is not None:
            said = si_unit(f"{spoken}{word}s")
            assert said == (pytest.approx(10.0**power, rel=1e-9, abs=0), symbol)


def image(channel="Z", direction="forward", slow="down", heights=HEIGHTS, unit="m"):
    return Image(
        heights=heights, channel=channel, unit=unit, direction=direction, slow=slow
    )


def test_the_forward_topography_is_taken_wherever_it_stands():
    found = ScanFile((image("Current", unit="A"), image(direction="backward"), image()))
    scan = choose("a", found)
    assert (scan.channel, scan.direction, scan.warnings) == ("Z", "forward", ())
    assert choose("a", found, "current").channel == "Current"
    assert choose("a", found, "backward").direction == "backward"
    assert scan.channels == ("Current", "Z")


def test_of_two_topographies_the_recorded_one_is_taken():
    empty = image(heights=np.full((12, 16), np.nan), slow="up")
    assert choose("a", ScanFile((empty, image()))).slow == "down"
    with pytest.raises(ScanError, match="a: no line of Z forward up was recorded"):
        choose("a", ScanFile((empty,)))
    with pytest.raises(ScanError, match="a: holds no image"):
        choose("a", ScanFile(()))


def test_two_images_never_carry_one_label():
    found = ScanFile(
        (image(), image(heights=HEIGHTS * 2), image(heights=HEIGHTS * 3), image("Z (2)")),
    )
    scan = choose("a", found)
    assert scan.images == (
        *("Z forward down", "Z (2) forward down"),
        *("Z (3) forward down", "Z (2) (2) forward down"),
    )
    assert scan.channels == ("Z", "Z (2)", "Z (3)", "Z (2) (2)")
    np.testing.assert_array_equal(scan.heights, HEIGHTS)
    for label, factor in zip(scan.images, (1, 2, 3, 1), strict=True):
        np.testing.assert_array_equal(choose("a", found, label).heights, HEIGHTS * factor)
    np.testing.assert_array_equal(choose("a", found, "z (3)").heights, HEIGHTS * 3)


def test_scans_of_a_file_number_their_images_each_for_itself():
    found = ScanFile((image(), replace(image(heights=HEIGHTS * 2), index=1)))
    scans = list(choose_each("a", found))
    assert [scan.images for scan in scans] == [("Z forward down",)] * 2
    assert [scan.index for scan in scans] == [0, 1]
    assert choose("a", found).images == ("Z forward down",)


def test_what_an_image_says_of_itself_beats_what_its_file_says():
    of_file = {"size": (2e-8, 1e-8), "bias": 1.5, "setpoint": 1e-10, "angle": 5.0}
    own = {"size": (4e-9, 3e-9), "bias": 0.0, "setpoint": 2e-11, "angle": 0.0}
    found = ScanFile((replace(image(), **own), image("Current", unit="A")), **of_file)
    for channel, expected in (("Z", own), ("Current", of_file)):
        scan = choose("a", found, channel)
        assert {name: getattr(scan, name) for name in of_file} == expected


def test_an_exact_name_beats_a_part_of_it():
    found = ScanFile((image("LIA Current", unit="A"), image("Current", unit="A")))
    assert choose("a", found, "current").channel == "Current"
    assert choose("a", found).channel == "Current"
    assert choose("a", found, "LIA current").channel == "LIA Current"
    found = ScanFile((image("Z error"), image("Z error", "backward"), image()))
    assert choose("a", found).channel == "Z"
    assert choose("a", found, "Topography").channel == "Z"
    assert choose("a", found, "topography [Right]").direction == "forward"
    with pytest.raises(ScanError, match="a: no channel 'Topography \\[Left\\]'"):
        choose("a", found, "Topography [Left]")


def test_heights_by_another_name_are_topography():
    found = ScanFile((image("Amplitude", unit="V"), image("Height Sensor")))
    scan = choose("a", found)
    assert (scan.channel, scan.unit) == ("Height Sensor", "m")


def test_forward_is_taken_before_what_tells_no_direction():
    found = ScanFile((image(direction="backward"), image(direction=None), image()))
    assert choose("a", found).direction == "forward"


def test_sizes_that_cannot_be_are_none():
    for size in ((0.0, 1e-9), (float("nan"), 1e-9), (-1e-9, 1e-9), (None, 1e-9)):
        assert choose("a", ScanFile((image(),), size=size)).size is None


def test_what_is_unlike_a_scan_is_said():
    for odd, size, phrase in (
        (image(heights=HEIGHTS[:8]), None, "8 lines of 16 pixels are hardly a frame"),
        (image(), (1e-5, 8e-6), "the frame is 10 x 8 \N{MICRO SIGN}m wide, too large"),
        (image("Phase", unit="deg"), None, "Phase forward down is in deg: neither heights"),
    ):
        warnings = choose("a", ScanFile((odd,), size=size)).warnings
        assert any(text.startswith(phrase) for text in warnings)
    current = image("Current", unit="A")
    assert choose("a", ScanFile((current,), size=(1e-7, 1e-7)), "Current").warnings == ()


@pytest.mark.smoke
def test_the_suffix_is_never_trusted(tmp_path):
    made = {
        "nanonis": sxm({"Z": ("m", HEIGHTS, None)}),
        "createc": createc([HEIGHTS * 1e14] * 2),
        "nanosurf": nid((HEIGHTS * 1e13).astype(int), (HEIGHTS * 1e13).astype(int)),
        "igor": ibw(HEIGHTS.T),
    }
    for suffix in (".sxm", ".dat", ".nid", ".ibw", ".stp", ".xyz", ""):
        for name, data in made.items():
            path = tmp_path / f"scan{suffix}"
            path.write_bytes(data)
            assert scan_format(path) == name
            assert read_scan(path).format == name


def test_every_format_has_a_reader_and_is_recognised_by_some_row():
    for row in FORMATS.values():
        assert callable(row.reader.parse)
        assert row.fits(Path("no file"), b"neither of these") in (False, None)


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\n",
            "is a Git LFS pointer, not the scan",
        ),
        (b'Grid dim="10 x 10"\r\n', "is a Nanonis grid of spectra"),
        (b"Experiment\tbias spectroscopy\t\r\n", "is a Nanonis spectrum"),
        (b"[ParVERT30]\r\n", "is a Createc spectrum"),
        (b"\\*Force file list\r\n", "is a NanoScope force curve"),
        (b"ISO-10303-21;\nHEADER;", "is a CAD model"),
        (b"", "is empty"),
        (b"hello", "is of an unknown format. Known: Nanonis"),
        (b"\x80\x05\x95 a pickle \0", "is of an unknown format"),
        (b"\x89HDF\r\n\x1a\n broken \0\0", "is of an unknown format"),
    ],
)
def test_what_is_no_scan_is_refused_in_a_sentence(data, phrase, tmp_path):
    (tmp_path / "a.sxm").write_bytes(data)
    with pytest.raises(ScanError, match=phrase) as caught:
        read_scan(tmp_path / "a.sxm")
    assert str(caught.value).startswith(f"{tmp_path / 'a.sxm'}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ScanError, match="does not exist"):
        read_scan(tmp_path / "no.sxm")
    with pytest.raises(ScanError, match="is a folder"):
        read_scan(tmp_path)
    os.mkfifo(tmp_path / "pipe.sxm")
    with pytest.raises(ScanError, match="is not an ordinary file"):
        read_scan(tmp_path / "pipe.sxm")
    (tmp_path / "a.sxm").touch()
    with (tmp_path / "a.sxm").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(ScanError, match=r"needs 1.1 TB of memory or more \(to be read\)"):
        read_scan(tmp_path / "a.sxm")


def test_a_file_still_being_written_is_read_once_and_not_changed(tmp_path):
    whole = sxm({"Z": ("m", HEIGHTS, None)})
    path = tmp_path / "a.sxm"
    path.write_bytes(whole[:-100])
    path.chmod(0o444)
    with pytest.raises(ScanError, match="is cut short.*or wait until it is written"):
        read_scan(path)
    assert path.read_bytes() == whole[:-100]


def promising(data, old, new):
    assert old in data
    return data.replace(old, new)


def test_headers_that_promise_terabytes_allocate_nothing(tmp_path):
    plain = sxm({"Z": ("m", HEIGHTS, None)})
    counts = (HEIGHTS * 1e13).astype(int)
    np.save(tmp_path / "a.npy", HEIGHTS)
    array = (tmp_path / "a.npy").read_bytes()
    files = {
        "a.sxm": promising(plain, b"       16       12", b"     8000     8000"),
        "b.sxm": promising(plain, b"       16       12", b" 99999999 99999999"),
        "a.dat": promising(createc([HEIGHTS] * 2), b"Num.X=16", b"Num.X=8192"),
        "a.nid": promising(nid(counts, counts), b"Lines=12", b"Lines=99999"),
        "a.npy": promising(array, b"(12, 16), }      ", b"(9999999, 99999)}"),
        "a.gsf": b"Gwyddion Simple Field 1.0\nXRes = 8000\nYRes = 8000\n\0\0\0\0",
    }
    tracemalloc.start()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ScanError):
            read_scan(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20


# name: lines, pixels, width and height in nm, slow, recorded, channel
REAL = {
    "20201111--4_1.Z_mtrx": (400, 400, 100, 100, "up", 400, "Z"),
    "2023_12_11_009-M-Xp-Topo.nc": (300, 300, 20, 20, "down", 300, "Z"),
    "A170315.172707-00393.sxm": (48, 48, 1, 1, "down", 48, "Current"),
    "A170315.172917-00394.sxm": (48, 48, 1, 1, "up", 48, "Current"),
    "A200621.161352.dat": (256, 256, 21.53, 21.53, "down", 256, "Z"),
    "A250320.191933.dat": (512, 512, 200.2, 200.2, "down", 60, "Z"),
    "BRSTM_img_0062.sxm": (112, 112, 3.5, 3.5, "down", 54, "Current"),
    "SI_250605_012.h5": (75, 75, None, None, None, 75, "Z"),
    "ScV6Sn6_I_backward_down.ibw": (58, 256, 5, 1.133, "down", 58, "Current"),
    "Si_7x7_051.sxm": (256, 256, 20, 20, "down", 256, "Z"),
    "chigwell009-M-Xp-Topo.nc": (64, 64, 1e4, 1e4, "down", 64, "Z"),
    "chigwell009-Xm-Topo.nc": (64, 64, 1e4, 1e4, "down", 64, "Z"),
    "img_0247.sxm": (128, 128, 3.5, 3.5, "down", 63, "Current"),
    "stm-nanosurf-nid.nid": (256, 256, 20, 20, "down", 256, "Z"),
    "test.gwy": (128, 128, None, None, None, 128, "Test"),
}
REFUSED = {
    "20201111_0001.mtrx": "is the index of a MATRIX session",
    "img_0246_CORRUPT_crlf.sxm": "is cut short: 524280 bytes of data",
    "IgorIBWReader_ForceCurve.ibw": "curves, not an image",
    "MANIFEST.md": "is of an unknown format",
}
CONVERTED = {
    "top-1.top": (256, 256, 600, 600, "up", 256, "Z"),
    "topo_ABC_Graphite-Sample5_9K_2021_08_13_19_11_10_065.sm4": (
        *(128, 128, 75, 75),
        *(None, 128, "Z"),
    ),
}
STARTED = {  # as the files themselves say; of the others nobody knows
    "2023_12_11_009-M-Xp-Topo.nc": datetime(2023, 12, 11, 11, 45, 58),
    "A170315.172707-00393.sxm": datetime(2017, 3, 15, 17, 25, 7),
    "A170315.172917-00394.sxm": datetime(2017, 3, 15, 17, 27, 17),
    "BRSTM_img_0062.sxm": datetime(2024, 2, 23, 13, 12, 11),
    "SI_250605_012.h5": datetime(2025, 6, 5, 15, 0, 51),
    "Si_7x7_051.sxm": datetime(2016, 1, 7, 12, 54, 4),
    "chigwell009-M-Xp-Topo.nc": datetime(2021, 12, 2, 12, 4, 8),
    "chigwell009-Xm-Topo.nc": datetime(2021, 12, 2, 12, 4, 8),
    "img_0247.sxm": datetime(2024, 2, 25, 17, 20, 58),
    "topo_ABC_Graphite-Sample5_9K_2021_08_13_19_11_10_065.sm4": datetime(
        2021, 8, 13, 19, 8, 26
    ),
}
ABSOLUTE = {"Si_7x7_051.sxm"}  # whose heights are known to be positions of the Z piezo
needs_files = pytest.mark.skipif(
    not FOLDER.exists(), reason="the shared scans are not here"
)


@needs_files
@pytest.mark.parametrize("name", [*REAL, *CONVERTED])
def test_real_files_are_read(name):
    lines, pixels, width, height, slow, recorded, channel = (REAL | CONVERTED)[name]
    scan = read_scan(FOLDER / name)
    assert scan.heights.shape == (lines, pixels)
    if width is None:
        assert scan.size is None
    else:
        assert np.array(scan.size) * 1e9 == pytest.approx([width, height], rel=1e-3)
    assert (scan.slow, len(scan.recorded), scan.channel) == (slow, recorded, channel)
    assert scan.started == STARTED.get(name)
    assert scan.absolute == (name in ABSOLUTE)


@needs_files
@pytest.mark.parametrize("name", REFUSED)
def test_real_files_without_a_scan_are_refused(name):
    with pytest.raises(ScanError, match=REFUSED[name]):
        read_scan(FOLDER / name)


def likeness(one, other, reach=0):
    """Correlation of two images, each line levelled, at the best shift along the lines."""
    one, other = remove_line_trend(one), remove_line_trend(other)
    width = one.shape[1] - 2 * reach
    middle = one[:, reach : reach + width].ravel()
    shifted = (other[:, start : start + width] for start in range(2 * reach + 1))
    return max(np.corrcoef(middle, part.ravel())[0, 1] for part in shifted)


@needs_files
@pytest.mark.parametrize(
    ("name", "backward"),
    [
        ("Si_7x7_051.sxm", None),
        ("A200621.161352.dat", None),
        ("stm-nanosurf-nid.nid", None),
        ("20201111--4_1.Z_mtrx", None),
        ("chigwell009-M-Xp-Topo.nc", "chigwell009-Xm-Topo.nc"),
        ("topo_ABC_Graphite-Sample5_9K_2021_08_13_19_11_10_065.sm4", None),
    ],
)
def test_forward_and_backward_of_real_files_show_the_same_surface(name, backward):
    forward = read_scan(FOLDER / name).heights
    other = read_scan(FOLDER / (backward or name), "Z backward").heights
    same = likeness(forward, other, reach=10)  # the piezo lags behind both ways
    assert same > 0.2
    assert same > 3 * likeness(forward, other[:, ::-1], reach=10)


@needs_files
def test_a_real_up_scan_shows_what_the_down_scan_before_it_showed():
    down = read_scan(FOLDER / "A170315.172707-00393.sxm").heights
    up = read_scan(FOLDER / "A170315.172917-00394.sxm").heights
    assert likeness(down, up) > likeness(down, up[::-1]) + 0.3


@needs_files
def test_a_real_matrix_file_without_its_index_is_guessed_right(tmp_path):
    whole = read_scan(FOLDER / "20201111--4_1.Z_mtrx")
    alone = Path(tmp_path / "20201111--4_1.Z_mtrx")
    alone.write_bytes((FOLDER / alone.name).read_bytes())
    scan = read_scan(alone)
    assert scan.size is None
    assert np.corrcoef(scan.heights.ravel(), whole.heights.ravel())[0, 1] > 0.999999
    (tmp_path / "monday.mtrx").write_bytes((FOLDER / "20201111_0001.mtrx").read_bytes())
    np.testing.assert_array_equal(read_scan(alone).heights, whole.heights)
