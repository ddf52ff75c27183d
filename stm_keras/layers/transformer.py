"""A pre-norm transformer block in which a token looks at itself and those before it."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="stm_keras")
class CausalBlock(keras.layers.Layer):
    """Let each token look back over the last `window` tokens, then think about each alone.

    Places are told by rotary angles: what two tokens have to do with each other depends
    on how far apart they are, so a scan may go on for ever. Beside `call`, `step` takes
    one token and the keys and values of those before it.

    Args:
        num_heads: int. Attention heads; must divide the length of a token.
        mlp_dim: int. Width of the hidden layer.
        window: int. Tokens that a token looks at, itself included.
        dropout: float. Rate on the two branches and inside the MLP.
        **kwargs: Passed on to `keras.layers.Layer`.

    Call arguments:
        tokens: float tensor of shape `(batch, lines, dim)`.

    Returns:
        float tensor of shape `(batch, lines, dim)`.

    Reference:
        Su et al., 2021, https://arxiv.org/abs/2104.09864, eq. 34 (rotary positions);
        Beltagy et al., 2020, https://arxiv.org/abs/2004.05150, section 3.1 (window).
    """

    def __init__(self, num_heads, mlp_dim, window=128, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        if window < 1:
            raise ValueError(f"`window` must be positive. Received: window={window}.")
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.window = window
        self.dropout = dropout

    def build(self, input_shape):
        dim = input_shape[-1]
        if dim % (2 * self.num_heads):
            raise ValueError(
                "A head needs an even number of the dimensions of a token. Received: "
                f"num_heads={self.num_heads}, tokens of length {dim}."
            )
        self.size = dim // self.num_heads
        policy = self.dtype_policy
        layers = keras.layers
        self.attention_norm = layers.LayerNormalization(
            epsilon=1e-6, dtype=policy, name="attention_norm"
        )
        self.mlp_norm = layers.LayerNormalization(
            epsilon=1e-6, dtype=policy, name="mlp_norm"
        )
        self.queries, self.keys, self.values, self.merge, self.contract = (
            layers.Dense(dim, dtype=policy, name=name)
            for name in ("queries", "keys", "values", "merge", "contract")
        )
        self.expand = layers.Dense(
            self.mlp_dim, activation="relu", dtype=policy, name="expand"
        )
        self.attention_dropout, self.mlp_dropout, self.out_dropout = (
            layers.Dropout(self.dropout, dtype=policy, name=name)
            for name in ("attention_dropout", "mlp_dropout", "out_dropout")
        )
        for layer in (self.attention_norm, self.mlp_norm, self.expand, self.merge):
            layer.build(input_shape)
        for layer in (self.queries, self.keys, self.values):
            layer.build(input_shape)
        self.contract.build((*input_shape[:-1], self.mlp_dim))
        self.frequencies = (10000.0 ** (-np.arange(0, self.size, 2) / self.size)).astype(
            "float32"
        )

    def call(self, tokens, training=None):
        count = ops.shape(tokens)[1]
        places = ops.arange(count, dtype="float32")
        looked = self.attention_norm(tokens)
        keys, values = self._look(looked, places)
        looked = self._attend(looked, places, keys, values, self._window(places))
        return self._think(tokens, looked, training)

    def step(self, tokens, cache):
        """Take one token `(batch, 1, dim)` and a cache; return token and cache."""
        keys, values, count = cache
        looked = self.attention_norm(tokens)
        key, value = self._look(looked, count)
        keys = ops.concatenate([keys[:, 1:], key], axis=1)
        values = ops.concatenate([values[:, 1:], value], axis=1)
        age = self.window - 1.0 - ops.arange(self.window, dtype="float32")
        mask = (age[None] <= count)[:, None, None]
        looked = self._attend(looked, count, keys, values, mask)
        return self._think(tokens, looked, False), [keys, values, count + 1.0]

    def cache_shapes(self, input_shape):
        """Return the shape of each array of the cache, without batch."""
        entry = (self.window, self.num_heads, self.size)
        return [entry, entry, (1,)]

    def _look(self, tokens, places):
        shape = (-1, ops.shape(tokens)[1], self.num_heads, self.size)
        keys = self._rotate(ops.reshape(self.keys(tokens), shape), places)
        return keys, ops.reshape(self.values(tokens), shape)

    def attention_weights(self, tokens, attention_mask=None):
        """Return how much each token looks at each: `(batch, heads, lines, lines)`.

        `attention_mask` changes nothing: a token looks back only, lost lines included.
        """
        looked = self.attention_norm(ops.convert_to_tensor(tokens))
        places = ops.arange(ops.shape(looked)[1], dtype="float32")
        keys, _ = self._look(looked, places)
        return self._weigh(looked, places, keys, self._window(places))

    def _window(self, places):
        distance = places[:, None] - places[None]
        return ((distance >= 0) & (distance < self.window))[None, None]

    def _weigh(self, tokens, places, keys, mask):
        shape = (-1, ops.shape(tokens)[1], self.num_heads, self.size)
        queries = self._rotate(ops.reshape(self.queries(tokens), shape), places)
        scores = ops.einsum("bqhd,bkhd->bhqk", queries, keys) / self.size**0.5
        scores = ops.where(mask, ops.cast(scores, "float32"), -1e9)
        # Keras' own softmax warns where a token sees but itself
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        return weights / ops.sum(weights, axis=-1, keepdims=True)

    def _attend(self, tokens, places, keys, values, mask):
        count, dim = ops.shape(tokens)[1], tokens.shape[2]
        weights = ops.cast(self._weigh(tokens, places, keys, mask), values.dtype)
        looked = ops.einsum("bhqk,bkhd->bqhd", weights, values)
        return self.merge(ops.reshape(looked, (-1, count, dim)))

    def _think(self, tokens, looked, training):
        tokens = tokens + self.attention_dropout(looked, training=training)
        thought = self.expand(self.mlp_norm(tokens))
        thought = self.contract(self.mlp_dropout(thought, training=training))
        return tokens + self.out_dropout(thought, training=training)

    def _rotate(self, heads, places):
        """Turn pairs of dimensions by an angle that grows with the place.

        `places` is `(tokens,)`, or `(batch, 1)` for one token of each scan.
        """
        angles = places[..., None] * ops.convert_to_tensor(self.frequencies)
        if len(angles.shape) == 2:
            angles = angles[None]
        angles = angles[:, :, None]
        cosine = ops.cast(ops.cos(angles), heads.dtype)
        sine = ops.cast(ops.sin(angles), heads.dtype)
        left, right = ops.split(heads, 2, axis=-1)
        return ops.concatenate(
            [left * cosine - right * sine, right * cosine + left * sine], axis=-1
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        names = ("num_heads", "mlp_dim", "window", "dropout")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="stm_keras")
class EncoderBlock(keras.layers.Layer):
    """Let tokens look at each other, then think about each alone.

    Normalised before attention and before the MLP, added after each. Dropout is on
    the two branches and inside the MLP, not on the attention weights: with it Keras
    would give up the fused attention kernels.

    Args:
        num_heads: int. Attention heads; must divide the length of a token.
        mlp_dim: int. Width of the hidden layer.
        dropout: float. Rate.
        **kwargs: Passed on to `keras.layers.Layer`.

    Call arguments:
        tokens: float tensor of shape `(batch, tokens, dim)`.
        attention_mask: bool tensor of shape `(batch, 1, tokens)` or
            `(batch, tokens, tokens)`, True where a token may look.

    Returns:
        float tensor of shape `(batch, tokens, dim)`.

    Reference:
        Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929, eq. 2 and 3.
    """

    def __init__(self, num_heads, mlp_dim, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.mlp_dim = mlp_dim
        self.dropout = dropout

    def build(self, input_shape):
        dim = input_shape[-1]
        if dim % self.num_heads:
            raise ValueError(
                "`num_heads` must divide the length of a token. Received: "
                f"num_heads={self.num_heads}, tokens of length {dim}."
            )
        policy = self.dtype_policy
        layers = keras.layers
        self.attention_norm = layers.LayerNormalization(
            epsilon=1e-6, dtype=policy, name="attention_norm"
        )
        self.attention = layers.MultiHeadAttention(
            self.num_heads, dim // self.num_heads, dtype=policy, name="attention"
        )
        self.mlp_norm = layers.LayerNormalization(
            epsilon=1e-6, dtype=policy, name="mlp_norm"
        )
        self.expand = layers.Dense(
            self.mlp_dim, activation="gelu", dtype=policy, name="expand"
        )
        self.contract = layers.Dense(dim, dtype=policy, name="contract")
        self.attention_dropout, self.mlp_dropout, self.out_dropout = (
            layers.Dropout(self.dropout, dtype=policy, name=name)
            for name in ("attention_dropout", "mlp_dropout", "out_dropout")
        )
        hidden_shape = (*input_shape[:-1], self.mlp_dim)
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.mlp_norm.build(input_shape)
        self.expand.build(input_shape)
        self.contract.build(hidden_shape)

    def call(self, tokens, attention_mask=None, training=None):
        looked = self.attention_norm(tokens)
        looked = self.attention(
            looked, looked, attention_mask=attention_mask, training=training
        )
        tokens = tokens + self.attention_dropout(looked, training=training)
        thought = self.expand(self.mlp_norm(tokens))
        thought = self.contract(self.mlp_dropout(thought, training=training))
        return tokens + self.out_dropout(thought, training=training)

    def attention_weights(self, tokens, attention_mask=None):
        """Return how much each token looks at each: `(batch, heads, tokens, tokens)`."""
        looked = self.attention_norm(keras.ops.convert_to_tensor(tokens))
        return self.attention(
            looked, looked, attention_mask=attention_mask, return_attention_scores=True
        )[1]

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "mlp_dim": self.mlp_dim,
            "dropout": self.dropout,
        }
