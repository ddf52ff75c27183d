"""When to say "not a surface I know", from a score that is high for strange scans."""

import numpy as np

from stm_keras.errors import MismatchError, UsageError
from stm_keras.evaluation import metrics
from stm_keras.evaluation.bootstrap import bootstrap_interval

_BINS = 40


def softmax_doubt(probabilities):
    """Score a scan as unknown by one minus its largest probability: the usual baseline.

    Args:
        probabilities: float array of shape `(..., classes)`.

    Returns:
        float array of shape `(...)`.

    Reference:
        Hendrycks and Gimpel, 2017, https://arxiv.org/abs/1610.02136, section 2.
    """
    return 1 - np.asarray(probabilities, float).max(-1)


def unknown_auroc(known, other):
    """Chance that a scan of another surface scores above one of a known surface.

    Args:
        known: float array of shape `(scans,)`. Scores of known surfaces; the higher, the
            stranger.
        other: float array of shape `(other scans,)`.

    Returns:
        float. 0.5 is guessing; ties count half. NaN where one of both is empty.
    """
    labels, scores = _pair_of(known, other)
    return float(metrics.auroc(labels, scores)[1][1]) if len(labels) else float("nan")


def unknown_threshold(known, false_alarms):
    """Find the score above which a scan is called unknown, from known scans alone.

    Args:
        known: float array of shape `(scans,)`. Scores of known surfaces, of validation
            sessions.
        false_alarms: float from 0 to below 1. Share of known scans that may be called
            unknown.

    Returns:
        float. At most this share of these scans lies above it.

    Raises:
        UsageError: The share is not one.
        MismatchError: There is no scan, or a score is not a number.
    """
    if not 0 <= false_alarms < 1:
        raise UsageError(
            "`false_alarms` must be a share from 0 to below 1. "
            f"Received: false_alarms={false_alarms}."
        )
    known = _scores(known, "known")
    if not len(known):
        raise MismatchError("`known` is empty: a threshold needs scans.")
    allowed = int(np.floor(false_alarms * len(known) + 1e-9))
    return float(np.sort(known)[::-1][allowed])


def score_unknown(
    known, other, threshold, *, kinds=None, groups=None, resamples=1000, seed=0
):
    """Score how well other surfaces are told from the known one.

    Args:
        known: float array of shape `(scans,)`. Scores of test scans of the known surface.
        other: float array of shape `(other scans,)`.
        threshold: float, as of `unknown_threshold` on validation scans.
        kinds: str array of shape `(other scans,)`. What each other scan shows, or None.
        groups: array of shape `(scans,)`. Session of each known scan, to resample; or
            None. Other scans are drawn singly.
        resamples: int. 0 leaves the interval out.
        seed: int.

    Returns:
        dict of plain numbers, None where undefined: `auroc` and its `interval`,
        `threshold`, `false_alarms` (share of known scans above it), `found` (share of
        other scans above it), `false_alarms_at_95` (with a threshold that finds 95 % of
        the others), `n_known`, `n_other`; `kinds`, dict of kind to dict of `auroc`,
        `found`, `n`; `histogram`, dict of lists `edges`, `known`, `other`.
    """
    known, other = _scores(known, "known"), _scores(other, "other")
    by_kind = {}
    if kinds is not None:
        kinds = np.asarray(kinds)
        if kinds.shape != other.shape:
            raise MismatchError(
                "`kinds` must hold one name per other scan. "
                f"Received: shape {kinds.shape} for {len(other)} scans."
            )
        for kind in dict.fromkeys(kinds.tolist()):
            own = other[kinds == kind]
            by_kind[str(kind)] = {
                "auroc": _number(unknown_auroc(known, own)),
                "found": float(np.mean(own > threshold)),
                "n": len(own),
            }
    bounds = None
    if resamples and len(known) > 1 and len(other) > 1:
        groups = np.arange(len(known)) if groups is None else np.asarray(groups)
        _, place = np.unique(groups, return_inverse=True)
        units = np.r_[place, place.max() + 1 + np.arange(len(other))]
        bounds = bootstrap_interval(
            lambda labels, scores: metrics.auroc(labels, scores)[1][1],
            *_pair_of(known, other),
            groups=units,
            resamples=resamples,
            seed=seed,
        )
    return {
        "auroc": _number(unknown_auroc(known, other)),
        "interval": None if bounds is None or np.isnan(bounds[0]) else list(bounds),
        "threshold": _number(threshold),
        "false_alarms": _number(_share_above(known, threshold)),
        "found": _number(_share_above(other, threshold)),
        "false_alarms_at_95": _number(_false_alarms_at(known, other, 0.95)),
        "n_known": len(known),
        "n_other": len(other),
        "kinds": by_kind,
        "histogram": _histogram(known, other),
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
    known, other = _scores(known, "known"), _scores(other, "other")
    scores = np.r_[known, other]
    labels = np.repeat([0, 1], [len(known), len(other)])
    return labels, np.stack([-scores, scores], 1)


def _share_above(scores, threshold):
    return np.mean(scores > threshold) if len(scores) else np.nan


def _false_alarms_at(known, other, found):
    if not len(known) or not len(other):
        return np.nan
    needed = int(np.ceil(found * len(other) - 1e-9))
    return np.mean(known >= np.sort(other)[::-1][needed - 1])


def _histogram(known, other):
    both = np.r_[known, other]
    edges = np.linspace(*np.quantile(both, [0.005, 0.995]), _BINS + 1) if len(both) else []
    if not len(both) or edges[0] == edges[-1]:
        return None
    counts = {
        name: np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0].tolist()
        for name, values in (("known", known), ("other", other))
    }
    return {"edges": edges.tolist(), **counts}


def _number(value):
    return float(value) if np.isfinite(value) else None
