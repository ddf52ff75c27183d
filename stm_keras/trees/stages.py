"""Fit the trees of `stm_keras.layers.BoostedTrees`: some for each stage of a scan."""

from collections.abc import Sequence

import numpy as np

from stm_keras.errors import require
from stm_keras.trees.model import MAX_BINS

# lines seen that are trained on, as far as scans have them
LINES = (1, 2, 4, 8, 11, 16, 20, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512)
DEPTH = 3
LEARNING_RATE = 0.15
REGULARISATION = 20.0  # L2, of the leaves
SHARE = 0.3  # of the features, that a split chooses among
LEAF_ROWS = 20  # at least
WIDTH = 0.3  # standard deviations of a feature over which a split slides
NEVER = 3e4  # a threshold that no feature reaches, and which half precision can hold
ABSENT = -10.0  # logit of a class that no row of a stage is of


def fit_stages(
    features: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    lines: np.ndarray,
    stages: Sequence[int],
    rounds: int,
    seed: int,
    scale: np.ndarray | None = None,
) -> dict:
    """Fit boosted trees for each stage, each row as much as its number of lines is near.

    Args:
        features: float array `(rows, features)`.
        targets: float array `(rows, classes)`. Shares of the classes.
        weights: float array `(rows,)`. How much each counts.
        lines: int array `(rows,)`. Lines seen.
        stages: sequence of int. Numbers of lines, rising.
        rounds: int. Of boosting, a tree for each class.
        scale: float array `(features,)`. Of trees that these will stand beside; None for one by
            the spread of these rows.

    Returns:
        dict of arrays, the weights of `BoostedTrees`.
    """
    ensemble = require("sklearn.ensemble", "training")
    classes = targets.shape[1]
    if scale is None:
        deviation = features.std(0)
        scale = np.where(deviation > 1e-6, 1 / (WIDTH * np.maximum(deviation, 1e-6)), 0)
    scale = scale.astype(np.float32)
    scaled = features * scale
    centres = np.log2(np.asarray(stages, float))
    trees, starts = [], []
    for stage in range(len(stages)):
        # 1 at the lines of this stage, falling to 0 at those of its neighbours
        hat = np.interp(np.log2(lines), centres, np.eye(len(stages))[stage])
        share = targets * (weights * hat)[:, None]
        row, label = np.nonzero(share > 1e-3 * share.max())
        row_weights = share[row, label]
        fitted = ensemble.HistGradientBoostingClassifier(
            max_iter=rounds,
            learning_rate=LEARNING_RATE,
            max_depth=DEPTH,
            max_leaf_nodes=2**DEPTH,
            min_samples_leaf=LEAF_ROWS,
            l2_regularization=REGULARISATION,
            max_features=SHARE,
            max_bins=MAX_BINS,
            early_stopping=False,
            random_state=seed,
        ).fit(scaled[row], label, sample_weight=row_weights / row_weights.mean())
        # of two classes the second alone has trees
        known = fitted.classes_[-1:] if len(fitted.classes_) == 2 else fitted.classes_
        start = np.full(classes, ABSENT)
        start[fitted.classes_] = 0
        start[known] = np.reshape(fitted._baseline_prediction, -1)
        starts.append(start)
        trees.append(_stage_trees(fitted, rounds, classes, known))
    return {"scale": scale, "start": np.array(starts, np.float32)} | join(trees)


def _stage_trees(fitted, rounds, classes, known):
    """Collect the trees of a stage, `(rounds, classes)` each complete to its depth."""
    feature = np.zeros((rounds, classes, 2**DEPTH - 1), np.int32)
    threshold = np.full(feature.shape, NEVER, np.float32)
    leaves = np.zeros((rounds, classes, 2**DEPTH), np.float32)
    for round_, predictors in enumerate(fitted._predictors):
        for index, predictor in enumerate(predictors):
            tree = round_, known[index]
            _fill(predictor.nodes, 0, 0, 0, feature[tree], threshold[tree], leaves[tree])
    return {"feature": feature, "threshold": threshold, "leaves": leaves}


def _fill(nodes, node, depth, position, feature, threshold, leaves):
    """Copy a node and all below it. The node at `position` of a level has its children at
    `position` and `position + 2 ** depth` of the next."""
    here = nodes[node]
    if depth == DEPTH:
        leaves[position] = here["value"]
        return
    left = right = node  # above a missing level both sides are the same
    if not here["is_leaf"]:
        split = 2**depth - 1 + position
        feature[split] = here["feature_idx"]
        threshold[split] = here["num_threshold"]
        left, right = here["left"], here["right"]
    _fill(nodes, left, depth + 1, position, feature, threshold, leaves)
    _fill(nodes, right, depth + 1, position + 2**depth, feature, threshold, leaves)


def join(stages):
    """Put the trees of all stages in one order: level by level, then stage by stage.

    `stages` hold arrays `(rounds, classes, nodes)`; the flat ones are for `BoostedTrees`.
    """
    joined = {}
    for name in ("feature", "threshold", "leaves"):
        # (stages, rounds, classes, nodes)
        array = np.stack([stage[name] for stage in stages])
        joined[name] = np.moveaxis(array, -1, 0).reshape(-1)
    return joined
