"""Calibration: measure whether a confidence of 0.9 means right in 9 of 10, and correct it."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.evaluation.metrics import check_pair

LINES = (1, 2, 4, 8, 16)  # candidates for the fewest lines of a verdict
CALLED_UNKNOWN = 0.5  # least share of other surfaces: else most get a class

TEMPERATURES = (0.05, 20.0)  # beyond these a model is broken, not miscalibrated
SLOPES = (0.2, 5.0)
PRIOR = 2e-3  # weight of a confidence that stays as it is, nats per scan


def reliability(labels, probabilities, bins=15):
    """Compare confidence with accuracy, in bins of equal width.

    Confidence is the largest probability of a scan. A bin holds its upper edge.

    Returns:
        Tuple of float, float and int array of shape `(bins,)`: mean confidence, share
        judged right and number of scans. The first two are NaN in empty bins.
    """
    right, confidence, index = confidence_bins(labels, probabilities, bins)
    count = np.bincount(index, minlength=bins)
    size = np.where(count == 0, np.nan, count)
    return (
        np.bincount(index, confidence, bins) / size,
        np.bincount(index, right, bins) / size,
        count,
    )


def expected_calibration_error(labels, probabilities, bins=15):
    """Average the distance between confidence and accuracy over all scans.

    Returns:
        float from 0 (calibrated) to 1, NaN without scans. With few scans a bin is off
        by chance and the error comes out too large.

    Reference:
        Guo et al., 2017, https://arxiv.org/abs/1706.04599, eq. 3.
    """
    right, confidence, index = confidence_bins(labels, probabilities, bins)
    if not len(right):
        return float("nan")
    return float(np.abs(np.bincount(index, right - confidence, bins)).sum() / len(right))


def fit_temperature(labels, logits):
    """Find the temperature that makes the labels most likely.

    Dividing all logits by one number changes no verdict, only how sure it sounds. The
    likelihood has a single maximum in the inverse temperature, found as the root of
    its slope.

    Args:
        labels: int array of shape `(scans,)`. Of scans the model was not trained on.
        logits: float array of shape `(scans, classes)`. Logarithms of probabilities
            will do.

    Returns:
        float between 0.05 and 20; above 1 the model was overconfident. It is 1 when the
        labels say nothing: with all logits of each scan alike, or with every scan
        judged right, where sharper would always seem better.
    """
    labels, logits = check_pair(labels, logits)
    if not len(labels):
        raise MismatchError("`labels` are empty: a temperature needs scans.")
    logits = logits.astype(float)
    logits = logits - logits.max(axis=1, keepdims=True)
    own = np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    rest = np.sum(logits < 0, axis=1)
    if not np.any(logits) or np.all((own == 0) & (rest == logits.shape[1] - 1)):
        return 1.0

    def slope(inverse):
        weights = np.exp(logits * inverse)
        expected = np.sum(weights * logits, axis=1) / weights.sum(axis=1)
        return np.mean(expected - own)

    from scipy.optimize import brentq

    sharpest, softest = (1 / temperature for temperature in TEMPERATURES)
    if slope(sharpest) <= 0:
        return TEMPERATURES[0]
    if slope(softest) >= 0:
        return TEMPERATURES[1]
    return float(1 / brentq(slope, softest, sharpest, xtol=1e-12))


def fit_confidence(labels, probabilities):
    """Fit how often a verdict is right at its confidence, as a logistic curve.

    A temperature cannot correct a model that is overconfident where it is sure and
    underconfident where it is not, as one is that was trained with balanced classes. This
    moves the probability of the class that is named, and does not change which one it is.

    Give scans that the model was not trained on.

    Returns:
        Tuple of two floats: slope and shift of the logit of the confidence. A prior
        draws them towards 1 and 0, which change nothing.

    Reference:
        Platt, 1999, Probabilistic outputs for support vector machines, section 2.2.
    """
    from scipy.optimize import minimize

    labels, probabilities = check_pair(labels, probabilities)
    if not len(labels):
        return 1.0, 0.0
    right = probabilities.argmax(1) == labels
    first = np.clip(probabilities.max(1).astype(float), 1e-6, 1 - 1e-6)
    logit = np.log(first / (1 - first))
    sign = np.where(right, 1, -1)

    def loss(curve):
        slope, shift = curve
        missed = np.logaddexp(0, -sign * (slope * logit + shift)).mean()
        return missed + PRIOR * ((slope - 1) ** 2 + shift**2)

    slope, shift = minimize(loss, (1.0, 0.0), bounds=(SLOPES, (None, None))).x
    return float(slope), float(shift)


def confidence_bins(labels, probabilities, bins):
    """Sort scans into bins of confidence.

    Returns:
        Tuple of arrays of shape `(scans,)`: judged right (float 0 or 1), confidence
        (float), bin (int).
    """
    labels, probabilities = check_pair(labels, probabilities)
    if (
        probabilities.size
        and not -1e-3 <= probabilities.min() <= probabilities.max() <= 1.001
    ):
        raise MismatchError(
            "`probabilities` must lie between 0 and 1. Received: "
            f"{probabilities.min():.4g} to {probabilities.max():.4g}. "
            "Take the softmax of logits first."
        )
    if not len(labels):
        return np.zeros(0), np.zeros(0), np.zeros(0, int)
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    confidence = np.clip(probabilities.max(axis=1).astype(float), 0, 1)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return right, confidence, index


def min_lines(states: list, classes: int, surfaces: dict | None = None) -> dict:
    """Find the fewest lines after which a verdict is given.

    It is where the state of the tip is judged better than by chance, by the lower end of
    its interval, and, where that was measured, more than half of the scans of other surfaces
    are called unknown: before, most of them would be given a class. If none of `LINES`
    suffices, it is the largest.

    Args:
        states: list of dict with `lines`, `balanced_accuracy` and its interval under
            `intervals`, as `by_lines` of `score_predictions`: of scans that the model, or
            one of its recipe, had not seen.
        surfaces: dict of str, number of lines, to scores as of `score_compared`; or None.

    Returns:
        dict for the facts of a model file: `min_lines`, and `min_lines_measured`, dict of
        str, number of lines, to dict of what was measured.
    """
    measured = {}
    chosen = None
    for point in states:
        lines = point["lines"]
        if lines not in LINES:
            continue
        limits = (point.get("intervals") or {}).get("balanced_accuracy")
        if limits is None:
            limits = [point["balanced_accuracy"]] * 2
        row = {
            "balanced_accuracy": round(point["balanced_accuracy"], 4),
            "interval": [round(each, 4) for each in limits],
        }
        enough = limits[0] > 1 / classes
        if surfaces is not None and str(lines) in surfaces:
            scores = surfaces[str(lines)]
            row["found"] = round(scores["found"], 4)
            row["found_interval"] = [round(e, 4) for e in scores["intervals"]["found"]]
            enough &= scores["found"] > CALLED_UNKNOWN
        measured[str(lines)] = row
        if enough and chosen is None:
            chosen = lines
    if not measured:
        return {}
    chosen = max(map(int, measured)) if chosen is None else chosen
    return {"min_lines": chosen, "min_lines_measured": measured}


def with_min_lines(facts: dict, states: list | None = None) -> dict:
    """Return the facts of a model file with `min_lines` and how it was measured.

    `states` are as for `min_lines`, or None for what `facts` measured before.
    """
    if states is None:
        states = [
            {
                "lines": int(lines),
                "balanced_accuracy": row["balanced_accuracy"],
                "intervals": {"balanced_accuracy": row["interval"]},
            }
            for lines, row in facts.get("min_lines_measured", {}).items()
        ]
    surfaces = (facts.get("unknown") or {}).get("measured")
    return {**facts, **min_lines(states, len(facts["classes"]), surfaces)}
