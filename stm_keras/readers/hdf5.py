"""Read images from HDF5: fastspm, NXstm (NeXus), MATLAB v7.3, and plain arrays.

Such files rarely say what is up. Of NeXus files the first row is the bottom line; MATLAB
keeps arrays with the axes exchanged.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError, UnclearError
from stm_keras.readers.file_bytes import Later
from stm_keras.readers.frames import (
    FEWEST,
    is_dataset,
    is_tall,
    number_scans,
    other_than_length,
)
from stm_keras.readers.gxsm import OWN_FIELDS
from stm_keras.readers.hdf5_open import (
    arrays,
    attribute,
    child,
    is_stored,
    later,
    names_of,
    open_hdf5,
    read_all,
    text_of,
)
from stm_keras.readers.hdf5_parts import read_values
from stm_keras.readers.netcdf import MOST
from stm_keras.readers.scan_file import Image, ScanFile
from stm_keras.readers.units import channel_of, positive, quantity, si_unit, start_time

UNSURE = "an HDF5 file does not say which line is the top one: look at it"
KERAS = {"model_weights", "layers", "_layer_checkpoint_dependencies"}
STACKS = "If they are, name it `images`, of shape (scans, lines, pixels)"


def hdf5_format(path: Path, head: bytes) -> str | None:
    """Tell GXSM's files and those of netCDF from other HDF5; None for datasets."""
    name = None
    try:
        with open_hdf5(path, path.open("rb")) as file:
            names = set(names_of(file))
            if names & set(OWN_FIELDS):
                return "gxsm"
            if is_dataset(names):
                return None
            name = "hdf5"
            return "netcdf" if "_NCProperties" in file.attrs else name
    except ScanError:  # reading it says what is damaged
        return name


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of an HDF5 file."""
    with open_hdf5(path, data) as file:
        names = names_of(file)
        if KERAS & set(names):
            raise NoImageError(f"{path}: holds the weights of a Keras model. Give a scan.")
        known = arrays(file)
        members = {k: m for k, m in known.items() if is_image(m)}
        curves = {k: u for k, m in members.items() if (u := other_axis(m))}
        members = {k: m for k, m in members.items() if k not in curves}
        stacks = {k: m.shape for k, m in known.items() if is_stack(m)}
        if not members:
            raise _no_image(path, curves, stacks)
        inside = (child(file, name) for name in names)
        nexus = any(g is not None and "NX_class" in g.attrs for g in (file, *inside))
        names = list(members)[:MOST]
        if nexus:
            return _nexus(path, data, known, names)
        images = {name: [_image(path, data, name, members[name])] for name in names}
        images, doubt = number_scans(images)
        if len(members) > MOST:
            doubt = doubt or f"holds {len(members)} images, and {MOST} are read"
        if stacks:
            doubt = doubt or f"{_shown(stacks)} may be scans as well. {STACKS}"
        if any(is_tall(*image.heights.shape, None) for image in images):
            doubt = doubt or (
                "holds an image that is much higher than wide, or several scans one below the "
                "other. Put all scans into one array `images` of shape (scans, lines, pixels)"
            )
        return ScanFile(
            images=images,
            bias=_attribute(file, "V", "bias", "bias_V", "Bias"),
            setpoint=_attribute(file, "A", "setpoint", "setpoint_A", "Setpoint"),
            warnings=(UNSURE,),
            doubt=doubt,
            started=start_time(text_of(attribute(file, "ExperimentInfo.TimeStart", ""))),
        )


def _nexus(path, data, members, names):
    """Return what a NeXus file holds: each of its entries is a scan of its own."""
    images, entries = [], list(dict.fromkeys(name.partition("/")[0] for name in names))
    for index, entry in enumerate(entries):
        own = {k: m for k, m in members.items() if k.partition("/")[0] == entry}
        metadata = {
            "bias": _field(own, "V", "bias_voltage", "sample_bias", "bias"),
            "setpoint": _field(own, "A", "set_point", "setpoint", "current_setpoint"),
            "angle": _field(own, "deg", "scan_angle", "scan_angle_x", "scan_angle_n"),
            "started": _started(own.get(f"{entry}/start_time")),
        }
        stated = positive(*(_field(own, "m", f"scan_range_{axis}") for axis in "xy"))
        for name in (name for name in names if name in own):
            image = _image(path, data, name, own[name], "y" in own[name].parent)
            size = stated or _size(own[name].parent)
            images.append(replace(image, index=index, size=size, **metadata))
    return ScanFile(format="nexus", images=tuple(images), warnings=(UNSURE,))


def _started(member):
    """Return when a scan began, by a field of NeXus; None without one."""
    if member is None or member.size != 1:
        return None
    return start_time(text_of(read_all(member)))


def is_image(member: "h5py.Dataset") -> bool:  # noqa: F821  h5py takes long to import
    """Tell whether an HDF5 dataset can be an image."""
    return member.ndim == 2 and min(member.shape) >= FEWEST and member.dtype.kind in "fiu"


def is_stack(member: "h5py.Dataset") -> bool:  # noqa: F821
    """Tell whether an HDF5 dataset can be scans, or a cube of spectra."""
    if member.ndim != 3 or member.dtype.kind not in "fiu":
        return False
    return sorted(member.shape)[1] >= FEWEST and member.shape[0] * member.shape[2] > 1


def other_axis(member: "h5py.Dataset") -> str | None:  # noqa: F821
    """Say what a NeXus array's axis is that is not a length: "in eV", "`energy`"; else None."""
    names = attribute(member.parent, "axes", ())
    names = text_of(names).split(":") if isinstance(names, str | bytes) else list(names)
    for name in map(text_of, names):
        axis = child(member.parent, name)
        unit = "" if axis is None else text_of(attribute(axis, "units", ""))
        if (other := other_than_length(name, unit)) is not None:
            return other
    return None


