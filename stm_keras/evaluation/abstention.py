"""Abstention: when a verdict is "unsure" or "unknown surface", and what that gains and costs."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.evaluation import metrics
from stm_keras.evaluation.bootstrap import draw_weights, interval, resampled_area
from stm_keras.evaluation.calibration import confidence_bins

COVERAGES = (0.95, 0.9, 0.8)
BINS = 40  # of the histogram of scores
POINTS = 200  # of a curve that is kept


def risk_coverage(labels, probabilities):
    """Follow the share of wrong verdicts over the share of scans that get one.

    Verdicts are given in the order of confidence, the largest probability, surest
    first. Scans of one confidence come together.

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
        coverage: float above 0, at most 1.

    Returns:
        float. The largest threshold that keeps at least this share of these scans.
    """
    confidence = np.sort(np.max(probabilities, axis=1).clip(0, 1).astype(float))[::-1]
    kept = int(np.ceil(coverage * len(confidence) - 1e-9))
    return float(confidence[kept - 1])


def score_rejection(
    labels, probabilities, validation_probabilities, *, groups=None, resamples=1000, seed=0
):
    """Score verdicts that may be "unsure", with thresholds of the validation scans.

    Args:
        labels: int array of shape `(scans,)`. Of the test scans.
        validation_probabilities: float array of shape `(validation scans, classes)`.

    Returns:
        dict of plain numbers, None where undefined: `n`, `validation` (their number),
        `accuracy` and `aurc` of all verdicts; `points`, a list of dict of `wanted` (one of
        `COVERAGES`, shares of the validation scans), `threshold`, `coverage`, `accuracy`,
        `balanced_accuracy`, `n` (verdicts) and `intervals` of coverage and accuracy;
        `curve`, dict of lists `coverage` and `risk`.
    """
    right, confidence, _ = confidence_bins(labels, probabilities, 1)
    coverage, risk, _ = risk_coverage(labels, probabilities)
    kept = np.unique(np.linspace(0, len(coverage) - 1, POINTS).astype(int))
    points = []
    for wanted in COVERAGES:
        threshold = confidence_threshold(validation_probabilities, wanted)
        sure = confidence >= threshold
        predicted = probabilities[sure].argmax(1)
        balanced = metrics.balanced_accuracy(
            labels[sure], predicted, probabilities.shape[1]
        )
        points.append(
            {
                "wanted": wanted,
                "threshold": threshold,
                "coverage": float(sure.mean()),
                "accuracy": metrics.finite(right[sure].mean() if sure.any() else np.nan),
                "balanced_accuracy": metrics.finite(balanced),
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


def unknown_threshold(known, false_alarms):
    """Find the score above which a scan is called unknown, from known scans alone.

    Args:
        known: float array of shape `(scans,)`. Scores of known surfaces, of validation
            sessions.
        false_alarms: float from 0 to below 1. Share of known scans that may be called
            unknown.

    Returns:
        float. At most this share of these scans lies above it.
    """
    known = _scores(known, "known")
    if not len(known):
        raise MismatchError("`known` is empty: a threshold needs scans.")
    allowed = int(np.floor(false_alarms * len(known) + 1e-9))
    return float(np.sort(known)[::-1][allowed])


def score_unknown(
    known, other, threshold, *, kinds=None, groups=None, resamples=1000, seed=0
):
    """Score how well other surfaces are told apart from the known one.

    Args:
        known: float array of shape `(scans,)`. Scores of test scans of the known surface.
        other: float array of shape `(other scans,)`.
        threshold: float, as of `unknown_threshold` on validation scans.
        kinds: str array of shape `(other scans,)`. What each other scan shows, or None.
        groups: array of shape `(scans,)`. Session of each known scan, to resample; or
            None. Other scans are drawn singly.

    Returns:
        dict of plain numbers, None where undefined: `auroc`, the chance that another scan
        scores above a known one (ties count half), and its `interval`,
        `threshold`, `false_alarms` (share of known scans above it), `found` (share of
        other scans above it), `false_alarms_at_95` (with a threshold that finds 95 % of
        the others), `n_known`, `n_other`; `kinds`, dict of kind to dict of `auroc`,
        `found`, `n`; `histogram`, dict of lists `edges`, `known`, `other`.
    """
    known, other = _scores(known, "known"), _scores(other, "other")
    by_kind = {}
    if kinds is not None:
        for kind in dict.fromkeys(kinds.tolist()):
            own = other[kinds == kind]
            by_kind[str(kind)] = {
                "auroc": metrics.finite(metrics.area(*_pair_of(known, own))),
                "found": float(np.mean(own > threshold)),
                "n": len(own),
            }
    bounds, pair = None, _pair_of(known, other)
    if resamples and len(known) > 1 and len(other) > 1:
        groups = np.arange(len(known)) if groups is None else np.asarray(groups)
        _, session = np.unique(groups, return_inverse=True)
        units = np.r_[session, session.max() + 1 + np.arange(len(other))]
        bounds = interval(
            resampled_area(*pair, groups=units, resamples=resamples, seed=seed)
        )
    return {
        "auroc": metrics.finite(metrics.area(*pair)),
        "interval": None if bounds is None or np.isnan(bounds[0]) else list(bounds),
        "threshold": metrics.finite(threshold),
        "false_alarms": metrics.finite(_share_above(known, threshold)),
        "found": metrics.finite(_share_above(other, threshold)),
        "false_alarms_at_95": metrics.finite(_false_alarms_at(known, other, 0.95)),
        "n_known": len(known),
        "n_other": len(other),
        "kinds": by_kind,
        "histogram": _histogram(known, other),
    }


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


def _scores(values, name):
    values = np.asarray(values, float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise MismatchError(
            f"`{name}` must be numbers of shape (scans,). Received: shape {values.shape}, "
            f"{int(np.sum(~np.isfinite(values)))} of them not finite."
        )
    return values


def _pair_of(known, other):
    """Return which scans are of another surface, and the scores of all: bool, float `(scans,)`."""
    return np.arange(len(known) + len(other)) >= len(known), np.r_[known, other]


def _share_above(scores, threshold):
    return np.mean(scores > threshold) if len(scores) else np.nan


def _false_alarms_at(known, other, share):
    """Return the share of known scans above the score that so many others reach."""
    if not len(known) or not len(other):
        return np.nan
    needed = int(np.ceil(share * len(other) - 1e-9))
    return np.mean(known >= np.sort(other)[::-1][needed - 1])


def _histogram(known, other):
    both = np.r_[known, other]
    edges = np.linspace(*np.quantile(both, [0.005, 0.995]), BINS + 1) if len(both) else []
    if not len(both) or edges[0] == edges[-1]:
        return None
    counts = {
        name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
        for name, values in (("known", known), ("other", other))
    }
    return {"edges": edges.tolist(), **counts}
