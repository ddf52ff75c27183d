"""Boosted trees as a layer: the same answer under every backend, and line by line."""

from functools import partial

import keras
import numpy as np
from keras import ops

DEPTH = 3  # splits from the root to a leaf
SPLITS, LEAVES = 2**DEPTH - 1, 2**DEPTH


@keras.saving.register_keras_serializable(package="stm_keras")
class BoostedTrees(keras.layers.Layer):
    """Sum up trees over features of the lines so far, some trees for each stage of a scan.

    Early and late lines need other trees. Each stage has its own, which count most at its
    number of lines and fade out towards those of its neighbours.

    A split does not jump from one side to the other but slides over one unit of its
    scaled feature, so rounding moves the answer no further than it moves the feature.

    Gradients do not find trees: `stm_keras.trees.stages` fits them, `set_trees` puts them
    here, and until then the answer is 0.

    Args:
        classes: int.
        rounds: int. Trees of each class and stage.
        stages: sequence of float. Numbers of lines, rising.

    Call arguments:
        features: float tensor of shape `(batch, lines, features)`. The last feature is
            the logarithm to base 2 of the number of lines.

    Returns:
        float tensor of shape `(batch, lines, classes)`: logits.

    Reference:
        Friedman, 2001, https://doi.org/10.1214/aos/1013203451 (boosting, algorithm 6).
    """

    def __init__(self, classes, rounds, stages=(4, 16, 45, 128), **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(autocast=False, **kwargs)  # it computes in float32, see `call`
        self.classes = classes
        self.rounds = rounds
        self.stages = tuple(stages)
        self.trees = len(self.stages) * rounds * classes

    def build(self, input_shape):
        # Trees lie side by side, level by level: all roots, then all left children, all
        # right ones, and so on. A level of depth d has 2**d * trees splits, and a child's
        # index is that of its parent, in the lower half for the left and the upper for the
        # right child. Trees are in the order (stages, rounds, classes).
        splits, leaves = (SPLITS * self.trees,), (LEAVES * self.trees,)
        weight = partial(self.add_weight, trainable=False, autocast=False)
        self.scale = weight((input_shape[-1],), "ones", name="scale")
        self.feature = weight(splits, "zeros", "int32", name="feature")
        self.threshold = weight(splits, "zeros", name="threshold")
        self.leaves = weight(leaves, "zeros", name="leaves")
        self.start = weight((len(self.stages), self.classes), "zeros", name="start")

    def set_trees(self, trees):
        """Take fitted trees: arrays by the names of the weights, as of `fit_stages`."""
        for name, array in trees.items():
            getattr(self, name).assign(array)

    def call(self, features):
        # whatever dtype is asked for: a threshold in 16 bits is another one
        features = ops.cast(features, "float32")
        scale, threshold, value, start = (
            ops.cast(each, "float32")
            for each in (self.scale, self.threshold, self.leaves, self.start)
        )
        # how far each split goes to its right child, 0 to 1: (batch, lines, splits)
        right = ops.take(features * scale, self.feature, axis=-1) - threshold
        right = ops.clip(right + 0.5, 0.0, 1.0)
        # from the leaves to the roots: (..., 8 * trees) to (..., trees)
        for depth in reversed(range(DEPTH)):
            count = 2**depth * self.trees
            first = (2**depth - 1) * self.trees
            share = right[..., first : first + count]
            low, high = value[..., :count], value[..., count:]
            value = low + share * (high - low)
        lines = ops.shape(features)[1]
        shape = (-1, lines, len(self.stages), self.rounds, self.classes)
        value = ops.sum(ops.reshape(value, shape), axis=3) + start
        logits = ops.sum(value * self._parts(features[..., -1:])[..., None], axis=2)
        return ops.cast(logits, self.compute_dtype)

    def _parts(self, count):
        """Return how much each stage counts, `(batch, lines, stages)`, 1 in all.

        `count` is log2 of the number of lines. A stage counts most at its own number and
        falls to 0, linearly in `count`, at those of its neighbours.
        """
        rise, low, fall, high = map(ops.convert_to_tensor, stage_slopes(self.stages))
        parts = ops.minimum(count * rise + low, count * fall + high)
        return ops.clip(parts, 0.0, 1.0)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.classes)

    def get_config(self):
        own = {"classes": self.classes, "rounds": self.rounds, "stages": list(self.stages)}
        return {**super().get_config(), **own}


def stage_slopes(stages):
    """Return the two sides of each stage as straight lines over log2 of the number of lines.

    Four float32 arrays `(stages,)`: slope and intercept of the rising side, and of the
    falling. The first stage does not rise, and the last does not fall.
    """
    center = np.log2(np.asarray(stages, float))
    gap = 1 / np.diff(center)
    rise, fall = np.concatenate([[0], gap]), np.concatenate([-gap, [0]])
    low = np.concatenate([[1], -gap * center[:-1]])
    high = np.concatenate([gap * center[1:], [1]])
    return tuple(each.astype("float32") for each in (rise, low, fall, high))
