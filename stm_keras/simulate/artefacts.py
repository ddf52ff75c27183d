"""What goes wrong now and then: scars, jumps of the apex, wild lines, crashes."""

import numpy as np

from stm_keras.simulate.draw import chance, log_uniform, sign


def add_scars(heights, rng, features, states, lattice_pm, config):
    """Add short spikes along single lines: something sticks to the apex for a moment.

    Args:
        heights: float32 array of shape `(scans, lines, pixels)`, in pm; changed.
        rng: numpy Generator.
        features: `Features`.
        states: `States`.
        lattice_pm: float array of shape `(scans,)`.
        config: `SimulationConfig`.
    """
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
    """Let the height jump inside the line in which the apex changes.

    Args:
        heights: float32 array of shape `(scans, lines, pixels)`, in pm; changed.
        rng: numpy Generator.
        features: `Features`.
        states: `States`.
        lattice_pm: float array of shape `(scans,)`.
        config: `SimulationConfig`.
    """
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
    """Add a few lines, often the first or last, that take the whole grey scale.

    Args:
        heights: float32 array of shape `(scans, lines, pixels)`, in pm; changed.
        rng: numpy Generator.
        states: `States`.
        lattice_pm: float array of shape `(scans,)`.
        config: `SimulationConfig`.
    """
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
    """Let the tip run into tall islands: beyond its z range the value wraps.

    Args:
        heights: float32 array of shape `(scans, lines, pixels)`, in pm; changed.
        rng: numpy Generator.
        states: `States`.
        lattice_pm: float array of shape `(scans,)`.
        config: `SimulationConfig`.
    """
    if not config.has("crashes"):
        return
    for scan in np.flatnonzero(states.is_kind("crash")):
        island = _draw_islands(rng, heights[scan])
        limit = rng.uniform(0.45, 0.9)
        depth = rng.uniform(1.2, 3)
        wrapped = np.where(island > limit, island - depth, island)
        amount = sign(rng) * lattice_pm[scan] * log_uniform(rng, 60, 2000)
        heights[scan] += (amount * wrapped).astype(np.float32)


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
