"""Trees for each stage of a scan: what is fitted is what the layer computes."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from stm_keras.trees import stages as subject
from stm_keras.trees.stages import ABSENT, NEVER, fit_stages

STAGES = (4, 64)


def problem(rows=600, seed=0):
    """Make up features whose class shows early in feature 0 and late in feature 1."""
    rng = np.random.default_rng(seed)
    labels, lines = rng.integers(0, 3, rows), rng.choice([1, 4, 64, 128], rows)
    features = rng.normal(size=(rows, 4))
    features[np.arange(rows), np.where(lines < 8, 0, 1)] += 4 * labels
    features[:, -1] = np.log2(lines)
    features = features.astype("float32")
    return features, np.eye(3)[labels], np.ones(rows), lines


def answer(trees, features, lines, stages=STAGES):
    """What the layer computes, told again with NumPy and jumps in place of slides."""
    splits = np.moveaxis(trees["threshold"].reshape(7, len(stages), -1, 3), 0, -1)
    which = np.moveaxis(trees["feature"].reshape(7, len(stages), -1, 3), 0, -1)
    leaves = np.moveaxis(trees["leaves"].reshape(8, len(stages), -1, 3), 0, -1)
    said = np.zeros((len(features), 3))
    for row, values in enumerate(features * trees["scale"]):
        stage = int(np.abs(np.log2(stages) - np.log2(lines[row])).argmin())
        for label in range(3):
            said[row, label] = trees["start"][stage, label]
            for tree in range(splits.shape[1]):
                place = 0
                for depth in range(3):
                    at = (stage, tree, label, 2**depth - 1 + place)
                    place += 2**depth * int(values[which[at]] > splits[at])
                said[row, label] += leaves[stage, tree, label, place]
    return said


@pytest.fixture(scope="module")
def fitted():
    rows = problem()
    return rows, fit_stages(*rows, STAGES, 5, 0)


def test_trees_are_those_of_scikit_learn(fitted):
    (features, targets, _, lines), trees = fitted
    late = np.flatnonzero(lines >= 64)
    own = HistGradientBoostingClassifier(
        max_iter=5,
        learning_rate=subject.LEARNING_RATE,
        max_depth=3,
        max_leaf_nodes=8,
        min_samples_leaf=subject.LEAF_ROWS,
        l2_regularization=subject.REGULARISATION,
        max_features=subject.SHARE,
        max_bins=subject.MAX_BINS,
        early_stopping=False,
        random_state=0,
    ).fit(features[late] * trees["scale"], targets[late].argmax(1))
    wanted = own.decision_function(features[late] * trees["scale"])
    said = answer(trees, features[late], lines[late])
    np.testing.assert_allclose(said, wanted, atol=1e-4)


def test_each_stage_looks_at_what_tells_in_it(fitted):
    (features, targets, _, lines), trees = fitted
    fresh = problem(seed=1)
    for stage in STAGES:
        there = fresh[3] == stage
        said = answer(trees, fresh[0][there], fresh[3][there]).argmax(1)
        assert (said == fresh[1][there].argmax(1)).mean() > 0.9


def test_what_is_between_two_classes_teaches_both():
    features, targets, weights, lines = problem()
    targets = 0.5 * targets + 0.5 * np.roll(targets, 1, axis=1)
    trees = fit_stages(features, targets, weights, lines, STAGES, 5, 0)
    low, middle, high = np.sort(answer(trees, features, lines), axis=1).T
    assert (middle - low).mean() > 3 * (high - middle).mean()


def test_a_class_that_is_not_there_is_not_expected():
    features, targets, weights, lines = problem()
    weights = weights * (1 - targets[:, 1])
    trees = fit_stages(features, targets, weights, lines, STAGES, 5, 0)
    assert (trees["start"][:, 1] == ABSENT).all()
    said = answer(trees, features, lines)
    right = said.argmax(1) == targets.argmax(1)
    assert right[targets[:, 1] == 0].mean() > 0.9


def test_missing_levels_are_never_passed(fitted):
    _, trees = fitted
    never = trees["threshold"] == np.float32(NEVER)
    assert np.isfinite(trees["leaves"]).all()
    assert not (trees["threshold"][~never] > 1e3).any()
    assert np.isfinite(np.float16(NEVER))


def test_a_feature_that_never_moves_splits_nothing():
    features, *rest = problem()
    features[:, 2] = 7.0
    trees = fit_stages(features, *rest, STAGES, 5, 0)
    assert trees["scale"][2] == 0
    assert not ((trees["feature"] == 2) & (trees["threshold"] < NEVER)).any()
