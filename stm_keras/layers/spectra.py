"""What is periodic in the lines so far: a causal estimate of the spectrum of the scan."""

import keras
import numpy as np
from keras import ops

from stm_keras.layers.causal import unit_lines

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
        self.waves = hann_waves(input_shape[-1], np.arange(1, self.bins + 1))

    def call(self, lines):
        waves = self._transform(lines)
        lag = max(self.lags)
        count = ops.shape(lines)[1]
        before = ops.pad(waves, [[0, 0], [lag, 0], [0, 0]])  # `lag` lines of 0 come first
        pairs = [before[:, lag - each : lag - each + count] for each in self.lags]
        total = ops.cumsum(self._products(waves, pairs), axis=1)
        number = ops.cumsum(ops.ones_like(total[:1, :, :1]), axis=1)  # (1, lines, 1)
        return self._coherence(total / number)

    def step(self, lines, cache):
        # waves of the last `lag` lines, the sum of products, and how many lines it has
        before, total, number = cache
        waves = self._transform(lines)
        lag = max(self.lags)
        pairs = [before[:, lag - each : lag - each + 1] for each in self.lags]
        total = total + self._products(waves, pairs)
        number = number + 1.0
        before = ops.concatenate([before[:, 1:], waves], axis=1)
        return self._coherence(total / number), [before, total, number]

    def cache_shapes(self, input_shape):
        width = self.bins * (1 + 2 * len(self.lags))
        return [(max(self.lags), 2 * self.bins), (1, width), (1, 1)]

    def _transform(self, lines):
        """Return real and imaginary parts at each frequency: `(batch, lines, 2 * bins)`."""
        shape, _ = unit_lines(ops.cast(lines, "float32"))
        return ops.matmul(shape, ops.convert_to_tensor(self.waves))

    def _products(self, waves, pairs):
        """Multiply each line by itself and, conjugated, by each line before it of `pairs`.

        Power, then real and imaginary part for each lag: `(batch, lines, bins * (1 + 2 *
        lags))`, which is what the means are taken of.
        """
        real, imaginary = ops.split(waves, 2, axis=-1)
        products = [ops.square(real) + ops.square(imaginary)]
        for pair in pairs:
            other_real, other_imaginary = ops.split(pair, 2, axis=-1)
            products.append(real * other_real + imaginary * other_imaginary)
            products.append(imaginary * other_real - real * other_imaginary)
        return ops.concatenate(products, axis=-1)

    def _coherence(self, means):
        """Divide the mean cross-spectra by the mean power: what noise averages to 0."""
        power, cross = means[..., : self.bins], means[..., self.bins :]
        scale = ops.tile(power + EPSILON, (1, 1, 2 * len(self.lags)))
        spectra = ops.concatenate([ops.log(power + EPSILON), cross / scale], axis=-1)
        return ops.cast(spectra, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.bins * (1 + 2 * len(self.lags)))

    def get_config(self):
        return {**super().get_config(), "bins": self.bins, "lags": list(self.lags)}


def hann_waves(pixels, periods):
    """Return cosines and sines under a Hann window: float32 array `(pixels, 2 * waves)`.

    A line times this matrix is its Fourier sum at each number of periods over the width,
    real parts first. The window has a sum of squares of 1: white noise of variance 1 has
    power 1.
    """
    window = np.hanning(pixels + 2)[1:-1]  # without the zeros at its ends
    window = window / np.sqrt(np.sum(window**2))
    angle = 2 * np.pi / pixels * np.outer(np.arange(pixels), periods)
    waves = np.concatenate([np.cos(angle), np.sin(angle)], axis=1) * window[:, None]
    return waves.astype("float32")
