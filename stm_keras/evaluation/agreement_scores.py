"""Everything that is said about how well raters agree, as one JSON-ready dict."""

from itertools import combinations

import numpy as np

from stm_keras.data.ratings import Ratings
from stm_keras.evaluation.agreement import (
    alpha_interval,
    cohen_kappa,
    fleiss_kappa,
    gordon_agreement,
    masi_distance,
    nominal_distance,
)

COHEN, FLEISS, MEAN = "Cohen", "Fleiss", "mean of Cohen"  # kinds of kappa


def score_agreement(ratings: Ratings, resamples: int = 1000, seed: int = 0) -> dict:
    """Measure how well raters agree, on each mark and on whole sets of marks.

    Returns:
        dict of plain numbers, None where undefined:

        - `schema` (1), `source`, `seed`, `resamples`, `single`: whether each rating is one label;
        - `pictures`, and `rated_twice`: those of two raters or more;
        - `sets`: dict of `alpha` (Krippendorff's, with MASI distance), `interval`, `same` (share
          of pairs of ratings that are equal), `pictures`;
        - `marks`: mark to dict of `prevalence`, `alpha`, `interval`, `kappa`, `agreement` (as of
          `gordon_agreement`), `pictures`;
        - `kappa_kind`: "Cohen", "Fleiss" or "mean of Cohen", None of one rater;
        - `raters`: name to dict of `pictures`, `prevalence` (mark to share), `again`: dict of
          `pictures` shown twice, `same` (share of these with equal marks), `marks` (mark to the
          share of these where it is set both times or not at all);
        - `pairs`: list of dict of `raters`, `pictures` of both, `alpha`, `same`, `kappa` (mark to
          Cohen's), `changes`;
        - `changes`: of tip changes that both raters of a pair marked, dict of `both` (how many),
          `one` (marked by one of the two alone), `median` and `largest` distance in lines;
        - `notes`: list of str.
    """
    said, marks = ratings.said, ratings.marks
    heard = ~np.isnan(said).all(2)  # (raters, pictures)
    twos = list(combinations(range(len(said)), 2))
    pairs = [_pair(ratings, *two) for two in twos]
    kind = MEAN if np.isnan(said).any() else FLEISS
    if len(said) < 3:
        kind = COHEN if len(said) == 2 else None
    return {
        "schema": 1,
        "source": ratings.source,
        "seed": seed,
        "resamples": resamples,
        "single": ratings.single,
        "pictures": int(heard.any(0).sum()),
        "rated_twice": int((heard.sum(0) > 1).sum()),
        "sets": _sets(said, resamples, seed),
        "kappa_kind": kind,
        "marks": {
            mark: _mark(said[..., m], kind, _defined(pairs, mark), resamples, seed)
            for m, mark in enumerate(marks)
        },
        "raters": {
            name: {
                "pictures": int(heard[rater].sum()),
                "prevalence": _by_mark(marks, said[rater, heard[rater]].T, np.nanmean),
                "again": _again(ratings.again.get(name), marks),
            }
            for rater, name in enumerate(ratings.raters)
        },
        "pairs": pairs,
        "changes": _changes(ratings, twos),
        "notes": list(ratings.notes),
    }


def _mark(said, kind, kappas, resamples, seed):
    """Score one mark: said, `(raters, pictures)`."""
    counts = np.stack([(said == 0).sum(0), (said == 1).sum(0)], axis=1)
    number = counts.sum(1)
    votes = counts[number > 0, 1] / number[number > 0]
    twice = counts[number > 1, 1] / number[number > 1]
    alpha, limits = alpha_interval(counts, nominal_distance(2), resamples, seed)
    return {
        "prevalence": _mean(votes),
        "alpha": _plain(alpha),
        "interval": _limits(limits),
        "kappa": _plain(fleiss_kappa(counts)) if kind == FLEISS else _mean(kappas),
        "agreement": _mean(gordon_agreement(twice)),
        "pictures": len(twice),
    }


def _defined(pairs, mark):
    """Return the kappas of pairs of raters on a mark, where there is one."""
    return [pair["kappa"][mark] for pair in pairs if pair["kappa"][mark] is not None]


def _sets(said, resamples=0, seed=0):
    """Score whole sets of marks: said, `(raters, pictures, marks)`."""
    counts, distance = _count_sets(said)
    number = counts.sum(1)
    alpha, limits = alpha_interval(counts, distance, resamples, seed)
    couples = (number * (number - 1)).sum()
    alike = (counts * (counts - 1)).sum()
    return {
        "alpha": _plain(alpha),
        "interval": _limits(limits),
        "same": float(alike / couples) if couples else None,
        "pictures": int((number > 1).sum()),
    }


def _count_sets(said):
    """Return how often each set was given to each picture, and how far sets are apart."""
    whole = ~np.isnan(said).any(2)
    sets, index = np.unique(said[whole], axis=0, return_inverse=True)
    counts = np.zeros((said.shape[1], len(sets)), int)
    np.add.at(counts, (np.nonzero(whole)[1], index.ravel()), 1)
    return counts, masi_distance(sets)


def _pair(ratings, one, other):
    """Score two raters, given by their numbers."""
    said = ratings.said[[one, other]]
    scores = _sets(said)
    return {
        "raters": [ratings.raters[one], ratings.raters[other]],
        "pictures": scores["pictures"],
        "alpha": scores["alpha"],
        "same": scores["same"],
        "kappa": _by_mark(ratings.marks, np.moveaxis(said, 2, 0), _cohen),
        "changes": _changes(ratings, [(one, other)]),
    }


def _cohen(said):
    """Return Cohen's kappa on one mark: said, `(2, pictures)`."""
    one, other = said[:, ~np.isnan(said).any(0)].astype(int)
    table = np.zeros((2, 2))
    np.add.at(table, (one, other), 1)
    return cohen_kappa(table)


def _changes(ratings, pairs):
    """Compare the lines from which on raters saw another tip."""
    heard = ~np.isnan(ratings.said).all(2) & ~np.isinf(ratings.change_lines)
    apart, one = [], 0
    for pair in map(list, pairs):
        lines = ratings.change_lines[pair][:, heard[pair].all(0)]
        marked = ~np.isnan(lines)
        one += int((marked.sum(0) == 1).sum())
        apart += np.abs(np.diff(lines[:, marked.all(0)], axis=0)).ravel().tolist()
    return {
        "both": len(apart),
        "one": one,
        "median": float(np.median(apart)) if apart else None,
        "largest": max(apart, default=None),
    }


def _again(said, marks):
    """Compare what a rater said of pictures twice: a pair of `(pictures, marks)`, or None."""
    if said is None:
        return {"pictures": 0, "same": None, "marks": dict.fromkeys(marks)}
    alike = (said[0] == said[1]) | np.isnan(said).any(0)  # could not be set both times
    return {
        "pictures": len(alike),
        "same": float(alike.all(1).mean()),
        "marks": _by_mark(marks, alike.T, np.mean),
    }


def _by_mark(marks, arrays, measure):
    return {
        mark: None if np.isnan(array).all() else _plain(measure(array))
        for mark, array in zip(marks, arrays, strict=True)
    }


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def _limits(limits):
    return None if np.isnan(limits).any() else list(limits)


def _plain(value):
    return None if np.isnan(value) else float(value)
