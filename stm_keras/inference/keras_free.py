"""Judge scans with an exported model, as a `Predictor` judges them with Keras."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.errors import MismatchError
from stm_keras.inference.onnx_model import last_word
from stm_keras.inference.onnx_scan import load_onnx
from stm_keras.inference.predictor import Predictor
from stm_keras.trees.features import CHUNK, scan_features
from stm_keras.trees.file import load_trees

SMALLEST = 1e-9  # probability, so that its logarithm is finite


@dataclass(frozen=True)
class OnnxScans(Predictor):
    """An exported model with the names of its classes and the size of its scans.

    Args:
        model: `OnnxPredictor` or `OnnxScanPredictor` of `stm_keras.runtime`.
        facts: dict. What the model file says of itself.
    """

    @property
    def every_line(self):
        """Whether the model answers after every line, a bool."""
        return self.model.every_line

    def logits(self, images, lines=None, batch_size=64, progress=None):
        """Compute logits of the last line that was recorded, see `Predictor.logits`."""
        self.check_scans(images.shape)
        out = self.model.outputs(images[:, :lines], progress)
        return last_word(out) if self.every_line else out["state"]

    def outputs(self, images, batch_size=64, progress=None):
        """Compute logits of every head after every line, see `Predictor.outputs`.

        Args:
            images: array-like of shape `(scans, lines, pixels)`.
            batch_size: int. Ignored: the file knows how many scans go side by side.
            progress: callable of (scans done, scans in all), or None.
        """
        self.check_scans(images.shape)
        if not self.every_line:
            raise MismatchError("The model judges whole scans, not every line.")
        return self.model.outputs(images, progress)


def load_onnx_predictor(path):
    """Load an `.onnx` file of `stm-keras export` as an `OnnxScans`, without keras."""
    model = load_onnx(path)
    return OnnxScans(model, model.facts)


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
