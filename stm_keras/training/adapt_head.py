"""Fit a new last layer on features that a trained network gives: multinomial regression.

Features do not change, so a fit takes a fraction of a second, and everything that is chosen
can be chosen anew within every fold.
"""

from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from stm_keras.data.stratify import assign_groups
from stm_keras.layers.boosted import LEAVES, SPLITS, BoostedTrees
from stm_keras.trees.stages import fit_stages

PENALTIES = (100.0, 300.0, 1000.0)  # L2, beside a loss that sums over scans
SHARE_PRIOR = 1.0  # how firmly the share of the first model's answer is drawn to 1
BIAS_PRIOR = 0.01
MIN_SPREAD = 0.02  # standard deviation that a feature is divided by: rounding shows
INNER = 3  # folds in which the penalty, and whether trees help, are chosen
STEPS, PRECISION = 100, 1e-5  # of the minimiser: the most, and relative change of the loss
ROUNDS = 60  # of boosting
STAGES = (4, 16, 45, 128)  # of `BoostedTrees`
FEWEST_FOR_TREES = 100  # trees fitted on fewer scans add nothing


@dataclass(frozen=True)
class LabelledFeatures:
    """What a network says of labelled scans after numbers of lines.

    Args:
        features: float32 array `(scans, numbers of lines, features)`. The last `described`
            of them are those that trees read.
        start: float32 array `(scans, numbers of lines, classes)`. Logits of the network, None
            where its classes are others.
        lines: int array `(numbers of lines,)`, rising.
        labels: int array `(scans,)`.
        classes: int.
        scale: float32 array `(described,)`. By which trees of the network scale their
            features, None where it has none.
    """

    features: np.ndarray
    start: np.ndarray | None
    lines: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    classes: int
    described: int
    scale: np.ndarray | None = None

    def __len__(self):
        return len(self.labels)

    def take(self, chosen: np.ndarray) -> "LabelledFeatures":
        """Return some scans, by a mask or by indices."""
        return replace(
            self,
            features=self.features[chosen],
            start=None if self.start is None else self.start[chosen],
            labels=self.labels[chosen],
            groups=self.groups[chosen],
        )


@dataclass(frozen=True)
class Head:
    """A fitted last layer: logits are `features @ kernel + bias`, and a share of the first's."""

    kernel: np.ndarray  # float64 (features, classes)
    bias: np.ndarray  # float64 (classes,)
    share: float  # of the logits of the network that features come from; 0 without
    penalty: float
    trees: dict | None = None  # weights of `BoostedTrees`, whose logits are added

    def logits(self, rows: LabelledFeatures) -> np.ndarray:
        """Return logits of scans: float64 array `(scans, numbers of lines, classes)`."""
        logits = rows.features @ self.kernel + self.bias
        if rows.start is not None:
            logits = logits + self.share * rows.start
        if self.trees is not None:
            logits = logits + tree_logits(self.trees, rows.features[..., -rows.described :])
        return logits


