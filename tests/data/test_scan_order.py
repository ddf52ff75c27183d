"""Which scan was recorded before which, and how often one class follows another."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.data.scan_order import count_transitions, scans_before

pytestmark = ONCE  # no backend changes what is tested here


def named(names, runs, sessions, **changes):
    """A dataset of small scans with these names, one each."""
    return made_up_dataset(
        count=len(names),
        name=np.array(names),
        run=np.array(runs),
        session=np.array(sessions),
        images=np.ones((len(names), 128, 2), "u1"),
        **changes,
    )


def test_scans_are_in_the_order_of_the_numbers_in_their_names():
    names = ["a--1_10", "a--1_9", "a--1_2", "a--1_100"]
    before = scans_before(named(names, [1] * 4, ["day"] * 4))
    assert before.tolist() == [1, 2, -1, 0]


def test_no_scan_is_before_the_first_of_a_run_or_session():
    names = [f"a--{k}" for k in range(8)]
    runs, sessions = [1, 1, 2, 2, 1, 1, 1, 2], ["a"] * 4 + ["b"] * 4
    before = scans_before(named(names, runs, sessions))
    assert before.tolist() == [-1, 0, -1, 2, -1, 4, 5, -1]


def test_without_names_the_order_in_the_dataset_counts():
    dataset = replace(named([""] * 4, [3] * 4, ["day"] * 4), name=None)
    assert scans_before(dataset).tolist() == [-1, 0, 1, 2]


@pytest.mark.parametrize("missing", ["run", "session"])
def test_without_runs_or_sessions_no_scan_is_known_to_be_before_another(missing):
    dataset = replace(named(list("abcd"), [1] * 4, ["day"] * 4), **{missing: None})
    assert scans_before(dataset) is None
    assert count_transitions(dataset, np.array(["day"]))[1] == 0


def test_votes_are_counted_from_the_class_before_to_the_class_after():
    votes = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]], "f4")
    dataset = named(list("abcd"), [1] * 4, ["day"] * 4, votes=votes)
    counts, pairs = count_transitions(dataset, np.array(["day"]))
    assert pairs == 1  # nobody voted on the third
    assert counts[0].tolist() == [0, 0.5, 0.5, 0]
    assert counts.sum() == 1


def test_labels_are_counted_where_there_are_no_votes():
    labels = np.array([0, 2, -1, 3, 3, 1, 1, 1])
    dataset = named(list("abcdefgh"), [1] * 8, ["day"] * 8, labels=labels, voted=False)
    counts, pairs = count_transitions(dataset, np.array(["day"]))
    assert pairs == 5
    assert (counts[0, 2], counts[3, 3], counts[3, 1], counts[1, 1]) == (1, 1, 1, 2)


def test_only_the_sessions_asked_for_are_counted():
    dataset = named(list("abcdefgh"), [1] * 8, ["a"] * 4 + ["b"] * 4)
    assert count_transitions(dataset, np.array(["b"]))[1] == 3
