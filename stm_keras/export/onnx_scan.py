"""Write a model of whole scans as an .onnx file that runs without keras.

Each backend has a converter of its own, whose graph is repaired here. All get one input,
"lines" `(batch, max_lines, pixels)`, and one output for each head, by its name. The facts that
`OnnxScanPredictor` needs are in the metadata, as JSON under "stm_keras". The functions that
repair take an `onnx.GraphProto` and change it in place.
"""

import contextlib

import numpy as np

from stm_keras.export.common import MAX_BATCH, fixed_network, head_names
from stm_keras.export.onnx_graph import OPSET, put_facts


def write(predictor, path, facts):
    """Write the file; see `writers`."""
    import keras
    import onnx

    model, spec = fixed_network(predictor)
    if keras.config.backend() == "torch":
        _write_torch(model, path)
    else:
        with _two_ended_ranges():
            model.export(
                path,
                format="onnx",
                verbose=False,
                input_signature=spec,
                opset_version=OPSET,
            )
    network = onnx.load(str(path))
    spell_out_erfc(network.graph)
    drop_idle_squeezes(network.graph)
    store_weights_as_read(network.graph)
    name_heads(network.graph, head_names(predictor))
    name_nodes(network.graph)
    del network.graph.value_info[:]  # shapes, which the repairs changed
    network = onnx.shape_inference.infer_shapes(network, strict_mode=True, data_prop=True)
    put_facts(network, facts)
    network.producer_name = "stm-keras"
    path.write_bytes(network.SerializeToString())


def read(path):
    """Load it as a callable; see `writers`."""
    from stm_keras.inference.onnx_model import OnnxScanPredictor

    copy = OnnxScanPredictor.load(path)
    heads = [each.name for each in copy.session.get_outputs()]

    def run(scans):
        outputs = copy.session.run(None, {"lines": np.asarray(scans, np.float32)})
        return dict(zip(heads, outputs, strict=True))

    return run


@contextlib.contextmanager
def _two_ended_ranges():
    """Have `ops.arange(count)` pass its start 0 on: jax2onnx fails without one."""
    from keras import ops

    one_ended = ops.arange

    def arange(start, stop=None, **arguments):
        start, stop = (0, start) if stop is None else (start, stop)
        return one_ended(start, stop, **arguments)

    ops.arange = arange
    try:
        yield
    finally:
        ops.arange = one_ended


def _write_torch(model, path):
    """Write by torch itself: through Keras the file would take one scan at a time."""
    import keras
    import torch

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, lines):
            return tuple(keras.tree.flatten(self.model(lines, training=False)))

    lines = keras.ops.zeros((2, *model.inputs[0].shape[1:]))
    torch.onnx.export(
        Flat().eval(),
        (lines,),
        str(path),
        dynamo=True,
        input_names=["lines"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},),
        opset_version=OPSET,
        external_data=False,
        optimize=False,  # it breaks models that clip one input twice
        verbose=False,
    )


def spell_out_erfc(graph):
    """Write erfc, which TensorFlow makes of GELU and ONNX lacks, as 1 - erf."""
    import onnx

    nodes = list(graph.node)
    if not any(node.op_type == "Erfc" for node in nodes):
        return
    one = onnx.numpy_helper.from_array(np.ones((), np.float32), "one_of_erfc")
    graph.initializer.append(one)
    del graph.node[:]
    for node in nodes:
        if node.op_type != "Erfc":
            graph.node.append(node)
            continue
        between = f"{node.output[0]}_erf"
        graph.node.append(onnx.helper.make_node("Erf", [node.input[0]], [between]))
        parts = [one.name, between]
        graph.node.append(onnx.helper.make_node("Sub", parts, [node.output[0]]))


def drop_idle_squeezes(graph):
    """Take out squeezes of an axis longer than 1: nothing to torch, an error to ONNX.

    The graph holds the shapes of its values.
    """
    constants = _constants(graph)
    lengths = {
        value.name: [each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }
    for node in graph.node:
        if node.op_type != "Squeeze" or len(node.input) < 2:
            continue
        axes, shape = constants.get(node.input[1]), lengths.get(node.input[0])
        if axes is None or not shape or all(shape[axis] <= 1 for axis in axes):
            continue
        node.op_type = "Identity"
        del node.input[1:]


def store_weights_as_read(graph):
    """Store weights in the layout that nodes read: only there does quantisation find them.

    torch keeps the kernels of convolutions as Keras has them, and transposes and copies them
    for every scan.
    """
    from onnx import numpy_helper

    weights = {each.name: each for each in graph.initializer}
    results = {each.name for each in graph.output}
    kept, moved = [], set()
    for node in graph.node:
        of_weight = node.op_type in ("Identity", "Transpose") and node.input[0] in weights
        if not of_weight or node.output[0] in results:
            kept.append(node)
            continue
        values = numpy_helper.to_array(weights[node.input[0]])
        if node.op_type == "Transpose":
            axes = [each.ints for each in node.attribute if each.name == "perm"]
            values = values.transpose(axes[0] if axes else None)
        moved.add(node.input[0])
        weights[node.output[0]] = numpy_helper.from_array(
            np.ascontiguousarray(values), node.output[0]
        )
    moved -= {name for node in kept for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(each for name, each in weights.items() if name not in moved)


def name_heads(graph, names):
    """Name the input "lines" and the outputs by `names`: converters choose their own."""
    import onnx

    for output, name in zip(graph.output, names, strict=True):
        old, output.name = output.name, name
        if old != name:
            graph.node.append(onnx.helper.make_node("Identity", [old], [name]))
    entry = graph.input[0]
    if entry.name != "lines":
        graph.node.insert(0, onnx.helper.make_node("Identity", ["lines"], [entry.name]))
        entry.name = "lines"


def name_nodes(graph):
    """Give every node a name of its own, which profilers and quantisers need."""
    taken = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{node.output[0]}_{index}"
        taken.add(node.name)


def _constants(graph):
    """Return the small arrays of a graph by name, each as a list of int."""
    from onnx import numpy_helper

    arrays = {each.name: each for each in graph.initializer if np.prod(each.dims) <= 8}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            arrays[node.output[0]] = node.attribute[0].t
    return {
        name: numpy_helper.to_array(each).ravel().tolist()
        for name, each in arrays.items()
        if np.prod(each.dims) <= 8
    }
