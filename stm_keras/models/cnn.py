"""A small convolutional network over the whole scan, quick to train on a processor."""

import keras


def cnn_small(num_classes, pixels=128, max_lines=128, width=16, dropout=0.2):
    """Build a small full-scan CNN: it sees the lattice in two dimensions at once.

    Five convolutions with batch normalisation, three of them with stride 2, are
    averaged over the scan. A scan may end early: the average is over what there is.

    Args:
        num_classes: int. Classes.
        pixels: int. Pixels of a line.
        max_lines: int. The most lines of a scan; any number may come.
        width: int. Filters of the first convolution; later ones have 2 and 4 times as
            many.
        dropout: float. Rate before the last layer.

    Returns:
        A functional `keras.Model` from float tensor `(batch, lines, pixels)` to logits
        of shape `(batch, num_classes)` in float32.
    """
    layers = keras.layers
    lines = keras.Input((None, pixels), name="lines")
    features = lines[..., None]
    for index, (filters, kernel, stride) in enumerate(
        [(1, 7, 2), (2, 3, 2), (2, 3, 1), (4, 3, 2), (4, 3, 1)]
    ):
        features = layers.Conv2D(
            filters * width,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            name=f"conv_{index}",
        )(features)
        features = layers.BatchNormalization(axis=-1, momentum=0.9, name=f"norm_{index}")(
            features
        )
        features = layers.Activation("relu", name=f"relu_{index}")(features)
    mean = layers.GlobalAveragePooling2D(data_format="channels_last", name="mean")(features)
    largest = layers.GlobalMaxPooling2D(data_format="channels_last", name="max")(features)
    features = layers.Concatenate(name="pooled")([mean, largest])
    features = layers.Dropout(dropout, name="dropout")(features)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(features)
    return keras.Model(lines, logits, name="cnn_small")
