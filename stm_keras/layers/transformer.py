"""Pre-norm transformer blocks: one attends to all tokens, one only to those before."""

import keras
import numpy as np
from keras import ops

from stm_keras.layers.dropout import HashedDropout


class _Block(keras.layers.Layer):
    """What both blocks share: norms, the MLP, and dropout on the branches.

    Sub-layers keep their names and the order in which they are made: optimizer states of
    older runs are stored in that order. They are built here and of the block's dtype, so their
    `call` is called: what Keras does around it takes Python half a step of a small network.
    """

    def __init__(self, num_heads, mlp_dim, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout = dropout

    def _norm(self, name):
        return keras.layers.LayerNormalization(
            epsilon=1e-6, dtype=self.dtype_policy, name=name
        )

    def _dense(self, units, name, activation=None):
        return keras.layers.Dense(
            units, activation=activation, dtype=self.dtype_policy, name=name
        )

    def _make_dropouts(self):
        self.attention_dropout, self.mlp_dropout, self.out_dropout = (
            HashedDropout(self.dropout, dtype=self.dtype_policy, name=name)
            for name in ("attention_dropout", "mlp_dropout", "out_dropout")
        )

    def _add_branches(self, tokens, attended, training):
        """Add what attention gave, then the MLP of each token alone: `(batch, tokens, dim)`."""
        tokens = tokens + self.attention_dropout.call(attended, training=training)
        hidden = self.expand.call(self.mlp_norm.call(tokens))
        hidden = self.contract.call(self.mlp_dropout.call(hidden, training=training))
        return tokens + self.out_dropout.call(hidden, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        names = ("num_heads", "mlp_dim", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="stm_keras")
class CausalBlock(_Block):
    """Let each token attend to the last `window` tokens, then pass it through an MLP.

    Positions are rotary angles: a score depends on how far apart two tokens are, so a scan
    may go on for ever. Beside `call`, `step` takes one token and the keys and values of
    those before it (see `stm_keras.layers.causal`).

    Args:
        num_heads: int. Attention heads; must divide the length of a token.
        mlp_dim: int. Width of the hidden layer.
        window: int. Tokens that a token attends to, itself included.
        dropout: float. Rate on the two branches and inside the MLP.

    Call arguments:
        tokens: float tensor of shape `(batch, lines, dim)`.

    Returns:
        float tensor of shape `(batch, lines, dim)`.

    Reference:
        Su et al., 2021, https://arxiv.org/abs/2104.09864, eq. 34 (rotary positions);
        Beltagy et al., 2020, https://arxiv.org/abs/2004.05150, section 3.1 (window).
    """

    def __init__(self, num_heads, mlp_dim, window=128, dropout=0.0, **kwargs):
        super().__init__(num_heads, mlp_dim, dropout, **kwargs)
        if window < 1:
            raise ValueError(f"`window` must be positive. Received: window={window}.")
        self.window = window

    def build(self, input_shape):
        dim = input_shape[-1]
        if dim % (2 * self.num_heads):
            raise ValueError(
                "A head needs an even number of the dimensions of a token. Received: "
                f"num_heads={self.num_heads}, tokens of length {dim}."
            )
        self.size = dim // self.num_heads  # of a head
        self.attention_norm = self._norm("attention_norm")
        self.mlp_norm = self._norm("mlp_norm")
        self.queries, self.keys, self.values, self.merge, self.contract = (
            self._dense(dim, name)
            for name in ("queries", "keys", "values", "merge", "contract")
        )
        self.expand = self._dense(self.mlp_dim, "expand", "relu")
        self._make_dropouts()
        layers = (self.attention_norm, self.mlp_norm, self.expand, self.merge)
        for layer in (*layers, self.queries, self.keys, self.values):
            layer.build(input_shape)
        self.contract.build((*input_shape[:-1], self.mlp_dim))
        frequencies = 10000.0 ** (-np.arange(0, self.size, 2) / self.size)
        self.frequencies = frequencies.astype("float32")  # one a pair of dimensions

    def call(self, tokens, training=None):
        positions = ops.arange(ops.shape(tokens)[1], dtype="float32")
        normed = self.attention_norm(tokens)
        keys, values = self._keys_and_values(normed, positions)
        mask = self._mask(positions)
        attended = self._attend(normed, positions, keys, values, mask)
        return self._add_branches(tokens, attended, training)

    def step(self, tokens, cache):
        keys, values, count = cache  # (batch, window, heads, size) twice, (batch, 1)
        normed = self.attention_norm(tokens)
        key, value = self._keys_and_values(normed, count)
        keys = ops.concatenate([keys[:, 1:], key], axis=1)
        values = ops.concatenate([values[:, 1:], value], axis=1)
        # entry k of the cache is `age` lines old; before line `age` it is still empty
        age = self.window - 1.0 - ops.arange(self.window, dtype="float32")
        mask = (age[None] <= count)[:, None, None]  # (batch, 1, 1, window)
        attended = self._attend(normed, count, keys, values, mask)
        return self._add_branches(tokens, attended, False), [keys, values, count + 1.0]

    def cache_shapes(self, input_shape):
        entry = (self.window, self.num_heads, self.size)
        return [entry, entry, (1,)]

    def attention_weights(self, tokens, attention_mask=None):
        """Return how much each token attends to each: `(batch, heads, lines, lines)`.

        `attention_mask` changes nothing: a token looks back only, lost lines included.
        """
        normed = self.attention_norm(ops.convert_to_tensor(tokens))
        positions = ops.arange(ops.shape(normed)[1], dtype="float32")
        keys, _ = self._keys_and_values(normed, positions)
        return self._weights(normed, positions, keys, self._mask(positions))

    def _mask(self, positions):
        """Return which tokens a token attends to: bool `(1, 1, lines, lines)`."""
        distance = positions[:, None] - positions[None]
        return ((distance >= 0) & (distance < self.window))[None, None]

    def _heads(self, values):
        shape = (-1, ops.shape(values)[1], self.num_heads, self.size)
        return ops.reshape(values, shape)

    def _keys_and_values(self, tokens, positions):
        """Return two tensors `(batch, lines, heads, size)`."""
        keys = self._rotate(self._heads(self.keys(tokens)), positions)
        return keys, self._heads(self.values(tokens))

    def _weights(self, tokens, positions, keys, mask):
        """Return attention weights `(batch, heads, queries, keys)`, in float32."""
        queries = self._rotate(self._heads(self.queries(tokens)), positions)
        scores = ops.einsum("bqhd,bkhd->bhqk", queries, keys) / self.size**0.5
        scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
        # Keras' own softmax warns where a token sees but itself
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        return weights / ops.sum(weights, axis=-1, keepdims=True)

    def _attend(self, tokens, positions, keys, values, mask):
        count, dim = ops.shape(tokens)[1], tokens.shape[2]
        weights = self._weights(tokens, positions, keys, mask)
        heads = ops.einsum("bhqk,bkhd->bqhd", ops.cast(weights, values.dtype), values)
        return self.merge(ops.reshape(heads, (-1, count, dim)))

    def _rotate(self, heads, positions):
        """Turn pairs of dimensions of `(batch, lines, heads, size)` by their position.

        `positions` is `(lines,)`, or `(batch, 1)` for one token of each scan. A pair is
        dimension d and d + size / 2.
        """
        angles = positions[..., None] * ops.convert_to_tensor(self.frequencies)
        if len(angles.shape) == 2:
            angles = angles[None]
        angles = angles[:, :, None]  # (1 or batch, lines, 1, size / 2)
        cosine = ops.cast(ops.cos(angles), heads.dtype)
        sine = ops.cast(ops.sin(angles), heads.dtype)
        left, right = ops.split(heads, 2, axis=-1)
        return ops.concatenate(
            [left * cosine - right * sine, right * cosine + left * sine], axis=-1
        )

    def get_config(self):
        return {**super().get_config(), "window": self.window}


@keras.saving.register_keras_serializable(package="stm_keras")
class EncoderBlock(_Block):
    """Let tokens attend to each other, then pass each through an MLP.

    Normalised before attention and before the MLP, added after each. Dropout is on
    the two branches and inside the MLP, not on the attention weights: with it Keras
    would give up the fused attention kernels.

    Args:
        num_heads: int. Attention heads; must divide the length of a token.
        mlp_dim: int. Width of the hidden layer.
        dropout: float. Rate.

    Call arguments:
        tokens: float tensor of shape `(batch, tokens, dim)`.
        attention_mask: bool tensor of shape `(batch, 1, tokens)` or
            `(batch, tokens, tokens)`, True where a token may attend.

    Returns:
        float tensor of shape `(batch, tokens, dim)`.

    Reference:
        Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929, eq. 2 and 3.
    """

    def build(self, input_shape):
        dim = input_shape[-1]
        if dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the length of a token. Received: "
                f"num_heads={self.num_heads}, tokens of length {dim}."
            )
        self.attention_norm = self._norm("attention_norm")
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, dim // self.num_heads, dtype=self.dtype_policy, name="attention"
        )
        self.mlp_norm = self._norm("mlp_norm")
        self.expand = self._dense(self.mlp_dim, "expand", "gelu")
        self.contract = self._dense(dim, "contract")
        self._make_dropouts()
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.mlp_norm.build(input_shape)
        self.expand.build(input_shape)
        self.contract.build((*input_shape[:-1], self.mlp_dim))

    def call(self, tokens, attention_mask=None, training=None):
        attended = self._attend(self.attention_norm.call(tokens), attention_mask)
        return self._add_branches(tokens, attended, training)

    def _attend(self, tokens, mask):
        """Attend as `self.attention` does, by its weights: `(batch, tokens, dim)`."""
        part = self.attention
        heads = (
            each.call(tokens)
            for each in (part.query_dense, part.key_dense, part.value_dense)
        )
        mask = None if mask is None else mask[:, None]  # for all heads
        return part.output_dense.call(ops.dot_product_attention(*heads, mask=mask))

    def attention_weights(self, tokens, attention_mask=None):
        """Return how much each token attends to each: `(batch, heads, tokens, tokens)`."""
        normed = self.attention_norm(ops.convert_to_tensor(tokens))
        return self.attention(
            normed, normed, attention_mask=attention_mask, return_attention_scores=True
        )[1]
