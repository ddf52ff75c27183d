"""Read Igor binary waves (.ibw) that are images, with the igor2 library.

A wave is stored [x, y] with y upwards. Igor does not say what its axes mean: names, labels
and the note that a program wrote (Asylum's says nearly all) are all there is.
"""

import io
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from stm_keras.errors import MissingExtraError, NoImageError, ScanError, require
from stm_keras.memory import charge
from stm_keras.readers.file_bytes import check_length
from stm_keras.readers.metadata import read_metadata
from stm_keras.readers.scan_file import Image, ScanFile
from stm_keras.readers.units import channel_of, si_unit

HEADER = {1: 118, 2: 126, 3: 130, 5: 384}  # bytes that the checksum is over, by version
FEWEST = 10  # pixels and lines of an image
UNITS = {  # of Asylum's channels, by how their names begin; a wave has one for them all
    **dict.fromkeys(("Height", "ZSensor", "Deflection", "Amplitude"), "m"),
    **dict.fromkeys(("UserIn", "Potential"), "V"),
    "Current": "A",
    "Phase": "deg",
    "Frequency": "Hz",
}


def is_wave(path: Path, head: bytes) -> bool:
    """Tell whether a file begins as an Igor wave: its header sums up to zero."""
    for order in "<>":
        version = struct.unpack_from(f"{order}h", head)[0] if len(head) >= 2 else 0
        size = HEADER.get(version)
        if size and len(head) >= size:
            return not np.frombuffer(head, f"{order}i2", size // 2).sum(dtype=int) % 65536
    return False


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of an Igor wave."""
    _check_sizes(path, data)
    charge(2 * len(data), "an Igor wave")
    try:
        igor2 = require("igor2.binarywave", "spm")
    except MissingExtraError as error:
        raise ScanError(f"{path}: is an Igor wave, which igor2 reads. {error}") from None
    wave = igor2.load(io.BytesIO(data))["wave"]
    stored, header = np.asarray(wave["wData"]), wave["wave_header"]
    if stored.dtype.kind not in "iuf":
        raise ScanError(f"{path}: is an Igor wave of {stored.dtype}, not of heights.")
    if stored.ndim < 2 or min(stored.shape[:2]) < FEWEST:
        raise NoImageError(
            f"{path}: is an Igor wave of shape {stored.shape}: curves, not an image. Give a scan."
        )
    labels = [_text(label) for label in wave["labels"][2]] if stored.ndim == 3 else []
    if stored.ndim > 3 or (stored.ndim == 3 and not any(labels)):
        raise NoImageError(
            f"{path}: is an Igor wave of shape {stored.shape} without channel names: a "
            "spectroscopy grid, not an image. Give a scan file."
        )
    titles = [label for label in labels if label][: stored.shape[-1]]
    if stored.ndim == 2:
        titles, stored = [_text(header["bname"])], stored[..., None]
    steps = [abs(float(step)) for step in np.ravel(header["sfA"])[:2]]
    laterals = [si_unit(_text(unit)) for unit in np.asarray(header["dimUnits"])[:2]]
    others = [unit for _, unit in laterals if unit not in ("", "m")]
    if others:
        raise NoImageError(
            f"{path}: is an Igor wave over {others[0][:20]}, not over metres: spectra, not an "
            "image. Give a scan file."
        )
    note = _note(_text(wave.get("note", b"")))
    metadata = read_metadata(note, stored.shape[1], stored.shape[0])
    images = []
    for title, layer in zip(titles, stored.transpose(2, 1, 0), strict=False):
        channel, direction, slow = channel_of(title)
        asylum = re.search(r"(?:Re)?[Tt]race$", title)  # "Height1Retrace"
        units = (unit for name, unit in UNITS.items() if asylum and title.startswith(name))
        factor, unit = si_unit(next(units, None) or _text(header["dataUnits"]))
        image = Image(layer[::-1], channel, unit, factor=factor, **metadata)
        direction = direction or image.direction or "forward"
        images.append(replace(image, direction=direction, slow=slow or image.slow))
    axes = zip(steps, stored.shape[:2], laterals, strict=True)
    size = tuple(step * count * factor for step, count, (factor, _) in axes)
    return ScanFile(tuple(images), size=size if all(u for _, u in laterals) else None)


def _check_sizes(path, data):
    """Check that the parts of a wave are in the file, before a library believes it."""
    order = "<" if data[1:2] == b"\0" else ">"
    version = struct.unpack_from(f"{order}h", data)[0]
    if version != 5:
        raise NoImageError(
            f"{path}: is an Igor wave of version {version}, which holds a curve, not an "
            "image. Give a scan file."
        )
    parts = struct.unpack_from(f"{order}iiii4i4ii", data, 4)
    needed = 64 + sum(parts)
    if min(parts) < 0:
        raise ScanError(f"{path}: is a damaged Igor wave. Copy it again.")
    check_length(path, needed, len(data))


def _note(text):
    """Read the wave note, lines of `name: value` or `name = value`."""
    note = {}
    for line in text.replace("\r", "\n").split("\n")[:5000]:
        for sign in (":", "="):
            name, separator, value = line.partition(sign)
            if separator:
                note.setdefault(name.strip(), value.strip())
                break
    return note


def _text(value):
    if isinstance(value, str):
        return value.strip("\0 ")
    raw = value if isinstance(value, bytes) else b"".join(map(bytes, np.ravel(value)))
    return raw.split(b"\0")[0].decode("latin-1").strip()
