"""A token for the scan as a whole, and positions for the others."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="stm_keras")
class ClassToken(keras.layers.Layer):
    """Put one learned token before the others, to gather what the scan shows.

    Call arguments:
        tokens: float tensor of shape `(batch, tokens, dim)`.

    Returns:
        float tensor of shape `(batch, 1 + tokens, dim)`.

    Reference:
        Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929, eq. 1.
    """

    def build(self, input_shape):
        self.class_token = self.add_weight(
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="class_token",
        )

    def call(self, tokens):
        shape = ops.shape(tokens)
        first = ops.broadcast_to(self.class_token, (shape[0], 1, shape[2]))
        return ops.concatenate([ops.cast(first, tokens.dtype), tokens], axis=1)

    def compute_output_shape(self, input_shape):
        batch, count, dim = input_shape
        return (batch, None if count is None else count + 1, dim)


@keras.saving.register_keras_serializable(package="stm_keras")
class Positions(keras.layers.Layer):
    """Add to each token a vector of its position.

    Args:
        max_tokens: int. The most tokens there can be.
        kind: str. "learned", or "sinusoidal" which has no weights.

    Call arguments:
        tokens: float tensor of shape `(batch, tokens, dim)`, `tokens` from 1 to
            `max_tokens`.

    Returns:
        float tensor of the same shape.

    Reference:
        Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """

    def __init__(self, max_tokens, kind="learned", **kwargs):
        super().__init__(**kwargs)
        if max_tokens < 1:
            raise ValueError(
                f"`max_tokens` must be positive. Received: max_tokens={max_tokens}."
            )
        if kind not in ("learned", "sinusoidal"):
            raise ValueError(
                f'`kind` must be "learned" or "sinusoidal". Received: kind={kind}.'
            )
        self.max_tokens = max_tokens
        self.kind = kind

    def build(self, input_shape):
        _, count, dim = input_shape
        if count is not None and count > self.max_tokens:
            raise ValueError(
                f"There are more tokens than `max_tokens`. Received: {count} tokens, "
                f"max_tokens={self.max_tokens}."
            )
        if self.kind == "learned":
            self.table = self.add_weight(
                shape=(self.max_tokens, dim),
                initializer=keras.initializers.TruncatedNormal(stddev=0.02),
                name="position_embedding",
            )
        else:
            self.table = sinusoids(self.max_tokens, dim)

    def call(self, tokens):
        count = ops.shape(tokens)[1]
        table = ops.cast(ops.convert_to_tensor(self.table), tokens.dtype)
        return tokens + table[:count]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "max_tokens": self.max_tokens, "kind": self.kind}


def sinusoids(count, dim):
    """Return sines and cosines of falling frequency: float32 array `(count, dim)`."""
    frequencies = 10000.0 ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(count)[:, None] * frequencies
    table = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(count, -1)
    return table[:, :dim].astype("float32")
