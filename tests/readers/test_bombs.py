"""Files that promise more than there is: in processes of their own, whose memory is measured."""

import json
import os
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import bombs
import h5py
import numpy as np
import pytest

from stm_keras.data.load import load_dataset
from stm_keras.errors import DatasetError, NoImageError, ScanError
from stm_keras.readers import read_scan, read_scans

pytest.importorskip("resource", reason="this system does not tell peak memory")

ROOT = Path(__file__).parents[2]
BUDGET, SLACK = 50, 30  # MB
HEIGHTS = np.random.default_rng(0).normal(size=(20, 24)).astype("f4")
# One process for all files; each is read in a fork of it, once as `info` does and once as
# `predict` does, and a crash or a hang ends no more than the fork.
READ = """
import json, os, resource, select, sys, time, warnings
from itertools import islice
from pathlib import Path
import h5py, PIL.Image, scipy.sparse
from stm_keras.errors import StmKerasError
from stm_keras.inference.scan_input import read_scan_inputs
from stm_keras.readers import each_scan
from stm_keras.data.load import load_dataset
warnings.simplefilter("ignore")
UNIT = 1e6 if sys.platform == "darwin" else 1e3
def info(path):
    return sum(1 for _ in each_scan(path)[1])
def predict(path):
    facts = {"pixels": 128, "max_lines": 128, "classes": ()}
    return sum(1 for _ in islice(read_scan_inputs(Path(path), facts), 3))
def dataset(path):
    return len(load_dataset(path, shape=None).images[:])
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT
for path in sys.argv[1:]:
    for read in (dataset,) if "dataset" in path else (info, predict):
        out, into = os.pipe()
        if not os.fork():
            before = peak()
            try:
                told = read(path)
            except StmKerasError as error:
                told = str(error)
            os.write(into, json.dumps([told, peak() - before]).encode())
            os._exit(0)
        os.close(into)
        ready = select.select([out], [], [], 30)[0]
        text = os.read(out, 1 << 16).decode() if ready else "null"
        print(path, read.__name__, text or "null", sep="\\t", flush=True)
"""


def read_apart(*paths, budget=BUDGET):
    """Return what was read and the memory it took: dict of name and command to a pair."""
    told = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "STM_KERAS_MEMORY": f"{budget}MB"},
    )
    assert told.returncode == 0, told.stderr
    rows = [line.split("\t") for line in told.stdout.splitlines()]
    return {(Path(path).name, how): json.loads(text) for path, how, text in rows}


BOMBS = {  # name of the file: how to write it, each hundreds of MB when it is unpacked
    "many.npz": lambda p: bombs.npz(p, (200, 350, 350)),
    "members.npz": lambda p: bombs.npz(
        p, (1000, 1000), "f8", [f"scan_{i}" for i in range(12)]
    ),
    "one.mat": lambda p: bombs.mat5(p, (9000, 9000)),
    "many.mat": lambda p: bombs.mat5(p, (4000, 4000), 6),
    "v73.mat": lambda p: bombs.hdf5(p, (3000, 3000), ["Z", "Current"], "f8", matlab=True),
    "fill.h5": lambda p: bombs.hdf5(p, (8192, 8192), ["Z", "I"], stored=False),
    "images.h5": lambda p: bombs.hdf5(
        p, (600, 600), ["Z", *(f"x{i}" for i in range(63))], "u1"
    ),
    "large.h5": lambda p: bombs.hdf5(p, (4000, 4000), ["Z", "Current"], "f4"),
    "part.h5": lambda p: bombs.hdf5_part(p, (128, 128), 150_000_000),
    "short.h5": lambda p: bombs.hdf5_part(p, (2048, 1024), 64),
    "scan.dat": lambda p: bombs.createc(p, 3500),
    "colour.png": lambda p: bombs.png(p, 3000),
    "grey.png": lambda p: bombs.png(p, 5000, 1),
    "small.png": lambda p: bombs.png(p, 400),
    "f8.tif": lambda p: bombs.tiff(p, 3000),
    "f4.tif": lambda p: bombs.tiff(p, 3000, 32),
    "frames.tif": lambda p: bombs.tiff_loop(p, 20000),
    "huge.npy": lambda p: bombs.sparse_npy(p, (40000, 40000)),
    "blank.txt": lambda p: bombs.blank_text(p, 4_000_000),
    "texts-dataset.h5": lambda p: bombs.hdf5_texts(p, 4000, 200_000),
    "table-dataset.npz": lambda p: bombs.npz(
        p, (25, 1000, 1000), "f4", ["images", "labels"]
    ),
}
FITS = {("many.npz", "info"), ("many.npz", "predict"), ("images.h5", "info")}
FITS |= {("images.h5", "predict"), ("small.png", "info"), ("small.png", "predict")}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    for name, make in BOMBS.items():
        make(folder / name)
    return read_apart(*(folder / name for name in BOMBS))


