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

from stm_keras.data.stratify import assign_groups, assign_scans
from stm_keras.inference.evaluate import judge
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.runs import AGAIN, CALIBRATION
from stm_keras.training.report import VALIDATION, save_predictions

ASKED = ("train", "validation")


def calibration_stages(run, dataset, split, folds, say=None):
    """Return a `Run` and a `Split` of each model that is asked about scans it never saw.

    The first is the run itself. The others leave out as many scans of its training part
    each, disjoint and by whole groups, and learn from its validation part instead. Where
    scans or groups are too few for that, fewer models are asked, and the user is told.

    Args:
        run: A `stm_keras.runs.Run`.
        dataset: The `Dataset` of the run.
        split: Its `Split`.
        folds: int. How many models.
        say: callable of str that tells the user what happens, or None.

    Returns:
        list of tuple of `Run` and `Split`.
    """
    stages = [(run, split)]
    for count in range(folds, 1, -1):
        others = _other_parts(dataset, split, count)
        if all(_has_classes(dataset, each[name]) for each in others for name in ASKED):
            break
    else:
        count, others = 1, []
    if say and count < folds:
        say(
            f"Only {count} of {folds} models say how sure the last may be: there are too few "
            "scans or groups for more."
        )
    for number, parts in enumerate(others, 2):
        stages.append((run.below(CALIBRATION.format(number)), replace(split, parts=parts)))
    return stages


def _other_parts(dataset, split, folds):
    """Draw what each model but the first learns from and leaves out: list of parts."""
    train, validation = split.parts["train"], split.parts["validation"]
    labels, classes = dataset.labels[train], len(dataset.classes)
    share = min(len(validation) / len(train), 1 / folds)
    shares = (1 - (folds - 1) * share, *[share] * (folds - 1))
    seed = (split.seed, split.fold or 0, folds)
    if split.groups is None:
        drawn = assign_scans(labels, shares, seed, classes)
    else:
        groups = np.unique(np.asarray(split.groups)[train], return_inverse=True)[1]
        drawn = assign_groups(labels, groups.reshape(-1), shares, seed, classes)
    return [
        {
            **split.parts,
            "train": np.sort(np.concatenate([train[drawn != number], validation])),
            "validation": train[drawn == number],
        }
        for number in range(1, folds)
    ]


def _has_classes(dataset, indices):
    counts = np.bincount(dataset.labels[indices], minlength=len(dataset.classes))
    return counts.min() > 0


def last_stage(run, split):
    """Return the `Run` of the last training, in the first, and its `Split`."""
    parts = dict(split.parts)
    parts["train"] = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    parts["validation"] = np.zeros(0, int)
    return run.below(AGAIN), replace(split, parts=parts)


def adopt(stages, dataset):
    """Put the last model in the place of the first, with what is known of those before.

    Args:
        stages: As of `calibration_stages`, the first calibrated, and then of `last_stage`.
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
    models = [load_predictor(own.file("best.keras")).model for own, _ in stages[:-1]]
    said = [
        judge(replace(predictor, model=model), dataset, chosen)
        for model, chosen in zip(models, unseen, strict=True)
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
