"""Read the numbers of an Omicron MATRIX result file, which tell no geometry.

A result file is one block of blocks: CSED (what was planned and what came) and ATAD (the
numbers). All else is in the index of the session.
"""

import struct

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.memory import charge
from stm_keras.readers.file_bytes import check_length, check_shape
from stm_keras.readers.scan_file import Image

MAGIC = b"ONTMATRX0101"
RETRACES = ((2, 2), (2, 1), (1, 2), (1, 1))  # along x and y, likeliest first
ALIKE = 0.2  # correlation of neighbouring lines when the geometry is right


def read_counts(path, data):
    """Read what was planned and what was recorded.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of a result file.

    Returns:
        Tuple of int, planned numbers, and int32 array of those recorded.

    Raises:
        ScanError: The file is cut short or nothing was recorded.
    """
    found = {}
    place, end = len(MAGIC), len(data)
    while place + 8 <= end:
        name = data[place : place + 4]
        (size,) = struct.unpack_from("<I", data, place + 4)
        if name == b"TLKB":
            place += 20  # its length, and a time of eight bytes and four more
        elif name == b"CSED" and place + 36 <= end:
            found["planned"], found["count"] = struct.unpack_from("<II", data, place + 28)
            place += 8 + size
        elif name == b"ATAD":
            check_length(path, size, end - place - 8)
            found["data"] = np.frombuffer(data, "<i4", size // 4, place + 8)
            place += 8 + size
        else:
            place += 8 + size
    if "planned" not in found or "data" not in found:
        raise ScanError(f"{path}: is a MATRIX file cut short. Copy it again.")
    check_length(path, 4 * found["count"], 4 * len(found["data"]))
    if not found["count"] or not found["planned"]:
        raise ScanError(f"{path}: is an empty scan: no point of it was recorded.")
    return found["planned"], found["data"][: found["count"]]


def guess_images(path, planned, counts, channel):
    """Make images of bare numbers: square, and so that neighbouring lines are alike.

    Args:
        path: str or `Path`. Named in errors.
        planned: int. Numbers that a complete scan has.
        counts: int array of those recorded.
        channel: str.

    Returns:
        Tuple of list of `Image` and str, what was assumed.

    Raises:
        ScanError: No square image has so many points.
    """
    best = None
    for along, across in RETRACES:
        side = round((planned / (along * across)) ** 0.5)
        if side * side * along * across != planned or side < 8:
            continue
        score = _likeness(counts, side, along)
        if best is None or (best[0] < ALIKE and score > best[0]):
            best = score, along, across, side
    if best is None:
        raise ScanError(
            f"{path}: the index (.mtrx) is missing and no square image has {planned} "
            "points. Copy the index of the session into the folder of the file."
        )
    _, along, across, side = best
    check_shape(path, side, side)
    charge(8 * planned, "the images that it plans")
    frame = np.full((side * across, along, side), np.nan)
    whole = len(counts) // (along * side)
    frame[:whole] = counts[: whole * along * side].reshape(-1, along, side)[: len(frame)]
    rest = counts[whole * along * side :]
    if len(rest) and whole < len(frame):
        first = rest[:side]  # the line in which the scan was stopped
        frame[whole, 0, : len(first)] = first
        if along == 2:
            frame[whole, 1, : max(len(rest) - side, 0)] = rest[side:]
    images = []
    for part, slow in zip(range(across), ("up", "down"), strict=False):
        for way, direction in zip(range(along), ("forward", "backward"), strict=False):
            heights = frame[part * side : (part + 1) * side, way]
            heights = heights[:, ::-1] if way else heights
            images.append(
                Image(
                    heights=heights[::-1] if slow == "up" else heights,
                    channel=channel,
                    unit="",
                    direction=direction,
                    slow=slow,
                )
            )
    said = {1: "without", 2: "with"}
    return images, (
        f"{side} x {side} points, {said[along]} backward lines, {said[across]} a scan back "
        "down"
    )


def _likeness(counts, side, along):
    """Correlation of neighbouring lines, were they so long: float."""
    whole = len(counts) // (side * along) * side * along
    lines = counts[:whole].reshape(-1, along, side)[:side, 0].astype(np.float64)
    if len(lines) < 3:
        return 0.0
    lines = lines - lines.mean(1, keepdims=True)
    ramp = np.linspace(-1, 1, side)
    lines = lines - (lines @ ramp / (ramp @ ramp))[:, None] * ramp
    power = (lines[1:] ** 2).sum() * (lines[:-1] ** 2).sum()
    return float((lines[1:] * lines[:-1]).sum() / np.sqrt(power + 1e-30))
