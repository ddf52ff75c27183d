"""Damage over which HDF5 would crash or never come to an end, found by test_fuzz.py."""

import io
import struct

import h5py
import pytest
from helpers import made_up_dataset
from scan_files import surface

from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.errors import DatasetError, ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.hdf5 import parse
from stm_keras.readers.hdf5_open import check_heaps


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


@pytest.mark.parametrize(
    ("size", "number"), [(0, 0), (5000, 0), (1 << 40, 0), ((1 << 64) - 16, 1), (4096, 1)]
)
@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"userblock_size": 512}])
def test_an_object_that_leads_nowhere_is_refused(size, number, options, tmp_path):
    (tmp_path / "a.h5").write_bytes(spoil(made(**options), size, number))
    with pytest.raises(ScanError, match=r"object of \d+ bytes in the heap at byte"):
        parse(tmp_path / "a.h5", (tmp_path / "a.h5").read_bytes())
    with pytest.raises(ScanError, match="unknown format"):
        read_scan(tmp_path / "a.h5")


def test_a_heap_longer_than_the_file_is_refused():
    data = bytearray(made())
    struct.pack_into("<Q", data, data.find(b"GCOL") + 8, 1 << 40)
    with pytest.raises(ValueError, match="is 1099511627776 bytes long"):
        check_heaps(bytes(data))


def test_pixels_that_spell_a_heap_are_none():
    check_heaps(made() + b"GCOL" * 64)


def test_an_attribute_that_became_a_sequence_is_not_read(tmp_path):
    kind = b"bias\0\0\0\0\x19\x01\x01\0"
    assert kind in made()
    (tmp_path / "a.h5").write_bytes(made().replace(kind, b"bias99999999"))
    data = (tmp_path / "a.h5").read_bytes()
    assert parse(tmp_path / "a.h5", data).bias is None  # reading it ended the process


def test_a_damaged_dataset_is_refused_too(tmp_path):
    save_dataset(made_up_dataset(), tmp_path / "a.h5")
    data = (tmp_path / "a.h5").read_bytes()
    assert b"GCOL" in data
    (tmp_path / "a.h5").write_bytes(spoil(data))
    with pytest.raises(DatasetError, match="is damaged.*object of 0 bytes in the heap"):
        load_dataset(tmp_path / "a.h5")
