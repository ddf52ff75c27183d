"""Scans of surfaces and situations that a model of H:Si(100) does not know.

They test whether a model calls them unknown. They are recorded exactly as scans of
H:Si(100) are, by the same scanner with the same noise, so that only the surface differs.

What no microscopist could tell from H:Si(100) is left out: a plain grating or ripples
with the period that dimer rows have in scans of 3 nm and more, a square lattice with the
period that hydrogen atoms have there, rectangular lattices of two to one, a hum in step
with the lines, a single straight step. Noise, hum and saturation alone are kept, though
a scan of H:Si(100) with the worst of tips may look like them.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.preprocess import remove_line_trend
from stm_keras.errors import UsageError
from stm_keras.scan import ROW_NM
from stm_keras.simulate import noise, unknown_lattices, unknown_shapes
from stm_keras.simulate.config import SimulationConfig, chance, log_uniform
from stm_keras.simulate.features import Features
from stm_keras.simulate.generate import check_arguments, scans_of_stream
from stm_keras.simulate.geometry import DIMER_NM, draw_frame
from stm_keras.simulate.scanner import CHUNK, record
from stm_keras.simulate.tip import States

_ANY_NM = ((3.0, 80.0),)

_UNIT_PM = 10.0  # every surface is drawn with this standard deviation
_FRAME_NM = 10.0  # width of the frame that is stretched to that of the scan
_MOST_ADSORBATES = 10  # of one scan


@dataclass(frozen=True)
class Coordinates:
    """Position of each pixel of one scan on its surface.

    `x` and `y` are `(lines, pixels)`, in nm, along axes of the surface that are turned against
    the scan; drift, creep and jitter bend them.
    """

    x: np.ndarray
    y: np.ndarray
    size_nm: float  # width of the scan

    @property
    def centred(self):
        """Coordinates around the middle of the scan, in units of its width."""
        x, y = (axis - axis.mean() for axis in (self.x, self.y))
        return x / self.size_nm, y / self.size_nm


@dataclass(frozen=True)
class Family:
    """A family of surfaces."""

    draw: object  # of (rng, `Coordinates`): heights (lines, pixels) in any unit
    size_nm: tuple  # of (low, high): widths in which the family can be recognised
    blur_px: tuple = (0.3, 1.0)  # widths of the apex, in pixels of a scan of 128
    adsorbates: float = 0.5  # probability of bright and dark spots
    # False for a picture that no surface made: it is recorded without noise, hum or feedback
    # of its own
    measured: bool = True


FAMILIES = {
    "graphite": Family(unknown_lattices.graphite, ((1.2, 5.0),)),
    "metal (111)": Family(unknown_lattices.metal_111, ((1.3, 6.0),)),
    "moire": Family(unknown_lattices.moire, ((5.0, 25.0),), adsorbates=0.3),
    "square lattice": Family(unknown_lattices.square, ((1.0, 2.6), (8.5, 11.5))),
    "oblique lattice": Family(unknown_lattices.oblique, ((4.0, 12.0),)),
    "Si(111)-7x7": Family(unknown_lattices.silicon_7x7, ((7.0, 26.0),)),
    "Au(111) herringbone": Family(unknown_lattices.herringbone, ((30.0, 130.0),)),
    "molecular layer": Family(unknown_lattices.molecular_layer, ((7.0, 24.0),)),
    "molecules": Family(unknown_shapes.molecules, ((6.0, 60.0),), (0.5, 1.5), 0),
    "terraces": Family(unknown_shapes.terraces, ((40.0, 1000.0),), (0.4, 2.5), 0.3),
    "islands": Family(unknown_shapes.islands, ((20.0, 500.0),), (0.4, 2.5), 0.2),
    "grains": Family(unknown_shapes.grains, ((50.0, 3000.0),), (0.4, 2.5), 0),
    "roughness": Family(unknown_shapes.roughness, ((20.0, 3000.0),), (0.3, 2.0), 0.2),
    "ripples": Family(unknown_shapes.ripples, ((30.0, 3000.0),), (0.4, 2.0), 0.2),
    "grating": Family(unknown_shapes.grating, ((1000.0, 30000.0),), (0.4, 2.0), 0.2),
    "blank": Family(unknown_shapes.blank, _ANY_NM, measured=False),
    "white noise": Family(unknown_shapes.white_noise, _ANY_NM, measured=False),
    "hum": Family(unknown_shapes.hum, _ANY_NM, measured=False),
    "saturated": Family(unknown_shapes.saturated, _ANY_NM, measured=False),
}
UNKNOWN_KINDS = tuple(FAMILIES)


def simulate_unknown(
    count: int,
    seed: int,
    kinds: Iterable[str] | None = None,
    config: SimulationConfig | None = None,
    start: int = 0,
) -> Dataset:
    """Simulate scans that are not of H:Si(100).

    A seed names an endless stream, as in `simulate`: the first scans are the same
    however many are asked for. Other `kinds` or another `config` make another stream.

    Args:
        count: Number of scans.
        seed: Names the stream.
        kinds: Names in `UNKNOWN_KINDS`, drawn evenly; None for all.
        config: Of the scanner alone: size in pixels, angle, drift, noise, aborts and
            effects.
        start: First scan of the stream to return.

    Returns:
        `Dataset` with uint8 images of shape `(count, size, size)`, labels of -1 and no
        tip change. `parameters` holds `kind` (index into `UNKNOWN_KINDS`),
        `scan_size_nm`, `angle_deg`, `blur_px` and `noise_to_surface`, each of shape
        `(count,)`; the last two are 0 for a picture that no surface made.

    Raises:
        UsageError: An argument makes no sense.
    """
    config = SimulationConfig() if config is None else config
    check_arguments(count, seed, config, start=start)
    settings = _kind_indices(kinds), config
    columns = scans_of_stream(_simulate_chunk, seed, settings, count, start)
    return Dataset(
        images=columns.pop("images"),
        labels=np.full(count, -1),
        classes=CLASSES,
        lines=columns.pop("lines"),
        change_line=np.full(count, -1),
        parameters=columns,
        source=f"simulated, other surfaces, seed {seed}"
        + (f" from scan {start}" if start else ""),
    )


def _kind_indices(kinds):
    """Return the indices in `UNKNOWN_KINDS` of some kinds, or of all."""
    kinds = [kinds] if isinstance(kinds, str) else kinds
    kinds = UNKNOWN_KINDS if kinds is None else tuple(kinds)
    unknown = [kind for kind in kinds if kind not in FAMILIES]
    if unknown or not kinds:
        received = ", ".join(map(repr, unknown)) or "none"
        raise UsageError(
            f"`kinds` must name surfaces. Received: {received}. Known: {', '.join(FAMILIES)}."
        )
    return np.array([UNKNOWN_KINDS.index(kind) for kind in dict.fromkeys(kinds)])


def _simulate_chunk(seed, chunk, kinds, config):
    stages = np.random.SeedSequence(seed, spawn_key=(chunk, len(FAMILIES)))

    def rng():
        return np.random.default_rng(stages.spawn(1)[0])

    kind = rng().choice(kinds, CHUNK)
    families = [FAMILIES[UNKNOWN_KINDS[index]] for index in kind]
    measured = np.array([family.measured for family in families])
    size_nm, blur_px = _draw_scale(rng(), families, config.size)
    coordinates, angle_deg = _draw_coordinates(rng(), size_nm, config)
    states = _one_state(rng(), config)

    surface = rng()
    pairs = zip(families, coordinates, strict=True)
    heights = np.stack([family.draw(surface, at) for family, at in pairs])
    heights = heights.astype(np.float32)
    heights[measured] = _with_spread(heights[measured])
    spots = _draw_adsorbates(rng(), families, config)
    heights += _adsorbate_heights(spots, config.size)
    tip = rng()
    heights[measured] = _through_tip(heights, tip, blur_px, config)[measured]

    surface_pm = _UNIT_PM * measured
    noise.add_hum(heights, rng(), states, surface_pm, config)
    level = rng()
    relative = log_uniform(level, *config.noise_to_lattice, CHUNK) * config.has("noise")
    noise_pm = np.stack([relative * surface_pm] * 2, 1)
    noise.add_noise(heights, level, noise_pm, states, config)
    noise.add_scars(heights, rng(), spots, states, surface_pm, config)
    followed, _ = noise.apply_feedback(heights, rng(), states, config)
    heights[measured] = followed[measured]
    images, _ = record(heights, states.recorded)
    return {
        "images": images,
        "lines": states.recorded,
        "kind": kind.astype(np.int8),
        "scan_size_nm": size_nm,
        "angle_deg": angle_deg,
        "blur_px": blur_px * measured,
        "noise_to_surface": relative * measured,
    }


def _draw_scale(rng, families, size):
    """Width of each scan in nm, and of its apex in pixels."""
    ranges = [f.size_nm[rng.integers(len(f.size_nm))] for f in families]
    size_nm = log_uniform(rng, *np.array(ranges).T)
    blur = rng.uniform(*np.array([f.blur_px for f in families]).T)
    return size_nm, blur * size / 128


def _draw_coordinates(rng, size_nm, config):
    """Take coordinates from the frame of an H:Si(100) scan, stretched to the new width."""
    scanner = SimulationConfig(
        size=config.size,
        small_nm=(_FRAME_NM, _FRAME_NM),
        p_medium=0,
        p_large=0,
        angle_deg=config.angle_deg,
        shear=config.shear,
        p_creep=config.p_creep,
        effects=config.effects,
    )
    frame = draw_frame(rng, CHUNK, scanner)
    periods = frame.columns[:, :, None, :] + frame.lines[:, :, :, None]
    stretch = size_nm / _FRAME_NM
    x = periods[:, 0] * (ROW_NM * stretch)[:, None, None]
    y = periods[:, 1] * (DIMER_NM * stretch)[:, None, None]
    return [Coordinates(*one) for one in zip(x, y, size_nm, strict=True)], frame.angle_deg


def _one_state(rng, config):
    """Draw `States` of one tip for the whole scan; some scans stop early."""
    size = config.size
    partial = chance(rng, config.p_partial, CHUNK)
    recorded = np.where(partial, rng.integers(size // 8, size, CHUNK), size)
    return States(
        classes=np.zeros((CHUNK, 2), int),
        kind=np.full(CHUNK, -1, np.int8),
        recorded=recorded,
        apex_line=np.full(CHUNK, -1),
        slot=np.zeros((CHUNK, size), np.intp),
    )


def _with_spread(heights):
    """Scale each surface to the same standard deviation, lines levelled."""
    spread = remove_line_trend(heights).std((1, 2))
    return heights * (_UNIT_PM / np.where(spread > 0, spread, 1))[:, None, None]


def _draw_adsorbates(rng, families, config):
    """Few and low enough that the surface stays visible; returns `Features`."""
    size, many = config.size, (CHUNK, _MOST_ADSORBATES)
    probability = [f.adsorbates * f.measured for f in families]
    number = chance(rng, probability, CHUNK) * rng.integers(1, _MOST_ADSORBATES + 1, CHUNK)
    present = (np.arange(_MOST_ADSORBATES) < number[:, None]) & config.has("features")
    height = _UNIT_PM * log_uniform(rng, 1.5, 9, CHUNK)[:, None]
    height = height * rng.uniform(0.4, 1, many) * np.where(chance(rng, 0.3, many), -0.5, 1)
    return Features(
        tallest_pm=(height * present).max(1),
        height_pm=height * present,
        x=rng.uniform(0, size, many),
        y=rng.uniform(0, size, many),
        width=log_uniform(rng, 1.5, 9, many) * size / 128,
        present=present,
    )


def _adsorbate_heights(spots, size):
    index = np.arange(size)
    width = spots.width[:, :, None]
    across = np.exp(-0.5 * ((index - spots.x[:, :, None]) / width) ** 2)
    along = np.exp(-0.5 * ((index - spots.y[:, :, None]) / width) ** 2)
    along = along * spots.height_pm[:, :, None]
    return (along.transpose(0, 2, 1) @ across).astype(np.float32)


def _through_tip(heights, rng, blur_px, config):
    """Blur by a wide apex; a second apex draws everything again, fainter and aside."""
    index = np.arange(config.size)
    distance = (index[:, None] - index) / blur_px[:, None, None]
    kernel = np.exp(-0.5 * distance**2)
    kernel = (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)
    heights = kernel.transpose(0, 2, 1) @ heights @ kernel
    double = chance(rng, 0.25, CHUNK) & config.has("double_tip")
    weight = rng.uniform(0.15, 0.7, CHUNK)
    reach = max(2, config.size // 16)
    shift = rng.integers(-reach, reach + 1, (CHUNK, 2))
    for scan in np.flatnonzero(double):
        down, right = (_reflected(index - s, config.size) for s in shift[scan])
        heights[scan] += weight[scan] * heights[scan][down][:, right]
    return heights


def _reflected(index, size):
    index = np.abs(index)
    return np.where(index >= size, 2 * size - 2 - index, index)
