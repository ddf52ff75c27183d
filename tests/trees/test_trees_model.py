"""Fitted trees, and the file that holds them without holding code."""

import json
import zipfile

import numpy as np
import pytest
from helpers import lattice_scans

from stm_keras.errors import InputError, OutputError
from stm_keras.trees.features import scan_features
from stm_keras.trees.file import METADATA, load_trees, read_tree_metadata, save_trees
from stm_keras.trees.model import fit_trees, whole_and_partial

SETTINGS = {
    "seed": 0,
    "iterations": 12,
    "learning_rate": 0.3,
    "leaves": 4,
    "regularisation": 1.0,
    "share": 0.5,
    "logistic": 0.1,
}
KNOWN = {"classes": ["a", "b", "c", "d"], "pixels": 64, "max_lines": 64}


@pytest.fixture(scope="module")
def learned():
    """Trees of 160 scans, and features and labels of 40 others."""
    labels = np.arange(200) % 4
    features = scan_features(lattice_scans(labels, lines=64, pixels=64))
    trees = fit_trees(features[:160], labels[:160], np.ones(160), **SETTINGS)
    return trees, features[160:], labels[160:]


@pytest.fixture
def file(learned, tmp_path):
    save_trees(learned[0], tmp_path / "a.skops", KNOWN)
    return tmp_path / "a.skops"


@pytest.mark.smoke
def test_trees_tell_lattices_apart(learned):
    trees, features, labels = learned
    found = trees.probabilities(features)
    assert found.shape == (40, 4)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)
    rows = labels == 2  # levelled, the made-up dimers are rows
    judged = np.where(found.argmax(1) == 2, 1, found.argmax(1))
    assert (judged == np.where(rows, 1, labels)).mean() > 0.9


def test_weights_count(learned):
    _, features, labels = learned
    wrong = np.where(labels < 2, 1 - labels, labels)  # the first two classes, exchanged
    both = np.concatenate([features, features])
    given = np.concatenate([labels, wrong])
    for first in (1.0, 0.0):
        weights = np.repeat([first, 1 - first], len(labels))
        trees = fit_trees(both, given, weights, **SETTINGS)
        right = labels if first else wrong
        assert (trees.probabilities(features).argmax(1) == right).mean() > 0.8


def test_parameters_are_those_of_both(learned):
    trees, features, _ = learned
    stages = trees.boosted.n_iter_
    linear = 2 * features.shape[1] * (4 + 2) + 4
    least, most = linear + stages * 4, linear + stages * 4 * (4 + 2 * 3)
    assert least < trees.count_params() <= most


def test_scans_are_learned_whole_and_partial():
    scans = lattice_scans([0, 1, 2], lines=16, pixels=16)
    found = whole_and_partial(scans, np.array([2, 0]), 3, seed=1)
    assert found.shape[:2] == (2, 4)
    np.testing.assert_allclose(found[:, 0], scan_features(scans[[2, 0]]), atol=1e-6)
    lines = 2 ** found[:, 1:, 0]
    assert ((lines >= 1) & (lines <= 16)).all()
    assert len(np.unique(lines)) > 2
    alone = whole_and_partial(scans, np.array([0]), 3, seed=1)
    np.testing.assert_allclose(found[1], alone[0], atol=1e-6)
    assert whole_and_partial(scans, np.array([1]), 0, seed=1).shape[:2] == (1, 1)


@pytest.mark.smoke
def test_a_saved_file_is_the_same(learned, file):
    trees, features, _ = learned
    loaded, facts = load_trees(file)
    found = loaded.probabilities(features)
    np.testing.assert_array_equal(found, trees.probabilities(features))
    assert {key: facts[key] for key in KNOWN} == KNOWN
    assert read_tree_metadata(file) == facts
    assert loaded.count_params() == trees.count_params()


def test_a_file_is_not_replaced_unasked(learned, file):
    with pytest.raises(OutputError, match=r"a\.skops: exists already"):
        save_trees(learned[0], file, KNOWN)


class Harmful:
    """What a file from elsewhere might bring."""

    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.smoke
def test_a_file_that_holds_other_types_is_not_loaded(tmp_path, capsys):
    import skops.io

    path = tmp_path / "bad.skops"
    skops.io.dump({"boosted": Harmful(), "logistic": None}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, json.dumps({"format": 1, **KNOWN}))
    with pytest.raises(
        InputError, match=r"bad\.skops: holds code, or a part .* not loaded"
    ):
        load_trees(path)
    assert "code ran" not in capsys.readouterr().out


def test_a_file_of_other_contents_is_not_loaded(learned, tmp_path):
    import skops.io

    for name, parts in (("list", [1]), ("half", {"boosted": learned[0].boosted})):
        path = tmp_path / f"{name}.skops"
        skops.io.dump(parts, path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(METADATA, json.dumps({"format": 1, **KNOWN}))
        with pytest.raises(
            InputError, match=f"{name}.skops: holds no trees and regression"
        ):
            load_trees(path)


def test_facts_and_trees_must_fit(learned, tmp_path):
    path = tmp_path / "a.skops"
    save_trees(learned[0], path, {**KNOWN, "classes": ["a", "b"]})
    with pytest.raises(InputError, match="the trees do not fit the metadata of the file"):
        load_trees(path)


def test_damaged_files_are_named(file, tmp_path):
    with pytest.raises(InputError, match=r"no\.skops: does not exist"):
        read_tree_metadata(tmp_path / "no.skops")
    with pytest.raises(InputError, match=r"is a folder"):
        read_tree_metadata(tmp_path)
    cut = tmp_path / "cut.skops"
    cut.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(
        InputError, match=r"cut\.skops: cannot be read \(File is not a zip file"
    ):
        load_trees(cut)
    other = tmp_path / "other.skops"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(
        InputError, match=r"other\.skops: is not a \.skops file of stm-keras"
    ):
        load_trees(other)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ("{", "is damaged"),
        ("[]", "not an object"),
        ('{"format": 2}', "of a newer stm-keras"),
        ('{"format": 1, "classes": []}', "no `pixels`"),
    ],
)
def test_damaged_facts_are_named(tmp_path, facts, message):
    path = tmp_path / "a.skops"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr(METADATA, facts)
    with pytest.raises(InputError, match=message):
        read_tree_metadata(path)
