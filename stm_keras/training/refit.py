"""Train once more on the validation scans too, when they have said how sure to be.

A run that keeps its last epoch chooses nothing by them: they set temperatures and
thresholds only, and a model that never saw their sessions would have learnt from fewer.
What the first model says of itself is kept for the second.
"""

from dataclasses import replace

import numpy as np

from stm_keras.inference.evaluate import judge
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.runs import AGAIN
from stm_keras.training.finish import VALIDATION, save_predictions


def second_stage(run, split):
    """Return the `Run` of the second training, in the first, and its `Split`."""
    parts = dict(split.parts)
    parts["train"] = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    parts["validation"] = np.zeros(0, int)
    return run.below(AGAIN), replace(split, parts=parts)


def adopt(run, predictor, dataset, split):
    """Put the second model in the place of the first, with what that one says of itself.

    Args:
        run: A `stm_keras.runs.Run` with both.
        predictor: The calibrated `Predictor` of the first, or the second once it is there.
        dataset: The `Dataset` of the run.
        split: Its `Split`.

    Returns:
        `Predictor` with the second model.
    """
    first = predictor.facts["training"]
    if "refit" in first:
        return predictor
    chosen = split.parts["validation"]
    save_predictions(run, chosen, judge(predictor, dataset, chosen), VALIDATION)
    second = load_predictor(run.below(AGAIN).file("best.keras"))
    training = second.facts["training"]
    counts = {**first["counts"], "taught": training["counts"]["taught"]}
    facts = {
        **predictor.facts,
        "training": {**training, "counts": counts, "refit": len(chosen)},
    }
    path = run.file("best.keras")
    save_model(second.model, path, facts, overwrite=True)
    return load_predictor(path)
