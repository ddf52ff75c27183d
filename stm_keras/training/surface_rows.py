"""Describe scans of known and of other surfaces, as recorded and varied, for a layer to learn."""

import warnings
from dataclasses import dataclass

import keras
import numpy as np

from stm_keras.data.augment import add_noise, flip_scans, transform_scans
from stm_keras.data.dataset import CLASSES, read_images
from stm_keras.data.preprocess import pack_lines, recorded_lines, remove_line_trend
from stm_keras.errors import require
from stm_keras.inference.evaluate import LINES_SEEN
from stm_keras.models.sequential import DESCRIBED
from stm_keras.settings import AugmentConfig
from stm_keras.training.trees import CHUNK, orders, reordered
from stm_keras.trees.stages import LINES

MEMBERS = 2  # that are fitted and averaged: side by side they are one layer
ROWS = 60_000  # drawn for each, half of known surfaces and half of others
EPOCHS = 25
BATCH = 1024
LEARNING_RATE = 5e-3
PENALTY = 3.0  # L2 of the weights, over a batch
SPREAD = 0.02  # standard deviation at least that a feature is divided by: rounding shows

SEEN = np.array(sorted({*LINES, *LINES_SEEN}))
MOST = 6000  # known scans that are described; more tell little
FEWEST = 8  # lines that a scan which begins later must have
COPIES = {"known": 1, "other": 4}  # varied, beside each scan as it is
KNOWN = AugmentConfig(rotate=0.5, zoom=0.1, pan=0.1, noise=0.1)
OTHER = AugmentConfig(rotate=0.5, zoom=0.3, pan=0.1, noise=0.1)
LEVELS = 254  # of scans in eight bits
SIMULATED = {"known": 1000, "other": 400}
SIMULATED_SEED = 40_404  # no scan of other seeds
SHARES = {"known": 0.2, "other": 0.1}  # of the weight of each side, simulated


@dataclass(frozen=True)
class SurfaceRows:
    """What the layer reads of scans after numbers of lines, and how much each counts.

    Args:
        known: float32 array `(scans, numbers of lines, features)`, scans as they are.
        other: float32 array `(others, numbers of lines, features)`.
        known_lines, other_lines: int arrays. Lines with a signal of each.
        features: float32 array `(rows, features)`. Those that teach.
        place: int array `(rows,)`. Which known scan or which other a row is of; -1 for
            simulated ones, which always teach.
        unknown: bool array `(rows,)`. Whether it is of another surface.
        weight: float array `(rows,)`. Sums to 1 over each side.
    """

    known: np.ndarray
    other: np.ndarray
    known_lines: np.ndarray
    other_lines: np.ndarray
    features: np.ndarray
    place: np.ndarray
    unknown: np.ndarray
    weight: np.ndarray

    @property
    def all_known(self):
        """A mask of all known scans."""
        return np.ones(len(self.known), bool)

    @property
    def all_others(self):
        """A mask of all others."""
        return np.ones(len(self.other), bool)

    def known_at(self, chosen, lines):
        """Return features `(chosen, features)` of known scans after some lines."""
        return _after(self.known, self.known_lines, chosen, lines)

    def other_at(self, chosen, lines):
        """Return those of others; where fewer lines were recorded, after the last."""
        return _after(self.other, self.other_lines, chosen, lines)


