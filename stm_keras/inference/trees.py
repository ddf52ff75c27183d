"""Judge scans with trees, as a `Predictor` judges them with a network."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.inference.predictor import Predictor
from stm_keras.trees.features import CHUNK, scan_features
from stm_keras.trees.file import load_trees

SMALLEST = 1e-9  # probability, so that its logarithm is finite


@dataclass(frozen=True)
class TreesPredictor(Predictor):
    """Trees with the names of their classes and the size of their scans.

    Args:
        model: `stm_keras.trees.model.Trees`.
        facts: dict. What the model file says of itself.
    """

    @property
    def every_line(self):
        """False: trees judge a scan, whole or begun, but keep nothing between lines."""
        return False

    def logits(self, images, lines=None, batch_size=64, progress=None):
        """Compute logarithms of probabilities, see `Predictor.logits`."""
        self.check_scans(images.shape)
        parts = [np.zeros((0, len(self.classes)))]
        for start in range(0, len(images), CHUNK):
            chosen = np.arange(start, min(start + CHUNK, len(images)))
            features = scan_features(read_images(images, chosen)[:, :lines])
            parts.append(self.model.probabilities(features))
            if progress:
                progress(start + len(chosen), len(images))
        found = np.concatenate(parts)
        return np.log(np.maximum(found, SMALLEST)).astype(np.float32)


def load_trees_predictor(path):
    """Load a `.skops` file as a `TreesPredictor`; keras is not needed."""
    return TreesPredictor(*load_trees(path))
