"""Train once more on the validation scans too, when they have said how sure to be.

A run that keeps its last epoch chooses nothing by them: they set temperatures and
thresholds only, and a model that never saw their sessions would have learnt from fewer.
What is known of models that had not seen them is kept for the last.

A few sessions say little of the others. So with `train.calibration_folds` more models are
trained, each without other scans, and what all of them say of those sets temperatures and
thresholds together (cross-fitting).
"""

from dataclasses import replace

import numpy as np

from stm_keras.data.assign import assign_groups, assign_scans
from stm_keras.errors import DatasetError
from stm_keras.inference.evaluate import judge
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.runs import AGAIN, CALIBRATION
from stm_keras.training.finish import VALIDATION, save_predictions


def calibration_stages(run, dataset, split, folds):
    """Return a `Run` and a `Split` of each model that is asked about scans it never saw.

    The first is the run itself. The others leave out as many scans of its training part
    each, disjoint and by whole groups, and learn from its validation part instead.

    Args:
        run: A `stm_keras.runs.Run`.
        dataset: The `Dataset` of the run.
        split: Its `Split`.
        folds: int. How many models.

    Returns:
        list of tuple of `Run` and `Split`.

    Raises:
        DatasetError: There are too few scans or groups for so many.
    """
    stages, train = [(run, split)], split.parts["train"]
    parts = _draw(dataset, split, folds)
    for number in range(1, folds):
        left_out = train[parts == number]
        taught = np.concatenate([train[parts != number], split.parts["validation"]])
        own = {**split.parts, "train": np.sort(taught), "validation": left_out}
        for indices in (left_out, taught):
            _check_classes(dataset, indices, folds)
        below = run.below(CALIBRATION.format(number + 1))
        stages.append((below, replace(split, parts=own)))
    return stages


def _draw(dataset, split, folds):
    """Return the number of the model that leaves out each training scan, 0 for none."""
    train = split.parts["train"]
    share = len(split.parts["validation"]) / len(train)
    shares = (1 - (folds - 1) * share, *[share] * (folds - 1))
    if folds == 1:
        return np.zeros(len(train), int)
    if shares[0] < 0:
        raise DatasetError(
            f"`train.calibration_folds` = {folds} is too many: {folds} times "
            f"{len(split.parts['validation'])} validation scans are more than the "
            f"{len(train)} training scans have. Take fewer, or smaller `data.fractions`."
        )
    labels, seed = dataset.labels[train], (split.seed, split.fold or 0, folds)
    classes = len(dataset.classes)
    if split.groups is None:
        return assign_scans(labels, shares, seed, classes)
    groups = np.unique(np.asarray(split.groups)[train], return_inverse=True)[1].reshape(-1)
    return assign_groups(labels, groups, shares, seed, classes)


def _check_classes(dataset, indices, folds):
    counts = np.bincount(dataset.labels[indices], minlength=len(dataset.classes))
    if counts.min() == 0:
        raise DatasetError(
            f"{dataset.source}: has too few scans or groups of class "
            f"{dataset.classes[counts.argmin()]!r} for `train.calibration_folds` = {folds}. "
            "Take fewer, or add scans."
        )


def last_stage(run, split):
    """Return the `Run` of the last training, in the first, and its `Split`."""
    parts = dict(split.parts)
    parts["train"] = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    parts["validation"] = np.zeros(0, int)
    return run.below(AGAIN), replace(split, parts=parts)


def adopt(stages, dataset):
    """Put the last model in the place of the first, with what is known of those before.

    Args:
        stages: As of `calibration_stages`, all calibrated, and then the one of `last_stage`.
        dataset: The `Dataset` of the run.

    Returns:
        `Predictor` with the last model.
    """
    (run, split), (last, _) = stages[0], stages[-1]
    path = run.file("best.keras")
    predictor = load_predictor(path)
    first = predictor.facts["training"]
    if "refit" in first:
        return predictor
    unseen = [parts.parts["validation"] for _, parts in stages[:-1]]
    said = [
        judge(load_predictor(own.file("best.keras")), dataset, chosen)
        for (own, _), chosen in zip(stages[:-1], unseen, strict=True)
    ]
    by_lines = {lines: np.concatenate([each[lines] for each in said]) for lines in said[0]}
    save_predictions(run, np.concatenate(unseen), by_lines, VALIDATION)
    second = load_predictor(last.file("best.keras"))
    training = second.facts["training"]
    counts = {**first["counts"], "taught": training["counts"]["taught"]}
    known = {
        "refit": len(split.parts["validation"]),
        "calibration": {"folds": len(unseen), "scans": sum(map(len, unseen))},
    }
    facts = {**predictor.facts, "training": {**training, "counts": counts, **known}}
    save_model(second.model, path, facts, overwrite=True)
    return load_predictor(path)
