"""`.keras` files of anybody: what Keras never gets to build, and plain networks that it does."""

import io
import json
import os
import random
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from helpers import ONCE, leaves, replaced
from keras import layers

from stm_keras.data.dataset import CLASSES
from stm_keras.errors import InputError, StmKerasError
from stm_keras.inference.find_model import read_metadata
from stm_keras.inference.keras_parts import MOST_LAYERS
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.model_file import load_predictor, save_model

HOSTILE = Path(__file__).parents[3] / "shared" / "cases" / "hostile"
FUZZ = int(os.environ.get("STM_KERAS_FUZZ", "25"))
FACTS = {"classes": list(CLASSES), "pixels": 16, "max_lines": 8}
ODD = (-1, 0, 10**9, 1e308, "", "x" * 300, [], {}, None, True, [[[]]])


def network(*parts):
    """Return a network of 8 lines x 16 pixels that ends in four logits."""
    inputs = values = keras.Input((8, 16))
    for part in parts:
        values = part(values)
    pooled = layers.GlobalAveragePooling1D()(values)
    return keras.Model(inputs, layers.Dense(4, name="last")(pooled))


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def changed(folder, change, *parts):
    """Write a network whose config went through `change`, as another program might."""
    path = folder / "changed.keras"
    network(*parts).save(path)
    entries = members(path)
    config = json.loads(entries["config.json"])
    change({each["class_name"]: each for each in config["config"]["layers"]})
    return write(path, entries | {"config.json": json.dumps(config)})


def refused(path):
    """Return the one line with which a file is refused."""
    with pytest.raises(StmKerasError) as told:
        load_predictor(path)
    assert str(told.value).startswith(f"{path}: ")
    assert "\n" not in str(told.value)
    return str(told.value)


