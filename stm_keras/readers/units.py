"""What headers of scan files say in words: numbers with units, names of channels.

What no microscope measures is not believed: see `LIMITS` and `HEIGHT_LIMITS`.
"""

import math
import re
from datetime import datetime

import numpy as np

from stm_keras.errors import ScanError

LIMITS = {  # of a scan's metadata: least and most amount, the unit, and why no more
    "size": (1e-11, 1e-1, "m"),  # from a fifth of an atom to ten centimetres
    "bias": (0.0, 1e4, "V"),  # field emission takes some hundred
    "setpoint": (0.0, 1.0, "A"),  # a tunnelling current is below a microampere
    "line_time": (1e-7, 1e5, "s"),  # the fastest scanners take microseconds; a day is 86400
    "angle": (0.0, 720.0, "degrees"),  # from -180 or from 0, and a turn more
}
HEIGHT_LIMITS = {  # of an image, by its unit
    "m": 1e-3,  # a piezo reaches micrometres, a motor some more
    "A": 1.0,
    "V": 1e6,
    "deg": 1e6,
    "rad": 1e5,
    "Hz": 1e15,
    "s": 1e9,
    "N": 1e3,
    "W": 1e6,
}
YEARS = 1981, 2100  # of a scan; clocks that nobody set say 1904, 1970 or 1980
COUNTS = 2.0**64  # of a converter, or of what has no unit that is known

