"""Boosted trees and logistic regression on the features of a scan, averaged.

No network and no pixels: anyone reaches this score in a minute on one core, so a deep
model must do better.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.errors import require
from stm_keras.trees.features import CHUNK, scan_features

MAX_BINS = 63  # of a feature; more are slow to find and do not help


@dataclass(frozen=True)
class Trees:
    """Two fitted classifiers that share their classes 0, 1, 2 ...

    `boosted` is a `HistGradientBoostingClassifier`, `logistic` a `Pipeline` that ends in a
    `LogisticRegression`.
    """

    name: ClassVar[str] = "trees"
    boosted: Any
    logistic: Any

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Return the mean of both classifiers on features: float64 `(scans, classes)`."""
        boosted = self.boosted.predict_proba(features)
        return (boosted + self.logistic.predict_proba(with_lines(features))) / 2

    def count_params(self) -> int:
        """Count the numbers that fitting found.

        A split is a feature and a threshold, a leaf one value; a regression has its coefficients
        and intercepts, and a mean and a scale for each feature.
        """
        nodes = [tree.nodes for stage in self.boosted._predictors for tree in stage]
        leaves = sum(int(n["is_leaf"].sum()) for n in nodes)
        splits = sum(map(len, nodes)) - leaves
        scaler, regression = self.logistic[0], self.logistic[-1]
        sizes = [regression.coef_, regression.intercept_, scaler.mean_, scaler.scale_]
        return 2 * splits + leaves + sum(each.size for each in sizes)


def fit_trees(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    seed: int,
    iterations: int,
    learning_rate: float,
    leaves: int,
    regularisation: float,
    share: float,
    logistic: float,
) -> Trees:
    """Fit trees and regression, each class with the same weight in all.

    Args:
        features: float array of shape `(scans, features)`.
        labels: int array of shape `(scans,)`. Every class from 0 on has a scan.
        weights: float array of shape `(scans,)`. How much each counts.
        seed: int. Of the features that a split chooses among.
        iterations: int. Of boosting, a tree for each class.
        leaves: int. Of a tree, at most.
        regularisation: float. L2, of the leaves.
        share: float. Of the features, that a split chooses among.
        logistic: float. Inverse L2 regularisation of the regression.
    """
    ensemble = require("sklearn.ensemble", "training")
    linear = require("sklearn.linear_model", "training")
    pipeline = require("sklearn.pipeline", "training")
    scaling = require("sklearn.preprocessing", "training")
    boosted = ensemble.HistGradientBoostingClassifier(
        max_iter=iterations,
        learning_rate=learning_rate,
        max_leaf_nodes=leaves,
        l2_regularization=regularisation,
        max_features=share,
        max_bins=MAX_BINS,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    )
    regression = pipeline.make_pipeline(
        scaling.StandardScaler(),
        linear.LogisticRegression(C=logistic, class_weight="balanced", max_iter=2000),
    )
    boosted.fit(features, labels, sample_weight=weights)
    regression.fit(with_lines(features), labels, logisticregression__sample_weight=weights)
    return Trees(boosted, regression)


def with_lines(features):
    """Let a linear model weigh features of partial scans differently from whole ones.

    The first feature is the logarithm of the number of lines, 7 for 128. The features come
    back with each times its distance from 7: `(scans, 2 * features)`.
    """
    return np.concatenate([features, features * (features[:, :1] - 7)], axis=1)


def whole_and_partial(images: Any, indices: np.ndarray, cuts: int, seed: int) -> np.ndarray:
    """Describe scans whole, and again cut after random lines.

    Small numbers of lines are as frequent as large ones: the first lines change most. A scan
    is cut alike whatever else is described.

    Args:
        images: array-like of shape `(scans, lines, pixels)`. Heights.
        indices: int array. Scans to describe.
        cuts: int. Times that each is cut.

    Returns:
        float32 array of shape `(len(indices), 1 + cuts, features)`, whole scans first.
    """
    most = images.shape[1]
    parts = []
    for start in range(0, len(indices), CHUNK):
        chosen = indices[start : start + CHUNK]
        heights = read_images(images, chosen)
        draws = [np.random.default_rng((seed, int(i))).random(cuts) for i in chosen]
        counts = np.minimum(most ** np.reshape(draws, (len(chosen), cuts)), most).astype(
            int
        )
        copies = [scan_features(heights)]
        for count in counts.T:
            seen = np.arange(most) < count[:, None]
            copies.append(scan_features(np.where(seen[..., None], heights, 0)))
        parts.append(np.stack(copies, axis=1))
    return np.concatenate(parts)
