"""Pictures: heights behind colours, and what was lost."""

import numpy as np
import pytest
from PIL import Image
from scan_files import surface

from stm_keras.errors import ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.pictures import GWYDDION, picture_heights

VALUES = np.arange(12 * 20).reshape(12, 20) + 8
GOLD = np.stack([np.minimum(2 * VALUES, 255), VALUES, np.maximum(2 * VALUES - 256, 0)], 2)


def gwyddion_map(values):
    stops = np.array(list(GWYDDION.values())).T
    return np.stack([np.interp(values, list(GWYDDION), s) for s in stops], 2).round()


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels).astype("u1")).save(path, **options)
    return path


def test_a_picture_of_more_pixels_than_pillow_opens_is_large_and_not_damaged(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.png"
    Image.new("L", (64, 64)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ScanError, match="a.png: is a picture of more than 2000 pixels"):
        read_scan(path)


def test_a_two_slope_gold_map_is_inverted_exactly(tmp_path):
    scan = read_scan(save(tmp_path / "a.png", GOLD))
    np.testing.assert_array_equal(scan.heights, VALUES)
    assert (scan.unit, scan.size, scan.slow) == ("", None, None)
    assert "8 bits" in scan.warnings[0]
    assert not any("colours" in text for text in scan.warnings)


def test_gwyddions_own_map_is_inverted_within_a_step():
    heights, known = picture_heights(gwyddion_map(VALUES).astype("u1"))
    assert known
    assert np.abs(heights - VALUES).max() < 1


def test_unknown_colours_are_a_guess_and_said_to_be(tmp_path):
    rainbow = np.stack([VALUES, VALUES // 2, 255 - VALUES], 2)
    scan = read_scan(save(tmp_path / "a.png", rainbow))
    np.testing.assert_array_equal(scan.heights, VALUES // 2)
    assert "unknown colours: heights are a guess" in scan.warnings[1]


def test_jpeg_is_warned_of(tmp_path):
    scan = read_scan(save(tmp_path / "a.jpg", VALUES, quality=95))
    assert np.abs(scan.heights - VALUES).max() < 12
    assert any("JPEG changes heights" in text for text in scan.warnings)


def test_deep_pictures_keep_their_depth(tmp_path):
    deep = (VALUES * 200).astype("u2")
    real = surface(12, 20).astype("f4")
    for name, pixels in (("a.png", deep), ("b.tif", deep), ("c.tif", real)):
        Image.fromarray(pixels).save(tmp_path / name)
        scan = read_scan(tmp_path / name)
        np.testing.assert_array_equal(scan.heights, pixels)
        assert not any("8 bits" in text for text in scan.warnings)


def test_damaged_pictures_and_stacks_are_refused(tmp_path):
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (40, 50)))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(ScanError, match=r"a.png: is a damaged picture"):
        read_scan(path)
    frame = Image.fromarray(VALUES.astype("u1"))
    frame.save(tmp_path / "a.tif", save_all=True, append_images=[frame])
    with pytest.raises(ScanError, match="holds several pictures. Save one scan per file"):
        read_scan(tmp_path / "a.tif")
