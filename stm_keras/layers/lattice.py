"""The lattice of the lines so far, in any direction: a causal reading of its harmonics."""

import keras
import numpy as np
from keras import ops

from stm_keras.layers.spectra import hann_waves
from stm_keras.trees.features import HARMONICS, HIGHEST, may_be_rows, radii_up_to

OCTAVE = 4  # radii an octave
LEAST, MOST = (
    9,
    4096,
)  # of `highest`: rows are looked for below a third, and files may be forged
ANGLES = np.arange(-90, 90, 7.5)
RIGHT = len(ANGLES) // 2  # steps of a right angle
SHARPNESS = 4.0  # of the choice of the strongest lattice
CLIP = 3.0  # running scales; what is higher is an adsorbate, not a lattice
FLOOR = 1e-3  # of the power, in squares of the running scale
NETWORK = len(HARMONICS) + 4  # features without a profile


@keras.saving.register_keras_serializable(package="stm_keras")
class RunningLattice(keras.layers.Layer):
    """Find the strongest lattice of the lines so far, and read the power of its harmonics.

    Its harmonics distinguish atoms, dimers and rows; its direction is the operator's choice,
    and in any one laboratory goes with the day. So the spectrum of the lines so far is
    sampled over radius and angle, each direction gets a score of how much it resembles the
    rows of a 2x1 lattice, and the harmonics are read relative to the best, or to a mean over
    those that are nearly as good.

    A spectrum without a window over lines would smear the lattice over all angles. The
    parabolic one (Welch) stretches with the scan as it grows, and still needs no more
    than two sums over lines.

    Args:
        profile: bool. Whether to give as well, before the rest, the mean over angles of
            the logarithm of the power at each radius, and how far the strongest
            direction stands out there.
        highest: float. The largest radius, in periods over the width, or nearly so; rows
            are looked for up to 14 of 48, or in proportion.

    Call arguments:
        lines: float tensor of shape `(batch, lines, pixels)`, as of `scale_lines`.

    Returns:
        float tensor of shape `(batch, lines, 13)`, with a profile of 21 radii, as up to 48
        periods, `(batch, lines, 55)`:
        logarithm of the power of nine harmonics, of the mean over angles at the radius of
        the rows, logarithm to base 2 of that radius, how far the lattice stands out, and
        logarithm to base 2 of the number of lines.

    Reference:
        Welch, 1967, https://doi.org/10.1109/TAU.1967.1161901 (the window);
        `stm_keras.trees.features` for whole scans.
    """

    def __init__(self, profile=False, highest=HIGHEST, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)  # sums over many lines are in float32
        if not LEAST <= highest <= MOST:
            raise ValueError(
                f"`highest` must be from {LEAST} to {MOST}. Received: highest={highest}."
            )
        self.profile = profile
        self.highest = highest
        self.radii = radii_up_to(highest, OCTAVE)
        self.rows = rows_between(self.radii, highest)
        self.size = NETWORK + (2 * len(self.radii) if profile else 0)

    def build(self, input_shape):
        pixels, angles = input_shape[-1], np.deg2rad(ANGLES)
        # the spectrum is sampled at places = radii * angles, radius by radius
        along = (self.radii[:, None] * np.cos(angles)).ravel()
        across = (self.radii[:, None] * np.sin(angles)).ravel()
        self.waves = hann_waves(pixels, -along)  # (pixels, 2 * places), of exp(-i ...)
        self.across = (2 * np.pi / pixels * across).astype("float32")  # radians a line

    def call(self, lines):
        count = ops.shape(lines)[1]
        number = ops.cast(ops.arange(count), "float32")[:, None]  # of each line
        at = (ops.transpose(number) + 0.5) / (number + 1.0)  # (lines so far, line)
        window = ops.where(at < 1.0, 4.0 * at * (1.0 - at), 0.0)
        real, imaginary = (ops.matmul(window, part) for part in self._turned(lines, number))
        return self._read(real, imaginary, number + 1.0)

    def step(self, lines, cache):
        """Add a line to two sums, which do not depend on how many lines there are.

        The parabolic window over the first N lines is

            w(n) = 4 t (1 - t), t = (n + 1/2) / N

        so the windowed sum of f is 4 (sum (n + 1/2) f / N - sum (n + 1/2)^2 f / N^2). Each
        has real and imaginary part.
        """
        total, number = cache  # (batch, 1, 4 * places), (batch, 1, 1)
        turned = ops.concatenate(self._turned(lines, number), axis=-1)
        at, count = number + 0.5, number + 1.0
        total = total + ops.concatenate([turned * at, turned * at * at], axis=-1)
        first, second = ops.split(total, 2, axis=-1)
        field = 4.0 * (first / count - second / (count * count))
        return self._read(*ops.split(field, 2, axis=-1), count), [total, count]

    def cache_shapes(self, input_shape):
        return [(1, 4 * len(self.across)), (1, 1)]

    def _turned(self, lines, number):
        """Return the Fourier sum along each line, turned by the phase of the lines before.

        Real and imaginary part, each `(batch, lines, places)`.
        """
        waves = ops.clip(ops.cast(lines, "float32"), -CLIP, CLIP)
        waves = ops.matmul(waves, ops.convert_to_tensor(self.waves))
        real, imaginary = ops.split(waves, 2, axis=-1)
        turn = number * ops.convert_to_tensor(self.across)
        cosine, sine = ops.cos(turn), ops.sin(turn)
        return real * cosine + imaginary * sine, imaginary * cosine - real * sine

    def _read(self, real, imaginary, count):
        """Turn windowed sums over `count` lines into features."""
        # the sum of the squares of the window, exactly
        weight = count * (8 / 15) + (7 / 15) / (count * count * count)
        power = (real * real + imaginary * imaginary) / weight
        shape = (-1, ops.shape(real)[1], len(self.radii), len(ANGLES))
        log_power = ops.reshape(ops.log(power + FLOOR), shape)
        harmonics = read_harmonics(log_power, self.radii, self.rows)
        octaves = ops.broadcast_to(ops.log2(count), ops.shape(harmonics[..., :1]))
        features = [harmonics, octaves]
        if self.profile:
            mean = ops.mean(log_power, axis=-1)  # (batch, lines, radii)
            features = [mean, ops.max(log_power, axis=-1) - mean, *features]
        return ops.cast(ops.concatenate(features, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], self.size)

    def get_config(self):
        return {**super().get_config(), "profile": self.profile, "highest": self.highest}


