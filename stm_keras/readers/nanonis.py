"""Read Nanonis scans (.sxm): a text header and one block of big-endian floats.

Lines are stored as they were recorded: the backward ones from right to left, and those of
an up scan from the bottom. Lines and pixels that the tip did not reach are NaN.
"""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from stm_keras.errors import ScanError
from stm_keras.readers.file_bytes import check_length, check_shape
from stm_keras.readers.scan_file import Image, ScanFile
from stm_keras.readers.units import (
    believable,
    channel_of,
    header_value,
    quantity,
    si_unit,
    start_time,
)

END = b":SCANIT_END:"
START = b"\x1a\x04"
TYPES = {"": ">f4", "FLOAT MSBFIRST": ">f4", "FLOAT LSBFIRST": "<f4"}


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of a Nanonis file."""
    end = data.find(END)
    start = data.find(START, max(end, 0)) + len(START)
    if end < 0 or start < len(START):
        raise ScanError(
            f"{path}: is a Nanonis file whose header has no end. Copy it again in binary mode."
        )
    header = parse_header(data[:end].decode("latin-1"))
    pixels, lines = _pixels(path, header["SCAN_PIXELS"])
    stored = stored_images(header["DATA_INFO"])
    check_shape(path, lines, pixels, len(stored))
    needed, size = 4 * lines * pixels * len(stored), len(data) - start
    check_length(path, needed, size)
    if size > needed:
        raise ScanError(
            f"{path}: holds {size} bytes of data where its header promises {needed}: line "
            "ends were converted, or the header was edited. Copy it again in binary mode."
        )
    stored_as = " ".join(header.get("SCANIT_TYPE", "").split())
    if stored_as not in TYPES:
        raise ScanError(
            f"{path}: is a Nanonis file whose SCANIT_TYPE is {_short(stored_as)}, not FLOAT "
            "MSBFIRST or FLOAT LSBFIRST: its numbers cannot be read. Copy it again, or save "
            "it with another program."
        )
    block = np.frombuffer(data, TYPES[stored_as], offset=start)
    block = block.reshape(len(stored), lines, pixels)
    slow = header.get("SCAN_DIR", "").strip().lower()
    slow = slow if slow in ("down", "up") else None
    times = [header_value(word) for word in header.get("SCAN_TIME", "").split()]
    times = dict(zip(("forward", "backward"), times, strict=False))
    bias = _biases(header, [name for name, _, _ in stored])
    images = []
    for (name, unit, direction), heights in zip(stored, block, strict=True):
        heights = heights[:, ::-1] if direction == "backward" else heights
        heights = heights[::-1] if slow == "up" else heights
        factor, unit = si_unit(unit)
        image = Image(heights, channel_of(name)[0], unit, direction, slow, factor=factor)
        images.append(
            replace(image, line_time=times.get(direction), bias=bias[_pass(name)])
        )
    control, feedback = _controller(header.get("Z-CONTROLLER", ""))
    size = tuple(header_value(word) for word in header.get("SCAN_RANGE", "").split())
    if all(value is None for value in size):
        size = None
    elif len(size) != 2:
        size = (math.nan, math.nan)
    began = f"{header.get('REC_DATE', '').strip()} {header.get('REC_TIME', '').strip()}"
    return ScanFile(
        images=tuple(images),
        size=size,
        setpoint=quantity(control.get("Setpoint"), "A"),
        angle=header_value(header.get("SCAN_ANGLE")),
        feedback=feedback,
        warnings=_warnings(times),
        started=start_time(began, "%d.%m.%Y %H:%M:%S"),
        absolute=True,
    )


def parse_header(text: str) -> dict:
    """Split a header into its entries: dict of str to str, lines joined by newlines."""
    header, key = {}, None
    for line in text.splitlines():
        match = re.match(r"^:(.+):\s*$", line)
        if match:
            key = match.group(1)
            header[key] = []
        elif key is not None:
            header[key].append(line)
    return {key: "\n".join(lines).strip("\n") for key, lines in header.items()}


def stored_images(table: str) -> list:
    """List what `DATA_INFO` says is stored: tuples (name, unit, direction).

    Some programs separate the columns by runs of spaces instead of tabs.
    """
    stored = []
    for line in table.split("\n")[1:]:
        cells = [cell for cell in re.split(r"\t+|\s{2,}", line.strip()) if cell]
        if len(cells) < 4:
            continue
        _, name, unit, ways = cells[:4]
        both = ("forward", "backward") if ways.lower() == "both" else (ways.lower(),)
        stored += [(name, unit, "backward" if w[:4] == "back" else "forward") for w in both]
    return stored


def _rows(table):
    """Split a table of a header into its rows: dicts of column to text."""
    names, *rows = [
        line.strip("\n").split("\t") if "\t" in line else re.split(r"\s{2,}", line)
        for line in table.split("\n")
    ]
    return [
        {n.strip(): c.strip() for n, c in zip(names, cells, strict=False) if n.strip()}
        for cells in rows
    ]


def _controller(table):
    """Return the Z controller that was on, else the first, and whether one was on."""
    rows = _rows(table)
    active = [row for row in rows if row.get("on") == "1"]
    stated = [row for row in rows if row.get("on") in ("0", "1")]
    return (active + rows + [{}])[0], bool(active) if stated else None


def _pass(name):
    """Return the number of the pass that a channel is of: [P2]_Z is of the second."""
    match = re.match(r"\[P(\d+)\]", name)
    return int(match.group(1)) if match else 1


def _biases(header, names):
    """Return the bias of each pass over the lines: dict of its number to V or None.

    A later pass may have a bias of its own, in a table with a row for each pass. Where rows
    and passes do not go together, that of later passes is not known.
    """
    common = header_value(header.get("BIAS"))
    rows = _rows(header.get("Multipass-Config", ""))
    own = []
    for row in rows:
        stated = (row[key] for key in row if re.match("bias.?override", key, re.I))
        own.append(header_value(next(stated, None)))
    passes = sorted({_pass(name) for name in names})
    if len(own) == len(passes):
        own = (common if value is None else value for value in own)
        return dict(zip(passes, own, strict=True))
    known = all(value is None for value in own)
    return {number: common if known or number == 1 else None for number in passes}


def _short(text):
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _pixels(path, text):
    words = text.split()
    if len(words) != 2 or not all(re.fullmatch(r"[-+]?\d{1,18}", word) for word in words):
        raise ScanError(
            f"{path}: is a damaged Nanonis file: its SCAN_PIXELS, {_short(' '.join(words))}, "
            "are not two whole numbers. Copy it again from the microscope's computer."
        )
    return map(int, words)


def _warnings(times):
    ways = ("forward", "backward")
    there, back = (believable(line_time=times.get(w))[0]["line_time"] for w in ways)
    if not there or not back or max(there, back) <= 2 * min(there, back):
        return ()
    note = (
        f"a line took {there:g} s forward and {back:g} s backward: do not compare the two"
    )
    return (note,)
