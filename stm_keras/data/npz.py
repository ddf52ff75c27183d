"""Read datasets from NPZ archives, block by block and without any pickle."""

import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy

from stm_keras.data.hdf5 import ARRAYS
from stm_keras.data.raw import RawDataset, block_scans, listed_keys, loaded_bytes, must
from stm_keras.errors import DatasetError
from stm_keras.memory import VARIABLE, charge, left, shown
from stm_keras.readers.file_bytes import DEFLATE, charge_list
from stm_keras.untrusted import open_archive

WHAT = "an NPZ file, as numpy.savez writes it"
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path) -> RawDataset:
    """Read a dataset from an NPZ archive; its images stay in the file."""
    with path.open("rb") as file:
        charge_list(file)
    with open_archive(path, WHAT, DatasetError) as archive:
        members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
        if "images" not in members:
            raise DatasetError(
                f"{path}: has no `images`. Found: {listed_keys(members)}. An NPZ dataset has "
                "`images` with `labels` or `votes`: name the scans so."
            )
        arrays = {
            key: _read_array(path, archive, members[key])
            for key in (*ARRAYS, "classes", "source")
            if key in members
        }
        images: Any = NpzImages(path, archive, members["images"])
        if images.fortran:  # it would give blocks of pixels, not of scans: it is read whole
            needed = members["images"].file_size + loaded_bytes(images)
            if needed > left():
                raise DatasetError(
                    f"{path}: has its images column by column, so they cannot be read scan by "
                    f"scan. Save numpy.ascontiguousarray(images), or set {VARIABLE}="
                    f"{shown(needed).replace(' ', '')}."
                )
            images = _read_array(path, archive, members["images"])
    classes, source = arrays.pop("classes", None), arrays.pop("source", None)
    return RawDataset(
        images=images,
        arrays=arrays,
        classes=None if classes is None else tuple(classes.astype(np.str_).ravel()),
        source=None if source is None else str(source),
        keys=tuple(members),
    )


class NpzImages:
    """Images in an NPZ archive, which can only be read in order."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo):
        self.path = path
        self.member = member
        with archive.open(member) as stream:
            self.shape, self.fortran, self.dtype = _read_header(path, member, stream)

    def blocks(self) -> Iterator[tuple]:
        """Yield (slice of scans, array), in the order of the file."""
        step = block_scans(self.shape, self.dtype.itemsize)
        with (
            open_archive(self.path, WHAT, DatasetError) as archive,
            archive.open(self.member) as stream,
        ):
            _read_header(self.path, self.member, stream)
            for start in range(0, self.shape[0], step):
                scans = slice(start, min(start + step, self.shape[0]))
                shape = (scans.stop - start, *self.shape[1:])
                yield scans, _read_values(stream, shape, self.dtype)
            stream.read(1)  # at its end zipfile compares the checksum


def _read_array(path, archive, member):
    with archive.open(member) as stream:
        shape, fortran, dtype = _read_header(path, member, stream)
        charge(member.file_size, f"`{member.filename}`")
        array = _read_values(stream, shape[::-1] if fortran else shape, dtype)
        stream.read(1)
    if dtype.kind == "U" and array.nbytes:
        letters = np.frombuffer(array.tobytes(), dtype.str[0] + "u4")
        if letters.max() >= 0x110000:
            key = member.filename.removesuffix(".npy")
            raise DatasetError(f"{path}: `{key}` is damaged: no letters. Make it again.")
    return array.T if fortran else array


def _read_header(path, member, stream):
    """Return shape, order and dtype of an array, if its data can be in the archive."""
    key = member.filename.removesuffix(".npy")
    stored = min(member.compress_size, path.stat().st_size)
    if member.file_size > stored * (DEFLATE if member.compress_type else 1):
        raise DatasetError(
            f"{path}: `{key}` declares {member.file_size} bytes, but only {stored} are "
            "stored. The file is damaged: make it again."
        )
    try:
        shape, fortran, dtype = HEADERS[npy.read_magic(stream)](stream)
    except (ValueError, KeyError, TypeError, SyntaxError, TokenError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(
            f"{path}: `{key}` is not a plain NumPy array ({reason})."
        ) from None
    if dtype.hasobject:
        raise DatasetError(
            f"{path}: `{key}` holds Python objects. Reading them could run code and is "
            'refused. Save numbers, or text as `array.astype("U")`.'
        )
    if dtype.kind not in "biufUS":
        raise must(path, key, "hold numbers or text", f"dtype {dtype}")
    declared = math.prod(shape) * dtype.itemsize
    if declared != member.file_size - stream.tell() or min(shape, default=0) < 0:
        raise DatasetError(
            f"{path}: `{key}` declares {declared} bytes (shape {shape}, {dtype}), but "
            f"holds {member.file_size - stream.tell()}. The file is damaged: make it again."
        )
    return shape, fortran, dtype


def _read_values(stream, shape, dtype):
    """Read the next values of a member straight into an array, so they are in memory once."""
    array = np.empty(shape, dtype)
    rest = array.reshape(-1).view(np.uint8).data if array.nbytes else b""
    while len(rest):
        count = stream.readinto(rest)
        if not count:
            raise EOFError("unexpected end")
        rest = rest[count:]
    return array
