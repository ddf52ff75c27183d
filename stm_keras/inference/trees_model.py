"""Judge scans with boosted trees, as a `Predictor`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stm_keras.inference.predictor import Predictor, in_chunks
from stm_keras.trees.features import CHUNK, scan_features
from stm_keras.trees.file import load_trees
from stm_keras.trees.model import Trees

LEAST = 1e-9  # probability, so that its logarithm is finite


@dataclass(frozen=True)
class TreesPredictor(Predictor):
    """Trees with the names of their classes and the size of their scans.

    They judge a scan, whole or begun, but keep nothing between lines.

    Args:
        metadata: dict. The metadata of the model file.
    """

    model: Trees
    metadata: dict

    every_line = False
    architecture = Trees.name

    def outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute logarithms of probabilities, see `Predictor.outputs`."""
        self.check_scans(images.shape)
        return in_chunks(
            self._compute, images, CHUNK, False, scan_features, lines, progress=progress
        )

    def _compute(self, features, usable):
        if not len(features):  # scikit-learn predicts no less than one scan
            return {"state": np.zeros((0, len(self.classes)), np.float32)}
        probabilities = np.maximum(self.model.probabilities(features), LEAST)
        return {"state": np.log(probabilities).astype(np.float32)}


def load_trees_predictor(path: str | Path) -> TreesPredictor:
    """Load a `.skops` file; Keras is not needed."""
    return TreesPredictor(*load_trees(path))
