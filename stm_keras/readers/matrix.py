"""Read Omicron MATRIX scans (.Z_mtrx, .I_mtrx) with their index, or without.

One file holds up to four images: forward and backward, upwards and then downwards. What
they mean is in the index of the session (.mtrx, in parts), which access2theMatrix replays
up to the entry that names the file. Without that entry it would give the settings of the
end of the session, so these are dropped; without an index the geometry is guessed.
"""

import re
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np

from stm_keras.errors import MissingExtraError, NoImageError, ScanError, require
from stm_keras.memory import SCANS, budget, charge
from stm_keras.readers.file_bytes import DAMAGE, check_length, check_shape
from stm_keras.readers.scan_file import Image, ScanFile, levelled
from stm_keras.readers.units import check_heights

MAGIC = b"ONTMATRX0101"
RETRACES = ((2, 2), (2, 1), (1, 2), (1, 1))  # along x and y, likeliest first
ALIKE = 0.2  # correlation of neighbouring lines when the geometry is right

RESULT = b"TLKB"  # how the only block of a result file is called
CHANNELS = {"I": "Current"}  # what suffixes call otherwise
MOST = 200  # files of a folder that are looked into for an index


def is_index(head: bytes) -> bool:
    """Tell whether a MATRIX file is an index, which holds no image."""
    return head.startswith(MAGIC) and not head.startswith(MAGIC + RESULT)


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of a MATRIX result file; the index is looked for beside it."""
    match = re.search(r"\.([^.]+)_mtrx$", path.name)
    channel = match.group(1) if match else "Z"
    if is_index(data):
        raise NoImageError(
            f"{path}: is the index of a MATRIX session. Give a scan, such as its .Z_mtrx."
        )
    if "(" in channel:
        raise NoImageError(
            f"{path}: is a MATRIX file of curves, {channel}, not an image. Give a .Z_mtrx or "
            ".I_mtrx file."
        )
    planned, counts = read_counts(path, data)
    try:
        result, reason = _with_index(path, data, planned, channel)
    except DAMAGE as error:  # what the library makes of a damaged index
        result = None
        reason = f"the index is damaged ({str(error) or type(error).__name__})"
    if result is not None:
        if not len(counts) or any(_has_heights(path, each) for each in result.images):
            return result
        reason = "the index is damaged (none of its heights is possible)"
    name = CHANNELS.get(channel, channel)
    images, assumed = guess_images(path, planned, counts, name)
    warning = (
        f"{reason}: assumed {assumed}; heights are in counts of the converter, size, "
        "bias and setpoint are unknown"
    )
    return ScanFile(images=tuple(images), warnings=(warning,))


def _has_heights(path, image):
    values = image.values()
    try:
        check_heights(path, image.label, values[np.isfinite(values)], image.unit)
    except ScanError:
        return False
    return np.isfinite(values).any()


def find_index(path: Path) -> list:
    """Find the parts of the index that names a result file, in order.

    They are those that the name of the file leads to, else those whose content names it,
    should someone have renamed them.
    """
    prefix = path.name.rpartition("--")[0]
    parts = _parts(path.parent, prefix) if prefix else []
    if parts and parts[0].name == f"{prefix}_0001.mtrx":
        return parts
    name = path.name.encode("utf-16-le")
    try:
        others = [p for p in path.parent.iterdir() if p.suffix.lower() != path.suffix]
    except OSError:
        return []
    for other in sorted(others[:MOST]):
        if _is_index_file(other) and name in other.read_bytes():
            match = re.fullmatch(r"(.*)_\d{4}\.mtrx", other.name)
            return _parts(other.parent, match.group(1)) if match else [other]
    return []


def _parts(folder, prefix):
    escaped = re.sub(r"([\[*?])", r"[\1]", prefix)
    parts = sorted(folder.glob(f"{escaped}_[0-9]*.mtrx"))
    return [part for part in parts if _is_index_file(part)]


def _is_index_file(path):
    try:
        if not path.is_file() or path.stat().st_size > budget(SCANS) // 4:
            return False
        with path.open("rb") as file:
            return is_index(file.read(16))
    except OSError:
        return False


def _with_index(path, data, planned, channel):
    """Return a `ScanFile` and None, or None and the reason why the index gives none."""
    parts = find_index(path)
    if not parts:
        return None, "the index (.mtrx) of the session is missing"
    try:
        library = require("access2thematrix", "spm")
    except MissingExtraError as error:
        return None, f"the index cannot be read ({error})"
    matrix = library.MtrxData()
    # The library asks for names of one form; a folder of its own gives it those.
    with tempfile.TemporaryDirectory() as folder:
        name = path.name if "--" in path.name else f"scan--1_1.{channel}_mtrx"
        (Path(folder) / name).write_bytes(data)
        stem = name.rpartition("--")[0]
        for number, part in enumerate(parts, 1):
            shutil.copyfile(part, Path(folder) / f"{stem}_{number:04d}.mtrx")
        traces, message = matrix.open(str(Path(folder) / name))
    if not traces or matrix.object_type != "image" or matrix.axis is None:
        return None, f"the index does not help ({' '.join(str(message).split())})"
    return _images(path, matrix, planned, channel)


def _images(path, matrix, planned, channel):
    def setting(name):
        value = (matrix.param.get(f"EEPA::{name}") or [None])[0]
        return value if isinstance(value, int | float) else None

    lines, points = setting("XYScanner.Lines"), setting("XYScanner.Points")
    across = 1 + bool(setting("XYScanner.X_Retrace"))
    down = 1 + bool(setting("XYScanner.Y_Retrace"))
    if not lines or not points or lines * points * across * down != planned:
        return None, "the index is of another scan"
    charge(8 * planned, "the images that it plans")
    known = matrix.param.get("BREF") == path.name
    raster = setting("XYScanner.Raster_Time")
    name = CHANNELS.get(channel, channel)
    units = {"Meter": "m", "Ampere": "A", "Volt": "V", "Hertz": "Hz"}
    images = []
    for trace in matrix.traces:
        picture, _ = matrix.select_image(trace)
        direction, slow = str(trace).split("/")
        stored = picture.data[:lines]
        whole = np.full((lines, points), np.nan)  # row 0 is the bottom
        rest = lines - len(stored)
        whole[slice(lines - rest) if slow == "up" else slice(rest, lines)] = stored
        stated = str(picture.channel_name_and_unit[1])
        stated = units.get(stated, stated)
        time = raster * points if raster and known else None
        images.append(Image(whole[::-1], name, stated, direction, slow, line_time=time))
    if not known:
        warning = (
            "the index never names this file (renamed?): size, bias and setpoint are "
            "unknown, heights are scaled as at the end of the session"
        )
        return ScanFile(images=tuple(images), warnings=(warning,)), None
    feedback = matrix.param.get("EEPA::Regulator.Feedback_Loop_Enabled")
    scan_file = ScanFile(
        images=tuple(images),
        size=(setting("XYScanner.Width"), setting("XYScanner.Height")),
        bias=setting("GapVoltageControl.Voltage"),
        setpoint=setting("Regulator.Setpoint_1"),
        angle=setting("XYScanner.Angle"),
        feedback=bool(feedback[0]) if feedback else None,
    )
    return scan_file, None


def read_counts(path: Path, data: bytes) -> tuple:
    """Return how many numbers were planned, and an int32 array of those recorded."""
    planned = recorded = stored = None
    start, end = len(MAGIC), len(data)
    while start + 8 <= end:
        name = data[start : start + 4]
        (size,) = struct.unpack_from("<I", data, start + 4)
        if name == RESULT:
            start += 20  # its length, and a time of eight bytes and four more
            continue
        if name == b"CSED" and start + 36 <= end:
            planned, recorded = struct.unpack_from("<II", data, start + 28)
        elif name == b"ATAD":
            check_length(path, size, end - start - 8)
            stored = np.frombuffer(data, "<i4", size // 4, start + 8)
        start += 8 + size
    if planned is None or stored is None:
        raise ScanError(f"{path}: is a MATRIX file cut short. Copy it again.")
    check_length(path, 4 * recorded, 4 * len(stored))
    if not recorded or not planned:
        raise ScanError(f"{path}: is an empty scan: no point of it was recorded.")
    return planned, stored[:recorded]


def guess_images(path: Path, planned: int, counts: np.ndarray, channel: str) -> tuple:
    """Make images of bare numbers: square, and so that neighbouring lines are alike.

    Of `planned` numbers that a complete scan has, `counts` were recorded. Returns a list of
    `Image` and, as str, what was assumed.
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
    _, along, across, side = best  # sweeps along a line, scans up and down, pixels
    check_shape(path, side, side)
    charge(8 * planned, "the images that it plans")
    frame = np.full((side * across, along, side), np.nan)
    frame.reshape(-1)[: len(counts)] = counts[: frame.size]
    images = []
    for part, slow in zip(range(across), ("up", "down"), strict=False):
        for way, direction in zip(range(along), ("forward", "backward"), strict=False):
            heights = frame[part * side : (part + 1) * side, way]
            heights = heights[:, ::-1] if way else heights
            heights = heights[::-1] if slow == "up" else heights
            images.append(Image(heights, channel, "", direction, slow))
    words = {1: "without", 2: "with"}
    return images, (
        f"{side} x {side} points, {words[along]} backward lines, {words[across]} a scan back "
        "down"
    )


def _likeness(counts, side, along):
    """Correlation of neighbouring lines, were they so long: float."""
    whole = len(counts) // (side * along) * side * along
    lines = counts[:whole].reshape(-1, along, side)[:side, 0].astype(np.float64)
    if len(lines) < 3:
        return 0.0
    lines = levelled(lines)
    power = (lines[1:] ** 2).sum() * (lines[:-1] ** 2).sum()
    return float((lines[1:] * lines[:-1]).sum() / np.sqrt(power + 1e-30))
