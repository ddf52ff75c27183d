"""Read the variables of a classic netCDF file (CDF-1, CDF-2 and CDF-5).

Source: the file format specification of netCDF, https://docs.unidata.ucar.edu/netcdf-c/
"""

import math
import struct

import numpy as np

MAGIC = b"CDF"
TYPES = {1: "i1", 2: "S1", 3: ">i2", 4: ">i4", 5: ">f4", 6: ">f8"}
TYPES |= {7: "u1", 8: ">u2", 9: ">u4", 10: ">i8", 11: ">u8"}
DIMENSIONS, VARIABLES, ATTRIBUTES = 10, 11, 12
MOST = 10000  # entries of one list


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
        if not 0 <= length <= MOST:
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
