"""Surfaces without a lattice, and pictures that no surface made.

Each function takes `(rng, coords)`, a numpy Generator and `Coordinates`, and returns heights,
float array `(lines, pixels)`, in any unit.
"""

import numpy as np

from stm_keras.simulate.config import chance, log_uniform, sign


def molecules(rng, coords):
    """Molecules of one kind scattered over a flat terrace, each turned as it fell."""
    lines, pixels = coords.x.shape
    number, lobes = rng.integers(6, 45), rng.integers(2, 6)
    radius = log_uniform(rng, 0.02, 0.045)
    turn = rng.integers(0, 6, number) * np.pi / 3 + rng.normal(0, 0.05, number)
    angle = turn[:, None] + 2 * np.pi * np.arange(lobes) / lobes
    if chance(rng, 0.4, None):  # a rod of lobes, not a ring
        reach = (np.arange(lobes) - (lobes - 1) / 2) * radius
        across, along = reach * np.cos(turn[:, None]), reach * np.sin(turn[:, None])
    else:
        across, along = radius * np.cos(angle), radius * np.sin(angle)
    across = (across + rng.uniform(0, 1, (number, 1))).ravel() * pixels
    along = (along + rng.uniform(0, 1, (number, 1))).ravel() * lines
    width = rng.uniform(0.4, 0.55) * radius * pixels
    strength = np.tile(rng.uniform(0.5, 1.5, lobes), number)
    left = np.exp(-0.5 * ((np.arange(lines)[:, None] - along) / width) ** 2) * strength
    right = np.exp(-0.5 * ((np.arange(pixels) - across[:, None]) / width) ** 2)
    return left @ right


def terraces(rng, coords):
    """Many steps: a vicinal surface, terraces that follow hills, or a growth spiral."""
    x, y = coords.centred
    form = rng.integers(3)
    if form == 0:
        number = rng.uniform(5, 16)
        phase = number * x + rng.uniform(0.2, 0.7) * _field(rng, x.shape, 3.2, 3)
    elif form == 1:
        phase = rng.uniform(0.7, 1.7) * _field(rng, x.shape, 3.5, 2)
    else:
        x, y = x - rng.uniform(-0.4, 0.4), y - rng.uniform(-0.4, 0.4)
        away = np.hypot(x, y)
        if chance(rng, 0.5, None):  # a spiral with three straight sides
            angles = rng.uniform(0, 2 * np.pi) + 2 * np.pi / 3 * np.arange(3)
            away = np.max([x * np.cos(a) + y * np.sin(a) for a in angles], 0)
        phase = rng.uniform(4, 12) * away - sign(rng) * np.arctan2(y, x) / (2 * np.pi)
    return _staircase(phase, rng.uniform(0.02, 0.15))


def islands(rng, coords):
    """Islands one or two layers high: ramified, or with straight edges."""
    if chance(rng, 0.5, None):
        field = _field(rng, coords.x.shape, rng.uniform(1.8, 3.2), rng.uniform(3, 12))
        sharp = rng.uniform(8, 30)
        layers = (rng.uniform(0.1, 1), rng.uniform(1.2, 2))
        return sum(_smooth(sharp * (field - level)) for level in layers)
    x, y = coords.centred
    sides, turn = rng.choice([3, 6]), rng.uniform(0, 2 * np.pi)
    directions = turn + 2 * np.pi * np.arange(sides) / sides
    cosine, sine = np.cos(directions), np.sin(directions)
    heights = np.zeros_like(x)
    reach = log_uniform(rng, 0.05, 0.16)
    for _ in range(rng.integers(4, 14)):
        dx, dy = x - rng.uniform(-0.6, 0.6), y - rng.uniform(-0.6, 0.6)
        away = dx * cosine[0] + dy * sine[0]
        for c, s in zip(cosine[1:], sine[1:], strict=True):
            away = np.maximum(away, dx * c + dy * s)
        heights = np.maximum(heights, _smooth((reach * rng.uniform(0.4, 1.3) - away) * 150))
    return heights


def grains(rng, coords):
    """A film of grains: each a dome, with cracks where they meet."""
    x, y = (axis.astype(np.float32).ravel() for axis in coords.centred)
    number = rng.integers(25, 100)
    seeds = rng.uniform(-0.8, 0.8, (number, 2)).astype(np.float32)
    tops = rng.uniform(0, 0.6, number).astype(np.float32)
    points = np.stack([x, y, np.ones_like(x)], 1)
    # |p - s|^2 without |p|^2, which is the same for all seeds of a pixel
    squared = (seeds**2).sum(1) - tops * 0.6 / number
    nearest = (points @ np.stack([*(-2 * seeds.T), squared])).min(1)
    return -rng.uniform(0.7, 1) * number * (nearest + x**2 + y**2).reshape(coords.x.shape)


def roughness(rng, coords):
    """A fractal surface, as deposited or eroded films have."""
    hurst = rng.uniform(0.1, 1)
    longest = log_uniform(rng, 1, 12)
    return _field(rng, coords.x.shape, 1 + hurst, longest)


