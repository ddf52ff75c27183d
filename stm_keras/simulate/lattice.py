"""What an apex makes of the atoms: constant-current heights of the 2x1 lattice.

The heights of one unit cell become a few harmonics, and a scan is the product of a
matrix (lines, harmonics) with a matrix (harmonics, columns).
"""

import numpy as np

from stm_keras.scan import ROW_NM
from stm_keras.simulate.config import chance, sign
from stm_keras.simulate.geometry import DIMER_NM

HYDROGEN_NM = 0.357  # between the two hydrogens of a dimer, across the row
STEP_PM = 136.0  # monatomic step, a quarter of the bulk lattice constant
MAX_ACROSS, MAX_ALONG = 4, 2
# half of the plane: heights are real, the other half follows
HARMONICS = np.array(
    [(h, 0) for h in range(1, MAX_ACROSS + 1)]
    + [(h, k) for k in range(1, MAX_ALONG + 1) for h in range(-MAX_ACROSS, MAX_ACROSS + 1)]
)
ROW, HALF_ROW = 0, 1  # harmonics (1, 0) and (2, 0)
DIMER = HARMONICS.tolist().index([0, 1])
_GRID = (32, 16)  # points in a unit cell, where the logarithm is taken


def tip_coefficients(tips, use_log=True):
    """Fourier coefficients of the constant-current surface of one unit cell.

    The density of states of the surface decays into the vacuum, fine detail first
    (Tersoff and Hamann); the apex adds an orbital (Chen), a blur, further mini-tips and
    a current that resolves nothing. Constant current keeps the logarithm of the sum.

    Args:
        tips: `Tips` with arrays of shape `(scans, 2, ...)`.
        use_log: bool. False takes the linear term of the logarithm.

    Returns:
        complex64 array of shape `(scans, 2, harmonics)`, in pm: a height is the real
        part of the sum.

    Reference:
        Tersoff and Hamann, 1985, Phys. Rev. B 31, 805; Chen, 1990, Phys. Rev. B 42, 8841.
    """

    def cell(values):  # (scans, 2) beside the grid of the unit cell
        return np.asarray(values, np.float32)[..., None, None]

    # wave numbers of the grid in 1/nm: (32, 1) across the row, (16,) along it
    across = 2 * np.pi / ROW_NM * np.fft.fftfreq(_GRID[0], 1 / _GRID[0])[:, None]
    along = 2 * np.pi / DIMER_NM * np.fft.fftfreq(_GRID[1], 1 / _GRID[1])
    across, along = across.astype(np.float32), along.astype(np.float32)
    squared = across**2 + along**2
    decay = 4 * cell(tips.kappa_per_nm) ** 2

    # how much of each wave is left at the apex: (scans, 2, 32, 16)
    transfer = np.exp((np.sqrt(decay) - np.sqrt(decay + squared)) * cell(tips.distance_nm))
    transfer *= (1 + cell(tips.orbital) * squared / decay) ** 2
    blur_across, blur_along = cell(tips.blur_nm[..., 0]), cell(tips.blur_nm[..., 1])
    transfer *= np.exp(-0.5 * ((across * blur_across) ** 2 + (along * blur_along) ** 2))

    # the surface: two hydrogens, and bonds or dangling orbitals of the silicon between them
    left = np.exp(-0.5j * across * HYDROGEN_NM).astype(np.complex64)
    centre, asym = cell(tips.w_c), cell(tips.asym)
    surface = (1 - centre) / 2 * ((1 + asym) * left + (1 - asym) * left.conj())
    surface = surface + centre * np.exp(-0.5 * (across * cell(tips.centre_nm)) ** 2)

    apexes = 0  # currents of the mini-tips add up; each is shifted by its offset
    for weight, offset in zip(
        np.moveaxis(tips.weight, -1, 0), np.moveaxis(tips.offset_nm, -2, 0), strict=True
    ):
        phase = across * cell(offset[..., 0]) + along * cell(offset[..., 1])
        apexes = apexes + cell(weight) * np.exp(-1j * phase)

    # constant current follows the logarithm, which mixes harmonics: so it is taken in space
    density = np.fft.ifft2(surface * transfer * apexes).real
    density = density / np.maximum(density.mean((-2, -1), keepdims=True), 1e-9)
    back = cell(tips.back)
    if use_log:
        heights = np.log(np.maximum(density + back, 0.05))
    else:
        heights = (density - 1) / (1 + back)
    heights = 1000 * heights / (2 * cell(tips.kappa_per_nm))
    spectrum = np.fft.fft2(heights) / np.prod(_GRID)
    picked = spectrum[..., HARMONICS[:, 0] % _GRID[0], HARMONICS[:, 1] % _GRID[1]]
    return (2 * picked).astype(np.complex64)


