"""Contact sheets: what the scans of each class look like, drawn with Pillow alone."""

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import remove_line_trend
from stm_keras.errors import OutputError
from stm_keras.files import atomic

BROWN = np.stack(  # the colour map of the Nottingham pictures, linear in height
    [
        np.minimum(2 * np.arange(256), 255),
        np.arange(256),
        np.maximum(2 * np.arange(256) - 256, 0),
    ],
    axis=1,
).astype(np.uint8)
PAPER = (250, 250, 248)
INK = (40, 40, 40)
HATCH = (205, 205, 200)
GAP, CAPTION, TITLE = 8, 14, 30
COLUMNS = 8


def contact_sheets(dataset, folder, per_class=24, seed=0, overwrite=False):
    """Draw scans of each class onto one PNG a class.

    Args:
        dataset: A `Dataset`.
        folder: str or `Path`. Made if it is missing.
        per_class: int. Most scans on a sheet, drawn at random.
        seed: int.
        overwrite: bool. Whether existing sheets may be replaced.

    Returns:
        list of `Path` of the sheets, in the order of the classes; a class without scans
        has none.

    Raises:
        OutputError: A sheet exists, or cannot be written.
    """
    rng = np.random.default_rng(seed)
    sheets = []
    for index, name in enumerate(dataset.classes):
        scans = np.flatnonzero(dataset.labels == index)
        chosen = np.sort(rng.permutation(scans)[:per_class])
        if len(chosen):
            plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or "class"
            path = Path(folder) / f"{index}-{plain}.png"
            sheets.append((path, f"{name}: {len(chosen)} of {len(scans)} scans", chosen))
    for path, _, _ in sheets:
        if path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")
    for path, title, chosen in sheets:
        sheet = draw_sheet(
            read_images(dataset.images, chosen),
            dataset.lines[chosen],
            [_caption(dataset, i) for i in chosen],
            title,
        )
        with atomic(path, overwrite) as temporary:
            sheet.save(temporary, format="PNG")
    return [path for path, _, _ in sheets]


def draw_sheet(images, lines, captions, title):
    """Draw scans side by side.

    Args:
        images: array of shape `(scans, lines, pixels)`. Heights.
        lines: int array of shape `(scans,)`. Recorded lines; the rest is hatched.
        captions: list of str, one a scan.
        title: str.

    Returns:
        A `PIL.Image.Image`.
    """
    count, height, width = images.shape
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    size = (
        columns * (width + GAP) + GAP,
        TITLE + rows * (height + CAPTION + GAP) + GAP,
    )
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 8), title, INK, ImageFont.load_default(14))
    font = ImageFont.load_default(9)
    for i in range(count):
        x = GAP + (i % columns) * (width + GAP)
        y = TITLE + (i // columns) * (height + CAPTION + GAP)
        sheet.paste(_tile(images[i], lines[i]), (x, y))
        draw.text((x, y + height + 1), _fit(draw, captions[i], font, width), INK, font)
    return sheet


def grey(heights):
    """Level each line and stretch the 1-99 % range of heights to uint8, for the eye."""
    levelled = remove_line_trend(heights)
    low, high = np.percentile(levelled, (1, 99))
    span = high - low if high > low else 1.0
    return np.clip((levelled - low) / span * 255, 0, 255).astype(np.uint8)


def _tile(heights, lines):
    height, width = heights.shape
    tile = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(tile)
    for offset in range(0, height + width, 8):
        draw.line((offset - height, height, offset, 0), HATCH)
    if lines:
        tile.paste(Image.fromarray(BROWN[grey(heights[:lines])]), (0, 0))
    return tile


def _caption(dataset, index):
    if dataset.name is not None:
        return str(dataset.name[index])
    if dataset.session is not None:
        return f"{index} {dataset.session[index]}"
    return f"scan {index}"


def _fit(draw, text, font, width):
    """Shorten a caption from its start, since names differ at their ends."""
    text = "".join(c if " " <= c <= "~" else "?" for c in text)
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(".." + text, font) > width:
        text = text[1:]
    return ".." + text
