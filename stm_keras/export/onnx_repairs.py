"""What converters to ONNX leave wrong, put right in their graphs."""

import numpy as np


def spell_out_erfc(graph):
    """Write erfc, which TensorFlow makes of GELU and ONNX has not, as 1 - erf.

    Args:
        graph: `onnx.GraphProto`, changed in place.
    """
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

    Args:
        graph: `onnx.GraphProto` with the shapes of its values, changed in place.
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
    """Store weights turned as nodes want them: quantisation looks for them nowhere else.

    torch keeps the kernels of convolutions as Keras has them, and turns and copies them
    for every scan.

    Args:
        graph: `onnx.GraphProto`, changed in place.
    """
    from onnx import numpy_helper

    weights = {each.name: each for each in graph.initializer}
    results = {each.name for each in graph.output}
    kept, turned = [], set()
    for node in graph.node:
        turns = node.op_type in ("Identity", "Transpose") and node.input[0] in weights
        if not turns or node.output[0] in results:
            kept.append(node)
            continue
        values = numpy_helper.to_array(weights[node.input[0]])
        if node.op_type == "Transpose":
            axes = [each.ints for each in node.attribute if each.name == "perm"]
            values = values.transpose(axes[0] if axes else None)
        turned.add(node.input[0])
        weights[node.output[0]] = numpy_helper.from_array(
            np.ascontiguousarray(values), node.output[0]
        )
    turned -= {name for node in kept for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(each for name, each in weights.items() if name not in turned)


def name_heads(graph, names):
    """Name the input "lines" and the outputs: converters give names of their own.

    Args:
        graph: `onnx.GraphProto`, changed in place.
        names: list of str. Of the outputs, in their order.
    """
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
    """Give every node a name of its own, which profilers and quantisers go by.

    Args:
        graph: `onnx.GraphProto`, changed in place.
    """
    taken = set()
    for place, node in enumerate(graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{node.output[0]}_{place}"
        taken.add(node.name)


def infer_shapes(network):
    """Say anew what shape each value has: a converter's notes do not outlast repairs.

    Args:
        network: `onnx.ModelProto`.

    Returns:
        Another one.
    """
    import onnx

    del network.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(network, strict_mode=True, data_prop=True)


def _constants(graph):
    """Return the small arrays of a graph by name, each as a list of int."""
    from onnx import numpy_helper

    found = {each.name: each for each in graph.initializer if np.prod(each.dims) <= 8}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return {
        name: numpy_helper.to_array(each).ravel().tolist()
        for name, each in found.items()
        if np.prod(each.dims) <= 8
    }
