from pathlib import Path

import numpy as np
import pytest
from helpers import ONCE

from stm_keras.data import cells, duplicates, matching
from stm_keras.data.cells import Cells, join_nearest
from stm_keras.data.load import load_dataset

pytestmark = ONCE  # no backend changes what is tested here

NOTTINGHAM = Path(__file__).parents[3] / "shared" / "data" / "nottingham.h5"


def directions(count, seed=0, size=24):
    """Vectors of length 1 about some common ones, as scans of some surfaces are."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, size))[rng.integers(0, 12, count)]
    vectors = (vectors + 0.5 * rng.normal(size=vectors.shape)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def all_with_all(vectors, queries, count, later):
    """Return the pairs that `nearest` should find, as a set."""
    products = queries @ vectors.T
    numbers = np.arange(len(vectors))
    behind = numbers > numbers[:, None] if later else numbers != numbers[:, None]
    products[~behind] = -np.inf
    nearest = np.argsort(-products, axis=1)[:, :count]
    return {(own, other) for own in numbers for other in nearest[own] if behind[own, other]}


def pairs_of(answer):
    return set(zip(answer[0].tolist(), answer[1].tolist(), strict=True))


@pytest.mark.parametrize("later", [False, True])
def test_few_vectors_are_compared_all_with_all(monkeypatch, later):
    monkeypatch.setattr(cells, "CELL", 16)
    vectors = directions(200)
    queries = directions(200, seed=1)
    answer = Cells(vectors).nearest(queries, 5, later)
    assert pairs_of(answer) == all_with_all(vectors, queries, 5, later)
    np.testing.assert_allclose(
        answer[2], (queries[answer[0]] * vectors[answer[1]]).sum(1), atol=1e-6
    )
    assert (np.diff(answer[0]) >= 0).all()


def test_copies_among_many_vectors_are_found(monkeypatch):
    monkeypatch.setattr(cells, "CELL", 32)
    vectors = directions(4000)
    noisy = vectors[:2000] + 0.05 * np.random.default_rng(2).normal(size=(2000, 24))
    vectors[2000:] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    copies = {(scan, 2000 + scan) for scan in range(2000)}
    found = pairs_of(Cells(vectors).nearest(vectors, 6, True))
    assert len(copies - found) <= 4  # of 2,000, in 24 of 128 cells


def test_the_work_grows_with_the_number_of_vectors(monkeypatch):
    monkeypatch.setattr(cells, "CELL", 16)

    def compared(vectors):
        found = Cells(vectors)
        found.nearest(vectors, 3, True)
        assert max(map(len, found.members)) <= 16
        return found.compared / len(vectors)

    few, many = compared(directions(4000)), compared(directions(16_000))
    looked_into = (cells.PROBES + 1) * 16
    assert few <= looked_into + 4000 / 8  # members of cells, and all centres
    assert many <= looked_into + 16_000 / 8
    # of vectors that are all alike no more than of others
    assert compared(np.tile(directions(1), (4000, 1))) <= looked_into + 4000 / 8


def test_a_pair_is_joined_at_its_largest_product():
    one = np.array([0, 0, 2]), np.array([4, 5, 3]), np.float32([0.5, 0.1, 0.2])
    two = np.array([0, 0]), np.array([4, 6]), np.float32([0.7, 0.3])
    own, other, products = join_nearest([one, two], 2)
    assert [own.tolist(), other.tolist()] == [[0, 0, 2], [4, 6, 3]]
    np.testing.assert_allclose(products, [0.7, 0.3, 0.2])


@pytest.mark.skipif(
    not NOTTINGHAM.exists(), reason="../shared/data/nottingham.h5 is not there"
)
def test_real_copies_in_few_of_many_cells_are_those_of_all_with_all(monkeypatch):
    images = load_dataset(NOTTINGHAM).images[:400].astype(np.float32)
    copies = images[:60, ::-1] + np.random.default_rng(0).normal(size=(60, 128, 128))
    every = np.concatenate([images, copies])
    reduced = matching.reduce_scans(every, np.full(len(every), 128))
    found = []
    for size in (len(every), 32):  # one cell, then some 64 of which 24 are looked into
        monkeypatch.setattr(cells, "CELL", size)
        nearest = duplicates.NearestScans(reduced)
        pairs = nearest.search(reduced, None, changed=False, advance=lambda: None)
        found.append({(first, second) for first, second, *_ in pairs})
    assert len(found[0]) > 60
    assert found[1] <= found[0]
    assert len(found[0] - found[1]) <= 0.002 * len(found[0])
