import os
import subprocess
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import write_dataset

from stm_keras.data.dataset import CLASSES, SIX_CLASSES, Dataset
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.errors import DatasetError, OutputError

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not there")
SHAPE = (4, 7)


def made_up_images(scans=5, dtype="f4"):
    rng = np.random.default_rng(3)
    if dtype == "u1":
        return rng.integers(0, 255, (scans, *SHAPE)).astype("u1")
    return rng.normal(size=(scans, *SHAPE)).astype(dtype)


def full_dataset(dtype="f4"):
    votes = np.array(
        [[1, 0, 0, 0], [0, 0.75, 0, 0.25], [0, 0, 1, 0], [0.5] * 4, [0, 0, 0, 1]]
    )
    return Dataset(
        images=made_up_images(dtype=dtype),
        labels=np.array([0, 1, 2, -1, 3]),
        classes=CLASSES,
        lines=np.array([4, 4, 2, 4, 0]),
        votes=votes.astype("f4"),
        raters=np.array([2, 4, 1, 2, 3]),
        unanimous=np.array([False, False, True, False, True]),
        session=np.array(["2015Sep22-093111", "Größe", "", "a", "a"]),
        campaign=np.array(["one", "two", "two", "one", "one"]),
        run=np.array(["1", "22", "3", "3", "4"]),
        name=np.array(["p/1.png", "b", "c", "d", "e"]),
        line_labels=np.arange(-1, 4).repeat(4).reshape(5, 4).astype("i1"),
        change_line=np.array([-1, 3, 1, -1, 0]),
        parameters={"bias": np.linspace(-2, 2, 5), "tip": np.array(list("abcde"))},
        source="a test",
    )


def assert_same(one, two):
    for field in fields(Dataset):
        first, second = getattr(one, field.name), getattr(two, field.name)
        if field.name == "parameters":
            assert first.keys() == second.keys()
            for key in first:
                np.testing.assert_array_equal(first[key], second[key])
        elif isinstance(first, np.ndarray):
            np.testing.assert_array_equal(first, second)
            assert first.dtype == second.dtype
        else:
            assert first == second


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_every_field_survives_saving(tmp_path, dtype):
    dataset = full_dataset(dtype)
    save_dataset(dataset, tmp_path / "scans.h5")
    loaded = load_dataset(tmp_path / "scans.h5", shape=SHAPE)
    assert_same(dataset, loaded)
    assert loaded.digest() == dataset.digest()


def test_file_tells_what_it_is(tmp_path):
    save_dataset(full_dataset(), tmp_path / "scans.h5")
    with h5py.File(tmp_path / "scans.h5") as file:
        assert file.attrs["format"] == "stm-keras dataset"
        assert file.attrs["version"] == 1
        assert tuple(file.attrs["classes"]) == CLASSES
        assert file.attrs["merged"]
        assert file.attrs["axes"].startswith("scan, line")
        assert file["images"].chunks == (1, *SHAPE)


def test_saving_refuses_an_existing_file_and_replaces_it_when_told(tmp_path):
    path = tmp_path / "scans.h5"
    save_dataset(full_dataset(), path)
    with pytest.raises(OutputError, match="exists already. Add --overwrite"):
        save_dataset(full_dataset(), path)
    save_dataset(full_dataset("u1"), path, overwrite=True)
    assert load_dataset(path, shape=None).images.dtype == np.uint8


