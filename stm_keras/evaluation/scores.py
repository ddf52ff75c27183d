"""Everything that is said about a model's predictions, as one JSON-ready dict."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.evaluation import metrics
from stm_keras.evaluation.bootstrap import interval, resampled_scores, reverse_interval
from stm_keras.evaluation.calibration import expected_calibration_error
from stm_keras.evaluation.metrics import check_pair

HEADLINES = ("auroc", "balanced_accuracy", "accuracy", "ece")
LINE_SCORES = HEADLINES[:3]  # after each number of lines
SUBSETS = {  # key of a `score_predictions` dict to what the scans are
    "full_agreement": "full-agreement scans (no rater against)",
    "consensus": "consensus scans (two raters or more, all agree)",
}

UNKNOWN_AUROC = "unknown surfaces, AUROC"  # of `reliability_numbers`
UNKNOWN_FOUND = "unknown surfaces, found"
UNKNOWN_FALSE = "unknown surfaces, false alarms"


def score_predictions(
    labels,
    probabilities,
    classes,
    *,
    by_lines=None,
    groups=None,
    full_agreement=None,
    consensus=None,
    seed=0,
    resamples=1000,
):
    """Score predictions in every way, each with a 95 % bootstrap interval.

    All intervals come from the same resamples, so the curve over lines moves as one.

    Args:
        labels: int array of shape `(scans,)`. Of single-class scans.
        by_lines: dict of number of lines seen to float array of shape
            `(scans, classes)`, or None.
        full_agreement: bool array of shape `(scans,)`. Scans with no rater against, or
            None.
        consensus: bool array of shape `(scans,)`. Scans that two or more raters agree
            on, or None.

    Returns:
        dict of plain numbers, None where undefined:

        - `auroc`, `balanced_accuracy`, `accuracy`, `ece`, `n`;
        - `per_class`: class to dict of `auroc`, `recall`, `precision`, `count`;
        - `confusion`: list of lists, a row for each true class;
        - `by_lines`: list of dict of `lines`, `auroc`, `balanced_accuracy`,
          `accuracy`, `ece`, `n`, `intervals`, from few lines to many;
        - `intervals`: score to [low, high], and `per_class`: class to dict of `auroc`
          and `recall` to [low, high];
        - `full_agreement`, `consensus`: the same of that subset, without `by_lines`, or
          None where it is empty or all;
        - `resampled`: dict of `unit` ("scan" or "session"), `units`, `resamples`.

    Raises:
        MismatchError: Labels, probabilities and classes do not fit each other.
    """
    draw = {"seed": seed, "resamples": resamples}
    result = _scores(labels, probabilities, classes, groups, draw)
    result["by_lines"] = []
    for lines in sorted(by_lines or {}):
        scores = _scores(labels, by_lines[lines], classes, groups, draw)
        intervals = {name: scores["intervals"][name] for name in LINE_SCORES}
        scores = {name: scores[name] for name in (*HEADLINES, "n")}
        point = {"lines": int(lines), **scores, "intervals": intervals}
        result["by_lines"].append(point)
    for key, kept in (("full_agreement", full_agreement), ("consensus", consensus)):
        result[key] = None
        if kept is not None and kept.any() and not kept.all():
            own = None if groups is None else groups[kept]
            result[key] = _scores(labels[kept], probabilities[kept], classes, own, draw)
    return result


def worst_mistakes(labels, probabilities, count=12):
    """Find up to `count` scans judged wrong: their indices, the surest mistake first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    surest = np.argsort(-probabilities[wrong].max(axis=1), kind="stable")
    return wrong[surest[:count]]


def reliability_numbers(scores):
    """List what an evaluation says of abstention, unknown surfaces and tip changes.

    Args:
        scores: dict that may hold `rejection` (as of `score_rejection`), `unknown` (as of
            `score_unknown`) and `changes` (as of `score_changes`; may hold `votes`, as of
            `score_votes`), or `trust`: what this function made of others.

    Returns:
        dict of str, words for a table, to float.
    """
    if "trust" in scores:
        return scores["trust"]
    found = {}
    for point in (scores.get("rejection") or {}).get("points", []):
        for key in ("coverage", "accuracy"):
            found[f"{key} where {point['wanted']:.0%} is wanted"] = point[key]
    unknown, changes = scores.get("unknown") or {}, scores.get("changes") or {}
    found |= {
        UNKNOWN_AUROC: unknown.get("auroc"),
        UNKNOWN_FOUND: unknown.get("found"),
        UNKNOWN_FALSE: unknown.get("false_alarms"),
        "simulated changes found within 3 lines": changes.get("found"),
        "false alarms a calm simulated scan": changes.get("false_alarms"),
        "AUROC against tip-change votes": (changes.get("votes") or {}).get("auroc"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _scores(labels, probabilities, classes, groups, draw):
    labels, probabilities = check_pair(labels, probabilities)
    if probabilities.shape[1] != len(classes):
        raise MismatchError(
            "`probabilities` must have one column for each of the "
            f"{len(classes)} classes. Received: {probabilities.shape[1]} columns."
        )
    macro, areas = metrics.auroc(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(labels, predicted, len(classes))
    recalls, precisions = metrics.recall(confusion), metrics.precision(confusion)
    units = len(labels if groups is None else np.unique(groups))
    result = {
        "auroc": macro,
        "balanced_accuracy": metrics.balanced_accuracy(labels, predicted, len(classes)),
        "accuracy": metrics.accuracy(labels, predicted),
        "ece": expected_calibration_error(labels, probabilities),
        "n": len(labels),
        "per_class": {
            name: {
                "auroc": areas[i],
                "recall": recalls[i],
                "precision": precisions[i],
                "count": int(confusion[i].sum()),
            }
            for i, name in enumerate(classes)
        },
        "confusion": confusion.tolist(),
        "resampled": {
            "unit": "scan" if groups is None else "session",
            "units": units,
            "resamples": draw["resamples"],
        },
    }
    if draw["resamples"] < 1 or units < 2:  # one session says nothing about others
        bounds = dict.fromkeys(HEADLINES)
        bounds["per_class"] = {name: {"auroc": None, "recall": None} for name in classes}
    else:
        drawn = resampled_scores(labels, probabilities, groups=groups, **draw)
        bounds = {name: interval(drawn[name]) for name in HEADLINES}
        bounds["ece"] = reverse_interval(result["ece"], drawn["ece"])
        bounds["per_class"] = {
            name: {
                "auroc": interval(drawn["class_auroc"][:, i]),
                "recall": interval(drawn["class_recall"][:, i]),
            }
            for i, name in enumerate(classes)
        }
    return _plain({**result, "intervals": bounds})


def _plain(value):
    """Make numpy values JSON's: floats, lists, and None for what is no number."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        items = [_plain(item) for item in value]
        return None if None in items else items
    if isinstance(value, float):
        return float(value) if np.isfinite(value) else None
    return value
