"""Describe scans of known and of other surfaces, as recorded and varied, and fit a layer."""

import warnings
from dataclasses import dataclass

import numpy as np

from stm_keras.data.augment import add_noise, flip_scans, transform_scans
from stm_keras.data.dataset import CLASSES, is_square, read_images
from stm_keras.data.preprocess import pack_lines, recorded_lines, remove_line_trend
from stm_keras.errors import require
from stm_keras.inference.evaluate import LINES_SEEN
from stm_keras.settings import AugmentConfig
from stm_keras.training.network_trees import CHUNK, describer, line_orders, reorder_lines
from stm_keras.trees.stages import LINES

WIDTH = 64  # of the layer, all members together
MEMBERS = 2  # that are fitted and averaged: side by side they are one layer
ROWS = 60_000  # drawn for each, half of known surfaces and half of others
EPOCHS = 25
BATCH = 1024
LEARNING_RATE = 5e-3
PENALTY = 3.0  # L2 of the weights, over a batch
MIN_SPREAD = 0.02  # standard deviation that a feature is divided by: rounding shows

SEEN = np.array(sorted({*LINES, *LINES_SEEN}))  # numbers of lines
MIN_LINES = 8  # that a scan which starts later must have
COPIES = {"known": 1, "other": 4}  # varied, beside each scan as it is
KNOWN = AugmentConfig(rotate=0.5, zoom=0.1, pan=0.1, noise=0.1)
OTHER = AugmentConfig(rotate=0.5, zoom=0.3, pan=0.1, noise=0.1)
LEVELS = 254  # of scans in eight bits
SIMULATED = {"known": 1000, "other": 400}
SIMULATED_SEED = 40_404  # no scan of other seeds
SHARES = {"known": 0.2, "other": 0.1}  # of the weight of each side, simulated


@dataclass(frozen=True)
class Described:
    """Features of scans, as they are, after numbers of lines."""

    features: np.ndarray  # float32 (scans, numbers of lines, features)
    lines: np.ndarray  # with a signal, of each scan

    def after(self, chosen, n):
        """Return features `(chosen, features)` after `n` lines; after the last of fewer."""
        seen = SEEN[: self.features.shape[1]]
        index = np.searchsorted(seen, np.minimum(self.lines[chosen], n), side="right") - 1
        return self.features[np.flatnonzero(chosen), np.maximum(index, 0)]


@dataclass(frozen=True)
class SurfaceFeatures:
    """Known scans and others, and the rows that a layer is fitted to."""

    known: Described
    other: Described
    features: np.ndarray  # float32 (rows, features)
    scan: np.ndarray  # which known scan or which other a row is of; -1 if simulated
    unknown: np.ndarray  # whether it is of another surface
    weight: np.ndarray  # sums to 1 over each side


def describe_surfaces(model, prepare, known, others, seed):
    """Describe all scans, as they are and varied as a microscope would vary them.

    Copies are turned, zoomed, mirrored, noisier, start later or run backwards; half of
    those of other surfaces are rounded to eight bits as the known scans may have been, so
    that nothing but the surface tells them apart. Simulated scans are added where the known
    surface is the one that can be simulated. `prepare` turns heights into model input.
    """
    describe = describer(model)
    rng = np.random.default_rng((seed, 19))
    shape = known.images.shape[1:]
    rows = []  # tuples of features, scan, unknown and weight of each row

    def add_rows(heights, scan, unknown, weight):
        """Add a row for each scan and number of lines that it has."""
        described = _describe(describe, prepare, heights)
        # (scans, numbers of lines)
        recorded = SEEN[shape[0] >= SEEN] <= described.lines[:, None]
        scan, weight = (
            np.broadcast_to(np.asarray(each)[:, None], recorded.shape)[recorded]
            for each in (scan, weight)
        )
        features = described.features[recorded]
        rows.append((features, scan, np.full(recorded.sum(), unknown), weight))
        return described

    # === The known surface ===
    images, scan = read_images(known.images, np.arange(len(known))), np.arange(len(known))
    weight = _group_weights(known.session, len(known), 0.5) * (1 - SHARES["known"])
    known_described = add_rows(images, scan, False, weight)
    for _ in range(COPIES["known"]):
        add_rows(vary(images, KNOWN, rng), scan, False, weight)

    # === Others ===
    usable = np.flatnonzero(others.usable)
    heights = others.images[usable]
    weight = _group_weights(others.source[usable], len(usable), 1) * (1 - SHARES["other"])
    other_described = _describe(describe, prepare, others.images)
    add_rows(heights, usable, True, weight)
    for number in range(COPIES["other"]):
        copies = vary(heights, OTHER, rng)
        add_rows(eight_bits(copies) if number % 2 else copies, usable, True, weight)

    # === Simulated ===
    if is_square(shape) and known.classes == CLASSES:
        for unknown, scans in enumerate(_simulated(shape[1])):
            count, share = len(scans), SHARES["other" if unknown else "known"]
            weight = np.full(count, share / count)
            add_rows(scans, np.full(count, -1), bool(unknown), weight)
    columns = (np.concatenate(each) for each in zip(*rows, strict=True))
    return SurfaceFeatures(known_described, other_described, *columns)


