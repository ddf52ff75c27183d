"""All lines of scans at once as an ONNX graph: the answers of the step, in one pass.

The layers are those of `onnx_layers`; here is what a graph of all lines has in place of caches,
and the few layers that it writes in another way. Tokens are `(scans, lines, dim)`, features of
convolutions `(scans, channels, lines, pixels)`.
"""

import numpy as np

from stm_keras.export import onnx_layers
from stm_keras.export.onnx_graph import Graph, write_layers
from stm_keras.models.step import chain

EVERY_LINE = "change"  # the head that tells of each line, not of the scan so far
FLOAT, INT64 = 1, 7  # types of ONNX


def whole_graph(model, lines):
    """Write all lines of scans as ONNX.

    Layers that only the heads "state" and "unknown" read are computed where these are read,
    which mostly is at one line of a scan.

    Args:
        model: functional `keras.Model`, as for `step_graph`.
        lines: int. Lines of a scan; one that has fewer is filled up with 0.

    Returns:
        An `onnx.ModelProto` with inputs "lines" `(scans, lines, pixels)` and "read"
        `(scans, answers)`: after how many lines heads are read, float32 from 1 on. Outputs are
        logits of each head, `(scans, answers, outputs)`, but "change" `(scans, lines, 1)`.

    Raises:
        MismatchError, MissingExtraError: As of `step_graph`.
    """
    graph = WholeGraph(model, lines)
    entry = graph.input("lines", ("scans", lines, model.input_shape[2]))
    graph.read_at(graph.input("read", ("scans", "answers")))
    values = write_layers(graph, model, entry)
    for name, tensor in model.output.items():
        count = lines if name == EVERY_LINE else "answers"
        graph.output(values[id(tensor)], name, ("scans", count, tensor.shape[-1]))
    return graph.finish(model.name)


class WholeGraph(Graph):
    """A `Graph` of all lines of scans."""

    def __init__(self, model, lines):
        super().__init__()
        self.lines = lines
        self.everywhere = _needed_everywhere(model)
        self.reading = False  # whether the layer's output is needed at the lines read alone
        self.at_read = {}  # values at the lines that are read, by the name of those at all

    def read_at(self, read):
        """Take the numbers of lines, `(scans, answers)`, after which heads are read."""
        self.count = self.add("Unsqueeze", read, [-1])
        self.indices = self.add("Cast", self.count - 1.0, to=INT64)
        numbers = np.arange(1, self.lines + 1, dtype=np.float32)
        seen = self.add("LessOrEqual", self.constant(numbers), self.count)
        self.seen = self.add("Cast", seen, to=FLOAT)  # scans, answers, lines
        self.shape = self.add(
            "Concat", self.add("Shape", read), self.constant([-1], np.int64), axis=0
        )

    def begin(self, layer, inputs):
        """Return what a layer reads: at the lines that are read, where no others are needed."""
        self.reading = id(layer.output) not in self.everywhere
        if not self.reading or _looks_back(layer):
            return inputs
        return [
            self.read(value) if id(tensor) in self.everywhere else value
            for value, tensor in zip(inputs, _entering(layer), strict=True)
        ]

    def read(self, value):
        """Return a value, `(scans, lines, dim)`, at the lines that are read."""
        if value.name not in self.at_read:
            part = self.add("GatherND", value, self.indices, batch_dims=1)
            self.at_read[value.name] = part
        return self.at_read[value.name]

    def result(self, value):
        """Return what a layer that looks back gives of all lines where it is needed."""
        return self.read(value) if self.reading else value

    def count_lines(self):
        """Return the number of lines before each line, and with the lines that are read."""
        index = np.arange(self.lines, dtype=np.float32)[:, None]
        return index, self.count if self.reading else self.constant(index + 1)

    def running_sum(self, value, name, size, weight=None):
        seen = self.seen
        if not self.reading:
            seen = np.tril(np.ones((self.lines, self.lines), np.float32))
        if weight is not None:
            seen = self.exact(weight[:, 0]) * seen
        return self.add("MatMul", seen, value)

    def previous(self, value, name, size):
        return self.later(value, 1)

    def earlier(self, value, lags, name, size):
        parts = [self.add("Unsqueeze", self.later(value, lag), [-2]) for lag in lags]
        return self.add("Concat", *parts, axis=-2)

    def later(self, value, lag):
        """Move a value by some lines: the first get 0."""
        return self.add("Pad", value, [0, lag, 0, 0, -lag, 0])

    def beside(self, value):
        return self.add("Unsqueeze", value, [-2])

    def joined(self, value, width):
        return self.add("Reshape", value, [0, self.lines, width])

    def affine(self, value, kernel, bias=None):
        value = self.add("MatMul", value, kernel)
        return value if bias is None else value + bias

    def turn(self, index, phase):
        angle = index * phase[None]
        return self.exact(np.cos(angle)), self.exact(np.sin(angle))

    def channels(self, value, count):
        value = self.add("Reshape", value, [0, 0, count, -1])
        return self.add("Transpose", value, perm=[0, 2, 1, 3])

    def tokens(self, value):
        return self.result(self.add("Transpose", value, perm=[0, 2, 1]))

    def columns(self, value):
        value = self.add("Transpose", value, perm=[2, 0, 1])
        return self.add("Reshape", value, [0, -1])

    def rows(self, value, size):
        value = self.add("Transpose", value, perm=[1, 0])
        shape = self.shape if self.reading else [-1, self.lines, size]
        return self.add("Reshape", value, shape)

    def pick(self, value, indices):
        return self.add("Gather", value, self.constant(indices, np.int32), axis=0)


