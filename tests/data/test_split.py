import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import made_up_dataset

from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.load import load_dataset
from stm_keras.data.split import Split, fold_names, session_campaigns, split_dataset
from stm_keras.data.stratify import assign_groups, assign_scans
from stm_keras.errors import DatasetError, UsageError

NOTTINGHAM = Path(__file__).parents[3] / "shared" / "data" / "nottingham.h5"
DAYS = ("2014Nov24-163657", "2015Feb11-102853", "2015Sep22-093111", "2015Nov01-091046")
needs_nottingham = pytest.mark.skipif(
    not NOTTINGHAM.exists(), reason="../shared/data/nottingham.h5 is not there"
)


def made_up(scans=900, sessions=20, seed=0):
    """Scans of unequal sessions and classes; some are aborted or of no class."""
    rng = np.random.default_rng(seed)
    session = np.sort(
        rng.integers(0, sessions, scans) * rng.integers(1, 3, scans) % sessions
    )
    labels = rng.choice(4, scans, p=[0.06, 0.44, 0.15, 0.35])
    labels[rng.random(scans) < 0.1] = -1
    return Dataset(
        images=np.zeros((scans, 3, 2), "u1"),
        labels=labels,
        classes=CLASSES,
        lines=np.where(rng.random(scans) < 0.1, 2, 3),
        session=np.char.add("day ", session.astype(str)),
        source="made up",
    )


def counts(dataset, split, part):
    return np.bincount(dataset.labels[split.parts[part]], minlength=4)


def assert_partition(dataset, split):
    together = np.concatenate(list(split.parts.values()))
    np.testing.assert_array_equal(np.sort(together), np.flatnonzero(dataset.single_class()))
    assert list(split.parts) == ["train", "validation", "test"]
    for indices in split.parts.values():
        assert (np.diff(indices) > 0).all()


def assert_groups_kept(groups, split):
    held = [set(groups[indices].tolist()) for indices in split.parts.values()]
    assert sum(map(len, held)) == len(set.union(*held))


@pytest.mark.smoke
@pytest.mark.parametrize("protocol", ["p1", "p2"])
def test_parts_have_their_share_of_every_class(protocol):
    dataset = made_up()
    split = split_dataset(dataset, protocol, seed=3)
    assert_partition(dataset, split)
    for part, share in {"train": 0.7, "validation": 0.15, "test": 0.15}.items():
        had = counts(dataset, split, part) / dataset.counts()
        assert np.abs(had - share).max() < (0.03 if protocol == "p1" else 0.08)


def test_p1_gives_each_class_its_share_to_the_scan():
    dataset = made_up()
    split = split_dataset(dataset, "P1", seed=1, fractions=(0.5, 0.3, 0.2))
    for part, share in {"train": 0.5, "validation": 0.3, "test": 0.2}.items():
        assert np.abs(counts(dataset, split, part) - share * dataset.counts()).max() <= 1
    assert split.groups is None


@pytest.mark.smoke
def test_no_session_is_in_two_parts():
    dataset = made_up()
    for fold in (None, 0, 1, 2):
        split = split_dataset(dataset, "p2", seed=5, fold=fold, num_folds=3)
        assert_groups_kept(dataset.session, split)
        np.testing.assert_array_equal(split.groups, dataset.session)


def test_groups_win_over_sessions():
    dataset = made_up()
    groups = np.arange(len(dataset)) // 7
    split = split_dataset(dataset, "p2", groups=groups)
    assert_groups_kept(groups, split)
    assert_groups_kept(groups, split_dataset(replace(dataset, session=None), groups=groups))


@pytest.mark.parametrize("protocol", ["p1", "p2"])
def test_test_folds_are_disjoint_and_cover_everything(protocol):
    dataset = made_up()
    folds = [split_dataset(dataset, protocol, 2, fold, num_folds=4) for fold in range(4)]
    tested = np.concatenate([split.parts["test"] for split in folds])
    np.testing.assert_array_equal(np.sort(tested), np.flatnonzero(dataset.single_class()))
    for split in folds:
        assert_partition(dataset, split)
        assert (counts(dataset, split, "test") > 0).all()
        rest = len(split.parts["train"]) + len(split.parts["validation"])
        assert len(split.parts["validation"]) / rest == pytest.approx(0.15, abs=0.03)


