"""How well raters agree: measures of what several of them said of the same pictures.

Each takes `counts`, an int array `(pictures, values)`: how many raters gave a picture each value.
All are NaN where they are not defined: all ratings alike say nothing about agreement.
"""

import numpy as np

from stm_keras.evaluation.bootstrap import draw_weights, interval

SUBSET, OVERLAP = 2 / 3, 1 / 3  # what MASI gives two sets that are not equal


def krippendorff_alpha(
    counts: np.ndarray, distance: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return Krippendorff's alpha: 1 where raters agree, 0 where they do so by chance.

    Raters need not have rated all pictures: those with one rating or none are left out.

    Args:
        distance: float array `(values, values)`, symmetric, 0 on the diagonal.
        weights: int array `(pictures, resamples)`, as of `draw_weights`. None: each once.

    Returns:
        float array `(resamples,)`.

    Reference:
        Krippendorff, 2011, https://repository.upenn.edu/asc_papers/43, section E.
    """
    counts = np.asarray(counts, float)[np.sum(counts, axis=1) > 1]
    if weights is None:
        weights = np.ones((len(counts), 1))
    # of each picture, the distances of its pairs of ratings: (pictures,)
    apart = np.einsum("pi,ij,pj->p", counts, distance, counts) / (counts.sum(1) - 1)
    totals = np.einsum("pi,pr->ir", counts, weights)  # n_c, (values, resamples)
    by_chance = np.einsum("ir,ij,jr->r", totals, distance, totals)
    seen = (totals.sum(0) - 1) * np.einsum("p,pr->r", apart, weights)
    return 1 - _divide(seen, by_chance)


def alpha_interval(
    counts: np.ndarray, distance: np.ndarray, resamples: int = 1000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """Return Krippendorff's alpha and its 95 % interval: pictures are resampled."""
    counts = np.asarray(counts)[np.sum(counts, axis=1) > 1]
    value = krippendorff_alpha(counts, distance)[0]
    if np.isnan(value) or not resamples:
        return value, (np.nan, np.nan)
    draws = draw_weights(len(counts), resamples, seed)
    return value, interval(
        np.concatenate([krippendorff_alpha(counts, distance, drawn) for drawn in draws])
    )


def nominal_distance(values: int) -> np.ndarray:
    """Return the distances of values that are alike or not: `(values, values)`."""
    return 1.0 - np.eye(values)


def masi_distance(sets: np.ndarray) -> np.ndarray:
    """Return the distances of sets, which count what they share: 0 alike, 1 nothing in common.

    Args:
        sets: bool array `(sets, marks)`. What each holds.

    Returns:
        float array `(sets, sets)`.

    Reference:
        Passonneau, 2006, http://www.lrec-conf.org/proceedings/lrec2006/pdf/636_pdf.pdf.
    """
    sets = np.asarray(sets, int)
    both, size = np.einsum("im,jm->ij", sets, sets), sets.sum(1)
    either = size[:, None] + size - both
    subset = both == np.minimum(size[:, None], size)
    alike = subset & (size[:, None] == size)
    monotonic = np.select([alike, subset, both > 0], [1, SUBSET, OVERLAP], 0)
    return 1 - np.where(either == 0, 1, both / np.maximum(either, 1)) * monotonic


def cohen_kappa(table: np.ndarray) -> float:
    """Return Cohen's kappa of two raters.

    Args:
        table: array `(values, values)`. On how many pictures the first gave the value of the
            row and the second that of the column.

    Reference:
        Cohen, 1960, https://doi.org/10.1177/001316446002000104.
    """
    shares = _divide(np.asarray(table, float), np.sum(table))
    return _above_chance(np.trace(shares), np.sum(shares.sum(0) * shares.sum(1)))


def fleiss_kappa(counts: np.ndarray) -> float:
    """Return Fleiss' kappa: all pictures must have been rated by as many raters.

    Reference:
        Fleiss, 1971, https://doi.org/10.1037/h0031619.
    """
    counts = np.asarray(counts, float)
    raters = counts.sum(1)
    alike = _divide((counts * (counts - 1)).sum(1), raters * (raters - 1)).mean()
    return _above_chance(alike, np.sum(_divide(counts.sum(0), counts.sum()) ** 2))


def gordon_agreement(votes: np.ndarray) -> np.ndarray:
    """Return the agreement on a mark by which Gordon et al. chose images: 2 |votes - 1/2|.

    Args:
        votes: float array. Share of raters who set the mark.

    Reference:
        Gordon et al., 2020, https://arxiv.org/abs/1907.13401.
    """
    return 2 * np.abs(np.asarray(votes) - 0.5)


def _above_chance(alike, by_chance):
    return float(_divide(alike - by_chance, 1 - by_chance))


def _divide(part, whole):
    """Divide; NaN by 0."""
    with np.errstate(invalid="ignore"):
        return np.divide(part, np.where(np.isclose(whole, 0), np.nan, whole))