def fit_head(rows: LabelledFeatures, seed: int = 0, trees: bool | None = None) -> Head:
    """Fit a head; its penalty, and whether trees help, are chosen within these scans alone.

    Args:
        rows: Scans to fit to.
        trees: Whether there are trees; None chooses.
    """
    inner = _inner_folds(rows, seed)
    penalty = PENALTIES[len(PENALTIES) // 2]
    if inner is not None:
        losses = [
            sum(
                _loss(_fit(rows.take(inner != k), each), rows.take(inner == k))
                for k in np.unique(inner)
            )
            for each in PENALTIES
        ]
        penalty = PENALTIES[int(np.argmin(losses))]
    if trees is None:
        trees = len(rows) >= FEWEST_FOR_TREES and inner is not None
        trees = trees and _trees_help(rows, inner, penalty, seed)
    head = _fit(rows, penalty)
    return replace(head, trees=_fit_trees(rows, seed)) if trees else head


def _inner_folds(rows, seed):
    """Draw folds of whole groups: int array `(scans,)`, or None where there are too few."""
    groups = np.unique(rows.groups, return_inverse=True)[1].reshape(-1)
    folds = min(INNER, groups.max() + 1)
    if folds < 2:
        return None
    shares = np.full(folds, 1 / folds)
    return assign_groups(rows.labels, groups, shares, (seed, 31), rows.classes)


def _trees_help(rows, inner, penalty, seed):
    """Tell whether trees beside the head lower the loss on scans left out of the fit."""
    gain = 0.0
    for number in np.unique(inner):
        train, judged = rows.take(inner != number), rows.take(inner == number)
        head = _fit(train, penalty)
        both = replace(head, trees=_fit_trees(train, seed))
        gain += _loss(head, judged) - _loss(both, judged)
    return gain > 0


def _loss(head, rows):
    """Sum the cross-entropy over scans, each class as often, at the best temperature of few."""
    logits = head.logits(rows)
    counts = np.bincount(rows.labels, minlength=rows.classes)
    weight = (len(rows) / (rows.classes * np.maximum(counts, 1)))[rows.labels]
    losses = []
    for temperature in (0.7, 1.0, 1.4, 2.0):
        scaled = logits / temperature
        largest = scaled.max(-1, keepdims=True)
        total = np.log(np.exp(scaled - largest).sum(-1)) + largest[..., 0]
        own = np.take_along_axis(scaled, rows.labels[:, None, None], -1)[..., 0]
        losses.append(weight @ ((total - own) @ line_weights(rows.lines)))
    return min(losses)


def line_weights(lines: np.ndarray) -> np.ndarray:
    """Weigh numbers of lines: the whole scan as much as all its beginnings; sum 1."""
    weights = np.ones(len(lines))
    weights[-1] = max(len(lines) - 1, 1)
    return weights / weights.sum()


def _fit(rows, penalty):
    """Minimise cross-entropy, each class as much as any other, and an L2 penalty."""
    from scipy.optimize import minimize

    classes, size = rows.classes, rows.features.shape[-1]
    counts = np.bincount(rows.labels, minlength=classes)
    there = max(np.count_nonzero(counts), 1)
    of_class = len(rows) / (there * np.maximum(counts, 1))
    weight = of_class[rows.labels][:, None] * line_weights(rows.lines)
    weight = weight.reshape(-1).astype("f4")
    flat = rows.features.reshape(-1, size)
    mean = flat.mean(0)
    spread = np.maximum(flat.std(0), MIN_SPREAD)
    scaled = ((flat - mean) / spread).astype(np.float32)
    target = np.eye(classes, dtype="f4")[rows.labels]
    target = np.repeat(target, len(rows.lines), 0)
    start = None if rows.start is None else rows.start.reshape(-1, classes)

    def unpack(values):
        return values[: size * classes].reshape(size, classes), *np.split(
            values[size * classes :], [classes]
        )

    def loss(values):
        kernel, bias, share = unpack(values)
        logits = scaled @ kernel.astype("f4") + bias.astype("f4")
        if start is not None:
            logits = logits + np.float32(share[0]) * start
        logits -= logits.max(1, keepdims=True)
        odds = np.exp(logits)
        total = odds.sum(1, keepdims=True)
        missed = weight @ (np.log(total[:, 0]) - (target * logits).sum(1))
        slope = (odds / total - target) * weight[:, None]
        value = missed + penalty / 2 * (kernel**2).sum() + BIAS_PRIOR / 2 * (bias**2).sum()
        slopes = [(scaled.T @ slope + penalty * kernel).ravel()]
        slopes += [slope.sum(0) + BIAS_PRIOR * bias]
        rise = 0.0 if start is None else (slope * start).sum()
        slopes += [rise + SHARE_PRIOR * (share - 1)]
        value += SHARE_PRIOR / 2 * ((share - 1) ** 2).sum()
        return float(value), np.concatenate(slopes).astype(float)

    first = np.zeros(size * classes + classes + 1)
    first[-1] = 1
    bounds = [(None, None)] * (len(first) - 1) + [(0, None)]
    options = {"maxiter": STEPS, "ftol": PRECISION}
    how = {"method": "L-BFGS-B", "bounds": bounds, "options": options}
    found = minimize(loss, first, jac=True, **how)
    kernel, bias, share = unpack(found.x)
    kernel = kernel / spread[:, None]  # the layer reads features as they are
    bias = bias - mean @ kernel
    return Head(kernel, bias, 0.0 if start is None else float(share[0]), penalty)


def _fit_trees(rows, seed):
    """Fit trees to the description of scans: weights of `BoostedTrees`."""
    features = rows.features[..., -rows.described :]
    counts = np.maximum(np.bincount(rows.labels, minlength=rows.classes), 1)
    weight = np.repeat((1 / counts)[rows.labels], len(rows.lines))
    return fit_stages(
        features.reshape(-1, rows.described),
        np.repeat(np.eye(rows.classes)[rows.labels], len(rows.lines), 0),
        weight / weight.mean(),
        np.tile(rows.lines, len(rows)),
        STAGES,
        ROUNDS,
        seed,
        rows.scale,
    )


def tree_rounds(trees: dict) -> int:
    """Return the rounds of trees of each class and stage in weights of `BoostedTrees`."""
    stages, classes = trees["start"].shape
    return len(trees["leaves"]) // (LEAVES * stages * classes)


def tree_logits(trees: dict, features: np.ndarray) -> np.ndarray:
    """Compute what `BoostedTrees` says of features `(scans, lines, features)`."""
    layer = BoostedTrees(trees["start"].shape[1], tree_rounds(trees), STAGES)
    layer.build(features.shape)
    layer.set_trees(trees)
    return ops.convert_to_numpy(layer(np.asarray(features, np.float32)))


def add_trees(one: dict, share: float, other: dict | None) -> dict:
    """Join trees into one layer that says a share of what the first say, and what others do.

    Both scale their features alike.
    """
    first = {**one, "leaves": share * one["leaves"], "start": share * one["start"]}
    if other is None:
        return {name: np.asarray(each, one[name].dtype) for name, each in first.items()}
    stages, classes = one["start"].shape
    joined = {"scale": one["scale"], "start": first["start"] + other["start"]}
    for name, nodes in (("feature", SPLITS), ("threshold", SPLITS), ("leaves", LEAVES)):
        shape = nodes, stages, -1, classes
        both = [each[name].reshape(shape) for each in (first, other)]
        joined[name] = np.concatenate(both, axis=2).reshape(-1)
    return {name: np.asarray(each, one[name].dtype) for name, each in joined.items()}
