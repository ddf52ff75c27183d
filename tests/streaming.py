"""Small streaming models with weights that are worth comparing, shared by several tests."""

import keras
import numpy as np

from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.models import sequential
from stm_keras.training.train import set_seed

FACTS = {
    "classes": ["a", "b", "c"],
    "pixels": 16,
    "max_lines": 24,
    "input": "scaled",
    "temperature": {"lines": [1, 8, 24], "values": [2.0, 1.5, 1.2]},
}
SIZES = {"width": 3, "units": 8, "spectra": 4, "layers": 2, "heads": 2}


def tiny_stream(mixer="gru", window=10, seed=0, pixels=16, trees=0, surface=0, **facts):
    """Return a `KerasPredictor` of a tiny streaming network with random weights.

    Args:
        mixer, window, trees, surface: As for `stm_keras.models.sequential`.
        seed: int. Of the weights.
        pixels: int.
        **facts: What differs from `FACTS`.
    """
    set_seed(seed)  # else the weights depend on which tests ran before
    sizes = {"mixer": mixer, "window": window, "trees": trees, "surface": surface, **SIZES}
    model = shaken(sequential(3, pixels, 24, **sizes), seed)
    if trees:
        layer = model.get_layer("trees")
        layer.set_trees(random_trees(layer, layer.scale.shape[0], seed))
    return KerasPredictor(model, {**FACTS, "pixels": pixels, **facts})


def random_trees(layer, features, seed=0):
    """Make up trees for a `BoostedTrees`, whose splits features of such lines reach."""
    rng = np.random.default_rng(seed)
    splits, leaves = layer.threshold.shape[0], layer.leaves.shape[0]
    return {
        "scale": rng.uniform(0.5, 3, features),
        "feature": rng.integers(0, features, splits).astype("int32"),
        "threshold": rng.normal(size=splits),
        "leaves": rng.normal(size=leaves),
        "start": rng.normal(size=layer.start.shape),
    }


def shaken(model, seed=0):
    """Move all weights a little, so that no small layer is dead and no bias is 0."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "int" in str(variable.dtype):
            continue
        moved = np.asarray(variable) + 0.2 * rng.normal(size=variable.shape)
        variable.assign(np.abs(moved) + 0.1 if "variance" in variable.path else moved)
    return model


def whole_scans(model, lines):
    """Return what a network says of whole scans: dict of arrays `(batch, lines, outputs)`.

    JAX gets it as one program: else it compiles each operation by itself, for twice as long.
    """
    if keras.config.backend() == "jax":
        return model.predict_on_batch(lines)
    outputs = model(lines, training=False)
    return {name: keras.ops.convert_to_numpy(each) for name, each in outputs.items()}


def rough_scans(count, lines, pixels=16, seed=0):
    """Make up heights in metres with lost lines: float32 `(count, lines, pixels)`."""
    rng = np.random.default_rng(seed)
    scans = rng.normal(size=(count, lines, pixels)).cumsum(2) * 1e-11
    scans *= np.exp(0.3 * rng.normal(size=(count, lines, 1)))
    scans[rng.random((count, lines)) < 0.1] = 0
    scans[:, 3:5] = 0
    return scans.astype(np.float32)
