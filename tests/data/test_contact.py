import numpy as np
import pytest
from PIL import Image

from stm_keras.data.contact import BROWN, GAP, HATCH, PAPER, TITLE, contact_sheets, grey
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.errors import OutputError


@pytest.fixture
def dataset():
    images = np.random.default_rng(0).integers(0, 255, (7, 12, 20)).astype("uint8")
    images[1, 5:] = 0
    return Dataset(
        images=images,
        labels=np.array([0, 0, 0, 1, 3, 3, -1]),
        classes=CLASSES,
        lines=np.array([12, 5, 12, 12, 12, 12, 12]),
        name=np.array(["é & <a>" * 9, "b", "c", "d", "e", "f", "g"]),
    )


def size(path):
    with Image.open(path) as picture:
        return picture.size


def test_each_class_that_occurs_has_a_sheet(dataset, tmp_path):
    paths = contact_sheets(dataset, tmp_path / "sheets")
    names = ["0-individual-atoms.png", "1-asymmetries-dimers.png", "3-generic-defects.png"]
    assert [path.name for path in paths] == names
    sizes = [size(path) for path in paths]
    assert sizes[0][0] == 3 * (20 + GAP) + GAP
    assert sizes[2][0] == 2 * (20 + GAP) + GAP


def test_a_sheet_shows_the_scans_and_hatches_what_was_not_recorded(dataset, tmp_path):
    path = contact_sheets(dataset, tmp_path)[0]
    with Image.open(path) as picture:
        sheet = np.asarray(picture)
    first = sheet[TITLE : TITLE + 12, GAP : GAP + 20]
    assert np.array_equal(first, BROWN[grey(dataset.images[0])])
    left = GAP + 20 + GAP
    aborted = sheet[TITLE : TITLE + 12, left : left + 20]
    assert np.array_equal(aborted[:5], BROWN[grey(dataset.images[1][:5])])
    colours = {tuple(c) for c in aborted[5:].reshape(-1, 3).tolist()}
    assert colours == {PAPER, HATCH}


def test_a_sheet_holds_as_many_as_asked_for(dataset, tmp_path):
    paths = contact_sheets(dataset, tmp_path, per_class=1)
    assert {size(path)[0] for path in paths} == {20 + 2 * GAP}


def test_the_same_seed_draws_the_same_scans(dataset, tmp_path):
    sheets = [
        contact_sheets(dataset, tmp_path / str(i), per_class=2, seed=seed)[0].read_bytes()
        for i, seed in enumerate((1, 1))
    ]
    assert sheets[0] == sheets[1]


def test_sheets_are_not_overwritten_unasked(dataset, tmp_path):
    contact_sheets(dataset, tmp_path)
    with pytest.raises(OutputError, match=r"atoms.png: exists already. Add --overwrite"):
        contact_sheets(dataset, tmp_path)
    contact_sheets(dataset, tmp_path, overwrite=True)


def test_a_constant_scan_is_drawn():
    assert (grey(np.full((3, 4), 7.0)) == 0).all()
