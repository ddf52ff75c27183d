"""Draw the scans of each class on a contact sheet, to see at a glance what data hold."""

import re
from pathlib import Path

import numpy as np

from stm_keras.data.dataset import Dataset, read_images
from stm_keras.data.preprocess import remove_line_trend, resample_scan
from stm_keras.errors import OutputError, UsageError
from stm_keras.files import atomic, check_folder
from stm_keras.scan import Scan
from stm_keras.terminal import one_line

WIDTH = 512  # pixels of one scan
TILE = 128  # pixels of one on a sheet
_COLUMNS = 8
_GAP = 10
_CAPTION = 30
_TITLE = 44
_PAPER, _INK, _FAINT = (250, 249, 246), (34, 34, 34), (120, 116, 110)
_BLANK, _HATCH, _CHANGE = (228, 225, 219), (203, 199, 191), (0, 168, 232)
_STOPS = {0: (0, 0, 0), 88: (168, 40, 15), 175: (243, 194, 93), 255: (255, 255, 255)}
_BROWN = np.stack(  # the colours most SPM programs show topography in
    [np.interp(range(256), list(_STOPS), c) for c in zip(*_STOPS.values(), strict=True)],
    axis=1,
).astype(np.uint8)


def contact_sheets(
    dataset: Dataset,
    folder: str | Path,
    per_class: int = 24,
    seed: int = 0,
    overwrite: bool = False,
) -> list[Path]:
    """Draw one PNG of scans per class, and one of the scans without a single class.

    The scans come from as many sessions as there are, in the order of the dataset.
    Lines that were not recorded are hatched; a tip change, where known, is marked at
    both edges.

    At most `per_class` scans are on a sheet, drawn by `seed`. A class without scans has no
    sheet.
    """
    if per_class < 1:
        raise UsageError(f"`per_class` must be 1 or more. Received: {per_class}.")
    target = Path(check_folder(folder))
    rng = np.random.default_rng(seed)
    sheets = []
    for label, name in [*enumerate(dataset.classes), (-1, "no single class")]:
        scans = np.flatnonzero(dataset.labels == label)
        if len(scans):
            slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
            number = len(dataset.classes) if label < 0 else label
            sheets.append((target / f"{number}-{slug}.png", name, scans))
    for path, _, _ in sheets:
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")
    for path, name, scans in sheets:
        chosen = _choose(dataset, scans, per_class, rng)
        sheet = _draw_sheet(dataset, chosen, name, len(scans))
        with atomic(path, overwrite) as temporary:
            sheet.save(temporary)
    return [path for path, _, _ in sheets]


