import numpy as np
import pytest
from PIL import Image

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.errors import DatasetError


def ramp(lines, pixels, dtype="u1"):
    """Heights that rise along the fast axis and step half way down."""
    heights = (
        np.linspace(20, 150, pixels)[None]
        + np.where(np.arange(lines) < lines / 2, 0, 80)[:, None]
    )
    return heights.astype(dtype)


def brown(heights):
    v = heights.astype(int)
    channels = [np.minimum(2 * v, 255), v, np.maximum(2 * v - 256, 0)]
    return np.stack(channels, axis=2).astype("u1")


@pytest.fixture
def folder(tmp_path):
    Image.fromarray(ramp(128, 128)).save(tmp_path / "a.png")
    Image.fromarray(brown(ramp(128, 128))).save(tmp_path / "b.bmp")
    (tmp_path / "day").mkdir()
    Image.fromarray(brown(ramp(300, 300))).save(tmp_path / "day" / "c.tif")
    write(
        tmp_path,
        "file,label,session\na.png,individual atoms,x\nb.bmp,generic defects,y\nday/c.tif,rows,y\n",
    )
    return tmp_path


def write(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")


def check_line(path, message):
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(path)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_folder_of_pictures(folder):
    dataset = load_dataset(folder)
    assert dataset.images.shape == (3, 128, 128)
    assert dataset.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.images[0], ramp(128, 128))
    np.testing.assert_array_equal(dataset.images[1], ramp(128, 128))
    resampled = dataset.images[2].astype(int) - ramp(128, 128)
    away_from_edges = np.delete(resampled[:, 2:-2], [63, 64], axis=0)
    assert np.abs(away_from_edges).max() <= 1
    assert dataset.labels.tolist() == [0, 3, 2]
    assert dataset.lines.tolist() == [128, 128, 128]
    assert dataset.session.tolist() == ["x", "y", "y"]
    assert dataset.name.tolist() == ["a.png", "b.bmp", "c.tif"]
    assert dataset.classes == CLASSES


def test_the_table_itself_may_be_given(folder):
    assert load_dataset(folder / "labels.csv").digest() == load_dataset(folder).digest()


def test_pictures_can_be_converted(folder):
    dataset = load_dataset(folder)
    save_dataset(dataset, folder / "scans.h5")
    assert load_dataset(folder / "scans.h5").digest() == dataset.digest()


@pytest.mark.parametrize(("height", "lines"), [(300, 128), (150, 64), (100, 43), (1, 1)])
def test_a_picture_that_is_less_high_than_wide_is_an_aborted_scan(tmp_path, height, lines):
    Image.fromarray(np.full((height, 300), 77, "u1")).save(tmp_path / "a.png")
    write(tmp_path, "file,label\na.png,rows\n")
    dataset = load_dataset(tmp_path)
    assert dataset.lines.tolist() == [lines]
    assert (dataset.images[0, :lines] == 77).all()
    assert (dataset.images[0, lines:] == 0).all()


def test_deep_pictures_become_float32(tmp_path):
    Image.fromarray(ramp(128, 128, "u2") * 256).save(tmp_path / "a.png")
    Image.fromarray(ramp(128, 128, "f4") / 7).save(tmp_path / "b.tif")
    Image.fromarray(ramp(128, 128)).save(tmp_path / "c.png")
    write(tmp_path, "file,label\na.png,rows\nb.tif,rows\nc.png,rows\n")
    dataset = load_dataset(tmp_path)
    assert dataset.images.dtype == np.float32
    np.testing.assert_array_equal(dataset.images[0], ramp(128, 128, "u2") * 256.0)
    np.testing.assert_array_equal(dataset.images[1], ramp(128, 128, "f4") / 7)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "I", "F"])
def test_every_mode_of_a_grey_picture(tmp_path, mode):
    grey = np.where(np.arange(128) < 50, 0, 255).astype("u1")[None].repeat(128, axis=0)
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.tif")
    write(tmp_path, "file,label\na.tif,rows\n")
    np.testing.assert_array_equal(load_dataset(tmp_path).images[0], grey)


