"""Read Createc scans (.dat): a text header and little-endian counts of the converters.

Today they are deflated floats ([Paramco32]); before, they were plain floats ([Paramet32]) and
integers of 16 bits ([Parameter]). Row 0 of a stored image is the top line, backward images are
mirrored already; lines that were not recorded are zeros, at the top of an up scan.

Source: Gwyddion's module createc, for the versions and the bits of channels. (It scales the
current with the factor of Z, and integers with a further 1/65536.)
"""

import math
import re
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.readers.file_bytes import check_length, check_shape, inflate
from stm_keras.readers.scan_file import Image, ScanFile, zero_filled
from stm_keras.readers.units import header_value, number, positive

HEADER = 16384  # bytes
DEFLATED = b"\x78"
PLAIN = {b"[Parameter]": "<i2", b"[Paramet32]": "<f4"}  # versions that are not deflated
FULL_SCALE = 20.0  # V, of the converters: +-10 V
ANGSTROM = 1e-10
CHANNELS = ("Z", "Current", "ADC1", "ADC2", "ADC3", "dI/dV", "d2I/dV2", "df", "Damping")
CHANNELS += ("Amplitude", "CP", "AUX1")  # by bit of `Channelselectval`


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of a Createc file."""
    plain = PLAIN.get(data[: data.find(b"]") + 1])
    start = HEADER
    if plain is None and data[HEADER : HEADER + 1] != DEFLATED:
        start = data.find(b"DATA" + DEFLATED) + 4
        if start < 4:
            raise ScanError(
                f"{path}: is a Createc file without packed data: cut short, or of a version "
                "that is not known. Copy it again, or save it with another program."
            )
    header = parse_header(data[:start].decode("cp1252", "replace"))
    pixels, lines, count = (
        int(header[key]) if key in header else 1 for key in ("num.x", "num.y", "channels")
    )
    check_shape(path, lines, pixels, count)
    dtype = np.dtype(plain or "<f4")
    needed = dtype.itemsize * (1 + lines * pixels * count)  # one value before the images
    raw = data[start:] if plain else inflate(path, data[start:], needed)
    check_length(path, needed, len(raw))
    block = np.frombuffer(raw, dtype, needed // dtype.itemsize)[1:]
    slow = {"1": "down", "2": "up"}.get(header.get("scanymode"))
    stated = re.match(r"\d+", header.get("dac-type", ""))
    bits = int(stated.group()) if stated else {"i": 16, "f": 20}[dtype.kind]
    volt = FULL_SCALE / 2.0 ** min(bits, 64)  # per count of the converters
    factors = _factors(header, volt)
    order, sweeps = _order(header, count)
    complete = (number(header.get("imageyposmax")) or 0) > lines  # the next line to scan
    line_time = header_value(header.get("sec/line:"))
    images = []
    stored = block.reshape(count, lines, pixels)
    for (name, direction), heights in zip(order, stored, strict=True):
        factor, unit = factors.get(name.split()[-1], factors["other"])
        image = Image(heights, name, unit, direction, slow, factor=factor)
        valid = None if complete else zero_filled(heights)
        images.append(replace(image, valid=valid, line_time=line_time))
    off = header.get("chmode") == "1" or header.get("fboff") == "1"
    note = f"each line was scanned {sweeps} times; P2 is the second"
    return ScanFile(
        images=tuple(images),
        size=_size(header, (lines, pixels), volt),
        # Scans at several voltages (Scantype 2) have one for each sweep.
        bias=None if header.get("scantype") == "2" else _bias(header),
        setpoint=_setpoint(header),
        angle=header_value(header.get("rotation")),
        feedback=False if off else {"0": True}.get(header.get("chmode")),
        warnings=(note,) if sweeps > 1 else (),
    )


def parse_header(text: str) -> dict:
    """Read lines of `name=value`, where one value may have several names.

    Returns a dict of lower-case str to str, in which a name keeps its first value.
    """
    header = {}
    for line in text.split("\n"):
        names, equals, value = line.partition("=")
        for name in names.split(" / ") if equals else ():
            header.setdefault(name.strip().lower().replace("å", "a"), value.strip())
    return header


def _order(header, count):
    """Tell what each image is: list of tuples (name, direction), and how many sweeps.

    `Channelselectval` has a bit for each channel; one after the other they come for each way
    of each sweep. Without it they are the first ones.
    """
    text = header.get("channelselectval", "")
    bits = int(text, 16) if text[:2].lower() == "0x" else int(number(text) or 0)
    chosen = [bit for bit in range(64) if bits >> bit & 1]
    one = header.get("scanxmode", header.get("scanmode", "1")) == "1"
    ways = 1 if one or count % (2 * max(len(chosen), 1)) else 2
    chosen = chosen or range(count // ways)
    sweeps, order = -(-count // (len(chosen) * ways)), []
    for sweep, way, bit in islice(product(range(sweeps), range(ways), chosen), count):
        name = CHANNELS[bit] if bit < len(CHANNELS) else f"channel {bit + 1}"
        name = f"P{sweep + 1} {name}" if sweep else name
        order.append((name, ("forward", "backward")[way]))
    return order, sweeps


def _factors(header, volt):
    """Return SI per count of the converters: dict of channel to (factor, unit)."""
    piezo, step = number(header.get("zpiezoconst")), number(header.get("dacto[a]z"))
    height = volt * piezo if piezo else step
    gain = number(header.get("gainz")) or 1.0
    return {
        "Z": (height * gain * ANGSTROM, "m") if height else (1.0, ""),
        "Current": (volt / 10.0 ** _decades(header), "A"),
        "other": (volt, "V"),
    }


def _decades(header):
    """Return the decimal logarithm of the current's amplification in V/A."""
    keys = ("gainpre 10^", "gainpreamp")
    return next((v for v in (number(header.get(key)) for key in keys) if v), 9.0)


def _size(header, shape, volt):
    """Return (width, height) in m, or None: from steps of the converters, else as stated.

    Real files agree both ways; where they differ, this is what Gwyddion shows.
    """
    stepped, stated = [], []
    for axis, points in zip("xy", reversed(shape), strict=True):
        keys = (f"delta {axis}", f"gain{axis}", f"{axis}piezoconst")
        values = [number(header.get(key)) for key in keys]
        step = None if None in values else abs(math.prod(values)) * volt
        stepped.append(None if step is None else step * points * ANGSTROM)
        length = header_value(header.get(f"length {axis}[a]"))
        stated.append(None if length is None else length * ANGSTROM)
    return positive(*stepped) or (tuple(stated) if all(stated) else None)


def _bias(header):
    value = header_value(header.get("biasvoltage", header.get("biasvolt[mv]")))
    return None if value is None else value * 1e-3


def _setpoint(header):
    """Return the current that was kept in A, or None if something else was kept."""
    phase = "4" if header.get("pllon") == "1" else "0"
    if header.get("fbchannel", phase) != "0":
        return None
    stated = (header_value(header.get(key)) for key in ("current[a]", "setpoint"))
    kept = number(header.get("fblogiset"))  # mV behind the amplifier
    kept = kept * 1e-3 / 10.0 ** _decades(header) if kept else None
    return next((value for value in stated if value), kept)
