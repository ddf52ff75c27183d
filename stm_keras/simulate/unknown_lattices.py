"""Periodic surfaces other than H:Si(100): lattices, reconstructions, molecular layers.

Each function takes `(rng, coords)`, a numpy Generator and `Coordinates`, and returns heights,
float array `(lines, pixels)`, in any unit. Lengths are in nm.
"""

import numpy as np

from stm_keras.simulate.config import chance

_CELL = 72  # grid on which a unit cell is drawn


def graphite(rng, coords):
    """Graphite or graphene: one of the two atoms shows, or the honeycomb.

    Reference:
        Tománek et al., 1987, Phys. Rev. B 35, 7790: why every other atom is seen.
    """
    waves = _hexagonal(rng, coords, 0.246, spread=0.25)
    if chance(rng, 0.3, None):
        return -waves  # a honeycomb of atoms around dark hollows
    return _sharpened(waves, rng.uniform(0, 0.6))


def metal_111(rng, coords):
    """Close-packed atoms of a metal, at times with waves of its surface electrons."""
    period = rng.choice([0.249, 0.256, 0.275, 0.288, 0.35])  # Ni, Cu, Pd, Au and Ag, Pb
    atoms = _sharpened(_hexagonal(rng, coords, period, spread=0.1), rng.uniform(0.2, 1))
    return atoms / atoms.std() + _standing_waves(rng, coords)


def moire(rng, coords):
    """Graphene on a metal: a hexagonal superlattice over the atoms."""
    angle = rng.uniform(0, np.pi)
    period = rng.uniform(2.0, 3.6)
    hills = _sharpened(_hexagonal(rng, coords, period, 0.15, angle), rng.uniform(-0.5, 0.5))
    atoms = _hexagonal(rng, coords, 0.246, 0.1, angle + rng.uniform(0, 0.5))
    seen = max(0, 1 - coords.size_nm / 9)  # else the pixels are too coarse
    return hills / hills.std() + seen * rng.uniform(0.3, 1.2) * atoms / atoms.std()


def square(rng, coords):
    """A square lattice: an alkali halide, an oxide or a metal (100)."""
    period = rng.uniform(0.38, 0.42)
    x, y = (2 * np.pi / period * axis for axis in (coords.x, coords.y))
    waves = np.cos(x) + rng.uniform(0.75, 1.3) * np.cos(y)
    if chance(rng, 0.3, None):  # both kinds of ion show, one stronger
        waves = waves + rng.uniform(0.3, 1.2) * np.cos(x) * np.cos(y)
    return _sharpened(waves, rng.uniform(-0.5, 0.8))


def oblique(rng, coords):
    """A lattice without right angles, and not of two to one."""
    a = rng.uniform(0.55, 0.9)
    b = a * (rng.uniform(1.05, 1.5) if chance(rng, 0.7, None) else rng.uniform(2.6, 3.2))
    first, second = _cell_coordinates(coords, a, b, np.deg2rad(rng.uniform(57, 78)))
    waves = np.cos(2 * np.pi * first) + rng.uniform(0.8, 1.25) * np.cos(2 * np.pi * second)
    waves = waves + rng.uniform(0.2, 0.7) * np.cos(2 * np.pi * (first + second))
    return _sharpened(waves, rng.uniform(-0.3, 0.7))


def silicon_7x7(rng, coords):
    """Si(111)-7x7: twelve adatoms in two triangles, and deep corner holes.

    Reference:
        Takayanagi et al., 1985, Surf. Sci. 164, 367: the DAS model.
    """
    low, middle, high = 1 / 7, 3 / 7, 5 / 7
    corner = np.array([(low, low), (high, low), (low, high)])
    inner = np.array([(middle, low), (low, middle), (middle, middle)])
    faulted = np.concatenate([corner, inner])
    sites = np.concatenate([faulted, 1 - faulted])
    difference = rng.uniform(-0.3, 0.3)  # between the halves, by bias
    centre = rng.uniform(-0.15, 0.15)  # between corner and centre adatoms
    strength = np.repeat([1 + difference, 1 + centre + difference, 1, 1 + centre], 3)
    sites = np.concatenate([sites, [(0, 0)]])
    strength = np.append(strength, -rng.uniform(0.5, 1.6))
    widths = np.append(np.full(12, rng.uniform(0.17, 0.26)), rng.uniform(0.25, 0.4))
    cell = _draw_cell(2.69, 2.69, np.pi / 3, sites, strength, widths)
    heights = _tile(coords, cell, 2.69, 2.69, np.pi / 3)
    if chance(rng, 0.35, None):  # a bilayer step, 314 pm against adatoms of 80 to 150
        heights = heights + rng.uniform(1.5, 3) * _edge(rng, coords, 0.4)
    return heights


def herringbone(rng, coords):
    """Au(111): pairs of soliton walls in a zigzag, 22 atoms apart.

    Reference:
        Barth et al., 1990, Phys. Rev. B 42, 9307.
    """
    period, pair = 6.3, rng.uniform(2.2, 2.7)
    arm = rng.uniform(10, 28)  # nm from elbow to elbow
    along = coords.y / arm + 0.05 * np.sin(coords.x / 40)
    zigzag = np.abs((along % 2) - 1) * arm * np.tan(np.deg2rad(30))
    phase = (coords.x + zigzag) % period
    width = rng.uniform(0.45, 0.7)
    walls = sum(
        np.exp(-0.5 * ((phase - centre) / width) ** 2)
        for centre in (period / 2 - pair / 2, period / 2 + pair / 2)
    )
    if chance(rng, 0.4, None):  # walls of 20 pm beside a step of 236 pm
        walls = walls + rng.uniform(2, 8) * _edge(rng, coords, 0.6)
    return walls


