"""Fit on validation scans how sure a trained model may be; test scans play no part.

Temperatures, how often a verdict is right at its confidence, the confidence below which a
verdict is "unsure", the score above which a surface is unknown, and the score at which a tip
change is reported.
"""

import logging
from dataclasses import replace

import numpy as np

from stm_keras.data.dataset import is_square
from stm_keras.data.stratify import assign_groups, assign_scans
from stm_keras.evaluation.abstention import confidence_threshold, unknown_threshold
from stm_keras.evaluation.calibration import LINES as FIRST_LINES
from stm_keras.evaluation.calibration import fit_confidence, fit_temperature, min_lines
from stm_keras.evaluation.change_scores import choose_change_threshold
from stm_keras.evaluation.scores import score_predictions
from stm_keras.inference.evaluate import LINES_SEEN, changed_scans, predict_by_lines
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.inference.verdict import calibrated, softmax
from stm_keras.runs import AGAIN, CALIBRATION
from stm_keras.training.report import VALIDATION, save_predictions

# few validation scans, all easy or all hard, can ask for anything
TEMPERATURES = (0.2, 5.0)
COVERAGE = 0.9  # of verdicts that are not "unsure"
FALSE_ALARMS = 0.05  # of scans that are called unknown, and of changes in calm scans
CHANGE_SEED = 20_201  # of the scans that choose the threshold for changes
CHANGE_SCANS = 1200
RESAMPLES = 300

logger = logging.getLogger(__name__)


def calibrate(stages, dataset):
    """Fit reliability on the validation scans of one or more models, once.

    `stages` are pairs of a `Run` with `best.keras` and its `Split`, as of
    `calibration_stages`. The first model keeps what was fitted; its `Predictor` is returned.
    """
    paths = [run.file("best.keras") for run, _ in stages]
    models = [load_predictor(path) for path in paths]
    validation = [split.parts["validation"] for _, split in stages]
    if "temperature" in models[0].metadata or not len(validation[0]):
        return models[0]
    reliability = fit_reliability(models, [dataset.take(chosen) for chosen in validation])
    metadata = {**models[0].metadata, **reliability}
    save_model(models[0].model, paths[0], metadata, overwrite=True)
    values = reliability["temperature"]["values"]
    count = sum(map(len, validation))
    logger.info(f"Calibrated on {count} scans: temperature {values[0]} to {values[-1]}.")
    return load_predictor(paths[0])


def fit_reliability(models, parts):
    """Fit temperatures and thresholds on scans that models were not trained on.

    Args:
        models: Sequence of `Predictor`, not calibrated, of one recipe.
        parts: Sequence of `Dataset`, one for each: complete single-class scans.

    Returns:
        dict, JSON-ready: `temperature`, `confidence`, `min_lines` and how it was measured,
        `unsure`, and where the models have the heads `unknown` and `change`.
    """
    pairs, first = list(zip(models, parts, strict=True)), models[0]
    labels = np.concatenate([part.labels for part in parts])
    total = parts[0].images.shape[1]
    seen = sorted({min(lines, total) for lines in (*LINES_SEEN, total)})
    # of all models together, by lines seen: (scans, classes)
    by_model = [model.by_lines(part.images, seen) for model, part in pairs]
    shares = {n: np.concatenate([by_lines[n] for by_lines in by_model]) for n in seen}
    logits = {n: np.log(np.maximum(share, 1e-12)) for n, share in shares.items()}

    fitted = [fit_temperature(labels, logits[n]) for n in seen]
    values = np.clip(smooth(np.log2(seen), fitted), *TEMPERATURES).round(4).tolist()
    reliability = {"temperature": {"lines": seen, "values": values}}
    softened = [softmax(logits[n], t) for n, t in zip(seen, values, strict=True)]
    curves = np.round([fit_confidence(labels, p) for p in softened], 4)
    reliability["confidence"] = {
        "lines": seen,
        "slopes": curves[:, 0].tolist(),
        "shifts": curves[:, 1].tolist(),
    }
    reliability |= min_lines(_first_lines_scores(labels, shares, parts), len(first.classes))
    confident = [calibrated(logits[n], reliability, n) for n in seen]
    reliability["unsure"] = {
        "coverage": COVERAGE,
        "lines": seen,
        "thresholds": [round(confidence_threshold(p, COVERAGE), 6) for p in confident],
    }
    if not first.every_line:
        return reliability

    heads = [model.heads(part.images) for model, part in pairs]
    if "unknown" in heads[0]:
        scores = np.concatenate([each["unknown"] for each in heads])  # (scans, lines)
        thresholds = [unknown_threshold(scores[:, n - 1], FALSE_ALARMS) for n in seen]
        reliability["unknown"] = {
            "false_alarms": FALSE_ALARMS,
            "lines": seen,
            "thresholds": [float(each) for each in thresholds],
        }
    if "change" in heads[0] and is_square(shape := parts[0].images.shape[1:]):
        scans = changed_scans(CHANGE_SCANS, CHANGE_SEED, shape[1])
        scores = first.heads(scans.images)["change"]
        threshold = choose_change_threshold(
            scores, scans.change_line, lines=scans.lines, false_alarms=FALSE_ALARMS
        )
        change = {"threshold": float(threshold), "false_alarms": FALSE_ALARMS}
        reliability["change"] = change
    return reliability