def save_picture(scan: Scan, path: str | Path, overwrite: bool = False) -> None:
    """Write a scan as PNG: top of the frame on top, lines levelled, what is missing hatched.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    from PIL import Image

    frame = scan.frame()
    picture = draw_scan(frame, len(frame), width=WIDTH, aspect=scan.aspect)
    with atomic(path, overwrite) as temporary:
        Image.fromarray(picture).save(temporary, "PNG")


def draw_scan(
    heights: np.ndarray,
    lines: int,
    change_line: int = -1,
    width: int = TILE,
    aspect: float = 1.0,
) -> np.ndarray:
    """Draw one scan: levelled line by line, 2-98 % of its heights from dark to bright.

    `heights` are `(lines, pixels)` of any unit, of which `lines` were recorded; `aspect` tells
    how much longer a pixel is along the slow axis than along a line. Returns a uint8 array
    `(rows, width, 3)`, at most twice as high as wide.
    """
    heights = np.asarray(heights, np.float64)
    rows = round(min(width * aspect * heights.shape[0] / heights.shape[1], 2 * width))
    rows = max(rows, 1)
    recorded = np.isfinite(heights).all(1) & (np.arange(len(heights)) < lines)
    levelled = remove_line_trend(np.where(recorded[:, None], heights, 0))
    low, high = np.percentile(levelled[recorded], (2, 98)) if recorded.any() else (0, 0)
    if high - low <= _rounding(heights[recorded]):
        levelled, low, high = np.zeros_like(levelled), -1, 1
    values = np.clip((levelled - low) / (high - low), 0, 1) * 255
    picture = _BROWN[resample_scan(values, rows, width).round().astype(np.uint8)]
    source = np.minimum(np.arange(rows) * len(heights) // rows, len(heights) - 1)
    missing = ~recorded[source]
    row, column = np.mgrid[:rows, :width]
    hatch = np.where(((row + column) % 8 < 2)[..., None], _HATCH, _BLANK)
    picture[missing] = hatch[missing]
    if change_line >= 0:
        mark = slice(
            *np.clip(change_line * rows // len(heights) + np.array([-1, 1]), 0, rows)
        )
        picture[mark, :8] = picture[mark, -8:] = _CHANGE
    return picture


def _rounding(heights):
    """Return what rounding leaves of a plane, in the unit of the heights: float."""
    with np.errstate(over="ignore"):
        single = (heights.astype(np.float32) == heights).all()  # of a file, mostly
    precision = 4 * np.finfo(np.float32).eps if single else 1e-12
    return precision * np.abs(heights).max(initial=0)


def _choose(dataset, scans, count, rng):
    """Draw scans from one session after the other, until there are enough."""
    scans = rng.permutation(scans)
    if dataset.session is not None:
        session = dataset.session[scans]
        turn = np.empty(len(scans), int)  # the how-manieth of its session each is
        for name in np.unique(session):
            members = np.flatnonzero(session == name)
            turn[members] = np.arange(len(members))
        scans = scans[np.argsort(turn, kind="stable")]
    return np.sort(scans[:count])


def _draw_sheet(dataset, scans, name, total):
    from PIL import Image, ImageDraw, ImageFont

    images = read_images(dataset.images, scans)
    changes = np.full(len(scans), -1)
    if dataset.change_line is not None:
        changes = dataset.change_line[scans]
    tiles = [
        draw_scan(*scan) for scan in zip(images, dataset.lines[scans], changes, strict=True)
    ]
    height = max(len(tile) for tile in tiles) + _CAPTION + _GAP
    columns = min(_COLUMNS, max(len(tiles), 4))
    rows = -(-len(tiles) // columns)
    size = (columns * (TILE + _GAP) + _GAP, _TITLE + rows * height + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    fonts = {points: ImageFont.load_default(points) for points in (20, 12, 11)}
    name = one_line(name)
    draw.text((_GAP, 10), name, _INK, fonts[20])
    start = _GAP + draw.textlength(name, fonts[20]) + 12
    count = f"{len(scans)} of {total:,} scans" if total > 1 else "1 scan"
    draw.text((start, 17), count, _FAINT, fonts[12])
    for position, (scan, tile) in enumerate(zip(scans, tiles, strict=True)):
        row, column = divmod(position, columns)
        left, top = _GAP + column * (TILE + _GAP), _TITLE + row * height
        sheet.paste(Image.fromarray(tile), (left, top))
        below = top + len(tile) + 3
        for text, colour in zip(_captions(dataset, scan), (_INK, _FAINT), strict=True):
            text = _fit(text, draw, fonts[11])
            draw.text((left, below), text, colour, fonts[11])
            below += 13
    return sheet


def _captions(dataset, scan):
    """Two lines: index and votes; session, or else name."""
    first = f"#{scan}"
    if dataset.lines[scan] < dataset.images.shape[1]:
        first += f"  {dataset.lines[scan]} lines"
    elif dataset.votes is not None and dataset.labels[scan] >= 0:
        first += f"  {dataset.votes[scan, dataset.labels[scan]]:.0%}"
        if dataset.raters is not None:
            raters = dataset.raters[scan]
            first += f" of {raters} rater{'' if raters == 1 else 's'}"
    for names in (dataset.session, dataset.name):
        if names is not None:
            return first, one_line(names[scan])
    return first, ""


def _fit(text, draw, font):
    """Cut the front of a text, because names differ at their end."""
    if draw.textlength(text, font) <= TILE:
        return text
    while text and draw.textlength("..." + text, font) > TILE:
        text = text[1:]
    return "..." + text
