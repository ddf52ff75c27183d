"""A damaged heap over which HDF5 would never come to an end, found by test_fuzz.py."""

import io
import struct

import h5py
import numpy as np
import pytest
from helpers import made_up_dataset
from scan_files import surface

from stm_keras.data.storage import load_dataset, save_dataset
from stm_keras.errors import DatasetError, ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.hdf5 import read
from stm_keras.readers.hdf5_heaps import check_heaps


def made(**options):
    """Make up an HDF5 file with a text of variable length: bytes."""
    file = io.BytesIO()
    with h5py.File(file, "w", **options) as h5:
        h5["FW_Z"] = surface(16, 16)
        h5.attrs["bias"] = "1.5 V"
    return file.getvalue()


def spoil(data, size=0, number=0):
    """Write a size over that of the heap's object of this number; 0 is its free space."""
    data = bytearray(data)
    heap = data.find(b"GCOL")
    at = heap + 16
    while (found := struct.unpack_from("<H", data, at)[0]) != number:
        assert found
        at += 16 + -(-struct.unpack_from("<Q", data, at + 8)[0] // 8) * 8
    struct.pack_into("<Q", data, at + 8, size)
    return bytes(data)


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 512}])
def test_whole_files_pass(options, tmp_path):
    data = made(**options)
    assert b"GCOL" in data
    check_heaps(data)
    (tmp_path / "a.h5").write_bytes(data)
    assert read_scan(tmp_path / "a.h5").bias == 1.5


@pytest.mark.parametrize(("size", "number"), [(0, 0), ((1 << 64) - 16, 1)])
@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 512}])
def test_an_object_that_leads_nowhere_is_refused(size, number, options, tmp_path):
    (tmp_path / "a.h5").write_bytes(spoil(made(**options), size, number))
    with pytest.raises(ScanError, match="object of size 0 in the heap at byte"):
        read(tmp_path / "a.h5")
    with pytest.raises(ScanError, match="unknown format"):
        read_scan(tmp_path / "a.h5")


def test_other_damage_of_a_heap_is_left_to_hdf5(tmp_path):
    for size in (5000, 1 << 40):
        (tmp_path / "a.h5").write_bytes(spoil(made(), size))
        check_heaps((tmp_path / "a.h5").read_bytes())


def test_pixels_that_look_like_a_heap_are_none():
    data = np.frombuffer(b"GCOL" * 64, "u1")
    check_heaps(made() + bytes(data) + b"GCOL\1\0\0\0" + b"\xff" * 64)


def test_a_damaged_dataset_is_refused_too(tmp_path):
    save_dataset(made_up_dataset(), tmp_path / "a.h5")
    data = (tmp_path / "a.h5").read_bytes()
    assert b"GCOL" in data
    (tmp_path / "a.h5").write_bytes(spoil(data))
    with pytest.raises(DatasetError, match="is damaged.*object of size 0 in the heap"):
        load_dataset(tmp_path / "a.h5")
