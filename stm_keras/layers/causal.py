"""Layers that look back over lines only, each for a whole scan and for one line at a time.

Beside `call`, which takes all lines of a scan, a layer that looks back has

    step(line, cache) -> (output, cache)    line, output: (batch, 1, ...)
    cache_shapes(input_shape) -> shapes     of the arrays of the cache, without batch

so that the loop over lines equals the call. The first cache is all 0, and has the same size
at every line. A layer without them acts on each line alone.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="stm_keras")
class LineChannels(keras.layers.Layer):
    """Show each line in three ways: its shape, its height among the lines so far, its scale.

    A line alone is best seen at standard deviation 1. But a tip change, a crash or a
    tall feature shows in how large a line is beside those before it, which that hides.

    Args:
        limit: float. Heights are clipped at so many running scales.

    Call arguments:
        lines: float tensor of shape `(batch, lines, pixels)`, as of
            `stm_keras.data.preprocess.scale_lines`.

    Returns:
        float tensor of shape `(batch, lines, pixels, 3)`. A line of 0 stays 0.
    """

    def __init__(self, limit=4.0, **kwargs):
        super().__init__(**kwargs)
        self.limit = limit

    def call(self, lines):
        shape, scale = unit_lines(lines)
        height = ops.clip(lines, -self.limit, self.limit)
        size = ops.broadcast_to(ops.clip(ops.log(scale), -3.0, 3.0), ops.shape(lines))
        return ops.stack([shape, height, size], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape, 3)

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}


def unit_lines(lines):
    """Scale each line to mean square 1; return it and its scale `(batch, lines, 1)`.

    A lost line, which is all 0, stays 0 and has scale 1.
    """
    square = ops.mean(ops.square(lines), axis=-1, keepdims=True)
    recorded = square > 1e-10
    scale = ops.sqrt(ops.where(recorded, square, 1.0))
    return ops.where(recorded, lines / scale, 0.0), scale


@keras.saving.register_keras_serializable(package="stm_keras")
class CausalConv(keras.layers.Layer):
    """Convolve along the line, over this line and some before it.

    The taps over lines are put side by side as channels of one convolution along the
    line: the same as a dilated 2-D kernel, which Keras refuses together with a stride.
    Where there are many lines, that convolution is a product of matrices: with so few
    channels processors convolve at a tenth of the speed at which they multiply.

    Args:
        filters: int.
        kernel: int. Width along the line, in pixels.
        taps: int. Lines that the kernel spans, this one included.
        dilation: int. Lines from one tap to the next.
        stride: int. Along the line.

    Call arguments:
        features: float tensor of shape `(batch, lines, pixels, channels)`. Before the
            first line there is 0.

    Returns:
        float tensor of shape `(batch, lines, ceil(pixels / stride), filters)`.

    Reference:
        van den Oord et al., 2016, https://arxiv.org/abs/1609.03499, section 2.1.
    """

    def __init__(self, filters, kernel=3, taps=3, dilation=1, stride=1, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel = kernel
        self.taps = taps
        self.dilation = dilation
        self.stride = stride
        self.lag = (taps - 1) * dilation
        self.convolution = keras.layers.Conv1D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            use_bias=False,
            data_format="channels_last",
            kernel_initializer="he_normal",
            dtype=self.dtype_policy,
            name="convolution",
        )

    def build(self, input_shape):
        self.size = pixels, channels = input_shape[2:]  # TensorFlow's graphs lose them
        self.convolution.build((None, pixels, channels * self.taps))

    def call(self, features):
        count, (pixels, channels) = ops.shape(features)[1], self.size
        stride, out = self.stride, -(-pixels // self.stride)
        # `stride` pixels are a row; a kernel sees some rows, and a part of the last
        rows = -(-self.kernel // stride)
        left = max((out - 1) * stride + self.kernel - pixels, 0) // 2  # as padding="same"
        width = (out + rows - 1) * stride
        before = [[0, 0], [self.lag, 0], [left, max(width - pixels - left, 0)], [0, 0]]
        seen = ops.pad(features, before)[:, :, :width]
        seen = ops.reshape(seen, (-1, count + self.lag, out + rows - 1, stride * channels))
        parts = [
            seen[:, tap * self.dilation : tap * self.dilation + count, row : row + out]
            for tap in range(self.taps)
            for row in range(rows)
        ]
        rest = channels * (self.kernel - (rows - 1) * stride)
        parts = [p[..., :rest] if (n + 1) % rows == 0 else p for n, p in enumerate(parts)]
        kernel = ops.reshape(
            self.convolution.kernel, (self.kernel, self.taps, channels, self.filters)
        )
        kernel = ops.reshape(ops.transpose(kernel, (1, 0, 2, 3)), (-1, self.filters))
        out = ops.matmul(ops.concatenate(parts, axis=-1), kernel)
        return ops.cast(out, self.compute_dtype)

    def step(self, features, cache):
        # (batch, lag + 1, pixels, channels): the lines before and this one
        seen = ops.concatenate([cache[0], features], axis=1)
        # tap t of the line is line t * dilation of `seen`; the last tap is the line itself
        taps = ops.concatenate(
            [seen[:, t * self.dilation : t * self.dilation + 1] for t in range(self.taps)],
            axis=-1,
        )  # (batch, 1, pixels, channels * taps)
        out = self.convolution(ops.reshape(taps, (-1, *taps.shape[2:])))
        return out[:, None], [seen[:, 1:]]

    def cache_shapes(self, input_shape):
        return [(self.lag, *input_shape[2:])]

    def compute_output_shape(self, input_shape):
        batch, lines, pixels, _ = input_shape
        return (batch, lines, -(-pixels // self.stride), self.filters)

    def get_config(self):
        names = ("filters", "kernel", "taps", "dilation", "stride")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package="stm_keras")
class LineSummary(keras.layers.Layer):
    """Sum a line up wherever on it something stands: mean and largest of each channel.

    Call arguments:
        features: float tensor of shape `(batch, lines, pixels, channels)`.

    Returns:
        float tensor of shape `(batch, lines, 2 * channels)`.
    """

    def call(self, features):
        mean, largest = ops.mean(features, axis=2), ops.max(features, axis=2)
        return ops.concatenate([mean, largest], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:2], 2 * input_shape[3])


@keras.saving.register_keras_serializable(package="stm_keras")
class RunningMean(keras.layers.Layer):
    """Average all tokens so far: what the scan shows as a whole.

    Call arguments:
        tokens: float tensor of shape `(batch, lines, dim)`.

    Returns:
        float tensor of the same shape.
    """

    def call(self, tokens):
        total = ops.cumsum(ops.cast(tokens, "float32"), axis=1)
        count = ops.cumsum(ops.ones_like(total[:1, :, :1]), axis=1)
        return ops.cast(total / count, tokens.dtype)

    def step(self, tokens, cache):
        total, count = cache[0] + tokens, cache[1] + 1.0
        return total / count, [total, count]

    def cache_shapes(self, input_shape):
        return [(1, input_shape[-1]), (1, 1)]

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="stm_keras")
class Recurrent(keras.layers.Layer):
    """A GRU over lines.

    Args:
        units: int.

    Call arguments:
        tokens: float tensor of shape `(batch, lines, dim)`.

    Returns:
        float tensor of shape `(batch, lines, units)`, the state after each line.

    Reference:
        Cho et al., 2014, https://arxiv.org/abs/1406.1078, section 2.3.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.gru = keras.layers.GRU(
            units, return_sequences=True, dtype=self.dtype_policy, name="gru"
        )

    def build(self, input_shape):
        self.gru.build(input_shape)

    def call(self, tokens):
        return self.gru(tokens)

    def step(self, tokens, cache):
        state, _ = self.gru.cell(tokens[:, 0], [cache[0]])
        return state[:, None], [state]

    def cache_shapes(self, input_shape):
        return [(self.units,)]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="stm_keras")
class LineWindow(keras.layers.Layer):
    """Put the latest tokens side by side: what came just before, to compare with.

    Args:
        window: int. Tokens, this one included.

    Call arguments:
        tokens: float tensor of shape `(batch, lines, dim)`. Before the first there is 0.

    Returns:
        float tensor of shape `(batch, lines, window * dim)`, the oldest token first.
    """

    def __init__(self, window, **kwargs):
        super().__init__(**kwargs)
        if window < 1:
            raise ValueError(f"`window` must be positive. Received: window={window}.")
        self.window = window

    def call(self, tokens):
        seen = ops.pad(tokens, [[0, 0], [self.window - 1, 0], [0, 0]])
        count = ops.shape(tokens)[1]
        before = [seen[:, k : k + count] for k in range(self.window)]
        return ops.concatenate(before, axis=-1)

    def step(self, tokens, cache):
        # (batch, window, dim), the oldest first
        seen = ops.concatenate([cache[0], tokens], axis=1)
        side_by_side = ops.reshape(seen, (-1, 1, self.window * tokens.shape[-1]))
        return side_by_side, [seen[:, 1:]]

    def cache_shapes(self, input_shape):
        return [(self.window - 1, input_shape[-1])]

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.window * input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "window": self.window}
