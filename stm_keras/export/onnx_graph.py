"""The step of a model as an ONNX graph, written out from the weights of its layers.

`onnx_layers.LAYERS` has a function for each kind of layer. Written by hand, the graph is the
same under every Keras backend. A line is `(1, channels,
pixels)` here, not `(1, 1, pixels, channels)`, as ONNX' convolution wants it; a token is
`(1, dim)`; batch is 1.
"""

import json
from dataclasses import dataclass

import numpy as np

from stm_keras.errors import MismatchError, require
from stm_keras.export.onnx_layers import LAYERS
from stm_keras.inference.onnx_model import OnnxPredictor
from stm_keras.inference.onnx_session import METADATA
from stm_keras.models.step import chain

OPSET = 18
IR_VERSION = 9  # which onnxruntime reads since 1.17


def write(predictor, path, facts):
    """Write the step of the model; see `writers`."""
    network = step_graph(predictor.model)
    put_facts(network, facts)
    path.write_bytes(network.SerializeToString())


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
    values = {id(model.inputs[0]): graph.input("line", (1, pixels))}  # by Keras tensor
    for layer in chain(model):
        if type(layer).__name__ not in LAYERS:
            raise MismatchError(
                f"ONNX: the layer {layer.name} ({type(layer).__name__}) is not known. "
                f"Known: {', '.join(sorted(LAYERS))}. Export to .keras instead."
            )
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = [values[id(tensor)] for tensor in tensors]
        write_layer, graph.part = LAYERS[type(layer).__name__], layer.name
        values[id(layer.output)] = write_layer(graph, layer, *inputs)
    graph.part = "graph"
    for name, tensor in model.output.items():
        graph.output(values[id(tensor)], name, (1, tensor.shape[-1]))
    return graph.finish(model.name)


def put_facts(network, facts):
    """Put the facts of a model into the metadata of an `onnx.ModelProto`."""
    del network.metadata_props[:]
    entry = network.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(facts, allow_nan=False)


def read(path):
    """Load it as a callable that goes through the lines; see `writers`."""
    copy = OnnxPredictor.load(path)

    def run(scans):
        cache, answers = copy.start_scan(), []
        for line in scans[0]:
            logits, cache = copy.step(line[None, None], cache)
            answers.append(logits)
        return {n: np.stack([each[n] for each in answers], 1) for n in copy.head_names}

    return run


class Graph:
    """An ONNX graph that grows node by node."""

    def __init__(self):
        self.helper = require("onnx", "export").helper
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []
        self.caches, self.next_caches = {}, {}  # shapes, values for the next line, by name
        self.renamed = {}  # values that have the name of an output of the graph
        self.norms = {}  # scale and shift that wait for the layer after, by its name
        self.part = "graph"  # the layer that is being written, which names its nodes

    def constant(self, array, dtype=np.float32):
        """Add an array, or a single number as a scalar, and return its `Value`."""
        from onnx import numpy_helper

        name = f"w{len(self.constants)}"
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

    def count_lines(self):
        """Return the number of lines before this line, and with it, each `(1, 1)`."""
        if "lines" not in self.caches:
            self.keep(self.cache("lines", (1, 1)) + 1.0, "lines")
        return Value(self, "cache_lines"), self.next_caches["lines"]

    def running_sum(self, value, name, size):
        """Add a value `(1, size)` to its sum over the lines before; return the sum."""
        name = f"{name}_total"
        total = self.cache(name, (1, size)) + value
        self.keep(total, name)
        return total

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
