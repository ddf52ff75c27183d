"""Codings of labels are never guessed, whatever they come in."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.load import load_dataset
from stm_keras.errors import DatasetError

FOUR = np.arange(8) % 4
FROM_ONE = r"labels seem to count from 1\. They count from 0: subtract 1, or name"
UNNAMED = r"`labels` without `classes` must be 0 to 3 or 0 to 5, each at least once"


def images(count):
    return np.random.default_rng(0).integers(0, 255, (count, 128, 128)).astype("u1")


def to_npz(path, arrays):
    with path.open("wb") as file:
        np.savez(file, images=images(len(arrays["labels"])), **arrays)


def to_hdf5(path, arrays):
    with h5py.File(path, "w") as file:
        file["images"] = images(len(arrays["labels"]))
        for key, array in arrays.items():
            array = np.asarray(array)
            file[key] = array.astype(object) if array.dtype.kind == "U" else array


def to_old_matlab(path, arrays):
    scans = images(len(arrays["labels"])).transpose(1, 2, 0)
    columns = {key: np.asarray(value)[:, None] for key, value in arrays.items()}
    savemat(path, {"images": scans, **columns}, do_compression=True, appendmat=False)


def to_new_matlab(path, arrays):
    """As MATLAB's own save(..., '-v7.3') does: axes reversed, no axis of less than two."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file["images"] = images(len(arrays["labels"])).transpose(0, 2, 1)
        for key, value in arrays.items():
            file[key] = np.asarray(value)[None]
        for member in file.values():
            member.attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(512))


def to_pictures(path, arrays):
    path.mkdir()
    rows = ["file,label"]
    for number, label in enumerate(arrays["labels"]):
        Image.fromarray(images(len(arrays["labels"]))[number]).save(path / f"{number}.png")
        rows.append(f"{number}.png,{label}")
    (path / "labels.csv").write_text("\n".join(rows))


CONTAINERS = [to_npz, to_hdf5, to_old_matlab, to_new_matlab, to_pictures]
CODINGS = {  # name: labels, what the line says
    "1 to 4": (FOUR + 1, FROM_ONE),
    "1 to 6": (np.arange(12) % 6 + 1, FROM_ONE),
    "1 and 3": (np.array([1, 3, 3, 1]), FROM_ONE),
    "no class 0": (np.array([2, 3, 3, 2]), UNNAMED),
    "no class 3": (np.arange(6) % 3, UNNAMED),
    "no class 5": (np.arange(10) % 5, UNNAMED),
    "one class": (np.zeros(4, int), UNNAMED),
    "nine": (np.arange(9), UNNAMED),
    "halves": (FOUR + 0.5, r"`labels` must be whole numbers\. Received: 0\.5 for scan 0"),
}


@pytest.mark.parametrize("write", CONTAINERS, ids=lambda write: write.__name__)
@pytest.mark.parametrize("name", CODINGS)
def test_a_coding_that_is_not_told_is_refused(tmp_path, write, name):
    labels, message = CODINGS[name]
    write(tmp_path / "a", {"labels": labels})
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "a")


@pytest.mark.smoke
@pytest.mark.parametrize("write", CONTAINERS, ids=lambda write: write.__name__)
def test_the_codings_that_are_documented_are_read(tmp_path, write):
    write(tmp_path / "four", {"labels": FOUR})
    four = load_dataset(tmp_path / "four")
    assert (four.classes, four.labels.tolist()) == (CLASSES, FOUR.tolist())
    write(tmp_path / "six", {"labels": np.arange(6)})
    six = load_dataset(tmp_path / "six", merge=False)
    assert (six.classes, six.labels.tolist()) == (SIX_CLASSES, list(range(6)))
    np.testing.assert_array_equal(four.images[:], images(8))


