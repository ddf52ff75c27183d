"""The baseline that streams: a CNN over a rolling window of lines, and an LSTM over windows."""

import keras

from stm_keras.layers.windows import HoldAnswers, RollingWindows, WindowSequences
from stm_keras.models.cnn import vgg_features


def lrcn(
    num_classes,
    pixels=128,
    max_lines=128,
    window=20,
    stride=1,
    width=32,
    units=256,
    dropout=0.2,
):
    """Build the LRCN of Gordon et al., 2020: an answer after every line.

    Every window of `window` lines goes through the CNN of the full scan, and an LSTM
    remembers what the windows before it showed. Before there are as many lines, the
    window is filled up with 0 on top. All windows of a batch go through the CNN as
    one larger batch. Neighbours share most of their lines but no convolution: each is
    padded at the rim of its own window, and the strides fall on other lines.

    Between two windows the answer is held: a `stride` of 4 costs a quarter of the paper's 1.
    Any number of lines may come, whatever `max_lines`.

    Returns:
        A functional `keras.Model` from float tensor `(batch, lines, pixels)` to a dict
        with `state`: logits of shape `(batch, lines, num_classes)` in float32. The
        answer at a line depends on that line and earlier ones.

    Reference:
        Gordon et al., 2020, https://arxiv.org/abs/1907.13401.
    """
    layers = keras.layers
    lines = keras.Input((None, pixels), name="lines")
    windows = RollingWindows(window, stride, name="windows")(lines)
    features = vgg_features(windows, width)
    features = WindowSequences(name="sequences")(features, lines)
    features = layers.LSTM(units, return_sequences=True, name="lstm")(features)
    features = layers.Dropout(dropout, name="dropout")(features)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(features)
    logits = HoldAnswers(stride, dtype="float32", name="state")(logits, lines)
    return keras.Model(lines, {"state": logits}, name="lrcn")
