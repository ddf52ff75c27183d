"""Read GXSM scans (.nc): netCDF 3 of GXSM3, or netCDF 4 (that is HDF5) of GXSM4.

Lengths are always stored in Angstrom; the unit beside them is what the program shows.
Backward images (-Xm in the name of the file) are stored as they were recorded, from right to
left, but mirrored already by a RedPitaya. Lines that were not recorded are zeros.
"""

import re
from email.utils import parsedate
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.hdf5_open import text_of
from stm_keras.readers.netcdf import finite_number, read_variables, variable_names
from stm_keras.readers.scan_file import Image, ScanFile, zero_filled
from stm_keras.readers.units import channel_of, si_unit, start_time

OWN_FIELDS = ("FloatField", "DoubleField")  # names that no other program uses
FIELDS = (*OWN_FIELDS, "H", "Intensity")
BIASES = ("rpspmc_hwi_Bias", "sranger_mk2_hwi_bias", "sranger_hwi_bias")
SPEEDS = ("rpspmc_hwi_scan_speed_x", "sranger_mk2_hwi_scan_speed_x")
SETPOINTS = {  # and the mode that says whether the feedback used it
    "sranger_mk2_hwi_mix0_set_point": "sranger_mk2_hwi_mix0_current_mix_transform_mode",
    "rpspmc_hwi_mix0_set_point": "rpspmc_hwi_mix0_current_mix_transform_mode",
    "rpspmc_hwi_Z_Servo_SetPoint": "rpspmc_hwi_Z_Servo_Transfer_Mode",
}
REDPITAYA = re.compile("rpspmc_hwi_").match
STARTS = ("reftime", "dateofscan")  # "Mon Dec 11 11:45:58 2023", by the clock on the wall
ANGSTROM = 1e-10


def netcdf_format(path: Path, head: bytes) -> str:
    """Tell whether a classic netCDF file is of GXSM: "gxsm", else "netcdf"."""
    return "gxsm" if variable_names(path) & set(FIELDS) else "netcdf"


def parse(path: Path, data: bytes) -> ScanFile:
    """Find the image of a GXSM file."""
    variables, _ = read_variables(path, data)
    key = next((name for name in FIELDS if name in variables), None)
    if key is None:
        raise ScanError(
            f"{path}: is a GXSM file whose image is not in it: it has none of "
            f"{', '.join(FIELDS)}. Copy it again."
        )
    field, attributes, _ = variables[key]
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
    factor, unit = _scale(variables, attributes)
    direction = _direction(path, variables)
    # Only the RedPitaya's program mirrors backward lines before it stores them.
    mirror = direction == "backward" and not any(map(REDPITAYA, variables))
    control = text_of(variables.get("spm_scancontrol", ("", None))[0]).lower()
    slow = {"topdown": "down", "bottomup": "up"}.get(control.replace("-", "").strip())
    width, height = _scalar(variables, "rangex"), _scalar(variables, "rangey")
    speed = next((s for s in (_scalar(variables, k) for k in SPEEDS) if s), None)
    channel = channel_of(_label(attributes))[0]
    heights, valid = stored[:, ::-1] if mirror else stored, zero_filled(stored)
    time = width / speed if width and speed else None
    biases = (_scalar(variables, name) for name in BIASES)
    image = Image(heights, channel, unit, direction, slow, valid, time, factor=factor)
    return ScanFile(
        images=(image,),
        size=(width * ANGSTROM, height * ANGSTROM) if width and height else None,
        bias=next((bias for bias in biases if bias is not None), None),
        setpoint=_setpoint(variables),
        angle=_scalar(variables, "alpha"),
        started=_started(variables),
    )


def _started(variables):
    """Return when the scan began. Months are in English, whatever the language here."""
    for name in STARTS:
        text = text_of(variables[name][0]) if name in variables else ""
        told = parsedate(text)  # of the library, as `strptime` goes by the locale
        if told is not None:
            year, month, day, hour, minute, second = told[:6]
            return start_time(
                f"{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
            )
    return None


def _direction(path, variables):
    """Return what the file's name says, else the name that GXSM gave: it may be out of date."""
    given = text_of(variables["basename"][0]) if "basename" in variables else ""
    for name in (str(path), given):
        match = re.search(r"-X([pm])\b", Path(name).name)
        if match:
            return {"p": "forward", "m": "backward"}[match.group(1)]
    return None


def _scale(variables, attributes):
    """Return what turns stored values into SI, and the unit.

    A unit that is not known stays as it is; without one, only topographies are lengths.
    """
    step = _scalar(variables, "dz")
    step = 1.0 if step is None or step == 0 else step
    beside = variables["dz"][1] if "dz" in variables else {}
    stated = text_of(beside.get("unit", "")) or text_of(attributes.get("ZSrcUnit", ""))
    factor, unit = si_unit(stated)
    if unit == "m" or (not unit and channel_of(_label(attributes))[0] == "Z"):
        return step * ANGSTROM, "m"
    return step * factor, unit


def _label(attributes):
    return text_of(attributes.get("ZLabel", "")) or "Z"


def _setpoint(variables):
    """Return the current that was kept, if the feedback went by the current."""
    for name, mode in SETPOINTS.items():
        value, mode = _scalar(variables, name), _scalar(variables, mode)
        if value is not None and (mode is None or int(mode) & 1):  # bit 0: it is on
            attributes = variables[name][1]
            stated = attributes.get("var_unit", attributes.get("unit", ""))
            factor, unit = si_unit(text_of(stated))
            return value * factor if unit == "A" else None
    return None


def _scalar(variables, name):
    if name not in variables:
        return None
    return finite_number(np.ravel(variables[name][0])[:1])
