"""How a batch of training scans is varied: a few numbers a scan, whoever applies them.

`stm_keras.data.augment` says what each means, and applies them on the host;
`stm_keras.layers.resident` does so on the device.
"""

from dataclasses import dataclass

import numpy as np

from stm_keras.settings import AugmentConfig


@dataclass(frozen=True)
class Variation:
    """What happens to each scan of a batch.

    Args:
        source: float32 array `(batch, 6)`: a, b, c, d, e, f. The pixel (row, column) of the
            result, counted from the middle, shows what lies at row a + b row + c column and
            column d + e row + f column of the scan, counted from its corner; what is outside
            is mirrored in.
        moved: bool array `(batch,)`. Scans that are turned, zoomed or shifted; all others are
            at most mirrored.
        noise: float32 array `(batch,)`: standard deviation of the noise, in spreads of the scan.
        kept: bool array `(batch, lines)`. Lines that are not lost.
    """

    source: np.ndarray
    moved: np.ndarray
    noise: np.ndarray
    kept: np.ndarray


def draw_variation(
    shape: tuple[int, int, int],
    settings: AugmentConfig | None,
    rng: np.random.Generator,
    fixed: np.ndarray | None = None,
) -> Variation:
    """Draw how a batch is varied; None for `settings` varies nothing.

    Args:
        shape: `(batch, lines, pixels)`.
        fixed: bool array `(batch,)`. Scans whose lines keep their places; None without any.
    """
    batch, lines, pixels = shape
    still = np.zeros(batch, bool) if fixed is None else fixed
    source = np.tile(
        np.array([(lines - 1) / 2, 1, 0, (pixels - 1) / 2, 0, 1], np.float32), (batch, 1)
    )
    moved, noise = np.zeros(batch, bool), np.zeros(batch, np.float32)
    kept = np.ones((batch, lines), bool)
    if settings is None:
        return Variation(source, moved, noise, kept)
    if settings.rotate or settings.zoom or settings.pan:
        moved = ~still
        source[moved] = draw_turns(shape, settings, rng)[moved]
    if settings.flip:
        choice = rng.integers(0, 4, batch)
        sideways, upside_down = (choice & 1) > 0, ((choice & 2) > 0) & ~still
        if fixed is not None:
            sideways = np.where(fixed, rng.random(batch) < 0.5, sideways)
        source[:, [2, 5]] *= np.where(sideways, -1, 1)[:, None]
        source[:, [1, 4]] *= np.where(upside_down, -1, 1)[:, None]
    if settings.noise:
        noise = rng.uniform(0, settings.noise, batch).astype(np.float32)
    return Variation(source, moved, noise, draw_kept(batch, lines, settings, rng))


def draw_kept(
    batch: int, lines: int, settings: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draw which lines are not lost, as `kept` of a `Variation`."""
    kept = rng.random((batch, lines)) >= settings.line_dropout
    end = rng.integers(min(settings.min_lines, lines), lines + 1, batch)
    end = np.where(rng.random(batch) < settings.cut, end, lines)
    return kept & (np.arange(lines) < end[:, None])


def draw_turns(
    shape: tuple[int, int, int], settings: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draw turns, zooms and shifts, as `source` of a `Variation`."""
    batch, lines, pixels = shape
    tilted = rng.random(batch) < settings.rotate
    angle = np.where(tilted, rng.uniform(0, 2 * np.pi, batch), 0)
    scale = np.exp(rng.uniform(-1, 1, batch) * np.log1p(settings.zoom))
    shift = rng.uniform(-settings.pan, settings.pan, (batch, 2)) * (lines, pixels)
    row, column = (shift + ((lines - 1) / 2, (pixels - 1) / 2)).T
    cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
    return np.stack([row, cosine, -sine, column, sine, cosine], 1).astype(np.float32)
