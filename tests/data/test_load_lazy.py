import multiprocessing
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import stm
from PIL import Image

from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.hdf5_arrays import StoredImages
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.data.raw import StreamedImages
from stm_keras.errors import DatasetError, InputError

SHAPE = (3, 5)
SCANS = 11


@pytest.fixture
def images():
    return np.random.default_rng(1).normal(size=(SCANS, *SHAPE)).astype("f4")


@pytest.fixture
def lazy(tmp_path, images):
    save_dataset(made_up(images), tmp_path / "scans.h5")
    return load_dataset(tmp_path / "scans.h5", lazy_above=images.nbytes - 1, shape=SHAPE)


def made_up(images):
    count = len(images)
    return Dataset(
        images=images,
        labels=np.arange(count) % 4,
        classes=CLASSES,
        lines=np.full(count, images.shape[1]),
    )


INDICES = [
    slice(None),
    slice(2, 9, 3),
    slice(8, 1, -2),
    slice(20, 30),
    [4],
    [7, 2, 2, -1],
    np.array([], int),
    np.arange(SCANS) % 3 == 0,
    -2,
    np.int64(3),
    (slice(1, 4), 2),
    (5, slice(None), 1),
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_is_that_of_an_array(lazy, images, index):
    picked = lazy.images[index]
    np.testing.assert_array_equal(picked, images[index])
    assert picked.dtype == np.float32


@pytest.mark.parametrize("index", [[0, SCANS], SCANS, [[1, 2]], [0.5], np.ones(3, bool)])
def test_indices_that_are_none_are_refused(lazy, index):
    with pytest.raises(IndexError):
        lazy.images[index]


def test_only_large_files_are_lazy(tmp_path, lazy, images):
    assert isinstance(lazy.images, StoredImages)
    assert lazy.images.shape == images.shape
    assert lazy.images.nbytes == images.nbytes
    assert lazy.images.ndim == 3
    small = load_dataset(tmp_path / "scans.h5", lazy_above=images.nbytes, shape=SHAPE)
    assert isinstance(small.images, np.ndarray)
    assert small.digest() == lazy.digest()
    np.testing.assert_array_equal(np.asarray(lazy.images), images)


def test_taking_scans_reads_them(lazy, images):
    taken = lazy.take([6, 1])
    assert isinstance(taken.images, np.ndarray)
    np.testing.assert_array_equal(taken.images, images[[6, 1]])
    assert lazy.single_class().all()


def test_a_pickled_dataset_reads_in_another_process(tmp_path, lazy, images):
    assert lazy.images[0].shape == SHAPE  # the file is open now
    (tmp_path / "set.pickle").write_bytes(pickle.dumps(lazy))
    code = "import pickle, sys; d = pickle.load(open(sys.argv[1], 'rb')); print(d.digest())"
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "set.pickle")],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert found.stdout.strip() == lazy.digest()


def _sum(images, queue):
    queue.put(float(images[:].sum(dtype="f8")))


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")
def test_a_forked_process_opens_the_file_anew(lazy, images):
    assert lazy.images[0].shape == SHAPE
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_sum, args=(lazy.images, queue))
    process.start()
    assert queue.get(timeout=20) == pytest.approx(images.sum(dtype="f8"))
    process.join()


def test_lazy_datasets_are_checked_too(tmp_path, images):
    images[7, 1, 2] = np.inf
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = images, np.arange(SCANS) % 4
    with pytest.raises(
        DatasetError, match="1 of 11 scans hold NaN or inf.*first is scan 7"
    ):
        load_dataset(tmp_path / "a.h5", lazy_above=0, shape=SHAPE)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["images"][7, 1, 2] = 1e30
    with pytest.raises(DatasetError, match="1 of 11 scans hold heights.*first is scan 7"):
        load_dataset(tmp_path / "a.h5", lazy_above=0, shape=SHAPE)


def test_lazy_lines_that_were_not_recorded_read_as_0(tmp_path, images):
    images[7, 1:] = np.nan
    lines = np.full(SCANS, 3)
    lines[7] = 1
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = images, np.arange(SCANS) % 4
        file["lines"] = lines
    lazy = load_dataset(tmp_path / "a.h5", lazy_above=0, shape=SHAPE)
    assert lazy.images[[7]].sum() == pytest.approx(images[7, 0].sum())
    assert lazy.digest() == load_dataset(tmp_path / "a.h5", shape=SHAPE).digest()


