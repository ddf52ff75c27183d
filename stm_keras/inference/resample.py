"""Bring a scan from a microscope's file to the size that a model judges."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stm_keras.data.resample import Fitted, fit_scan_lines
from stm_keras.errors import DatasetError, ScanError
from stm_keras.inference.sizes import NANO
from stm_keras.inference.verdict import NO_SIGNAL
from stm_keras.readers import read_scans
from stm_keras.scan import Scan

LARGER = 1.5  # times the model's pixels, from which tiles say more than the whole
MOST = 8  # tiles along an axis
ENOUGH = 0.5  # share of the lines of a tile that must have been recorded


def read_scan_file(path: str | Path, facts: dict, channel: str | None = None) -> np.ndarray:
    """Read a scan file as a model takes it, and warn of what the file does not tell.

    Args:
        path: str or `Path`.
        facts: dict of the model: `pixels` and `max_lines`.
        channel: str or None. As `read_scan` takes it.

    Returns:
        float32 array of shape `(scans, max_lines, pixels)`; most files hold one scan.

    Raises:
        ScanError: The file cannot be read or holds no such image.
        DatasetError: No line of it has a signal.
    """
    scans = read_scans(path, channel)
    for scan in scans:
        if isinstance(scan, ScanError):
            raise scan
    for text in dict.fromkeys(text for scan in scans for text in scan.warnings):
        warnings.warn(f"{path}: {text}.", stacklevel=2)
    return np.stack([fit_scan(scan, facts) for scan in scans])


def fit_scan(scan: Scan, facts: dict) -> np.ndarray:
    """Take the recorded lines in the order of acquisition, in the pixels of a model.

    Pixels become square, so a scan of which half was recorded fills half the lines, and
    missing ones are 0. Of a scan that is higher than wide only the first square is taken.

    Args:
        scan: `Scan`.
        facts: dict with `pixels` and `max_lines`.

    Returns:
        float32 array of shape `(max_lines, pixels)`. Heights from their median, as parts
        of the largest.

    Raises:
        DatasetError: No line of it has a signal.
    """
    fitted = fit_lines(scan, facts)
    if len(fitted.bounds) < 2:
        raise DatasetError(f"{scan.path}: {NO_SIGNAL}. Give another scan or channel.")
    return fitted.heights.astype(np.float32)


def fit_lines(scan: Scan, facts: dict, bridged: np.ndarray | None = None) -> Fitted:
    """Do what `fit_scan` does, and tell where the lines come from.

    Args:
        scan, facts: As for `fit_scan`.
        bridged: float array, what `bridge_gaps(scan.lines())` gave, if that is at hand.

    Returns:
        `Fitted`; without a line that has a signal its heights are 0.
    """
    fitted = fit_scan_lines(scan, facts, bridged)
    if fitted.left:
        recorded = len(scan.recorded)
        warnings.warn(
            f"{scan.path}: is higher than wide; its first {recorded - fitted.left} of "
            f"{recorded} recorded lines are judged.",
            stacklevel=2,
        )
    return fitted


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
