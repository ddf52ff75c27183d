"""Measure what the scans before bring: verdicts after few lines, with and without them.

Every scan of test sessions is judged, those of several classes and those that ended early too,
for the tip was there before them as well; complete scans of one class are scored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from stm_keras.data.dataset import Dataset
from stm_keras.data.scan_order import scans_before
from stm_keras.errors import MismatchError
from stm_keras.evaluation import metrics
from stm_keras.evaluation.bootstrap import draw_weights, interval, resampled_scores
from stm_keras.evaluation.calibration import expected_calibration_error
from stm_keras.inference.context import Context
from stm_keras.inference.judge import scan_verdicts
from stm_keras.inference.predictor import Predictor

LINES = (1, 2, 4, 8, 16, 20, 32, 48, 64)
SCORES = ("auroc", "balanced_accuracy")
GRID = {  # of the numbers that are chosen
    "frequency": (0.0, 0.25, 0.5, 0.75, 1.0),
    "strength": (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0),
    "fade_lines": (32, 48, 64),
}
CHOSEN_BY = (1, 4, 8, 20, 32)  # lines
EARLY, ALONE = (
    (1, 2, 4),
    8,
)  # lines with the scans before, and those of the first verdict alone
MOST_ERROR = 0.03  # of the calibration


@dataclass(frozen=True)
class JudgedSessions:
    """What one model answered on all scans of sessions that it had not seen.

    Args:
        labels: int array `(scans,)`. -1 of a scan that is not scored.
        sessions: array `(scans,)`.
        before: int array `(scans,)`. Number of the scan before, -1 where there is none.
        whole: float array `(scans, classes)`. Probabilities after all lines, NaN where nothing
            could be judged or the surface was called unknown.
        by_lines: dict of lines to float array `(scans, classes)`.
        changed: bool array `(scans,)`. Whether a tip change was called in the scan.
        transitions: float array `(classes, classes)`, of the training sessions of the model.
    """

    labels: np.ndarray
    sessions: np.ndarray
    before: np.ndarray
    whole: np.ndarray
    by_lines: dict
    changed: np.ndarray
    transitions: np.ndarray

    def expected(self, context: Context) -> np.ndarray:
        """Return what is expected of each scan by those before: `(scans, classes)`, else NaN."""
        told = np.full(self.whole.shape, np.nan)
        pending = {}  # by scan: what is expected of the next
        for scan in self._in_order():
            one = self.before[scan]
            own = pending.get(one)
            if own is not None:
                told[scan] = own
            if np.isnan(self.whole[scan]).any():
                pending[scan] = own
            elif not self.changed[scan]:
                pending[scan] = context.expect(own, self.whole[scan])
        return told

    def _in_order(self):
        """Yield each scan after the one before it."""
        after = {one: scan for scan, one in enumerate(self.before.tolist()) if one >= 0}
        for first in np.flatnonzero(self.before < 0).tolist():
            scan: int | None = first
            while scan is not None:
                yield scan
                scan = after.get(scan)

    def with_context(self, context: Context) -> dict:
        """Return `by_lines` with the scans before, and without them where there are none."""
        expected = self.expected(context)
        return {n: _combined(self, context, expected, n) for n in self.by_lines}


def judge_sessions(
    predictor: Predictor,
    dataset: Dataset,
    tested: np.ndarray,
    transitions: np.ndarray,
    progress: Callable | None = None,
) -> JudgedSessions:
    """Judge all scans of the sessions of some scans, whole and after few lines.

    Args:
        tested: int array. Test scans, which are scored.
        transitions: As of `JudgedSessions`.

    Raises:
        MismatchError: Nobody says which scan came before which.
    """
    before = scans_before(dataset)
    if before is None:
        raise MismatchError(
            f"{dataset.source}: which scan came before which is unknown. Give `session` and "
            "`run` of each scan."
        )
    scored = np.full(len(dataset), -1)
    scored[tested] = dataset.labels[tested]
    indices = np.flatnonzero(np.isin(dataset.session, dataset.session[tested]))
    number = np.full(len(dataset) + 1, -1)  # the last is of no scan
    number[indices] = np.arange(len(indices))
    images = dataset.take(indices).images
    verdicts = scan_verdicts(predictor, images, progress=progress, states=False)
    unknown = (np.nan,) * len(dataset.classes)
    return JudgedSessions(
        labels=scored[indices],
        sessions=dataset.session[indices],
        before=number[before[indices]],
        whole=np.array(
            [
                unknown
                if each.unknown_surface or not each.probabilities
                else each.probabilities
                for each in verdicts
            ]
        ),
        by_lines=predictor.by_lines(images, LINES),
        changed=np.array([bool(each.change_lines) for each in verdicts]),
        transitions=transitions,
    )


def choose_numbers(parts: Sequence[JudgedSessions]) -> dict:
    """Choose `frequency`, `strength` and `fade_lines` of a `Context`.

    Those with the largest AUROC and balanced accuracy, in the mean over the lines `CHOSEN_BY`,
    whose calibration error is there at most `MOST_ERROR`, or that of the lines alone if it is
    larger. Where none is, the one with the smallest.
    """
    expected = [each.expected(Context(each.transitions)) for each in parts]
    scored = [np.flatnonzero(each.labels >= 0) for each in parts]
    labels = np.concatenate([each.labels[k] for each, k in zip(parts, scored, strict=True)])

    def measure(numbers):  # mean score and error
        told = []
        for lines in sorted(set(CHOSEN_BY).intersection(parts[0].by_lines)):
            shares = np.concatenate(
                [
                    _combined(each, Context(each.transitions, **numbers), told, lines)[k]
                    for each, told, k in zip(parts, expected, scored, strict=True)
                ]
            )
            error = expected_calibration_error(labels, shares)
            told.append([np.mean([*_scores(labels, shares).values()]), error])
        return np.mean(told, axis=0)

    limit = max(MOST_ERROR, measure({"strength": 0.0})[1])

    def rank(numbers):
        score, error = measure(numbers)
        return (1, score) if error <= limit else (0, -error)

    choices = (dict(zip(GRID, values, strict=True)) for values in product(*GRID.values()))
    return max(choices, key=rank)


def _combined(part, context, expected, lines):
    """Return the answers after some lines with the scans before, where there are any."""
    there = ~np.isnan(expected[:, 0])
    told = part.by_lines[lines].copy()
    told[there] = context.combine(expected[there], told[there], lines)
    return told


def score_context(parts: Sequence[JudgedSessions], seed: int = 0) -> dict:
    """Score verdicts with and without the scans before, each part by numbers of the others.

    With numbers of its own a part would be scored too well.

    Args:
        parts: one for each fold. Of a single one the numbers are those of `Context`.

    Returns:
        dict, JSON-ready: `scans`, how many are scored, and `before`, how many of these have
        scans before them; `dropped`, how many would, were those not dropped; `numbers`, those
        of each part, and `chosen`, whether they were chosen; `lines`, a list of dict of
        `lines`; `alone` and `context`, each a dict of scores `[value, low, high]` and `ece`;
        `gain`, their paired differences; and `changed` and `same`, dict of `scans`, `alone`,
        `context` and `gain`: the share judged right of the scans whose class is not that of the
        scan before, or is, where both are of one class; and `early`, a list of dict of `lines`
        and `gain`: what is gained over the verdict alone after `ALONE` lines, which models give
        first, after fewer lines with the scans before.
    """
    numbers = [
        choose_numbers([*parts[:k], *parts[k + 1 :]]) if len(parts) > 1 else {}
        for k in range(len(parts))
    ]
    contexts = [
        Context(each.transitions, **chosen)
        for each, chosen in zip(parts, numbers, strict=True)
    ]
    told = [
        each.with_context(context) for each, context in zip(parts, contexts, strict=True)
    ]
    expected = [
        each.expected(context) for each, context in zip(parts, contexts, strict=True)
    ]
    scored = [each.labels >= 0 for each in parts]

    def pooled(values):
        return np.concatenate([v[s] for v, s in zip(values, scored, strict=True)])

    labels = pooled([each.labels for each in parts])
    groups = np.unique(pooled([each.sessions for each in parts]), return_inverse=True)[1]
    last = pooled([_last(each) for each in parts])
    rows = []
    for lines in parts[0].by_lines:
        alone = pooled([each.by_lines[lines] for each in parts])
        context = pooled([each[lines] for each in told])
        rows.append(
            {"lines": lines, **_compare(labels, alone, context, groups, last, seed)}
        )
    early, alone = [], pooled([each.by_lines[ALONE] for each in parts])
    for lines in sorted(set(EARLY).intersection(parts[0].by_lines)):
        context = pooled([each[lines] for each in told])
        early.append({"lines": lines, "gain": _gains(labels, alone, context, groups, seed)})
    there = pooled([~np.isnan(each[:, 0]) for each in expected])
    linked = pooled([each.before >= 0 for each in parts])
    return {
        "scans": len(labels),
        "before": int(there.sum()),
        "dropped": int((linked & ~there).sum()),
        "numbers": [
            {name: getattr(context, name) for name in GRID} for context in contexts
        ],
        "chosen": len(parts) > 1,
        "lines": rows,
        "early": early,
    }


def _last(part):
    """Return the class of the scan before each, -1 where there is none."""
    return np.where(part.before >= 0, part.labels[part.before], -1)


def _compare(labels, alone, context, groups, last, seed):
    both = {"alone": alone, "context": context}
    drawn = {
        name: resampled_scores(labels, each, groups=groups, seed=seed)
        for name, each in both.items()
    }
    whole = {name: _scores(labels, each) for name, each in both.items()}
    told = {
        name: {key: _bounded(whole[name][key], drawn[name][key]) for key in SCORES}
        | {"ece": expected_calibration_error(labels, both[name])}
        for name in both
    }
    told["gain"] = _gains(labels, alone, context, groups, seed)
    for name, chosen in (
        ("changed", (last >= 0) & (last != labels)),
        ("same", last == labels),
    ):
        told[name] = _shares_right(labels, both, groups, chosen, seed)
    return told


def _gains(labels, alone, context, groups, seed):
    """Return what one answer scores more than another, paired: dict of `[value, low, high]`."""
    whole = [_scores(labels, each) for each in (context, alone)]
    drawn = [
        resampled_scores(labels, e, groups=groups, seed=seed) for e in (context, alone)
    ]
    return {
        key: _bounded(whole[0][key] - whole[1][key], drawn[0][key] - drawn[1][key])
        for key in SCORES
    }


def _scores(labels, probabilities):
    classes = probabilities.shape[1]
    right = metrics.balanced_accuracy(labels, probabilities.argmax(1), classes)
    return {
        "auroc": metrics.auroc(labels, probabilities)[0],
        "balanced_accuracy": right,
    }


def _shares_right(labels, both, groups, chosen, seed):
    """Score the scans that are `chosen`: shares judged right, and their difference."""
    if not chosen.any():
        return None
    right = {name: (each.argmax(1) == labels)[chosen] for name, each in both.items()}
    count = int(chosen.sum())
    weights = [*draw_weights(count, 1000, seed, groups[chosen])]
    drawn = {
        name: np.concatenate([each @ part / part.sum(0) for part in weights])
        for name, each in right.items()
    }
    told = {name: _bounded(each.mean(), drawn[name]) for name, each in right.items()}
    gain = right["context"].mean() - right["alone"].mean()
    return {
        "scans": count,
        **told,
        "gain": _bounded(gain, drawn["context"] - drawn["alone"]),
    }


def _bounded(value, drawn):
    return [round(float(each), 6) for each in (value, *interval(drawn))]
