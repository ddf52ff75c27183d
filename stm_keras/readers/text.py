"""Read scans exported as text: matrices of numbers and lists of points x, y, z.

WSxM, Gwyddion and SPIP write a header; a table without one is a scan only if it looks like
one: many numbers in every line, or points that lie on a grid. Logs, tables of labels and
other texts are left alone.
"""

import io
import re
from pathlib import Path

import numpy as np

from stm_keras.errors import NoImageError, ScanError, UnclearError
from stm_keras.memory import charge
from stm_keras.readers.file_bytes import check_shape
from stm_keras.readers.frames import is_tall
from stm_keras.readers.scan_file import Image, ScanFile
from stm_keras.readers.units import NUMBER, channel_of, number, quantity, si_unit

HEADERS = {  # words of the first lines: what the export is called
    "WSxM ASCII Matrix": "wsxm text",
    "WSxM ASCII XYZ": "wsxm text",
    "File Format = ASCII": "spip text",
}
GWYDDION = re.compile(r"^# Channel: .*\n# Width: .*\n# Height: ", re.MULTILINE)
FEWEST = 16  # numbers in a line of a matrix, and points in a line of a grid
FEWEST_LINES = 8
READ = 24  # bytes of memory for a byte of text, while its numbers are read
LONGEST = 1 << 20  # characters of a line
MOST_HEADER = 200  # lines
FITS = 0.02  # share that the range of the heights may be off what a header says
ON_GRID = 0.5  # of a step, that points may be off their grid
SIZES = (  # names of width and height in headers, and their unit where none stands with them
    ("width", "height", ""),
    ("x amplitude", "y amplitude", ""),
    ("x-length", "y-length", "nm"),
)


def text_format(path: Path, head: bytes) -> str | None:
    """Tell whether a file begins as a scan in text.

    It is "text" for an export with a header that is known, "numbers" for a bare matrix or list
    of points; None for every other text.
    """
    text = _decoded(head)
    if text is None:
        return None
    if _named(text):
        return "text"
    lines = [line for line in text.split("\n") if line.strip()]
    while lines and lines[0].lstrip().startswith(("#", "%")):
        lines.pop(0)
    if len(lines) > 1:
        lines.pop()  # it may be cut
    elif lines:
        lines = [re.sub(r"[^\s;,]*$", "", lines[0])]
    rows = [_row(line) for line in lines]
    if not rows or any(row is None for row in rows) or len({*map(len, rows)}) != 1:
        return None
    if len(rows[0]) == 3:
        return "numbers" if len(rows) >= FEWEST and _is_line(np.array(rows)) else None
    return "numbers" if len(rows[0]) >= FEWEST else None


def parse(path: Path, data: bytes) -> ScanFile:
    """Find the image of a text export."""
    charge(len(data) * READ, "a text of numbers")
    text = _decoded(data)
    if text is None:
        raise ScanError(f"{path}: is not a text of numbers.")
    if max(map(len, io.StringIO(text))) > LONGEST:
        raise ValueError(f"a line of more than {LONGEST} characters")
    header, title, body = _split(text)
    table = _table(path, body)
    if table.shape[1] == 3 and "x-pixels" not in header:
        return _points(path, table, title)
    return _matrix(path, table, header, _named(text) or "numbers")


def _decoded(data):
    """Return the text of bytes; None where they are no text."""
    if b"\0" in data:
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _named(text):
    start = text[:2000]
    if GWYDDION.search(start):
        return "gwyddion text"
    lines = start.split("\n")[:3]
    return next((n for words, n in HEADERS.items() if any(words in x for x in lines)), None)


def _row(line):
    """Return the numbers of a line: list of float; None where there is anything else."""
    try:
        return [float(word) for word in _points_for_commas(line).replace(",", " ").split()]
    except ValueError:
        return None


def _points_for_commas(text):
    """Write decimal commas as points: those of a text with other separators and no point."""
    if re.search(r"[\t ;]", text.strip()) and "." not in text:
        text = re.sub(r"(?<=\d),(?=\d)", ".", text)
    return text.replace(";", " ")


def _split(text):
    """Split a text: dict of lower-case str to str, the title of columns, and the numbers."""
    header, title, lines = {}, "", text.split("\n", MOST_HEADER)
    for index, line in enumerate(lines[:MOST_HEADER]):
        if line.strip() and _row(line) is not None:
            return header, title, "\n".join(lines[index:])
        bare = line.strip().lstrip("#;%").strip()
        name, sign, value = re.match(r"([^:=]*)([:=]?)(.*)", bare).groups()
        if sign:
            header.setdefault(name.strip().lower(), value.strip())
        elif re.match(r"x\s*\[", bare, re.IGNORECASE):
            title = bare
    raise ValueError("no numbers in it")