def ripples(rng, coords):
    """Ripples that wander, fork and end, or a labyrinth."""
    lines, pixels = coords.x.shape
    down, across = np.fft.fftfreq(lines) * lines, np.fft.rfftfreq(pixels) * pixels
    number = log_uniform(rng, 4, 16)
    away = np.hypot(down[:, None], across)
    ring = np.exp(-0.5 * ((away - number) / (number * rng.uniform(0.15, 0.35))) ** 2)
    if chance(rng, 0.6, None):
        axis = np.arctan2(down[:, None], across) - rng.uniform(0, np.pi)
        # the direction without its sign
        axis = np.mod(axis + np.pi / 2, np.pi) - np.pi / 2
        ring = ring * np.exp(-0.5 * (axis / rng.uniform(0.4, 0.8)) ** 2)
    waves = _spectral(rng, ring, (lines, pixels))
    steepness = rng.uniform(0, 2.5)
    return np.tanh(steepness * waves) if steepness > 0.5 else waves


def grating(rng, coords):
    """A grating for calibration: wide bars, square pits or pillars, sharp edges."""
    x, y = coords.centred
    bars = chance(rng, 0.4, None)
    number = rng.uniform(1.6, 3) if bars else rng.uniform(2, 7)
    sharp = rng.uniform(8, 30) * 4 / number
    filled = rng.uniform(0.3, 0.7)
    first = _bar(x * number + rng.uniform(0, 1), filled, sharp)
    if bars:
        return first
    second = _bar(y * number + rng.uniform(0, 1), filled, sharp)
    joined = first * second if chance(rng, 0.5, None) else np.maximum(first, second)
    return sign(rng) * joined


def blank(rng, coords):
    """Nothing: a constant or a plane, or either in the coarse steps of a converter."""
    lines, pixels = coords.x.shape
    form = rng.choice(3, p=(0.25, 0.25, 0.5))
    if form == 0:
        return np.full((lines, pixels), rng.normal())
    number = sign(rng) * log_uniform(rng, 1.2, 3.2)  # steps in a line
    plane = number * np.arange(pixels) / pixels
    plane = plane + rng.normal(0, 3) * np.arange(lines)[:, None] / lines
    if form == 1:
        return np.round(plane)
    hiss = rng.normal(0, log_uniform(rng, 0.08, 0.45), plane.shape)
    return np.round(hiss + plane * chance(rng, 0.5, None))


def white_noise(rng, coords):
    """Noise alone: new on every pixel, smooth along the line, or spikes."""
    shape = coords.x.shape
    hiss = rng.normal(0, 1, shape)
    form = rng.integers(4)
    if form == 1:
        width = rng.integers(2, 9)
        sums = np.cumsum(np.pad(hiss, ((0, 0), (width, 0)), mode="wrap"), 1)
        return sums[:, width:] - sums[:, :-width]
    if form == 2:
        return hiss * 0.1 + sign(rng, shape) * chance(
            rng, log_uniform(rng, 0.01, 0.2), shape
        )
    if form == 3:
        return rng.uniform(0, 1, shape)
    return hiss


def hum(rng, coords):
    """Mains or a vibration alone: each line starts in another phase."""
    lines, pixels = coords.x.shape
    index = np.arange(pixels) / pixels
    heights = rng.normal(0, rng.uniform(0.02, 0.3), (lines, pixels))
    free = chance(rng, 0.5, None)
    for _ in range(rng.integers(1, 3)):
        number = log_uniform(rng, 2, 40)
        walk = np.cumsum(rng.normal(0, rng.uniform(0.15, 0.3), lines))
        phase = rng.uniform(0, 1, lines) if free else walk
        phase = phase[:, None] + number * index
        wave = np.sin(2 * np.pi * phase)
        third = rng.uniform(0, 0.5) * np.sin(6 * np.pi * phase)
        heights += rng.uniform(0.5, 1) * (wave + third)
    return heights


def saturated(rng, coords):
    """The z range or the amplifier at its end: most heights lie on one or two rails."""
    field = _field(rng, coords.x.shape, rng.uniform(1.2, 2.2), rng.uniform(1.5, 8))
    form = rng.integers(3)
    if form == 0:  # out of range on one side
        return np.minimum(field, rng.uniform(-1.2, -0.3))
    if form == 1:  # thrown between both ends
        return np.clip(field * log_uniform(rng, 4, 20), -1, 1)
    lost = np.cumsum(chance(rng, 0.06, len(field))) % 2  # whole lines on a rail
    field = np.where(lost[:, None] == 1, rng.choice([-4, 4]), field)
    return np.clip(field, -1.2, 1.2) + rng.normal(0, 0.01, field.shape)


def _field(rng, shape, slope, longest):
    """Random hills of `shape` with a power law, in units of their standard deviation.

    The amplitude falls with frequency to the power `slope`; there are no hills wider than
    the scan divided by `longest`.
    """
    down, across = np.fft.fftfreq(shape[0]) * shape[0], np.fft.rfftfreq(shape[1]) * shape[1]
    away = np.sqrt(longest**2 + down[:, None] ** 2 + across**2)
    return _spectral(rng, away**-slope, shape)


def _spectral(rng, amplitude, shape):
    """Random field with these amplitudes of its waves; opposite edges do not meet."""
    waves = rng.normal(0, 1, (*amplitude.shape, 2)) @ (1, 1j) * amplitude
    waves[0, 0] = 0
    field = np.fft.irfft2(waves, shape)
    return field / field.std()


def _staircase(phase, width):
    """Floors joined by smooth rises, `width` of a terrace long."""
    floor = np.floor(phase)
    rise = np.clip((phase - floor - 1 + width) / width, 0, 1)
    return floor + rise * rise * (3 - 2 * rise)


def _bar(phase, filled, sharp):
    away = np.abs(phase % 1 - 0.5) - filled / 2
    return _smooth(-sharp * away)


def _smooth(value):
    """0 far below, 1 far above."""
    return 0.5 + 0.5 * np.tanh(value)
