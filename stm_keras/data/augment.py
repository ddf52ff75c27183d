"""Vary training scans as a microscope would, and some more.

Flips, turns, zooms, pans and noise are those of Gordon et al., 2020; lost lines and scans
that end early are what a live model meets. All are drawn from one generator a batch, so a
batch is the same on every backend and after every restart.
"""

from collections.abc import Callable

import numpy as np

from stm_keras.data.preprocess import level_lines, standardise_lines
from stm_keras.data.variation import draw_kept, draw_turns
from stm_keras.settings import AugmentConfig

Rng = np.random.Generator


def augment_batch(
    heights: np.ndarray,
    settings: AugmentConfig,
    rng: Rng,
    prepare: Callable = standardise_lines,
    fixed: np.ndarray | None = None,
) -> np.ndarray:
    """Vary a batch of scans and turn it into model input.

    The geometry is changed in heights, and each line is scaled once, after it.

    Args:
        heights: array of shape `(batch, lines, pixels)`, any unit.
        settings, rng: what to do, and where to draw it from.
        prepare: turns heights into model input, as in `INPUTS`.
        fixed: bool array of shape `(batch,)`, or None. Scans whose lines keep their
            places, because each has a label of its own or some are missing.

    Returns:
        float32 array of shape `(batch, lines, pixels)`. Lines that were dropped, or
        lie behind the cut, are 0.
    """
    original = np.asarray(heights, np.float32)
    scans = original
    if settings.rotate or settings.zoom or settings.pan:
        scans = transform_scans(scans, settings, rng)
    if settings.flip:
        scans = flip_scans(scans, rng)
    if fixed is not None:
        scans = np.where(fixed[:, None, None], original, scans)
        if settings.flip:
            mirrored = fixed & (rng.random(len(scans)) < 0.5)
            scans = np.where(mirrored[:, None, None], scans[:, :, ::-1], scans)
    if settings.noise:
        scans = add_noise(scans, settings.noise, rng)
    return lose_lines(prepare(scans), settings, rng)


def transform_scans(scans: np.ndarray, settings: AugmentConfig, rng: Rng) -> np.ndarray:
    """Turn, zoom and pan scans `(batch, lines, pixels)`; what was outside is mirrored in."""
    _, lines, pixels = scans.shape
    levelled = level_lines(scans)
    row = np.arange(lines, dtype=np.float32)[:, None] - np.float32((lines - 1) / 2)
    column = np.arange(pixels, dtype=np.float32) - np.float32((pixels - 1) / 2)
    turned = np.empty_like(levelled)
    for scan, out, (a, b, c, d, e, f) in zip(
        levelled, turned, draw_turns(scans.shape, settings, rng), strict=True
    ):
        if c or e:
            out[:] = _sample(scan, a + b * row + c * column, d + e * row + f * column)
        else:  # one axis after the other: a third of the work
            across = _sample_rows(scan.T, d + f * column)
            out[:] = _sample_rows(across.T, a + b * row[:, 0])
    return turned


def flip_scans(scans: np.ndarray, rng: Rng) -> np.ndarray:
    """Mirror each scan left to right, top to bottom, both or not at all."""
    flipped = np.empty_like(scans)
    for scan, out, choice in zip(
        scans, flipped, rng.integers(0, 4, len(scans)), strict=True
    ):
        out[:] = scan[:: -1 if choice & 2 else 1, :: -1 if choice & 1 else 1]
    return flipped


def add_noise(scans: np.ndarray, largest: float, rng: Rng) -> np.ndarray:
    """Add white noise of up to `largest` times the spread of each scan.

    The spread is the median over lines, which one wild line does not move.
    """
    centred = scans - scans.mean(axis=2, keepdims=True)
    deviation = np.sqrt(np.einsum("slp,slp->sl", centred, centred) / scans.shape[2])
    level = rng.uniform(0, largest, len(scans)) * np.median(deviation, axis=1)
    recorded = (scans != scans[:, :, :1]).any(2)
    noise = rng.standard_normal(scans.shape, dtype=np.float32)
    noise *= (recorded * level[:, None]).astype(np.float32)[:, :, None]
    noise += scans
    return noise


def lose_lines(inputs: np.ndarray, settings: AugmentConfig, rng: Rng) -> np.ndarray:
    """Set lost lines to 0: some anywhere, and in some scans all after a random line."""
    kept = draw_kept(*inputs.shape[:2], settings, rng)
    return np.where(kept[:, :, None], inputs, np.float32(0))


def _sample(scan, row, column):
    """Read a scan `(lines, pixels)` between its pixels, bilinear, mirrored at the edges."""
    lines, pixels = scan.shape
    top, step, down = _neighbours(row, lines)
    left, side, right = _neighbours(column, pixels)
    corner = top * np.int32(pixels) + left
    step, flat = step * pixels, scan.ravel()
    upper, beside, lower, across = (
        flat[start:].take(corner) for start in (0, side, step, step + side)
    )
    return _between(_between(upper, beside, right), _between(lower, across, right), down)


def _sample_rows(scan, row):
    """Read a scan `(lines, pixels)` between its lines, at `row`, `(lines of the result,)`."""
    top, step, down = _neighbours(row, len(scan))
    return _between(scan[top], scan[top + step], down[:, None])


def _neighbours(position, size):
    """Return the pixel before each position, the step to the next, and the way towards it."""
    way = _mirror(position, size)
    before = np.minimum(way.astype(np.int32), max(size - 2, 0))
    way -= before
    return before, min(size - 1, 1), way


def _between(one, other, share):
    """Return what lies at a share of the way from one array to the other, in place of both."""
    other -= one
    other *= share
    one += other
    return one


def _mirror(position, size):
    """Put positions outside `0..size - 1` where they lie in the mirror image there."""
    period = max(2 * (size - 1), 1)
    np.abs(position, out=position)
    if position.max() >= period:  # seldom, and slow
        position %= period
    return np.minimum(position, period - position, out=position)
