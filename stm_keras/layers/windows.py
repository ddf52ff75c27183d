"""Windows that roll over the lines of a scan."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="stm_keras")
class RollingWindows(keras.layers.Layer):
    """Cut a scan into windows of its latest lines, all of them one batch.

    A window ends at a line and holds that line and the ones before it. What lies
    before the first line is 0, so there is a window from the first line on. With a
    stride, windows end at lines `stride - 1`, `2 * stride - 1` and so on, and before
    them at line 0.

    Args:
        window: int. Lines of a window.
        stride: int. Lines from one window to the next.

    Call arguments:
        lines: float tensor of shape `(batch, lines, pixels)`.

    Returns:
        float tensor of shape `(batch * windows, window, pixels)`, where `windows` is
        `lines`, or with a stride `1 + lines // stride`.

    Reference:
        Gordon et al., 2020, https://arxiv.org/abs/1907.13401.
    """

    def __init__(self, window=20, stride=1, **kwargs):
        super().__init__(**kwargs)
        if window < 1:
            raise ValueError(f"`window` must be positive. Received: window={window}.")
        _check_stride(stride)
        self.window = window
        self.stride = stride

    def call(self, lines):
        padded = ops.pad(lines, ((0, 0), (self.window - 1, 0), (0, 0)))
        # line k of every window: the padded lines from k on, as many as there are windows
        first = self.stride - 1
        columns = [
            padded[:, k + first : (k + 1 - self.window) or None : self.stride]
            for k in range(self.window)
        ]
        windows = ops.stack(columns, axis=2)  # (batch, windows, window, pixels)
        if self.stride > 1:
            windows = ops.concatenate([padded[:, None, : self.window], windows], axis=1)
        return ops.reshape(windows, (-1, self.window, lines.shape[2]))

    def compute_output_shape(self, input_shape):
        batch, count, pixels = input_shape
        windows = None
        if batch is not None and count is not None:
            windows = batch * (count if self.stride == 1 else 1 + count // self.stride)
        return (windows, self.window, pixels)

    def get_config(self):
        return {**super().get_config(), "window": self.window, "stride": self.stride}


@keras.saving.register_keras_serializable(package="stm_keras")
class WindowSequences(keras.layers.Layer):
    """Put the features of `RollingWindows` back in the order of their scans.

    Call arguments:
        features: float tensor of shape `(batch * windows, dim)`.
        lines: float tensor of shape `(batch, lines, pixels)`, the scans.

    Returns:
        float tensor of shape `(batch, windows, dim)`.
    """

    def build(self, features_shape, lines_shape):
        pass

    def call(self, features, lines):
        return ops.reshape(features, (ops.shape(lines)[0], -1, features.shape[-1]))

    def compute_output_shape(self, features_shape, lines_shape):
        batch, windows = lines_shape[0], None
        if batch is not None and features_shape[0] is not None:
            windows = features_shape[0] // batch
        return (batch, windows, features_shape[-1])


@keras.saving.register_keras_serializable(package="stm_keras")
class HoldAnswers(keras.layers.Layer):
    """Give every line the answer of the latest window that has ended.

    Args:
        stride: int. That of `RollingWindows`.

    Call arguments:
        answers: float tensor of shape `(batch, windows, dim)`.
        lines: float tensor of shape `(batch, lines, pixels)`, the scans.

    Returns:
        float tensor of shape `(batch, lines, dim)`.
    """

    def __init__(self, stride=1, **kwargs):
        super().__init__(**kwargs)
        _check_stride(stride)
        self.stride = stride

    def build(self, answers_shape, lines_shape):
        pass

    def call(self, answers, lines):
        if self.stride == 1:
            return answers
        held = ops.repeat(answers, self.stride, axis=1)
        return held[:, 1 : ops.shape(lines)[1] + 1]

    def compute_output_shape(self, answers_shape, lines_shape):
        return (*lines_shape[:2], answers_shape[-1])

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


def _check_stride(stride):
    if stride < 1:
        raise ValueError(f"`stride` must be positive. Received: stride={stride}.")
