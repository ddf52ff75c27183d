"""Peak memory of loading and saving, measured in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("resource", reason="this system does not tell peak memory")

SCANS = 2400  # of 64 KiB as float32: 157 MB
LIMIT = 1.3
ROOT = Path(__file__).parents[2]
# A process that was just started counts the peak of its parent as its own, so the work is
# done in a fork of it.
MEASURE = """
import os, resource, sys
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
import numpy as np, h5py
from stm_keras.data.load import load_dataset, save_dataset
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * SCALE
SCALE = 1 if sys.platform == "darwin" else 1024
before = peak()
dataset = load_dataset(sys.argv[1], lazy_above=int(float(sys.argv[2])))
if len(sys.argv) > 3:
    save_dataset(dataset, sys.argv[3])
assert dataset.images.shape == (2400, 128, 128)
print((peak() - before) / (2400 * 128 * 128 * 4))
"""


def images():
    scan = np.arange(128 * 128, dtype="f4").reshape(128, 128) % 251
    return scan + np.arange(SCANS, dtype="f4")[:, None, None]


def write_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images(), chunks=(64, 128, 128))
        file["labels"] = np.arange(SCANS) % 4


def write_npz(path):
    with path.open("wb") as stream:
        np.savez(stream, images=images(), labels=np.arange(SCANS) % 4)


def write_matlab(path):
    with h5py.File(path, "w") as file:
        x_raw = images().transpose(2, 0, 1).reshape(128, -1)
        file.create_dataset("x_raw", data=x_raw, dtype="f8", chunks=(128, 1280))
        file["y"] = np.eye(6)[:, np.arange(SCANS) % 4].repeat(128, axis=1)


def share_of_dataset(*arguments):
    found = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert found.returncode == 0, found.stderr
    return float(found.stdout)


@pytest.mark.parametrize("write", [write_hdf5, write_npz, write_matlab])
def test_loading_needs_little_more_than_the_dataset(tmp_path, write):
    write(tmp_path / "scans")
    assert 0.9 < share_of_dataset(tmp_path / "scans", 1e12) < LIMIT
    (tmp_path / "scans").unlink()


def test_heights_that_turn_out_to_need_float64_are_not_in_memory_twice(tmp_path):
    with h5py.File(tmp_path / "scans", "w") as file:
        file.create_dataset("images", data=images(), dtype="f8", chunks=(64, 128, 128))
        file["images"][-1, 5, 6] = 0.1  # only the last scan tells
        file["labels"] = np.arange(SCANS) % 4
    assert 1.9 < share_of_dataset(tmp_path / "scans", 1e12) < 2 * LIMIT
    (tmp_path / "scans").unlink()


@pytest.mark.parametrize("write", [write_hdf5, write_matlab])
def test_a_lazy_dataset_is_never_in_memory(tmp_path, write):
    write(tmp_path / "scans")
    assert share_of_dataset(tmp_path / "scans", 0) < 0.4
    (tmp_path / "scans").unlink()


def test_saving_needs_little_more_than_the_dataset(tmp_path):
    write_hdf5(tmp_path / "scans")
    assert 0.9 < share_of_dataset(tmp_path / "scans", 1e12, tmp_path / "saved.h5") < LIMIT
    for name in ("scans", "saved.h5"):
        (tmp_path / name).unlink()
