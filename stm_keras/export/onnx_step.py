"""Write the step of a streaming model as an .onnx file that runs without keras."""

import json

import numpy as np

from stm_keras.data.model_facts import complete_facts
from stm_keras.errors import require
from stm_keras.export import verify
from stm_keras.export.onnx_graph import step_graph
from stm_keras.inference.predictor import predict_outputs
from stm_keras.runtime.onnx_model import FACTS, OnnxPredictor


def export_onnx(predictor, path, overwrite=False):
    """Write the step of a model, load it again, and compare before it gets its name.

    The file takes one line and caches, and gives logits and the next caches. All that
    `OnnxStream` needs beside (class names, preprocessing, temperature, thresholds) is in
    its metadata, as JSON under "stm_keras".

    Args:
        predictor: A `Predictor` of a model that answers after every line.
        path: str or `Path`, ending in `.onnx`.
        overwrite: bool.

    Returns:
        dict: `path`, `format`, `scans` compared, `largest_difference` of a logit.

    Raises:
        MismatchError: The model cannot go line by line.
        MissingExtraError: onnx or onnxruntime is not installed.
        OutputError: The name is wrong, the file exists, or the copy differs.
    """
    require("onnxruntime", "onnx")

    def write(temporary):
        network = step_graph(predictor.model)
        entry = network.metadata_props.add()
        facts = json.dumps(complete_facts(predictor.facts), allow_nan=False)
        entry.key, entry.value = FACTS, facts
        temporary.write_bytes(network.SerializeToString())
        return compare_lines(predictor, OnnxPredictor.load(temporary))

    return verify.keep_if_same(path, "onnx", overwrite, write)


def compare_lines(predictor, copy, seed=0):
    """Return the largest difference of a logit of any head after any line.

    Args:
        predictor: A `Predictor`.
        copy: An `OnnxPredictor` of the same model.
        seed: int. Of the scans made up to compare them on; some lines of them are lost.

    Returns:
        float.
    """
    rng = np.random.default_rng(seed)
    shape = (verify.NUM_SCANS, predictor.facts["max_lines"], predictor.facts["pixels"])
    scans = rng.normal(size=shape).cumsum(axis=2).astype(np.float32)
    scans[rng.random(shape[:2]) < 0.05] = 0
    ours = predict_outputs(predictor.model, scans, prepare=predictor.prepare)
    theirs = copy.outputs(scans)
    return float(max(np.abs(ours[name] - theirs[name]).max() for name in theirs))