PREFIXES = {"f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "": 0}
PREFIXES |= {"k": 3, "M": 6, "G": 9}
SYMBOLS = ("m", "A", "V", "Hz", "s", "deg", "N", "rad", "W")
ANGSTROM = ("Å", "Angstrom", "Angstroem", "Ang", "AA", "\xc5")
SPOKEN = {  # units in words, as NeXus writes them: "nanometer", "Volts"
    **dict.fromkeys(("meter", "metre"), "m"),
    **dict.fromkeys(("ampere", "amp"), "A"),
    "volt": "V",
    "hertz": "Hz",
    "second": "s",
    "degree": "deg",
    "newton": "N",
    "radian": "rad",
    "watt": "W",
}
SPOKEN_PREFIXES = {"femto": -15, "pico": -12, "nano": -9, "micro": -6, "milli": -3, "": 0}
SPOKEN_PREFIXES |= {"kilo": 3, "mega": 6, "giga": 9}
NUMBER = r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?"
WHOLE = rf"(?>{NUMBER})(?!\S*\d)"  # not the 0 of 0x10, nor the 1.2 of 1.2.3
NO_NUMBER = r"[-+]?(?:nan|inf(?:inity)?)(?![^\W\d_])|[-+.,\d]\S*(?=\s)"  # in its place
UNKNOWN = ("", "-", "--", "---", "?", "n/a", "n.a.", "na", "none", "null", "unknown")
UNKNOWN += ("undefined", "not available", "off", "false", "no")  # as programs write it

# What microscopes call the two channels that matter here. The whole title must say so: "Z
# error" is not Z, "LIA Current" not the current. Omicron adds run and cycle: "--37_1-I 3".
CYCLE = r"(?:.*--)?\d+[ -]\d+[ -]{0}(?: \d+)?|{0}(?: \d+)? \d+-\d+"
CHANNELS = {
    "Z": rf"{CYCLE.format('z')}|z(?:[ -]?(?:axis|height|piezo))?|height|topo(?:graphy)?|zs-topo",
    "Current": rf"{CYCLE.format('i')}|(?:tip |sample |tunnel(?:l?ing)? )?current"
    r"|(?:adc0-)?i(?:tunnel)?",
}
BACKWARD = r"backward|(?<![a-z])bwd?(?![a-z])|retrace|\[left\]|<-"
FORWARD = r"forward|(?<![a-z])fwd?(?![a-z])|trace|\[right\]|->"
SLOW = r"(?<![a-z])(?:re)?(?:trace)?(up|down)(?![a-z])"
PASS = r"\[p(\d+)\] ?"  # of several over one line
UNIT = r" ?[(\[](?:[fpnuµm]?[mav]|å|hz)[)\]]$"


def number(text: str | None) -> float | None:
    """Return the finite number that a text begins with, with point or comma, or None."""
    match = re.match(rf"\s*({WHOLE})", str(text or ""))
    if not match:
        return None
    value = float(match.group(1).replace(",", "."))
    return value if math.isfinite(value) else None


def header_value(text: str | None) -> float | None:
    """Read a number and perhaps a unit behind it as a header says it, for `believable`.

    It may have a comma for a point. NaN stands for what is not a number, None for nothing or a
    word for "unknown".
    """
    text = str("" if text is None else text).strip()
    if text.lower() in UNKNOWN:
        return None
    match = re.fullmatch(rf"({NUMBER})\D*", text)
    return float(match.group(1).replace(",", ".")) if match else math.nan


def start_time(text: str, form: str | None = None) -> datetime | None:
    """Read when a scan began, by the clock of the microscope: a zone is left out.

    Args:
        text: str. Date and time.
        form: str. How they are written, as `datetime.strptime` takes it; None for ISO 8601.

    Returns:
        None for what is not a date with a time, or of a year outside `YEARS`.
    """
    text = text.strip()
    try:
        told = datetime.strptime(text, form) if form else datetime.fromisoformat(text)
    except ValueError:
        return None
    if ":" not in text or not YEARS[0] <= told.year <= YEARS[1]:
        return None
    return told.replace(tzinfo=None)


def positive(*values: float | None) -> tuple | None:
    """Return floats as a tuple if all are positive and finite, else None."""
    fine = all(v is not None and math.isfinite(v) and v > 0 for v in values)
    return tuple(float(v) for v in values) if fine else None


def si_unit(text: str | None) -> tuple:
    """Split a unit such as "nm", "pA", "Å" or "nanometer" into its factor and SI symbol.

    Of a unit that is not known it returns (1.0, text).
    """
    text = str(text or "").strip().strip("()[]").strip()
    word = text.lower().removesuffix("s") if len(text) > 3 else ""
    if text in ANGSTROM or word in ("angstrom", "ångström"):
        return 1e-10, "m"
    for symbol in SYMBOLS:
        prefix = text.removesuffix(symbol)
        if text.endswith(symbol) and prefix in PREFIXES:
            return float(f"1e{PREFIXES[prefix]}"), symbol
    for spoken, symbol in SPOKEN.items():
        prefix = word.removesuffix(spoken)
        if word.endswith(spoken) and prefix in SPOKEN_PREFIXES:
            return float(f"1e{SPOKEN_PREFIXES[prefix]}"), symbol
    return 1.0, text


def quantity(text: str | None, symbol: str) -> float | None:
    """Read a number with a unit, such as "1,5 nA", in SI, as `header_value` does.

    It is None where the unit is not of this SI symbol: a setpoint in Hz is not a current.
    """
    match = re.match(rf"\s*({WHOLE}|{NO_NUMBER})\s*(\S+)", str(text or ""), re.I)
    if not match:
        return None
    factor, unit = si_unit(match.group(2))
    value = header_value(match.group(1))
    return None if unit != symbol or value is None else value * factor


def channel_of(title: str) -> tuple[str, str | None, str | None]:
    """Tell what a channel's title says: name, direction, and way of the slow axis.

    Titles are such as "Z (Forward)", "7-100 Z TraceUp", "Topography [Left]" or "[P2]_Z". The
    name is "Z" or "Current" where the whole title says no more than that, else the title
    without its ways; of a later pass over the same lines, it begins with "P2 ".
    """
    title = " ".join(str(title).replace("_", " ").split())
    low = title.lower()
    pass_ = re.search(PASS, low)
    bare = re.sub(rf"{PASS}|{SLOW}|{BACKWARD}|{FORWARD}", " ", title, flags=re.I)
    bare = re.sub(r"[(\[][ -]*[)\]]", " ", bare)  # what ways leave of "(Trace)"
    bare = " ".join(bare.split()).strip(" -.,")
    plain = re.sub(UNIT, "", bare.lower())
    known = (name for name, form in CHANNELS.items() if re.fullmatch(form, plain))
    name = next(known, bare or title)
    if pass_ and int(pass_.group(1)) > 1:
        name = f"P{int(pass_.group(1))} {name}"
    direction = None
    for way, form in (("backward", BACKWARD), ("forward", FORWARD)):
        if direction is None and re.search(form, low):
            direction = way
    slow = re.search(SLOW, low)
    return name, direction, slow.group(1) if slow else None


def believable(**metadata: object) -> tuple[dict, list]:
    """Leave out what a scan cannot say of itself.

    Args:
        **metadata: `size` (two numbers), `bias`, `setpoint`, `line_time` and `angle`, each in
            the unit of `LIMITS`; None where the file does not say, NaN for what is not a number.

    Returns:
        Tuple of a dict with the same names, of float, tuple of float or None; and a list of
        str: a note on each that was left out.
    """
    believed, notes = dict.fromkeys(metadata), []
    for name, value in metadata.items():
        values = value if isinstance(value, tuple) else (value,)
        if any(each is None for each in values) or (name == "size" and not any(values)):
            continue  # the file does not say, or says zeros
        least, most, unit = LIMITS[name]
        values = tuple(map(float, values))
        signed = name not in ("size", "line_time")
        amounts = tuple(map(abs, values)) if signed else values
        label = name.replace("_", " ")
        if any(map(math.isnan, values)):
            kind = "two numbers" if name == "size" else "a number"
            notes.append(f"the {label} is not {kind} and is left out")
        elif all(math.isfinite(each) and least <= each <= most for each in amounts):
            believed[name] = values if isinstance(value, tuple) else values[0]
        else:
            shown = " x ".join(f"{each:.3g}" for each in values)
            notes.append(f"the {label} {shown} {unit} is impossible and is left out")
    return believed, notes


def check_heights(path: object, label: str, heights: np.ndarray, unit: str) -> None:
    """Raise a `ScanError` where recorded heights are not such as a microscope measures.

    `label` names the image in the error; `heights` are finite, in `unit` (SI).
    """
    largest = float(max(heights.max(initial=0.0), -heights.min(initial=0.0)))
    if largest > HEIGHT_LIMITS.get(unit, COUNTS):
        raise ScanError(
            f"{path}: {label} is damaged, or in another unit than it says: up to {largest:.3g} "
            f"{unit or 'counts'}. Copy it again from the microscope's computer."
        )
