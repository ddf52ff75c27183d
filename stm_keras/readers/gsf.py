"""Read Gwyddion Simple Field files (.gsf): lines of `name = value`, then floats.

Source: https://gwyddion.net/documentation/user-guide-en/gsf.html
"""

from pathlib import Path

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.readers.file_bytes import check_length, check_shape
from stm_keras.readers.scan_file import Image, ScanFile, zero_filled
from stm_keras.readers.units import channel_of, header_value, si_unit

MAGIC = b"Gwyddion Simple Field 1.0\n"


def parse(path: Path, data: bytes) -> ScanFile:
    """Find the image of a Gwyddion Simple Field."""
    end = data.find(b"\0", len(MAGIC))
    if end < 0:
        raise ScanError(f"{path}: is cut short in its header. Copy it again.")
    header = {}
    for line in data[len(MAGIC) : end].decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition("=")
        header[name.strip()] = value.strip()
    pixels, lines = int(header["XRes"]), int(header["YRes"])
    check_shape(path, lines, pixels)
    start = end + 4 - end % 4  # one to four zeros end the header
    check_length(path, 4 * lines * pixels, len(data) - start)
    stored = np.frombuffer(data, "<f4", lines * pixels, start).reshape(lines, pixels)
    factor, unit = si_unit(header.get("ZUnits"))
    name, direction, slow = channel_of(header.get("Title", "Z"))
    scale, lateral = si_unit(header.get("XYUnits"))
    recorded = zero_filled(stored)
    valid = recorded if recorded.any() else None
    image = Image(stored, name, unit, direction, slow, valid, factor=factor)
    size = [header_value(header.get(name)) for name in ("XReal", "YReal")]
    known = None not in size and lateral == "m"
    return ScanFile((image,), size=tuple(s * scale for s in size) if known else None)
