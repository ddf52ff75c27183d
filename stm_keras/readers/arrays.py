"""Read images from arrays: NPY, NPZ, and MATLAB files before version 7.3.

An array has neither size nor unit; an NPZ or MATLAB file may hold them beside
it under the names that `stm-keras info --json` prints: size_nm, bias_V, setpoint_A,
line_time_s, slow.
"""

import io
import math
import warnings
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib import format as npy

from stm_keras.errors import NoImageError, ScanError, UnclearError
from stm_keras.memory import charge
from stm_keras.readers.file_bytes import (
    DEFLATE,
    Later,
    charge_list,
    check_length,
    check_shape,
    damage,
)
from stm_keras.readers.frames import (
    FEWEST,
    SHAPES,
    as_frames,
    is_dataset,
    is_tall,
    number_scans,
)
from stm_keras.readers.mat5 import MAGIC as MATLAB
from stm_keras.readers.mat5 import read_arrays, read_names
from stm_keras.readers.scan_file import Image, ScanFile
from stm_keras.readers.units import channel_of
from stm_keras.untrusted import plain_members

MOST = 1000  # scans of a file
NPY = b"\x93NUMPY"
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_scan(path: Path, head: bytes) -> bool:
    """Tell whether a file of arrays holds scans: it is not a dataset or any other archive."""
    if head.startswith(NPY):
        return True
    if head.startswith(MATLAB):
        return not is_dataset(read_names(path))
    try:
        with path.open("rb") as file:
            charge_list(file)
            with zipfile.ZipFile(file) as archive:
                names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    plain = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
    return bool(plain) and not is_dataset(plain)


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of an array file."""
    if data.startswith(NPY):
        with damage(path, "array"):
            return _scan_file(path, "npy", {"Z": read_npy(path, data)})
    if data.startswith(MATLAB):
        with damage(path, "MATLAB file"):
            return _scan_file(path, "mat", read_arrays(path, data))
    with damage(path, "NPZ file"):
        return _scan_file(path, "npz", read_npz(path, data))


def read_npy(path: Path, data: bytes) -> np.ndarray:
    """Return the array of an NPY file, as many of its bytes as there are."""
    stream = io.BytesIO(data)
    shape, fortran, dtype = _read_header(path, stream)
    size, start = math.prod(shape), stream.tell()
    check_length(path, size * dtype.itemsize, len(data) - start)
    array = np.frombuffer(data, dtype, size, start)
    return array.reshape(shape, order="F" if fortran else "C")


def _read_header(path, stream):
    """Return shape, order and dtype of an NPY array; after it the stream is at the numbers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            shape, fortran, dtype = HEADERS[npy.read_magic(stream)](stream)
    except (SyntaxError, TokenError):
        raise ValueError("its header makes no sense") from None
    if min(shape, default=0) < 0 or dtype.itemsize == 0:
        raise ValueError("its header makes no sense")
    if dtype.hasobject:
        raise ScanError(
            f"{path}: holds Python objects. Reading them could run code and is refused."
        )
    return shape, fortran, dtype


def read_npz(path: Path, data: bytes) -> dict:
    """Find the arrays of an NPZ file: dict of str to `Later`."""
    arrays = {}
    with _archive(data) as archive:
        entries = archive.infolist()
        if len(entries) > MOST:
            raise UnclearError(
                f"{path}: holds {len(entries)} arrays. Put all scans into one, `images`."
            )
        for entry in entries:
            if not entry.filename.endswith(".npy"):
                continue
            if entry.file_size > entry.compress_size * DEFLATE + 1:
                raise ScanError(f"{path}: is a damaged NPZ file. Save it again.")
            with archive.open(entry) as stream:
                shape, _, dtype = _read_header(path, stream)
                size, start = math.prod(shape) * dtype.itemsize, stream.tell()
            check_length(path, size, entry.file_size - start)
            read = partial(_read_entry, path, data, entry, size)
            arrays[entry.filename.removesuffix(".npy")] = Later(shape, dtype, read)
    return arrays


@contextmanager
def _archive(data):
    file = io.BytesIO(data)
    charge_list(file)
    try:
        with zipfile.ZipFile(file) as archive:
            plain_members(archive)
            yield archive
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(str(error)) from None


def _read_entry(path, data, entry, size):
    charge(size, f"`{entry.filename[:40]}`")
    with damage(path, "NPZ file"), _archive(data) as archive, archive.open(entry) as stream:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = npy.read_array(stream, allow_pickle=False)
        stream.read(1)  # at its end zipfile compares the checksum
    return array


def _scan_file(path, name, arrays):
    size = _numbers(arrays, "size_nm", 2)
    size = None if size is None else tuple(value * 1e-9 for value in size)
    bias, setpoint, line_time = (
        (_numbers(arrays, key, 1) or [None])[0]
        for key in ("bias_V", "setpoint_A", "line_time_s")
    )
    stated = arrays.get("slow", "")
    stated = str(np.asarray(stated)) if np.ndim(stated) == 0 else ""
    scans, others, unclear = {}, [], []
    for key, array in arrays.items():
        if isinstance(array, str) or array.dtype.kind not in "buif" or array.ndim < 2:
            continue
        try:
            shown = "" if name == "npy" else key
            frames = as_frames(path, shown, array, matlab=name == "mat")
            _check_frames(path, key, frames.shape, size)
        except NoImageError as error:
            others.append(error)
            continue
        except UnclearError as error:
            unclear.append(error)
            continue
        channel, direction, slow = channel_of(key)
        slow = slow or (stated if stated in ("down", "up") else None)
        scans[key] = [
            Image(heights, channel, "", direction, slow, line_time=line_time)
            for heights in frames
        ]
    if not scans:
        raise (unclear or (others if name == "npy" else []) or [_nothing(path, arrays)])[0]
    images, doubt = number_scans(scans)
    if unclear:
        reason = str(unclear[0]).removeprefix(f"{path}: ").rstrip(".")
        doubt = f"{reason}. Or say which of the other arrays is meant with --channel"
    return ScanFile(
        format=name, images=images, size=size, bias=bias, setpoint=setpoint, doubt=doubt
    )


def _check_frames(path, key, shape, size):
    scans, lines, pixels = shape
    check_shape(path, lines, pixels)
    if scans > MOST:
        raise UnclearError(
            f"{path}: `{key}` has {scans} scans, and {MOST} of such a file are read. Save them as "
            "`images` in HDF5, which is read piece by piece."
        )
    if is_tall(lines, pixels, size):
        raise UnclearError(
            f"{path}: `{key}` has {lines} lines of {pixels} pixels: it is much higher than wide, "
            "or several scans one below the other. Give these as (scans, lines, pixels), or "
            "the size of one frame in `size_nm`."
        )


def _nothing(path, arrays):
    shapes = []
    for key, array in list(arrays.items())[:8]:
        text = isinstance(array, str)
        shown = "text" if text else f"{array.dtype} of shape {array.shape}"
        shapes.append(f"{' '.join(key.split())}: {shown}")
    return NoImageError(
        f"{path}: needs numbers of shape {SHAPES}, at least {FEWEST} lines of {FEWEST} pixels. "
        f"Received: {', '.join(shapes) or 'nothing'}."
    )


def _numbers(arrays, key, count):
    """Return the numbers of an array that is metadata: list of float; None unless so many."""
    value = arrays.get(key, "")
    if isinstance(value, str) or value.dtype.kind not in "iuf":
        return None
    if math.prod(value.shape) != count:
        return None
    return np.ravel(value).astype(float).tolist()
