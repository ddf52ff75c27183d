"""The network as exporters want it: of one size of scan, in float32."""

import numpy as np

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
