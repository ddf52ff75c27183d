"""Read images from HDF5: fastspm, NXstm (NeXus), MATLAB v7.3, and plain arrays.

Such files rarely say what is up. Of NeXus files the first row is the bottom line; MATLAB
keeps arrays with the axes exchanged.
"""

import numpy as np

from stm_keras.errors import NoImageError, UnclearError
from stm_keras.readers.found import Found, Image, choose
from stm_keras.readers.frames import FEWEST, is_tall, number_scans
from stm_keras.readers.hdf5_file import arrays, attribute, is_stored, open_hdf5, text_of
from stm_keras.readers.source import check_shape, read_bytes
from stm_keras.readers.words import channel_of, positive, quantity, si_unit

MOST = 64  # images of a file
KERAS = {"model_weights", "layers", "_layer_checkpoint_dependencies"}
STACKS = "If they are, name it `images`, of shape (scans, lines, pixels)"
OTHER_UNITS = (
    "eV meV keV V mV deg degree degrees rad s ms Hz kHz 1/angstrom Å^-1".lower().split()
)


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
        NoImageError: It has no two-dimensional array of numbers along lengths.
        UnclearError: It has arrays of three axes, of which nothing tells what they are.
        ScanError: The file is damaged.
    """
    with open_hdf5(path, data) as file:
        if KERAS & set(file):
            raise NoImageError(f"{path}: holds the weights of a Keras model. Give a scan.")
        known = arrays(file)
        members = {k: m for k, m in known.items() if is_image(m)}
        curves = {k: u for k, m in members.items() if (u := other_axis(m))}
        members = {k: m for k, m in members.items() if k not in curves}
        stacks = {k: m.shape for k, m in known.items() if is_stack(m)}
        if not members:
            raise _no_image(path, curves, stacks)
        nexus = "NX_class" in file.attrs or any("NX_class" in file[g].attrs for g in file)
        names = list(members)[:MOST]
        images = {name: _image(file, name, members[name], nexus) for name in names}
        size = next((s for s in (_size(members[name].parent) for name in names) if s), None)
        for image in images.values():
            check_shape(path, *image.heights.shape)
        images, doubt = number_scans({name: [image] for name, image in images.items()})
        if len(members) > MOST:
            doubt = doubt or f"holds {len(members)} images, and {MOST} are read"
        if stacks and not nexus:
            doubt = doubt or f"{_shown(stacks)} may be scans as well. {STACKS}"
        if any(is_tall(*image.heights.shape, size if nexus else None) for image in images):
            doubt = doubt or (
                "holds an image that is much higher than wide, or several scans one below the "
                "other. Put all scans into one array `images` of shape (scans, lines, pixels)"
            )
        warnings = ["an HDF5 file does not tell which line is the top one: look at it"]
        return Found(
            format="nexus" if nexus else "hdf5",
            images=images,
            size=size if nexus else None,
            bias=_attribute(file, "V", "bias", "bias_V", "Bias"),
            setpoint=_attribute(file, "A", "setpoint", "setpoint_A", "Setpoint"),
            warnings=tuple(warnings),
            doubt=doubt,
        )


def is_image(member):
    """Tell whether an HDF5 dataset can be an image."""
    shape = member.shape
    return len(shape) == 2 and min(shape) >= FEWEST and member.dtype.kind in "fiu"


def is_stack(member: "h5py.Dataset") -> bool:  # noqa: F821  h5py takes long to import
    """Tell whether an HDF5 dataset can be scans, or a cube of spectra."""
    shape = member.shape
    return (
        len(shape) == 3 and sorted(shape)[1] >= FEWEST and shape[0] * shape[2] > 1
    ) and member.dtype.kind in "fiu"


def other_axis(member: "h5py.Dataset") -> str | None:  # noqa: F821
    """Return the unit of a NeXus array's axis that is not a length, such as "eV"."""
    names = attribute(member.parent, "axes", ())
    names = text_of(names).split(":") if isinstance(names, str | bytes) else list(names)
    for name in map(text_of, names):
        axis = member.parent.get(name)
        unit = "" if axis is None else text_of(attribute(axis, "units", ""))
        if unit.lower() in OTHER_UNITS:
            return unit
    return None


def _no_image(path, curves, stacks):
    if stacks:
        return UnclearError(
            f"{path}: is an HDF5 file without one image: {_shown(stacks)} may be scans, or a "
            f"cube of spectra. {STACKS}."
        )
    if curves:
        name, unit = next(iter(curves.items()))
        return NoImageError(
            f"{path}: is an HDF5 file without the image of a scan: an axis of `{name}` is in "
            f"{unit}, not a length. Give a file of a scan."
        )
    return NoImageError(
        f"{path}: is an HDF5 file without an image: no array of numbers has two "
        f"axes of {FEWEST} or more. Give a file of a scan."
    )


def _shown(stacks):
    return ", ".join(f"`{name}` {shape}" for name, shape in list(stacks.items())[:4])


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
