"""Write a model as a `.keras` file that every backend loads."""

import numpy as np

from stm_keras.export import verify
from stm_keras.inference.model_file import load_predictor, save_model


def export_keras(predictor, path, overwrite=False):
    """Write a `.keras` file, load it again, and compare before it gets its name.

    Args:
        predictor: A `Predictor`.
        path: str or `Path`, ending in `.keras`.
        overwrite: bool.

    Returns:
        dict: `path`, `format`, `scans` compared, `largest_difference` of a logit.

    Raises:
        OutputError: The name is wrong, the file exists, or the copy differs.
    """

    def write(temporary):
        save_model(predictor.model, temporary, predictor.facts, overwrite=True)
        return compare(predictor, load_predictor(temporary))

    return verify.keep_if_same(path, "keras", overwrite, write)


def compare(one, other, seed=0):
    """Return the largest difference of a logit between two predictors.

    Args:
        one, other: `Predictor`s of the same classes.
        seed: int. Of the scans made up to compare them on, whole and begun.

    Returns:
        float.
    """
    rng = np.random.default_rng(seed)
    shape = (verify.NUM_SCANS, one.facts["max_lines"], one.facts["pixels"])
    scans = rng.normal(size=shape).cumsum(axis=2).astype(np.float32)
    differences = [
        np.abs(one.logits(scans, lines) - other.logits(scans, lines)).max()
        for lines in (1, shape[1] // 2 or 1, shape[1])
    ]
    return float(max(differences))