PLAIN = {
    "dense": [layers.Dense(5, "gelu"), layers.Dropout(0.1, seed=2**30), layers.PReLU()],
    "convolution": [
        layers.Reshape((8, 16, 1)),
        layers.Conv2D(3, 3, activation="relu", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(),
        layers.TimeDistributed(layers.Flatten()),
    ],
    "recurrent": [
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.RNN(layers.GRUCell(3), return_sequences=True),
    ],
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_network_of_keras_is_loaded(name, tmp_path):
    model = network(*(part.from_config(part.get_config()) for part in PLAIN[name]))
    model.save(tmp_path / "theirs.keras")
    predictor = load_predictor(tmp_path / "theirs.keras")
    scans = np.random.default_rng(0).normal(size=(2, 8, 16))
    np.testing.assert_allclose(predictor.probabilities(scans).sum(1), 1, atol=1e-6)


def units(parts):
    parts["Dense"]["config"]["units"] = 100_000
    del parts["Dense"]["build_config"]


def test_no_weights_are_made_that_the_file_does_not_hold(tmp_path):
    path = changed(tmp_path, units, layers.Conv1D(4, 3))
    assert "asks for weights of shape (4, 100000), and the file holds" in refused(path)


def set_config(kind, **values):
    return lambda parts: parts[kind]["config"].update(values)


def set_part(kind, **values):
    return lambda parts: parts[kind].update(values)


TRICKS = {  # what is changed of a layer, and what the line says
    "millions of units": (set_config("Conv1D", filters=4_000_000), "too large to be real"),
    "a huge padding": (set_config("Conv1D", dilation_rate=[2**40]), "too large to be real"),
    "a class with a dot": (set_part("Conv1D", class_name="layers.TFSMLayer"), "holds code"),
    "a module with a dot more": (
        set_part("Conv1D", module="keras.layers.x"),
        "holds code",
    ),
    "a layer that reads a file": (
        set_part("Conv1D", class_name="StringLookup", config={"vocabulary": "/etc/passwd"}),
        "StringLookup of keras.layers",
    ),
    "another program's name": (set_part("Conv1D", registered_name="other>X"), "holds code"),
    "no module, as old files have it": (set_part("Conv1D", module=None), "holds code"),
    "a class that is no name": (set_part("Conv1D", class_name=["Conv1D"]), "holds code"),
    "a function from elsewhere": (
        set_config(
            "Conv1D",
            activation={"module": "builtins", "class_name": "function", "config": "get"},
        ),
        "holds code",
    ),
    "a loop": (
        set_part("Conv1D", class_name="WhileLoop", module="keras.src.ops.core"),
        "WhileLoop of keras.src.ops.core",
    ),
    "a compiled part": (
        set_part("Conv1D", compile_config={"optimizer": {"class_name": "Adam"}}),
        "Adam of nowhere",
    ),
    "an initialiser that is none": (
        set_config("Conv1D", kernel_initializer={"class_name": "deserialize"}),
        "deserialize of nowhere",
    ),
    "a name that is none": (set_config("Conv1D", name={"a": 1}), "keras cannot load it"),
}


@ONCE
@pytest.mark.parametrize("trick", TRICKS)
def test_a_part_that_is_not_plain_is_refused_in_one_line(trick, tmp_path):
    change, phrase = TRICKS[trick]
    assert phrase in refused(changed(tmp_path, change, layers.Conv1D(4, 3)))


@ONCE
def test_arrays_too_large_to_be_computed_are_refused(tmp_path):
    change = set_config("UpSampling1D", size=100_000)
    parts = (layers.UpSampling1D(2), layers.Dense(90))
    assert "numbers for one scan, too large" in refused(changed(tmp_path, change, *parts))


@ONCE
def test_thousands_of_layers_are_not_built(tmp_path, monkeypatch):
    def many(parts):
        one = parts["Dropout"]
        one["config"]["more"] = [{**one, "config": {}}] * MOST_LAYERS

    path = changed(tmp_path, many, layers.Dropout(0.1))
    monkeypatch.setattr(keras.saving, "load_model", None)
    assert f"has more than {MOST_LAYERS} layers" in refused(path)


def with_weights(folder, change):
    """Write a network whose weights went through `change(file, path of its kernel)`."""
    path = folder / "weights.keras"
    network().save(path)
    entries = members(path)
    data = io.BytesIO(entries["model.weights.h5"])
    with h5py.File(data, "r+") as file:
        change(file, "layers/dense/vars/0")
    return write(path, entries | {"model.weights.h5": data.getvalue()})


def not_finite(file, kernel):
    file[kernel][0, 0] = np.nan


def external(file, kernel):
    del file[kernel]
    file[kernel] = h5py.ExternalLink("/etc/passwd", "/x")


def elsewhere(file, kernel):
    del file[kernel]
    file.create_dataset(kernel, (16, 4), "f4", external=[("/etc/hostname", 0, 256)])


def not_written(file, kernel):
    file.create_dataset("bomb", (10**6, 10**6), "f4", chunks=(1000, 1000))


def a_circle(file, kernel):
    for name in "abcdefgh":
        group = file.create_group(f"circle/{name}")
        for number in range(8):
            group[f"{number}"] = file["circle"]
    not_finite(file, kernel)


WEIGHTS = {
    not_finite: "has weights that are not finite",
    external: "weights lie elsewhere",
    elsewhere: "weights are not all in the file",
    not_written: "weights are not all in the file",
    a_circle: "has weights that are not finite",
}


@ONCE
@pytest.mark.parametrize("change", WEIGHTS, ids=lambda change: change.__name__)
def test_weights_are_numbers_and_in_the_file(change, tmp_path):
    assert WEIGHTS[change] in refused(with_weights(tmp_path, change))


@ONCE
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_are_plain(tmp_path):
    network().save(tmp_path / "a.keras")
    entries, path = members(tmp_path / "a.keras"), tmp_path / "odd.keras"
    write(path, entries | {"assets/../../x": "x"})
    assert "is not a model of scans (it holds 'assets/../../x')" in refused(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in entries:
            archive.writestr(name, bytes(2**26) if name.endswith("h5") else entries[name])
    assert "unpacks to more than" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*entries, "config.json"):
            archive.writestr(name, entries[name])
    assert "two members have one name" in refused(path)
    write(path, entries | {"config.json": "[" * 100_000})
    assert "nested too deeply" in refused(path)


@ONCE
def test_a_network_that_was_never_built_is_refused(tmp_path):
    path = tmp_path / "a.keras"
    save_model(network(), path, FACTS)
    entries = members(path)
    config = json.loads(entries["config.json"])
    part = {"module": "keras.layers", "class_name": "Flatten", "config": {"name": "a"}}
    config |= {"module": "keras", "class_name": "Sequential", "registered_name": None}
    config["config"] = {"name": "s", "layers": [part]}
    config.pop("build_config", None)
    assert "its network was never built" in refused(
        write(path, entries | {"config.json": json.dumps(config)})
    )


@ONCE
@pytest.mark.parametrize("name", ["zc.keras", "bz.keras", "init.keras"])
def test_hostile_files_are_one_line(name):
    if not (HOSTILE / name).exists():
        pytest.skip("the shared cases are not here")
    refused(HOSTILE / name)


@ONCE
def test_a_network_that_fails_when_it_is_used_is_one_line():
    def broken(*inputs, **options):
        raise RuntimeError("shapes differ\nand more")

    model = network()
    model.predict = broken
    with pytest.raises(StmKerasError, match=r"cannot be computed \(shapes differ\)\."):
        KerasPredictor(model, FACTS).probabilities(np.zeros((1, 8, 16)))


@ONCE
def test_any_value_of_a_config_may_be_odd(tmp_path):
    path, rng, told = tmp_path / "a.keras", random.Random(0), []
    save_model(
        network(layers.Conv1D(4, 3), layers.LSTM(3, return_sequences=True)), path, FACTS
    )
    entries = members(path)
    config = json.loads(entries["config.json"])
    places = list(leaves(config))
    scans = np.random.default_rng(0).normal(size=(1, 8, 16))
    for _ in range(FUZZ):
        odd = replaced(config, rng.choice(places), rng.choice(ODD))
        write(path, entries | {"config.json": json.dumps(odd)})
        try:
            assert np.isfinite(load_predictor(path).probabilities(scans)).all()
        except StmKerasError as error:
            told.append(str(error))
    assert told
    assert not [line for line in told if "\n" in line]


@ONCE
def test_facts_are_read_where_they_lie(tmp_path):
    save_model(network(), tmp_path / "a.keras", FACTS)
    entries = members(tmp_path / "a.keras")
    for text in (
        "{",
        "[" * 10**5,
        '{"format": 1, "pixels": NaN}',
        '{"a": 1' + "0" * 5000 + "}",
    ):
        path = write(tmp_path / "b.keras", entries | {"stm_keras.json": text})
        with pytest.raises(InputError, match=r"stm_keras\.json: is damaged"):
            read_metadata(path)
