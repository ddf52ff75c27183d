"""What lines are like so far: heights, how each follows the one before, mean spectrum."""

import keras
import numpy as np
from keras import ops

from stm_keras.layers.lattice import CLIP
from stm_keras.layers.spectra import hann_waves

HEIGHTS = (-6, -4, -3, -2.25, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2.25, 3, 4, 6, 9)
SIZES = (-4, -2, -1.2, -0.7, -0.3, 0, 0.3, 0.7, 1.2, 2, 4)  # log power of a line
STEPS = (-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 2, 4)  # log power of a difference
FOLLOWS = (-0.5, 0, 0.2, 0.4, 0.55, 0.7, 0.8, 0.9, 0.97, 1)  # correlation of two lines
LIMIT = 20.0  # running scales; a wild line must not outweigh all others
TINY = 1e-4


@keras.saving.register_keras_serializable(package="stm_keras")
class RunningStatistics(keras.layers.Layer):
    """Describe the lines so far by distributions of simple numbers, averaged over lines.

    How often is a height above so many scales, how often does a line differ from the one
    before by more than so much? Each answer slides from 0 to 1 between two neighbouring
    edges, so that nothing jumps when a number moves a little.

    Call arguments:
        lines: float tensor of shape `(batch, lines, pixels)`, as of `scale_lines`.

    Returns:
        float tensor of shape `(batch, lines, features)`, means over the lines so far:
        distribution of heights, of the logarithmic power of a line, of that of its
        difference from the line before, and of the correlation with it; the last three
        themselves; and the logarithm of the mean power in bands of about half an octave.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)  # sums over many lines are in float32

    def build(self, input_shape):
        pixels = input_shape[-1]
        periods = np.arange(1, pixels // 2 + 1)
        self.waves = hann_waves(pixels, periods)  # (pixels, 2 * periods)
        # bands begin at 1, 2, 3, 5, 8, 11, 17 ... periods over the width; the matrix
        # (2 * periods, bands) averages squares of cosines and sines over each
        edges = np.unique(np.round(1.5 ** np.arange(12)).astype(int))
        edges = edges[edges <= len(periods)]
        band = np.searchsorted(edges, periods, side="right") - 1
        self.bands = np.eye(len(edges), dtype="float32")[np.tile(band, 2)]
        self.bands /= np.bincount(band)
        self.heights = ramp(HEIGHTS)
        self.slides, self.shifts = _slides()
        self.size = len(HEIGHTS) - 1 + len(self.shifts) + 3 + len(edges)

    def call(self, lines):
        lines = ops.cast(lines, "float32")
        before = ops.pad(lines[:, :-1], [[0, 0], [1, 0], [0, 0]])
        total = ops.cumsum(self._describe(lines, before), axis=1)
        count = ops.cumsum(ops.ones_like(total[:1, :, :1]), axis=1)
        return self._read(total / count)

    def step(self, lines, cache):
        # the line before, the sum over lines, and how many they are
        before, total, count = cache
        total, count = total + self._describe(lines, before), count + 1.0
        return self._read(total / count), [lines, total, count]

    def cache_shapes(self, input_shape):
        return [(1, input_shape[-1]), (1, self.size), (1, 1)]

    def _describe(self, lines, before):
        """What one line adds to the means: `(batch, lines, features)`.

        `before` is `lines` one line later, 0 at first.
        """
        largest = ops.clip(lines, -LIMIT, LIMIT)
        difference = largest - ops.clip(before, -LIMIT, LIMIT)
        line, other = ops.clip(lines, -CLIP, CLIP), ops.clip(before, -CLIP, CLIP)
        # log power of the line and of its step from the one before, and their correlation
        squares = _mean(line * line) * _mean(other * other)
        size, step = (ops.log(_mean(each * each) + TINY) for each in (largest, difference))
        follows = _mean(line * other) / ops.sqrt(squares + TINY * TINY)
        numbers = ops.concatenate([size, step, follows], axis=-1)  # (batch, lines, 3)
        low, rise = (ops.convert_to_tensor(each) for each in self.heights)
        # how far each pixel is past each edge, 0 to 1: (batch, lines, pixels, edges)
        heights = ops.clip((lines[..., None] - low) * rise, 0.0, 1.0)
        slides = ops.matmul(numbers, ops.convert_to_tensor(self.slides))
        slides = ops.clip(slides + ops.convert_to_tensor(self.shifts), 0.0, 1.0)
        waves = ops.matmul(line, ops.convert_to_tensor(self.waves))
        power = ops.matmul(waves * waves, ops.convert_to_tensor(self.bands))
        return ops.concatenate([ops.mean(heights, axis=2), slides, numbers, power], axis=-1)

    def _read(self, means):
        """Take the logarithm of the mean power in bands; the rest is read as it is."""
        bands = self.bands.shape[1]
        power = ops.log(means[..., -bands:] + TINY)
        features = ops.concatenate([means[..., :-bands], power], axis=-1)
        return ops.cast(features, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.size)


def ramp(edges):
    """Return where each slide begins, and its slope: float32 arrays `(edges - 1,)`."""
    edges = np.asarray(edges, "float32")
    return edges[:-1], 1 / np.diff(edges)


def _slides():
    """Return the slides of three numbers as a matrix `(3, slides)` and shifts `(slides,)`.

    Each column reads one of the numbers, so that one product slides over all edges.
    """
    rows, shifts = [], []
    for number, edges in enumerate((SIZES, STEPS, FOLLOWS)):
        low, rise = ramp(edges)
        rows.append(np.eye(3, dtype="float32")[:, number : number + 1] * rise)
        shifts.append(-low * rise)
    return np.concatenate(rows, axis=1), np.concatenate(shifts)


def _mean(values):
    return ops.mean(values, axis=-1, keepdims=True)
