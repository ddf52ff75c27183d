"""A table of bad files, and the one line each gives."""

import io
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from stm_keras.data.dataset import CLASSES
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.errors import DatasetError, InputError

SHAPE = (4, 6)
IMAGES = np.arange(3 * 24, dtype="f4").reshape(3, *SHAPE)
GOOD = {"images": IMAGES, "labels": np.array([0, 1, 2]), "classes": np.array(CLASSES)}
X_RAW = IMAGES.transpose(2, 0, 1).reshape(6, 12)
Y = np.eye(4)[:, :3].repeat(4, axis=1)


def with_nan(value=np.nan, dtype="f4"):
    images = IMAGES.astype(dtype)
    images[1, 2, 3] = images[2, 0, 0] = value
    return images


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


BAD_ARRAYS = {  # name: what differs from GOOD, what the line says
    "no images": ({"images": None}, r"has no `images`\. Found: .*`labels`"),
    "no labels": ({"labels": None}, r"neither `labels` nor `votes`\. Found: .*`images`"),
    "2-D": ({"images": IMAGES[0]}, r"shape \(scans, 4, 6\): 4 lines of 6.*\(4, 6\)"),
    "turned": ({"images": IMAGES.transpose(0, 2, 1)}, r"Received: shape \(3, 6, 4\)"),
    "empty": (
        {"images": IMAGES[:0], "labels": np.zeros(0, int)},
        r"is empty.*at least",
    ),
    "complex": ({"images": IMAGES * 1j}, r"complex64"),
    "text": ({"images": np.array(["a", "b", "c"])}, r"`images`.*(numbers|text)"),
    "lengths": (
        {"labels": np.arange(2)},
        r"`labels` must have one entry.*3 scans.*\(2,",
    ),
    "one-hot": ({"labels": np.eye(3)}, r"`labels` must have shape \(3,\).*\(3, 3\)"),
    "scalar": ({"labels": np.array(1)}, r"`labels` must have one entry for each of the 3"),
    "NaN": ({"images": with_nan()}, r"2 of 3 scans hold NaN or inf.*first is scan 1"),
    "inf": ({"images": with_nan(-np.inf)}, r"2 of 3 scans hold NaN or inf.*`lines`"),
    "1e200": (
        {"images": with_nan(1e200, "f8")},
        r"2 of 3 scans hold heights above 1\.8e\+19",
    ),
    "-1e20": ({"images": with_nan(-1e20)}, r"the first is scan 1\. .* in metres"),
    "NaN in float64": ({"images": with_nan().astype("f8") / 3}, r"2 of 3 scans hold NaN"),
    "label 9": ({"labels": np.array([0, 9, 1])}, r"`labels` must be 0 to 3.* 9 for scan 1"),
    "label -1": ({"labels": np.array([0, 1, -1])}, r"0 to 3.*Received: -1 for scan 2"),
    "label 1.5": ({"labels": np.array([0, 1.5, 1])}, r"whole numbers\. Received: 1\.5"),
    "label NaN": ({"labels": np.array([0, 1, np.nan])}, r"Received: nan for scan 2"),
    "label inf": ({"labels": np.array([0, 1, np.inf])}, r"Received: inf for scan 2"),
    "label text": (
        {"labels": np.array(["a", "b", "c"])},
        r"`labels` must be whole",
    ),
    "classes": ({"classes": np.array(["a", "b"])}, r"`labels` must be 0 to 1.*a, b"),
    "same classes": (
        {"classes": np.array(["a", "A", "b"])},
        r"two or more different",
    ),
    "lines": (
        {"lines": np.array([4, 5, 1])},
        r"`lines` .* from 0 to 4.*: 5 for scan 1",
    ),
    "raters": ({"raters": np.array([1, -1, 1])}, r"`raters` .* from 0. Received: -1"),
    "session": ({"session": np.array(["a", "b"])}, r"`session` must have one entry"),
    "line labels": ({"line_labels": np.zeros((3, 9), int)}, r"`line_labels`.*\(3, 4\)"),
    "change line": ({"change_line": np.array([0, 1, 7])}, r"`change_line` .* from -1 to 4"),
    "unanimous": ({"unanimous": np.array([0, 1, 2])}, r"`unanimous` .* from 0 to 1"),
    "votes 2": ({"votes": np.eye(3, 4) * 2}, r"`votes` are shares.*2, 0, 0, 0 for scan 0"),
    "votes NaN": (
        {"votes": np.full((3, 4), np.nan)},
        r"`votes` are shares of raters",
    ),
    "votes 1-D": (
        {"votes": np.zeros(3)},
        r"`votes` must be numbers of shape",
    ),
    "5 votes": (
        {"votes": np.eye(3, 5), "classes": None},
        r"`votes` has 5 columns, 6 or 4 are known",
    ),
    "2 names": (
        {"votes": np.eye(3, 4), "classes": np.array(["a", "b", "c"])},
        r"`votes` has 4 columns for 3 classes",
    ),
}


