"""Measures of agreement, against published examples and the package `krippendorff`."""

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.evaluation.agreement import (
    alpha_interval,
    cohen_kappa,
    fleiss_kappa,
    gordon_agreement,
    krippendorff_alpha,
    masi_distance,
    nominal_distance,
)

pytestmark = ONCE

KRIPPENDORFF = ("·····34121133·3", "1·213343·······", "··21344·21133·4")
BINARY = ("11001·01", "100011·1", "1101·100")
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
)
SETS = (  # of five pictures, each with what its raters set
    ("rows", "rows"),
    ("atoms", "atoms rows"),
    ("bad", "bad rows", "rows"),
    ("", "bad"),
    ("dimers", "dimers"),
)


def count(raters):
    """Count the ratings of raters, a digit for each picture: values, `(pictures, values)`."""
    values = sorted(set("".join(raters)) - {"·"})
    pictures = list(zip(*raters, strict=True))
    counts = [[ratings.count(value) for value in values] for ratings in pictures]
    return np.array(values, float), np.array(counts)


def interval_distance(values):
    return (values[:, None] - values) ** 2


def ordinal_distance(counts):
    """Return the distance of ranks, by how often each was given to pictures rated twice."""
    given = counts[counts.sum(1) > 1].sum(0)
    middle = given.cumsum() - given / 2  # of each rank among all ratings
    return (middle[:, None] - middle) ** 2


def alpha(counts, distance):
    (value,) = krippendorff_alpha(counts, distance)
    return value


def test_alpha_is_that_of_krippendorffs_example():
    values, counts = count(KRIPPENDORFF)
    assert alpha(counts, nominal_distance(4)) == pytest.approx(0.691358, abs=5e-7)
    assert alpha(counts, ordinal_distance(counts)) == pytest.approx(0.806721, abs=5e-7)
    assert alpha(counts, interval_distance(values)) == pytest.approx(0.810845, abs=5e-7)


def test_alpha_of_a_mark_with_gaps():
    _, counts = count(BINARY)
    assert alpha(counts, nominal_distance(2)) == pytest.approx(0.444444, abs=5e-7)


def test_alpha_is_that_of_the_reference_library():
    reference = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(3)
    ratings = rng.integers(0, 3, (4, 17)).astype(float)
    ratings[1] = np.where(rng.random(17) < 0.7, ratings[0], ratings[1])
    ratings[rng.random(ratings.shape) < 0.3] = np.nan
    counts = np.stack([(ratings == value).sum(0) for value in range(3)], axis=1)
    for level, distance in (
        ("nominal", nominal_distance(3)),
        ("ordinal", ordinal_distance(counts)),
        ("interval", interval_distance(np.arange(3))),
    ):
        expected = reference.alpha(ratings, level_of_measurement=level)
        assert alpha(counts, distance) == pytest.approx(expected, abs=1e-12), level


def test_alpha_of_sets_counts_what_they_share():
    names = ("atoms", "bad", "dimers", "rows")
    sets = sorted({each for picture in SETS for each in picture})
    held = np.array([[name in each.split() for name in names] for each in sets])
    counts = np.array([[picture.count(each) for each in sets] for picture in SETS])
    assert alpha(counts, masi_distance(held)) == pytest.approx(0.3957346, abs=5e-8)


def test_the_masi_distance_of_pairs():
    none, a, b, ab, bc = [0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]
    for one, other, expected in (
        (ab, ab, 0),
        (a, ab, 2 / 3),
        (ab, bc, 8 / 9),
        (a, b, 1),
        (none, b, 1),
        (none, none, 0),
    ):
        distance = masi_distance(np.array([one, other]))
        assert distance[0, 1] == distance[1, 0] == pytest.approx(expected)


def test_kappas_are_those_of_their_papers():
    assert fleiss_kappa(FLEISS) == pytest.approx(0.209931, abs=5e-7)
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)


def test_what_gordon_et_al_call_agreement():
    assert gordon_agreement(np.array([1, 3 / 4, 1 / 2])).tolist() == [1, 0.5, 0]


@pytest.mark.parametrize(
    "counts", [[[2, 0], [3, 0]], [[1, 0], [0, 1]], np.zeros((0, 2))], ids=str
)
def test_agreement_is_not_defined_where_all_ratings_are_alike_or_none_is_of_two(counts):
    value, limits = alpha_interval(np.array(counts), nominal_distance(2))
    assert np.isnan([value, *limits]).all()


def test_kappa_is_not_defined_where_all_ratings_are_alike():
    assert np.isnan(fleiss_kappa(np.array([[3, 0], [3, 0]])))
    assert np.isnan(cohen_kappa(np.array([[4, 0], [0, 0]])))
    assert np.isnan(cohen_kappa(np.zeros((2, 2))))


def test_the_interval_is_of_pictures_and_the_same_of_a_seed():
    _, counts = count(BINARY)
    value, (low, high) = alpha_interval(counts, nominal_distance(2), resamples=300, seed=1)
    again = alpha_interval(counts, nominal_distance(2), resamples=300, seed=1)
    assert (value, (low, high)) == again
    assert low < value < high <= 1
    many = np.tile(counts, (25, 1))
    _, (narrow, wide) = alpha_interval(many, nominal_distance(2), resamples=300, seed=1)
    assert wide - narrow < (high - low) / 3
    drawn = np.array([[2], [0], [1], [0], [3], [1], [0], [1]])
    repeated = np.repeat(counts, drawn[:, 0], axis=0)
    expected = alpha(repeated, nominal_distance(2))
    assert krippendorff_alpha(counts, nominal_distance(2), drawn) == pytest.approx(expected)
