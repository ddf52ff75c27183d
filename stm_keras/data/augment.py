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
    # arrays of a scan, once: to be given new memory costs several times what is done with it
    work = [
        np.empty((count, lines, pixels), kind) for count, kind in ((4, "f4"), (2, "i4"))
    ]
    for scan, out, (a, b, c, d, e, f) in zip(
        levelled, turned, draw_turns(scans.shape, settings, rng), strict=True
    ):
        if c or e:
            np.add(a + b * row, c * column, out=work[0][0])
            np.add(d + e * row, f * column, out=work[0][1])
            _sample(scan, out, *work)
        else:  # one axis after the other: a third of the work
            across, beside = work[0][:2]
            _sample_along(scan, d + f * column, across, beside, axis=1)
            _sample_along(across, a + b * row[:, 0], out, beside, axis=0)
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
    """Set lost lines to 0, in place: some anywhere, and in some scans all after a random line."""
    inputs[~draw_kept(*inputs.shape[:2], settings, rng)] = 0
    return inputs


def _sample(scan, out, floats, whole):
    """Read a scan `(lines, pixels)` between its pixels, bilinear, mirrored at the edges.

    `floats` holds rows and columns of the pixels to read, and two arrays like them to work
    with, as does `whole`, of whole numbers.
    """
    lines, pixels = scan.shape
    down, right, one, other = floats
    corner, left = whole
    step, side = pixels * min(lines - 1, 1), min(pixels - 1, 1)
    _neighbours(down, lines, other)
    np.copyto(corner, other, casting="unsafe")
    _neighbours(right, pixels, other)
    np.copyto(left, other, casting="unsafe")
    corner *= np.int32(pixels)
    corner += left
    flat = scan.ravel()
    flat.take(corner, out=out, mode="clip")
    _towards(out, flat[side:].take(corner, out=one, mode="clip"), right)
    flat[step:].take(corner, out=one, mode="clip")
    _towards(one, flat[step + side :].take(corner, out=other, mode="clip"), right)
    _towards(out, one, down)


def _sample_along(scan, position, out, work, axis):
    """Read a scan between its lines, or its pixels, at the same positions in all of it."""
    size = scan.shape[axis]
    before = np.empty_like(position)
    _neighbours(position, size, before)
    before = before.astype(np.intp)
    scan.take(before, axis, out=out, mode="clip")
    scan.take(before + min(size - 1, 1), axis, out=work, mode="clip")
    _towards(out, work, position if axis else position[:, None])


def _neighbours(position, size, before):
    """Put into `before` the pixel before each position, and into `position` the way from there.

    Positions outside `0..size - 1` are put where they lie in the mirror image there.
    """
    period = max(2 * (size - 1), 1)
    np.abs(position, out=position)
    if position.max() >= period:  # seldom, and slow
        position %= period
    np.minimum(position, np.subtract(period, position, out=before), out=position)
    np.floor(position, out=before)
    position -= before


def _towards(one, other, share):
    """Take an array a share of the way to another, in place; the other is used up."""
    other -= one
    other *= share
    one += other
