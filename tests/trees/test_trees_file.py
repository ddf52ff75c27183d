"""`.skops` files of anybody: no array reaches scikit-learn's C that was not looked at."""

import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import REPOSITORY

from stm_keras.errors import InputError, StmKerasError
from stm_keras.trees.features import scan_features
from stm_keras.trees.file import METADATA, load_trees, save_trees
from stm_keras.trees.model import fit_trees

HOSTILE = Path(__file__).parents[3] / "shared" / "cases" / "hostile"
FUZZ = int(os.environ.get("STM_KERAS_FUZZ", "60"))
KNOWN = {"classes": ["a", "b", "c"], "pixels": 16, "max_lines": 16}
SETTINGS = {
    "seed": 0,
    "iterations": 2,
    "learning_rate": 0.3,
    "leaves": 4,
    "regularisation": 1.0,
    "share": 1.0,
    "logistic": 0.1,
}
ODD = (-1, 0, 1, 2, 10**6, 2**31 - 1, 2**63 - 1, np.nan, np.inf, 1e308)


@pytest.fixture(scope="module")
def features():
    scans = np.random.default_rng(0).normal(size=(90, 16, 16))
    return scan_features(scans.cumsum(2))


@pytest.fixture(scope="module")
def entries(features, tmp_path_factory):
    """dict of the members of a file of two rounds of trees of three classes."""
    labels = (features[:, 9] > np.median(features[:, 9])).astype(int)
    labels += features[:, 30] > np.quantile(features[:, 30], 0.7)
    trees = fit_trees(features, labels, np.ones(90), **SETTINGS)
    assert max(len(tree.nodes) for stage in trees.boosted._predictors for tree in stage) > 4
    path = tmp_path_factory.mktemp("trees") / "a.skops"
    save_trees(trees, path, KNOWN)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def arrays(entries):
    """Return dict of the arrays of numbers in a file by the names of their members."""
    found = {
        name: np.load(io.BytesIO(data))
        for name, data in entries.items()
        if name.endswith(".npy")
    }
    return {name: array for name, array in found.items() if array.size}


def packed(array):
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def with_nodes(entries, path, change):
    """Write a file in which `change` went over the nodes of the first larger tree."""
    trees = {n: a for n, a in arrays(entries).items() if a.dtype.names and len(a) > 4}
    name, nodes = next(iter(trees.items()))
    return write(path, entries | {name: packed(change(nodes.copy()))})


def leads_to(name, node, value):
    def change(nodes):
        nodes[name][node] = value
        return nodes

    change.__name__ = f"{name} of {node} is {value}"
    return change


def without_some(nodes):
    return nodes[:-1]


def in_other_order(nodes):
    return nodes[[0, 2, 1, *range(3, len(nodes))]][:2]


def of_another_type(nodes):
    return nodes.astype([(n, "<f8") for n in nodes.dtype.names])


def none_at_all(nodes):
    return nodes[:0]


def in_two_rows(nodes):
    return np.stack([nodes, nodes])


