"""Training scans that stay on the device, and are varied and scaled there."""

import keras
import numpy as np
from keras import ops

RESIDENT = "resident"  # name of the layer
FLAT = 4 * float(np.finfo(np.float32).eps)  # of the largest height: a line shows nothing


class ResidentScans(keras.layers.Layer):
    """Hold scans on the device, and make network input of some of them.

    What is done to a scan is what `stm_keras.data.augment.augment_batch` does on the host,
    which is the truth: both are compared by a test. The scans are no part of a model: they are
    not saved with it.

    Args:
        scans: array `(scans, lines, pixels)`, uint8 or float16: heights in any unit.
        input: str. What the network reads: "standardised" or "scaled", as of
            `stm_keras.data.preprocess.INPUTS`.
        noise: bool. Whether noise is added.

    Call arguments:
        inputs: dict with "scan", int `(batch,)`: which; and of a `Variation` "source",
            float `(batch, 6)`, "moved" and "noise", float `(batch,)`, "kept",
            float `(batch, lines)`; and "signal", float `(batch, lines)`: 0 where a line shows
            nothing, as of `has_signal`, which looks closer than is done here.

    Returns:
        float32 tensor `(batch, lines, pixels)`.
    """

    def __init__(self, scans, input, noise=False, seed=0, **kwargs):
        super().__init__(name=RESIDENT, dtype="float32", trainable=False, **kwargs)
        self.input_kind = input
        self.noise = noise
        self.seed_generator = keras.random.SeedGenerator(seed, name=RESIDENT)
        self.scans = self.add_weight(
            shape=scans.shape,
            dtype=str(scans.dtype),
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(scans),
            trainable=False,
            autocast=False,
            name="scans",
        )
        self.built = True

    def call(self, inputs):
        heights = ops.cast(ops.take(self.scans, inputs["scan"], axis=0), "float32")
        moved = inputs["moved"][:, None, None] > 0
        heights = ops.where(moved, remove_line_trend(heights), heights)
        heights = sample(heights, inputs["source"])
        if self.noise:
            heights = self._add_noise(heights, inputs["noise"])
        prepared = prepare(heights, self.input_kind, inputs["signal"][:, :, None])
        return prepared * inputs["kept"][:, :, None]

    def _add_noise(self, heights, level):
        spread = ops.median(ops.std(heights, axis=2), axis=1)
        recorded = ops.max(heights, 2, keepdims=True) > ops.min(heights, 2, keepdims=True)
        noise = keras.random.normal(ops.shape(heights), seed=self.seed_generator)
        size = (level * spread)[:, None, None] * ops.cast(recorded, "float32")
        return heights + noise * size

    def compute_output_shape(self, input_shape):
        return (input_shape["scan"][0], *self.scans.shape[1:])

    def save_own_variables(self, store):
        """Keep the scans out of the file of a model."""

    def load_own_variables(self, store):
        """Keep the scans."""


def remove_line_trend(heights):
    """Take mean and slope out of every line of a float32 tensor `(batch, lines, pixels)`."""
    pixels = heights.shape[2]
    ramp, squares = _from_middle(pixels), pixels * (pixels**2 - 1) / 12
    levelled = heights - ops.mean(heights, axis=2, keepdims=True)
    slope = ops.sum(levelled * ramp, axis=2, keepdims=True) / max(squares, 0.5)
    return levelled - slope * ramp


def sample(heights, source):
    """Read scans `(batch, lines, pixels)` at the places that `source` of a `Variation` says."""
    lines, pixels = heights.shape[1:]
    row, column = _from_middle(lines)[None, :, None], _from_middle(pixels)[None, None]
    a, b, c, d, e, f = (source[:, k, None, None] for k in range(6))
    row, column = a + b * row + c * column, d + e * row + f * column
    row, column = _mirror(row, lines), _mirror(column, pixels)
    top = ops.minimum(ops.floor(row), max(lines - 2, 0))
    left = ops.minimum(ops.floor(column), max(pixels - 2, 0))
    down, right = row - top, column - left
    batch = ops.shape(heights)[0]
    first = ops.arange(batch, dtype="int32")[:, None, None] * (lines * pixels)
    corner = first + ops.cast(top, "int32") * pixels + ops.cast(left, "int32")
    flat = ops.reshape(heights, (-1,))
    step, side = pixels * (lines > 1), int(pixels > 1)
    upper = ops.take(flat, corner) * (1 - right) + ops.take(flat, corner + side) * right
    lower = (
        ops.take(flat, corner + step) * (1 - right)
        + ops.take(flat, corner + step + side) * right
    )
    return upper * (1 - down) + lower * down


def _from_middle(size):
    return ops.arange(size, dtype="float32") - (size - 1) / 2


def _mirror(position, size):
    period = max(2 * (size - 1), 1)
    position = ops.abs(position)
    position = position - ops.floor(position / period) * period
    return ops.minimum(position, period - position)


def prepare(heights, input, signal):
    """Scale the lines of a float32 tensor as `INPUTS` of that name does on the host.

    `signal`, float `(batch, lines, 1)`, is 0 where a line is known to show nothing.
    """
    largest = ops.max(ops.abs(heights), axis=2, keepdims=True)
    scaled = heights / ops.where(largest > 0, largest, 1.0)
    levelled = remove_line_trend(scaled)
    deviation = ops.sqrt(ops.mean(ops.square(levelled), axis=2, keepdims=True))
    flat = ops.logical_or(deviation <= FLAT, signal == 0)
    shapes = ops.where(flat, 0.0, levelled / ops.where(flat, 1.0, deviation))
    if input == "standardised":
        return shapes
    there = ops.cast(ops.logical_not(flat), "float32")
    logarithm = ops.log(ops.where(flat, 1.0, deviation * largest))
    counts = ops.maximum(ops.cumsum(there, axis=1), 1.0)
    return shapes * ops.exp(logarithm - ops.cumsum(logarithm, axis=1) / counts)
