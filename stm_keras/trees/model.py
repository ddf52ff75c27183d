"""Boosted trees and logistic regression on the features of a scan, averaged.

No network and no pixels: what this reaches, anyone has for a minute of one core, so a deep
model must do better.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.errors import require
from stm_keras.trees.features import CHUNK, scan_features

MAX_BINS = 63  # of a feature; more are slow to find and tell the trees nothing


@dataclass(frozen=True)
class Trees:
    """Two fitted classifiers that share their classes 0, 1, 2 ...

    Args:
        boosted: `sklearn.ensemble.HistGradientBoostingClassifier`.
        logistic: `sklearn.pipeline.Pipeline` that ends in a logistic regression.
    """

    name: ClassVar[str] = "trees"
    boosted: object
    logistic: object

    def probabilities(self, features):
        """Return the mean of both answers.

        Args:
            features: float array of shape `(scans, features)`, of `scan_features`.

        Returns:
            float64 array of shape `(scans, classes)`.
        """
        boosted = self.boosted.predict_proba(features)
        return (boosted + self.logistic.predict_proba(with_lines(features))) / 2

    def count_params(self):
        """Count the numbers that fitting found.

        A split is a feature and a threshold, a leaf one value; a regression has its
        coefficients and intercepts, and a mean and a scale for each feature.
        """
        nodes = [tree.nodes for stage in self.boosted._predictors for tree in stage]
        leaves = sum(int(n["is_leaf"].sum()) for n in nodes)
        splits = sum(map(len, nodes)) - leaves
        scaler, regression = self.logistic[0], self.logistic[-1]
        sizes = [regression.coef_, regression.intercept_, scaler.mean_, scaler.scale_]
        return 2 * splits + leaves + sum(each.size for each in sizes)


def fit_trees(
    features,
    labels,
    weights,
    seed,
    iterations,
    learning_rate,
    leaves,
    regularisation,
    share,
    logistic,
):
    """Fit trees and regression, each class with the same weight in all.

    Args:
        features: float array of shape `(scans, features)`.
        labels: int array of shape `(scans,)`. Every class from 0 on has a scan.
        weights: float array of shape `(scans,)`. How much each counts.
        seed: int. Of the features that a split chooses among.
        iterations: int. Of boosting, a tree for each class.
        learning_rate: float.
        leaves: int. Of a tree, at most.
        regularisation: float. L2, of the leaves.
        share: float. Of the features, that a split chooses among.
        logistic: float. Inverse L2 regularisation of the regression.

    Returns:
        `Trees`.

    Raises:
        MissingExtraError: scikit-learn is not installed.
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
    given = {"logisticregression__sample_weight": weights}
    return Trees(boosted, regression.fit(with_lines(features), labels, **given))


def with_lines(features):
    """Let a linear model weigh features of begun scans otherwise than of whole ones.

    Args:
        features: float array of shape `(scans, features)`; the first is the logarithm
            of the number of lines.

    Returns:
        float array of shape `(scans, 2 * features)`: the features, and each times that
        logarithm, which is 0 for 128 lines.
    """
    return np.concatenate([features, features * (features[:, :1] - 7)], axis=1)


def whole_and_begun(images, indices, begun, seed):
    """Describe scans whole, and again cut after random lines.

    Small numbers of lines are as frequent as large ones: the first lines change most.

    Args:
        images: array-like of shape `(scans, lines, pixels)`. Heights.
        indices: int array. Scans to describe.
        begun: int. Times that each is cut.
        seed: int. A scan is cut alike whatever else is described.

    Returns:
        float32 array of shape `(len(indices), 1 + begun, features)`, whole scans first.
    """
    most = images.shape[1]
    parts = []
    for start in range(0, len(indices), CHUNK):
        chosen = indices[start : start + CHUNK]
        heights = read_images(images, chosen)
        draws = [np.random.default_rng((seed, int(i))).random(begun) for i in chosen]
        counts = np.minimum(most ** np.reshape(draws, (len(chosen), begun)), most).astype(
            int
        )
        copies = [scan_features(heights)]
        for count in counts.T:
            seen = np.arange(most) < count[:, None]
            copies.append(scan_features(np.where(seen[..., None], heights, 0)))
        parts.append(np.stack(copies, axis=1))
    return np.concatenate(parts)