def _first_lines_scores(labels, shares, parts):
    """Score verdicts after the first lines, as of `score_predictions`."""
    few = {n: share for n, share in shares.items() if n in FIRST_LINES} or shares
    sessions = None
    if all(part.session is not None for part in parts):
        sessions = np.concatenate([part.session for part in parts])
        sessions = np.unique(sessions, return_inverse=True)[1]
    whole, classes = shares[max(shares)], parts[0].classes
    scores = score_predictions(
        labels, whole, classes, by_lines=few, groups=sessions, resamples=RESAMPLES
    )
    return scores["by_lines"]


def smooth(position, values):
    """Fit a parabola to log temperatures: a few hundred scans determine no more than that.

    `position` is the logarithm of the number of lines. Three values or fewer stay as they are.
    """
    if len(values) <= 3:
        return np.asarray(values, float)
    return np.exp(np.polyval(np.polyfit(position, np.log(values), 2), position))


def calibration_stages(run, dataset, split, folds):
    """Return a `Run` and a `Split` of each of `folds` models that calibrate together.

    The first is the run itself. The others leave out as many scans of its training part
    each, disjoint and by whole groups, and are trained on its validation part instead. Where
    scans or groups are too few for that, there are fewer models, and a message.
    """
    stages = [(run, split)]
    for count in range(folds, 1, -1):
        parts = _calibration_parts(dataset, split, count)
        if all(_has_classes(dataset, each) for each in parts):
            break
    else:
        count, parts = 1, []
    if count < folds:
        logger.info(
            f"Only {count} of {folds} models calibrate the last: there are too few scans or "
            "groups for more."
        )
    for number, each in enumerate(parts, 2):
        stages.append((run.below(CALIBRATION.format(number)), replace(split, parts=each)))
    return stages


def _calibration_parts(dataset, split, folds):
    """Draw what each model but the first is trained on and leaves out: list of parts."""
    train, validation = split.parts["train"], split.parts["validation"]
    labels, classes = dataset.labels[train], len(dataset.classes)
    share = min(len(validation) / len(train), 1 / folds)
    shares = (1 - (folds - 1) * share, *[share] * (folds - 1))
    seed = (split.seed, split.fold or 0, folds)
    if split.groups is None:
        fold = assign_scans(labels, shares, seed, classes)
    else:
        groups = np.unique(np.asarray(split.groups)[train], return_inverse=True)[1]
        fold = assign_groups(labels, groups.reshape(-1), shares, seed, classes)
    return [
        {
            **split.parts,
            "train": np.sort(np.concatenate([train[fold != number], validation])),
            "validation": train[fold == number],
        }
        for number in range(1, folds)
    ]


def _has_classes(dataset, parts):
    """Tell whether training and validation part have scans of each class."""
    labels = [dataset.labels[parts[name]] for name in ("train", "validation")]
    classes = len(dataset.classes)
    return all(np.bincount(each, minlength=classes).min() > 0 for each in labels)


def refit_stage(run, split):
    """Return the `Run` of the last training, in the first, and its `Split`."""
    parts = dict(split.parts)
    parts["train"] = np.sort(np.concatenate([parts["train"], parts["validation"]]))
    parts["validation"] = np.zeros(0, int)
    return run.below(AGAIN), replace(split, parts=parts)


def adopt_refit(stages, dataset):
    """Replace the first model, which is calibrated, by the last, and return its `Predictor`.

    `stages` are those of `calibration_stages`, and then of `refit_stage`. The last model
    keeps the reliability that was fitted for those before.
    """
    (run, split), (last_run, _) = stages[0], stages[-1]
    path = run.file("best.keras")
    predictor = load_predictor(path)
    first = predictor.metadata["training"]
    if "refit" in first:
        return predictor
    held_out = [parts.parts["validation"] for _, parts in stages[:-1]]
    models = [load_predictor(each.file("best.keras")).model for each, _ in stages[:-1]]
    judged = [
        predict_by_lines(replace(predictor, model=model), dataset, chosen)
        for model, chosen in zip(models, held_out, strict=True)
    ]
    by_lines = {n: np.concatenate([each[n] for each in judged]) for n in judged[0]}
    save_predictions(run, np.concatenate(held_out), by_lines, VALIDATION)
    last = load_predictor(last_run.file("best.keras"))
    training = last.metadata["training"]
    training |= {
        "counts": {**first["counts"], "taught": training["counts"]["taught"]},
        "refit": len(split.parts["validation"]),
        "calibration": {"folds": len(held_out), "scans": sum(map(len, held_out))},
    }
    metadata = {**predictor.metadata, "training": training}
    save_model(last.model, path, metadata, overwrite=True)
    return load_predictor(path)
