"""What all formats share: the network for one size of scan, and the comparison of a copy."""

import contextlib
import importlib
import io
import json
import logging
import sys
import warnings

import numpy as np

from stm_keras.inference.verdict import sigmoid, softmax
from stm_keras.terminal import captured

TOLERANCE = 1e-4  # of a probability, between backends, runtimes and machines
NUM_SCANS = 100  # random scans to compare on
BATCH = 20  # scans at a time, for that
MAX_BATCH = 1024  # scans at a time that a file of torch takes


def fixed_network(predictor, batch=None):
    """Return the network for scans of all its lines; a partial scan is filled up with 0.

    Returns:
        Tuple of a functional `keras.Model` from "lines" `(batch, max_lines, pixels)`, and
        the list of its `keras.InputSpec`; `batch` is None for any number of scans.
    """
    import keras

    from stm_keras.inference.model_file import bare_model

    shape = (predictor.metadata["max_lines"], predictor.metadata["pixels"])
    model = bare_model(predictor.model)
    lines = keras.Input(shape, batch_size=batch, name="lines")
    out = model(lines)
    fixed = keras.Model(lines, out if isinstance(out, dict) else {"state": out})
    spec = keras.InputSpec(shape=(batch, *shape), dtype="float32", name="lines")
    fixed(np.zeros((1, *shape), np.float32))  # Keras exports only what was called
    return fixed, [spec]


def head_names(predictor):
    """Return the names of the heads in the order in which Keras flattens them."""
    return sorted(predictor.model.output) if predictor.every_line else ["state"]


@contextlib.contextmanager
def quiet():
    """Hide what converters print and log: the user gets the result or one error."""
    disabled = logging.root.manager.disable
    printed = io.StringIO()
    try:
        with captured(1, 2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def no_telemetry():
    """Use OpenVINO as if its package that reports to Google was not installed."""
    telemetry = sys.modules.get("openvino_telemetry")
    bound = [m for n, m in sys.modules.items() if n.startswith("openvino.tools.ovc.")]
    bound = [(module, module.tm) for module in bound if hasattr(module, "tm")]
    sys.modules["openvino_telemetry"] = None  # an import fails, and OpenVINO does without
    try:
        for module, _ in bound:  # of a program that imported OpenVINO before
            module.tm = importlib.import_module("openvino.tools.ovc.telemetry_stub")
        yield
    finally:
        for module, reports in bound:
            module.tm = reports
        del sys.modules["openvino_telemetry"]
        if telemetry is not None:
            sys.modules["openvino_telemetry"] = telemetry


def random_scans(facts):
    """Draw scans to compare on: half of them partial, all with some lost lines.

    Returns:
        float32 array of heights, `(NUM_SCANS, max_lines, pixels)`.
    """
    rng = np.random.default_rng(0)
    most = facts["max_lines"]
    scans = rng.normal(size=(NUM_SCANS, most, facts["pixels"])).cumsum(axis=2)
    scans *= np.exp(0.3 * rng.normal(size=(NUM_SCANS, most, 1)))
    scans[rng.random((NUM_SCANS, most)) < 0.05] = 0
    lines = rng.integers(1, most + 1, NUM_SCANS)
    partial = (np.arange(NUM_SCANS) % 2 == 1)[:, None]
    scans[partial & (np.arange(most) >= lines[:, None])] = 0
    return scans.astype(np.float32)


def difference(predictor, run, batch):
    """Return the largest difference of a probability over `NUM_SCANS` scans.

    `run` is a callable of prepared scans, `batch` at a time, as `read` of each format returns.
    The difference is infinite where the heads are not the same.
    """
    inputs = predictor.prepare(random_scans(predictor.metadata))
    model = probabilities(predictor.model.predict(inputs, batch_size=BATCH, verbose=0))
    parts = [run(inputs[start : start + batch]) for start in range(0, NUM_SCANS, batch)]
    parts = [probabilities(part) for part in parts]
    copy = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if {n: a.shape for n, a in model.items()} != {n: a.shape for n, a in copy.items()}:
        return float("inf")
    return float(max(np.abs(model[name] - copy[name]).max() for name in model))


def probabilities(out):
    """Turn logits, of one head or a dict of several, into a dict of probabilities."""
    heads = out if isinstance(out, dict) else {"state": out}
    heads = {name: np.asarray(logits, np.float32) for name, logits in heads.items()}
    return {n: softmax(v) if n == "state" else sigmoid(v) for n, v in heads.items()}


def facts_text(facts):
    """Write the facts of a model as the JSON that a file of each format holds."""
    return json.dumps(facts, indent=1, allow_nan=False)