@pytest.mark.smoke
def test_p3_tests_on_one_campaign():
    dataset = made_up()
    campaign = np.array(["north", "south", "west"])[np.arange(len(dataset)) % 3]
    session = np.char.add(campaign, (np.arange(len(dataset)) % 15).astype(str))
    dataset = replace(dataset, campaign=campaign, session=session)
    assert fold_names(dataset, "p3") == ("north", "south", "west")
    for fold, name in enumerate(("north", "south", "west")):
        split = split_dataset(dataset, "p3", fold=fold, num_folds=99)
        assert_partition(dataset, split)
        assert_groups_kept(session, split)
        assert set(campaign[split.parts["test"]]) == {name}
        assert name not in campaign[split.parts["train"]]
        assert f"fold {name}" in split.note
    assert split_dataset(dataset, "p3").fold == 0


@pytest.mark.parametrize(("protocol", "fold"), [("p1", None), ("p2", None), ("p2", 1)])
def test_a_seed_makes_a_split(protocol, fold):
    dataset = made_up()
    one, same, other = (split_dataset(dataset, protocol, s, fold) for s in (4, 4, 5))
    for part in one.parts:
        np.testing.assert_array_equal(one.parts[part], same.parts[part])
    assert one.parts["train"].tolist() != other.parts["train"].tolist()


@pytest.mark.smoke
def test_a_split_is_the_same_everywhere():
    session = np.array(list("aabbbccddddeeffg"))
    dataset = Dataset(
        images=np.zeros((16, 1, 1)),
        labels=np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1]),
        classes=("good", "bad"),
        lines=np.ones(16, int),
        session=session,
    )
    by_scan = split_dataset(dataset, "p1", seed=7)
    assert by_scan.parts["test"].tolist() == [1, 2]
    by_session = split_dataset(dataset, "p2", seed=7, fractions=(0.5, 0.25, 0.25))
    assert sorted(set(session[by_session.parts["test"]])) == ["d"]


def test_every_class_is_in_every_part_where_groups_allow_it():
    labels = np.array([0] * 4 + [1] * 60)  # class 0 in three sessions only, of 1, 1 and 2
    session = np.r_[[0, 1, 2, 2], np.arange(60) % 12]
    dataset = Dataset(
        images=np.zeros((64, 1, 1)),
        labels=labels,
        classes=("good", "bad"),
        lines=np.ones(64, int),
        session=session.astype(str),
    )
    for seed in range(10):
        split = split_dataset(dataset, "p2", seed)
        for indices in split.parts.values():
            assert set(labels[indices]) == {0, 1}


def test_a_class_in_every_part_is_worth_more_than_shares_to_the_scan():
    groups = np.repeat(range(6), [15, 2, 4, 21, 19, 17])
    labels = np.arange(len(groups)) % 2
    labels[[0, 42, 61]] = 2  # one scan each of groups 0, 4 and 5, far from 15 % in size
    for seed in range(4):
        parts = assign_groups(labels, groups, (0.7, 0.15, 0.15), seed, 3)
        assert [set(labels[parts == part]) for part in range(3)] == [{0, 1, 2}] * 3


def test_as_many_scans_as_parts_are_one_for_each():
    labels = np.repeat([0, 1], [3, 40])
    for seed in range(5):
        parts = assign_scans(labels, (0.7, 0.15, 0.15), seed, 2)
        assert sorted(parts[:3]) == [0, 1, 2]


@pytest.mark.parametrize("protocol", ["p1", "p2"])
def test_a_split_survives_json(protocol):
    split = split_dataset(made_up(), protocol, seed=np.int64(3), fold=1)
    loaded = Split.from_json(json.loads(json.dumps(split.to_json())))
    for part, indices in split.parts.items():
        np.testing.assert_array_equal(loaded.parts[part], indices)
        assert loaded.parts[part].dtype == indices.dtype
    np.testing.assert_array_equal(loaded.groups, split.groups)
    rest = ("protocol", "seed", "fold", "note")
    assert [getattr(loaded, k) for k in rest] == [getattr(split, k) for k in rest]


@pytest.mark.parametrize("saved", [{}, [], {"parts": {"train": [1]}}])
def test_a_damaged_split_is_refused(saved):
    with pytest.raises(DatasetError, match=r"saved split is damaged .* Start a new run"):
        Split.from_json(saved)