def test_saving_refuses_what_could_not_be_loaded(tmp_path):
    dataset = full_dataset()
    with pytest.raises(
        DatasetError, match=r"`lines` must have one entry for each of the 5"
    ):
        save_dataset(replace(dataset, lines=dataset.lines[:3]), tmp_path / "a.h5")
    dataset.images[1, 3, 2] = np.nan
    with pytest.raises(DatasetError, match=r"NaN or inf in recorded lines of scan 1"):
        save_dataset(dataset, tmp_path / "a.h5")
    dataset.images[1, 3, 2] = -1e30
    with pytest.raises(DatasetError, match=r"heights above 1\.8e\+19 in .* of scan 1"):
        save_dataset(dataset, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == []


def test_saving_and_loading_keeps_unanimity_that_merging_hides(tmp_path):
    votes = np.array([[0, 0.5, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]])  # 0.5 hides behind 1
    with h5py.File(tmp_path / "six.h5", "w") as file:
        file["images"], file["votes"] = made_up_images(2), votes
    merged = load_dataset(tmp_path / "six.h5", shape=SHAPE)
    assert merged.unanimous.tolist() == [False, True]
    save_dataset(merged, tmp_path / "four.h5")
    assert load_dataset(tmp_path / "four.h5", shape=SHAPE).unanimous.tolist() == [
        False,
        True,
    ]


def test_merging_later_gives_the_same_as_merging_at_once(tmp_path):
    votes = np.array([[0, 0.6, 0.7, 0, 0, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0.2, 0.8]])
    with h5py.File(tmp_path / "six.h5", "w") as file:
        file["images"], file["votes"] = made_up_images(3), votes
    six = load_dataset(tmp_path / "six.h5", merge=False, shape=SHAPE)
    assert six.classes == SIX_CLASSES
    assert six.labels.tolist() == [-1, -1, 5]
    save_dataset(six, tmp_path / "saved.h5")
    later = load_dataset(tmp_path / "saved.h5", shape=SHAPE)
    at_once = load_dataset(tmp_path / "six.h5", shape=SHAPE)
    assert later.labels.tolist() == at_once.labels.tolist() == [1, -1, 3]
    np.testing.assert_array_equal(later.votes, at_once.votes)
    np.testing.assert_array_equal(at_once.votes, votes[:, [0, 2, 3, 5]])


def test_labels_above_3_mean_six_classes(tmp_path):
    np.savez(tmp_path / "six.npz", images=made_up_images(6), labels=np.arange(6))
    assert load_dataset(tmp_path / "six.npz", shape=SHAPE).labels.tolist() == [
        0,
        1,
        1,
        2,
        3,
        3,
    ]
    six = load_dataset(tmp_path / "six.npz", merge=False, shape=SHAPE)
    assert six.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert six.classes == SIX_CLASSES
    np.savez(tmp_path / "four.npz", images=made_up_images(4), labels=np.arange(4))
    assert load_dataset(tmp_path / "four.npz", shape=SHAPE).labels.tolist() == [0, 1, 2, 3]


def test_names_of_classes_win_over_their_number(tmp_path):
    labels = np.array([0, 1, 2, 3])
    six = ["individual_atoms", "Asymmetries", "dimers", "rows", "tip_change", "bad_blurry"]
    np.savez(tmp_path / "six.npz", images=made_up_images(4), labels=labels, classes=six)
    assert load_dataset(tmp_path / "six.npz", shape=SHAPE).labels.tolist() == [0, 1, 1, 2]
    own = ["good", "bad", "ugly", "worse"]
    np.savez(tmp_path / "own.npz", images=made_up_images(4), labels=labels, classes=own)
    assert load_dataset(tmp_path / "own.npz", shape=SHAPE).classes == tuple(own)


def test_known_classes_in_another_order_are_put_in_ours(tmp_path):
    names = ["rows", "generic defects", "individual atoms", "asymmetries/dimers"]
    votes = np.eye(4)
    np.savez(
        tmp_path / "a.npz",
        images=made_up_images(4),
        votes=votes,
        labels=np.arange(4),
        classes=names,
        line_labels=np.arange(4)[:, None].repeat(4, axis=1),
    )
    dataset = load_dataset(tmp_path / "a.npz", shape=SHAPE)
    assert dataset.classes == CLASSES
    assert dataset.labels.tolist() == [2, 3, 0, 1]
    assert dataset.votes.argmax(1).tolist() == [2, 3, 0, 1]
    assert dataset.line_labels[:, 0].tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", ">f4", "f2", "i2"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_of_any_real_dtype(tmp_path, dtype, save, order):
    images = np.asarray(made_up_images(dtype="u1").astype(dtype), order=order)
    save(tmp_path / "a.bin", images=images, labels=np.arange(5) % 4)
    path = tmp_path / "a.bin.npz"
    dataset = load_dataset(path, shape=SHAPE)
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.images.dtype == (np.uint8 if dtype == "u1" else np.float32)
    assert dataset.lines.tolist() == [4] * 5


def test_heights_that_float32_would_change_stay_float64(tmp_path):
    images = made_up_images(dtype="f8")
    np.savez(tmp_path / "a.npz", images=images, labels=np.zeros(5, int), classes=CLASSES)
    loaded = load_dataset(tmp_path / "a.npz", shape=SHAPE)
    assert loaded.images.dtype == np.float64
    np.testing.assert_array_equal(loaded.images, images)


def test_npz_may_hold_all_that_hdf5_holds(tmp_path):
    dataset = full_dataset()
    arrays = {
        f.name: value
        for f in fields(Dataset)
        if isinstance(value := getattr(dataset, f.name), np.ndarray)
    }
    arrays["labels"] = np.maximum(dataset.labels, 0)
    np.savez(tmp_path / "a.npz", **arrays, classes=np.array(CLASSES), source="a test")
    loaded = load_dataset(tmp_path / "a.npz", shape=SHAPE)
    assert_same(replace(dataset, labels=arrays["labels"], parameters={}), loaded)


def test_lines_that_were_not_recorded_may_hold_nan_and_become_0(tmp_path):
    images = made_up_images()
    images[2, 3:] = np.nan
    lines = np.array([4, 4, 3, 4, 4])
    labelled = {"labels": np.zeros(5, int), "classes": CLASSES, "lines": lines}
    np.savez(tmp_path / "a.npz", images=images, **labelled)
    loaded = load_dataset(tmp_path / "a.npz", shape=SHAPE)
    assert (loaded.images[2, 3:] == 0).all()
    np.testing.assert_array_equal(loaded.images[2, :3], images[2, :3])


def write_matlab(path, images, y, **options):
    scans, lines, pixels = images.shape
    with h5py.File(path, "w", userblock_size=512) as file:
        x_raw = images.transpose(2, 0, 1).reshape(pixels, scans * lines)
        file.create_dataset("x_raw", data=x_raw.astype("f8"), **options)
        file["y"] = y
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    return path


def test_matlab_lines_become_rows_and_pixels_columns(tmp_path):
    images = np.zeros((3, *SHAPE), "f4")
    images[1, 2, :] = np.arange(1, 8)  # one line of scan 1, rising along the fast axis
    y = np.eye(4)[:, [3, 0, 2]].repeat(4, axis=1)
    path = write_matlab(tmp_path / "raw.mat", images, y)
    with h5py.File(path) as file:
        assert file["x_raw"].shape == (7, 12)
        assert file["x_raw"][:, 1 * 4 + 2].tolist() == [1, 2, 3, 4, 5, 6, 7]
    dataset = load_dataset(path, shape=SHAPE)
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.images.dtype == np.float32
    assert dataset.labels.tolist() == [3, 0, 2]


def test_matlab_lines_of_other_pixels_make_squares(tmp_path):
    images = np.random.default_rng(3).normal(size=(3, 40, 40)).astype("f4")
    path = write_matlab(tmp_path / "raw.mat", images, np.eye(4)[:, [3, 0, 2]])
    np.testing.assert_array_equal(load_dataset(path).images, images)


@pytest.mark.smoke
def test_matlab_and_npz_of_the_same_scans_are_the_same_dataset(tmp_path):
    images, labels = made_up_images(6), np.array([5, 0, 3, 1, 4, 2])
    np.savez(tmp_path / "a.npz", images=images, labels=labels.astype("i4"))
    y = np.eye(6)[labels].T.repeat(4, axis=1)
    write_matlab(tmp_path / "a.mat", images, y, chunks=(7, 8), compression="gzip")
    npz, mat = (load_dataset(tmp_path / name, shape=SHAPE) for name in ("a.npz", "a.mat"))
    assert npz.digest() == mat.digest()
    save_dataset(mat, tmp_path / "a.h5")
    assert load_dataset(tmp_path / "a.h5", shape=SHAPE).digest() == npz.digest()


def test_matlab_votes_and_labels_per_scan(tmp_path):
    votes = np.array([[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0.5, 0.5, 0, 0]])
    for name, columns in (("scan.mat", votes.T), ("line.mat", votes.T.repeat(4, axis=1))):
        path = write_matlab(tmp_path / name, made_up_images(3), columns)
        dataset = load_dataset(path, shape=SHAPE)
        assert dataset.labels.tolist() == [0, 1, -1]
        np.testing.assert_array_equal(dataset.votes, votes.astype("f4"))


@pytest.mark.parametrize("name", ["scans.npz", "scans.mat", "scans", "scans.png"])
def test_content_counts_and_not_the_suffix(tmp_path, name):
    save_dataset(full_dataset(), tmp_path / "x.h5")
    (tmp_path / "x.h5").rename(tmp_path / name)
    assert len(load_dataset(str(tmp_path / name), shape=SHAPE)) == 5


def test_a_source_that_is_no_text_is_none(tmp_path):
    path = write_dataset(tmp_path / "a.h5", count=4)
    with h5py.File(path, "r+") as file:
        file.attrs["source"] = np.uint64(7)
    assert load_dataset(path).source == str(path)


def test_labels_in_hdf5_without_lines(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = made_up_images(), [0, 1, 0, 1, 1]
        file["labels"].attrs["classes"] = ["sharp", "blunt"]
        file["session"], file["run"] = [b"x"] * 5, np.arange(5)
    dataset = load_dataset(tmp_path / "a.h5", shape=SHAPE)
    assert dataset.classes == ("sharp", "blunt")
    assert dataset.lines.tolist() == [4] * 5
    assert dataset.session.tolist() == ["x"] * 5
    assert dataset.run.tolist() == ["0", "1", "2", "3", "4"]
    assert dataset.unanimous is None
    assert dataset.source == str(tmp_path / "a.h5")


def test_an_npz_with_a_bad_extra_array_is_read_without_it(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=made_up_images(), labels=np.arange(5) % 4)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "by hand")
    assert len(load_dataset(path, shape=SHAPE)) == 5


@needs_shared
def test_real_matlab_and_npz_files_are_the_same_dataset():
    mat = load_dataset(SHARED / "raw_sample.mat")
    npz = load_dataset(SHARED / "processed_sample.npz")
    assert mat.digest() == npz.digest()
    assert mat.images.shape == (60, 128, 128)
    assert mat.images.dtype == np.float32
    assert mat.counts().tolist() == [10, 20, 10, 20]


@needs_shared
def test_nottingham_scans():
    dataset = load_dataset(SHARED / "nottingham.h5")
    assert dataset.images.shape == (4142, 128, 128)
    assert dataset.images.dtype == np.uint8
    assert dataset.counts().tolist() == [157, 1272, 450, 1150]
    assert dataset.consensus().sum() == 807
    assert len(np.unique(dataset.session)) == 27
    assert dataset.classes == CLASSES


def test_a_full_disk_gives_one_line_and_leaves_nothing(tmp_path):
    pytest.importorskip("resource", reason="this system does not limit file sizes")
    code = (
        "import resource, sys, numpy as np\n"
        "from stm_keras.data.dataset import Dataset\n"
        "from stm_keras.data.load import save_dataset\n"
        "noise = np.random.default_rng(0).integers(0, 255, (9, 60, 70)).astype('u1')\n"
        "zeros = np.zeros(9, int)\n"
        "dataset = Dataset(noise, zeros, ('a', 'b'), zeros)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n    save_dataset(dataset, sys.argv[1])\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    root = Path(__file__).parents[2]
    for limit in (500, 20_000, 38_500):  # in the header, the images and the rest
        found = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.h5"), str(limit)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert found.returncode == 0, found.stderr
        assert found.stdout.startswith(
            f"OutputError {tmp_path}/a.h5: cannot be written (File"
        )
        assert found.stdout.count("\n") == 1
        assert found.stderr == ""
        assert list(tmp_path.iterdir()) == []
