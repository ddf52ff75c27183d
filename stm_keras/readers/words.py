"""What headers of scan files say in words: numbers with units, names of channels."""

import math
import re

PREFIXES = {"f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "": 0}
PREFIXES |= {"k": 3, "M": 6}
SYMBOLS = ("m", "A", "V", "Hz", "s", "deg", "N", "rad", "W")
ANGSTROM = ("Å", "Angstrom", "Angstroem", "Ang", "AA", "\xc5")
NUMBER = r"[-+]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][-+]?\d+)?"

CHANNELS = {  # what microscopes call the two that matter here, most telling first
    "Z": r"^(\d+-\d+ )?(z|z[ -]?axis|height\w*|topo\w*|zs-topo|z[_ ]?height)(?![a-z])",
    "Current": r"(^|[^a-z])(i|current|tip current)(?![a-z])",
}
BACKWARD = r"backward|(?<![a-z])bwd?(?![a-z])|retrace|\[left\]|<-"
FORWARD = r"forward|(?<![a-z])fwd?(?![a-z])|trace|\[right\]|->"


def number(text):
    """Return the number a text begins with, with point or comma, or None."""
    found = re.match(rf"\s*({NUMBER})", str(text or ""))
    if not found:
        return None
    value = float(found.group(1).replace(",", "."))
    return value if math.isfinite(value) else None


def positive(*values):
    """Return floats as a tuple if all are positive and finite, else None."""
    fine = all(v is not None and math.isfinite(v) and v > 0 for v in values)
    return tuple(float(v) for v in values) if fine else None


def si_unit(text):
    """Split a unit into its factor and SI symbol.

    Args:
        text: str, such as "nm", "pA", "mV" or "Å".

    Returns:
        Tuple of float and str; (1.0, text) for a unit that is not known.
    """
    text = str(text or "").strip().strip("()[]").strip()
    if text in ANGSTROM:
        return 1e-10, "m"
    for symbol in SYMBOLS:
        prefix = text.removesuffix(symbol)
        if text.endswith(symbol) and prefix in PREFIXES:
            return float(f"1e{PREFIXES[prefix]}"), symbol
    return 1.0, text


def quantity(text, symbol):
    """Read a number with a unit, such as "1,5 nA", in SI.

    Args:
        text: str or None.
        symbol: str. The SI symbol it must have.

    Returns:
        float, or None where it is no such quantity: a setpoint in Hz is no current.
    """
    found = re.match(rf"\s*({NUMBER})\s*(\S+)", str(text or ""))
    if not found:
        return None
    factor, unit = si_unit(found.group(2))
    value = number(found.group(1))
    return None if unit != symbol or value is None else value * factor


def channel_of(title):
    """Tell what a channel's title says: name, direction, and way of the slow axis.

    Args:
        title: str, such as "Z (Forward)", "7-100 Z TraceUp" or "Topography [Left]".

    Returns:
        Tuple of str and two of str or None.
    """
    title = " ".join(str(title).replace("_", " ").split())
    low = re.sub(r"\[p\d+\]\s*", "", title.lower())  # a pass of several over one line
    bare = re.sub(rf"{BACKWARD}|{FORWARD}", " ", low).strip(" -.")
    name = next((known for known, form in CHANNELS.items() if re.search(form, bare)), title)
    direction = None
    for way, form in (("backward", BACKWARD), ("forward", FORWARD)):
        if direction is None and re.search(form, low):
            direction = way
    slow = re.search(r"(?<![a-z])(?:re)?(?:trace)?(up|down)(?![a-z])", low)
    return name, direction, slow.group(1) if slow else None