def pixel_response(frame):
    """Return the share of each harmonic that pixels keep: float32 `(scans, harmonics)`.

    Detail finer than two pixels is gone rather than aliased: scans were resized with an
    antialiased filter.
    """
    frequency = HARMONICS @ frame.per_pixel  # cycles per pixel, (scans, harmonics, 2)
    response = (np.sinc(frequency) ** 2).prod(-1)
    return (response * (np.abs(frequency).max(-1) < 0.5)).astype(np.float32)


def add_terraces(heights, rng, frame, line_coefficients, config):
    """Turn the rows by 90 degrees on one side of a step, in some scans.

    The step itself comes back apart: features lie on top of both terraces, and what they
    do to the lattice they do not do to the step.

    Args:
        heights: float32 array of shape `(scans, lines, pixels)`, in pm; changed.
        line_coefficients: complex array of shape `(scans, lines, harmonics)`.

    Returns:
        Tuple of int array `(stepped,)`: the scans with a step; and float32 array
        `(stepped, lines, pixels)`: height of their terraces in pm.
    """
    count, size = heights.shape[:2]
    stepped = (frame.large & chance(rng, 0.35, count)) | chance(rng, 0.003, count)
    chosen = np.flatnonzero(stepped & config.has("steps"))
    direction = rng.uniform(0, 2 * np.pi, count)[chosen, None, None]
    centre = rng.uniform(0.2, 0.8, count)[chosen, None, None] * size
    # the edge wanders by one or two rows at kinks, which are as frequent as the scan is wide
    kinked = chance(rng, 0.45 * frame.pixel_nm[:, None], (count, size))
    kink = kinked * sign(rng, (count, size)) * rng.integers(1, 3, (count, 1))
    pixel_nm = frame.pixel_nm[chosen, None]
    edge = np.cumsum(kink[chosen] * ROW_NM / pixel_nm, 1)
    edge = (edge - edge.mean(1, keepdims=True))[:, :, None]

    index = np.arange(size) - size / 2
    distance = index * np.cos(direction) + index[:, None] * np.sin(direction)
    distance = distance + size / 2 - centre + edge
    width_px = 0.2 / pixel_nm[:, None]
    upper = 1 / (1 + np.exp(-np.clip(distance / width_px, -50, 50)))
    upper = upper.astype(np.float32)
    # swapped coordinates, in periods of the other axis: the same lattice turned by 90 degrees
    turn = np.array([[DIMER_NM / ROW_NM], [ROW_NM / DIMER_NM]])
    turned = lattice_heights(
        frame.lines[chosen, ::-1] * turn,
        frame.columns[chosen, ::-1] * turn,
        line_coefficients[chosen],
    )
    heights[chosen] += (turned - heights[chosen]) * upper
    return chosen, STEP_PM * upper


def lattice_heights(lines, columns, line_coefficients):
    """Return the lattice of whole scans: float32 `(scans, lines, pixels)`, in pm.

    It is the real part of sum_h c_h exp(2 pi i h (line part + column part)), as one real
    product: harmonics are doubled into real and imaginary parts, `(scans, lines, 2 harmonics)`
    times `(scans, 2 harmonics, pixels)`.

    Args:
        lines, columns: float arrays, as of `Frame`.
        line_coefficients: complex array `(scans, lines, harmonics)`: the apex may change from
            line to line.
    """
    left = _waves(lines) * line_coefficients
    right = _waves(columns)
    left = np.concatenate([left.real, -left.imag], 2)
    right = np.concatenate([right.real, right.imag], 2)
    return left @ right.transpose(0, 2, 1)


def _waves(periods):
    """Value of every harmonic at lattice coordinates, `(scans, points, harmonics)`."""
    across, along = np.exp(2j * np.pi * np.moveaxis(periods, 1, 0)).astype(np.complex64)
    powers = [np.ones_like(across)]
    for _ in range(MAX_ACROSS):
        powers.append(powers[-1] * across)
    waves = np.empty((*across.shape, len(HARMONICS)), np.complex64)
    for index, (h, k) in enumerate(HARMONICS.tolist()):
        wave = powers[h] if h >= 0 else powers[-h].conj()
        for _ in range(k):
            wave = wave * along
        waves[..., index] = wave
    return waves
