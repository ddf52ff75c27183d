"""A vision transformer whose tokens are scan lines."""

import keras

from stm_keras import layers as own
from stm_keras.models.sequential import latest_lines, read_lattice, read_spectra
from stm_keras.trees.features import highest_of


def vit(
    num_classes,
    pixels=128,
    max_lines=128,
    tokenizer="linear",
    positions="learned",
    layers=6,
    heads=8,
    dim=256,
    mlp_dim=1024,
    dropout=0.1,
):
    """Build the scanline ViT: it classifies a scan, complete or partial.

    With the defaults and four classes it is the predecessor's network of 4,806,404
    weights.

    Dropout is after the positions and in the blocks. `tokenizer` is a stem of
    `ScanlineTokenizer`, or "sequential": what `sequential` makes of lines before its GRU,
    in layers of the same names, so that `train.init` gives them what those were taught.
    Lines are then those of `scale_lines`.

    Returns:
        A functional `keras.Model` from float tensor `(batch, lines, pixels)`, with
        1 to `max_lines` lines, to logits of shape `(batch, num_classes)` in float32.

    Reference:
        Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929.
    """
    # === Layers ===
    blocks = [
        own.EncoderBlock(heads, mlp_dim, dropout, name=f"block_{index}")
        for index in range(layers)
    ]
    head = keras.layers.Dense(num_classes, dtype="float32", name="logits")

    # === Functional model ===
    lines = keras.Input((None, pixels), name="lines")
    mask = own.RecordedLines(extra=1, name="recorded")(lines)
    if tokenizer == "sequential":
        tokens = _sequential_tokens(lines, dim)
    else:
        bins = round(highest_of(pixels))
        tokens = own.ScanlineTokenizer(dim, tokenizer, bins, name="tokenizer")(lines)
    tokens = own.ClassToken(name="class_token")(tokens)
    tokens = own.Positions(max_lines + 1, positions, name="positions")(tokens)
    tokens = keras.layers.Dropout(dropout, name="token_dropout")(tokens)
    for block in blocks:
        tokens = block(tokens, attention_mask=mask)
    tokens = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(tokens)
    return keras.Model(lines, head(tokens[:, 0]), name="vit")


def _sequential_tokens(lines, dim):
    """Make a token of each line, of those just before it, and of what is periodic so far."""
    channels = own.LineChannels(name="channels")(lines)
    highest = highest_of(lines.shape[-1])
    harmonics = own.RunningLattice(highest=highest, name="lattice")(lines)
    parts = [latest_lines(channels), read_spectra(lines), read_lattice(harmonics)]
    gathered = keras.layers.Concatenate(name="gather")(parts)
    return keras.layers.Dense(dim, name="tokenizer")(gathered)