CHANGES = [
    *(leads_to("feature_idx", 0, value) for value in (-1, 10**6, 2**62)),
    *(leads_to("left", 0, value) for value in (0, 2, 10**6, 2**32 - 1)),
    *(leads_to("right", 0, value) for value in (0, 1, 10**6)),
    *(leads_to(name, 0, 1) for name in ("is_categorical", "is_leaf")),
    leads_to("is_leaf", 0, 7),
    *(leads_to("num_threshold", 0, value) for value in (np.nan, np.inf)),
    *(leads_to("value", -1, value) for value in (np.nan, 1e308)),
    *(without_some, in_other_order, of_another_type, none_at_all, in_two_rows),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_nodes_that_lead_nowhere_are_refused(change, entries, tmp_path):
    path = with_nodes(entries, tmp_path / "bad.skops", change)
    phrase = r"bad\.skops: (the trees are damaged|skops cannot load it \(Cannot cast)"
    with pytest.raises(InputError, match=phrase):
        load_trees(path)


def test_arrays_have_the_shapes_that_scikit_learn_gave_them(entries, tmp_path):
    told, shapes = [], Counter()
    for name, array in arrays(entries).items():
        shapes[array.shape] += 1
        if array.dtype.kind != "f" or array.size < 2 or shapes[array.shape] > 12:
            continue
        path = write(tmp_path / "bad.skops", entries | {name: packed(array[..., :-1])})
        try:
            load_trees(path)
        except InputError as error:
            told.append(str(error))
    names = ["_baseline_prediction", "coef_", "intercept_", "mean_", "scale_"]
    assert all(any(f"(`{name}`)" in line for line in told) for name in names), told


def test_the_features_of_trees_are_those_of_their_scans(entries, tmp_path):
    facts = json.loads(entries[METADATA]) | {"pixels": 512}
    path = write(tmp_path / "bad.skops", entries | {METADATA: json.dumps(facts)})
    with pytest.raises(InputError, match=r"bad\.skops: the trees are damaged"):
        load_trees(path)


def test_a_schema_is_plain_and_of_parts_of_trees(entries, tmp_path):
    schema = json.loads(entries["schema.json"])
    part = {"__class__": "Tree", "__module__": "sklearn.tree._tree"}
    part |= {"__loader__": "TreeNode", "content": {}}
    for text, phrase in (
        ("[" * 100_000, "nested too deeply"),
        (json.dumps({**schema, "more": [part]}), "holds code, or a part .*_tree.Tree"),
        (json.dumps({**schema, "__loader__": "MethodNode"}), "holds code, or a part"),
        (json.dumps({**schema, "content": []}), "skops cannot load it"),
        ("3", "skops cannot load it"),
    ):
        path = write(tmp_path / "bad.skops", entries | {"schema.json": text})
        with pytest.raises(InputError, match=phrase) as told:
            load_trees(path)
        assert "\n" not in str(told.value)


PROGRAM = """
import sys, numpy as np
from pathlib import Path
from stm_keras.errors import StmKerasError
from stm_keras.inference.trees_model import load_trees_predictor
scans = np.random.default_rng(0).normal(size=(8, 16, 16)).cumsum(2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        said = load_trees_predictor(path).probabilities(scans)
        print("finite" if np.isfinite(said).all() else "NOT FINITE")
    except StmKerasError as error:
        print("TWO LINES" if chr(10) in str(error) else "refused")
"""


def test_any_number_in_a_file_may_be_odd(entries, tmp_path):
    """In a process of its own: where one is not looked at, C crashes or never ends."""
    rng, places = random.Random(0), []
    for name, array in arrays(entries).items():
        for field in array.dtype.names or (None,):
            places.append((name, field))
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(FUZZ):
        name, field = rng.choice(places)
        array = np.array(arrays({name: entries[name]})[name])
        flat = array.reshape(-1)
        inner = flat if field is None else flat[field]
        with np.errstate(all="ignore"):
            odd = np.array(rng.choice(ODD)).astype(inner.dtype)
        inner[rng.randrange(len(flat))] = odd
        write(folder / f"{number:05}.skops", entries | {name: packed(array)})
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, folder],
        capture_output=True,
        text=True,
        timeout=60 + FUZZ,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert said.returncode == 0, said.stderr or said.stdout[-200:]
    words = [line.split(" ", 1)[1] for line in said.stdout.splitlines()]
    assert len(words) == FUZZ
    assert set(words) == {"finite", "refused"}


def test_any_value_of_a_schema_may_be_odd(entries, tmp_path):
    from stm_keras.inference.trees_model import load_trees_predictor

    rng, told = random.Random(0), []
    scans = np.random.default_rng(0).normal(size=(2, 16, 16)).cumsum(2)
    schema = json.loads(entries["schema.json"])
    for _ in range(FUZZ // 3):
        copy = json.loads(entries["schema.json"])
        inner = copy
        while isinstance(inner, dict | list) and len(inner):
            key = rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
            if not isinstance(inner[key], dict | list) or rng.random() < 0.1:
                inner[key] = rng.choice((-1, 0, 1e308, "", "x", [], {}, None, "9" * 400))
                break
            inner = inner[key]
        assert copy != schema or inner is not schema
        path = write(tmp_path / "a.skops", entries | {"schema.json": json.dumps(copy)})
        try:
            assert np.isfinite(load_trees_predictor(path).probabilities(scans)).all()
        except StmKerasError as error:
            told.append(str(error))
    assert told
    assert not [line for line in told if "\n" in line]


@pytest.mark.parametrize("name", ["trees_cycle.skops", "trees_feature_segv.skops"])
def test_hostile_trees_are_refused(name):
    if not (HOSTILE / name).exists():
        pytest.skip("the shared cases are not here")
    with pytest.raises(InputError, match="the trees are damaged"):
        load_trees(HOSTILE / name)