def describe_surfaces(model, prepare, known, others, seed):
    """Describe all scans, as they are and varied as a microscope would vary them.

    Copies are turned, zoomed, mirrored, noisier, begin later or run backwards; half of
    those of other surfaces are rounded to eight bits as the known scans may have been, so
    that nothing but the surface tells them apart. Simulated scans teach beside, where the
    known surface is the one that can be simulated.

    Args:
        model: `keras.Model` with a layer that describes lines.
        prepare: callable that turns heights into model input.
        known: `Dataset`.
        others: `OtherSurfaces`.
        seed: int.

    Returns:
        `SurfaceRows`.
    """
    describe = keras.Model(model.inputs[0], model.get_layer(DESCRIBED).output)
    rng = np.random.default_rng((seed, 19))
    shape = known.images.shape[1:]
    taught, weights = [], []

    def teach(heights, place, unknown, weight):
        features, count = _describe(describe, prepare, heights)
        there = SEEN[shape[0] >= SEEN] <= count[:, None]
        taught.append(
            (
                features[there],
                np.broadcast_to(np.asarray(place)[:, None], there.shape)[there],
                np.full(there.sum(), unknown),
            )
        )
        weights.append(np.broadcast_to(np.asarray(weight)[:, None], there.shape)[there])
        return features, count

    # === The known surface ===
    images = read_images(known.images, np.arange(len(known)))
    alike = _alike(known.session, len(known), 0.5) * (1 - SHARES["known"])
    features, lines = teach(images, np.arange(len(known)), False, alike)
    for _ in range(COPIES["known"]):
        teach(vary(images, KNOWN, rng), np.arange(len(known)), False, alike)

    # === Others ===
    heights = others.images
    use = np.flatnonzero(others.usable)
    alike = _alike(others.source[use], len(use), 1) * (1 - SHARES["other"])
    told, count = _describe(describe, prepare, heights)
    teach(heights[use], use, True, alike)
    for number in range(COPIES["other"]):
        copies = vary(heights[use], OTHER, rng)
        teach(eight_bits(copies) if number % 2 else copies, use, True, alike)

    # === Simulated ===
    if shape == (128, 128) and known.classes == CLASSES:
        for unknown, scans in enumerate(_simulated()):
            share = SHARES["other" if unknown else "known"]
            nowhere = np.full(len(scans), -1)
            teach(scans, nowhere, bool(unknown), np.full(len(scans), share / len(scans)))
    rows, place, unknown = (np.concatenate(each) for each in zip(*taught, strict=True))
    return SurfaceRows(
        known=features,
        other=told,
        known_lines=lines,
        other_lines=count,
        features=rows,
        place=place,
        unknown=unknown,
        weight=np.concatenate(weights),
    )


def vary(heights, settings, rng):
    """Return scans as they might have been recorded as well.

    Args:
        heights: array `(scans, lines, pixels)`; not recorded lines are 0.
        settings: `AugmentConfig`. Begun scans are not turned.
        rng: `numpy.random.Generator`.

    Returns:
        float32 array of the same shape.
    """
    heights = np.asarray(heights, np.float32)
    count = recorded_lines(heights)
    whole = count == heights.shape[1]
    turned = heights.copy()
    if whole.any():
        turned[whole] = transform_scans(heights[whole], settings, rng)
        turned[whole] = flip_scans(turned[whole], rng)
    turned = add_noise(turned, settings.noise, rng)
    ways = list(orders(count, heights.shape[1]))
    drawn = rng.integers(0, len(ways), len(heights))
    order = np.stack([ways[way][scan] for scan, way in enumerate(drawn)])
    short = (order >= 0).sum(1) < FEWEST
    order[short] = ways[0][short]
    return reordered(turned, order)


