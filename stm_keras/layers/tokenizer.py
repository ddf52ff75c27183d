"""Turn scan lines into tokens: one token per line."""

import keras
from keras import ops

from stm_keras.layers.spectra import RunningSpectra

STEMS = ("linear", "conv", "spectra")
CONV_STEM = ((32, 7), (64, 3), (128, 3))  # filters and kernel, each with stride 2


@keras.saving.register_keras_serializable(package="stm_keras")
class ScanlineTokenizer(keras.layers.Layer):
    """Embed each scan line as one token.

    A line is one token because the tip scans it in one sweep: between two lines it
    may change, within one it hardly does.

    Args:
        dim: int. Length of a token.
        stem: str. "linear" is one dense projection of the pixels. "conv" is three
            1-D convolutions along the line (kernel 7 with 32 filters, 3 with 64,
            3 with 128, stride 2, GELU), averaged over the line, and a dense
            projection: it finds a lattice wherever on the line it begins. Both
            see that line alone. "spectra" is one dense projection of the pixels and of
            what is periodic in the lines so far (`RunningSpectra`, batch-normalised):
            it finds a lattice across lines too, for less work than the convolutions.
        bins: int. Spatial frequencies of `RunningSpectra`.

    Call arguments:
        lines: float tensor of shape `(batch, lines, pixels)`. Heights, each line of
            mean 0 and standard deviation 1.

    Returns:
        float tensor of shape `(batch, lines, dim)`.

    Reference:
        Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929, eq. 1, with lines
        for patches.
    """

    def __init__(self, dim, stem="linear", bins=48, **kwargs):
        super().__init__(**kwargs)
        if dim < 1:
            raise ValueError(f"`dim` must be positive. Received: dim={dim}.")
        if stem not in STEMS:
            known = ", ".join(f'"{name}"' for name in STEMS)
            raise ValueError(f"`stem` must be one of {known}. Received: stem={stem}.")
        self.dim = dim
        self.stem = stem
        self.bins = bins
        self.convolutions = [
            keras.layers.Conv1D(
                filters,
                kernel,
                strides=2,
                padding="same",
                activation="gelu",
                data_format="channels_last",
                dtype=self.dtype_policy,
                name=f"conv_{index}",
            )
            for index, (filters, kernel) in enumerate(CONV_STEM if stem == "conv" else ())
        ]
        if stem == "spectra":
            self.spectra = RunningSpectra(bins, name="spectra")
            self.norm = keras.layers.BatchNormalization(
                momentum=0.95, dtype="float32", name="norm_spectra"
            )
        self.project = keras.layers.Dense(dim, dtype=self.dtype_policy, name="project")

    def build(self, input_shape):
        pixels = input_shape[-1]
        shape = input_shape
        if self.stem == "spectra":
            self.spectra.build(input_shape)
            shape = self.spectra.compute_output_shape(input_shape)
            self.norm.build(shape)
            shape = (*shape[:-1], pixels + shape[-1])
        elif self.stem == "conv":
            shape = (None, pixels, 1)
            for layer in self.convolutions:
                layer.build(shape)
                shape = layer.compute_output_shape(shape)
        self.project.build(shape)

    def call(self, lines, training=None):
        if self.stem == "spectra":
            periodic = self.norm(self.spectra(lines), training=training)
            lines = ops.concatenate([lines, ops.cast(periodic, lines.dtype)], axis=-1)
        elif self.stem == "conv":
            batch, count, pixels = ops.shape(lines)
            features = ops.reshape(lines, (-1, pixels, 1))
            for layer in self.convolutions:
                features = layer(features)
            tokens = self.project(ops.mean(features, axis=1))
            return ops.reshape(tokens, (batch, count, self.dim))
        return self.project(lines)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.dim)

    def get_config(self):
        own = {"dim": self.dim, "stem": self.stem, "bins": self.bins}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="stm_keras")
class RecordedLines(keras.layers.Layer):
    """Mask the tokens that may be attended to: those of lines that were recorded.

    A line that was not recorded, was lost or is constant comes as zeros. No token
    attends to it, so an aborted scan gives the same answer with and without padding.

    Args:
        extra: int. Tokens before the lines (the class token), always attended to.

    Call arguments:
        lines: float tensor of shape `(batch, lines, pixels)`.

    Returns:
        bool tensor of shape `(batch, 1, extra + lines)`, an attention mask for
        every query.
    """

    def __init__(self, extra=1, **kwargs):
        super().__init__(**kwargs)
        if extra < 0:
            raise ValueError(f"`extra` must not be negative. Received: extra={extra}.")
        self.extra = extra

    def call(self, lines):
        recorded = ops.any(ops.not_equal(lines, 0), axis=-1)
        before = ops.ones((ops.shape(lines)[0], self.extra), dtype="bool")
        return ops.concatenate([before, recorded], axis=1)[:, None, :]

    def compute_output_spec(self, lines):
        batch, count = lines.shape[:2]
        total = None if count is None else count + self.extra
        return keras.KerasTensor((batch, 1, total), dtype="bool")

    def get_config(self):
        return {**super().get_config(), "extra": self.extra}
