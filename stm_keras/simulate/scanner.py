"""One chunk of scans: the scene is drawn, recorded as a microscope does, and labelled.

A line has the class that can be seen in the recorded picture: by three amplitudes of its
lattice, if they are above a few grey levels and the noise.
"""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import Dataset
from stm_keras.data.preprocess import remove_line_trend
from stm_keras.errors import UsageError
from stm_keras.simulate import features, lattice, noise
from stm_keras.simulate.geometry import Frame, draw_frame
from stm_keras.simulate.lattice import DIMER, HALF_ROW, ROW
from stm_keras.simulate.tip import (
    GENERIC,
    GENERIC_KINDS,
    States,
    Tips,
    draw_states,
    draw_tips,
)

LEVELS = 254  # the real scans have 255 grey levels, 0 to 254
ATOMS, DIMERS, ROWS = 0, 1, 2
# thresholds that reproduce the votes of raters on real scans
_ATOMS_RATIO = 0.52  # harmonic (2, 0) over (1, 0): both hydrogens of a dimer
_ROWS_RATIO = 0.29  # harmonic (0, 1) over (1, 0): nothing along the row
_ONE_DIRECTION = 0.25  # (1, 0) and (2, 0) over (0, 1): only one direction, read as rows
_ASYMMETRIC = 0.3  # of the tip; above it the two hydrogens do not look alike
_VISIBLE_GREY = 3.5  # grey levels of the strongest harmonic
_VISIBLE_NOISE = 1.2  # and its amplitude over the noise's standard deviation

CHUNK = 64  # scans drawn together; the stream depends on it


@dataclass(frozen=True)
class Scene:
    """What was drawn for a chunk of scans, before anything is recorded."""

    heights: np.ndarray  # float32 (scans, lines, pixels), in pm
    frame: Frame
    states: States
    tips: Tips
    features: features.Features
    amplitudes: np.ndarray  # (scans, 2, harmonics), in pm: before and after the tip change
    noise_pm: np.ndarray  # (scans, 2)
    stepped: np.ndarray  # bool (scans,): scans with a monatomic step
    lag_px: np.ndarray  # (scans,): time constant of the loop


def simulate_chunk(seed, chunk, config):
    """Simulate a chunk of the stream of a seed: dict of str to array `(CHUNK, ...)`."""
    scene = draw_scene(seed, chunk, config)
    states, tips = scene.states, scene.tips
    images, span = record(scene.heights, states.recorded)
    classes, grey, signal_to_noise = visible_class(
        states.classes, scene.amplitudes, tips.asym, span, scene.noise_pm
    )
    if not config.label_by_visibility:
        classes = states.classes
    line_labels, labels, change_line = label_lines(classes, states)
    return {
        "images": images,
        "labels": labels,
        "lines": states.recorded,
        "line_labels": line_labels,
        "change_line": change_line,
        "scan_size_nm": scene.frame.size_nm,
        "angle_deg": scene.frame.angle_deg,
        "tip_class": states.classes,
        "generic_kind": states.kind,
        "apex_line": states.apex_line,
        "kappa_per_nm": tips.kappa_per_nm,
        "distance_nm": tips.distance_nm,
        "w_c": tips.w_c,
        "asym": tips.asym,
        "orbital": tips.orbital,
        "blur_nm": tips.blur_nm,
        "back": tips.back,
        "mini_tip_nm": tips.offset_nm,
        "mini_tip_weight": tips.weight,
        "corrugation_pm": corrugation(scene.amplitudes),
        "noise_pm": scene.noise_pm,
        "tallest_feature_pm": scene.features.tallest_pm,
        "step": scene.stepped,
        "loop_lag_px": scene.lag_px,
        "z_range_pm": span,
        "visible_grey": grey,
        "signal_to_noise": signal_to_noise,
    }


def draw_scene(seed, chunk, config):
    """Draw the heights of one chunk; return a `Scene`.

    Each stage has random numbers of its own, so that switching an effect off leaves the
    rest as it was.
    """
    stages = np.random.SeedSequence(seed, spawn_key=(chunk,))

    def rng():
        return np.random.default_rng(stages.spawn(1)[0])

    frame = draw_frame(rng(), CHUNK, config)
    states = draw_states(rng(), CHUNK, config)
    tips = draw_tips(rng(), states, config)
    coefficients = _scan_coefficients(rng(), frame, states, tips, config)
    amplitudes = np.abs(coefficients)
    lattice_pm = np.where(states.changed[:, None], corrugation(amplitudes), 0).max(1)
    lattice_pm = np.maximum(lattice_pm, corrugation(amplitudes)[:, 0])

    by_line = states.by_line(coefficients)
    heights = lattice.lattice_heights(frame.lines, frame.columns, by_line)
    stepped, terraces = lattice.add_terraces(heights, rng(), frame, by_line, config)
    objects = features.draw_features(rng(), frame, states, lattice_pm, config)
    features.add_features(heights, rng(), objects, frame, states, tips, lattice_pm, config)
    heights[stepped] += terraces
    features.add_background(heights, rng(), states, frame, lattice_pm, config)
    noise.add_hum(heights, rng(), states, lattice_pm, config)
    level = rng()
    noise_pm = noise.draw_noise_level(level, states, lattice_pm, config)
    noise.add_noise(heights, level, noise_pm, states, config)
    noise.add_scars(heights, rng(), objects, states, lattice_pm, config)
    noise.add_jumps(heights, rng(), objects, states, lattice_pm, config)
    noise.add_wild_lines(heights, rng(), states, lattice_pm, config)
    noise.add_crashes(heights, rng(), states, lattice_pm, config)
    heights, lag_px = noise.apply_feedback(heights, rng(), states, config)
    return Scene(
        heights=heights,
        frame=frame,
        states=states,
        tips=tips,
        features=objects,
        amplitudes=amplitudes,
        noise_pm=noise_pm,
        stepped=np.isin(np.arange(CHUNK), stepped),
        lag_px=lag_px,
    )