@pytest.mark.parametrize("name", BOMBS)
def test_no_file_takes_more_memory_than_one_may(read, name):
    for command in ("dataset",) if "dataset" in name else ("info", "predict"):
        told, taken = read[name, command]
        assert taken < BUDGET + SLACK, told
        if (name, command) in FITS:
            assert told in (1, 3, 200)
        else:
            assert isinstance(told, str)
            assert "\n" not in told


def test_a_refusal_says_what_was_needed_and_what_to_do(read):
    told, _ = read["scan.dat", "info"]
    assert told.endswith(
        "scan.dat: needs 98.7 MB of memory or more (unpacked), and 50 MB are allowed for one "
        "file. Set STM_KERAS_MEMORY=124MB, or give smaller scans, or fewer in one file."
    )


def circle(path):
    """Write groups of which each holds all others, so that names have no end."""
    with h5py.File(path, "w") as file:
        groups = [file.create_group(f"g{i}") for i in range(10)]
        for group in groups:
            for i, other in enumerate(groups):
                group[f"n{i}"] = other
        groups[4]["Z"] = HEIGHTS
        file["again"] = groups[4]["Z"]


def damaged_names(path):
    """Write a group of many names, with a wrong byte in their list."""
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(40):
            file.create_group(f"scans/a group of a long name {i}")
        file["Z"] = HEIGHTS
    data = bytearray(path.read_bytes())
    place = data.find(b"FHDB")  # a block of the heap that the names lie in
    assert place > 0
    data[place + 40] ^= 1
    path.write_bytes(data)


def endless_text(path):
    """Write an attribute whose text has four gigabytes, as it says."""
    with h5py.File(path, "w") as file:
        file["Z"] = HEIGHTS
        file.attrs["bias"] = "x" * 77
    data = path.read_bytes()
    place = data.find(struct.pack("<I", 77), data.find(b"bias\0"))
    path.write_bytes(data[:place] + struct.pack("<I", 2**32 - 1) + data[place + 4 :])


def test_what_hdf5_itself_would_not_survive_is_refused_or_read(tmp_path):
    for write in (circle, damaged_names, endless_text):
        write(tmp_path / f"{write.__name__}.h5")
    read = read_apart(*sorted(tmp_path.iterdir()))
    assert read["circle.h5", "info"][0] == 1
    for name in ("damaged_names.h5", "endless_text.h5"):
        told, taken = read[name, "info"]
        assert told == 1 or "is a damaged HDF5 file" in told
        assert taken < BUDGET + 300 if sys.platform == "linux" else True


