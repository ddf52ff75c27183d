"""Write the step of a streaming model as an .onnx file that runs without keras."""

import json

import numpy as np

from stm_keras.errors import OutputError, require
from stm_keras.export.onnx_graph import step_graph
from stm_keras.files import atomic
from stm_keras.inference.model_file import PREPROCESSING
from stm_keras.inference.predictor import predict_outputs
from stm_keras.runtime.onnx_model import FACTS, FORMAT, OnnxPredictor

TOLERANCE = 1e-4  # of a logit, between Keras and onnxruntime
NUM_SCANS = 100


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
    if not str(path).endswith(".onnx"):
        raise OutputError(f"{path}: the name of an ONNX file ends in .onnx.")
    require("onnxruntime", "onnx")
    network = step_graph(predictor.model)
    facts = {"input": "standardised", **predictor.facts, "format": FORMAT}
    facts.setdefault("preprocessing", PREPROCESSING[facts["input"]])
    entry = network.metadata_props.add()
    entry.key, entry.value = FACTS, json.dumps(facts, allow_nan=False)
    with atomic(path, overwrite) as temporary:
        temporary.write_bytes(network.SerializeToString())
        difference = compare_lines(predictor, OnnxPredictor.load(temporary))
        if not difference <= TOLERANCE:
            raise OutputError(
                f"{path}: the copy differs from the model by {difference:.1e} in a logit, "
                f"more than {TOLERANCE:.0e}. Nothing was written."
            )
    return {
        "path": str(path),
        "format": "onnx",
        "scans": NUM_SCANS,
        "largest_difference": difference,
    }


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
    shape = (NUM_SCANS, predictor.facts["max_lines"], predictor.facts["pixels"])
    scans = rng.normal(size=shape).cumsum(axis=2).astype(np.float32)
    scans[rng.random(shape[:2]) < 0.05] = 0
    ours = predict_outputs(predictor.model, scans, prepare=predictor.prepare)
    theirs = copy.outputs(scans)
    return float(max(np.abs(ours[name] - theirs[name]).max() for name in theirs))