def test_the_note_tells_sizes():
    split = split_dataset(made_up(), "p2", seed=3)
    assert split.note.startswith("p2 (by session), seed 3: train ")
    assert f"test {len(split.parts['test'])} scans in " in split.note


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "p4"}, r"`protocol` must be one of p1 \(by scan\), .*Received: p4"),
        ({"seed": -1}, r"`seed` must be a whole number, 0 or more\. Received: -1"),
        ({"seed": 1.5}, r"`seed` must be a whole number"),
        ({"fold": 5}, r"`fold` must be 0 to 4 under p2\. Received: 5"),
        ({"fold": -1}, r"`fold` must be a whole number, 0 or more"),
        ({"num_folds": 1}, r"`num_folds` must be a whole number, 2 or more"),
        ({"fractions": (0.5, 0.5)}, r"`fractions` must be three numbers above 0"),
        ({"fractions": (0.9, 0.2, -0.1)}, r"`fractions` must be three numbers above 0"),
        ({"fractions": (0.5, 0.2, 0.2)}, r"sum to 1: train, validation, test, .* Received"),
        ({"groups": [1, 2]}, r"`groups` must have one entry for each of 900 scans"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        split_dataset(made_up(), **arguments)


def check_line(dataset, message, **arguments):
    with pytest.raises(DatasetError, match=message) as caught:
        split_dataset(dataset, **arguments)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("made up: ")


def test_splits_that_cannot_be_made_say_why():
    dataset = made_up()
    check_line(
        replace(dataset, session=None),
        r"sessions are unknown, and protocol p2 .*Add an array `session`.*use protocol p1",
    )
    check_line(
        replace(dataset, labels=np.zeros(900, int)),
        r"all complete scans are of one class, 'individual atoms'\. Training needs two",
    )
    check_line(
        replace(dataset, labels=np.arange(900) % 3),
        r"no complete scan is of class 'generic defects'\. Add some",
        protocol="p1",
    )
    check_line(
        replace(dataset, lines=np.zeros(900, int)), r"no scan is complete and of one class"
    )
    labels = np.where(dataset.single_class(), 1 + np.arange(900) % 3, -1)
    labels[np.flatnonzero(labels == 2)[:2]] = 0
    check_line(
        replace(dataset, labels=labels),
        r"protocol p1 the test part would have no scan of class 'individual atoms', which "
        r"has 2 complete scans\. Use another seed or protocol, fewer folds",
        protocol="p1",
    )
    check_line(
        replace(dataset, session=np.where(np.arange(900) < 450, "a", "b")),
        r"protocol p2 the \w+ part would be empty of class .* in 2 sessions or groups",
    )


def test_campaigns_come_from_nottingham_sessions():
    dataset = replace(made_up(4), session=np.array(DAYS))
    assert session_campaigns(dataset).tolist() == [
        "2014 - Feb 2015",
        "2014 - Feb 2015",
        "Sep 2015",
        "Oct - Nov 2015",
    ]
    assert fold_names(replace(dataset, labels=np.arange(4), lines=np.full(4, 3)), "p3") == (
        "2014 - Feb 2015",
        "Sep 2015",
        "Oct - Nov 2015",
    )
    own = np.array(["x", "y", "x", "y"])
    assert session_campaigns(replace(dataset, campaign=own)).tolist() == own.tolist()


@pytest.mark.parametrize("name", ["day 1", "2015Mar11-102853", "2015Xyz11-102853"])
def test_unknown_campaigns_say_how_to_add_them(name):
    dataset = replace(made_up(4), session=np.array([*DAYS[:3], name]))
    with pytest.raises(DatasetError, match=rf"session '{name}' .*Add an array `campaign`"):
        session_campaigns(dataset)
    with pytest.raises(DatasetError, match=r"\(no sessions\)\. Add an array `campaign`"):
        session_campaigns(replace(dataset, session=None))


@needs_nottingham
def test_real_scans_split_evenly():
    dataset = load_dataset(NOTTINGHAM)
    campaigns = session_campaigns(dataset)
    assert {name: (campaigns == name).sum() for name in fold_names(dataset, "p3")} == {
        "2014 - Feb 2015": 587,
        "Sep 2015": 1414,
        "Oct - Nov 2015": 2141,
    }
    for seed in range(5):
        split = split_dataset(dataset, "p2", seed)
        assert_partition(dataset, split)
        assert_groups_kept(dataset.session, split)
        for part, share in {"train": 0.7, "validation": 0.15, "test": 0.15}.items():
            had = counts(dataset, split, part) / dataset.counts()
            assert np.abs(had - share).max() < 0.05
    for fold in range(5):
        split = split_dataset(dataset, "p2", fold=fold)
        assert (counts(dataset, split, "test") >= [20, 190, 60, 160]).all()
    for fold in range(3):
        assert_groups_kept(dataset.session, split_dataset(dataset, "p3", fold=fold))


@pytest.mark.parametrize("protocol", ["p1", "p2"])
def test_a_model_to_ship_keeps_nothing_for_a_test(protocol):
    dataset = made_up_dataset()
    parts = split_dataset(dataset, protocol, seed=0, fractions=(0.75, 0.25, 0)).parts
    assert len(parts["test"]) == 0
    assert len(parts["train"]) + len(parts["validation"]) == 96
    assert 16 <= len(parts["validation"]) <= 32
