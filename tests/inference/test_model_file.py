"""The `.keras` file: what it holds, and what is never loaded from one."""

import json
import zipfile

import keras
import numpy as np
import pytest
from helpers import made_up_dataset

from stm_keras.data.dataset import CLASSES
from stm_keras.data.model_metadata import PREPROCESSING
from stm_keras.errors import InputError, MismatchError, OutputError
from stm_keras.inference.find_model import METADATA, read_metadata
from stm_keras.inference.model_file import bare_model, load_predictor, save_model
from stm_keras.models import cnn_small, vit

FACTS_OF_TINY = {"classes": ["a", "b", "c"], "pixels": 16, "max_lines": 8}


def tiny_vit():
    return vit(3, pixels=16, max_lines=8, layers=1, heads=2, dim=8, mlp_dim=12)


def rewrite(source, target, **entries):
    """Copy an archive with some of its entries replaced; None leaves one out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in {*old.namelist(), *entries}:
            text = entries.get(name, old.read(name) if name in old.namelist() else None)
            if text is not None:
                new.writestr(name, text)
    return target


def config_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    """A `.keras` file of a tiny untrained ViT with three classes. Read only."""
    path = tmp_path_factory.mktemp("model") / "tiny.keras"
    save_model(tiny_vit(), path, FACTS_OF_TINY)
    return path


def test_facts_come_back_without_the_network(tiny_file):
    facts = {**FACTS_OF_TINY, "format": 1, "input": "standardised"}
    facts["preprocessing"] = PREPROCESSING["standardised"]
    assert read_metadata(tiny_file) == facts


@pytest.mark.smoke
def test_a_loaded_model_gives_the_same_logits(tmp_path):
    model = tiny_vit()
    save_model(model, tmp_path / "tiny.keras", FACTS_OF_TINY)
    scans = np.random.default_rng(0).normal(size=(5, 8, 16)).astype("float32")
    predictor = load_predictor(tmp_path / "tiny.keras")
    assert predictor.classes == ("a", "b", "c")
    np.testing.assert_allclose(
        model.predict(scans, verbose=0),
        predictor.model.predict(scans, verbose=0),
        atol=1e-6,
    )


def test_every_part_of_our_networks_may_be_loaded(tmp_path):
    for number, model in enumerate(
        [
            vit(3, 16, 8, "conv", "sinusoidal", layers=1, heads=2, dim=8, mlp_dim=12),
            cnn_small(3, 16, 8, width=2),
        ]
    ):
        save_model(model, tmp_path / f"{number}.keras", FACTS_OF_TINY)
        assert load_predictor(tmp_path / f"{number}.keras").model.count_params()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_in_mixed_precision_is_written_in_float32(tmp_path, policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = tiny_vit()
    finally:
        keras.config.set_dtype_policy("float32")
    save_model(model, tmp_path / "tiny.keras", FACTS_OF_TINY)
    assert "float16" not in json.dumps(config_of(tmp_path / "tiny.keras"))
    loaded = load_predictor(tmp_path / "tiny.keras").model
    assert {layer.compute_dtype for layer in loaded.layers} == {"float32"}
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_neither_optimizer_nor_compile_is_written(tmp_path):
    model = tiny_vit()
    model.compile(optimizer="adam", loss="categorical_crossentropy")
    assert not bare_model(model).compiled
    save_model(model, tmp_path / "tiny.keras", FACTS_OF_TINY)
    assert not config_of(tmp_path / "tiny.keras").get("compile_config")
    assert model.compiled


def test_a_file_is_not_replaced_unasked(tmp_path):
    (tmp_path / "tiny.keras").write_text("mine")
    with pytest.raises(OutputError, match=r"tiny\.keras: exists already\. Add --overwrite"):
        save_model(tiny_vit(), tmp_path / "tiny.keras", FACTS_OF_TINY)
    assert (tmp_path / "tiny.keras").read_text() == "mine"


def test_facts_that_are_no_json_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        save_model(tiny_vit(), tmp_path / "t.keras", {**FACTS_OF_TINY, "loss": np.nan})
    assert list(tmp_path.iterdir()) == []


BAD_FILES = {  # name: how to write it, what the line says
    "missing": (lambda path, tiny: None, "does not exist. Give a .keras file"),
    "empty": (
        lambda path, tiny: path.write_bytes(b""),
        "cannot be read (File is not a zip file)",
    ),
    "text": (
        lambda path, tiny: path.write_text("hello"),
        "cannot be read (File is not a zip file)",
    ),
    "cut short": (
        lambda path, tiny: path.write_bytes(tiny.read_bytes()[:2000]),
        "cannot be read (File is not a zip file)",
    ),
    "folder": (lambda path, tiny: path.mkdir(), "is a folder. Give a .keras file"),
    "other zip": (
        lambda path, tiny: np.savez(path.open("wb"), images=np.zeros(3)),
        "is not a .keras file (no config.json).",
    ),
    "no weights": (
        lambda path, tiny: rewrite(tiny, path, **{"model.weights.h5": None}),
        "is not a .keras file (no model.weights.h5).",
    ),
    "damaged config": (
        lambda path, tiny: rewrite(tiny, path, **{"config.json": "{"}),
        "config.json: is damaged",
    ),
    "config of another kind": (
        lambda path, tiny: rewrite(tiny, path, **{"config.json": "[1, 2]"}),
        "config.json is damaged (it is not an object).",
    ),
    "config of nothing": (
        lambda path, tiny: rewrite(tiny, path, **{"config.json": "{}"}),
        "keras cannot load it",
    ),
    "damaged weights": (
        lambda path, tiny: rewrite(tiny, path, **{"model.weights.h5": b"nothing"}),
        "its weights are damaged",
    ),
    "damaged facts": (
        lambda path, tiny: rewrite(tiny, path, **{METADATA: "{"}),
        f"{METADATA}: is damaged",
    ),
    "facts of a newer version": (
        lambda path, tiny: rewrite(tiny, path, **{METADATA: '{"format": 2}'}),
        "is of a newer stm-keras. Install the newest.",
    ),
    "facts without classes": (
        lambda path, tiny: rewrite(tiny, path, **{METADATA: '{"format": 1}'}),
        f"{METADATA} is damaged (no `classes`).",
    ),
}


@pytest.mark.filterwarnings(
    "ignore:.*implicitly cleaning up|.*unclosed file:ResourceWarning"
)
@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_no_model_is_one_line(name, tmp_path, tiny_file):
    write, phrase = BAD_FILES[name]
    path = tmp_path / "bad.keras"
    write(path, tiny_file)
    with pytest.raises(InputError) as told:
        load_predictor(path)
    assert str(told.value).startswith(f"{path}: ")
    assert phrase in str(told.value)
    assert "\n" not in str(told.value)


def lambda_model(path):
    inputs = keras.Input((None, 16))
    outputs = keras.layers.Lambda(lambda x: x[:, 0, :4], output_shape=(4,))(inputs)
    keras.Model(inputs, outputs).save(path)


@pytest.mark.smoke
def test_a_lambda_is_never_loaded(tmp_path):
    lambda_model(tmp_path / "lambda.keras")
    with pytest.raises(
        InputError, match=r"holds code, or a part .* \(Lambda of .*not loaded"
    ):
        load_predictor(tmp_path / "lambda.keras")


CODE = {
    "function": {"class_name": "function", "config": "system", "module": "os"},
    "class": {"class_name": "Popen", "config": {"args": "true"}, "module": "subprocess"},
    "keras.src": {
        "class_name": "get_file",
        "config": {"origin": "http://localhost/x"},
        "module": "keras.src.utils.file_utils",
    },
    "keras function": {
        "class_name": "function",
        "config": "get_file",
        "module": "keras.utils",
    },
    "unsafe switch": {
        "class_name": "enable_unsafe_deserialization",
        "config": {},
        "module": "keras.config",
    },
    "wrapped torch": {
        "class_name": "TorchModuleWrapper",
        "config": {"module": "AAAA"},
        "module": "keras.layers",
    },
    "saved TensorFlow": {
        "class_name": "TFSMLayer",
        "config": {"filepath": "/tmp"},
        "module": "keras.layers",
    },
    "keras get_file": {
        "class_name": "get_file",
        "config": {"origin": "http://localhost/x"},
        "module": "keras.utils",
    },
}


@pytest.mark.parametrize("name", CODE)
def test_code_anywhere_in_a_config_is_refused(name, tmp_path, tiny_file):
    config = config_of(tiny_file)
    config["config"]["layers"][1]["config"]["activation"] = CODE[name]
    bad = rewrite(tiny_file, tmp_path / "bad.keras", **{"config.json": json.dumps(config)})
    with pytest.raises(InputError, match="It was not loaded"):
        load_predictor(bad)


def test_a_file_that_claims_to_be_ours_runs_nothing(tmp_path, tiny_file):
    config = config_of(tiny_file)
    layer = config["config"]["layers"][1]
    layer.update(module="subprocess", class_name="Popen", registered_name="stm_keras>Popen")
    bad = rewrite(tiny_file, tmp_path / "bad.keras", **{"config.json": json.dumps(config)})
    with pytest.raises(InputError, match="It was not loaded"):
        load_predictor(bad)


def test_a_network_of_another_shape_is_refused(tmp_path):
    inputs = keras.Input((4, 5, 6))
    model = keras.Model(inputs, keras.layers.Flatten()(inputs))
    save_model(model, tmp_path / "cube.keras", FACTS_OF_TINY)
    with pytest.raises(
        MismatchError, match=r"cube\.keras: does not judge scan lines: it maps"
    ):
        load_predictor(tmp_path / "cube.keras")


def test_a_network_with_two_inputs_is_refused(tmp_path):
    inputs = [keras.Input((4, 5)), keras.Input((4, 5))]
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Add()(inputs))
    save_model(keras.Model(inputs, pooled), tmp_path / "two.keras", FACTS_OF_TINY)
    with pytest.raises(MismatchError, match=r"two\.keras: does not judge scan lines"):
        load_predictor(tmp_path / "two.keras")


def test_facts_that_do_not_fit_the_network_are_refused(tmp_path):
    save_model(tiny_vit(), tmp_path / "t.keras", {**FACTS_OF_TINY, "pixels": 17})
    with pytest.raises(MismatchError, match="does not fit the metadata of its file"):
        load_predictor(tmp_path / "t.keras")


def test_a_model_of_another_program_is_taken_for_our_four_classes(tmp_path):
    inputs = keras.Input((8, 16))
    keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs))).save(
        tmp_path / "theirs.keras"
    )
    assert read_metadata(tmp_path / "theirs.keras") == {}
    predictor = load_predictor(tmp_path / "theirs.keras")
    assert predictor.classes == CLASSES
    assert (predictor.metadata["pixels"], predictor.metadata["max_lines"]) == (16, 8)


def test_a_model_of_another_program_with_other_classes_is_refused(tmp_path):
    inputs = keras.Input((8, 16))
    keras.Model(inputs, keras.layers.Dense(7)(keras.layers.Flatten()(inputs))).save(
        tmp_path / "theirs.keras"
    )
    with pytest.raises(MismatchError, match="does not name its 7 classes"):
        load_predictor(tmp_path / "theirs.keras")


def test_a_trained_model_loads_in_a_path_with_spaces_and_umlauts(model_file, tmp_path):
    odd = tmp_path / "Modelle für 原子" / "größte Güte.keras"
    odd.parent.mkdir()
    odd.write_bytes(model_file.read_bytes())
    images = made_up_dataset(4, 1).images
    assert load_predictor(odd).probabilities(images).shape == (4, 4)


def test_a_model_of_another_program_may_have_been_compiled(tmp_path):
    inputs = keras.Input((8, 16))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    model.compile("adam", keras.losses.categorical_crossentropy, ["accuracy"])
    model.save(tmp_path / "theirs.keras")
    assert not load_predictor(tmp_path / "theirs.keras").model.compiled


def test_plain_activations_of_keras_may_be_loaded(tmp_path):
    inputs = keras.Input((8, 16))
    hidden = keras.layers.Dense(5, activation=keras.activations.gelu)(inputs)
    hidden = keras.layers.Activation(keras.ops.relu)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.ops.mean(hidden, axis=1)))
    model.save(tmp_path / "theirs.keras")
    assert load_predictor(tmp_path / "theirs.keras").classes == CLASSES