def test_links_are_not_followed_wherever_they_lead(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["Z"] = HEIGHTS
        file.attrs["NX_class"] = "NXroot"
    with h5py.File(tmp_path / "only.h5", "w") as file:
        file["Z"] = h5py.ExternalLink("other.h5", "/Z")
        file["soft"] = h5py.SoftLink("/Z")
        file["missing"] = h5py.ExternalLink("not there.h5", "/")
    with pytest.raises(NoImageError, match="without an image"):
        read_scan(tmp_path / "only.h5")
    with h5py.File(tmp_path / "only.h5", "a") as file:
        own = file.create_group("scan")
        own["Z"] = HEIGHTS
        own.attrs["axes"] = ["x", "y"]
        own["x"] = h5py.ExternalLink("not there.h5", "/x")
        own["y"] = h5py.SoftLink("/nowhere")
    np.testing.assert_array_equal(read_scan(tmp_path / "only.h5").heights, HEIGHTS)


def test_packed_texts_are_read_and_one_that_stands_for_many_is_charged(
    tmp_path, monkeypatch
):
    names = [f"scan {'x' * i}.sxm" for i in range(100)]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["labels"] = np.zeros((100, 16, 16), "u1"), np.arange(100) % 4
        text = h5py.string_dtype()
        file.create_dataset(
            "name", data=names, dtype=text, chunks=(30,), compression="gzip"
        )
    assert load_dataset(tmp_path / "a.h5", shape=None).name.tolist() == names
    bombs.hdf5_texts(tmp_path / "b.h5", 4000, 200_000)
    monkeypatch.setenv("STM_KERAS_MEMORY", "50MB")
    with pytest.raises(DatasetError, match="needs .* of memory or more"):
        load_dataset(tmp_path / "b.h5", shape=None)


def test_arrays_are_packed_as_hdf5_can_or_refused(tmp_path):
    for packed in (
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "lzf", "shuffle": True},
        {"fletcher32": True, "maxshape": (None, None)},
        {"compression": "lzf", "chunks": (7, 24)},
    ):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file.create_dataset("Z", data=np.round(HEIGHTS), **packed)
        scan = read_scan(tmp_path / "a.h5")
        np.testing.assert_array_equal(scan.heights, np.round(HEIGHTS))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("Z", data=np.arange(600).reshape(20, 30), scaleoffset=0)
    with pytest.raises(
        ScanError, match=r"packed in a way that is not read.*save it with gzip"
    ):
        read_scan(tmp_path / "a.h5")


@pytest.mark.parametrize("packing", ["gzip", "lzf"])
def test_a_part_that_unpacks_to_less_is_no_scan(tmp_path, packing):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("Z", data=HEIGHTS, chunks=(20, 24), compression=packing)
        packed = {"gzip": bombs.deflated(100), "lzf": b"\x03abcd"}[packing]
        data.id.write_direct_chunk((0, 0), packed)
    with pytest.raises(ScanError, match="a part of `/Z` has another size than it says"):
        read_scan(tmp_path / "a.h5")


def test_of_many_images_only_the_one_that_is_meant_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv("STM_KERAS_MEMORY", "20MB")
    images = np.tile(HEIGHTS, (20, 15))
    names = {f"x{i}": images * i for i in range(40)}
    for name, save in (("a.npz", np.savez_compressed), ("b.npz", np.savez)):
        with (tmp_path / name).open("wb") as file:
            save(file, Z=images, **(names if "a" in name else {}))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        for name, image in {"Z": images, **names}.items():
            file.create_dataset(name, data=image, compression="gzip")
    for name in ("a.npz", "b.npz"):
        np.testing.assert_array_equal(read_scan(tmp_path / name).heights, images)
    np.testing.assert_array_equal(read_scan(tmp_path / "c.h5").heights, images)
    np.testing.assert_array_equal(
        read_scan(tmp_path / "c.h5", "x7").heights, (images * 7).astype("f8")
    )


def test_a_list_of_scans_is_charged_for_all_and_one_after_the_other_for_one(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("STM_KERAS_MEMORY", "10MB")
    with (tmp_path / "a.npz").open("wb") as file:
        np.savez(
            file, scans=np.tile(HEIGHTS.astype("i1"), (300, 5, 5)).reshape(300, 100, 120)
        )
    with pytest.raises(ScanError, match=r"all of its scans.*10 MB are allowed"):
        read_scans(tmp_path / "a.npz")


def test_of_a_picture_only_a_second_frame_is_looked_for(tmp_path, monkeypatch):
    from PIL import TiffImagePlugin

    def count(self):
        raise AssertionError("the frames were counted")

    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "n_frames", property(count))
    bombs.tiff_loop(tmp_path / "a.tif", 3)
    with (
        warnings.catch_warnings(),
        pytest.raises(ScanError, match="holds several pictures"),
    ):
        read_scan(tmp_path / "a.tif")