def _needed_everywhere(model):
    """Return ids of the tensors of a model that are needed at all lines."""
    needed = {id(model.inputs[0]), id(model.output.get(EVERY_LINE))}
    for layer in reversed(chain(model)):
        if id(layer.output) in needed or _looks_back(layer):
            needed.update(map(id, _entering(layer)))
    return needed


def _entering(layer):
    """Return the Keras tensors that a layer reads."""
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _looks_back(layer):
    """Tell whether a layer reads all lines; what has channels is always computed for all."""
    return hasattr(layer, "step") or len(_entering(layer)[0].shape) > 3


def causal_conv(graph, layer, value):
    """`CausalConv`, as one convolution over lines and pixels."""
    pixels, channels = layer.input.shape[2:]
    kernel = onnx_layers.weights(layer.convolution.kernel)
    kernel = kernel.reshape(layer.kernel, layer.taps, channels, -1).transpose(3, 2, 1, 0)
    left, right = onnx_layers.same_padding(layer, pixels)
    return graph.add(
        "Conv",
        value,
        kernel,
        dilations=[layer.dilation, 1],
        strides=[1, layer.stride],
        pads=[layer.lag, left, 0, right],
    )


def line_window(graph, layer, token):
    """`LineWindow`."""
    earlier = [graph.later(token, lag) for lag in range(layer.window - 1, 0, -1)]
    return graph.result(graph.add("Concat", *earlier, token, axis=-1))


def recurrent(graph, layer, token):
    """`Recurrent`."""
    cell = layer.gru.cell
    parts = [cell.kernel, cell.recurrent_kernel, cell.bias]
    kernel, recurrent_kernel, bias = map(onnx_layers.weights, parts)
    lines = graph.add("Transpose", token, perm=[1, 0, 2])
    options = {"hidden_size": layer.units, "linear_before_reset": 1}
    weights = kernel.T[None], recurrent_kernel.T[None], bias.reshape(1, -1)
    states, _ = graph.add("GRU", lines, *weights, count=2, **options)
    states = graph.add("Squeeze", states, [1])
    return graph.result(graph.add("Transpose", states, perm=[1, 0, 2]))


def causal_block(graph, layer, tokens):
    """`CausalBlock`."""
    return graph.result(onnx_layers.causal_block(graph, layer, tokens, attend))


def attend(graph, layer, query, key, value):
    """Let every line attend to itself and those before it in the window."""
    lines, heads, size = graph.lines, layer.num_heads, layer.size
    waves = graph.turn(graph.count_lines()[0], layer.frequencies)
    query, key, value = (
        graph.add(
            "Transpose",
            graph.add("Reshape", part, [0, lines, heads, size]),
            perm=[0, 2, 1, 3],
        )
        for part in (query, key, value)
    )
    key = graph.add("Transpose", onnx_layers.rotated(graph, key, *waves), perm=[0, 1, 3, 2])
    query = onnx_layers.rotated(graph, query, *waves) * size**-0.5
    age = np.subtract.outer(np.arange(lines), np.arange(lines))
    unseen = np.where((age < 0) | (age >= layer.window), np.float32(-1e9), np.float32(0))
    shares = graph.add("Softmax", graph.add("MatMul", query, key) + unseen, axis=-1)
    attended = graph.add("Transpose", graph.add("MatMul", shares, value), perm=[0, 2, 1, 3])
    return graph.add("Reshape", attended, [0, lines, heads * size])


WholeGraph.layers = {
    **onnx_layers.LAYERS,
    "CausalBlock": causal_block,
    "CausalConv": causal_conv,
    "LineWindow": line_window,
    "Recurrent": recurrent,
}
