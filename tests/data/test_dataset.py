from dataclasses import replace

import numpy as np
import pytest

from stm_keras.data.dataset import (
    CLASSES,
    MERGED,
    SIX_CLASSES,
    Dataset,
    labels_from_votes,
    labels_of_split_votes,
    merge_labels,
    merge_votes,
    read_images,
)


def made_up():
    return Dataset(
        images=np.arange(5 * 2 * 3, dtype="u1").reshape(5, 2, 3),
        labels=np.array([1, -1, 0, 1, 3]),
        classes=CLASSES,
        lines=np.array([2, 2, 2, 1, 2]),
        raters=np.array([2, 2, 1, 2, 3]),
        unanimous=np.array([True, True, True, True, False]),
        session=np.array(list("abcde")),
        parameters={"bias": np.arange(5) / 4},
        source="here",
    )


def test_taking_scans_keeps_every_field_in_step():
    taken = made_up().take([4, 0, 4])
    assert taken.labels.tolist() == [3, 1, 3]
    assert taken.images[:, 0, 0].tolist() == [24, 0, 24]
    assert taken.session.tolist() == ["e", "a", "e"]
    assert taken.parameters["bias"].tolist() == [1, 0, 1]
    assert taken.unanimous.tolist() == [False, True, False]
    assert taken.campaign is None
    assert taken.source == "here"
    assert len(taken) == 3
    assert len(made_up().take([])) == 0


def test_single_class_scans_are_complete_and_have_one_class():
    dataset = made_up()
    assert dataset.single_class().tolist() == [True, False, True, False, True]
    assert dataset.full_agreement().tolist() == [True, False, True, False, False]
    assert dataset.consensus().tolist() == [True, False, False, False, False]
    assert dataset.counts().tolist() == [1, 1, 0, 1]


def test_without_votes_all_agree_and_none_is_a_consensus():
    dataset = replace(made_up(), unanimous=None)
    assert dataset.full_agreement().tolist() == dataset.single_class().tolist()
    assert not dataset.consensus().any()
    assert not replace(made_up(), raters=None).consensus().any()


def test_digest_tells_datasets_apart():
    dataset = made_up()
    others = [
        replace(dataset, images=dataset.images + 1),
        replace(dataset, labels=dataset.labels[::-1]),
        replace(dataset, lines=np.full(5, 2)),
        replace(dataset, classes=CLASSES[::-1]),
    ]
    digests = {d.digest() for d in (dataset, *others)}
    assert len(digests) == 5
    assert replace(dataset, source="there").digest() == dataset.digest()


def test_digest_is_the_same_for_every_way_to_hold_the_same_heights():
    dataset = replace(made_up(), images=np.random.default_rng(0).random((5, 2, 3), "f4"))
    digest = dataset.digest()
    assert replace(dataset, images=dataset.images.astype("f8")).digest() == digest
    assert replace(dataset, images=np.asfortranarray(dataset.images)).digest() == digest
    assert replace(dataset, labels=dataset.labels.astype("i1")).digest() == digest


@pytest.mark.parametrize("indices", [[2, 0, 2], [], [4, 3, 2, 1, 0]])
def test_images_are_read_in_any_order(indices):
    class Increasing:
        """Like an HDF5 dataset: indices must increase."""

        def __getitem__(self, index):
            assert (np.diff(index) > 0).all()
            return made_up().images[index]

    indices = np.array(indices, int)
    np.testing.assert_array_equal(
        read_images(Increasing(), indices), read_images(made_up().images, indices)
    )


def test_six_classes_merge_into_four():
    assert merge_labels(np.arange(-1, 6)).tolist() == [-1, 0, 1, 1, 2, 3, 3]
    votes = np.array([[0.1, 0.2, 0.3, 0.4, 0.6, 0.5]])
    np.testing.assert_array_equal(merge_votes(votes), [[0.1, 0.3, 0.4, 0.6]])
    assert sorted(sum(MERGED, ())) == list(range(len(SIX_CLASSES)))
    assert len(MERGED) == len(CLASSES)


def test_split_votes_give_a_class_by_sums_and_surely_where_nothing_else_is_ticked():
    votes = 0.5 * np.array(
        [
            [0, 1, 1, 0, 0, 0],  # asymmetries and dimers
            [0, 1, 1, 0, 0, 1],  # and something else
            [0, 0, 0, 0, 1, 1],
            [0, 2, 1, 0, 0, 0],  # has a class
            [0, 1, 1, 0, 1, 1],  # two by sums
            [0, 1, 0, 1, 0, 0],
        ]
    )
    labels, sure = labels_of_split_votes(votes)
    assert labels.tolist() == [1, 1, 3, -1, -1, -1]
    assert sure.tolist() == [True, False, True, False, False, False]


def test_a_label_needs_one_class_above_one_half():
    votes = np.array([[0.6, 0.4], [0.6, 0.7], [0.5, 0.5], [0, 1]])
    assert labels_from_votes(votes).tolist() == [0, -1, -1, 1]
