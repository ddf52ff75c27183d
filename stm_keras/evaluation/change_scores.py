"""Scores of tip changes: detected ones, false alarms, and how far off the calls are."""

import numpy as np

from stm_keras.evaluation import metrics
from stm_keras.evaluation.changes import DELAY, REFRACTORY, find_changes, largest_change

TOLERANCE = 3  # lines


def choose_change_threshold(scores, change_line, *, lines=None, false_alarms=0.05):
    """Find the lowest threshold with few enough false alarms.

    Choose it on scans that are used for nothing else.

    Args:
        change_line: int array of shape `(scans,)`. First line with the new tip, -1
            without a change. Only the scans without one are looked at.
        false_alarms: float. Most alarms per scan without a change; 0.05 is one in 20.
    """
    calm = change_line < 0
    scores, lines = scores[calm], None if lines is None else lines[calm]
    peaks = find_changes(scores, -np.inf, lines=lines, refractory=0)
    heights = np.unique(scores[peaks])
    if not len(heights):
        return 0.0
    # just above a peak that peak is silent
    candidates = np.r_[heights[0], np.nextafter(heights, np.inf)]

    def quiet(index):
        alarms = find_changes(scores, candidates[index], lines=lines).sum()
        return alarms <= false_alarms * len(scores) + 1e-9

    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if quiet(middle) else (middle + 1, high)
    while not quiet(low):  # a lower alarm that was an echo may speak up
        low += 1
    return float(candidates[low])


def score_changes(scores, change_line, threshold, *, lines=None):
    """Score called changes against true ones.

    Args:
        threshold: float, as of `choose_change_threshold` on other scans.

    Returns:
        dict of plain numbers, None where undefined: `found` (share of the changes with a
        call that is off by `TOLERANCE` lines at most), `n_changes`; `false_alarms` (calls per
        scan without a change), `n_calm`; `extra` (calls outside the tolerance, per scan with
        a change); `auroc` of the largest score of a scan; `offset` (median of call minus
        truth), `offsets` (dict of offset, -10 to 10, to number of changes whose nearest
        call is there), `threshold`, `tolerance`, `delay`, `refractory`; `curve`, a
        dict of lists `threshold`, `found`, `false_alarms`.
    """
    calls = find_changes(scores, threshold, lines=lines)
    changed = change_line >= 0
    offsets = _nearest(calls[changed], change_line[changed])
    near = offsets[np.abs(offsets) <= 10]
    largest = largest_change(scores, lines)
    # by rank, for there is no other scale that suits every model
    steps = np.unique(np.quantile(largest, np.linspace(0, 1, 40)))
    curve = [_counts(find_changes(scores, t, lines=lines), change_line) for t in steps]
    return {
        **_counts(calls, change_line),
        "n_changes": int(changed.sum()),
        "n_calm": int((~changed).sum()),
        "auroc": metrics.finite(metrics.area(changed, largest)),
        "offset": metrics.finite(np.median(near)) if len(near) else None,
        "offsets": {str(o): int((near == o).sum()) for o in range(-10, 11)},
        "threshold": float(threshold),
        "tolerance": TOLERANCE,
        "delay": DELAY,
        "refractory": REFRACTORY,
        "curve": {
            "threshold": steps.tolist(),
            "found": [point["found"] for point in curve],
            "false_alarms": [point["false_alarms"] for point in curve],
        },
    }


def score_votes(scores, votes, lines=None):
    """Compare the largest change score of real scans with votes for "tip change".

    Nobody marked the line, and some raters tick the box for what others call bad: an
    agreement, not an accuracy.

    Args:
        votes: float array of shape `(scans,)`. Share of raters who ticked "tip change".

    Returns:
        dict of plain numbers, None where undefined: `auroc` of scans with more than half
        of the votes against the others, `auroc_clear` of all votes against none, and
        `n`, `n_ticked`, `n_clear`.
    """
    largest = largest_change(scores, lines)
    ticked, clear = votes > 0.5, (votes == 0) | (votes == 1)
    return {
        "auroc": metrics.finite(metrics.area(ticked, largest)),
        "auroc_clear": metrics.finite(metrics.area(ticked[clear], largest[clear])),
        "n": len(votes),
        "n_ticked": int(ticked.sum()),
        "n_clear": int(clear.sum()),
    }


def _counts(calls, change_line):
    changed = change_line >= 0
    away = np.abs(np.arange(calls.shape[1]) - change_line[:, None])
    hit = calls & (away <= TOLERANCE) & changed[:, None]
    extra = (calls & ~hit).sum(1)
    return {
        "found": _mean(hit.any(1)[changed]),
        "false_alarms": _mean(extra[~changed]),
        "extra": _mean(extra[changed]),
    }


def _nearest(calls, change_line):
    """Offset of the call nearest to each change, int array; without a call left out."""
    away = np.arange(calls.shape[1]) - change_line[:, None]
    cost = np.where(calls, np.abs(away), np.iinfo(int).max)
    nearest = np.take_along_axis(away, cost.argmin(1)[:, None], 1)[:, 0]
    return nearest[calls.any(1)]


def _mean(values):
    return float(np.mean(values)) if len(values) else None
