"""Read images from netCDF files that xarray writes, of rhkpy and spym above all.

Such a file names its axes and gives each a coordinate: y grows upwards, so a first line with
the least y is the bottom one. spym calls the axes of lines and pixels `..._x` and `..._y` and
has the top line first; rhkpy keeps both directions on an axis `scandir`.
"""

import math
import struct
from functools import partial
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError
from stm_keras.readers.file_bytes import Later, check_shape
from stm_keras.readers.hdf5_open import text_of
from stm_keras.readers.scan_file import Found, Image
from stm_keras.readers.units import channel_of, positive, si_unit

MAGIC = b"CDF"
TYPES = {1: "i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}
DIMENSIONS, VARIABLES, ATTRIBUTES = 10, 11, 12
MOST_ENTRIES = 10000  # entries of one list

FEWEST = 16  # lines and pixels of an image
MOST = 64  # images of a file
WAYS = {
    "forward": "forward",
    "backward": "backward",
    "right": "forward",
    "left": "backward",
}
FACTS = {  # name in a Found: names of the attribute, SI unit
    "bias": (("bias", "RHK_Bias"), "V"),
    "setpoint": (("setpoint", "RHK_Current"), "A"),
    "angle": (("scan_angle", "scan angle", "RHK_Angle"), "deg"),
}


def find(path: str | Path, variables: dict, about: dict) -> Found:
    """Find all images among the variables of a netCDF file.

    Args:
        path: str or `Path`. Named in errors.
        variables: dict of str to tuple of array, dict of attributes, and tuple of the names
            of its axes (str; None where the file does not say).
        about: dict. Attributes of the whole file.

    Returns:
        `Found`.

    Raises:
        ScanError: There is no image.
    """
    images = []
    for name in variables:
        if len(images) < MOST:
            images += _images(name, variables, about)
    if not images:
        raise NoImageError(
            f"{path}: is a netCDF file without an image: no variable has two axes of "
            f"{FEWEST} or more. Give a file of a scan."
        )
    for image in images:
        check_shape(path, *image.heights.shape)
    flags = [_number(own, "feedback_active") for _, own, _ in variables.values()]
    return Found(
        format="netcdf", images=tuple(images), feedback=False if 0.0 in flags else None
    )


def _images(name, variables, about):
    """List the images of one variable: one, or one for each direction."""
    array, own, axes = variables[name]
    if array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or len(axes) < array.ndim:
        return []
    ways = [None]
    if array.ndim == 3:
        ways = _ways(variables, axes[2], array.shape[2])
    if not ways or min(array.shape[:2]) < FEWEST:
        return []
    channel, direction, slow = channel_of(name)
    factor, unit = si_unit(text_of(own.get("units", "")))
    shape, (rows, columns) = array.shape[:2], axes[:2]
    swapped = (rows, columns) == ("x", "y")
    if swapped:
        shape, (rows, columns) = shape[::-1], ("y", "x")
    lines, pixels = (
        _coordinate(variables, axis, count)
        for axis, count in zip((rows, columns), shape, strict=True)
    )
    upwards = rows == "y" and lines is not None and lines[-1] > lines[0]

    def read(place):
        heights = np.asarray(array) if place is None else np.asarray(array)[:, :, place]
        heights = heights.T if swapped else heights
        return heights[::-1] if upwards else heights

    facts = {key: _fact(own, about, *which) for key, which in FACTS.items()}
    period = _number(own, "time_per_point")
    return [
        Image(
            heights=Later(
                shape, array.dtype, partial(read, None if way is None else place)
            ),
            factor=factor,
            channel=channel,
            unit=unit,
            direction=way or direction,
            slow=slow,
            size=positive(_span(pixels), _span(lines)),
            line_time=None if period is None else period * shape[1],
            **facts,
        )
        for place, way in enumerate(ways)
    ]


def _ways(variables, axis, count):
    """Return the directions along an axis: list of str, empty where they are none."""
    labels, _, _ = variables.get(axis, (np.empty(0), {}, ()))
    if labels.dtype.kind == "S" and labels.ndim == 2:  # letters, of classic netCDF
        texts = [text_of(label) for label in labels]
    else:
        texts = [text_of(label) for label in np.ravel(labels)[:count]]
    ways = [WAYS.get(text.lower()) for text in texts]
    return ways if len(ways) == count and None not in ways else []


def _coordinate(variables, axis, count):
    """Return the coordinate of an axis in m: float array of this length, or None."""
    values, own, _ = variables.get(axis, (None, {}, ()))
    if values is None or values.shape != (count,) or values.dtype.kind not in "fiu":
        return None
    values = np.asarray(values)
    factor, unit = si_unit(text_of(own.get("units", "m")))
    if unit != "m" or len(values) < 2 or not np.isfinite(values).all():
        return None
    return np.asarray(values, np.float64) * factor


def _span(values):
    """Return how long an axis is whose pixels lie at these places."""
    if values is None:
        return None
    return abs(values[-1] - values[0]) * len(values) / (len(values) - 1)


def _fact(own, about, names, symbol):
    """Return a number that a variable tells, else the file, in SI, or None."""
    for told in (own, about):
        for name in names:
            value = _number(told, name)
            if value is not None:
                unit = told.get(f"{name}_units", told.get(f"{name} units", symbol))
                factor, unit = si_unit(text_of(unit))
                return value * factor if unit == symbol else None
    return None


def _number(told, name):
    value = np.ravel(told.get(name, ()))
    fine = value.size == 1 and value.dtype.kind in "fiu" and np.isfinite(value[0])
    return float(value[0]) if fine else None


TYPES |= {7: "u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}


def read_variables(data: bytes) -> tuple:
    """Read all variables that do not grow.

    Args:
        data: bytes of the file.

    Returns:
        Tuple of two dicts: str to tuple of array, dict of attributes (str or array), and
        tuple of the names of its axes; and the attributes of the whole file.

    Raises:
        ValueError: The file is damaged.
    """
    header = _Header(data)
    growing = header.count()
    axes = [(header.name(), header.count()) for _ in range(header.list_of(DIMENSIONS))]
    about = _attributes(header)
    variables = {}
    for _ in range(header.list_of(VARIABLES)):
        name = header.name()
        own = [axes[header.count()] for _ in range(header.list_length())]
        shape = [size for _, size in own]
        attributes = _attributes(header)
        dtype = np.dtype(TYPES[header.integer()])
        header.count()
        begin = header.offset()
        if shape and shape[0] == 0:
            if growing != 1:  # records of several variables would be interleaved
                continue
            shape[0] = 1
        size = math.prod(shape)
        if size * dtype.itemsize > len(data) - begin or begin < 0:
            raise ValueError(f"ends before the data of {name}")
        array = np.frombuffer(data, dtype, size, begin).reshape(shape)
        variables[name] = array, attributes, tuple(axis for axis, _ in own)
    return variables, about


class _Header:
    """Takes one entry after the other from the header."""

    def __init__(self, data):
        self.data = data
        self.version = data[3]
        self.place = 4
        if data[:3] != MAGIC or self.version not in (1, 2, 5):
            raise ValueError("no netCDF header")

    def take(self, size):
        if size < 0 or self.place + size > len(self.data):
            raise ValueError("ends in its header")
        piece = self.data[self.place : self.place + size]
        self.place += size
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
        found, length = self.integer(), self.list_length()
        if found != kind and (found or length):
            raise ValueError(f"entry of kind {found} in its header")
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
        text = dtype.kind == "S"
        attributes[name] = (
            raw.decode("utf-8", "replace") if text else np.frombuffer(raw, dtype)
        )
    return attributes
