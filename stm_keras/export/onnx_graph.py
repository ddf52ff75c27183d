"""The step of a model as an ONNX graph, written out from the weights of its layers.

`onnx_layers.LAYERS` has a function for each kind of layer. Written by hand, the graph is the
same under every Keras backend. A line is `(1, channels, pixels)` here, not `(1, 1, pixels,
channels)`, as ONNX' convolution wants it; a token is `(1, dim)`; batch is 1. All lines at once are
a graph of the same layers, see `onnx_whole`.
"""

import base64
import json
from dataclasses import dataclass

import numpy as np

from stm_keras.errors import MismatchError, require
from stm_keras.export.onnx_layers import LAYERS
from stm_keras.inference.onnx_session import METADATA, WHOLE
from stm_keras.models.step import chain

OPSET = 18
IR_VERSION = 9  # which onnxruntime reads since 1.17
EXACT = "exact"  # how names of constants begin that stay in float32


def step_graph(model):
    """Write the step of a model as ONNX.

    Args:
        model: functional `keras.Model` that answers after every line, see
            `stm_keras.models.step.make_step`.

    Returns:
        An `onnx.ModelProto` with inputs "line" `(1, pixels)` and "cache_..."; outputs
        are logits of each head `(1, outputs)`, then "next_cache_...", in the order of
        the caches. A scan begins with caches of 0.

    Raises:
        MismatchError: The model cannot go line by line, or has a layer that is not in
            `LAYERS`.
        MissingExtraError: onnx is not installed.
    """
    graph = Graph()
    pixels = model.input_shape[2]
    values = write_layers(graph, model, graph.input("line", (1, pixels)))
    for name, tensor in model.output.items():
        graph.output(values[id(tensor)], name, (1, tensor.shape[-1]))
    return graph.finish(model.name)


def write_layers(graph, model, entry):
    """Write all layers of a model; return a dict of id of a Keras tensor to `Value`."""
    values = {id(model.inputs[0]): entry}
    for layer in chain(model):
        write_layer = graph.layers.get(type(layer).__name__)
        if write_layer is None:
            raise MismatchError(
                f"ONNX: the layer {layer.name} ({type(layer).__name__}) is not known. "
                f"Known: {', '.join(sorted(graph.layers))}. Export to .keras instead."
            )
        graph.part = layer.name
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = graph.begin(layer, [values[id(tensor)] for tensor in tensors])
        values[id(layer.output)] = write_layer(graph, layer, *inputs)
    graph.part = "graph"
    return values


def put_facts(network, facts, whole=None):
    """Put the facts of a model into the metadata of an `onnx.ModelProto`.

    `whole` is that of whole scans, which goes with a step in the same file: it cannot be lost or
    taken for that of another model.
    """
    del network.metadata_props[:]
    entries = {METADATA: json.dumps(facts, allow_nan=False)}
    if whole is not None:
        entries[WHOLE] = base64.b64encode(whole.SerializeToString()).decode()
    require("onnx", "export").helper.set_model_props(network, entries)


def whole_of(network):
    """Return the `onnx.ModelProto` of whole scans that goes with a step, or None."""
    texts = [each.value for each in network.metadata_props if each.key == WHOLE]
    onnx = require("onnx", "export")
    return onnx.load_from_string(base64.b64decode(texts[0])) if texts else None