@pytest.mark.parametrize("kind", ["npz", "hdf5"])
@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_arrays_that_do_not_fit_give_one_line(tmp_path, kind, name):
    changes, message = BAD_ARRAYS[name]
    arrays = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    path = tmp_path / "bad"
    if kind == "npz":
        with path.open("wb") as stream:
            np.savez(stream, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, array in arrays.items():
                file[key] = array.astype(object) if array.dtype.kind == "U" else array
    check_line(path, message)


def check_line(path, message, kind=DatasetError, **options):
    with pytest.raises(kind, match=message) as caught:
        load_dataset(path, **{"shape": SHAPE, **options})
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    assert caught.value.exit_code == 3


def npz_bytes(save=np.savez, **arrays):
    stream = io.BytesIO()
    save(stream, **(arrays or GOOD))
    return stream.getvalue()


def hdf5_bytes(matlab=False, **arrays):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for key, array in (arrays or GOOD).items():
            file[key] = array.astype(object) if array.dtype.kind == "U" else array
    return (b"MATLAB 7.3 MAT-file".ljust(512) if matlab else b"") + stream.getvalue()


def promising_npz():
    """An archive whose header promises a terabyte."""
    header = io.BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": (10**8, 128, 128)}
    np.lib.format.write_array_header_1_0(header, description)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        archive.writestr("labels.npy", b"")
    return stream.getvalue()


def lying_npz():
    """An archive whose directory promises more than its bytes can become."""
    data = bytearray(npz_bytes(np.savez_compressed))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (2**31).to_bytes(4, "little")
    return bytes(data)


def damaged_npz():
    data = bytearray(npz_bytes())
    data[300] ^= 255
    return bytes(data)


def letterless_npz():
    days = np.full(len(GOOD["labels"]), 0x7FFFFFFF, "u4").view("U1")
    return npz_bytes(**GOOD, session=days)


def encrypted_npz():
    data = bytearray(npz_bytes())
    data[6] |= 1
    entry = data.index(b"PK\x01\x02")
    data[entry + 8] |= 1
    return bytes(data)


BAD_BYTES = {  # name: content, what the line says
    "no bytes": (b"", r"is empty"),
    "noise": (
        bytes(range(256)),
        r"unknown format\. Scans: Nanonis .* Datasets: HDF5, NPZ, MATLAB",
    ),
    "text": (b"Dear all,\nplease find attached", r"unknown format"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid", r"Run: git lfs pull"),
    "old MATLAB": (b"MATLAB 5.0 MAT-file, Platform", r"has no `x_raw`\. Found: nothing"),
    "pickle": (b"\x80\x04\x95", r"Python pickle, which is never opened"),
    "npy": (b"\x93NUMPY\x01\x00", r"one bare array\. Save images and labels with"),
    "picture": (b"\x89PNG\r\n\x1a\n", r"one picture\. Give the folder"),
    "gzip": (b"\x1f\x8b\x08", r"gzip archive\. Unpack"),
    "cut HDF5": (hdf5_bytes()[:-100], r"damaged, cut short"),
    "no letters": (letterless_npz(), r"`session` is damaged: no letters"),
    "cut MATLAB": (hdf5_bytes(True, x_raw=X_RAW, y=Y)[:-100], r"damaged, cut short"),
    "MATLAB header": (
        b"MATLAB 7.3 MAT-file".ljust(512),
        r"cut short: a MATLAB header",
    ),
    "cut NPZ": (npz_bytes()[:-30], r"cannot be read \("),
    "cut packed NPZ": (npz_bytes(np.savez_compressed)[:200], r"cannot be read \("),
    "damaged NPZ": (damaged_npz(), r"cannot be read \(Bad CRC-32"),
    "encrypted NPZ": (encrypted_npz(), r"cannot be read .*encrypted"),
    "promising NPZ": (promising_npz(), r"`(images|labels)`.*(declares|not a plain)"),
    "lying NPZ": (lying_npz(), r"declares 2147483648 bytes, but only"),
    "objects": (
        npz_bytes(**{**GOOD, "labels": np.array([0, 1, None])}),
        r"`labels` holds Python objects.*refused",
    ),
    "keys": (npz_bytes(x=IMAGES, y=IMAGES), r"has no `images`\. Found: `x`, `y`"),
    "HDF5 keys": (hdf5_bytes(x=IMAGES, y=IMAGES), r"has no `images`\. Found: `x`, `y`"),
    "many keys": (npz_bytes(**{f"k{i}": Y for i in range(30)}), r"`k0`, .*`k19`, 10 more"),
    "key of two lines": (npz_bytes(**{"a\nb": Y}), r"Found: `a\\nb`"),
    "MATLAB keys": (hdf5_bytes(True, z=X_RAW), r"has no `x_raw`\. Found: `z`"),
    "no y": (hdf5_bytes(True, x_raw=X_RAW), r"has no `y`\. Found: `x_raw`"),
    "x_raw": (
        hdf5_bytes(True, x_raw=X_RAW[:, :-1], y=Y),
        r"`x_raw` .* 4 columns per scan.*\(6, 11\)",
    ),
    "x_raw turned": (
        hdf5_bytes(True, x_raw=X_RAW.T[:, :4], y=Y),
        r"`x_raw` must have one row per pixel and 12 columns per scan",
    ),
    "y": (
        hdf5_bytes(True, x_raw=X_RAW, y=Y[:, :-1]),
        r"`y` must have 6 or 4 rows.* 12 columns.* or 3,.*\(4, 11\)",
    ),
    "y classes": (hdf5_bytes(True, x_raw=X_RAW, y=Y[:3]), r"`y` must have 6 or 4 rows"),
    "y lines": (
        hdf5_bytes(True, x_raw=X_RAW, y=changed(Y, (slice(None), 6), [0, 0, 0, 1])),
        r"line 2 of scan 1 has \[0 0 0 1\], line 0 has \[0 1 0 0\]",
    ),
    "y NaN line": (
        hdf5_bytes(True, x_raw=X_RAW, y=changed(Y, (0, 6), np.nan)),
        "nan 1 0",
    ),
    "y NaN": (
        hdf5_bytes(True, x_raw=X_RAW, y=changed(Y, (0, slice(4, 8)), np.nan)),
        r"`votes` are shares.*nan, 1, 0, 0 for scan 1",
    ),
    "y text": (hdf5_bytes(True, x_raw=X_RAW, y=Y.astype("S1")), r"`y` must hold numbers"),
    "no image rows": (b"file;label\n", r"names no file"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_content_that_is_no_dataset_gives_one_line(tmp_path, name):
    content, message = BAD_BYTES[name]
    path = tmp_path / "bad"
    path.write_bytes(content)
    check_line(path, message)


def linked(file, path):
    del file["labels"]
    file["labels"] = h5py.ExternalLink(path.with_name("other.h5"), "labels")


def linked_inside(file, path):
    file["other"] = np.zeros(3)
    del file["labels"]
    file["labels"] = h5py.SoftLink("/other")


def stored_outside(file, path):
    del file["images"]
    raw = path.with_name("raw.bin")
    raw.write_bytes(IMAGES.tobytes())
    outside = [(str(raw), 0, IMAGES.nbytes)]
    file.create_dataset("images", IMAGES.shape, "f4", external=outside)


def virtual(file, path):
    del file["images"]
    layout = h5py.VirtualLayout(IMAGES.shape, "f4")
    layout[:] = h5py.VirtualSource(path.with_name("other.h5"), "images", IMAGES.shape)
    file.create_virtual_dataset("images", layout)


def promising(file, path):
    del file["images"]
    file.create_dataset("images", (10**8, *SHAPE), "f4", chunks=(1, *SHAPE))


def promising_packed(file, path):
    del file["images"]
    file.create_dataset("images", (10**8, *SHAPE), "f4", compression="gzip")[5] = 1


def promising_votes(file, path):
    file.create_dataset("votes", (10**12, 4), "f4", chunks=(10, 4))


def grouped(file, path):
    del file["images"]
    file.create_group("images")


def nothing(file, path):
    del file["images"]
    file["images"] = h5py.Empty("f4")


def with_records(file, path):
    del file["labels"]
    file["labels"] = np.zeros(3, [("a", "i4")])


def with_ragged_arrays(file, path):
    del file["labels"]
    file.create_dataset("labels", (3,), h5py.vlen_dtype("i4"))


def newer(file, path):
    file.attrs["format"], file.attrs["version"] = "stm-keras dataset", 7


def no_utf8(file, path):
    file["session"] = [b"\xff", b"b", b"c"]


def parameter_array(file, path):
    file["parameters"] = np.zeros(3)


def short_parameters(file, path):
    file["parameters/bias"] = np.zeros(2)


BAD_HDF5 = {
    linked: r"`labels` is a link, which is not followed",
    linked_inside: r"`labels` is a link, which is not followed",
    stored_outside: r"`images` are in another file, which is not followed",
    virtual: r"`images` are in another file, which is not followed",
    promising: r"`images` has shape \(100000000, 4, 6\), but only 0 bytes",
    promising_packed: r"`images` has shape .* bytes of it are stored",
    promising_votes: r"`votes` has shape .* but only 0 bytes",
    grouped: r"`images` must be an array\. Received: a group",
    nothing: r"`images` must be an array\. Received: an empty one",
    with_records: r"`labels` must hold numbers or text",
    with_ragged_arrays: r"`labels` must hold numbers or text\. Received: dtype object",
    newer: r"version 7 of the format.*Update stm-keras",
    no_utf8: r"`session` is text, but not in UTF-8",
    parameter_array: r"`parameters` must be a group of arrays",
    short_parameters: r"`bias` must have one entry for each of the 3 scans",
}


@pytest.mark.parametrize("spoil", BAD_HDF5, ids=lambda spoil: spoil.__name__)
def test_hdf5_that_does_not_hold_its_data_gives_one_line(tmp_path, spoil):
    path = tmp_path / "bad.h5"
    for name in ("other.h5", "bad.h5"):
        (tmp_path / name).write_bytes(hdf5_bytes())
    with h5py.File(path, "r+") as file:
        spoil(file, path)
    check_line(path, BAD_HDF5[spoil])


@pytest.mark.parametrize("cut", range(0, 100, 7))
@pytest.mark.parametrize("kind", ["npz", "packed", "hdf5", "matlab"])
def test_a_file_cut_anywhere_gives_one_line(tmp_path, kind, cut):
    content = {
        "npz": npz_bytes,
        "packed": lambda: npz_bytes(np.savez_compressed),
        "hdf5": hdf5_bytes,
        "matlab": lambda: hdf5_bytes(True, x_raw=X_RAW, y=Y),
    }[kind]()
    path = tmp_path / "cut"
    path.write_bytes(content[: len(content) * cut // 100])
    check_line(path, r"\. ")


def test_a_damaged_chunk_gives_one_line(tmp_path):
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=IMAGES, chunks=(1, *SHAPE), compression="gzip")
        file["labels"], file["classes"] = [0, 1, 2], list(CLASSES)
        chunk = file["images"].id.get_chunk_info(1)
    with path.open("r+b") as stream:
        stream.seek(chunk.byte_offset)
        stream.write(b"\0" * chunk.size)
    check_line(path, r"damaged, cut short or compressed in an unknown way")
    with pytest.raises(DatasetError, match="damaged, cut short"):
        load_dataset(path, shape=SHAPE, lazy_above=0).images[:]


def test_scans_of_another_size_are_refused_unless_allowed(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npz_bytes())
    wanted = r"\(scans, 128, 128\): 128 lines of 128 pixels per scan\. .*\(3, 4, 6\)"
    check_line(path, wanted, shape=(128, 128))
    assert load_dataset(path, shape=None).images.shape == (3, 4, 6)


@pytest.mark.parametrize(
    ("size", "fits"),
    [
        ((32, 32), True),
        ((31, 31), False),
        ((512, 512), True),
        ((513, 513), False),
        ((48, 40), False),
    ],
)
def test_scans_of_a_dataset_are_squares_that_can_be_simulated(tmp_path, size, fits):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.ones((4, *size), "u1"), labels=np.arange(4))
    if fits:
        assert load_dataset(path).images.shape[1:] == size
    else:
        with pytest.raises(DatasetError, match="another square from 32 to 512"):
            load_dataset(path)


def test_scans_along_the_last_axis_are_told_from_squares(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.ones((48, 48, 4), "u1"), labels=np.arange(4))
    with pytest.raises(DatasetError, match="scans lie along the last axis"):
        load_dataset(path)
    np.savez(path, images=np.ones((48, 48, 48), "u1"), labels=np.arange(48) % 4)
    assert len(load_dataset(path)) == 48


def test_paths_that_are_no_files_give_one_line(tmp_path):
    check_line(tmp_path / "absent.h5", r"does not exist", InputError)
    check_line(tmp_path, r"is a folder without a CSV file of labels.*`path`")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        check_line(tmp_path / "pipe", r"is not an ordinary file", InputError)


def test_a_file_that_may_not_be_read_gives_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(npz_bytes())

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    check_line(path, r"may not be read\. Change its permissions", InputError)


def test_what_does_not_fit_into_memory_gives_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(npz_bytes())

    def refuse(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("stm_keras.data.load.validate_dataset", refuse)
    check_line(path, r"does not fit into the memory that is free\. Set STM_KERAS_MEMORY")


def test_our_own_file_may_hold_scans_without_a_class(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(hdf5_bytes(**{**GOOD, "labels": np.array([0, -1, 1])}))
    check_line(path, r"Received: -1")
    path.write_bytes(hdf5_bytes(images=IMAGES, votes=np.eye(3, 4) * 0.5))
    save_dataset(load_dataset(path, shape=SHAPE), tmp_path / "own.h5")
    assert load_dataset(tmp_path / "own.h5", shape=SHAPE).labels.tolist() == [-1, -1, -1]
