"""Make a trained model say how sure it may be: what the validation scans teach it last.

Temperatures, how often a verdict is right at its confidence, the confidence below which a
verdict is "unsure", the score above which a surface is unknown, and the score at which a tip
change is called. Test scans play no part.
"""

from dataclasses import replace

import numpy as np

from stm_keras.data.stratify import assign_groups, assign_scans
from stm_keras.evaluation.abstention import confidence_threshold, unknown_threshold
from stm_keras.evaluation.calibration import LINES as FEW
from stm_keras.evaluation.calibration import fit_confidence, fit_temperature, min_lines
from stm_keras.evaluation.change_scores import choose_change_threshold
from stm_keras.evaluation.scores import score_predictions
from stm_keras.inference.evaluate import LINES_SEEN, changed_scans, judge
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.inference.verdict import calibrated, softmax
from stm_keras.runs import AGAIN, CALIBRATION
from stm_keras.training.report import VALIDATION, save_predictions

ASKED = ("train", "validation")

LIMITS = (0.2, 5.0)  # few validation scans, all easy or all hard, can ask for anything
COVERAGE = 0.9  # of verdicts that are not "unsure"
FALSE_ALARMS = 0.05  # of scans that are called unknown, and of changes in calm scans
CHANGE_SEED = 20_201  # of the scans that choose the threshold for changes
CHANGE_SCANS = 1200
RESAMPLES = 300


def calibrate(stages, dataset, say=None):
    """Fit what models say of themselves on their validation scans, once; the first keeps it.

    Args:
        stages: Sequence of tuples of a `stm_keras.runs.Run` with `best.keras` and its `Split`:
            one, or models of one recipe that left out other scans each.
        dataset: The `Dataset` of the run.
        say: callable of str that tells the user what happens, or None.

    Returns:
        `Predictor` of the first.
    """
    paths = [run.file("best.keras") for run, _ in stages]
    models = [load_predictor(path) for path in paths]
    asked = [split.parts["validation"] for _, split in stages]
    if "temperature" in models[0].facts or not len(asked[0]):
        return models[0]
    facts = trust_facts(models, [dataset.take(chosen) for chosen in asked])
    save_model(models[0].model, paths[0], {**models[0].facts, **facts}, overwrite=True)
    values = facts["temperature"]["values"]
    if say:
        count = sum(map(len, asked))
        say(f"Calibrated on {count} scans: temperature {values[0]} to {values[-1]}.")
    return load_predictor(paths[0])


def trust_facts(models, parts):
    """Fit temperatures and thresholds on scans that models did not learn from.

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
    by_model = [model.by_lines(part.images, seen) for model, part in pairs]
    shares = {n: np.concatenate([by_lines[n] for by_lines in by_model]) for n in seen}
    logits = {lines: np.log(np.maximum(p, 1e-12)) for lines, p in shares.items()}
    fitted = [fit_temperature(labels, logits[lines]) for lines in seen]
    values = np.clip(smooth(np.log2(seen), fitted), *LIMITS).round(4).tolist()
    facts = {"temperature": {"lines": seen, "values": values}}
    softened = [softmax(logits[n], t) for n, t in zip(seen, values, strict=True)]
    curves = np.round([fit_confidence(labels, p) for p in softened], 4)
    facts["confidence"] = {
        "lines": seen,
        "slopes": curves[:, 0].tolist(),
        "shifts": curves[:, 1].tolist(),
    }
    softened = [calibrated(logits[lines], facts, lines) for lines in seen]
    facts |= min_lines(_states(labels, shares, parts), len(first.classes))
    facts["unsure"] = {
        "coverage": COVERAGE,
        "lines": seen,
        "thresholds": [round(confidence_threshold(p, COVERAGE), 6) for p in softened],
    }
    if not first.every_line:
        return facts
    outputs = [model.heads(part.images) for model, part in pairs]
    if "unknown" in outputs[0]:
        scores = np.concatenate([heads["unknown"] for heads in outputs])
        thresholds = [
            float(unknown_threshold(scores[:, lines - 1], FALSE_ALARMS)) for lines in seen
        ]
        facts["unknown"] = {
            "false_alarms": FALSE_ALARMS,
            "lines": seen,
            "thresholds": thresholds,
        }
    if "change" in outputs[0] and parts[0].images.shape[1:] == (128, 128):
        scans = changed_scans(CHANGE_SCANS, CHANGE_SEED)
        scores = first.heads(scans.images)["change"]
        threshold = choose_change_threshold(
            scores, scans.change_line, lines=scans.lines, false_alarms=FALSE_ALARMS
        )
        facts["change"] = {"threshold": float(threshold), "false_alarms": FALSE_ALARMS}
    return facts


def _states(labels, shares, parts):
    """Score how the first lines are judged, as of `score_predictions`."""
    few = {lines: p for lines, p in shares.items() if lines in FEW} or shares
    sessions = None
    if all(part.session is not None for part in parts):
        sessions = np.concatenate([part.session for part in parts])
        sessions = np.unique(sessions, return_inverse=True)[1]
    whole, classes = shares[max(shares)], parts[0].classes
    told = score_predictions(
        labels, whole, classes, by_lines=few, groups=sessions, resamples=RESAMPLES
    )
    return told["by_lines"]


def smooth(place, values):
    """Fit a parabola through temperatures: a few hundred scans fix no more than that.

    Args:
        place: float array `(points,)`. Logarithm of the number of lines.
        values: sequence of float.

    Returns:
        float array `(points,)`; the values as they are where there are three or fewer.
    """
    if len(values) <= 3:
        return np.asarray(values, float)
    return np.exp(np.polyval(np.polyfit(place, np.log(values), 2), place))


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
