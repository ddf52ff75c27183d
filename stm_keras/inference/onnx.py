"""Judge scans with an exported model, as a `Predictor` judges them with Keras."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.preprocess import recorded_lines
from stm_keras.inference.predictor import Predictor
from stm_keras.runtime.onnx_model import OnnxPredictor


@dataclass(frozen=True)
class OnnxScans(Predictor):
    """An exported model with the names of its classes and the size of its scans.

    Args:
        model: `stm_keras.runtime.onnx_model.OnnxPredictor`.
        facts: dict. What the model file says of itself.
    """

    @property
    def every_line(self):
        """True: what is exported is the step from line to line."""
        return True

    def logits(self, images, lines=None, batch_size=64, progress=None):
        """Compute logits of the last line that was recorded, see `Predictor.logits`."""
        out = self.outputs(images[:, :lines], batch_size, progress)
        last = np.maximum(out["recorded"], 1) - 1
        return out["state"][np.arange(len(last)), last]

    def outputs(self, images, batch_size=64, progress=None):
        """Compute logits of every head after every line that was recorded, else 0.

        Args:
            images: array-like of shape `(scans, lines, pixels)`.
            batch_size: int. Ignored: lines go one by one.
            progress: callable of (scans done, scans in all), or None.

        Returns:
            dict as of `stm_keras.inference.predictor.predict_outputs`.
        """
        self.check_scans(images.shape)
        recorded, heads = np.zeros(len(images), int), {}
        for number in range(len(images)):
            scan = np.asarray(images[number : number + 1])
            recorded[number] = recorded_lines(scan)[0]
            seen = max(recorded[number], 1)
            for name, values in self.model.outputs(scan[:, :seen]).items():
                shape = (len(images), images.shape[1], values.shape[-1])
                heads.setdefault(name, np.zeros(shape, np.float32))[number, :seen] = values
            if progress:
                progress(number + 1, len(images))
        return {**heads, "recorded": recorded}


def load_onnx_predictor(path):
    """Load an `.onnx` file of `stm-keras export` as an `OnnxScans`, without keras."""
    model = OnnxPredictor.load(path)
    return OnnxScans(model, model.facts)
