"""One pre-norm transformer block."""

import keras


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
