"""The network as exporters want it: of one size of scan, in float32."""

import contextlib
import importlib
import io
import logging
import sys
import warnings

import numpy as np

from stm_keras.errors import OutputError
from stm_keras.inference.verdict import sigmoid, softmax
from stm_keras.terminal import captured

TOLERANCE = 1e-4  # of a probability, between backends, runtimes and machines
NUM_SCANS = 100  # made up to compare on

BATCH = 20


def fixed_network(predictor, batch=None):
    """Return the network for scans of all its lines; one that began is filled up with 0.

    Args:
        predictor: A `Predictor`.
        batch: int, or None for any number of scans.

    Returns:
        Tuple of a functional `keras.Model` from "lines" `(batch, max_lines, pixels)`, and
        the list of its `keras.InputSpec`.
    """
    import keras

    from stm_keras.inference.model_file import bare_model

    shape = (predictor.facts["max_lines"], predictor.facts["pixels"])
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


def in_batches(run, scans, batch=BATCH):
    """Run a function of scans a few at a time, and join what it returns.

    Args:
        run: callable of float32 `(scans, lines, pixels)` that returns a dict of arrays.
        scans: float32 array.
        batch: int.

    Returns:
        dict of arrays.
    """
    parts = [run(scans[start : start + batch]) for start in range(0, len(scans), batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@contextlib.contextmanager
def quiet():
    """Keep what is said inside from the user, who is told the result or one error."""
    disabled = logging.root.manager.disable
    said = io.StringIO()
    try:
        with captured(1, 2), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                yield
    finally:
        logging.disable(disabled)


@contextlib.contextmanager
def no_telemetry():
    """Import and use OpenVINO as where its package that reports to Google is not installed."""
    there = sys.modules.get("openvino_telemetry")
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
        if there is not None:
            sys.modules["openvino_telemetry"] = there


def made_up_scans(facts, seed=0):
    """Make up scans to compare on: some begun only, with some lost lines.

    Args:
        facts: dict of a model file.
        seed: int.

    Returns:
        float32 array of heights, `(NUM_SCANS, max_lines, pixels)`.
    """
    rng = np.random.default_rng(seed)
    most = facts["max_lines"]
    scans = rng.normal(size=(NUM_SCANS, most, facts["pixels"])).cumsum(axis=2)
    scans *= np.exp(0.3 * rng.normal(size=(NUM_SCANS, most, 1)))
    scans[rng.random((NUM_SCANS, most)) < 0.05] = 0
    lines = rng.integers(1, most + 1, NUM_SCANS)
    begun = (np.arange(NUM_SCANS) % 2 == 1)[:, None]
    scans[begun & (np.arange(most) >= lines[:, None])] = 0
    return scans.astype(np.float32)


def difference(predictor, run, seed=0):
    """Return the largest difference of a probability over `NUM_SCANS` scans.

    Args:
        predictor: A `Predictor`.
        run: callable of prepared scans, as `read` of each format gives.
        seed: int. Of the scans.

    Returns:
        float; infinite where the heads are not the same.
    """
    given = predictor.prepare(made_up_scans(predictor.facts, seed))
    ours = predictor.model.predict(given, batch_size=20, verbose=0)
    ours, theirs = probabilities(ours), probabilities(run(given))
    shapes = [{name: each.shape for name, each in one.items()} for one in (ours, theirs)]
    if shapes[0] != shapes[1]:
        return float("inf")
    return float(max(np.abs(ours[name] - theirs[name]).max() for name in ours))


def probabilities(out):
    """Turn logits, of one head or a dict of several, into a dict of probabilities."""
    out = out if isinstance(out, dict) else {"state": out}
    out = {name: np.asarray(each, np.float32) for name, each in out.items()}
    return {n: softmax(each) if n == "state" else sigmoid(each) for n, each in out.items()}


def check(path, difference):
    """Raise an `OutputError` if a copy differs from the model, or is no number."""
    if not difference <= TOLERANCE:
        raise OutputError(
            f"{path}: the copy differs from the model by {difference:.1e} in a "
            f"probability, more than {TOLERANCE:.0e}. Nothing was written."
        )
