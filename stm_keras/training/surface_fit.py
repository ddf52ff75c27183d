"""Fit the two small layers that tell unknown surfaces from numbers of the lines so far."""

import warnings

import numpy as np

from stm_keras.errors import require

MEMBERS = 2  # that are fitted and averaged: side by side they are one layer
ROWS = 60_000  # drawn for each, half of known surfaces and half of others
EPOCHS = 25
BATCH = 1024
LEARNING_RATE = 5e-3
PENALTY = 3.0  # L2 of the weights, over a batch
SPREAD = 0.02  # standard deviation at least that a feature is divided by: rounding shows


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
