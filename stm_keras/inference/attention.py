"""Which lines a transformer looks at when it gives its last word."""

import numpy as np

from stm_keras.backend import predict

BLOCKS = ("EncoderBlock", "CausalBlock")


def line_attention(predictor, images):
    """Follow the attention of a transformer from its last word down to the lines.

    The attention of each block is averaged over its heads, half of every token is taken
    to stay what it was (the residual), and the blocks are multiplied: attention rollout.

    Args:
        predictor: A `Predictor`.
        images: array of shape `(scans, lines, pixels)`. Heights.

    Returns:
        float array of shape `(scans, lines)` that sums to 1 over the lines, or None for
        a model without attention.

    Reference:
        Abnar & Zuidema, 2020, https://arxiv.org/abs/2005.00928, section 3.
    """
    import keras

    network = predictor.model
    blocks = [layer for layer in network.layers if type(layer).__name__ in BLOCKS]
    if not blocks:
        return None
    inputs = predictor.prepare(images)
    before = keras.Model(network.input, [_tokens_of(block) for block in blocks])
    tokens = predict(before, inputs, 16)
    tokens = tokens if isinstance(tokens, list) else [tokens]
    rolled = np.eye(tokens[0].shape[1])[None]
    mask = _recorded(inputs, tokens[0].shape[1])
    for block, each in zip(blocks, tokens, strict=True):
        weights = keras.ops.convert_to_numpy(block.attention_weights(each, mask)).mean(1)
        rolled = (0.5 * weights + 0.5 * np.eye(weights.shape[1])) @ rolled
    if predictor.every_line:
        last = rolled[:, -1]
    else:
        last = rolled[:, 0, 1:]  # what the class token gathered
    return last / last.sum(1, keepdims=True)


def _tokens_of(block):
    """Return the symbolic tokens that go into a block; a mask may be its second input."""
    given = block.input
    return given[0] if isinstance(given, list | tuple) else given


def _recorded(inputs, tokens):
    """Tell which tokens stand for recorded lines: bool `(scans, 1, tokens)`."""
    there = inputs.any(-1)
    extra = np.ones((len(inputs), tokens - there.shape[1]), bool)
    return np.concatenate([extra, there], axis=1)[:, None]
