"""Scans in, classes and probabilities out."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import standardise_lines
from stm_keras.errors import MismatchError

CHUNK = 1024  # scans standardised at a time, 64 MiB of float32


@dataclass(frozen=True)
class Predictor:
    """A model with the names of its classes and the size of its scans.

    Args:
        model: `keras.Model` from `(batch, lines, pixels)` to logits.
        facts: dict. What the model file says of itself, see `model_file`.
    """

    model: object
    facts: dict

    @property
    def classes(self):
        """Names of the classes, a tuple of str."""
        return tuple(self.facts["classes"])

    def logits(self, images, lines=None, batch_size=64, progress=None):
        """Compute logits for scans, or for their first lines.

        Lines that are not there yet are 0, as training cut them: a scan that has
        begun looks like one that was aborted.

        Args:
            images: array-like of shape `(scans, lines, pixels)`. Heights in any
                unit; lines that were not recorded are 0.
            lines: int. Lines seen, None for all.
            batch_size: int.
            progress: callable of (scans done, scans in all), or None.

        Returns:
            float32 array of shape `(scans, classes)`.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """
        self.check_scans(images.shape)
        return predict_logits(
            self.model,
            images,
            lines,
            batch_size,
            self.facts["max_lines"],
            progress=progress,
        )

    def probabilities(self, images, lines=None, batch_size=64, progress=None):
        """Compute class probabilities, see `logits`. float64 `(scans, classes)`."""
        return softmax(self.logits(images, lines, batch_size, progress))

    def check_scans(self, shape, source=None):
        """Raise a `MismatchError` that names the source if scans do not fit the model."""
        place = "" if source is None else f"{source}: "
        pixels, most = self.facts["pixels"], self.facts["max_lines"]
        if shape[2] != pixels:
            raise MismatchError(
                f"{place}the model judges lines of {pixels} pixels. Received: scans of "
                f"{shape[1]} lines x {shape[2]} pixels. Resample the scans, or train on "
                "them."
            )
        if shape[1] > most:
            raise MismatchError(
                f"{place}the model judges up to {most} lines. Received: scans of {shape[1]} "
                "lines. Resample the scans, or train on them."
            )

    def check_classes(self, classes, source=None):
        """Raise a `MismatchError` that names the source if classes are not the model's."""
        place = "" if source is None else f"{source}: "
        if tuple(classes) != self.classes:
            raise MismatchError(
                f"{place}the model knows {', '.join(self.classes)}. Received: scans labelled "
                f"{', '.join(classes)}. Merge or rename the classes, or train on them."
            )


def predict_logits(
    model, images, lines=None, batch_size=64, frame=None, indices=None, progress=None
):
    """Run a Keras model over scans, a chunk at a time, in batches of one size.

    Args:
        model: `keras.Model`.
        images: array-like of shape `(scans, lines, pixels)`. Heights.
        lines: int. Lines seen, None for all.
        batch_size: int.
        frame: int. Lines of the input, filled up with 0; None for those of the images.
        indices: int array. Scans to take, None for all.
        progress: callable of (scans done, scans in all), or None.

    Returns:
        float32 array of shape `(scans, classes)`.
    """
    if indices is None:
        indices = np.arange(len(images))
    if not len(indices):
        return np.zeros((0, model.output_shape[-1]), np.float32)
    logits = []
    for start in range(0, len(indices), CHUNK):
        chosen = indices[start : start + CHUNK]
        seen = standardise_lines(read_images(images, chosen)[:, :lines])
        count = -(-len(seen) // batch_size) * batch_size  # one batch size: compiled once
        inputs = np.zeros((count, frame or images.shape[1], images.shape[2]), np.float32)
        inputs[: len(seen), : seen.shape[1]] = seen
        out = model.predict(inputs, batch_size=batch_size, verbose=0)
        logits.append(np.asarray(out, np.float32)[: len(chosen)])
        if progress:
            progress(start + len(chosen), len(indices))
    return np.concatenate(logits)


def softmax(logits, temperature=1.0):
    """Turn logits of shape `(..., classes)` into float64 probabilities."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(-1, keepdims=True))
    return scaled / scaled.sum(-1, keepdims=True)
