"""Read Gwyddion files (.gwy) and what its converter makes of other formats.

The gwyfile library reads them too, but a cut string makes it loop for ever and a list
that promises billions of entries fills the memory: so the structure is walked here.

Source: https://gwyddion.net/documentation/user-guide-en/gwyfile-format.html
"""

import re
import struct

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.found import Found, Image, choose, zero_filled
from stm_keras.readers.source import check_length, check_shape, damage, read_bytes
from stm_keras.readers.words import channel_of, quantity, si_unit

MAGIC, OLD = b"GWYP", b"GWYO"
FIXED = {"b": "<?", "c": "<B", "i": "<i", "q": "<q", "d": "<d"}
ARRAYS = {"C": "u1", "I": "<i4", "Q": "<i8", "D": "<f8"}
DEEPEST = 20  # objects within objects
BIASES = ("Bias", "Bias Voltage", "Tip voltage", "GapVoltageControl::Voltage")
SETPOINTS = ("Current", "Setpoint", "Set Point", "Regulator::Setpoint_1")


def read(path, channel=None):
    """Read one image of a Gwyddion file, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path, data, name="gwyddion"):
    """Find all images of a Gwyddion file.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.
        name: str. Format of what was converted.

    Returns:
        `Found`.

    Raises:
        ScanError: The file is damaged, or holds no image.
    """
    if data.startswith(OLD):
        raise ScanError(
            f"{path}: was saved by Gwyddion 1. Open it in Gwyddion of today and save it again."
        )
    with damage(path, "Gwyddion file"):
        kind, content, _ = _object(data, len(MAGIC), len(data), 0)
        if kind != "GwyContainer":
            raise ScanError(f"{path}: is a Gwyddion file of {kind[:40]!r}, not of images.")
        return _parse(path, content, name)


def _object(data, place, end, depth):
    """Read one object: tuple of its type, dict of its components, and where it ends."""
    if depth > DEEPEST:
        raise ValueError("objects within objects without end")
    kind, place = _string(data, place, end)
    (size,) = struct.unpack_from("<I", data, place)
    place += 4
    if size > end - place:
        raise ValueError(
            f"cut short: {kind} ends {size - end + place} bytes after the file"
        )
    end, content = place + size, {}
    while place < end:
        name, place = _string(data, place, end)
        code = chr(data[place])
        content[name], place = _value(data, place + 1, end, code, depth)
    return kind, content, end


def _string(data, place, end):
    stop = data.find(b"\0", place, end)
    if stop < 0:
        raise ValueError("a text without an end")
    return data[place:stop].decode("utf-8", "replace"), stop + 1


def _value(data, place, end, code, depth):
    if code in FIXED:
        size = struct.calcsize(FIXED[code])
        _check(size, end - place)
        return struct.unpack_from(FIXED[code], data, place)[0], place + size
    if code == "s":
        return _string(data, place, end)
    if code == "o":
        _, content, place = _object(data, place, end, depth + 1)
        return content, place
    _check(4, end - place)
    (count,) = struct.unpack_from("<I", data, place)
    place += 4
    if code in ARRAYS:
        dtype = np.dtype(ARRAYS[code])
        _check(count * dtype.itemsize, end - place)
        return np.frombuffer(data, dtype, count, place), place + count * dtype.itemsize
    _check(count, end - place)  # every text or object has a byte at least
    items = []
    for _ in range(count):
        if code == "S":
            item, place = _string(data, place, end)
        elif code == "O":
            _, item, place = _object(data, place, end, depth + 1)
        else:
            raise ValueError(f"a component of unknown type {code!r}")
        items.append(item)
    return items, place


def _check(needed, there):
    if needed > there:
        raise ValueError(f"cut short: {there} bytes where {needed} are promised")


def _parse(path, content, name):
    numbers = (re.fullmatch(r"/(\d+)/data", key) for key in content)
    numbers = sorted(int(found.group(1)) for found in numbers if found)
    images, size, meta = [], None, {}
    for index in numbers:
        field = content[f"/{index}/data"]
        pixels, lines = field["xres"], field["yres"]
        check_shape(path, lines, pixels)
        check_length(path, lines * pixels, len(field["data"]), "an image needs (values)")
        heights = field["data"][: lines * pixels].reshape(lines, pixels)
        factor, unit = si_unit(_unit(field, "si_unit_z"))
        title = str(content.get(f"/{index}/data/title", "") or f"image {index}")
        channel, direction, slow = channel_of(title)
        images.append(
            Image(
                heights=heights * factor,
                channel=channel,
                unit=unit,
                direction=direction,
                slow=slow,
                valid=_recorded(heights, content.get(f"/{index}/mask")),
            )
        )
        for key, value in (content.get(f"/{index}/meta") or {}).items():
            meta.setdefault(key, str(value))
        scale, lateral = si_unit(_unit(field, "si_unit_xy"))
        if size is None and lateral == "m" and "xreal" in field and "yreal" in field:
            size = (float(field["xreal"]) * scale, float(field["yreal"]) * scale)
    if not images:
        raise NoImageError(f"{path}: holds no image, only curves or volumes. Give a scan.")
    return Found(
        format=name,
        images=tuple(images),
        size=size,
        bias=_first(meta, BIASES, "V"),
        setpoint=_first(meta, SETPOINTS, "A"),
    )


def _unit(field, key):
    unit = field.get(key)
    return unit.get("unitstr", "") if isinstance(unit, dict) else ""


def _recorded(heights, mask):
    """Tell which pixels were recorded: not masked, and no lines of zeros at an end."""
    valid = np.isfinite(heights)
    masked = mask.get("data") if isinstance(mask, dict) else None
    if masked is not None and len(masked) == heights.size:
        valid &= ~(masked.reshape(heights.shape) > 0)
    there = zero_filled(heights)
    return valid & there if there.any() else valid


def _first(meta, names, symbol):
    values = (quantity(meta.get(name), symbol) for name in names)
    return next((value for value in values if value is not None), None)