def test_unknown_colours_are_told(tmp_path):
    colours = np.zeros((128, 128, 3), "u1")
    colours[:, :, 1], colours[:, :, 2] = ramp(128, 128), 200
    Image.fromarray(colours).save(tmp_path / "a.png")
    Image.fromarray(ramp(128, 128)).save(tmp_path / "b.png")
    write(tmp_path, "file,label\na.png,rows\nb.png,rows\n")
    with pytest.warns(UserWarning, match=r"a\.png: unknown colours, as in 1 of 2 pictures"):
        dataset = load_dataset(tmp_path)
    np.testing.assert_array_equal(dataset.images[0], ramp(128, 128))


def test_votes_may_be_of_six_classes_in_any_order(folder):
    write(
        folder,
        "tip_change;bad_blurry;Individual Atoms;rows;dimers;asymmetries;file;raters\n"
        "0;0;1;0;0;0;a.png;3\n0;0.5;0;0;0;0.5;b.bmp;2\n0;0;0;0;1;0.25;day/c.tif;4\n",
    )
    six = load_dataset(folder, merge=False)
    assert six.classes == SIX_CLASSES
    assert six.labels.tolist() == [0, -1, 2]
    assert six.votes[2].tolist() == [0, 0.25, 1, 0, 0, 0]
    four = load_dataset(folder)
    assert four.labels.tolist() == [0, -1, 1]
    assert four.raters.tolist() == [3, 2, 4]
    assert four.unanimous.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["individual atoms", "Asymmetries/Dimers", "rows"], [0, 1, 2]),
        (["tip_change", "dimers", "rows"], [3, 1, 2]),
        (["tip change", "bad/blurry", "asymmetries"], [3, 3, 1]),
    ],
)
def test_labels_are_names_of_four_or_six_classes(folder, labels, found):
    files = ["a.png", "b.bmp", "day/c.tif"]
    rows = "\n".join(f"{file}\t{label}" for file, label in zip(files, labels, strict=True))
    write(folder, f"\ufefffile\tlabel\n\n{rows}\n\n")
    assert load_dataset(folder).labels.tolist() == found


def test_labels_may_be_of_classes_of_ones_own_in_order_of_appearance(folder):
    write(
        folder,
        "path,label,weight\nb.bmp,sharp,1\na.png,Double tip,2\nday/c.tif,sharp,0.5\n",
    )
    dataset = load_dataset(folder)
    assert dataset.classes == ("sharp", "Double tip")
    assert dataset.labels.tolist() == [0, 1, 0]
    assert dataset.weight.tolist() == [1, 2, 0.5]
    given = load_dataset(folder, classes=("blunt", "double tip", "sharp"))
    assert given.labels.tolist() == [2, 1, 2]
    write(folder, "path,blunt,sharp\na.png,0,1\nb.bmp,0.75,0.25\n")
    voted = load_dataset(folder, classes=("blunt", "sharp"))
    assert voted.votes.tolist() == [[0, 1], [0.75, 0.25]]


def test_one_of_several_tables_is_called_labels(folder):
    write(folder, "x", "other.csv")
    assert len(load_dataset(folder)) == 3
    (folder / "labels.csv").rename(folder / "more.csv")
    check_line(folder, r"several CSV files \(more\.csv, other\.csv\)\. Name one of them")


