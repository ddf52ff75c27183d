"""Write a model of whole scans as an .onnx file that runs without keras.

Each backend has a converter of its own; all give one input, "lines"
`(batch, max_lines, pixels)`, and one output for each head, by its name. What
`OnnxScanPredictor` needs beside is in the metadata, as JSON under "stm_keras".
"""

import contextlib

import numpy as np

from stm_keras.export.network import fixed_network, head_names, in_batches
from stm_keras.export.onnx_step import put_facts

OPSET = 18


def write(predictor, path, facts):
    """Write the file; see `formats.Format`."""
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
    _spell_out_erfc(network.graph, onnx)
    _name_heads(network.graph, head_names(predictor), onnx)
    put_facts(network, facts)
    network.producer_name = "stm-keras"
    path.write_bytes(network.SerializeToString())


def read(path):
    """Load it as a callable; see `formats.Format`."""
    from stm_keras.runtime.onnx_scan import OnnxScanPredictor

    copy = OnnxScanPredictor.load(path)
    heads = [each.name for each in copy.session.get_outputs()]

    def run(scans):
        found = copy.session.run(None, {"lines": np.asarray(scans, np.float32)})
        return dict(zip(heads, found, strict=True))

    return lambda scans: in_batches(run, scans)


@contextlib.contextmanager
def _two_ended_ranges():
    """Let `ops.arange(count)` begin at 0 in so many words: jax2onnx needs to be told."""
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
    """Write by torch itself: through Keras it would take one scan at a time."""
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
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},),
        opset_version=OPSET,
        external_data=False,
        optimize=False,  # it would join the clips of one input to one that is not there
        verbose=False,
    )


def _spell_out_erfc(graph, onnx):
    """Write erfc, which TensorFlow makes of GELU and ONNX has not, as 1 - erf."""
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


def _name_heads(graph, names, onnx):
    """Name input and outputs: converters give names of their own, in this order."""
    told = dict(zip([each.name for each in graph.output], names, strict=True))
    for output in graph.output:
        old, output.name = output.name, told[output.name]
        if old != output.name:
            graph.node.append(onnx.helper.make_node("Identity", [old], [output.name]))
    entry = graph.input[0]
    if entry.name != "lines":
        graph.node.insert(0, onnx.helper.make_node("Identity", ["lines"], [entry.name]))
        entry.name = "lines"
