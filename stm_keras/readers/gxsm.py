"""Read GXSM scans (.nc): netCDF 3 of GXSM3, or netCDF 4 (that is HDF5) of GXSM4.

Lengths are always stored in Angstrom; the unit beside them is what the program shows.
Backward images (-Xm in the name GXSM gave the file) are stored as they were recorded, from
right to left. Lines that were not recorded are zeros.
"""

import re
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.found import Found, Image, choose, zero_filled
from stm_keras.readers.hdf5_file import arrays, attribute, is_hdf5, open_hdf5, text_of
from stm_keras.readers.netcdf3 import read_variables
from stm_keras.readers.source import check_shape, damage, read_bytes
from stm_keras.readers.words import channel_of, si_unit

FIELDS = ("FloatField", "DoubleField", "H", "Intensity")
BIASES = ("rpspmc_hwi_Bias", "sranger_mk2_hwi_bias", "sranger_hwi_bias")
SPEEDS = ("rpspmc_hwi_scan_speed_x", "sranger_mk2_hwi_scan_speed_x")
SETPOINTS = ("sranger_mk2_hwi_mix0_set_point", "rpspmc_hwi_mix0_set_point")
ANGSTROM = 1e-10
HEADER = 1 << 16  # values of a variable that is not the image


def read(path, channel=None):
    """Read the image of a GXSM file, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path, data):
    """Find the image of a GXSM file.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.

    Returns:
        `Found`.

    Raises:
        ScanError: The file is damaged, or is a netCDF file of something else.
    """
    if not is_hdf5(data[:4096]):
        with damage(path, "netCDF file"):
            return _parse(path, read_variables(data))
    with open_hdf5(path, data, "netCDF file") as file:
        members = arrays(file)
        wanted = {
            name: (member[()], _attributes(member))
            for name, member in members.items()
            if name in FIELDS or (member.size <= HEADER and member.dtype.kind in "iufSO")
        }
        return _parse(path, wanted)


def _attributes(member):
    found = {name: attribute(member, name) for name in list(member.attrs)[:100]}
    return {name: value for name, value in found.items() if value is not None}


def _parse(path, variables):
    key = next((name for name in FIELDS if name in variables), None)
    if key is None:
        raise ScanError(
            f"{path}: is a netCDF file, but none of GXSM: it has none of "
            f"{', '.join(FIELDS)}. Give a scan of GXSM."
        )
    field, about = variables[key]
    if field.ndim != 4 or field.dtype.kind not in "iuf":
        raise ScanError(
            f"{path}: `{key}` must have four axes (time, value, line, pixel). Received: "
            f"{field.dtype} of shape {field.shape}."
        )
    if field.shape[0] * field.shape[1] != 1:
        raise NoImageError(
            f"{path}: holds {field.shape[0]} x {field.shape[1]} layers, a movie or a "
            "spectroscopy grid. Save one scan per file."
        )
    stored = np.asarray(field[0, 0], np.float64)
    check_shape(path, *stored.shape)
    factor, unit = _scale(variables, about)
    # What GXSM called the file tells the direction, also where someone renamed it.
    given = text_of(variables["basename"][0]) if "basename" in variables else ""
    backward = any(re.search(r"-Xm\b", Path(name).name) for name in (given, str(path)))
    control = text_of(variables.get("spm_scancontrol", ("", None))[0]).lower()
    slow = {"topdown": "down", "bottomup": "up"}.get(control.replace("-", "").strip())
    width, height = _scalar(variables, "rangex"), _scalar(variables, "rangey")
    speed = next((s for s in (_scalar(variables, k) for k in SPEEDS) if s), None)
    label = text_of(about.get("ZLabel", "Z"))
    image = Image(
        heights=(stored[:, ::-1] if backward else stored) * factor,
        channel=channel_of(label)[0] or "Z",
        unit=unit,
        direction="backward" if backward else "forward",
        slow=slow,
        valid=zero_filled(stored),
        line_time=width / speed if width and speed else None,
    )
    return Found(
        format="gxsm",
        images=(image,),
        size=(width * ANGSTROM, height * ANGSTROM) if width and height else None,
        bias=next(
            (b for b in (_scalar(variables, k) for k in BIASES) if b is not None), None
        ),
        setpoint=_setpoint(variables),
        angle=_scalar(variables, "alpha"),
    )


def _scale(variables, about):
    """Return what turns stored values into SI, and the unit."""
    step = _scalar(variables, "dz")
    step = 1.0 if step is None or step == 0 else step
    beside = variables["dz"][1] if "dz" in variables else {}
    factor, unit = si_unit(text_of(beside.get("unit", about.get("ZSrcUnit", ""))))
    if unit in ("A", "V", "Hz", "deg"):
        return step * factor, unit
    return step * ANGSTROM, "m"


def _setpoint(variables):
    """Return the current that was kept, if the feedback went by the current."""
    for name in SETPOINTS:
        value = _scalar(variables, name)
        mode = _scalar(variables, name.replace("set_point", "current_mix_transform_mode"))
        if value is not None and mode != 0:
            about = variables[name][1]
            factor, unit = si_unit(text_of(about.get("var_unit", about.get("unit", ""))))
            return value * factor if unit == "A" else None
    return None


def _scalar(variables, name):
    if name not in variables:
        return None
    values = np.ravel(variables[name][0])
    if not values.size or values.dtype.kind not in "iuf":
        return None
    return float(values[0]) if np.isfinite(values[0]) else None
