"""What one rater says where another said something: the human beside a model.

The votes of a scan are shares; who of its raters ticked which box is not stored. Where that is not
certain, every way to deal the ticks out to the raters counts alike, but for ways in which a rater
ticked nothing: that is rare where there is one rater, and everything is known.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from stm_keras.data.dataset import SIX_CLASSES, labels_from_votes, merge_votes
from stm_keras.errors import DatasetError
from stm_keras.evaluation.bootstrap import draw_weights, interval
from stm_keras.evaluation.metrics import finite

MOST_WAYS = 50_000  # a scan whose ticks can be dealt out in more ways is left out
SCORES = ("balanced_accuracy", "accuracy")
ROWS = ("pairs", "mixed")


@dataclass(frozen=True)
class RatedScans:
    """What raters ticked on complete scans.

    Args:
        votes: float array `(scans, boxes)`. Share of the raters who ticked each box: our six
            classes, which are merged, or any others.
        raters: int array `(scans,)`.
        session: array `(scans,)`. What is resampled.

    Raises:
        DatasetError: Votes are not shares of so many raters, or nowhere there are two.
    """

    votes: np.ndarray
    raters: np.ndarray
    session: np.ndarray

    def __post_init__(self):
        ticks = self.votes * self.raters[:, None]
        wrong = (np.abs(ticks - np.rint(ticks)).max(1) > 0.01) | (self.raters < 1)
        if wrong.any():
            raise DatasetError(
                f"{wrong.sum()} scans have `votes` that are not shares of their `raters`, so "
                "nothing is known of a single rater. Correct these."
            )
        if not (self.raters > 1).any():
            raise DatasetError(
                "No scan has two raters, so nothing is known of how raters agree. Have some "
                "labelled by a second one."
            )

    def patterns(self) -> tuple[list[tuple[int, np.ndarray]], np.ndarray]:
        """Find scans that were ticked alike.

        Returns:
            Tuple of list of int, the number of raters, and int array `(boxes,)`, how many of
            them ticked each; and int array `(scans,)`: which of these each scan has.
        """
        ticks = np.rint(self.votes * self.raters[:, None]).astype(int)
        rows = np.column_stack([self.raters, ticks])
        unique, which = np.unique(rows, axis=0, return_inverse=True)
        return [(int(row[0]), row[1:]) for row in unique], which.reshape(-1)

    def labels(self) -> np.ndarray:
        """Return the single class of each scan, -1 where there is none: int array."""
        return labels_from_votes(class_votes(self.votes))


@dataclass(frozen=True)
class Comparisons:
    """One rater beside the others of a scan, once for each rater and each reading of the votes.

    Args:
        scan: int array `(rows,)`.
        others: int array `(rows,)`. How many raters there are beside this one.
        given: int array `(rows,)`. The class that those gave the scan, by the rule of labels.
        said: int array `(rows,)`. The one class that this rater named.
        weight: float array `(rows,)`. Share of the ways to deal the ticks out in which it is so.
    """

    scan: np.ndarray
    others: np.ndarray
    given: np.ndarray
    said: np.ndarray
    weight: np.ndarray


def class_votes(votes: np.ndarray) -> np.ndarray:
    """Return votes for classes, `(scans, classes)`, of those for boxes, `(scans, boxes)`."""
    return merge_votes(votes) if votes.shape[1] == len(SIX_CLASSES) else votes


def deal_ticks(raters: int, ticks: Iterable[int]) -> np.ndarray:
    """List the ways in which raters may have ticked boxes: bool array `(ways, raters, boxes)`.

    Args:
        ticks: how many of the raters ticked each box.

    Returns:
        No way at all where there are more than `MOST_WAYS`.
    """
    who = [list(combinations(range(raters), count)) for count in ticks]
    sizes = [len(each) for each in who]
    if np.prod(sizes, dtype=float) > MOST_WAYS:
        return np.zeros((0, raters, len(sizes)), bool)
    ways = np.zeros((int(np.prod(sizes)), raters, len(sizes)), bool)
    for box, (sets, chosen) in enumerate(
        zip(who, np.indices(sizes).reshape(len(sizes), -1), strict=True)
    ):
        ticked = np.array([np.isin(np.arange(raters), each) for each in sets])
        ways[:, :, box] = ticked[chosen]
    filled = ways.any(2).all(1)
    return ways[filled] if filled.any() else ways


def compare_raters(scans: RatedScans) -> Comparisons:
    """Compare each rater who names one class with the others, where these give the scan one.

    With two raters the other one alone gives it: each is compared with each. With more, the
    others give it as they would if this rater had not been there.
    """
    patterns, which = scans.patterns()
    rows: list[tuple] = []
    for number, (raters, ticks) in enumerate(patterns):
        if raters < 2:
            continue
        found = _compare(deal_ticks(raters, ticks))
        for scan in np.flatnonzero(which == number):
            rows += [(scan, raters - 1, *pair, weight) for pair, weight in found.items()]
    columns = np.array(rows, float).reshape(-1, 5).T
    return Comparisons(*columns[:4].astype(int), columns[4])


def _compare(ways):
    """Count what raters said and others gave: dict of (given, said) to a weight."""
    found: dict[tuple[int, int], float] = {}
    for rater in range(ways.shape[1] if len(ways) else 0):
        own = ways[:, rater].astype(float)
        others = np.delete(ways, rater, axis=1).mean(1)
        pairs = np.stack([labels_from_votes(class_votes(v)) for v in (others, own)], axis=1)
        kinds, counts = np.unique(pairs[(pairs >= 0).all(1)], axis=0, return_counts=True)
        for kind, count in zip(kinds.tolist(), counts, strict=True):
            found[tuple(kind)] = found.get(tuple(kind), 0.0) + count / len(ways)
    return found


def score_human(
    scans: RatedScans,
    compared: Comparisons,
    answers: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict:
    """Score a rater against others and, on the same rows, a model; sessions are resampled.

    - `pairs`: on scans of two raters, of whom each names one class, what the one says against
      what the other says.
    - `mixed`: how often a rater who names one class names the one that others gave, for each
      class, and apart for classes that one rater gave or several; then averaged by how common
      these are among single-class scans. So the rater meets the labels that a test has.

    Args:
        answers: int array `(scans,)`. Class that a model names, -1 where it was not asked;
            None without a model.

    Returns:
        dict of `pairs` and `mixed` to dict of `n`, how many raters were compared, `certain`, in
        how many of these the votes leave no other reading, and `human`: dict of `SCORES` to
        [value, low, high], None where undefined. With answers also `model` and `difference`,
        of which the sign is that of model less human.
    """
    names, session = np.unique(scans.session, return_inverse=True)
    asked = np.ones(len(compared.scan), bool)
    if answers is not None:
        asked = answers[compared.scan] >= 0
    kept = Comparisons(*(each[asked] for each in vars(compared).values()))
    classes = class_votes(scans.votes).shape[1]

    def confusion(answered):
        counts = np.zeros((len(names), 2, classes, classes))  # one or several others
        where = session[kept.scan], (kept.others > 1).astype(int), kept.given, answered
        np.add.at(counts, where, kept.weight)
        return counts

    labels = scans.labels()
    single = np.flatnonzero(labels >= 0)
    mix = np.zeros((len(names), 2, classes))
    several = (scans.raters[single] > 1).astype(int)
    np.add.at(mix, (session[single], several, labels[single]), 1)
    draws = np.ones((1, len(names)), int)  # the first is no resample, but what there is
    if resamples and len(names) > 1:
        drawn = draw_weights(len(names), resamples, seed)
        draws = np.vstack([draws, *(each.T for each in drawn)])
    measured = {"human": _measure(confusion(kept.said), mix, draws)}
    if answers is not None:
        measured["model"] = _measure(confusion(answers[kept.scan]), mix, draws)
        measured["difference"] = {
            name: {
                score: measured["model"][name][score] - measured["human"][name][score]
                for score in SCORES
            }
            for name in ROWS
        }
    result = {}
    for name, rows in (("pairs", kept.others == 1), ("mixed", slice(None))):
        half = 2 if name == "pairs" else 1  # a pair is compared both ways
        weight = kept.weight[rows]
        certain = weight[np.isclose(weight, np.rint(weight))].sum()
        result[name] = {"n": float(weight.sum() / half), "certain": float(certain / half)}
        for who, scores in measured.items():
            result[name][who] = {
                score: _bounded(values) for score, values in scores[name].items()
            }
    return result


def _measure(confusion, mix, draws):
    """Score resamples of sessions: dict of row to dict of score to float array `(draws,)`."""
    counts = np.einsum("rs,skij->rkij", draws, confusion)
    shares = np.einsum("rs,skc->rkc", draws, mix)
    right, total = np.einsum("rkii->rki", counts), counts.sum(3)
    with np.errstate(invalid="ignore"):
        recalls = right / total  # NaN where nobody was compared
        of_class = np.where(shares > 0, shares * recalls, 0).sum(1)
        present = shares[0].sum(0) > 0  # a resample that lacks one of these has no mean
        return {
            "pairs": {
                "balanced_accuracy": recalls[:, 0, total[0, 0] > 0].mean(1),
                "accuracy": right[:, 0].sum(1) / total[:, 0].sum(1),
            },
            "mixed": {
                "balanced_accuracy": (of_class / shares.sum(1))[:, present].mean(1),
                "accuracy": of_class.sum(1) / shares.sum((1, 2)),
            },
        }


def _bounded(values):
    """Return the first value and the interval of the others, None where undefined."""
    found = [float(values[0]), *interval(values[1:])]
    return None if any(finite(each) is None for each in found) else found
