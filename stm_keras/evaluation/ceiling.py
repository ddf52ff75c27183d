"""How well labels can be told at best: a ceiling for models, estimated from votes.

Raters disagree, so a label holds chance that no picture tells. To say how much, it is assumed:

- a scan is of one of a few types, for which raters need have no name;
- how often a rater ticks which set of boxes depends on the type alone, and the raters of a scan
  tick independently of each other;
- who ticked what is not known: all ways to deal the ticks out to the raters are summed over.

The ceiling is what a judge reaches who knows the type of each scan, and nothing of its raters.
Sessions left out of the fit choose the number of types.

Reference:
    Dawid and Skene, 1979, https://doi.org/10.2307/2346806, with types instead of true classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from stm_keras.data.dataset import labels_from_votes
from stm_keras.evaluation.bootstrap import draw_weights, interval
from stm_keras.evaluation.human import RatedScans, class_votes, deal_ticks

TYPES = range(2, 14)  # that are tried
MOST_RATERS = 3  # scans with more are left out of the fit, and count as scans with so many
FOLDS, STARTS, STEPS = 5, 4, 300
PRIOR = 0.5  # raters that each type has from the outset, who tick as all raters do
RESAMPLES = 200
KINDS = ("single-class", "consensus")
SCORES = ("auroc", "balanced_accuracy", "accuracy")


@dataclass(frozen=True)
class Readings:
    """Every way in which the ticks of scans may be dealt out to their raters.

    Args:
        sets: bool array `(sets, boxes)`. Sets of boxes that a rater may have ticked.
        counts: float array `(ways, sets)`. How many raters ticked each set.
        pattern: int array `(ways,)`. The pattern of ticks that is dealt out.
        scans: float array `(patterns,)`. How many scans have it.
    """

    sets: np.ndarray
    counts: np.ndarray
    pattern: np.ndarray
    scans: np.ndarray


@dataclass(frozen=True)
class Types:
    """Types of scans: share of the scans `(types,)`, chance of each set `(types, sets)`."""

    share: np.ndarray
    ticked: np.ndarray


def read_ticks(scans: RatedScans) -> tuple[Readings, np.ndarray]:
    """Collect all readings of scans with at most `MOST_RATERS` raters.

    Returns:
        Tuple of `Readings`, and float array `(sessions, patterns)`: scans of each session.
    """
    patterns, which = scans.patterns()
    few = [number for number, (raters, _) in enumerate(patterns) if raters <= MOST_RATERS]
    dealt = [deal_ticks(*patterns[number]) for number in few]
    ticked = np.concatenate([ways.reshape(-1, ways.shape[2]) for ways in dealt])
    sets, number = np.unique(ticked, axis=0, return_inverse=True)
    raters = np.concatenate([np.full(len(ways), ways.shape[1]) for ways in dealt])
    counts = np.zeros((len(raters), len(sets)))
    np.add.at(counts, (np.repeat(np.arange(len(raters)), raters), number.reshape(-1)), 1)
    names, session = np.unique(scans.session, return_inverse=True)
    by_session = np.zeros((len(names), len(patterns)))
    np.add.at(by_session, (session.reshape(-1), which), 1)
    by_session = by_session[:, few]
    pattern = np.repeat(np.arange(len(few)), [len(ways) for ways in dealt])
    return Readings(sets, counts, pattern, by_session.sum(0)), by_session


def fit_types(
    readings: Readings, start: Types | int, seed: int = 0, steps: int = STEPS
) -> tuple[Types, float]:
    """Fit types to readings by expectation maximisation.

    Args:
        start: `Types` to begin with, or how many to draw.

    Returns the `Types`, and the logarithm of their likelihood.
    """
    pattern = readings.pattern
    common = (readings.scans / np.bincount(pattern))[pattern] @ readings.counts + 0.05
    common /= common.sum()
    if isinstance(start, int):
        drawn = np.random.default_rng((seed, start)).dirichlet(20 * common + 1e-3, start)
        start = Types(np.full(start, 1 / start), 0.7 * drawn + 0.3 * common)
    types, before = start, -np.inf
    for _ in range(steps):
        joint = _joint(readings, types)
        total = np.bincount(pattern, joint.sum(1))
        likelihood = float(readings.scans @ np.log(total))
        joint *= (readings.scans / total)[pattern, None]
        share, ticked = joint.sum(0), joint.T @ readings.counts + PRIOR * common
        types = Types(share / share.sum(), ticked / ticked.sum(1, keepdims=True))
        if likelihood - before < 1e-6 * abs(likelihood):
            break
        before = likelihood
    return types, likelihood


def _joint(readings, types):
    """Return how likely each way and type are together: `(ways, types)`."""
    return np.exp(readings.counts @ np.log(types.ticked.T)) * types.share


def _best_fit(readings, number):
    """Return the most likely types of a few starts."""
    fits = [fit_types(readings, number, seed) for seed in range(STARTS)]
    return max(fits, key=lambda fit: fit[1])[0]


def held_out(readings: Readings, by_session: np.ndarray, number: int) -> np.ndarray:
    """Return how likely sessions are under types fitted to others: logarithms `(sessions,)`."""
    fold, held = np.arange(len(by_session)) % FOLDS, np.zeros(len(by_session))
    for left_out in np.unique(fold):
        own = fold == left_out
        types = _best_fit(replace(readings, scans=by_session[~own].sum(0)), number)
        total = np.bincount(readings.pattern, _joint(readings, types).sum(1))
        held[own] = by_session[own] @ np.log(total)
    return held


def choose_types(held: dict[int, np.ndarray]) -> tuple[int, list[int]]:
    """Choose a number of types, of which each is given with what `held_out` says of it.

    Returns:
        Tuple of int, the fewest types within a standard error of the best; and list of int, those
        within two, among which sessions do not decide.
    """
    best = max(held.values(), key=np.sum)
    errors = {}  # by how many standard errors each is worse
    for number, own in held.items():
        error = np.std(best - own, ddof=1) * np.sqrt(len(own))
        errors[number] = (best - own).sum() / error if error > 0 else 0.0
    return min(k for k in held if errors[k] <= 1), [k for k in held if errors[k] <= 2]


def label_chances(sets: np.ndarray, raters: int) -> np.ndarray:
    """Return which label sets of ticks give together: float `(sets, ..., sets, classes)`."""
    ticked = np.indices([len(sets)] * raters).reshape(raters, -1)
    classes = class_votes(sets[ticked].mean(0))
    labels = np.eye(classes.shape[1] + 1)[labels_from_votes(classes)][
        :, :-1
    ]  # last: no class
    return labels.reshape(*[len(sets)] * raters, -1)


def score_judge(
    types: Types, labels: dict[int, np.ndarray], raters: np.ndarray
) -> np.ndarray:
    """Score the best answers of a judge who knows the type of each scan.

    Args:
        labels: number of raters to what `label_chances` says.
        raters: float array. Share of the scans that have one rater, two, ...

    Returns:
        float array `(kinds, scores)`, of `KINDS` and `SCORES`.
    """
    single, consensus = 0.0, 0.0  # (types, classes): chance of a scan to be labelled so
    for number, chances in labels.items():
        labelled = np.tensordot(types.ticked, chances, 1)
        for _ in range(number - 1):
            labelled = np.einsum("ts,ts...->t...", types.ticked, labelled)
        single += raters[number - 1] * labelled
        if number > 1:  # all tick the same
            consensus += raters[number - 1] * types.ticked**number @ labels[1]
    return np.array([_best_answers(types.share[:, None] * k) for k in (single, consensus)])


def _best_answers(joint):
    """Score the best answers to each type: joint, `(types, classes)` of labels."""
    joint = joint[:, joint.sum(0) > 0] / joint.sum()
    of_class, of_type = joint.sum(0), joint.sum(1, keepdims=True)
    own, other = joint / of_class, (of_type - joint) / (1 - of_class)
    above = (joint / of_type)[:, None] - (joint / of_type)[
        None
    ]  # (own type, other, classes)
    won = (above > 0) + 0.5 * (above == 0)
    auroc = np.einsum("ac,bc,abc->c", own, other, won).mean()
    return auroc, own.max(1).sum() / len(of_class), joint.max(1).sum()


def expected_pairs(types: Types, sets: np.ndarray) -> dict[str, float]:
    """Score one rater of these types against another where both name one class."""
    named = types.ticked @ label_chances(sets, 1)
    table = named.T @ (types.share[:, None] * named)
    balanced = (np.diag(table) / table.sum(1)).mean()
    accuracy = np.trace(table) / table.sum()
    return {"balanced_accuracy": float(balanced), "accuracy": float(accuracy)}


def score_ceiling(
    scans: RatedScans,
    tried: Iterable[int] = TYPES,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict:
    """Estimate the best scores that labels of so many raters allow.

    Intervals resample sessions, to each of which the types are fitted again.

    Returns:
        dict of `types`, how many; `among`, the numbers of types among which sessions do not
        decide; `scores`, dict of `KINDS` to dict of `SCORES` to [value, low, high]; `range`, the
        same with [least, most] over `among`; `pairs`, as of `expected_pairs`: raters come near
        it, or the assumptions do not hold; `scans`, `resamples`.
    """
    readings, by_session = read_ticks(scans)
    number, among = choose_types({k: held_out(readings, by_session, k) for k in tried})
    shares = np.bincount(np.minimum(scans.raters, MOST_RATERS))[1:] / len(scans.raters)
    labels = {k: label_chances(readings.sets, k) for k in range(1, len(shares) + 1)}
    fits = {k: _best_fit(readings, k) for k in among}
    spread = np.stack([score_judge(types, labels, shares) for types in fits.values()])
    value = spread[among.index(number)]
    drawn = []
    for draws in draw_weights(len(by_session), resamples, seed):
        for draw in draws.T:
            again = replace(readings, scans=draw @ by_session)
            types, _ = fit_types(again, fits[number], steps=STEPS // 3)
            drawn.append(score_judge(types, labels, shares))
    low, high = np.apply_along_axis(interval, 0, np.stack(drawn))
    return {
        "types": number,
        "among": among,
        "scores": _named(value, low, high),
        "range": _named(spread.min(0), spread.max(0)),
        "pairs": expected_pairs(fits[number], readings.sets),
        "scans": int(by_session.sum()),
        "resamples": resamples,
    }


def _named(*tables):
    """Give the cells of tables `(kinds, scores)` their names: dict of dict of lists."""
    cells = np.stack(tables, axis=-1).tolist()
    return {
        k: dict(zip(SCORES, row, strict=True)) for k, row in zip(KINDS, cells, strict=True)
    }