def molecular_layer(rng, coords):
    """Molecules in rank and file: each with lobes, one or two in an oblique cell."""
    a = rng.uniform(1.0, 1.8)
    b, angle = a * rng.uniform(1.0, 1.7), np.deg2rad(rng.uniform(60, 80))
    lobes = rng.integers(1, 5)
    radius = rng.uniform(0.2, 0.32) * a
    turn = rng.uniform(0, np.pi)
    centres = [(0.25, 0.25), (0.75, 0.75)] if chance(rng, 0.4, None) else [(0.5, 0.5)]
    sites = []
    for number, centre in enumerate(centres):
        turns = turn + number * np.pi / 2 + 2 * np.pi * np.arange(lobes) / lobes
        y = radius * np.sin(turns) / (b * np.sin(angle)) * (lobes > 1)
        x = radius * np.cos(turns) / a * (lobes > 1) - y * b / a * np.cos(angle)
        sites.append(np.stack([x, y], 1) + centre)
    sites = np.concatenate(sites)
    strength = np.tile(rng.uniform(0.6, 1.4, lobes), len(centres))
    widths = np.full(len(sites), radius * (rng.uniform(0.4, 0.65) if lobes > 1 else 0.9))
    cell = _draw_cell(a, b, angle, sites, strength, widths)
    layer = _tile(coords, cell, a, b, angle)
    if chance(rng, 0.3, None):  # the layer ends, or lies on a step
        edge = _edge(rng, coords, 0.4)
        layer = layer * (1 - edge) + rng.normal(0, 0.7) * edge
    return layer


def _hexagonal(rng, coords, period, spread, angle=None):
    """Three waves at 60 degrees, of slightly different strength where the tip is not round."""
    angle = rng.uniform(0, np.pi) if angle is None else angle
    number = 4 * np.pi / (np.sqrt(3) * period)
    strength = 1 + spread * rng.uniform(-1, 1, 3)
    phase = rng.uniform(0, 2 * np.pi, 2)
    phase = (*phase, -phase.sum())  # so that the three crests meet
    waves = np.zeros_like(coords.x)
    for turn in range(3):
        direction = angle + turn * 2 * np.pi / 3
        x, y = number * np.cos(direction), number * np.sin(direction)
        waves += strength[turn] * np.cos(x * coords.x + y * coords.y + phase[turn])
    return waves


def _sharpened(waves, amount):
    """Make crests sharper than troughs, or with a negative amount rounder."""
    if abs(amount) < 0.05:
        return waves
    return np.sign(amount) * np.exp(amount * waves)


def _standing_waves(rng, coords):
    """Surface-state electrons around a defect; often none are seen."""
    if not chance(rng, 0.3, None):
        return 0
    x, y = coords.centred
    away = np.hypot(x - rng.uniform(-0.7, 0.7), y - rng.uniform(-0.7, 0.7)) * coords.size_nm
    return rng.uniform(0.2, 0.8) * np.cos(2 * np.pi * away / 1.5) / np.sqrt(1 + away)


def _edge(rng, coords, reach):
    """1 on one side of a straight step edge, 0 on the other."""
    x, y = coords.centred
    angle = rng.uniform(0, 2 * np.pi)
    across = x * np.cos(angle) + y * np.sin(angle) - rng.uniform(-reach, reach)
    return 1 / (1 + np.exp(-np.clip(across / rng.uniform(0.004, 0.02), -50, 50)))


def _cell_coordinates(coords, a, b, angle):
    """Coordinates in units of the cell's vectors; the first lies along x."""
    second = coords.y / (b * np.sin(angle))
    return coords.x / a - second * b / a * np.cos(angle), second


def _draw_cell(a, b, angle, sites, strength, widths):
    """Draw Gaussians on a grid over one cell, float array `(_CELL, _CELL)`.

    The cell's vectors have lengths `a` and `b`, in nm, and `angle` between them; `sites` are
    `(sites, 2)` in units of the vectors, `strength` and `widths` `(sites,)`, widths in nm.
    """
    grid = (np.arange(_CELL) + 0.5) / _CELL
    first = grid[:, None] - sites[:, 0, None, None]
    second = grid - sites[:, 1, None, None]
    first, second = first - np.round(first), second - np.round(second)
    squared = (a * first) ** 2 + (b * second) ** 2
    squared = squared + 2 * a * b * np.cos(angle) * first * second
    bumps = np.exp(-0.5 * squared / widths[:, None, None] ** 2)
    return np.tensordot(strength, bumps, 1)


def _tile(coords, cell, a, b, angle):
    """Read each pixel's height from the cell it lies in."""
    index = [
        ((axis % 1) * _CELL).astype(int) % _CELL
        for axis in _cell_coordinates(coords, a, b, angle)
    ]
    return cell[index[0], index[1]]
