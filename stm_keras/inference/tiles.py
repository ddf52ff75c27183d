"""Cut a large scan into tiles that show as much of the surface as a model expects."""

import warnings
from dataclasses import dataclass, replace

import numpy as np

from stm_keras.inference.resample import fit_lines
from stm_keras.inference.sizes import NANO

LARGER = 1.5  # times the model's pixels, from which tiles say more than the whole
MOST = 8  # tiles along an axis
ENOUGH = 0.5  # share of the lines of a tile that must have been recorded


@dataclass(frozen=True)
class Tile:
    """A part of a scan, seen as a scan of its own.

    Args:
        row, column: int. Place in the frame, counted from the top left.
        lines: tuple of int, (first, last + 1). Lines of `scan.lines()` that it covers.
        nm: tuple of float (left, top, width, height) in the frame.
        heights: float32 array of shape `(max_lines, pixels)`.
        bounds: int array, as of `Fitted`: lines of the scan.
        planned: int. Lines of the model that the tile has when it is complete.
        size: tuple (width, height) in m.
        pixels: int. Of a line, as recorded.
    """

    row: int
    column: int
    lines: tuple
    nm: tuple
    heights: np.ndarray
    bounds: np.ndarray
    planned: int
    size: tuple
    pixels: int


def cut_tiles(scan, facts, widest):
    """Cut a scan into tiles where it is large in pixels and in nanometres.

    Args:
        scan: `Scan`.
        facts: dict with `pixels`.
        widest: float, nm, as of `sizes.widest_nm`; None cuts nothing.

    Returns:
        list of `Tile`, row by row from the top left, without those of which less than
        half was recorded. Empty where the scan is no large one.
    """
    count = tiles_along(scan, facts, widest)
    if count < 2:
        return []
    rows, pixels = scan.heights.shape
    width, height = (length * NANO for length in scan.size)
    down = max(1, min(MOST, round(count * height / width)))
    recorded, tiles = scan.recorded, []
    number_of = {int(place): number for number, place in enumerate(recorded)}
    for row in range(down):
        top, bottom = row * rows // down, (row + 1) * rows // down
        inside = np.flatnonzero((recorded >= top) & (recorded < bottom))
        if len(inside) < ENOUGH * (bottom - top):
            continue
        for column in range(count):
            left, right = column * pixels // count, (column + 1) * pixels // count
            place = slice(top, bottom), slice(left, right)
            part = replace(
                scan,
                heights=scan.heights[place],
                valid=scan.valid[place],
                size=(
                    scan.size[0] * (right - left) / pixels,
                    scan.size[1] * (bottom - top) / rows,
                ),
            )
            fitted = _fit(part, facts)
            if fitted is None:
                continue
            own = [number_of[top + place] for place in part.recorded]
            tiles.append(
                Tile(
                    row=row,
                    column=column,
                    lines=(int(inside[0]), int(inside[-1]) + 1),
                    nm=(
                        left * width / pixels,
                        top * height / rows,
                        (right - left) * width / pixels,
                        (bottom - top) * height / rows,
                    ),
                    heights=fitted.heights,
                    bounds=np.array(
                        [own[place] for place in fitted.bounds[:-1]]
                        + [own[fitted.bounds[-1] - 1] + 1]
                    ),
                    planned=fitted.planned,
                    size=part.size,
                    pixels=part.heights.shape[1],
                )
            )
    return tiles


def tiles_along(scan, facts, widest):
    """Return into how many tiles a line is cut: int, 1 where the scan is no large one."""
    pixels = scan.heights.shape[1]
    if widest is None or scan.size is None or pixels <= LARGER * facts["pixels"]:
        return 1
    width = scan.size[0] * NANO
    if width <= widest:
        return 1
    return max(2, min(pixels // facts["pixels"], int(np.ceil(width / widest)), MOST))


def _fit(part, facts):
    if not part.valid.any():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a tile is as high as wide but for rounding
        fitted = fit_lines(part, facts)
    # its lines are there, but maybe not their part in this tile
    return fitted if len(fitted.bounds) > 1 else None