def _table(path, body):
    """Read lines of numbers: float array of shape `(lines, numbers)`."""
    body = _points_for_commas(body).replace(",", " ")
    try:
        return np.loadtxt(io.StringIO(body), ndmin=2)
    except ValueError as error:
        reason = str(error).splitlines()[0][:120]
        raise ScanError(
            f"{path}: is a damaged table of numbers, or one that is cut short ({reason}). "
            "Export it again."
        ) from None


def _matrix(path, table, header, name):
    lines, pixels = table.shape
    if "x-pixels" in header and "y-pixels" in header:
        pixels, lines = int(header["x-pixels"]), int(header["y-pixels"])
        check_shape(path, lines, pixels)
        if table.size < lines * pixels:
            raise ScanError(
                f"{path}: is cut short: {table.size} numbers where its header promises "
                f"{lines} lines of {pixels}. Export it again."
            )
        table = table.reshape(-1)[: lines * pixels].reshape(lines, pixels)
    if lines < FEWEST_LINES or pixels < FEWEST_LINES:
        raise NoImageError(
            f"{path}: is a table of {lines} lines of {pixels} numbers, not an image. Give a scan."
        )
    size = _size(header)
    if is_tall(lines, pixels, size):
        raise UnclearError(
            f"{path}: is a table of {lines} lines of {pixels} numbers, much higher than wide: "
            "curves, or several scans one below the other. Give one scan a file, with its size."
        )
    factor, unit = _unit(table, header)
    channel, direction, slow = channel_of(header.get("channel") or "Z")
    image = Image(table, channel, unit, direction, slow, factor=factor)
    return ScanFile(format=name, images=(image,), size=size)


def _size(header):
    for *names, unit in SIZES:
        size = tuple(quantity(f"{header.get(name, '')} {unit}", "m") for name in names)
        if None not in size:
            return size
    return None


def _unit(table, header):
    """Return the factor to SI and the unit of heights, "" where the header does not say."""
    for key in ("value units", "z-unit"):
        if header.get(key):
            return si_unit(header[key])
    if "bit2nm" in header:
        return number(header["bit2nm"]) * 1e-9, "m"
    match = re.match(rf"\s*({NUMBER})\s*(\S+)", header.get("z amplitude", ""))
    if match:  # WSxM: only where the numbers have the range that it states
        factor, unit = si_unit(match.group(2))
        if abs(np.ptp(table) - number(match.group(1))) <= FITS * np.ptp(table):
            return factor, unit
    return 1.0, ""


def _is_line(points):
    """Tell whether points x, y, z begin as a line of a grid: one axis rests, one steps."""
    first = points[:FEWEST, :2]
    steps = np.diff(first, axis=0)
    moves = np.abs(steps).max(0) > 0
    if moves.all() or not moves.any():
        return False
    step = steps[:, moves.argmax()]
    return bool(np.abs(step - step[0]).max() <= ON_GRID * abs(step[0]))


def _points(path, table, title):
    """Lay points out on the grid that they are on; lines in the order of the file."""
    fast = int(len(table) > 1 and table[1, 1] != table[0, 1])
    rest = np.flatnonzero(np.diff(table[:, 1 - fast]))
    pixels = int(rest[0]) + 1 if len(rest) else len(table)
    lines = len(table) // pixels
    error = ScanError(
        f"{path}: is a list of {len(table)} points that do not lie on a grid, or that is cut "
        "short. Export a matrix of numbers."
    )
    if pixels < FEWEST_LINES or lines < FEWEST_LINES or lines * pixels != len(table):
        raise error
    grid = table.reshape(lines, pixels, 3)
    columns, rows = grid[..., fast], grid[..., 1 - fast].T
    steps = [(axis[0, -1] - axis[0, 0]) / (axis.shape[1] - 1) for axis in (columns, rows)]
    for axis, step in zip((columns, rows), steps, strict=True):
        expected = axis[0, 0] + step * np.arange(axis.shape[1])
        if not np.abs(axis - expected).max() < ON_GRID * abs(step):
            raise error
    heights = grid[..., 2][:, :: 1 if steps[0] > 0 else -1]
    units = [si_unit(unit) for unit in re.findall(r"\[([^\]]*)\]", title)]
    size, (factor, unit) = None, (1.0, "")
    if len(units) == 3:
        factor, unit = units[2]
        if units[0][1] == units[1][1] == "m":
            width = abs(steps[0]) * pixels * units[fast][0]
            size = (width, abs(steps[1]) * lines * units[1 - fast][0])
    image = Image(heights=heights, factor=factor, unit=unit)
    return ScanFile(format="xyz", images=(image,), size=size)
