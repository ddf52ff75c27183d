"""What the microscope adds: noise, hum, scars, jumps, wild lines, crashes, a slow loop.

Each `add_...` changes `heights`, float32 array `(scans, lines, pixels)` in pm, in place;
`lattice_pm` is the standard deviation of each scan's lattice, float array `(scans,)`.
"""

from functools import lru_cache

import numpy as np

from stm_keras.simulate.config import chance, log_uniform, sign

_SLOW_WAVES = 12  # cosines of the 1/f noise along a line


def draw_noise_level(rng, states, lattice_pm, config):
    """Draw the noise before and after the tip change: standard deviation in pm, `(scans, 2)`."""
    count = len(lattice_pm)
    # a weak lattice is noisier relative to itself, but less than in proportion
    weak = (8 / np.clip(lattice_pm, 2, 40)) ** 0.35
    usual = log_uniform(rng, *config.noise_to_lattice, count) * weak
    quiet = log_uniform(rng, 0.04, 0.6, count)
    loud = log_uniform(rng, 1.2, 6, count)
    calm = states.is_kind("faint", "cluster", "crash", "flat")
    relative = np.where(calm, quiet, usual)[:, None]
    relative = np.where(states.spoiled("noisy"), loud[:, None], relative)
    return relative * np.maximum(lattice_pm, 0.4)[:, None] * config.has("noise")


