"""Metadata of a scan behind the many names that programs give them.

Gwyddion passes the header of a file on as it was written, and Igor keeps it in a wave's
note: pairs of texts whose names differ from maker to maker.
"""

import math
import re
from collections.abc import Mapping

from stm_keras.readers.units import header_value, number, quantity

WAYS = {  # values of `WAY_NAMES`: which axis, and how it ran
    **dict.fromkeys(("up", "bottomtotop", "upward", "upwards"), ("slow", "up")),
    **dict.fromkeys(("down", "toptobottom", "downward", "downwards"), ("slow", "down")),
    **dict.fromkeys(("forward", "trace", "right", "lefttoright"), ("direction", "forward")),
    **dict.fromkeys(("backward", "retrace", "left"), ("direction", "backward")),
    "righttoleft": ("direction", "backward"),
}
FLAGS = {  # names whose value is yes or no: the way of the slow axis for each
    "scanup": {True: "up", False: "down"},
    "scandown": {True: "down", False: "up"},
}
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
WAY_NAMES = (
    *("yscanningdirection", "framedirection", "scanningdirection", "scandirection"),
    *("xscanningdirection", "linedirection", "direction", "scandir"),
)
BIASES = (
    *("bias", "biasvoltage", "topographybias", "gapvoltage", "samplebias", "vbias"),
    *("gapvoltagecontrol.voltage", "tipvoltage", "tipbias", "surfacevoltage"),
)
SETPOINTS = (
    *("setpoint", "currentsetpoint", "isetpoint", "zcontrollersetpoint", "feedbackset"),
    *("regulator.setpoint1", "regulator::setpoint1", "fblogiset", "current"),
)
ANGLES = ("scanangle", "rotationangle", "rotateang.", "angle", "rotation")
LINE_TIMES = ("time/line", "linetime", "timeperline")
RATES = ("xfrequency", "scanrate")  # lines a second, there and back
SYMBOLS = {"Volt": "V", "Ampere": "A"}
BARE = ("tipvoltage", "surfacevoltage")  # Asylum writes all numbers in SI, without units


def read_metadata(header: Mapping, lines: int, pixels: int) -> dict:
    """Find what a header says of a scan.

    Args:
        header: mapping of str to str: names and values as a program wrote them.
        lines, pixels: int. Of the image.

    Returns:
        dict of those that are there: slow, direction (str, as in `Scan`), bias (V),
        setpoint (A), line_time (s, of one line in one direction), angle (degrees).
    """
    known = {}
    for name, value in header.items():
        plain, unit = _plain(str(name))
        known.setdefault(plain, f"{value} {unit}".strip())
    metadata = _ways(known)
    metadata["bias"] = _bias(known)
    metadata["setpoint"] = _first(known, SETPOINTS, "A")
    metadata["angle"] = next((header_value(known[a]) for a in ANGLES if a in known), None)
    if "unitnumber" in known and "tilt" in known:  # Aarhus: the angle of the lines
        metadata["angle"] = header_value(known["tilt"])
    metadata["line_time"] = _line_time(known, lines, pixels)
    return {name: value for name, value in metadata.items() if value is not None}


def _plain(name):
    """Return a name without its section, number and unit, and the unit: two of str."""
    unit = re.search(r"\[([^\]]*)\]", name)
    name = re.sub(r"\[[^\]]*\]", "", name).split(" / ")[0]
    name = re.sub(r"^(?:\d+|EEPA):", "", name.strip()).strip()
    section, _, last = name.rpartition("::")
    if section in ("GapVoltageControl", "Regulator"):
        last = f"{section}.{last}"
    unit = unit.group(1) if unit else ""
    return re.sub(r"[\s_-]", "", last).lower(), SYMBOLS.get(unit, unit)


def _ways(known):
    ways = {}
    for name in WAY_NAMES:
        way = WAYS.get(re.sub(r"[\s_-]", "", known.get(name, "")).lower())
        if way:
            ways.setdefault(*way)
    for name, slow in FLAGS.items():
        value = known.get(name, "").lower()
        if value in YES + NO:
            ways.setdefault("slow", slow[value in YES])
    if "scanymode" in known:  # Createc
        slow = {"1": "down", "2": "up"}.get(known["scanymode"])
        ways.setdefault("slow", slow)
    return ways


def _bias(known):
    """Return the bias; of the two of Park's software, the one that is not 0."""
    values = [quantity(known.get(name), "V") for name in BIASES]
    values += [header_value(known.get(name)) for name in BARE]
    values = _not_none(values)
    return next((value for value in values if value), values[0] if values else None)


def _not_none(values):
    """Return the values that are there as a list, NaN last."""
    return sorted((v for v in values if v is not None), key=math.isnan)


def _first(known, names, symbol):
    values = _not_none(quantity(known.get(name), symbol) for name in names)
    return next(iter(values), None)


def _line_time(known, lines, pixels):
    time = _first(known, LINE_TIMES, "s")
    if time is not None:
        return time
    rate = next((number(known[name]) for name in RATES if name in known), None)
    if rate is not None and rate > 0:
        return 0.5 / rate
    if "pageid" in known:  # RHK: of one pixel
        period = quantity(known.get("period"), "s")
        return None if period is None else period * pixels
    point = quantity(known.get("topographytimeperpoint"), "s")  # SCALA
    if point is not None:
        return point * pixels
    duration = quantity(known.get("scanduration"), "s")  # Aarhus: of the whole image
    return None if duration is None else duration / lines
