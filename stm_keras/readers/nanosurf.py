"""Read Nanosurf scans (.nid): sections of `name=value`, then `#!` and whole numbers.

Images are stored from the bottom line up, backward ones already mirrored. Numbers in the
header may have a comma. Lines that were not recorded are zeros.
"""

from itertools import product
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.file_bytes import check_length, check_shape
from stm_keras.readers.metadata import read_metadata
from stm_keras.readers.scan_file import Image, ScanFile, zero_filled
from stm_keras.readers.units import channel_of, header_value, number, si_unit

MARK = b"#!"
DTYPES = {8: "i1", 16: "<i2", 32: "<i4"}
FEWEST = 8  # lines of an image; below, it is a set of curves


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of a Nanosurf file."""
    end = data.find(MARK)
    if end < 0:
        raise ScanError(
            f"{path}: is a Nanosurf file cut short in its header. Copy it again."
        )
    header = parse_header(data[:end].decode("latin-1"))
    index, settings = header["DataSet"], header.get("DataSet-Info", {})
    start, images, size = end + len(MARK), [], None
    for group, member in product(range(min(int(index["GroupCount"]), 100)), range(100)):
        entry = header.get(index.get(f"Gr{group}-Ch{member}", ""))
        if entry is None or member >= int(index.get(f"Gr{group}-Count", 0)):
            continue
        bits, pixels, lines = (int(entry[k]) for k in ("SaveBits", "Points", "Lines"))
        check_shape(path, lines, pixels)
        count = lines * pixels
        check_length(path, count * bits // 8, len(data) - start)
        stored = np.frombuffer(data, DTYPES[bits], count, start).reshape(lines, pixels)
        start += stored.nbytes
        if lines < FEWEST:
            continue
        stated = (header_value(entry.get("Dim0Range")), header_value(entry["Dim1Range"]))
        size = size or (stated if all(stated) else None)
        title = index.get(f"Gr{group}-Name", "")
        metadata = read_metadata(settings, lines, pixels)
        images.append(_image(entry, stored[::-1], bits, title, metadata))
    if not images:
        raise NoImageError(
            f"{path}: is a Nanosurf file of curves, without an image. Give a scan file."
        )
    return ScanFile(images=tuple(images), size=size)


def parse_header(text: str) -> dict:
    """Read an ini-like header: dict of section to dict of str to str."""
    header, section = {}, None
    for line in text.splitlines():
        if line.startswith("["):
            section = header.setdefault(line.strip("[] \t"), {})
        elif section is not None and "=" in line:
            name, _, value = line.partition("=")
            section[name.strip()] = value.strip()
    return header


def _image(entry, stored, bits, group, metadata):
    span, least = number(entry["Dim2Range"]), number(entry["Dim2Min"])
    factor, unit = si_unit(entry.get("Dim2Unit"))
    channel = channel_of(entry.get("Dim2Name", ""))[0]
    direction = "backward" if "backward" in group.lower() else "forward"
    scale = {"factor": span / 2.0**bits * factor, "offset": (0.5 * span + least) * factor}
    metadata = {**metadata, "direction": direction, "valid": zero_filled(stored)}
    return Image(stored, channel, unit, **scale, **metadata)
