"""Bootstrap intervals: how far a score could be off by the luck of the test scans.

A resample is a whole-number weight on every scan: how often it was drawn. With
weights a ranking is sorted once instead of once a resample, so a thousand resamples
of all scores cost a second rather than minutes.

Under P1 scans are drawn. Under P2 and P3 whole sessions are, because scans of one
session share their tip and stand or fall together; drawing scans would promise more
than a new day will hold. With fewer than about ten sessions even that is too narrow,
and with a single one there is no interval at all.
"""

import numpy as np

from stm_keras.evaluation.calibration import confidence_bins
from stm_keras.evaluation.metrics import check_pair

LIMITS = (1 - 0.95) / 2, (1 + 0.95) / 2  # of an interval
CHUNK = 200_000  # weights at once: what fits into the cache of a processor


def resampled_area(is_class, scores, *, groups, resamples, seed):
    """Return the area under the ROC curve of one class in every resample."""
    order = np.lexsort((scores, is_class))
    ranking = _ranking(is_class[order], scores[order])
    draws = _draw(len(scores), resamples, seed, groups, order)
    return np.concatenate([_weighted_area(*ranking, weights) for weights in draws])


def resampled_scores(
    labels, probabilities, *, groups=None, resamples=1000, seed=0, bins=15
):
    """Score every resample, all scores at once.

    A resample may lack a class that the scans have. Its area, recall and every
    average over classes are then NaN, for an average over three classes is another
    quantity than one over four; `interval` leaves such resamples out.

    Returns:
        dict of `auroc`, `balanced_accuracy`, `accuracy`, `ece` to float array of shape
        `(resamples,)`, and `class_auroc`, `class_recall` to `(resamples, classes)`.
    """
    labels, probabilities = check_pair(labels, probabilities)
    right, confidence, index = confidence_bins(labels, probabilities, bins)
    # Scans of one class, alike right or wrong and in one bin, lie together: sums are of slices.
    shape = probabilities.shape[1], 2, bins
    part = np.ravel_multi_index((labels, right.astype(int), index), shape)
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    order = np.lexsort((own, part))
    labels, probabilities, confidence, part = (
        each[order] for each in (labels, probabilities, confidence, part)
    )
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    part = part[starts]
    classes = range(shape[0])
    present = np.bincount(labels, minlength=len(classes)) > 0
    rankings = [_ranking(labels == i, probabilities[:, i].copy()) for i in classes]
    chunks = []
    for weights in _draw(len(labels), resamples, seed, groups, order):
        area = np.stack([_weighted_area(*each, weights) for each in rankings], axis=1)
        counts = _sums(weights, np.int64, starts, part, shape)
        of_class, of_right = counts.sum((2, 3)), counts[:, :, 1].sum(2)
        recall, total = _divide(of_right, of_class), of_class.sum(1)
        expected = _sums(weights * confidence, float, starts, part, shape).sum((1, 2))
        gap = counts[:, :, 1].sum(1) - expected
        chunks.append(
            {
                "auroc": area[:, present].mean(axis=1),
                "balanced_accuracy": recall[:, present].mean(axis=1),
                "accuracy": _divide(of_right.sum(1), total),
                "ece": _divide(np.abs(gap).sum(1), total),
                "class_auroc": area,
                "class_recall": recall,
            }
        )
    return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}


def interval(values):
    """Return the percentile interval of resampled values, NaN where undefined.

    Returns:
        Tuple of two floats. Both are NaN when fewer than half of the resamples have a
        value: the rest would be a selection of lucky ones.
    """
    values = np.asarray(values, float)
    defined = values[np.isfinite(values)]
    if not len(defined) or 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, LIMITS)
    return float(low), float(high)


def reverse_interval(value, values):
    """Mirror the percentile interval about the value, for a score of one sign.

    A calibration error adds up distances, so chance makes it too large, and a resample
    has that chance twice. On simulated calibrated models (300 and 3,000 scans) the
    plain percentile interval never held the true error, this one in about half of the
    cases; on an overconfident model, with 300 scans, 71 % against 91 %. It can lie
    below `value`, which is then mostly chance.

    Returns:
        Tuple of two floats, not below 0; NaN as of `interval`.
    """
    low, high = (2 * value - bound for bound in reversed(interval(values)))
    return (low, high) if np.isnan(low) else (max(low, 0.0), max(high, 0.0))


def draw_weights(scans, resamples, seed, groups=None):
    """Draw scans, or whole groups of them, with replacement.

    Yields:
        int array of shape `(scans, some resamples)`: how often each scan was drawn.
        Their number per array depends on memory, never on chance.
    """
    for weights in _draw(scans, resamples, seed, groups):
        yield weights.T.astype(np.int64)


def _draw(scans, resamples, seed, groups=None, order=slice(None)):
    """Yield int arrays `(some resamples, scans)`, scans in `order`: sums are along what lies
    together."""
    units, unit = scans, order
    if groups is not None:
        names, unit = np.unique(groups, return_inverse=True)
        units, unit = len(names), unit[order]
    random = np.random.default_rng(seed)
    step = max(1, CHUNK // scans)
    for start in range(0, resamples, step):
        drawn = [
            np.bincount(random.integers(units, size=units), minlength=units)
            for _ in range(start, min(start + step, resamples))
        ]
        # mostly bytes: what is gathered in the order of every class should lie in the cache
        kind = np.uint8 if max(each.max() for each in drawn) < 256 else np.int64
        yield np.stack([each.astype(kind)[unit] for each in drawn])


def _ranking(is_class, scores):
    """Sort the other scans once; find where each scan of the class, a slice, falls there."""
    start = int(is_class.argmax())
    own = slice(start, start + int(is_class.sum()))
    others = np.flatnonzero(~is_class)
    theirs = scores[others]
    order = np.argsort(theirs)
    theirs = theirs[order]
    below, through = (np.searchsorted(theirs, scores[own], s) for s in ("left", "right"))
    others = others[order]
    return own, others, below, through


def _weighted_area(own, others, below, through, weights):
    """Area under the ROC curve of one class in every resample, `(resamples,)`."""
    passed = np.zeros((len(weights), len(others) + 1), np.int64)
    np.cumsum(weights.take(others, 1), axis=1, out=passed[:, 1:])
    beaten = passed.take(below, 1)
    beaten += passed.take(through, 1)
    own = weights[:, own].astype(np.int64)
    # no matrix product: on a busy machine its threads wait for each other for seconds
    won = np.einsum("ij,ij->i", own, beaten)
    return _divide(won, 2 * own.sum(1) * passed[:, -1])


def _sums(values, kind, starts, part, shape):
    """Sum values `(resamples, scans)` from each start to the next: `(resamples, *shape)`.

    `part` is where the sums belong in the result. Where nothing belongs it is 0.
    """
    sums = np.zeros((len(values), np.prod(shape)), kind)
    sums[:, part] = np.add.reduceat(values, starts, axis=1, dtype=kind)
    return sums.reshape(-1, *shape)


def _divide(part, whole):
    return np.divide(part, np.where(whole == 0, np.nan, whole))
