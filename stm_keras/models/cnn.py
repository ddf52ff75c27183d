"""Convolutional networks over the whole scan: a small one, and that of Gordon et al."""

import keras


def cnn_small(num_classes, pixels=128, max_lines=128, width=16, dropout=0.2):
    """Build a small full-scan CNN: it sees the lattice in two dimensions at once.

    Five convolutions with batch normalisation, three of them with stride 2, are
    averaged over the scan, and have `width`, 2 and 4 times as many filters. Any number of
    lines may come, whatever `max_lines`: the average is over those there are.

    Returns:
        A functional `keras.Model` from float tensor `(batch, lines, pixels)` to logits
        of shape `(batch, num_classes)` in float32.
    """
    layers = keras.layers
    lines = keras.Input((None, pixels), name="lines")
    features = lines[..., None]
    stem = [(1, 7, 2), (2, 3, 2), (2, 3, 1), (4, 3, 2), (4, 3, 1)]
    for index, (filters, kernel, stride) in enumerate(stem):
        features = layers.Conv2D(
            filters * width,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            name=f"conv_{index}",
        )(features)
        norm = layers.BatchNormalization(axis=-1, momentum=0.9, name=f"norm_{index}")
        features = norm(features)
        features = layers.Activation("relu", name=f"relu_{index}")(features)
    mean = layers.GlobalAveragePooling2D(data_format="channels_last", name="mean")(features)
    largest = layers.GlobalMaxPooling2D(data_format="channels_last", name="max")(features)
    features = layers.Concatenate(name="pooled")([mean, largest])
    features = layers.Dropout(dropout, name="dropout")(features)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(features)
    return keras.Model(lines, logits, name="cnn_small")


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

    Any number of lines may come, whatever `max_lines`.

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
