"""What a scan may say of itself: numbers that no microscope has are not believed.

A damaged byte, or a program's zero for "unknown", makes a frame of 1e-300 m or a line of
-5 s. Such a number is told as missing, with a note; heights that cannot be are no scan.
"""

import math

import numpy as np

from stm_keras.errors import ScanError

FACTS = {  # of a scan: least and most by its amount, the unit, and why no more is believed
    "size": (1e-11, 1e-1, "m"),  # from a fifth of an atom to ten centimetres
    "bias": (0.0, 1e4, "V"),  # field emission takes some hundred
    "setpoint": (0.0, 1.0, "A"),  # a tunnelling current is below a microampere
    "line_time": (1e-7, 1e5, "s"),  # the fastest scanners take microseconds; a day is 86400
    "angle": (0.0, 720.0, "degrees"),  # from -180 or from 0, and a turn more
}
HEIGHTS = {  # of an image, by its unit
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
COUNTS = 2.0**64  # of a converter, or of what has no unit that is known
NAMES = {"line_time": "line time"}


def believable(**facts: object) -> tuple:
    """Leave out what a scan cannot say of itself.

    Args:
        **facts: `size` (two numbers), `bias`, `setpoint`, `line_time` and `angle`, each in the
            unit of `FACTS`; None where not told, NaN where no number.

    Returns:
        Tuple of a dict with the same names, of float, tuple of float or None; and a list of
        str: a note on each that was left out.
    """
    kept, notes = {}, []
    for name, value in facts.items():
        least, most, unit = FACTS[name]
        values = value if isinstance(value, tuple) else (value,)
        if any(each is None for each in values) or (name == "size" and not any(values)):
            kept[name] = None  # it is not told, or by zeros
            continue
        values = tuple(map(float, values))
        if any(map(math.isnan, values)):
            what = "two numbers" if name == "size" else "a number"
            notes.append(f"the {NAMES.get(name, name)} is not {what}: not believed")
            kept[name] = None
            continue
        signed = name in ("size", "line_time")  # the others may be negative
        amounts = values if signed else tuple(map(abs, values))
        if all(math.isfinite(each) and least <= each <= most for each in amounts):
            kept[name] = values if isinstance(value, tuple) else values[0]
            continue
        shown = " x ".join(f"{each:.3g}" for each in values)
        notes.append(f"the {NAMES.get(name, name)} {shown} {unit} cannot be: not believed")
        kept[name] = None
    return kept, notes


def check_heights(path: object, label: str, heights: np.ndarray, unit: str) -> None:
    """Raise a `ScanError` where heights are none that a microscope measures.

    Args:
        path: str or `Path`. Named in the error.
        label: str. Which image.
        heights: float array, those that were recorded; finite.
        unit: str. SI.
    """
    largest = float(max(heights.max(initial=0.0), -heights.min(initial=0.0)))
    if largest > HEIGHTS.get(unit, COUNTS):
        raise ScanError(
            f"{path}: {label} is damaged, or in another unit than it says: up to {largest:.3g} "
            f"{unit or 'counts'}. Copy it again from the microscope's computer."
        )
