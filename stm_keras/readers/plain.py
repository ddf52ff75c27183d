"""Read images from arrays: NPY, NPZ, and MATLAB files before version 7.3.

An array tells neither its size nor its unit; an NPZ or MATLAB file may hold them beside
it under the names that `stm-keras info --json` prints: size_nm, bias_V, setpoint_A,
line_time_s, slow.
"""

import ast
import io
import struct
import zipfile

import numpy as np

from stm_keras.errors import NoImageError, ScanError, UnclearError
from stm_keras.readers.found import Found, Image, choose
from stm_keras.readers.frames import FEWEST, SHAPES, as_frames, is_tall, number_scans
from stm_keras.readers.mat5 import MAGIC as MATLAB
from stm_keras.readers.mat5 import read_arrays
from stm_keras.readers.source import (
    DEFLATE,
    MAX_BYTES,
    check_length,
    check_shape,
    damage,
    read_bytes,
)
from stm_keras.readers.words import channel_of, positive

MOST = 1000  # scans of a file
NPY = b"\x93NUMPY"
LONGEST = 10000  # bytes of a header


def read(path, channel=None):
    """Read one image of an array file, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path, data):
    """Find all images of an array file.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.

    Returns:
        `Found`.

    Raises:
        ScanError: The file is damaged, or holds no numbers of shape (lines, pixels) or
            (scans, lines, pixels).
    """
    if data.startswith(NPY):
        with damage(path, "array"):
            return _found(path, "npy", {"Z": read_npy(path, data)})
    if data.startswith(MATLAB):
        with damage(path, "MATLAB file"):
            return _found(path, "mat", read_arrays(path, data))
    with damage(path, "NPZ file"):
        return _found(path, "npz", read_npz(path, data))


def read_npy(path, data):
    """Read an array from the bytes of an NPY file, as many of them as there are."""
    shape, fortran, dtype, start = _npy_header(data)
    if dtype.hasobject:
        raise ScanError(
            f"{path}: holds Python objects. Reading them could run code and is refused."
        )
    size = int(np.prod(shape, dtype=object)) if shape else 1
    check_length(path, size * dtype.itemsize, len(data) - start)
    array = np.frombuffer(data, dtype, size, start)
    return array.reshape(shape, order="F" if fortran else "C")


def _npy_header(data):
    """Return shape, order, dtype and where the data begin; NumPy's own may warn."""
    wide = data[6] > 1
    (length,) = struct.unpack_from("<I" if wide else "<H", data, 8)
    start = (12 if wide else 10) + length
    if not data.startswith(NPY) or length > LONGEST or start > len(data):
        raise ValueError("its header is cut short")
    try:
        about = ast.literal_eval(data[start - length : start].decode("latin-1").strip())
        shape = tuple(int(count) for count in about["shape"])
        dtype = np.dtype(about["descr"])
    except SyntaxError:
        raise ValueError("its header makes no sense") from None
    if min(shape, default=0) < 0 or dtype.itemsize == 0:
        raise ValueError("its header makes no sense")
    return shape, bool(about["fortran_order"]), dtype, start


def read_npz(path, data):
    """Read the arrays of an NPZ file: dict of str to array."""
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST:
                raise UnclearError(
                    f"{path}: holds {len(entries)} arrays. Put all scans into one, `images`."
                )
            for entry in entries:
                if not entry.filename.endswith(".npy"):
                    continue
                if entry.file_size > min(entry.compress_size * DEFLATE + 1, MAX_BYTES):
                    raise ScanError(f"{path}: is a damaged NPZ file. Save it again.")
                raw = archive.read(entry)
                found[entry.filename.removesuffix(".npy")] = read_npy(path, raw)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(str(error)) from None
    return found


def _found(path, name, arrays):
    size = _numbers(arrays.get("size_nm"), 2)
    size = positive(*size) if size else None
    size = None if size is None else tuple(value * 1e-9 for value in size)
    bias, setpoint, time = (
        _numbers(arrays.get(key), 1) for key in ("bias_V", "setpoint_A", "line_time_s")
    )
    found, others, unclear = {}, [], []
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
        slow = slow or _way(arrays.get("slow"))
        line_time = time[0] if time else None
        found[key] = [
            Image(heights, channel, "", direction, slow, line_time=line_time)
            for heights in frames
        ]
    if not found:
        raise (unclear or (others if name == "npy" else []) or [_nothing(path, arrays)])[0]
    images, doubt = number_scans(found)
    if unclear:
        reason = str(unclear[0]).removeprefix(f"{path}: ").rstrip(".")
        doubt = f"{reason}. Or say which of the other arrays is meant with --channel"
    return Found(
        format=name,
        images=images,
        size=size,
        bias=bias[0] if bias else None,
        setpoint=setpoint[0] if setpoint else None,
        doubt=doubt,
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
    shapes = ", ".join(
        f"{' '.join(key.split())}: {np.asarray(array).dtype} of shape {np.shape(array)}"
        for key, array in list(arrays.items())[:8]
    )
    return NoImageError(
        f"{path}: needs numbers of shape {SHAPES}, at least {FEWEST} lines of {FEWEST} pixels. "
        f"Received: {shapes or 'nothing'}."
    )


def _numbers(value, count):
    if value is None or isinstance(value, str) or value.dtype.kind not in "iuf":
        return None
    values = np.ravel(value)
    return [float(v) for v in values] if len(values) == count else None


def _way(value):
    text = value if isinstance(value, str) else str(value)
    return text if text in ("down", "up") else None
