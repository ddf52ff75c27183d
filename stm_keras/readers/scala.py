"""Read Omicron SCALA scans: a parameter file (.par) and a file of numbers for each image.

The numbers (.tf0, .tb0, .tf1 ...) are big-endian integers without a header, from the bottom
line up, backward ones already mirrored. Either kind of file may be given: parameters that
name a file are looked for beside it.
"""

import re
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.file_bytes import check_length, check_shape, read_bytes
from stm_keras.readers.metadata import read_metadata
from stm_keras.readers.scan_file import Image, ScanFile, zero_filled
from stm_keras.readers.units import channel_of, header_value, number, si_unit

MAGIC = b"Omicron SPM Control"
PARAMETERS = (".par", ".PAR", ".Par")
NUMBERS = re.compile(r"\.[ts][fb]\d{1,2}$", re.IGNORECASE)
CHANNEL = "Topographic Channel"
ENTRIES = 10  # lines of a channel: name, direction, ranges, resolution, unit, file, title
LARGEST = 1 << 20  # bytes of parameters
LONGEST = 100  # letters of the name of a file
CHANNELS = {"Z": "Z", "I": "Current"}


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of a SCALA scan; of a file of numbers, the one image in it."""
    parameters, only = path, None
    if not is_parameters(data):
        beside = parameters_of(path)
        if beside is None:
            raise ScanError(
                f"{path}: needs its parameter file (.par) beside it. Copy both."
            )
        parameters, only, data = beside, path, read_bytes(beside)
    header, channels = _parse_text(data[:LARGEST])
    if not channels:
        raise NoImageError(
            f"{path}: is a SCALA file of spectra, without an image. Give a scan file."
        )
    pixels, lines = (abs(int(header[f"Image Size in {axis}"])) for axis in "XY")
    check_shape(path, lines, pixels, len(channels))
    size = tuple(header_value(header.get(f"Field {axis} Size in nm")) for axis in "XY")
    metadata = read_metadata(header, lines, pixels)
    images, missing = [], []
    for entries in channels:
        beside = only or _beside(parameters, entries[8])
        if only and entries[8].lower() != only.name.lower():
            continue
        if beside is None:
            missing.append(entries[8])
            continue
        images.append(_image(entries, _numbers(path, beside, lines, pixels), metadata))
    if not images:
        raise ScanError(
            f"{path}: names {', '.join(missing)[:80]}, which is not beside it. Copy both files."
        )
    return ScanFile(
        format="scala",
        images=tuple(images),
        size=None if None in size else tuple(abs(value) * 1e-9 for value in size),
        warnings=tuple(f"{name[:40]} is not beside it and is left out" for name in missing),
    )


def is_parameters(head: bytes) -> bool:
    """Tell whether a file begins as the parameters of a SCALA scan."""
    return head.startswith(b";") and MAGIC in head[:200]


def has_parameters(path: Path, head: bytes) -> bool:
    """Tell whether a file of numbers has parameters beside it that name it."""
    return parameters_of(path) is not None


def parameters_of(path: Path) -> Path | None:
    """Find the parameters that name a file of numbers."""
    if not NUMBERS.search(path.name):
        return None
    for suffix in PARAMETERS:
        beside = path.with_suffix(suffix)
        try:
            with beside.open("rb") as file:
                data = file.read(LARGEST)
        except OSError:
            continue
        names = {entries[8].lower() for entries in _parse_text(data)[1]}
        if is_parameters(data) and path.name.lower() in names:
            return beside
    return None


def _parse_text(data):
    """Read parameters: dict of str to str, units after the numbers, and a list for channels.

    Of each channel the list has a list of its entries.
    """
    lines = data.decode("latin-1").splitlines()
    header, channels = {}, []
    for index, line in enumerate(lines):
        name, colon, value = line.partition(":")
        if not colon or line[:1] in ("", ";") or line[0].isspace():
            continue
        value, _, comment = value.partition(";")
        unit = re.match(r"\s*\[([^\]]*)\]", comment)
        unit = unit.group(1) if unit else ""
        header.setdefault(name.strip(), f"{value.strip()} {unit}".strip())
        if name.strip() == CHANNEL:
            entries = [value, *lines[index + 1 : index + ENTRIES]]
            entries = [entry.split(";")[0].strip() for entry in entries]
            if len(entries) == ENTRIES:
                entries[8] = re.split(r"[/\\]", entries[8])[-1]
                channels.append(entries)
    return header, channels


def _beside(path, name):
    """Return the file of a name in the folder, in whatever case it was copied."""
    if len(name) > LONGEST:
        return None
    for each in (name, name.upper(), name.lower(), name.capitalize()):
        if each and path.with_name(each).is_file():
            return path.with_name(each)
    return None


def _numbers(path, beside, lines, pixels):
    data = read_bytes(beside)
    promise = f"for {beside.name} its parameters promise"
    check_length(path, 2 * lines * pixels, len(data), promise)
    return np.frombuffer(data, ">i2", lines * pixels).reshape(lines, pixels)[::-1]


def _image(entries, stored, metadata):
    letter, direction = entries[:2]
    least, most, lowest, highest = (number(entry) for entry in entries[2:6])
    factor, unit = si_unit(entries[7])
    factor *= (highest - lowest) / (most - least)
    channel = CHANNELS.get(letter) or {"m": "Z", "A": "Current"}.get(unit)
    channel = channel or channel_of(entries[9] or letter)[0]
    recorded = zero_filled(stored)
    valid = recorded if recorded.any() else None
    direction = {"f": "forward", "b": "backward"}.get(direction[:1].lower())
    metadata = {**metadata, "direction": direction}
    return Image(stored, channel, unit, factor=factor, valid=valid, **metadata)