def corrugation(amplitudes):
    """Return the standard deviation of lattices with amplitudes `(..., harmonics)`."""
    return np.sqrt((amplitudes**2).sum(-1) / 2) + 1e-3


def _scan_coefficients(rng, frame, states, tips, config):
    """Return each tip state's coefficients as this scan shows them, `(scans, 2, harmonics)`."""
    coefficients = lattice.tip_coefficients(tips, config.has("log"))
    coefficients = coefficients * lattice.pixel_response(frame)[:, None]
    coefficients = coefficients * _draw_gain(rng, states)[..., None].astype(np.float32)
    shift = rng.uniform(0, 1, (len(states.kind), 2)) * states.two_apexes[:, None]
    phase = np.exp(2j * np.pi * shift @ lattice.HARMONICS.T).astype(np.complex64)
    coefficients[:, 1] *= phase  # the new apex sits elsewhere
    return coefficients


def _draw_gain(rng, states):
    """Draw how much of the lattice a generic tip leaves, float array `(scans, 2)`."""
    count = len(states.kind)
    weak = rng.uniform(0.08, 0.5, count)[:, None]
    lost = rng.uniform(0.02, 0.25, (count, 2))
    passing = (states.classes == GENERIC) & (states.classes[:, :1] != states.classes[:, 1:])
    gain = np.ones((count, 2))
    gain[states.is_kind("flat")] = 0.15
    gain[states.is_kind("noisy")] = 0.4
    gain[states.is_kind("hum")] = 0.5
    fades = states.is_kind("faint", "cluster", "smear", "unstable")
    gain = np.where(fades[:, None], weak, gain)
    still = (states.classes == GENERIC).all(1)[:, None]
    return np.where(passing, lost, np.where(still, gain, 1))


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
    """Return what amplitudes `(..., harmonics)` resolve: int array `(...)`.

    It is atoms, dimers or rows; `asym` is the asymmetry of the tip, float array `(...)`.
    """
    row, half = amplitudes[..., ROW], amplitudes[..., HALF_ROW]
    dimer = amplitudes[..., DIMER]
    atoms = (half > _ATOMS_RATIO * row) & (np.abs(asym) < _ASYMMETRIC)
    rows = dimer < _ROWS_RATIO * row
    rows |= np.maximum(row, half) < _ONE_DIRECTION * dimer
    return np.where(rows, ROWS, np.where(atoms, ATOMS, DIMERS))


def visible_class(classes, amplitudes, asym, span_pm, noise_pm):
    """Return what a rater can see of each tip state in the recorded picture.

    A lattice within a few grey levels, or in the noise, is generic whatever the tip.

    Args:
        classes: int array of shape `(scans, 2)`. Class of the tip.
        amplitudes: float array of shape `(scans, 2, harmonics)`, in pm.
        asym, noise_pm: float arrays of shape `(scans, 2)`.
        span_pm: float array of shape `(scans,)`. Height of the whole grey scale.

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


def clear_changes(dataset: Dataset) -> np.ndarray:
    """Return in which scans `change_line` tells every tip change: bool array `(scans,)`.

    It tells a change of class. Where another apex of the same class took over, or an apex
    switched back and forth, something did change without such a line: a detection in such a
    scan is neither right nor wrong, and those scans are left out when detections are counted.
    """
    if dataset.change_line is None:
        raise UsageError("`dataset` has no change lines: only simulated scans have them.")
    parameters = dataset.parameters
    if "apex_line" not in parameters and "kind" in parameters:  # of `simulate_unknown`
        return np.ones(len(dataset), bool)
    missing = [n for n in ("apex_line", "generic_kind") if n not in parameters]
    if missing:
        raise UsageError(
            f"`dataset` has no parameter `{missing[0]}`. Simulate the scans, or keep "
            "their parameters when they are saved."
        )
    unstable = np.asarray(parameters["generic_kind"]) == GENERIC_KINDS.index("unstable")
    return (np.asarray(parameters["apex_line"]) == dataset.change_line) & ~unstable