@pytest.mark.parametrize("dtype", ["f8", "i2", "u1", "f2", ">f4", "?"])
def test_lazy_and_read_datasets_have_one_dtype(tmp_path, dtype):
    images = (np.arange(SCANS * 15).reshape(SCANS, *SHAPE) % 100).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = images, np.arange(SCANS) % 4
    lazy = load_dataset(tmp_path / "a.h5", lazy_above=0, shape=SHAPE)
    read = load_dataset(tmp_path / "a.h5", shape=SHAPE)
    assert lazy.images.dtype == lazy.images[:2].dtype == read.images.dtype
    assert lazy.digest() == read.digest()


def test_matlab_files_are_lazy_too_and_can_be_converted(tmp_path, images):
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["x_raw"] = images.transpose(2, 0, 1).reshape(5, -1).astype("f8")
        file["y"] = np.eye(4)[:, np.arange(SCANS) % 4]
    lazy = load_dataset(tmp_path / "a.mat", lazy_above=0, shape=SHAPE)
    assert not isinstance(lazy.images, np.ndarray)
    assert lazy.images.dtype == np.float32
    np.testing.assert_array_equal(lazy.images[[9, 0, 4]], images[[9, 0, 4]])
    save_dataset(lazy, tmp_path / "a.h5")
    assert load_dataset(tmp_path / "a.h5", shape=SHAPE).digest() == lazy.digest()


def test_a_file_that_changed_is_not_read(tmp_path, lazy, images):
    save_dataset(made_up(images[:4]), tmp_path / "scans.h5", overwrite=True)
    with pytest.raises(InputError, match=r"changed since it was loaded\. Load it again"):
        lazy.images[0]
    (tmp_path / "scans.h5").unlink()
    with pytest.raises(InputError, match=r"cannot be read \(No such file"):
        lazy.images[0]


def write_pictures(folder, images):
    folder.mkdir()
    lines = ["file,label"]
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:04d}.png")
        lines.append(f"{i:04d}.png,{i % 4}")
    (folder / "labels.csv").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("kind", ["npz", "pictures"])
def test_what_is_larger_than_memory_is_converted_as_the_refusal_says(
    tmp_path, monkeypatch, kind
):
    images = np.random.default_rng(5).integers(0, 250, (80, 128, 128)).astype("u1")
    source = tmp_path / f"scans {kind}"
    if kind == "npz":
        with source.open("wb") as file:
            np.savez_compressed(file, images=images, labels=np.arange(80) % 4)
    else:
        write_pictures(source, images)
    monkeypatch.setenv("STM_KERAS_MEMORY", "1.1MB")
    with pytest.raises(DatasetError, match="1.1 MB are allowed for one file") as error:
        load_dataset(source)
    told = re.search(
        r"run `stm-keras (.*?)`: that is read piece by piece", str(error.value)
    )
    monkeypatch.chdir(tmp_path)
    words = shlex.split(told.group(1))  # as it is pasted into a shell
    assert stm(*words).exit_code == 0
    to = words[-1]
    converted = load_dataset(tmp_path / to)
    assert isinstance(converted.images, StoredImages)
    np.testing.assert_array_equal(converted.images[:], images)
    np.testing.assert_array_equal(converted.labels, np.arange(80) % 4)


def test_columns_cannot_be_streamed_and_are_told_how_to_be(tmp_path, monkeypatch):
    images = np.zeros((80, 128, 128), "u1") + np.arange(128, dtype="u1")
    np.savez_compressed(
        tmp_path / "a.npz", images=np.asfortranarray(images), labels=np.arange(80) % 4
    )
    monkeypatch.setenv("STM_KERAS_MEMORY", "1MB")
    result = stm("convert", tmp_path / "a.npz", "-o", tmp_path / "b.h5")
    assert result.exit_code == 3
    assert "Save numpy.ascontiguousarray(images)" in result.stderr
    monkeypatch.setenv("STM_KERAS_MEMORY", "2.63MB")  # as it says
    assert stm("convert", tmp_path / "a.npz", "-o", tmp_path / "b.h5").exit_code == 0


def test_scans_that_stream_are_read_in_any_order():
    images = np.random.default_rng(6).normal(size=(9, 3, 5))
    images[4, 2] = np.nan
    streamed = StreamedImages(Blocks(images), "f4")
    assert streamed.shape == (9, 3, 5)
    for index in (slice(2, 7), [8, 0, 4], 3):
        wanted = np.nan_to_num(images[index]).astype("f4")
        np.testing.assert_array_equal(streamed[index], wanted)


class Blocks:
    def __init__(self, images):
        self.images, self.shape, self.dtype = images, images.shape, images.dtype

    def blocks(self):
        for start in range(0, len(self.images), 2):
            scans = slice(start, min(start + 2, len(self.images)))
            yield scans, self.images[scans]
