"""Read images from HDF5: fastspm, NXstm (NeXus), MATLAB v7.3, and plain arrays.

Such files rarely say what is up. Of NeXus files the first row is the bottom line; MATLAB
keeps arrays with the axes exchanged.
"""

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.readers.found import Found, Image, choose
from stm_keras.readers.hdf5_file import arrays, attribute, is_stored, open_hdf5, text_of
from stm_keras.readers.source import check_shape, read_bytes
from stm_keras.readers.words import channel_of, positive, quantity, si_unit

FEWEST = 16  # lines and pixels of an image
MOST = 64  # images of a file


def read(path, channel=None):
    """Read one image of an HDF5 file, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path, data):
    """Find all images of an HDF5 file.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.

    Returns:
        `Found`.

    Raises:
        ScanError: The file is damaged, or has no two-dimensional array of numbers.
    """
    with open_hdf5(path, data) as file:
        members = {k: m for k, m in arrays(file).items() if is_image(m)}
        if not members:
            raise ScanError(
                f"{path}: is an HDF5 file without an image: no array of numbers has two "
                f"axes of {FEWEST} or more. Give a file of a scan."
            )
        nexus = "NX_class" in file.attrs or any("NX_class" in file[g].attrs for g in file)
        names = list(members)[:MOST]
        images = [_image(file, name, members[name], nexus) for name in names]
        size = next((s for s in (_size(members[name].parent) for name in names) if s), None)
        for image in images:
            check_shape(path, *image.heights.shape)
        warnings = ["an HDF5 file does not tell which line is the top one: look at it"]
        return Found(
            format="nexus" if nexus else "hdf5",
            images=tuple(images),
            size=size if nexus else None,
            bias=_attribute(file, "V", "bias", "bias_V", "Bias"),
            setpoint=_attribute(file, "A", "setpoint", "setpoint_A", "Setpoint"),
            warnings=tuple(warnings),
        )


def is_image(member):
    """Tell whether an HDF5 dataset can be an image."""
    shape = member.shape
    return len(shape) == 2 and min(shape) >= FEWEST and member.dtype.kind in "fiu"


def _image(file, name, member, nexus):
    heights = np.asarray(member[()], np.float64)
    if "MATLAB_class" in member.attrs:
        heights = heights.T
    elif nexus and "y" in member.parent:
        heights = heights[::-1]
    parent, _, title = name.rpartition("/")
    if title in ("data", "value") and parent:  # NeXus names the group, not the array
        title = parent.rpartition("/")[2]
    channel, direction, slow = channel_of(title)
    factor, unit = si_unit(text_of(attribute(member, "units", "")))
    return Image(
        heights=heights * factor,
        channel=channel,
        unit=unit,
        direction=direction,
        slow=slow,
    )


def _size(group):
    """Return the size that the axes of a NeXus group span, or None."""
    spans = []
    for name in ("x", "y"):
        axis = group.get(name)
        if axis is None or getattr(axis, "ndim", 0) != 1 or not 2 <= axis.size <= 1 << 20:
            return None
        if not is_stored(axis):
            return None
        factor, unit = si_unit(text_of(attribute(axis, "units", "m")))
        values = np.asarray(axis[()], np.float64)
        span = np.ptp(values) * factor * len(values) / (len(values) - 1)
        spans.append(span if unit == "m" else None)
    return positive(*spans)


def _attribute(file, symbol, *names):
    for name in names:
        value = attribute(file, name)
        if value is not None:
            if isinstance(value, float | np.floating | int | np.integer):
                return float(value)
            return quantity(text_of(value), symbol)
    return None
