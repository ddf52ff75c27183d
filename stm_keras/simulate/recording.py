"""From heights to what is on disk: levelled lines, 8 bits, and the class one can see."""

import numpy as np

from stm_keras.data.preprocess import remove_line_trend
from stm_keras.simulate.lattice import DIMER, HALF_ROW, ROW
from stm_keras.simulate.states import GENERIC

LEVELS = 254  # the real scans have 255 grey levels, 0 to 254
ATOMS, DIMERS, ROWS = 0, 1, 2
# thresholds that reproduce the votes on real scans
_ATOMS_RATIO = 0.52  # harmonic (2, 0) over (1, 0): both hydrogens of a dimer
_ROWS_RATIO = 0.29  # harmonic (0, 1) over (1, 0): nothing along the row
_ONE_DIRECTION = 0.25  # (1, 0) and (2, 0) over (0, 1): only one direction, read as rows
_ASYMMETRIC = 0.3
_VISIBLE_GREY = 3.5
_VISIBLE_NOISE = 1.2


def record(heights, recorded):
    """Record scans as the real ones are: levelled by line, scaled over the scan.

    Args:
        heights: float array of shape `(scans, lines, pixels)`.
        recorded: int array of shape `(scans,)`. Lines up to the abort.

    Returns:
        Tuple of uint8 array like `heights`, where the lowest recorded height is 0, the
        highest 254, and lines that were not recorded are 0; and of float array
        `(scans,)`, the range of the levelled heights.
    """
    levelled = remove_line_trend(heights)
    inside = np.arange(heights.shape[1]) < recorded[:, None]
    low = np.where(inside, levelled.min(2), np.inf).min(1)[:, None, None]
    span = np.where(inside, levelled.max(2), -np.inf).max(1) - low[:, 0, 0]
    levelled -= low
    levelled /= np.where(span > 0, span, 1)[:, None, None]
    levelled *= LEVELS
    levelled += 0.5
    levelled[~inside] = 0
    return levelled.astype(np.uint8), span


def resolved_class(amplitudes, asym):
    """Tell what lattice amplitudes resolve.

    Args:
        amplitudes: float array of shape `(..., harmonics)`.
        asym: float array of shape `(...)`. Asymmetry of the tip.

    Returns:
        int array of shape `(...)`: atoms, dimers or rows.
    """
    row, half = amplitudes[..., ROW], amplitudes[..., HALF_ROW]
    dimer = amplitudes[..., DIMER]
    atoms = (half > _ATOMS_RATIO * row) & (np.abs(asym) < _ASYMMETRIC)
    rows = dimer < _ROWS_RATIO * row
    rows |= np.maximum(row, half) < _ONE_DIRECTION * dimer
    return np.where(rows, ROWS, np.where(atoms, ATOMS, DIMERS))


def visible_class(classes, amplitudes, asym, span_pm, noise_pm):
    """Tell what a rater can see of each tip state in the recorded picture.

    A lattice within a few grey levels, or in the noise, is generic whatever the tip.

    Args:
        classes: int array of shape `(scans, 2)`. Class of the tip.
        amplitudes: float array of shape `(scans, 2, harmonics)`, in pm.
        asym: float array of shape `(scans, 2)`.
        span_pm: float array of shape `(scans,)`. Height of the whole grey scale.
        noise_pm: float array of shape `(scans, 2)`.

    Returns:
        Tuple of int array `(scans, 2)`: the class; float array `(scans, 2)`: grey levels
        of the strongest harmonic; float array `(scans, 2)`: that harmonic over the noise.
    """
    strongest = amplitudes[..., [ROW, HALF_ROW, DIMER]].max(-1)
    grey = strongest * LEVELS / np.maximum(span_pm, 1e-3)[:, None]
    signal_to_noise = strongest / (noise_pm + 1e-3)
    seen = resolved_class(amplitudes, asym)
    hidden = (grey < _VISIBLE_GREY) | (signal_to_noise < _VISIBLE_NOISE)
    seen = np.where(hidden | (classes == GENERIC), GENERIC, seen)
    return seen, grey, signal_to_noise


def label_lines(state_classes, states):
    """Give every recorded line its class, and every scan that of most of its lines.

    Args:
        state_classes: int array of shape `(scans, 2)`. Class of each tip state.
        states: `States`.

    Returns:
        Tuple of int8 array `(scans, lines)`: class of each line, -1 where it was not
        recorded; int array `(scans,)`: class of the scan, the better one in a tie;
        int array `(scans,)`: first line with a class other than the line before, -1
        without one. A change of apex that leaves the class as it was is not one.
    """
    inside = np.arange(states.slot.shape[1]) < states.recorded[:, None]
    lines = np.where(inside, states.by_line(state_classes), -1).astype(np.int8)
    votes = np.stack([(lines == c).sum(1) for c in range(GENERIC + 1)], 1)
    differ = state_classes[:, 0] != state_classes[:, 1]
    change = np.where(states.changed & differ, states.apex_line, -1)
    return lines, votes.argmax(1), change
