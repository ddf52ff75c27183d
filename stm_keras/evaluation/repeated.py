"""Honest scores of few labels: repeated folds by session, a learning curve, paired differences.

With a hundred labels one split is luck. Every scan is judged once a repeat by a model that saw
no scan of its session, and the repeats differ in which sessions were left out together.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from stm_keras.data.stratify import assign_groups
from stm_keras.evaluation import metrics
from stm_keras.evaluation.bootstrap import interval, resampled_area, resampled_scores
from stm_keras.evaluation.scores import score_predictions

FOLDS, REPEATS = 5, 5
FEWEST_SESSIONS = 3  # with fewer, blocks of successive scans stand for sessions
BLOCKS = 10
FEW_SCANS, FEW_GROUPS = 10, 3  # of a class: below, its score is a guess
RESAMPLES = 1000
MORE = 60  # labels that the forecast adds
SCORES = ("auroc", "balanced_accuracy")


@dataclass(frozen=True)
class Folds:
    """In which fold each scan is judged, in each repeat."""

    number: np.ndarray  # int (repeats, scans)
    groups: np.ndarray  # int (scans,): what no fold splits, and what intervals resample
    optimistic: str  # why scores are too good; "" where the groups are sessions

    def parts(self) -> Iterable[tuple[int, np.ndarray, np.ndarray]]:
        """Yield each repeat with a mask of the scans to train on and one of those to judge."""
        for repeat, number in enumerate(self.number):
            for fold in np.unique(number):
                yield repeat, number != fold, number == fold


def repeated_folds(
    labels: np.ndarray,
    session: np.ndarray | None,
    classes: int,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Folds:
    """Draw folds that split no session, or no block of successive scans.

    Args:
        labels: int array `(scans,)`, in the order in which the scans were recorded.
        session: array `(scans,)`, or None where sessions are unknown.
    """
    count = 0 if session is None else len(np.unique(session))
    optimistic = ""
    if count >= FEWEST_SESSIONS:
        groups = np.unique(session, return_inverse=True)[1].reshape(-1)
    else:
        many = {0: "sessions unknown", 1: "one session", 2: "two sessions"}
        optimistic = f"optimistic: {many[count]}"
        groups = _blocks(len(labels), session)
    folds = min(FOLDS, groups.max() + 1)
    shares = np.full(folds, 1 / folds)
    number = [
        assign_groups(labels, groups, shares, (seed, repeat), classes)
        for repeat in range(repeats)
    ]
    return Folds(np.array(number), groups, optimistic)


def _blocks(count, session):
    """Number blocks of successive scans, each of one session: int array `(scans,)`."""
    session = np.zeros(count, int) if session is None else np.asarray(session)
    size = -(-count // BLOCKS)
    names = np.empty((count, 2), int)
    for number, name in enumerate(np.unique(session)):
        own = np.flatnonzero(session == name)
        names[own] = np.stack([np.full(len(own), number), np.arange(len(own)) // size], 1)
    return np.unique(names, axis=0, return_inverse=True)[1].reshape(-1)


def score_folds(
    labels: np.ndarray,
    probabilities: np.ndarray,
    folds: Folds,
    classes: Iterable[str],
    by_lines: dict | None = None,
) -> dict:
    """Score what was judged out of fold, in all repeats together.

    Args:
        labels: int array `(scans,)`.
        probabilities: float array `(repeats, scans, classes)`.
        by_lines: dict of lines seen to such arrays, or None.

    Returns:
        dict as of `score_predictions`; numbers of scans are those of one repeat. Intervals
        resample the groups, each with all its repeats.
    """
    repeats = len(probabilities)
    many = {n: np.concatenate(each) for n, each in (by_lines or {}).items()}
    scores = score_predictions(
        np.tile(labels, repeats),
        np.concatenate(probabilities),
        tuple(classes),
        by_lines=many,
        groups=np.tile(folds.groups, repeats),
        resamples=RESAMPLES,
    )
    for part in (scores, *scores["by_lines"]):
        part["n"] //= repeats
    for part in scores["per_class"].values():
        part["count"] //= repeats
    confusion = np.array(scores["confusion"]) / repeats
    scores["confusion"] = np.round(confusion).astype(int).tolist()
    return scores


def paired_difference(
    labels: np.ndarray, one: np.ndarray, other: np.ndarray, groups: np.ndarray
) -> dict:
    """Compare two models on the same scans: by how much `one` is better, with intervals.

    Args:
        labels: int array `(scans,)`.
        one, other: float arrays `(repeats, scans, classes)`.

    Returns:
        dict of a score to dict of `difference` and `interval`, None where undefined.
    """
    drawn = [_drawn(labels, each, groups) for each in (one, other)]
    whole = [_scores(labels, each) for each in (one, other)]
    return {
        name: {
            "difference": metrics.finite(whole[0][name] - whole[1][name]),
            "interval": _bounds(drawn[0][name] - drawn[1][name]),
        }
        for name in SCORES
    }


def learning_curve(
    labels: np.ndarray, by_size: dict, folds: Folds, more: int = MORE
) -> dict:
    """Follow scores over the number of labels, and forecast what `more` would bring.

    A score rises about as much with every doubling of the labels. The slope is that of a
    straight line over the logarithm of their number, in every resample: so the forecast has
    an interval.

    Args:
        by_size: dict of int, labels trained on, to float array `(repeats, scans, classes)`.

    Returns:
        dict of `points`, list of dict of `labels`, scores and `intervals`; and `forecast`,
        dict of `more` and a score to [gain, low, high], or None with a single point.
    """
    groups, sizes = folds.groups, sorted(by_size)
    whole = [_scores(labels, by_size[size]) for size in sizes]
    drawn = [_drawn(labels, by_size[size], groups) for size in sizes]
    points = [
        {
            "labels": int(size),
            **{name: metrics.finite(score[name]) for name in SCORES},
            "intervals": {name: _bounds(draw[name]) for name in SCORES},
        }
        for size, score, draw in zip(sizes, whole, drawn, strict=True)
    ]
    if len(sizes) < 2:
        return {"points": points, "forecast": None}
    x = np.log2(sizes)
    x = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    rise = np.log2((sizes[-1] + more) / sizes[-1])
    forecast: dict = {"more": more}
    for name in SCORES:
        gain = rise * x @ np.array([score[name] for score in whole])
        gains = rise * x @ np.stack([draw[name] for draw in drawn])
        most = 1 - whole[-1][name]
        limits = _bounds(gains) or [gain, gain]
        forecast[name] = [min(float(each), most) for each in (gain, *limits)]
    return {"points": points, "forecast": forecast}


def doubts(
    labels: np.ndarray, probabilities: np.ndarray, folds: Folds, classes: Iterable[str]
) -> list[str]:
    """Say plainly where labels are too few, and which classes cannot be told apart."""
    classes, said = tuple(classes), []
    unit = "block" if folds.optimistic else "session"
    for number, name in enumerate(classes):
        own = labels == number
        count, groups = int(own.sum()), len(np.unique(folds.groups[own]))
        where = f"{count} scans in {groups} {unit}{'s' * (groups != 1)}"
        if groups == 1:
            said.append(
                f"{name!r}: {where}. Judged without that {unit} nothing is known of it: label "
                f"it in another {unit}."
            )
        elif count < FEW_SCANS or groups < FEW_GROUPS:
            said.append(f"{name!r}: {where}, too few for a score that holds. Label more.")
    repeats = len(probabilities)
    flat, groups = np.concatenate(probabilities), np.tile(folds.groups, repeats)
    many, alike = np.tile(labels, repeats), []
    for one, other in combinations(range(len(classes)), 2):
        either = np.isin(many, (one, other))
        share = flat[either, one] / np.maximum(flat[either][:, [one, other]].sum(1), 1e-12)
        is_one = many[either] == one
        area = metrics.area(is_one, share)
        drawn = resampled_area(
            is_one, share, groups=groups[either], resamples=RESAMPLES, seed=0
        )
        low, _ = interval(drawn)
        if not low > 0.5:
            alike.append(f"{classes[one]!r} and {classes[other]!r} ({area:.2f})")
    if alike:
        said.append(
            f"Cannot be told apart with these labels: {', '.join(alike)}. In brackets the AUROC "
            "between them, whose interval reaches chance."
        )
    return said


def _scores(labels, probabilities):
    many, flat = np.tile(labels, len(probabilities)), np.concatenate(probabilities)
    right = metrics.balanced_accuracy(many, flat.argmax(1), flat.shape[1])
    return {"auroc": metrics.auroc(many, flat)[0], "balanced_accuracy": right}


def _drawn(labels, probabilities, groups):
    repeats = len(probabilities)
    return resampled_scores(
        np.tile(labels, repeats),
        np.concatenate(probabilities),
        groups=np.tile(groups, repeats),
        resamples=RESAMPLES,
    )


def _bounds(values):
    low, high = interval(values)
    return None if np.isnan(low) else [low, high]
