"""Random numbers whose range depends on the scan."""

import numpy as np


def uniform(rng, ranges, index):
    """Draw from the range that each index picks.

    Args:
        rng: numpy Generator.
        ranges: array-like of shape `(classes, 2)`. Low and high of each class.
        index: int array of any shape.

    Returns:
        float array of the shape of `index`.
    """
    low, high = np.moveaxis(np.asarray(ranges, float)[index], -1, 0)
    return rng.uniform(low, high)


def log_uniform(rng, low, high, size=None):
    """Draw so that each factor is as likely as any other. float array of `size`."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def chance(rng, probability, size):
    """Return True with the given probability. bool array of `size`."""
    return rng.random(size) < probability


def sign(rng, size=None):
    """Return -1 or 1, either with probability one half. int array of `size`."""
    return rng.choice((-1, 1), size)
