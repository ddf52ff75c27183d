"""TIFF files of real numbers, and scans in TIFF clothes that cannot be read."""

import io
import zlib

import numpy as np
import pytest
from helpers import SHARED
from scan_files import jpk, park, surface, tiff

from stm_keras.errors import ScanError
from stm_keras.inference.inputs import read_heights
from stm_keras.readers import read_scan
from stm_keras.readers.formats import scan_format
from stm_keras.readers.tiff import maker, real_values

HEIGHTS = surface(20, 24)
FILES = SHARED.parent / "cases" / "scan_files"


@pytest.fixture
def write(tmp_path):
    def to_file(data):
        (tmp_path / "a.tif").write_bytes(data)
        return tmp_path / "a.tif"

    return to_file


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u4", "u8", "f2", "f4", "f8"])
def test_numbers_are_heights_whatever_their_type(dtype, order, write):
    values = (HEIGHTS / np.abs(HEIGHTS).max() * 100).astype(dtype)
    if dtype in ("u4", "u8"):
        values += np.asarray(3e9, dtype)
    path = write(tiff([{273: values}], order))
    np.testing.assert_array_equal(read_scan(path).heights, values.astype(float))
    np.testing.assert_array_equal(read_heights(path)[0], values.astype(float))


def test_real_numbers_may_be_deflated_but_not_packed_otherwise(write):
    packed = zlib.compress(HEIGHTS.tobytes())
    data = tiff([{273: HEIGHTS, 259: 8, 279: len(packed)}])
    data = data.replace(HEIGHTS.tobytes(), packed.ljust(HEIGHTS.nbytes, b"\0"))
    np.testing.assert_array_equal(read_scan(write(data)).heights, HEIGHTS)
    for tags in ({259: 5}, {317: 3}, {322: 16}):
        path = write(tiff([{273: HEIGHTS, **tags}]))
        with pytest.raises(ScanError, match="float64, packed in a way that is not read"):
            read_scan(path)


def test_several_cut_or_impossible_arrays_are_refused(write):
    whole = tiff([{273: HEIGHTS}])
    for data, phrase in (
        (tiff([{273: HEIGHTS}, {273: HEIGHTS}]), "holds several pictures"),
        (tiff([{273: HEIGHTS, 279: 100}]), "cut short: 100 bytes of data"),
        (tiff([{273: HEIGHTS, 256: 1 << 20, 257: 1 << 20}]), "impossible header"),
        (tiff([{273: HEIGHTS, 257: b""}]), "is a damaged"),
        (whole[: len(whole) - 100], "is a damaged"),
    ):
        with pytest.raises(ScanError, match=phrase):
            read_scan(write(data))


def test_directories_that_go_round_or_never_end_are_left(write):
    assert maker(write(b"II*\0\x08\0\0\0\0\0\x08\0\0\0"), b"") is None
    assert maker(write(b"II*\0\x08\0\0\0\xff\xff"), b"") is None
    assert maker(write(b"MM\0*\xff\xff\xff\xff"), b"") is None
    assert real_values("a", io.BytesIO(b"not a TIFF")) is None


def test_makers_are_known_by_their_tags_not_their_suffix(write):
    counts = np.arange(480).reshape(20, 24)
    assert scan_format(write(park(counts))) == "park"
    assert read_heights(write(park(counts))) is None  # never the preview
    assert scan_format(write(jpk(counts, counts))) == "jpk"
    assert scan_format(write(tiff([{273: HEIGHTS}]))) == "picture"


def test_a_preview_is_not_taken_where_its_scan_cannot_be_read(write):
    preview = np.zeros((20, 24, 3), "u1")
    for tags, phrase in (
        (
            {50432: 0x0E031301, 50434: b"12345"},
            "is a Park scan .*cannot be read|no more than",
        ),
        (
            {0x8050: "height"},
            "is a JPK scan in a TIFF file, in which Gwyddion finds no more",
        ),
    ):
        with pytest.raises(ScanError, match=phrase) as caught:
            read_scan(write(tiff([{273: preview, **tags}])))
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not FILES.exists(), reason="the shared cases are not here")
def test_the_shared_previews_are_not_taken():
    for name, phrase in (("park_like.tiff", "Park"), ("jpk_like.jpk", "JPK")):
        with pytest.raises(ScanError, match=phrase):
            read_scan(FILES / name)