class Graph:
    """An ONNX graph that grows node by node."""

    layers = LAYERS

    def __init__(self):
        self.helper = require("onnx", "export").helper
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.caches, self.next_caches = {}, {}  # shapes, values for the next line, by name
        self.renamed = {}  # values that have the name of an output of the graph
        self.norms = {}  # scale and shift that wait for the layer after, by its name
        self.part = "graph"  # the layer that is being written, which names its nodes

    def constant(self, array, dtype=np.float32):
        """Add an array, or a single number as a scalar, and return its `Value`."""
        return self._constant(array, dtype, f"w{len(self.constants)}")

    def exact(self, array):
        """Add an array of float32 that no variant rounds: what is added up over many lines."""
        return self._constant(array, np.float32, f"{EXACT}{len(self.constants)}")

    def _constant(self, array, dtype, name):
        from onnx import numpy_helper

        array = np.asarray(array, dtype, order="C")  # ascontiguousarray makes no scalars
        self.constants.append(numpy_helper.from_array(array, name))
        return Value(self, name)

    def add(self, kind, *inputs, count=1, **attributes):
        """Add a node and return the `Value` of its output, or a list of `count` of them.

        `kind` is an operator of ONNX, and `attributes` are its own; an input is a `Value`,
        or a list of int, a float or an array for a constant.
        """
        names = [self._name(each) for each in inputs]
        outputs = [f"n{len(self.nodes)}_{index}" for index in range(count)]
        self._node(kind, names, outputs, **attributes)
        values = [Value(self, name) for name in outputs]
        return values[0] if count == 1 else values

    def input(self, name, shape):
        """Add an input of float32 and return its `Value`."""
        self.inputs.append(self._described(name, shape))
        return Value(self, name)

    def output(self, value, name, shape):
        """Make a value an output of the graph."""
        made = any(value.name in node.output for node in self.nodes)
        if (
            made and value.name not in self.renamed
        ):  # a node for a name alone takes time too
            self.renamed[value.name] = name
        else:
            self._node("Identity", [value.name], [name])
        self.outputs.append(self._described(name, shape))

    def cache(self, name, shape):
        """Add one array of the cache and return its `Value`."""
        self.caches[name] = shape
        return self.input(f"cache_{name}", shape)

    def keep(self, value, name):
        """Make a value the array of the cache for the next line."""
        self.next_caches[name] = value

    def begin(self, layer, inputs):
        """Return what a layer reads, before its nodes are written."""
        return inputs

    def count_lines(self):
        """Return the number of lines before this line, and with it, each `(1, 1)`."""
        if "lines" not in self.caches:
            self.keep(self.cache("lines", (1, 1)) + 1.0, "lines")
        return Value(self, "cache_lines"), self.next_caches["lines"]

    def running_sum(self, value, name, size, weight=None):
        """Return the sum of a value `(1, size)`, times a weight, over the lines so far."""
        name = f"{name}_total"
        value = value if weight is None else value * weight
        total = self.cache(name, (1, size)) + value
        self.keep(total, name)
        return total

    def previous(self, value, name, size):
        """Return a value `(1, size)` at the line before."""
        self.keep(value, name)
        return self.cache(name, (1, size))

    def earlier(self, value, lags, name, size):
        """Return a value `(1, size)` so many lines before: `(lags, size)`."""
        lag = max(lags)
        before = self.cache(name, (lag, size))
        lines = self.add("Concat", before, value, axis=0)
        self.keep(self.add("Slice", lines, [1], [lag + 1], [0]), name)
        return self.add("Gather", before, [lag - each for each in lags], axis=0)

    def beside(self, value):
        """Shape a value so that arithmetic goes with those of `earlier`."""
        return value

    def joined(self, value, width):
        """Put what `earlier` has of some lines side by side: `(1, width)`."""
        return self.add("Reshape", value, [1, width])

    def affine(self, value, kernel, bias=None):
        """Multiply a token by a matrix and add a bias."""
        return self.add("Gemm", value, kernel, *([] if bias is None else [bias]))

    def turn(self, index, phase):
        """Return cosine and sine of so many times a phase, `(1, size)`."""
        angle = index * self.exact(phase[None])
        return self.add("Cos", angle), self.add("Sin", angle)

    def channels(self, value, count):
        """Make channels of what lies side by side: `(1, count, pixels)`."""
        return self.add("Reshape", value, [1, count, -1])

    def tokens(self, value):
        """Make a token of channels `(1, channels)`."""
        return value

    def columns(self, value):
        """Turn tokens into columns, `(dim, 1)`."""
        return self.add("Reshape", value, [-1, 1])

    def rows(self, value, size):
        """Turn columns `(size, 1)` into tokens."""
        return self.add("Reshape", value, [1, size])

    def pick(self, value, indices):
        """Take rows of columns, laid down: down the columns it would take five times as long."""
        indices = self.constant(np.reshape(indices, (1, -1)), np.int32)
        value = self.add("GatherElements", self.rows(value, -1), indices, axis=1)
        return self.columns(value)

    def finish(self, name):
        """Return the `onnx.ModelProto`; the next caches come last, in their order."""
        for each, shape in self.caches.items():
            self.output(self.next_caches[each], f"next_cache_{each}", shape)
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [self.renamed.get(value, value) for value in names]
        graph = self.helper.make_graph(
            self.nodes, name, self.inputs, self.outputs, self.constants
        )
        return self.helper.make_model(
            graph,
            opset_imports=[self.helper.make_opsetid("", OPSET)],
            producer_name="stm-keras",
            ir_version=IR_VERSION,
        )

    def _node(self, kind, inputs, outputs, **attributes):
        name = f"{self.part}/{kind}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, outputs, name, **attributes))

    def _name(self, value):
        if isinstance(value, Value):
            return value.name
        integers = isinstance(value, list) and all(isinstance(v, int) for v in value)
        return self.constant(value, np.int64 if integers else np.float32).name

    def _described(self, name, shape):
        from onnx import TensorProto

        return self.helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@dataclass(frozen=True)
class Value:
    """A value of a graph; arithmetic with others, numbers and arrays adds nodes."""

    graph: Graph
    name: str

    def __add__(self, other):
        return self.graph.add("Add", self, other)

    def __sub__(self, other):
        return self.graph.add("Sub", self, other)

    def __mul__(self, other):
        return self.graph.add("Mul", self, other)

    def __truediv__(self, other):
        return self.graph.add("Div", self, other)
