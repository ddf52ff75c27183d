"""Omicron SCALA: parameters in one file, the numbers of each image in another."""

import numpy as np
import pytest
from helpers import SHARED
from scan_files import scala, surface

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.formats import scan_format

HEIGHTS, OTHER = surface(), surface(seed=1)
COUNTS, OTHERS = (np.round(heights * 1e12).astype(int) for heights in (HEIGHTS, OTHER))
IMAGES = [
    (".tf0", "Z", "Forward", "nm", COUNTS),
    (".tb0", "Z", "Backward", "nm", OTHERS),
    (".tf1", "I", "Forward", "nA", COUNTS * 2),
]
FILES = SHARED.parent / "cases" / "scan_files"


def test_all_channels_and_both_directions_are_read(tmp_path):
    path = scala(
        tmp_path, "m1", IMAGES, "Scan Direction : Up\nTopography Time per Point : 2 ;[ms]\n"
    )
    scan = read_scan(path)
    assert scan_format(path) == "scala"
    assert scan.images == ("Z forward up", "Z backward up", "Current forward up")
    np.testing.assert_allclose(scan.heights, COUNTS * 1e-12)
    np.testing.assert_allclose(read_scan(path, "Z backward").heights, OTHERS * 1e-12)
    current = read_scan(path, "Current")
    np.testing.assert_allclose(current.heights, COUNTS * 2e-12)
    assert (scan.unit, current.unit) == ("m", "A")
    assert scan.size == pytest.approx((3.2e-9, 2.4e-9))
    assert (scan.bias, scan.setpoint, scan.angle) == pytest.approx((-1.5, 2e-10, 12.5))
    assert scan.line_time == pytest.approx(0.032)
    assert not scan.warnings


def test_either_file_may_be_given_in_whatever_case(tmp_path):
    path = scala(tmp_path, "m1", IMAGES)
    for suffix, channel, direction in (
        (".tb0", "Z", "backward"),
        (".tf1", "Current", "forward"),
    ):
        scan = read_scan(tmp_path / f"m1{suffix}")
        assert (scan.channel, scan.direction) == (channel, direction)
        assert scan.images == (f"{channel} {direction}",)
    for file in tmp_path.iterdir():
        file.rename(tmp_path / file.name.upper())
    assert read_scan(tmp_path / "M1.TF0").images == ("Z forward",)
    assert len(read_scan(tmp_path / "M1.PAR").images) == 3
    assert path.name == "m1.par"


def test_numbers_belong_only_to_parameters_that_name_them(tmp_path):
    path = scala(tmp_path, "m1", IMAGES)
    (tmp_path / "m1.tf0").rename(tmp_path / "m1.tf9")
    assert scan_format(tmp_path / "m1.tf9") == "unknown"
    scan = read_scan(path)
    assert scan.direction == "backward"
    assert scan.warnings[0] == "m1.tf0 is not beside it and is left out"
    path.unlink()
    assert scan_format(tmp_path / "m1.tb0") == "unknown"


def test_a_name_leads_to_no_other_folder(tmp_path):
    path = scala(tmp_path, "m1", IMAGES[:1])
    (tmp_path / "deep").mkdir()
    text = path.read_text()
    for name in ("../m1.tf0", "..\\m1.tf0", str(tmp_path / "m1.tf0"), ".."):
        inner = tmp_path / "deep" / "m1.par"
        inner.write_text(text.replace("m1.tf0", name))
        with pytest.raises(ScanError, match="which is not beside it. Copy both files"):
            read_scan(inner)


def test_what_does_not_fit_is_refused(tmp_path):
    path = scala(tmp_path, "m1", IMAGES[:1])
    text = path.read_text()
    for old, new, phrase in (
        ("Image Size in X : 16", "Image Size in X : 17", "is cut short: 384 bytes"),
        ("Image Size in X : 16", "Image Size in X : 99999999", "impossible header"),
        ("Image Size in X : 16", "", "is a damaged Omicron SCALA file"),
        ("  32767", "  -32767", "is a damaged Omicron SCALA file|no line"),
        ("Topographic Channel", "Spectroscopic Channel", "of spectra, without an image"),
        ("  -32767 ;Minimum raw value", "  none ;", "is a damaged Omicron SCALA"),
        ("m1.tf0", "9" * 400, "which is not beside it"),
    ):
        path.write_text(text.replace(old, new))
        with pytest.raises(ScanError, match=phrase) as caught:
            read_scan(path)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not FILES.exists(), reason="the shared cases are not here")
def test_the_shared_scan_is_read_from_either_file():
    for name in ("m1.par", "m1.tf0"):
        scan = read_scan(FILES / name)
        assert (scan.channel, scan.unit, scan.direction) == ("Z", "m", "forward")
        assert (scan.bias, scan.setpoint) == pytest.approx((1.0, 5e-10))
        assert scan.size == pytest.approx((2e-8, 2e-8))
        assert scan.heights.mean() == pytest.approx(8.4094e-10, rel=1e-4)


def test_gwyddion_reads_the_same(tmp_path):
    import gwyddionpy

    path = scala(tmp_path, "m1", IMAGES)
    gwyddionpy.run_converter(path, tmp_path / "a.gwy", timeout=60)
    for channel in ("Z forward", "Z backward", "Current"):
        ours, theirs = read_scan(path, channel), read_scan(tmp_path / "a.gwy", channel)
        np.testing.assert_allclose(ours.heights, theirs.heights)
        assert ours.size == pytest.approx(theirs.size)
        assert (ours.bias, ours.setpoint) == pytest.approx((theirs.bias, theirs.setpoint))