def _no_image(path, curves, stacks):
    if stacks:
        return UnclearError(
            f"{path}: is an HDF5 file without one image: {_shown(stacks)} may be scans, or a "
            f"cube of spectra. {STACKS}."
        )
    if curves:
        name, axis = next(iter(curves.items()))
        return NoImageError(
            f"{path}: is an HDF5 file without the image of a scan: an axis of `{name}` is {axis}, "
            "not a length. Give a scan file."
        )
    return NoImageError(
        f"{path}: is an HDF5 file without an image: no array of numbers has two "
        f"axes of {FEWEST} or more. Give a scan file."
    )


def _shown(stacks):
    return ", ".join(f"`{name}` {shape}" for name, shape in list(stacks.items())[:4])


def _image(path, data, name, member, upwards=False):
    stored, matlab = later(path, data, member), "MATLAB_class" in member.attrs

    def read():
        heights = np.asarray(stored)
        return heights.T if matlab else heights[:: -1 if upwards else 1]

    shape = member.shape[::-1] if matlab else member.shape
    *groups, title = name.split("/")
    if title in ("data", "value") and groups:  # NeXus names the group, not the array
        title = groups[-1]
    channel, direction, slow = channel_of(title)
    for group in reversed(groups):  # "z_forward/z": only the path may say which way
        _, way, axis = channel_of(group)
        direction, slow = direction or way, slow or axis
    factor, unit = si_unit(text_of(attribute(member, "units", "")))
    heights = Later(shape, member.dtype, read)
    return Image(heights, channel, unit, direction, slow, factor=factor)


def _field(members, symbol, *names):
    """Return the first number of this unit that a field of one of these names holds."""
    for name in names:
        for key, member in members.items():
            if key.rpartition("/")[2] == name and member.size == 1:
                factor, unit = si_unit(text_of(attribute(member, "units", "")))
                if unit == symbol and member.dtype.kind in "fiu":
                    return float(np.ravel(read_values(member))[0]) * factor
    return None


def _size(group):
    """Return the size that the axes of a NeXus group span, or None."""
    spans = []
    for name in ("x", "y"):
        axis = child(group, name)
        if getattr(axis, "ndim", 0) != 1 or not 2 <= axis.size <= 1 << 20:
            return None
        if not is_stored(axis):
            return None
        factor, unit = si_unit(text_of(attribute(axis, "units", "m")))
        values = np.asarray(read_values(axis), np.float64)
        span = np.ptp(values) * factor * len(values) / (len(values) - 1)
        spans.append(span if unit == "m" else None)
    return positive(*spans)


def _attribute(file, symbol, *names):
    for name in names:
        value = attribute(file, name)
        if isinstance(value, float | np.floating | int | np.integer):
            return float(value)
        if value is not None:
            return quantity(text_of(value), symbol)
    return None
