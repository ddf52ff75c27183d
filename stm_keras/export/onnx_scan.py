"""Write a model of whole scans as an .onnx file that runs without keras.

Each backend has a converter of its own; all give one input, "lines"
`(batch, max_lines, pixels)`, and one output for each head, by its name. What
`OnnxScanPredictor` needs beside is in the metadata, as JSON under "stm_keras".
"""

import contextlib

import numpy as np

from stm_keras.export.common import fixed_network, head_names, in_batches
from stm_keras.export.onnx_repairs import (
    drop_idle_squeezes,
    infer_shapes,
    name_heads,
    name_nodes,
    spell_out_erfc,
    store_weights_as_read,
)
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
    spell_out_erfc(network.graph)
    drop_idle_squeezes(network.graph)
    store_weights_as_read(network.graph)
    name_heads(network.graph, head_names(predictor))
    name_nodes(network.graph)
    network = infer_shapes(network)
    put_facts(network, facts)
    network.producer_name = "stm-keras"
    path.write_bytes(network.SerializeToString())


def read(path):
    """Load it as a callable; see `formats.Format`."""
    from stm_keras.inference.onnx_scan import OnnxScanPredictor

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
