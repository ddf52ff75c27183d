"""Read Omicron SCALA scans: a parameter file (.par) and a file of numbers for each image.

The numbers (.tf0, .tb0, .tf1 ...) are big-endian integers without a header, from the bottom
line up, backward ones already mirrored. Either kind of file may be given: parameters that
name a file are looked for beside it.
"""

import re
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.file_bytes import check_length, check_shape, damage, read_bytes
from stm_keras.readers.meta import settings
from stm_keras.readers.scan_file import Found, Image, choose, zero_filled
from stm_keras.readers.units import channel_of, fact, number, si_unit

MAGIC = b"Omicron SPM Control"
PARAMETERS = (".par", ".PAR", ".Par")
NUMBERS = re.compile(r"\.[ts][fb]\d{1,2}$", re.IGNORECASE)
CHANNEL = "Topographic Channel"
ENTRIES = 10  # lines of a channel: name, direction, ranges, resolution, unit, file, title
LARGEST = 1 << 20  # bytes of parameters
LONGEST = 100  # letters of the name of a file
CHANNELS = {"Z": "Z", "I": "Current"}


def is_parameters(head: bytes) -> bool:
    """Tell whether a file begins as the parameters of a SCALA scan."""
    return head.startswith(b";") and MAGIC in head[:200]


def parameters_of(path: str | Path) -> Path | None:
    """Find the parameters that name a file of numbers: `Path`, or None."""
    path = Path(path)
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


def read(path, channel=None):
    """Read one image of a SCALA scan, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path: str | Path, data: bytes) -> Found:
    """Find all images of a SCALA scan.

    Args:
        path: str or `Path`. Of the parameters or of one of the files of numbers.
        data: bytes of it.

    Returns:
        `Found`; of a file of numbers, the one image in it.

    Raises:
        ScanError: The files are damaged or do not fit, or one of the two is missing.
    """
    path = parameters = Path(path)
    only = None
    if not is_parameters(data):
        beside = parameters_of(path)
        if beside is None:
            raise ScanError(
                f"{path}: needs its parameter file (.par) beside it. Copy both."
            )
        parameters, only, data = beside, path, read_bytes(beside)
    with damage(path, "SCALA parameter file"):
        return _parse(path, parameters, data[:LARGEST], only)


def _parse(path, parameters, data, only):
    meta, channels = _parse_text(data)
    if not channels:
        raise NoImageError(
            f"{path}: is a SCALA file of spectra, without an image. Give a file of a scan."
        )
    pixels, lines = (abs(int(meta[f"Image Size in {axis}"])) for axis in "XY")
    check_shape(path, lines, pixels, len(channels))
    size = tuple(fact(meta.get(f"Field {axis} Size in nm")) for axis in "XY")
    told = settings(meta, lines, pixels)
    images, missing = [], []
    for entries in channels:
        beside = only or _beside(parameters, entries[8])
        if only and entries[8].lower() != only.name.lower():
            continue
        if beside is None:
            missing.append(entries[8])
            continue
        images.append(_image(entries, _numbers(path, beside, lines, pixels), told))
    if not images:
        raise ScanError(
            f"{path}: names {', '.join(missing)[:80]}, which is not beside it. Copy both files."
        )
    return Found(
        format="scala",
        images=tuple(images),
        size=None if None in size else tuple(abs(value) * 1e-9 for value in size),
        bias=told.get("bias"),
        setpoint=told.get("setpoint"),
        angle=told.get("angle"),
        warnings=tuple(f"{name[:40]} is not beside it and is left out" for name in missing),
    )


def _parse_text(data):
    """Read parameters: dict of str to str, units after the numbers, and channels.

    Returns:
        Tuple of the dict and a list of lists of str, the entries of each channel.
    """
    lines = data.decode("latin-1").splitlines()
    meta, channels = {}, []
    for index, line in enumerate(lines):
        name, colon, value = line.partition(":")
        if not colon or line[:1] in ("", ";") or line[0].isspace():
            continue
        value, _, comment = value.partition(";")
        unit = re.match(r"\s*\[([^\]]*)\]", comment)
        meta.setdefault(
            name.strip(), f"{value.strip()} {unit.group(1) if unit else ''}".strip()
        )
        if name.strip() == CHANNEL:
            entries = [value, *lines[index + 1 : index + ENTRIES]]
            entries = [entry.split(";")[0].strip() for entry in entries]
            if len(entries) == ENTRIES:
                entries[8] = re.split(r"[/\\]", entries[8])[-1]
                channels.append(entries)
    return meta, channels


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
    what = f"for {beside.name} its parameters promise"
    check_length(path, 2 * lines * pixels, len(data), what)
    return np.frombuffer(data, ">i2", lines * pixels).reshape(lines, pixels)[::-1]


def _image(entries, stored, told):
    letter, direction = entries[:2]
    least, most, lowest, highest = (number(entry) for entry in entries[2:6])
    factor, unit = si_unit(entries[7])
    channel = CHANNELS.get(letter) or {"m": "Z", "A": "Current"}.get(unit)
    there = zero_filled(stored)
    return Image(
        valid=there if there.any() else None,
        heights=stored,
        factor=(highest - lowest) / (most - least) * factor,
        channel=channel or channel_of(entries[9] or letter)[0],
        unit=unit,
        direction={"f": "forward", "b": "backward"}.get(direction[:1].lower()),
        slow=told.get("slow"),
        line_time=told.get("line_time"),
    )