BAD_TABLES = {
    "nothing": ("", r"no column `path`\. Found: nothing"),
    "columns": ("name,label\na.png,0\n", r"no column `path`\. Found: `name`, `label`"),
    "no labels": ("file,session\na.png,0\n", r"has no labels\. A CSV file has a column"),
    "some votes": (
        "file,rows,dimers\na.png,0,1\n",
        r"no column `individual atoms`\. Votes",
    ),
    "no rows": ("file,label\n", r"names no file\. A dataset has at least one"),
    "twice": ("file,label\na.png,0\na.png,1\n", r"names the picture a\.png twice"),
    "two columns": ("file,label,Label\na.png,0,1\n", r"two columns `label`"),
    "cells": ("file,label\na.png,0\nb.bmp\n", r"line 3 has 1 cells for 2 columns"),
    "no name": ("file,label\n,0\n", r"line 2 has 2 cells .* or names no file"),
    "absent": ("file,label\na.png,0\nz.png,1\n", r"line 3: there is no picture .*z\.png"),
    "class": (
        "file,label\na.png,atom\n",
        r"knows no class but atom\. A dataset has two or more",
    ),
    "mixed": (
        "file,label\na.png,dimers\nb.bmp,generic defects\n",
        r"mixes the names of four",
    ),
    "slip": (
        "file,label\na.png,rows\nb.bmp,asymmetry\n",
        r"line 3: 'asymmetry' may be a slip for 'asymmetries'\. Mend it",
    ),
    "weight": ("file,label,weight\na.png,rows,0\n", r"`weight` must be finite .* above 0"),
    "no label": ("file,label\na.png,\nb.bmp,rows\n", r"line 2: names no class"),
    "label 6": (
        "file,label\na.png,6\n",
        r"without `classes` must be 0 to 3 or 0 to 5, each .* Received: 6\.",
    ),
    "label 1.5": ("file,label\na.png,1.5\n", r"`labels` must be whole numbers"),
    "label nan": ("file,label\na.png,nan\n", r"`labels` must be whole numbers"),
    "raters": (
        "file,label,raters\na.png,1,two\n",
        r"line 2: `raters` must be a number.*'two'",
    ),
    "lines": (
        "file,label,lines\na.png,rows,300\n",
        r"`lines` must be whole.* from 0 to 128",
    ),
    "votes": (
        "file,individual atoms,asymmetries/dimers,rows,generic defects\na.png,0,2,0,0\n",
        r"`votes` are shares of raters",
    ),
    "bytes": (b"file,label\n\xff\xfe,1\n", r"is not CSV text in UTF-8"),
    "long": ("file,label\n" + "a" * 200_000 + ",1\n", r"is not CSV text .*field larger"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_gives_one_line(folder, name):
    content, message = BAD_TABLES[name]
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "labels.csv").write_bytes(content)
    check_line(folder, message)


def png(path, heights):
    Image.fromarray(heights).save(path, format="PNG")


def stack(path):
    frames = [Image.fromarray(ramp(9, 9)) for _ in range(3)]
    frames[0].save(path, format="TIFF", save_all=True, append_images=frames[1:])


def cut(path):
    png(path, np.random.default_rng(0).integers(0, 255, (128, 128)).astype("u1"))
    path.write_bytes(path.read_bytes()[:-3000])


BAD_PICTURES = {
    "high": (lambda path: png(path, ramp(50, 40)), r"higher than wide \(40 x 50 pixels\)"),
    "stack": (stack, r"holds several pictures\. Save one scan per file"),
    "cut": (cut, r"x\.png: is damaged or not a PNG"),
    "text": (lambda path: path.write_text("hello"), r"x\.png: is damaged or not a PNG"),
    "gif": (
        lambda path: Image.fromarray(ramp(9, 9)).save(path, format="GIF"),
        r"is damaged or not a PNG, TIFF, JPEG or BMP",
    ),
    "large": (
        lambda path: png(path, np.zeros((9000, 9000), "u1")),
        r"a picture of 9000 x 9000 pixels.*allowed for one file",
    ),
    "NaN": (
        lambda path: Image.fromarray(np.full((9, 9), np.nan, "f4")).save(
            path, format="TIFF"
        ),
        r"1 of 2 scans hold NaN or inf",
    ),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_gives_one_line(tmp_path, name):
    make, message = BAD_PICTURES[name]
    make(tmp_path / "x.png")
    png(tmp_path / "good.png", ramp(128, 128))
    write(tmp_path, "file,label\nx.png,rows\ngood.png,rows\n")
    check_line(tmp_path, message)
