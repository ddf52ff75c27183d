"""What is periodic in the lines so far: a causal estimate of the spectrum of the scan."""

import keras
import numpy as np
from keras import ops

EPSILON = 1e-3


@keras.saving.register_keras_serializable(package="stm_keras")
class RunningSpectra(keras.layers.Layer):
    """Estimate the power along the line, and its coherence with earlier lines, so far.

    A lattice is periodic, noise is not, and neither depends on where it begins. The power
    of a line at each spatial frequency, and its cross-spectrum with the line some lines
    before, are averaged over all lines so far: what a two-dimensional spectrum of the
    scan shows, from the first line on, with the same work for every line.

    Args:
        bins: int. Spatial frequencies: 1 to `bins` periods a line.
        lags: sequence of int. Lines back that cross-spectra are taken with.
        **kwargs: Passed on to `keras.layers.Layer`.

    Call arguments:
        lines: float tensor of shape `(batch, lines, pixels)`, as of `scale_lines`.

    Returns:
        float tensor of shape `(batch, lines, bins * (1 + 2 * len(lags)))`: logarithm of
        the mean power, then for each lag real and imaginary part of the coherence, which
        lie between -1 and 1.

    Reference:
        Welch, 1967, https://doi.org/10.1109/TAU.1967.1161901 (averaged periodograms).
    """

    def __init__(self, bins=48, lags=(1, 2, 3, 4, 6, 8, 12, 16), **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)  # sums over many lines are in float32
        if not lags or min(lags) < 1:
            raise ValueError(f"`lags` must be positive. Received: lags={lags}.")
        self.bins = bins
        self.lags = tuple(lags)

    def build(self, input_shape):
        pixels = input_shape[-1]
        place = np.arange(pixels)
        window = np.hanning(pixels + 2)[1:-1]
        window = window / np.sqrt(np.sum(window**2))
        angle = 2 * np.pi * np.outer(place, np.arange(1, self.bins + 1)) / pixels
        waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * window[:, None]
        self.waves = waves.astype("float32")

    def call(self, lines):
        waves = self._transform(lines)
        lag = max(self.lags)
        count = ops.shape(lines)[1]
        before = ops.pad(waves, [[0, 0], [lag, 0], [0, 0]])
        pairs = [before[:, lag - each : lag - each + count] for each in self.lags]
        total = ops.cumsum(self._products(waves, pairs), axis=1)
        number = ops.cumsum(ops.ones_like(total[:1, :, :1]), axis=1)
        return self._coherence(total / number)

    def step(self, lines, cache):
        """Take one line `(batch, 1, pixels)` and a cache; return spectra and cache."""
        before, total, number = cache
        waves = self._transform(lines)
        lag = max(self.lags)
        pairs = [before[:, lag - each : lag - each + 1] for each in self.lags]
        total = total + self._products(waves, pairs)
        number = number + 1.0
        before = ops.concatenate([before[:, 1:], waves], axis=1)
        return self._coherence(total / number), [before, total, number]

    def cache_shapes(self, input_shape):
        """Return the shape of each array of the cache, without batch."""
        width = self.bins * (1 + 2 * len(self.lags))
        return [(max(self.lags), 2 * self.bins), (1, width), (1, 1)]

    def _transform(self, lines):
        lines = ops.cast(lines, "float32")
        square = ops.mean(ops.square(lines), axis=-1, keepdims=True)
        there = square > 1e-10
        shape = ops.where(there, lines / ops.sqrt(ops.where(there, square, 1.0)), 0.0)
        return ops.matmul(shape, ops.convert_to_tensor(self.waves))

    def _products(self, waves, pairs):
        real, imaginary = ops.split(waves, 2, axis=-1)
        products = [ops.square(real) + ops.square(imaginary)]
        for pair in pairs:
            other_real, other_imaginary = ops.split(pair, 2, axis=-1)
            products.append(real * other_real + imaginary * other_imaginary)
            products.append(imaginary * other_real - real * other_imaginary)
        return ops.concatenate(products, axis=-1)

    def _coherence(self, means):
        power, cross = means[..., : self.bins], means[..., self.bins :]
        scale = ops.tile(power + EPSILON, (1, 1, 2 * len(self.lags)))
        spectra = ops.concatenate([ops.log(power + EPSILON), cross / scale], axis=-1)
        return ops.cast(spectra, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.bins * (1 + 2 * len(self.lags)))

    def get_config(self):
        return {**super().get_config(), "bins": self.bins, "lags": list(self.lags)}