def vary(heights, settings, rng):
    """Return scans `(scans, lines, pixels)` as they might have been recorded as well.

    `settings` is an `AugmentConfig`; partial scans are not turned.
    """
    heights = np.asarray(heights, np.float32)
    count = recorded_lines(heights)
    whole = count == heights.shape[1]
    varied = heights.copy()
    if whole.any():
        varied[whole] = transform_scans(heights[whole], settings, rng)
        varied[whole] = flip_scans(varied[whole], rng)
    varied = add_noise(varied, settings.noise, rng)
    orders = list(line_orders(count, heights.shape[1]))
    drawn = rng.integers(0, len(orders), len(heights))
    order = np.stack([orders[number][scan] for scan, number in enumerate(drawn)])
    short = (order >= 0).sum(1) < MIN_LINES
    order[short] = orders[0][short]
    return reorder_lines(varied, order)


def eight_bits(heights):
    """Level each line and round the scan to 255 levels, as pictures of scans are."""
    count = recorded_lines(heights)
    recorded = (np.arange(heights.shape[1]) < count[:, None])[..., None]
    level = np.where(recorded, remove_line_trend(heights), 0)
    low, high = (f(level, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    steps = np.round((level - low) / np.where(high > low, high - low, 1) * LEVELS)
    return np.where(recorded, steps, 0).astype(np.float32)


def _simulated(size):
    from stm_keras.simulate import SimulationConfig, simulate, simulate_unknown

    config = SimulationConfig(size=size, p_tip_change=0.1)
    yield simulate(SIMULATED["known"], SIMULATED_SEED, config).images
    config = SimulationConfig(size=size)
    yield simulate_unknown(SIMULATED["other"], SIMULATED_SEED, config=config).images


def _describe(describe, prepare, heights):
    """Describe scans of heights `(scans, lines, pixels)`: `Described`."""
    seen = SEEN[heights.shape[1] >= SEEN]
    features, counts = [], []
    for start in range(0, len(heights), CHUNK):
        packed, count = pack_lines(heights[start : start + CHUNK])  # as a predictor does
        features.append(describe(prepare(packed))[:, seen - 1])
        counts.append(count[:, -1])
    return Described(np.concatenate(features), np.concatenate(counts))


def _group_weights(names, count, power):
    """Weigh scans so that their groups weigh alike (power 1) or less unlike; sum 1."""
    if names is None:
        return np.full(count, 1 / count)
    _, group, sizes = np.unique(names, return_inverse=True, return_counts=True)
    weights = sizes[group].astype(float) ** -power
    return weights / weights.sum()


def fit_readout(rows, known, others, seed):
    """Fit a dense layer and one output on the rows of some known scans and others.

    `known` and `others` are masks of the scans to fit to; simulated scans are never left
    out.

    Returns:
        Tuple of float32 arrays: kernel `(features, WIDTH)` and bias `(WIDTH,)` of a layer
        with tanh, kernel `(WIDTH, 1)` and bias `(1,)` of the output, a logit.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    network = require("sklearn.neural_network", "training")
    exceptions = require("sklearn.exceptions", "training")
    scan = np.maximum(rows.scan, 0)
    fitted = np.zeros(len(rows.scan), bool)
    for side, chosen in ((False, known), (True, others)):
        own = rows.unknown == side
        fitted[own] = chosen[scan[own]] | (rows.scan[own] < 0)
    layers = []
    for member in range(MEMBERS):
        rng = np.random.default_rng((seed, 23, member))
        drawn = []
        for side in (False, True):
            own = np.flatnonzero(fitted & (rows.unknown == side))
            share = rows.weight[own] / rows.weight[own].sum()
            drawn.append(rng.choice(own, ROWS // 2, p=share))
        drawn = np.concatenate(drawn)
        features = rows.features[drawn]
        mean, spread = features.mean(0), np.maximum(features.std(0), MIN_SPREAD)
        layer = network.MLPClassifier(
            (WIDTH // MEMBERS,),
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
        # the layer reads features as they are: mean and spread go into its weights
        kernel = layer.coefs_[0] / spread[:, None]
        bias = layer.intercepts_[0] - mean @ kernel
        layers.append((kernel, bias, layer.coefs_[1] / MEMBERS, layer.intercepts_[1]))
    kernels, biases, outs, shifts = zip(*layers, strict=True)
    weights = np.concatenate(kernels, 1), np.concatenate(biases), np.concatenate(outs)
    return tuple(each.astype(np.float32) for each in (*weights, np.mean(shifts, axis=0)))


def unknown_logits(layer, features):
    """Return the logit of each row of features by a layer of `fit_readout`: `(rows,)`."""
    kernel, bias, out, shift = layer
    return (np.tanh(features @ kernel + bias) @ out + shift)[:, 0]
