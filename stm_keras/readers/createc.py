"""Read Createc scans (.dat): a text header and deflated little-endian floats.

Images are stored as they lay, backward ones already mirrored; lines that were not recorded
are zeros, at the top of an up scan.
"""

import re

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.readers.found import Found, Image, choose, zero_filled
from stm_keras.readers.source import check_length, check_shape, damage, inflate, read_bytes
from stm_keras.readers.words import number

HEADER = 16384  # bytes in files of today
DEFLATED = b"\x78"
FULL_SCALE = 20.0  # V, of the converters: +-10 V
ANGSTROM = 1e-10


def read(path, channel=None):
    """Read one image of a Createc file, see `readers.read_scan`."""
    return choose(path, parse(path, read_bytes(path)), channel)


def parse(path, data):
    """Find all images of a Createc file.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file.

    Returns:
        `Found`.

    Raises:
        ScanError: The file is damaged, or of a kind that holds no image.
    """
    with damage(path, "Createc file"):
        return _parse(path, data)


def parse_header(text):
    """Read lines of `name=value`, where one value may have several names.

    Returns:
        dict of lower-case str to str. A name keeps its first value.
    """
    header = {}
    for line in text.split("\n"):
        names, equals, value = line.partition("=")
        for name in names.split(" / ") if equals else ():
            header.setdefault(name.strip().lower(), value.strip())
    return header


def _parse(path, data):
    start = HEADER if data[HEADER : HEADER + 1] == DEFLATED else data.find(b"DATA\x78") + 4
    if start < 8:
        raise ScanError(
            f"{path}: is a Createc file without packed data: cut short, or of an old version "
            "that is not read. Copy it again, or save it with a newer program."
        )
    header = parse_header(data[:start].decode("cp1252", "replace"))
    pixels, lines, count = (int(header[key]) for key in ("num.x", "num.y", "channels"))
    check_shape(path, lines, pixels, count)
    needed = 4 * (1 + lines * pixels * count)  # one float before the images
    raw = inflate(path, data[start:], needed)
    check_length(path, needed, len(raw))
    block = np.frombuffer(raw, "<f4")[1:].reshape(count, lines, pixels)
    slow = {"1": "down", "2": "up"}.get(header.get("scanymode", "1"))
    both = header.get("scanxmode") == "2" and count % 2 == 0
    factors = _factors(header)
    images = []
    for number_, heights in enumerate(block):
        name = number_ % (count // 2) if both else number_
        name = ("Z", "Current")[name] if name < 2 else f"ADC{name - 1}"
        factor, unit = factors.get(name, (factors["volt"], "V"))
        images.append(
            Image(
                heights=heights.astype(np.float64) * factor,
                channel=name,
                unit=unit,
                direction="backward" if both and number_ >= count // 2 else "forward",
                slow=slow,
                valid=zero_filled(heights),
                line_time=number(header.get("sec/line:")),
            )
        )
    size = (number(header.get("length x[a]")), number(header.get("length y[a]")))
    return Found(
        format="createc",
        images=tuple(images),
        size=None if None in size else tuple(value * ANGSTROM for value in size),
        bias=_scaled(header.get("biasvoltage"), 1e-3),
        setpoint=_scaled(header.get("fblogiset"), 1e-12),
        angle=number(header.get("rotation")),
    )


def _factors(header):
    """Return SI per count of the converters: dict of channel to (factor, unit).

    The current has its own amplifier; Gwyddion takes the factor of Z for it, which is up
    to 20 times too much.
    """
    bits = re.match(r"\d+", header.get("dac-type", "20"))
    volt = FULL_SCALE / 2.0 ** min(int(bits.group()) if bits else 20, 64)
    gain = number(header.get("gainz")) or 1.0
    height = number(header.get("zpiezoconst")) or 0.0
    decades = number(header.get("gainpre 10^")) or number(header.get("gainpreamp")) or 9.0
    return {
        "volt": volt,
        "Z": (volt * height * gain * ANGSTROM, "m"),
        "Current": (volt / 10.0**decades, "A"),
    }


def _scaled(text, factor):
    value = number(text)
    return None if value is None else value * factor
