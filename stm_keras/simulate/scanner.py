"""The story of one chunk of scans, from the tip to the file."""

from dataclasses import dataclass

import numpy as np

from stm_keras.simulate import artefacts, features, lattice, noise, recording
from stm_keras.simulate.geometry import Frame, draw_frame
from stm_keras.simulate.states import GENERIC, States, draw_states
from stm_keras.simulate.tip import Tips, draw_tips

CHUNK = 64  # scans drawn together; the stream depends on it


@dataclass(frozen=True)
class Scene:
    """What was drawn for a chunk of scans, before anything is recorded.

    Args:
        heights: float32 array `(scans, lines, pixels)`, in pm.
        frame, states, tips: `Frame`, `States`, `Tips`.
        features: `Features`.
        amplitudes: float array `(scans, 2, harmonics)`, in pm. Lattice before and after
            the tip change.
        noise_pm: float array `(scans, 2)`.
        stepped: bool array `(scans,)`.
        lag_px: float array `(scans,)`. Time constant of the loop.
    """

    heights: np.ndarray
    frame: Frame
    states: States
    tips: Tips
    features: features.Features
    amplitudes: np.ndarray
    noise_pm: np.ndarray
    stepped: np.ndarray
    lag_px: np.ndarray


def simulate_chunk(seed, chunk, config):
    """Simulate the scans of one chunk of a stream.

    Args:
        seed: int. Names the stream.
        chunk: int. Number of the chunk.
        config: `SimulationConfig`.

    Returns:
        dict of str to array of shape `(CHUNK, ...)`.
    """
    scene = draw_scene(seed, chunk, config)
    states, tips = scene.states, scene.tips
    images, span = recording.record(scene.heights, states.recorded)
    classes, grey, signal_to_noise = recording.visible_class(
        states.classes, scene.amplitudes, tips.asym, span, scene.noise_pm
    )
    if not config.label_by_visibility:
        classes = states.classes
    line_labels, labels, change_line = recording.label_lines(classes, states)
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
    """Draw the heights of one chunk; returns a `Scene`.

    Each stage has random numbers of its own, so an effect that is off leaves the others
    as they were.
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
    heights = lattice.lattice_heights(frame, by_line)
    stepped, terraces = lattice.add_terraces(heights, rng(), frame, by_line, config)
    drawn = features.draw_features(rng(), frame, states, lattice_pm, config)
    features.add_features(heights, rng(), drawn, frame, states, tips, lattice_pm, config)
    heights[stepped] += terraces
    features.add_background(heights, rng(), states, frame, lattice_pm, config)
    noise.add_hum(heights, rng(), states, lattice_pm, config)
    level = rng()
    noise_pm = noise.draw_noise_level(level, states, lattice_pm, config)
    noise.add_noise(heights, level, noise_pm, states, config)
    artefacts.add_scars(heights, rng(), drawn, states, lattice_pm, config)
    artefacts.add_jumps(heights, rng(), drawn, states, lattice_pm, config)
    artefacts.add_wild_lines(heights, rng(), states, lattice_pm, config)
    artefacts.add_crashes(heights, rng(), states, lattice_pm, config)
    heights, lag_px = noise.apply_feedback(heights, rng(), states, config)
    return Scene(
        heights=heights,
        frame=frame,
        states=states,
        tips=tips,
        features=drawn,
        amplitudes=amplitudes,
        noise_pm=noise_pm,
        stepped=np.isin(np.arange(CHUNK), stepped),
        lag_px=lag_px,
    )


def corrugation(amplitudes):
    """Standard deviation of a lattice with these amplitudes, `(..., harmonics)`."""
    return np.sqrt((amplitudes**2).sum(-1) / 2) + 1e-3


def _scan_coefficients(rng, frame, states, tips, config):
    """Coefficients of each tip state as this scan shows them, `(scans, 2, harmonics)`."""
    coefficients = lattice.tip_coefficients(tips, config.has("log"))
    coefficients = coefficients * lattice.pixel_response(frame)[:, None]
    coefficients = coefficients * _draw_gain(rng, states)[..., None].astype(np.float32)
    shift = rng.uniform(0, 1, (len(states.kind), 2)) * states.two_apexes[:, None]
    phase = np.exp(2j * np.pi * shift @ lattice.HARMONICS.T).astype(np.complex64)
    coefficients[:, 1] *= phase  # the new apex sits elsewhere
    return coefficients


def _draw_gain(rng, states):
    """How much of the lattice a generic tip leaves, float array `(scans, 2)`."""
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