@pytest.mark.parametrize("write", [to_npz, to_hdf5], ids=lambda write: write.__name__)
def test_named_classes_may_have_no_scan_but_not_count_from_1(tmp_path, write):
    write(tmp_path / "a", {"labels": [0, 2, 2], "classes": CLASSES})
    assert load_dataset(tmp_path / "a").counts().tolist() == [1, 0, 2, 0]
    write(tmp_path / "b", {"labels": FOUR + 1, "classes": CLASSES})
    with pytest.raises(DatasetError, match=rf"must be 0 to 3.* {FROM_ONE}"):
        load_dataset(tmp_path / "b")


@pytest.mark.parametrize("write", [to_npz, to_hdf5], ids=lambda write: write.__name__)
def test_votes_show_labels_that_count_from_1(tmp_path, write):
    labels = np.array([0, 1, 2, 2])
    votes = np.eye(4)[labels]
    write(tmp_path / "a", {"labels": labels + 1, "votes": votes})
    with pytest.raises(DatasetError, match=f"{FROM_ONE}.* label 1 for scan 0, and its v"):
        load_dataset(tmp_path / "a")
    write(tmp_path / "b", {"labels": labels, "votes": votes})
    assert load_dataset(tmp_path / "b").labels.tolist() == labels.tolist()


@pytest.mark.parametrize("write", [to_npz, to_hdf5], ids=lambda write: write.__name__)
@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (np.eye(4)[FOUR], r"One-hot labels are `votes`; or save labels\.argmax\(1\)"),
        (FOUR[:, None], r"one axis: labels\.ravel\(\)"),
        (np.array(["rows", "dimers"]), r"Save the number of each scan's class, and the"),
    ],
    ids=["one-hot", "column", "text"],
)
def test_other_codings_say_what_to_save(tmp_path, write, labels, hint):
    write(tmp_path / "a", {"labels": labels})
    with pytest.raises(DatasetError, match=hint):
        load_dataset(tmp_path / "a")


def test_labels_of_lines_that_count_from_1_are_refused(tmp_path):
    lines = np.repeat((FOUR + 1)[:, None], 128, 1)
    to_npz(tmp_path / "a", {"labels": FOUR, "line_labels": lines})
    with pytest.raises(
        DatasetError, match=r"`line_labels` must be whole numbers from -1 to 3"
    ):
        load_dataset(tmp_path / "a")


SAID = {
    "size_nm": [8.0, 6.0],
    "bias": 1.5,
    "channel": "Z",
    "slow": "up",
    "weight": [1.0, 2, 3, 4],
}


@pytest.mark.parametrize("write", [to_npz, to_hdf5])
def test_what_is_alike_for_all_scans_may_be_said_once(tmp_path, write):
    write(tmp_path / "a", {"labels": np.arange(4), **SAID})
    dataset = load_dataset(tmp_path / "a")
    assert dataset.size_nm.tolist() == [[8, 6]] * 4
    assert dataset.bias.tolist() == [1.5] * 4
    assert dataset.channel.tolist() == ["Z"] * 4
    assert dataset.slow.tolist() == ["up"] * 4
    assert dataset.weight.tolist() == [1, 2, 3, 4]
    assert dataset.direction is dataset.unit is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "size_nm",
            np.ones((4, 3)),
            r"`size_nm` must be numbers of shape \(scans, 2\)\. Rec",
        ),
        (
            "size_nm",
            [[1, 1]] * 3 + [[np.inf, 1]],
            r"finite numbers\. Received: inf for scan 3",
        ),
        ("bias", ["a"] * 4, r"`bias` must be numbers of shape \(scans,\)"),
        ("weight", [1, 0, 1, 1], r"finite numbers above 0\. Received: 0 for scan 1"),
        ("weight", [1, np.nan, 1, 1], r"above 0\. Received: nan for scan 1"),
        ("weight", 1.0, r"`weight` must have one entry for each of the 4 scans"),
        ("channel", ["Z"] * 3, r"`channel` must have one entry for each of the 4 scans"),
    ],
)
def test_what_is_said_of_scans_must_make_sense(tmp_path, key, value, message):
    to_npz(tmp_path / "a", {"labels": np.arange(4), key: value})
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "a")
