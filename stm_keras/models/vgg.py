"""The full-scan network of Gordon et al., 2020: a small VGG."""

import keras


def vgg_features(scans, width=32):
    """Find features in scans, or in windows of some of their lines.

    Three pairs of 3x3 convolutions with `width`, 2 and 4 times as many filters, each
    pair followed by max-pooling; the first convolution is 7x7 with stride 2. The
    paper's text at hand does not say how its feature maps become one vector: here they
    are averaged, so that any number of lines may come.

    Args:
        scans: symbolic float tensor of shape `(batch, lines, pixels)`.
        width: int. Filters of the first pair.

    Returns:
        symbolic float tensor of shape `(batch, 4 * width)`.

    Reference:
        Gordon et al., 2020, https://arxiv.org/abs/1907.13401.
    """
    layers = keras.layers
    features = scans[..., None]
    for index in range(6):
        features = layers.Conv2D(
            width * 2 ** (index // 2),
            3 if index else 7,
            strides=1 if index else 2,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            data_format="channels_last",
            name=f"conv_{index}",
        )(features)
        if index % 2:
            features = layers.MaxPooling2D(
                2, padding="same", data_format="channels_last", name=f"pool_{index // 2}"
            )(features)
    return layers.GlobalAveragePooling2D(data_format="channels_last", name="mean")(features)


def cnn(num_classes, pixels=128, max_lines=128, width=32, dropout=0.2):
    """Build the full-scan CNN of Gordon et al., 2020.

    Args:
        num_classes: int. Classes.
        pixels: int. Pixels of a line.
        max_lines: int. The most lines of a scan; any number may come.
        width: int. Filters of the first pair of convolutions.
        dropout: float. Rate before the last layer.

    Returns:
        A functional `keras.Model` from float tensor `(batch, lines, pixels)` to logits
        of shape `(batch, num_classes)` in float32.

    Reference:
        Gordon et al., 2020, https://arxiv.org/abs/1907.13401.
    """
    lines = keras.Input((None, pixels), name="lines")
    features = vgg_features(lines, width)
    features = keras.layers.Dropout(dropout, name="dropout")(features)
    logits = keras.layers.Dense(num_classes, dtype="float32", name="logits")(features)
    return keras.Model(lines, logits, name="cnn")
