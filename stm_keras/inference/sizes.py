"""Is a scan as large as those that the model was trained on? A larger one is cut into tiles."""

import warnings
from dataclasses import dataclass, replace

import numpy as np

from stm_keras.data.dataset import CLASSES
from stm_keras.inference.inputs import fit_lines
from stm_keras.readers.info import NANO
from stm_keras.scan import ROW_NM, Scan

PAPER_NM = (3.0, 80.0)  # of the Nottingham scans, as their authors give it
PAPER = "as Gordon et al. 2020 give it for their scans; not measured scan by scan"
LARGER = 1.5  # times the model's pixels, from which tiles say more than the whole
MOST_TILES = 8  # along an axis
ENOUGH = 0.5  # share of the lines of a tile that must have been recorded


@dataclass(frozen=True)
class TrainedSizes:
    """Widths of the scans that a model was trained on, in nm, and who says so."""

    low: float
    high: float
    source: str

    def outside(self, size: tuple | None) -> bool | None:
        """Tell whether a scan of a size in m is wider or narrower; None where it is not known."""
        if size is None:
            return None
        width = size[0] * NANO
        return not 0.98 * self.low <= width <= 1.02 * self.high  # 80.3 nm is meant as 80

    def remark(self, size: tuple | None) -> str | None:
        """Say that a scan lies outside, in few words; None where it does not."""
        if size is None or not self.outside(size):
            return None
        width = f"{float(f'{size[0] * NANO:.3g}'):.10g}"
        return f"{width} nm wide, trained on {self.low:g} to {self.high:g} nm"


def unknown_size(
    metadata: dict, size: tuple | None, pixels: int | None = None
) -> bool | None:
    """Tell whether a scan is of a width that a model was not trained on, or too coarse.

    `size` is in m, `pixels` are those of a line; None where one of the sizes is not known.
    """
    if size is None:
        return None
    if too_coarse(metadata, size, pixels):
        return True
    sizes = trained_sizes(metadata)
    return None if sizes is None else sizes.outside(size)


def too_coarse(metadata: dict, size: tuple | None, pixels: int | None) -> bool:
    """Tell whether a scan has less than two pixels for a dimer row, so that none can show."""
    if size is None or pixels is None or tuple(metadata["classes"]) != CLASSES:
        return False
    return size[0] * NANO / pixels > ROW_NM / 2


def trained_sizes(metadata: dict) -> TrainedSizes | None:
    """Return how wide the scans were that a model was trained on; None where nobody knows.

    The `size_nm` of a model file, two numbers, comes first; then what is known of its
    training data.
    """
    stored = metadata.get("size_nm")
    if isinstance(stored, list) and len(stored) == 2:
        return TrainedSizes(float(stored[0]), float(stored[1]), "as the model file says")
    source = metadata
    for key in ("training", "environment", "dataset", "source"):
        source = source.get(key) if isinstance(source, dict) else None
    source = str(source or "")
    if "University of Nottingham" in source:
        return TrainedSizes(*PAPER_NM, PAPER)
    if source.startswith("simulated"):
        from stm_keras.simulate.config import SimulationConfig

        ranges = SimulationConfig()
        low, high = ranges.small_nm[0], ranges.large_nm[1]
        return TrainedSizes(low, high, "the widths that the simulator draws")
    return None


def widest_nm(metadata: dict) -> float | None:
    """Return how wide a scan may be for its rows to be told apart in the model's pixels.

    Two pixels a dimer row, or the widest that was trained on where that is less; None where
    neither is known.
    """
    trained = trained_sizes(metadata)
    limits = [] if trained is None else [trained.high]
    if tuple(metadata["classes"]) == CLASSES:
        limits.append(metadata["pixels"] * ROW_NM / 2)
    return min(limits, default=None)


@dataclass(frozen=True)
class Tile:
    """A part of a scan, seen as a scan of its own."""

    row: int  # in the frame, counted from the top
    column: int  # counted from the left
    lines: tuple  # first and last + 1 of `scan.lines()` that it covers
    nm: tuple  # left, top, width and height in the frame
    heights: np.ndarray  # float32 (max_lines, pixels)
    bounds: np.ndarray  # as of `Fitted`: lines of the scan
    planned: int  # lines of the model that the tile has when it is complete
    size: tuple  # width and height in m
    pixels: int  # of a line, as recorded


def cut_tiles(scan: Scan, metadata: dict, widest: float | None) -> list[Tile]:
    """Cut a scan into tiles where it is large in pixels and in nanometres.

    They come row by row from the top left, without those of which less than half was recorded;
    none where the scan is not wider than `widest` nm, as of `widest_nm`.
    """
    across = tiles_along(scan, metadata, widest)
    if across < 2 or scan.size is None:
        return []
    rows, pixels = scan.heights.shape
    width, height = scan.size
    down = max(1, min(MOST_TILES, round(across * height / width)))
    tiles = []
    for row in range(down):
        top, bottom = row * rows // down, (row + 1) * rows // down
        inside = np.flatnonzero((scan.recorded >= top) & (scan.recorded < bottom))
        if len(inside) < ENOUGH * (bottom - top):
            continue
        for column in range(across):
            left, right = column * pixels // across, (column + 1) * pixels // across
            region = slice(top, bottom), slice(left, right)
            size = width * (right - left) / pixels, height * (bottom - top) / rows
            part = replace(
                scan, heights=scan.heights[region], valid=scan.valid[region], size=size
            )
            if not part.valid.any():
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a tile is square but for rounding
                fitted = fit_lines(part, metadata)
            if len(fitted.bounds) < 2:  # its lines were recorded, but not their part here
                continue
            corner = left * width / pixels, top * height / rows
            tiles.append(
                Tile(
                    row=row,
                    column=column,
                    lines=(int(inside[0]), int(inside[-1]) + 1),
                    nm=tuple(length * NANO for length in (*corner, *size)),
                    heights=fitted.heights,
                    bounds=_bounds_in_scan(scan, part, top, fitted.bounds),
                    planned=fitted.planned,
                    size=size,
                    pixels=right - left,
                )
            )
    return tiles


def _bounds_in_scan(scan, part, top, bounds):
    """Turn bounds in lines of a tile into bounds in lines of its scan."""
    line_of_row = {int(row): line for line, row in enumerate(scan.recorded)}
    lines = [line_of_row[top + row] for row in part.recorded]
    return np.array([*(lines[b] for b in bounds[:-1]), lines[bounds[-1] - 1] + 1])


def tiles_along(scan: Scan, metadata: dict, widest: float | None) -> int:
    """Return into how many tiles a line is cut, 1 where the scan is not a large one."""
    pixels = scan.heights.shape[1]
    if widest is None or scan.size is None or pixels <= LARGER * metadata["pixels"]:
        return 1
    width = scan.size[0] * NANO
    if width <= widest:
        return 1
    fitting = pixels // metadata["pixels"]
    return max(2, min(fitting, int(np.ceil(width / widest)), MOST_TILES))
