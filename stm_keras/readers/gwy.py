"""Read Gwyddion files (.gwy) and what its converter makes of other formats.

The gwyfile library reads them too, but a cut string makes it loop for ever and a list
that promises billions of entries fills the memory: so the structure is walked here.

Source: https://gwyddion.net/documentation/user-guide-en/gwyfile-format.html
"""

import re
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.file_bytes import check_length, check_shape
from stm_keras.readers.metadata import read_metadata
from stm_keras.readers.scan_file import Image, ScanFile, zero_filled
from stm_keras.readers.units import channel_of, si_unit, start_time

MAGIC = b"GWYP"
FIXED = {"b": "<?", "c": "<B", "i": "<i", "q": "<q", "d": "<d"}
ARRAYS = {"C": "u1", "I": "<i4", "Q": "<i8", "D": "<f8"}
DEEPEST = 20  # objects within objects
FEWEST = 10  # lines and pixels of a frame: below, they are curves
OWN = re.compile(r"direction|scan_?dir|line type", re.IGNORECASE)  # not to be inherited
NOT_HEIGHTS = re.compile(r"error|amplitude|deflection|displacement", re.IGNORECASE)


def parse(path: Path, data: bytes, dates: str | None = None) -> ScanFile:
    """Find all images of a Gwyddion file.

    `dates` is the form of "Date" in its headers, where that is known to be when a scan began.
    """
    kind, content, _ = _object(data, len(MAGIC), len(data), 0)
    if kind != "GwyContainer":
        raise ScanError(f"{path}: is a Gwyddion file of {kind[:40]!r}, not of images.")
    numbers = (re.fullmatch(r"/(\d+)/data", key) for key in content)
    numbers = sorted(int(match.group(1)) for match in numbers if match)
    pairs, others = [], []
    for number in numbers:
        header = _header(content, number)
        image, offset = _image(path, content, number, header)
        other = _no_frame(content[f"/{number}/data"], header)
        if other:
            others.append(other)
        else:
            frame = (image.heights.shape, image.size, offset, header.get("Date"))
            if dates is not None:
                image = replace(image, started=start_time(header.get("Date", ""), dates))
            pairs.append((frame, image))
    if not pairs:
        reason = others[0] if others else "only curves or volumes"
        raise NoImageError(f"{path}: holds no image, {reason}. Give a scan.")
    return ScanFile(images=_in_scans(pairs))


def _object(data, start, end, depth):
    """Read one object: tuple of its type, dict of its components, and where it ends."""
    if depth > DEEPEST:
        raise ValueError("objects within objects without end")
    kind, start = _string(data, start, end)
    (size,) = struct.unpack_from("<I", data, start)
    start += 4
    if size > end - start:
        raise ValueError(
            f"cut short: {kind} ends {size - end + start} bytes after the file"
        )
    end, content = start + size, {}
    while start < end:
        name, start = _string(data, start, end)
        code = chr(data[start])
        content[name], start = _value(data, start + 1, end, code, depth)
    return kind, content, end


def _string(data, start, end):
    stop = data.find(b"\0", start, end)
    if stop < 0:
        raise ValueError("a text without an end")
    return data[start:stop].decode("utf-8", "replace"), stop + 1


def _value(data, start, end, code, depth):
    if code in FIXED:
        size = struct.calcsize(FIXED[code])
        _check(size, end - start)
        (value,) = struct.unpack_from(FIXED[code], data, start)
        return (chr(value) if code == "c" else value), start + size
    if code == "s":
        return _string(data, start, end)
    if code == "o":
        _, content, start = _object(data, start, end, depth + 1)
        return content, start
    _check(4, end - start)
    (count,) = struct.unpack_from("<I", data, start)
    start += 4
    if code in ARRAYS:
        dtype = np.dtype(ARRAYS[code])
        _check(count * dtype.itemsize, end - start)
        return np.frombuffer(data, dtype, count, start), start + count * dtype.itemsize
    _check(count, end - start)  # every text or object has a byte at least
    items = []
    for _ in range(count):
        if code == "S":
            item, start = _string(data, start, end)
        elif code == "O":
            _, item, start = _object(data, start, end, depth + 1)
        else:
            raise ValueError(f"a component of unknown type {code!r}")
        items.append(item)
    return items, start


def _check(needed, size):
    if needed > size:
        raise ValueError(f"cut short: {size} bytes where {needed} are promised")