def add_noise(heights, rng, level_pm, states, config):
    """Add noise that is smooth along a line and new on every line.

    Preamplifier and loop smooth the noise in time. The next line comes a second later, so
    nothing is left of it there, except what the resampling of lines mixes. `level_pm` is
    float array `(scans, 2)`, of `draw_noise_level`.
    """
    if not config.has("noise"):
        return
    count, size = heights.shape[:2]
    noise = rng.standard_normal(heights.shape, dtype=np.float32)
    if config.has("resampling"):
        inner = 0.7 * noise[:, 1:-1] + 0.15 * (noise[:, :-2] + noise[:, 2:])
        noise[:, 1:-1] = inner
    width = rng.uniform(*config.noise_correlation_px, count) * size / 128
    noise = noise @ smoothing(
        width, size
    )  # (scans, lines, pixels) @ (scans, pixels, pixels)
    waves = rng.standard_normal((count, size, _SLOW_WAVES), dtype=np.float32)
    slow = 0.8 * rng.random(count)
    noise += (waves * slow[:, None, None].astype(np.float32)) @ _slow_waves(size)

    # a burst of louder lines in some scans, and a level that wanders from line to line
    index = np.arange(size)
    start, length = rng.integers(0, size, count), rng.integers(3, size // 3, count)
    louder = chance(rng, 0.12, count) * rng.uniform(0.5, 4, count)
    inside = (index >= start[:, None]) & (index < (start + length)[:, None])
    level = states.by_line(level_pm) * (1 + louder[:, None] * inside)
    level = level * np.exp(rng.normal(0, 0.15, (count, size)))
    heights += noise * level[:, :, None].astype(np.float32)


def add_hum(heights, rng, states, lattice_pm, config):
    """Add a wave that is periodic in time: mains or a vibration."""
    count, size = heights.shape[:2]
    usual = chance(rng, 0.08, count) * log_uniform(rng, 0.1, 0.5, count)
    loud = log_uniform(rng, 0.8, 4, count)
    relative = np.where(states.spoiled("hum"), loud[:, None], usual[:, None])
    level = states.by_line(relative * lattice_pm[:, None])
    frequency = log_uniform(rng, 0.008, 0.2, count)
    beat = rng.uniform(0, 1, count)
    wander = np.cumsum(rng.normal(0, 0.02, (count, size)), 1)
    if not config.has("hum"):
        return
    index = np.arange(size)
    along = 2 * np.pi * frequency[:, None] * index
    start = 2 * np.pi * (beat[:, None] * index + wander)
    # sin(start + along) as a product of a line part and a pixel part
    left = np.stack([np.cos(start) * level, np.sin(start) * level], 2).astype(np.float32)
    right = np.stack([np.sin(along), np.cos(along)], 1).astype(np.float32)
    heights += left @ right


def add_scars(heights, rng, features, states, lattice_pm, config):
    """Add short spikes along single lines: something sticks to the apex for a moment."""
    count, size = heights.shape[:2]
    usual = chance(rng, 0.28, count) * np.minimum(rng.geometric(0.3, count), 20)
    often = rng.integers(3, 40, count)
    number = np.where(states.is_kind("noisy", "unstable"), often, usual)
    typical = lattice_pm * log_uniform(rng, 1.5, 14, count)
    typical = np.maximum(typical, 0.12 * features.tallest_pm)
    if not config.has("scars"):
        return
    for scan in np.flatnonzero(number):
        many = number[scan]
        lines, starts = rng.integers(0, size, many), rng.integers(0, size - 4, many)
        lengths = rng.geometric(128 / (14 * size), many)
        amounts = sign(rng, many) * rng.uniform(0.3, 1.6, many) * typical[scan]
        for line, start, length, amount in zip(
            lines, starts, lengths, amounts, strict=True
        ):
            heights[scan, line, start : start + length] += amount


def add_jumps(heights, rng, features, states, lattice_pm, config):
    """Let the height jump inside the line in which the apex changes."""
    if not config.has("jumps"):
        return
    size = heights.shape[1]
    single = np.maximum(6 * lattice_pm, 0.3 * features.tallest_pm)
    typical = np.where(states.changed, single, 3 * lattice_pm)
    for scan in np.flatnonzero(states.two_apexes):
        for line in np.flatnonzero(np.diff(states.slot[scan])) + 1:
            start = rng.integers(0, size)
            heights[scan, line, start:] += rng.normal() * typical[scan]


def add_wild_lines(heights, rng, states, lattice_pm, config):
    """Add a few lines, often the first or last, that take the whole grey scale."""
    count, size = heights.shape[:2]
    wild = states.is_kind("flat") | chance(rng, 0.03, count)
    if not config.has("wild_lines"):
        return
    for scan in np.flatnonzero(wild):
        lines = rng.integers(0, size, rng.integers(1, 4))
        if chance(rng, 0.5, None):
            lines[:] = rng.choice((0, states.recorded[scan] - 1))
        low, high = (30, 300) if states.kind[scan] >= 0 else (5, 14)
        amount = lattice_pm[scan] * log_uniform(rng, low, high)
        for line in lines:
            start, length = rng.integers(0, size), rng.integers(2, size)
            heights[scan, line, start : start + length] += sign(rng) * amount


def add_crashes(heights, rng, states, lattice_pm, config):
    """Let the tip run into tall islands: beyond its z range the value wraps."""
    if not config.has("crashes"):
        return
    for scan in np.flatnonzero(states.is_kind("crash")):
        island = _draw_islands(rng, heights[scan])
        limit = rng.uniform(0.45, 0.9)
        depth = rng.uniform(1.2, 3)
        wrapped = np.where(island > limit, island - depth, island)
        amount = sign(rng) * lattice_pm[scan] * log_uniform(rng, 60, 2000)
        heights[scan] += (amount * wrapped).astype(np.float32)


def apply_feedback(heights, rng, states, config):
    """Let the loop lag behind the surface along the fast axis, and sometimes ring.

    Returns:
        Tuple of float32 array like `heights` and float array of shape `(scans,)`: the
        time constant in pixels.
    """
    count, size = heights.shape[:2]
    scale = size / 128
    slow = states.is_kind("smear")
    lag = np.where(slow, log_uniform(rng, 6, 25, count), log_uniform(rng, 0.25, 2.2, count))
    rings = chance(rng, 0.1, count) * rng.uniform(0.05, 0.3, count)
    howls = states.is_kind("hum") & chance(rng, 0.5, count)
    ringing = np.where(howls, log_uniform(rng, 0.4, 1.2, count), rings)
    frequency, decay = rng.uniform(0.04, 0.16, count), rng.uniform(6, 40, count)
    if not config.has("feedback"):
        return heights, np.zeros(count)
    lag = lag * scale
    response = loop_response(lag, ringing, frequency / scale, decay * scale, size)
    return heights @ _causal(response), lag


def smoothing(width, pixels):
    """Return matrices that smooth white noise along a line and keep its variance.

    `width` is the standard deviation in pixels, float array `(scans,)`; the matrices are
    float32 `(scans, pixels, pixels)` and multiply from the right.
    """
    distance = np.arange(-(pixels - 1), pixels)
    kernel = np.exp(-0.5 * (distance / width[:, None]) ** 2)
    kernel = kernel / np.sqrt((kernel**2).sum(1, keepdims=True))
    return _toeplitz(kernel.astype(np.float32))


def loop_response(lag, ringing, frequency, decay, pixels):
    """Return the answer of the loop to a needle on the surface.

    Args:
        lag: float array of shape `(scans,)`. Time constant in pixels.
        ringing: float array of shape `(scans,)`. Strength, 0 for none.
        frequency, decay: float arrays of shape `(scans,)`. Of the ringing, in cycles per
            pixel and in pixels.

    Returns:
        float32 array of shape `(scans, pixels)` with sum 1: slow slopes are followed.
    """
    time = np.arange(pixels)
    follow = np.exp(-time / lag[:, None])
    follow /= follow.sum(1, keepdims=True)
    wave = np.sin(2 * np.pi * frequency[:, None] * time)
    ring = np.exp(-time / decay[:, None]) * wave
    ring -= ring.mean(1, keepdims=True)
    ring /= np.abs(ring).sum(1, keepdims=True)
    return (follow + 2 * ringing[:, None] * ring).astype(np.float32)


def _draw_islands(rng, heights):
    """Islands of height one with ragged edges, float array `(lines, pixels)`."""
    size = len(heights)
    line, pixel = np.arange(size)[:, None], np.arange(size)
    middle = rng.uniform(-0.1, 1.1) * size
    reach = log_uniform(rng, 0.03, 0.3) * size
    island = np.zeros((size, size))
    for _ in range(rng.integers(1, 5)):
        across, along = rng.uniform(0, 1) * size, middle + rng.normal() * reach
        width, length = log_uniform(rng, 0.05, 0.7) * size, reach * rng.uniform(0.4, 1.2)
        lean = rng.normal(0, 0.5) * (line - along)
        bump = ((line - along) / length) ** 2 + ((pixel - across - lean) / width) ** 2
        island = np.maximum(island, rng.uniform(0.6, 1) * np.exp(-0.5 * bump))

    away = np.abs(line - middle) / reach
    near = np.exp(-0.5 * away**2)
    if chance(rng, 0.5, None):  # the edge follows what lies under it
        detail = (heights - heights.mean()) / (heights.std() + 1e-3)
        island = island + detail * rng.uniform(0.02, 0.15) * near
    uneven = rng.normal(0, 0.04, (size, 1)) * chance(rng, 0.6, None)
    walk = np.cumsum(rng.normal(0, 0.02, (size + 1, size)), 1)
    ragged = (walk[:1] + walk[1:]) * near
    island = island * (1 + uneven) + 0.15 * ragged
    if chance(rng, 0.35, None):  # chattering contact
        island = island + rng.normal(0, 0.25, (size, 1)) * (away < 2)
    return island


def _causal(response):
    """Matrix of a causal response; the tip rests on the first pixel before the line."""
    kernel = np.concatenate([np.zeros_like(response[:, 1:]), response], 1)
    matrix = _toeplitz(kernel).copy()
    matrix[:, 0] += 1 - matrix.sum(1)
    return matrix


def _toeplitz(kernel):
    """View of a kernel of 2n - 1 values as matrix `T[m, j] = kernel[n - 1 + j - m]`."""
    pixels = (kernel.shape[1] + 1) // 2
    windows = np.lib.stride_tricks.sliding_window_view(kernel, pixels, axis=1)
    return windows[:, ::-1]


@lru_cache(maxsize=4)
def _slow_waves(pixels):
    """Cosines with the weights of 1/f noise and unit variance together."""
    order = np.arange(1, _SLOW_WAVES + 1)[:, None]
    position = (np.arange(pixels) + 0.5) / pixels
    waves = np.cos(np.pi * order * position) / np.sqrt(order)
    return (waves / np.sqrt((waves**2).sum(0).mean())).astype(np.float32)
