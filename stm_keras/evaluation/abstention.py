"""When to say "unsure": what is gained by it, and what is lost."""

import numpy as np

from stm_keras.errors import MismatchError, UsageError
from stm_keras.evaluation import metrics
from stm_keras.evaluation.bootstrap import draw_weights, interval
from stm_keras.evaluation.calibration import confidence_bins

UNSURE = -1
_POINTS = 200  # of a curve that is kept


def risk_coverage(labels, probabilities):
    """Follow the share of wrong verdicts over the share of scans that get one.

    Verdicts are given in the order of confidence, the largest probability, surest
    first. Scans of one confidence come together.

    Args:
        labels: int array of shape `(scans,)`.
        probabilities: float array of shape `(scans, classes)`.

    Returns:
        Tuple of float arrays of shape `(points,)`: coverage, rising to 1; risk, the share
        of wrong ones among the verdicts; the confidence from which they are given.

    Reference:
        Geifman and El-Yaniv, 2017, https://arxiv.org/abs/1705.08500, eq. 1 and 2.
    """
    right, confidence, _ = confidence_bins(labels, probabilities, 1)
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    last = np.flatnonzero(np.r_[np.diff(ranked) != 0, True][: len(ranked)])
    wrong = np.cumsum(1 - right[order])[last]
    return (last + 1) / max(len(ranked), 1), wrong / (last + 1), ranked[last]


def area_under_risk_coverage(labels, probabilities):
    """Average the risk over all coverages, from one verdict to all.

    Among scans of one confidence any order is as good, and the mean over them counts.

    Args:
        labels: int array of shape `(scans,)`.
        probabilities: float array of shape `(scans, classes)`.

    Returns:
        float, NaN without scans. With a confidence that tells nothing it is the share of
        wrong verdicts; the less, the better confidence knows them.

    Reference:
        Geifman, Uziel and El-Yaniv, 2019, https://arxiv.org/abs/1805.08206, eq. 1.
    """
    coverage, risk, _ = risk_coverage(labels, probabilities)
    if not len(coverage):
        return float("nan")
    number = np.arange(1, len(np.asarray(labels)) + 1)
    ends = np.r_[0, np.round(coverage * len(number))]
    wrong = np.interp(number, ends, np.r_[0, risk * ends[1:]])
    return float(np.mean(wrong / number))


def confidence_threshold(probabilities, coverage):
    """Find the confidence from which a share `coverage` of the scans gets a verdict.

    Choose it on validation scans: on the test scans it would promise what it has seen.

    Args:
        probabilities: float array of shape `(scans, classes)`.
        coverage: float above 0, at most 1.

    Returns:
        float. The largest threshold that keeps at least this share of these scans;
        0 for a coverage of 1, so that no scan of another day is left without.

    Raises:
        UsageError: The coverage is not a share.
        MismatchError: There is no scan.
    """
    if not 0 < coverage <= 1:
        raise UsageError(
            f"`coverage` must be above 0 and at most 1. Received: coverage={coverage}."
        )
    confidence = _confidence(probabilities)
    if not len(confidence):
        raise MismatchError("`probabilities` are empty: a threshold needs scans.")
    if coverage == 1:
        return 0.0
    kept = int(np.ceil(coverage * len(confidence) - 1e-9))
    return float(np.sort(confidence)[::-1][kept - 1])


def verdicts(probabilities, threshold):
    """Judge each scan, or say unsure where the confidence is below the threshold.

    Args:
        probabilities: float array of shape `(..., classes)`.
        threshold: float.

    Returns:
        int array of shape `(...)`: the likeliest class, or `UNSURE`.
    """
    probabilities = np.asarray(probabilities)
    sure = probabilities.max(-1) >= threshold
    return np.where(sure, probabilities.argmax(-1), UNSURE)


def score_rejection(
    labels,
    probabilities,
    validation_probabilities,
    *,
    coverages=(0.95, 0.9, 0.8),
    groups=None,
    resamples=1000,
    seed=0,
):
    """Score verdicts that may be "unsure", with thresholds of the validation scans.

    Args:
        labels: int array of shape `(scans,)`. Of the test scans.
        probabilities: float array of shape `(scans, classes)`.
        validation_probabilities: float array of shape `(validation scans, classes)`.
        coverages: sequence of float. Shares of validation scans to judge.
        groups: array of shape `(scans,)`. Session of each scan, to resample; or None.
        resamples: int. 0 leaves the intervals out.
        seed: int.

    Returns:
        dict of plain numbers, None where undefined: `n`, `validation` (their number),
        `accuracy` and `aurc` of all verdicts; `points`, a list of dict of `wanted`,
        `threshold`, `coverage`, `accuracy`, `balanced_accuracy`, `n` (verdicts) and
        `intervals` of coverage and accuracy; `curve`, dict of lists `coverage` and
        `risk`.
    """
    right, confidence, _ = confidence_bins(labels, probabilities, 1)
    labels, probabilities = metrics.check_pair(labels, probabilities)
    if not len(labels):
        raise MismatchError("There is no scan to score. Is the part of the split empty?")
    coverage, risk, _ = risk_coverage(labels, probabilities)
    kept = np.unique(np.linspace(0, len(coverage) - 1, _POINTS).astype(int))
    points = []
    for wanted in sorted(coverages, reverse=True):
        threshold = confidence_threshold(validation_probabilities, wanted)
        sure = confidence >= threshold
        predicted = probabilities[sure].argmax(1)
        balanced = metrics.balanced_accuracy(
            labels[sure], predicted, probabilities.shape[1]
        )
        points.append(
            {
                "wanted": float(wanted),
                "threshold": threshold,
                "coverage": float(sure.mean()),
                "accuracy": _number(right[sure].mean() if sure.any() else np.nan),
                "balanced_accuracy": _number(balanced),
                "n": int(sure.sum()),
                "intervals": _intervals(right, sure, groups, resamples, seed),
            }
        )
    return {
        "n": len(labels),
        "validation": len(validation_probabilities),
        "accuracy": float(right.mean()),
        "aurc": area_under_risk_coverage(labels, probabilities),
        "points": points,
        "curve": {"coverage": coverage[kept].tolist(), "risk": risk[kept].tolist()},
    }


def _confidence(probabilities):
    labels = np.zeros(len(np.asarray(probabilities)), int)
    return confidence_bins(labels, probabilities, 1)[1]


def _intervals(right, sure, groups, resamples, seed):
    """Intervals of coverage and of accuracy among the verdicts, or None."""
    units = len(right) if groups is None else len(np.unique(groups))
    if resamples < 1 or units < 2:
        return {"coverage": None, "accuracy": None}
    covered, correct = [], []
    for weights in draw_weights(len(right), resamples, seed, groups):
        judged = np.einsum("i,ij->j", sure.astype(float), weights)
        covered.append(judged / weights.sum(0))
        with np.errstate(invalid="ignore"):
            correct.append(np.einsum("i,ij->j", right * sure, weights) / judged)
    both = {"coverage": np.concatenate(covered), "accuracy": np.concatenate(correct)}
    bounds = {name: interval(values) for name, values in both.items()}
    return {
        name: None if np.isnan(pair[0]) else list(pair) for name, pair in bounds.items()
    }


def _number(value):
    return float(value) if np.isfinite(value) else None
