from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.data.split import split_dataset
from stm_keras.errors import DatasetError
from stm_keras.simulate import SimulationConfig, clear_changes, simulate
from stm_keras.training.targets import (
    TrainingSet,
    draw_few,
    extra_voted_scans,
    make_training_set,
)

pytestmark = ONCE  # no backend changes what is tested here


@pytest.fixture(scope="module")
def voted():
    """96 scans of 12 days; five have votes for two classes, three ended early."""
    dataset = made_up_dataset()
    votes, labels, lines = dataset.votes.copy(), dataset.labels.copy(), dataset.lines.copy()
    votes[:5] = [0.5, 1, 0, 0]
    labels[:5] = -1
    lines[10:13] = 60
    changes = {"votes": votes, "labels": labels, "lines": lines}
    return made_up_dataset(**changes)


@pytest.mark.smoke
def test_classes_count_alike_as_those_of_the_predecessor():
    counts = [1664, 8312, 3202, 5754]
    labels = np.repeat(range(4), counts)
    dataset = made_up_dataset(
        len(labels), images=np.zeros((len(labels), 4, 1), "u1"), labels=labels, voted=False
    )
    scans = make_training_set(dataset, np.arange(len(labels)))
    weights = [float(scans.weight[labels == i][0]) for i in range(4)]
    assert [round(w, 3) for w in weights] == [2.844, 0.569, 1.478, 0.823]


def test_a_change_without_a_line_teaches_nothing_of_changes():
    scans = simulate(64, 3, SimulationConfig(p_tip_change=1.0, p_partial=0.0))
    clear = clear_changes(scans)
    assert 0 < clear.sum() < len(scans)
    scans = make_training_set(scans, np.arange(len(scans)))
    _, weights = scans.line_targets(np.arange(len(scans)), scans.images)
    assert (weights["change"].any(1) == clear).all()
    assert weights["state"].all()


def test_a_class_without_a_scan_is_an_error():
    dataset = made_up_dataset(8)
    with pytest.raises(DatasetError, match=r"None is of: generic defects"):
        make_training_set(dataset, np.array([0, 1, 2]))


def test_votes_share_the_target_and_raters_give_weight(voted):
    chosen = np.array([20, 21, 22, 23])
    votes = voted.votes.copy()
    votes[20] = [0.8, 0.2, 0, 0]
    voted = replace(voted, votes=votes)
    scans = make_training_set(
        voted, chosen, soft=0.5, balanced=False, extra=np.array([0, 10])
    )
    assert scans.indices.tolist() == [0, 10, 20, 21, 22, 23]
    assert scans.state[0] == pytest.approx([1 / 3, 2 / 3, 0, 0])  # by votes alone
    assert scans.state[2] == pytest.approx([0.9, 0.1, 0, 0])  # half by its class
    assert scans.fixed.tolist() == [False, True, False, False, False, False]
    raters = voted.raters[scans.indices]
    wanted = raters / (raters + 1)
    assert scans.weight == pytest.approx(wanted / wanted.mean(), rel=1e-5)


def test_every_class_counts_alike_whatever_the_votes(voted):
    voted = replace(voted, raters=None)
    scans = make_training_set(voted, np.arange(20, 60), soft=1.0, extra=np.arange(5))
    mass = scans.weight @ scans.state
    assert mass == pytest.approx(np.full(4, mass[0]), rel=1e-5)
    assert scans.state.sum(1) == pytest.approx(1)
    assert scans.state[0, 0] > 1 / 3  # atoms are rarer than dimers here


def test_votes_that_are_not_there_cannot_teach():
    with pytest.raises(DatasetError, match=r"`data.soft_labels` needs votes"):
        make_training_set(made_up_dataset(8, voted=False), np.arange(8), soft=1.0)


@pytest.mark.smoke
@pytest.mark.parametrize("protocol", ["p1", "p2"])
def test_further_scans_come_from_training_sessions_only(voted, protocol):
    split = split_dataset(voted, protocol, seed=0, fold=0, num_folds=3)
    extra = extra_voted_scans(voted, split)
    outside = ~voted.single_class()
    assert outside[extra].all()
    held = np.concatenate([split.parts["validation"], split.parts["test"]])
    if protocol == "p1":
        assert len(extra) == outside.sum()
    else:
        assert 0 < len(extra) < outside.sum()
        assert not set(voted.session[extra]) & set(voted.session[held])


def test_scans_without_a_vote_teach_nothing(voted):
    votes = voted.votes.copy()
    votes[2] = 0
    voted = replace(voted, votes=votes)
    split = split_dataset(voted, "p1", seed=0, fold=0, num_folds=3)
    assert extra_voted_scans(voted, split).tolist() == [0, 1, 3, 4, 10, 11, 12]


def test_further_scans_are_of_no_campaign_that_is_tested(voted):
    """Not even where none of their session is in the test part."""
    campaign = np.repeat(["first", "second"], 48)
    session = np.array([f"{name} {i // 4}" for i, name in enumerate(campaign)])
    session[:5] = "first, of none above one half"
    campaigns = replace(voted, campaign=campaign, session=session)
    first = split_dataset(campaigns, "p3", seed=0, fold=0)
    assert set(campaign[first.parts["test"]]) == {"first"}
    assert not (campaign[extra_voted_scans(campaigns, first)] == "first").any()
    second = split_dataset(campaigns, "p3", seed=0, fold=1)
    assert set(range(5)) <= set(extra_voted_scans(campaigns, second).tolist())


def test_the_three_lines_after_a_change_must_say_so():
    scans = TrainingSet(
        np.ones((1, 14, 3)),
        np.array([0]),
        np.eye(3, dtype="float32")[[0]],
        np.ones(1, "float32"),
        change_line=np.array([4]),
    )
    targets, weights = scans.line_targets(np.array([0]), scans.images)
    assert targets["change"][0, :, 0].tolist() == [0] * 5 + [1] * 3 + [0] * 6
    wanted = [1] * 4 + [0] + [5] * 3 + [0.3] * 3 + [1] * 3
    assert weights["change"][0] == pytest.approx(wanted)


def test_few_labels_are_even_over_the_classes():
    dataset = made_up_dataset()
    part = np.arange(0, 96, 2)[dataset.labels[::2] != 1]
    chosen = draw_few(dataset, part, 7, seed=3)
    assert len(chosen) == 7
    assert set(chosen) <= set(part)
    counts = np.bincount(dataset.labels[chosen], minlength=4)
    present = counts[np.unique(dataset.labels[part])]
    assert present.max() - present.min() <= 1
    assert draw_few(dataset, part, 7, seed=3).tolist() == chosen.tolist()
    assert draw_few(dataset, part, 7, seed=4).tolist() != chosen.tolist()


@pytest.mark.parametrize("balanced", [False, True])
def test_a_scan_counts_as_much_as_its_weight_says(balanced):
    weight = np.array([1.0, 1, 1, 1, 3, 1, 1, 1])
    scans = make_training_set(
        made_up_dataset(8, weight=weight), np.array([0, 1, 2, 3, 4]), balanced=balanced
    )
    assert scans.weight[4] == pytest.approx(3 * scans.weight[0])
    assert scans.weight.mean() == pytest.approx(1)
