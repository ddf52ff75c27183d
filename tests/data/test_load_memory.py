"""Peak memory of loading and saving, measured in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("resource", reason="this system does not tell peak memory")

SCANS = 1000  # of 64 KiB as float32: 66 MB, five times the buffers of reading
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
def work(path):
    dataset = load_dataset(path, lazy_above=int(float(sys.argv[2])))
    if len(sys.argv) > 3:
        save_dataset(dataset, sys.argv[3], overwrite=True)
    return dataset
work(sys.argv[1] + "_few")  # whatever is imported on the way
before = peak()
values = np.prod(work(sys.argv[1]).images.shape)
print((peak() - before) / (4 * values))
"""


def images(count):
    scan = np.arange(128 * 128, dtype="f4").reshape(128, 128) % 251
    return scan + np.arange(count, dtype="f4")[:, None, None]


def write_hdf5(path, count):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images(count), chunks=(8, 128, 128))
        file["labels"] = np.arange(count) % 4


def write_npz(path, count):
    with path.open("wb") as stream:
        np.savez(stream, images=images(count), labels=np.arange(count) % 4)


def write_matlab(path, count):
    with h5py.File(path, "w") as file:
        x_raw = images(count).transpose(2, 0, 1).reshape(128, -1)
        file.create_dataset("x_raw", data=x_raw, dtype="f8", chunks=(128, 1280))
        file["y"] = np.eye(6)[:, np.arange(count) % 4].repeat(128, axis=1)


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


def write_float64(path, count):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images(count), dtype="f8", chunks=(8, 128, 128))
        file["images"][-1, 5, 6] = 0.1  # only the last scan tells
        file["labels"] = np.arange(count) % 4


def write_both(write, path):
    """Write the dataset, and one of few scans with which a process warms up."""
    write(path, SCANS)
    write(path.with_name(f"{path.name}_few"), 10)


@pytest.mark.parametrize("write", [write_hdf5, write_npz, write_matlab])
def test_loading_needs_little_more_than_the_dataset(tmp_path, write):
    write_both(write, tmp_path / "scans")
    assert 0.9 < share_of_dataset(tmp_path / "scans", 1e12) < LIMIT
    (tmp_path / "scans").unlink()


def test_heights_that_turn_out_to_need_float64_are_not_in_memory_twice(tmp_path):
    write_both(write_float64, tmp_path / "scans")
    assert 1.9 < share_of_dataset(tmp_path / "scans", 1e12) < 2 * LIMIT
    (tmp_path / "scans").unlink()


@pytest.mark.parametrize("write", [write_hdf5, write_matlab])
def test_a_lazy_dataset_is_never_in_memory(tmp_path, write):
    write_both(write, tmp_path / "scans")
    assert share_of_dataset(tmp_path / "scans", 0) < 0.4
    (tmp_path / "scans").unlink()


def test_saving_needs_little_more_than_the_dataset(tmp_path):
    write_both(write_hdf5, tmp_path / "scans")
    assert 0.9 < share_of_dataset(tmp_path / "scans", 1e12, tmp_path / "saved.h5") < LIMIT
    for name in ("scans", "saved.h5"):
        (tmp_path / name).unlink()