def eight_bits(heights):
    """Level each line and round the scan to 255 levels, as pictures of scans are."""
    count = recorded_lines(heights)
    there = (np.arange(heights.shape[1]) < count[:, None])[..., None]
    level = np.where(there, remove_line_trend(heights), 0)
    low, high = (f(level, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    steps = np.round((level - low) / np.where(high > low, high - low, 1) * LEVELS)
    return np.where(there, steps, 0).astype(np.float32)


def _simulated():
    from stm_keras.simulate import SimulationConfig, simulate, simulate_unknown

    config = SimulationConfig(p_tip_change=0.1)
    yield simulate(SIMULATED["known"], SIMULATED_SEED, config).images
    yield simulate_unknown(SIMULATED["other"], SIMULATED_SEED).images


def _describe(describe, prepare, heights):
    """Return features `(scans, numbers of lines, features)`, and lines with a signal."""
    seen = SEEN[heights.shape[1] >= SEEN]
    parts, counts = [], []
    for start in range(0, len(heights), CHUNK):
        some = heights[start : start + CHUNK]
        packed, there = pack_lines(some)  # as a predictor does
        inputs = prepare(packed)
        filled = np.zeros((CHUNK, *inputs.shape[1:]), np.float32)  # compiled once
        filled[: len(some)] = inputs
        told = np.asarray(describe.predict_on_batch(filled))[: len(some)]
        parts.append(told[:, seen - 1])
        counts.append(there[:, -1])
    return np.concatenate(parts), np.concatenate(counts)


def _after(features, recorded, chosen, lines):
    seen = SEEN[: features.shape[1]]
    place = np.searchsorted(seen, np.minimum(recorded[chosen], lines), side="right") - 1
    return features[np.flatnonzero(chosen), np.maximum(place, 0)]


def _alike(names, count, power):
    """Weigh scans so that their groups weigh alike (power 1) or less unlike; sum 1."""
    if names is None:
        return np.full(count, 1 / count)
    _, place, sizes = np.unique(names, return_inverse=True, return_counts=True)
    weights = sizes[place].astype(float) ** -power
    return weights / weights.sum()


def fit_readout(rows, known, others, seed, width=64):
    """Fit a dense layer and one output on the rows of some scans.

    Args:
        rows: `SurfaceRows`.
        known: bool array. Known scans that teach.
        others: bool array. Other scans that teach. Simulated scans always do.
        seed: int.
        width: int. Of the layer, all members together.

    Returns:
        Tuple of float32 arrays: kernel `(features, width)` and bias `(width,)` of a layer
        with tanh, kernel `(width, 1)` and bias `(1,)` of the output, a logit.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    network = require("sklearn.neural_network", "training")
    exceptions = require("sklearn.exceptions", "training")
    place = np.maximum(rows.place, 0)
    teaches = np.zeros(len(rows.place), bool)
    for side, chosen in ((False, known), (True, others)):
        own = rows.unknown == side
        teaches[own] = chosen[place[own]] | (rows.place[own] < 0)
    units = width // MEMBERS
    parts = []
    for member in range(MEMBERS):
        rng = np.random.default_rng((seed, 23, member))
        drawn = []
        for side in (False, True):
            own = np.flatnonzero(teaches & (rows.unknown == side))
            share = rows.weight[own] / rows.weight[own].sum()
            drawn.append(rng.choice(own, ROWS // 2, p=share))
        drawn = np.concatenate(drawn)
        features = rows.features[drawn]
        mean, spread = features.mean(0), np.maximum(features.std(0), SPREAD)
        layer = network.MLPClassifier(
            (units,),
            activation="tanh",
            alpha=PENALTY,
            batch_size=BATCH,
            learning_rate_init=LEARNING_RATE,
            max_iter=EPOCHS,
            n_iter_no_change=EPOCHS + 1,
            random_state=seed + member,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            layer.fit((features - mean) / spread, rows.unknown[drawn])
        kernel = layer.coefs_[0] / spread[:, None]
        bias = layer.intercepts_[0] - mean @ kernel
        parts.append((kernel, bias, layer.coefs_[1] / MEMBERS, layer.intercepts_[1]))
    kernels, biases, outs, shifts = zip(*parts, strict=True)
    whole = np.concatenate(kernels, 1), np.concatenate(biases), np.concatenate(outs)
    return tuple(each.astype(np.float32) for each in (*whole, np.mean(shifts, axis=0)))


def say_unknown(layer, features):
    """Return the logit of each row of features, as the network computes it.

    Args:
        layer: tuple of arrays, as of `fit_readout`.
        features: float array `(rows, features)`.

    Returns:
        float array `(rows,)`.
    """
    kernel, bias, out, shift = layer
    return (np.tanh(features @ kernel + bias) @ out + shift)[:, 0]