@keras.saving.register_keras_serializable(package="stm_keras")
class LastFeatures(keras.layers.Layer):
    """Take the last features alone, for a part of a network that reads no others.

    Args:
        count: int.

    Call arguments:
        features: float tensor of shape `(batch, lines, features)`.

    Returns:
        float tensor of shape `(batch, lines, count)`.
    """

    def __init__(self, count, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def call(self, features):
        return features[..., -self.count :]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.count)

    def get_config(self):
        return {**super().get_config(), "count": self.count}


def read_harmonics(log_power, radii, rows):
    """Read the harmonics of the strongest lattice from `(batch, lines, radii, angles)`.

    Gives `(batch, lines, 12)`, as `RunningLattice` without the last feature. `rows` is as of
    `rows_between`.
    """
    low, high = rows
    mean = ops.mean(log_power, axis=-1, keepdims=True)  # over angles
    peaks = log_power - mean
    # How much each (radius, angle) looks like the rows of a 2x1 lattice: its own peak, and
    # half of those an octave above, along (both atoms of a dimer) and across (dimers along a
    # row). `comb` and `choice` are (batch, lines, radii of rows, angles); choice sums to 1.
    above = ops.maximum(peaks, 0.0)[:, :, low + OCTAVE : high + OCTAVE]
    comb = peaks[:, :, low:high] + (above + turned(above, RIGHT)) / 2
    flat = ops.reshape(comb, (-1, ops.shape(comb)[1], (high - low) * len(ANGLES)))
    choice = ops.reshape(ops.softmax(SHARPNESS * flat, axis=-1), ops.shape(comb))
    # each harmonic where it would lie for every (radius, angle), averaged by `choice`; the
    # lattice may be mirrored, so its larger side counts
    nearby = widest(log_power)
    # so that each shift is a slice: the angles twice, and radii beyond the ends as the ends
    shifts = [(round(octaves * OCTAVE), degrees) for octaves, degrees in HARMONICS]
    below = max(-low - min(shift for shift, _ in shifts), 0)
    above = max(high + max(shift for shift, _ in shifts) - len(radii), 0)
    ends = [nearby[:, :, :1]] * below, [nearby[:, :, -1:]] * above
    nearby = ops.concatenate([*ends[0], nearby, *ends[1]], axis=2)
    nearby = ops.concatenate([nearby, nearby], axis=3)
    features = []
    for shift, degrees in shifts:
        steps = round(degrees / (ANGLES[1] - ANGLES[0])) % len(ANGLES)
        shifted = nearby[:, :, low + shift + below : high + shift + below]
        one, other = (
            shifted[..., k : k + len(ANGLES)] for k in (steps, len(ANGLES) - steps)
        )
        features.append(ops.sum(choice * ops.maximum(one, other), axis=(2, 3)))
    by_radius = ops.sum(choice, axis=3)
    octaves = ops.convert_to_tensor(np.log2(radii[low:high]).astype("float32"))
    features.append(ops.sum(by_radius * mean[:, :, low:high, 0], axis=2))
    features.append(ops.sum(by_radius * octaves, axis=2))
    features.append(ops.sum(choice * comb, axis=(2, 3)))
    return ops.stack(features, axis=-1)


def rows_between(radii, highest):
    """Return the first index of radii where rows are looked for, and that after the last."""
    inside = np.flatnonzero(may_be_rows(radii, highest))
    return int(inside[0]), int(inside[-1]) + 1


def turned(spectrum, steps):
    """Read a spectrum so many steps of the last axis, the angle, further on.

    The angles are half a turn, after which a spectrum repeats itself.
    """
    steps %= len(ANGLES)
    if not steps:
        return spectrum
    return ops.concatenate([spectrum[..., steps:], spectrum[..., :steps]], axis=-1)


def widest(spectrum):
    """Take the largest of each place and its eight neighbours in (radius, angle).

    A harmonic falls between the places where the spectrum is sampled.
    """
    across = ops.maximum(spectrum, ops.maximum(turned(spectrum, 1), turned(spectrum, -1)))
    padded = ops.concatenate([across[:, :, :1], across, across[:, :, -1:]], axis=2)
    return ops.maximum(across, ops.maximum(padded[:, :, :-2], padded[:, :, 2:]))