def _image(path, content, number, header):
    """Return an image with all that the file says of it, and the offset of its frame."""
    field = content[f"/{number}/data"]
    pixels, lines = field["xres"], field["yres"]
    check_shape(path, lines, pixels)
    check_length(path, lines * pixels, len(field["data"]), "an image needs (values)")
    heights = field["data"][: lines * pixels].reshape(lines, pixels)
    factor, unit = si_unit(_unit(field, "si_unit_z"))
    title = str(content.get(f"/{number}/data/title", "") or f"image {number}")
    channel, direction, slow = channel_of(title)
    if unit == "A" and (channel == "Z" or channel.lower().startswith("topo")):
        # SCALA calls all of its channels topographic
        channel = "Current"
    scale, lateral = si_unit(_unit(field, "si_unit_xy"))
    size = None
    if lateral == "m" and "xreal" in field and "yreal" in field:
        size = (float(field["xreal"]) * scale, float(field["yreal"]) * scale)
    metadata = read_metadata(header, lines, pixels)
    valid = _recorded(heights, content.get(f"/{number}/mask"))
    image = Image(heights, channel, unit, factor=factor, valid=valid, size=size, **metadata)
    image = replace(image, direction=direction or image.direction, slow=slow or image.slow)
    return image, (field.get("xoff", 0.0), field.get("yoff", 0.0))


def _header(content, number):
    """Return the header of an image; of one that has none, that of another image.

    A channel that was computed from others has none of its own. Its direction is not theirs.
    """
    own = content.get(f"/{number}/meta")
    if isinstance(own, dict) and own:
        return {key: str(value) for key, value in own.items()}
    headers = (value for key, value in content.items() if re.fullmatch(r"/\d+/meta", key))
    other = next((each for each in headers if isinstance(each, dict) and each), {})
    return {key: str(value) for key, value in other.items() if not OWN.search(key)}


def _no_frame(field, header):
    """Tell what an array is that is not a frame of a surface: str, or None."""
    lateral = _unit(field, "si_unit_xy")
    if header.get("Line type", "0") != "0":
        return "but spectra along a line"
    if lateral and si_unit(lateral)[1] != "m":
        return f"but an array over {' '.join(lateral.split())[:20]}, not over metres"
    if min(field["xres"], field["yres"]) < FEWEST:
        return f"but curves: {field['yres']} lines of {field['xres']} pixels"
    return None


def _in_scans(pairs):
    """Number the scans of a file, whose images come with their frames: tuple of `Image`.

    Images of one size at one place are channels and directions of one scan, unless its
    topography is there twice. Where none is called a topography, those in metres are.
    """
    named = {frame for frame, image in pairs if image.channel == "Z"}
    for index, (frame, image) in enumerate(pairs):
        heights = image.unit == "m" and not NOT_HEIGHTS.search(image.channel)
        if heights and frame not in named:
            pairs[index] = frame, replace(image, channel="Z")
    returned = {  # what was scanned back was scanned forth, too (JPK marks one of the two)
        (frame, image.channel) for frame, image in pairs if image.direction == "backward"
    }
    for index, (frame, image) in enumerate(pairs):
        if image.direction is None and (frame, image.channel) in returned:
            pairs[index] = frame, replace(image, direction="forward")
    scans = Counter()  # of each frame: as many as it has topographies of one label
    labels = Counter((frame, image.label) for frame, image in pairs)
    for (frame, label), count in labels.items():
        if label.split()[0] == "Z":
            scans[frame] = max(scans[frame], count)
    order, seen, numbered = {}, Counter(), []
    for frame, image in pairs:
        turn = seen[frame, image.label]
        seen[frame, image.label] += 1
        key = (frame, min(turn, scans[frame] - 1) if scans[frame] else turn)
        numbered.append(replace(image, index=order.setdefault(key, len(order))))
    return tuple(numbered)


def _unit(field, key):
    unit = field.get(key)
    return unit.get("unitstr", "") if isinstance(unit, dict) else ""


def _recorded(heights, mask):
    """Tell which pixels were recorded: not masked, and no lines of zeros at an end."""
    valid = np.isfinite(heights)
    masked = mask.get("data") if isinstance(mask, dict) else None
    if masked is not None and len(masked) == heights.size:
        valid &= ~(masked.reshape(heights.shape) > 0)
    filled = zero_filled(heights)
    return valid & filled if filled.any() else valid
