"""Read GXSM scans (.nc): netCDF 3 of GXSM3, or netCDF 4 (that is HDF5) of GXSM4.

Lengths are always stored in Angstrom; the unit beside them is what the program shows.
Backward images (-Xm in the name of the file) are stored as they were recorded, from right to
left, but mirrored already by a RedPitaya. Lines that were not recorded are zeros. Classic
netCDF without a field of GXSM is looked through as what xarray writes, see `netcdf`.
"""

import re
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers import hdf5_open, netcdf
from stm_keras.readers.file_bytes import check_shape, damage, read_bytes
from stm_keras.readers.hdf5_open import is_hdf5, open_hdf5, text_of
from stm_keras.readers.netcdf import find
from stm_keras.readers.scan_file import Found, Image, choose, zero_filled
from stm_keras.readers.units import channel_of, si_unit

FIELDS = ("FloatField", "DoubleField", "H", "Intensity")
BIASES = ("rpspmc_hwi_Bias", "sranger_mk2_hwi_bias", "sranger_hwi_bias")
SPEEDS = ("rpspmc_hwi_scan_speed_x", "sranger_mk2_hwi_scan_speed_x")
SETPOINTS = {  # and what tells whether the feedback went by it
    "sranger_mk2_hwi_mix0_set_point": "sranger_mk2_hwi_mix0_current_mix_transform_mode",
    "rpspmc_hwi_mix0_set_point": "rpspmc_hwi_mix0_current_mix_transform_mode",
    "rpspmc_hwi_Z_Servo_SetPoint": "rpspmc_hwi_Z_Servo_Transfer_Mode",
}
REDPITAYA = re.compile("rpspmc_hwi_").match
ANGSTROM = 1e-10


def read(path, channel=None):
    """Read the image of a GXSM file, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path: str | Path, data: bytes) -> Found:
    """Find the image of a GXSM file.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.

    Returns:
        `Found`.

    Raises:
        ScanError: The file is damaged, or is a netCDF file of something else.
    """
    if is_hdf5(data[:4096]):
        with open_hdf5(path, data, "netCDF file") as file:
            return _parse(path, hdf5_open.read_variables(path, data, file)[0])
    with damage(path, "netCDF file"):
        variables, about = netcdf.read_variables(data)
        if not any(name in variables for name in FIELDS):
            return find(path, variables, about)
        return _parse(path, variables)


def _parse(path, variables):
    key = next((name for name in FIELDS if name in variables), None)
    if key is None:
        raise ScanError(
            f"{path}: is a GXSM file whose image is not in it: it has none of "
            f"{', '.join(FIELDS)}. Copy it again."
        )
    field, about, _ = variables[key]
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
    stored = np.asarray(field)[0, 0]
    check_shape(path, *stored.shape)
    factor, unit = _scale(variables, about)
    direction = _direction(path, variables)
    # Only the RedPitaya's program mirrors backward lines before it stores them.
    mirror = direction == "backward" and not any(map(REDPITAYA, variables))
    control = text_of(variables.get("spm_scancontrol", ("", None))[0]).lower()
    slow = {"topdown": "down", "bottomup": "up"}.get(control.replace("-", "").strip())
    width, height = _scalar(variables, "rangex"), _scalar(variables, "rangey")
    speed = next((s for s in (_scalar(variables, k) for k in SPEEDS) if s), None)
    image = Image(
        heights=stored[:, ::-1] if mirror else stored,
        factor=factor,
        channel=channel_of(_label(about))[0],
        unit=unit,
        direction=direction,
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


def _direction(path, variables):
    """Return what the file's name tells, else what GXSM called it: that may be out of date."""
    given = text_of(variables["basename"][0]) if "basename" in variables else ""
    for name in (str(path), given):
        found = re.search(r"-X([pm])\b", Path(name).name)
        if found:
            return {"p": "forward", "m": "backward"}[found.group(1)]
    return None


def _scale(variables, about):
    """Return what turns stored values into SI, and the unit.

    A unit that is not known stays as it is; without one, only topographies are lengths.
    """
    step = _scalar(variables, "dz")
    step = 1.0 if step is None or step == 0 else step
    beside = variables["dz"][1] if "dz" in variables else {}
    told = text_of(beside.get("unit", "")) or text_of(about.get("ZSrcUnit", ""))
    factor, unit = si_unit(told)
    if unit == "m" or (not unit and channel_of(_label(about))[0] == "Z"):
        return step * ANGSTROM, "m"
    return step * factor, unit


def _label(about):
    return text_of(about.get("ZLabel", "")) or "Z"


def _setpoint(variables):
    """Return the current that was kept, if the feedback went by the current."""
    for name, mode in SETPOINTS.items():
        value, mode = _scalar(variables, name), _scalar(variables, mode)
        if value is not None and (mode is None or int(mode) & 1):  # bit 0: it is on
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
