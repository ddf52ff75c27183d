"""Read netCDF files: the images that xarray writes, of rhkpy and spym above all.

Such a file names its axes and gives each a coordinate: y grows upwards, so a first line with
the least y is the bottom one. spym calls the axes of lines and pixels `..._x` and `..._y` and
has the top line first; rhkpy keeps both directions on an axis `scandir`.

netCDF 4 is HDF5, see `hdf5_open`; the classic kind (versions 1, 2 and 5) is read here, for
SciPy knows no version 5 and is not part of a plain installation.

Source: https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
"""

import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError
from stm_keras.readers import hdf5_open
from stm_keras.readers.file_bytes import DAMAGE, Later, damage
from stm_keras.readers.frames import other_than_length
from stm_keras.readers.hdf5_open import is_hdf5, open_hdf5, text_of
from stm_keras.readers.scan_file import Image, ScanFile
from stm_keras.readers.units import channel_of, positive, si_unit

MAGIC = b"CDF"
TYPES = {1: "i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}
TYPES |= {7: "u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
DIMENSIONS, VARIABLES, ATTRIBUTES = 10, 11, 12
MOST_ENTRIES = 10000  # entries of one list
LONGEST_HEADER = 1 << 20  # bytes that are looked through for names
FEWEST = 16  # lines and pixels of an image
MOST = 64  # images of a file
WAYS = {"right": "forward", "left": "backward"}  # as rhkpy may call directions
METADATA = {  # of a scan: names of the attribute, SI unit
    "bias": (("bias", "RHK_Bias"), "V"),
    "setpoint": (("setpoint", "RHK_Current"), "A"),
    "angle": (("scan_angle", "scan angle", "RHK_Angle"), "deg"),
}


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of a netCDF file that xarray wrote."""
    variables, attributes = read_variables(path, data)
    images = []
    for name in variables:
        if len(images) < MOST:
            images += _images(name, variables, attributes)
    if not images:
        raise NoImageError(
            f"{path}: is a netCDF file without an image: no variable has two axes of "
            f"{FEWEST} or more that are lengths. Give a scan file."
        )
    flags = [
        finite_number(own.get("feedback_active", ())) for _, own, _ in variables.values()
    ]
    return ScanFile(images=tuple(images), feedback=False if 0.0 in flags else None)


def read_variables(path: Path, data: bytes) -> tuple[dict, dict]:
    """Read all variables of a netCDF file of any version.

    Returns:
        Tuple of two dicts: str to tuple of array, dict of attributes (str or array), and
        tuple of the names of its axes (None where the file does not say); and the attributes
        of the whole file.
    """
    if is_hdf5(data[:4096]):
        with open_hdf5(path, data, "netCDF file") as file:
            return hdf5_open.read_variables(path, data, file)
    with damage(path, "netCDF file"):
        return read_classic(data)


def _images(name, variables, attributes):
    """List the images of one variable: one, or one for each direction."""
    array, own, axes = variables[name]
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or len(axes) < array.ndim:
        return []
    ways = _ways(variables, axes[2], array.shape[2]) if array.ndim == 3 else [None]
    units = (text_of(variables.get(axis, (0, {}))[1].get("units", "")) for axis in axes[:2])
    others = map(other_than_length, axes, units)
    if not ways or min(array.shape[:2]) < FEWEST or any(others):
        return []
    channel, direction, slow = channel_of(name)
    factor, unit = si_unit(text_of(own.get("units", "")))
    shape, (rows, columns) = array.shape[:2], axes[:2]
    swapped = (rows, columns) == ("x", "y")
    if swapped:
        shape, (rows, columns) = shape[::-1], ("y", "x")
    lines = _coordinate(variables, rows, shape[0])
    pixels = _coordinate(variables, columns, shape[1])
    upwards = rows == "y" and lines is not None and lines[-1] > lines[0]

    def read(index):
        heights = np.asarray(array) if index is None else np.asarray(array)[:, :, index]
        heights = heights.T if swapped else heights
        return heights[::-1] if upwards else heights

    known = {k: _number_in_si(own, attributes, *names) for k, names in METADATA.items()}
    known["size"] = positive(_span(pixels), _span(lines))
    period = finite_number(own.get("time_per_point", ()))
    known["line_time"] = None if period is None else period * shape[1]
    images = []
    for index, way in enumerate(ways):
        heights = Later(shape, array.dtype, partial(read, None if way is None else index))
        ways_of = (way or direction, slow)
        images.append(Image(heights, channel, unit, *ways_of, factor=factor, **known))
    return images


def _ways(variables, axis, count):
    """Return the directions along an axis: list of str, empty where they are none."""
    labels, _, _ = variables.get(axis, (np.empty(0), {}, ()))
    if labels.dtype.kind != "S" or labels.ndim != 2:  # not letters, of classic netCDF
        labels = np.ravel(labels)[:count]
    ways = [text_of(label).lower() for label in labels]
    ways = [WAYS.get(way, way) for way in ways]
    return ways if len(ways) == count and {*ways} <= {"forward", "backward"} else []


def _coordinate(variables, axis, count):
    """Return the coordinate of an axis in m: float array of this length, or None."""
    values, own, _ = variables.get(axis, (None, {}, ()))
    if values is None or values.shape != (count,) or values.dtype.kind not in "fiu":
        return None
    values = np.asarray(values, np.float64)
    factor, unit = si_unit(text_of(own.get("units", "m")))
    fine = unit == "m" and count > 1 and np.isfinite(values).all()
    return values * factor if fine else None


def _span(values):
    """Return how long an axis is whose pixels have these coordinates."""
    if values is None:
        return None
    return abs(values[-1] - values[0]) * len(values) / (len(values) - 1)


def _number_in_si(own, attributes, names, symbol):
    """Return a number that a variable's attributes hold, else those of the file, in SI."""
    for each in (own, attributes):
        for name in names:
            value = finite_number(each.get(name, ()))
            if value is not None:
                unit = each.get(f"{name}_units", each.get(f"{name} units", symbol))
                factor, unit = si_unit(text_of(unit))
                return value * factor if unit == symbol else None
    return None


def finite_number(value: object) -> float | None:
    """Return the one finite number that an attribute or variable holds, or None."""
    value = np.ravel(value)
    fine = value.size == 1 and value.dtype.kind in "fiu" and np.isfinite(value[0])
    return float(value[0]) if fine else None


def variable_names(path: Path) -> set:
    """List the variables of a classic netCDF file; of a damaged one, those before the damage."""
    names = set()
    with path.open("rb") as file:
        data = file.read(LONGEST_HEADER)
    with suppress(*DAMAGE):
        for name, *_ in _read_header(data)[1]:
            names.add(name)
    return names


def read_classic(data: bytes) -> tuple[dict, dict]:
    """Read all variables of a classic netCDF file that do not grow, as `read_variables` does."""
    attributes, header, records = _read_header(data)
    variables = {}
    for name, axes, shape, own, dtype, begin in header:
        if shape and shape[0] == 0:
            if records != 1:  # records of several variables would be interleaved
                continue
            shape[0] = 1
        size = math.prod(shape)
        if size * dtype.itemsize > len(data) - begin or begin < 0:
            raise ValueError(f"ends before the data of {name}")
        array = np.frombuffer(data, dtype, size, begin).reshape(shape)
        variables[name] = array, own, axes
    return variables, attributes


def _read_header(data: bytes) -> tuple[dict, Iterator, int]:
    """Read the header of a classic netCDF file.

    Returns:
        Tuple of the attributes of the file; an iterator of its variables, each with its name,
        names of its axes, shape, attributes, dtype and offset of its data; and how many
        records it has.
    """
    header = _Header(data)
    records = header.count()
    axes = [(header.name(), header.count()) for _ in range(header.list_of(DIMENSIONS))]
    attributes = _attributes(header)

    def variables():
        for _ in range(header.list_of(VARIABLES)):
            name = header.name()
            own_axes = [axes[header.count()] for _ in range(header.list_length())]
            own = _attributes(header)
            dtype = np.dtype(TYPES[header.integer()])
            header.count()
            names, shape = tuple(n for n, _ in own_axes), [size for _, size in own_axes]
            yield name, names, shape, own, dtype, header.offset()

    return attributes, variables(), records


class _Header:
    """Takes one entry after the other from the header."""

    def __init__(self, data):
        self.data = data
        self.version = data[3]
        self.position = 4
        if data[:3] != MAGIC or self.version not in (1, 2, 5):
            raise ValueError("no netCDF header")

    def take(self, size):
        if size < 0 or self.position + size > len(self.data):
            raise ValueError("ends in its header")
        piece = self.data[self.position : self.position + size]
        self.position += size
        return piece

    def integer(self):
        return struct.unpack(">i", self.take(4))[0]

    def count(self):
        return struct.unpack(">q", self.take(8))[0] if self.version == 5 else self.integer()

    def offset(self):
        return self.integer() if self.version == 1 else struct.unpack(">q", self.take(8))[0]

    def list_length(self):
        length = self.count()
        if not 0 <= length <= MOST_ENTRIES:
            raise ValueError(f"a list of {length} entries in its header")
        return length

    def list_of(self, kind):
        entry, length = self.integer(), self.list_length()
        if entry != kind and (entry or length):
            raise ValueError(f"entry of kind {entry} in its header")
        return length

    def name(self):
        length = self.count()
        text = self.take(length).decode("utf-8", "replace")
        self.take(-length % 4)
        return text


def _attributes(header):
    attributes = {}
    for _ in range(header.list_of(ATTRIBUTES)):
        name = header.name()
        dtype = np.dtype(TYPES[header.integer()])
        size = header.count() * dtype.itemsize
        raw = header.take(size)
        header.take(-size % 4)
        letters = dtype.kind == "S"
        attributes[name] = text_of(raw) if letters else np.frombuffer(raw, dtype)
    return attributes
