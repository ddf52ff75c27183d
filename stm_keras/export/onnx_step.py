"""Write the step of a streaming model as an .onnx file that runs without keras.

The file takes one line and caches, and gives logits and the next caches. All that
`OnnxStream` needs beside (class names, preprocessing, temperature, thresholds) is in its
metadata, as JSON under "stm_keras".
"""

import json

import numpy as np

from stm_keras.export.onnx_graph import step_graph
from stm_keras.inference.onnx_model import OnnxPredictor
from stm_keras.inference.onnx_session import FACTS


def write(predictor, path, facts):
    """Write the step; see `formats.Format`.

    Raises:
        MismatchError: The model cannot go line by line.
    """
    network = step_graph(predictor.model)
    put_facts(network, facts)
    path.write_bytes(network.SerializeToString())


def put_facts(network, facts):
    """Put the facts of a model into the metadata of an `onnx.ModelProto`."""
    del network.metadata_props[:]
    entry = network.metadata_props.add()
    entry.key, entry.value = FACTS, json.dumps(facts, allow_nan=False)


def read(path):
    """Load it as a callable that goes through the lines; see `formats.Format`."""
    copy = OnnxPredictor.load(path)

    def run(scans):
        found = {name: [] for name in copy.answers}
        for scan in scans:
            cache = copy.first_cache
            for line in scan:
                logits, cache = copy.step(line[None, None], cache)
                for name, values in logits.items():
                    found[name].append(values[0])
        return {
            name: np.reshape(values, (*scans.shape[:2], -1))
            for name, values in found.items()
        }

    return run
