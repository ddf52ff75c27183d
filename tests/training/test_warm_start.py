"""Where a run begins: weights of another model, layers that stay, rates by depth."""

import keras
import numpy as np
import pytest
from helpers import ONCE, lattice_scans, logged, made_up_dataset

from stm_keras.config import load_config
from stm_keras.data.split import split_dataset
from stm_keras.errors import ConfigError, MismatchError
from stm_keras.inference.find_model import shipped_path
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.models import sequential, vit
from stm_keras.settings import TrainConfig
from stm_keras.training.optimizer import make_optimizer
from stm_keras.training.warm_start import (
    copy_weights,
    freeze,
    learning_rate_factors,
    load_initial_weights,
    make_batches,
)

HEADS = ("state", "change", "unknown")

CLASSES = ("a", "b", "c")
TINY = {"pixels": 16, "width": 2, "units": 4}


@pytest.fixture
def trained(tmp_path):
    model = sequential(3, **TINY)
    facts = {"classes": list(CLASSES), "pixels": 16, "max_lines": 128, "input": "scaled"}
    save_model(model, tmp_path / "trained.keras", facts)
    return model, tmp_path / "trained.keras"


def weights_of(model, name):
    return np.concatenate([w.ravel() for w in model.get_layer(name).get_weights()])


def test_a_run_begins_with_the_weights_of_another_model(trained):
    old, path = trained
    new = sequential(3, **TINY)
    load_initial_weights(new, TrainConfig(init=str(path)), CLASSES)
    for one, other in zip(new.get_weights(), old.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@ONCE
def test_other_classes_get_a_head_of_their_own(trained):
    old, path = trained
    new = sequential(3, **TINY)
    head = weights_of(new, "state")
    load_initial_weights(new, TrainConfig(init=str(path)), ("x", "y", "z"))
    np.testing.assert_array_equal(weights_of(new, "state"), head)
    np.testing.assert_array_equal(weights_of(new, "conv_1"), weights_of(old, "conv_1"))


@ONCE
def test_a_model_of_another_kind_is_no_beginning(trained):
    new = vit(3, 16, layers=1, heads=2, dim=8, mlp_dim=8)
    with pytest.raises(MismatchError, match="no layer fits"):
        load_initial_weights(new, TrainConfig(init=str(trained[1])), CLASSES)


@ONCE
def test_the_scanline_vit_begins_with_what_simulated_scans_taught_the_streaming_network():
    initial = load_predictor(shipped_path("h_si100_simulated")).model
    new = vit(4, tokenizer="sequential", layers=1, heads=2, dim=8, mlp_dim=8)
    copied = set(copy_weights(initial, new))
    fresh = {"tokenizer", "class_token", "positions", "block_0", "norm", "logits"}
    fresh |= {"norm_lattice", "lattice_read"}  # left to real scans: configs/pretrain.toml
    assert {layer.name for layer in new.layers if layer.weights} - copied == fresh


@pytest.mark.parametrize(
    ("frozen", "still"),
    [
        ("stem", {"conv_0", "norm_3"}),
        pytest.param("change", {"change_norm_2", "change"}, marks=ONCE),
        pytest.param("all but change", {"conv_0", "norm_3", "recurrent"}, marks=ONCE),
    ],
)
def test_frozen_layers_do_not_learn(frozen, still):
    model = sequential(3, **TINY)
    freeze(model, frozen)
    names = ("conv_0", "norm_3", "recurrent", "change_norm_2", "change")
    before = {name: weights_of(model, name) for name in names}
    yes_or_no = keras.losses.BinaryCrossentropy(from_logits=True)
    state = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("sgd", {"state": state, "change": yes_or_no, "unknown": yes_or_no})
    scans = np.random.default_rng(0).normal(size=(4, 8, 16)).astype("float32")
    targets = {"state": np.eye(3, dtype="float32")[np.zeros((4, 8), int)]}
    targets |= {name: np.zeros((4, 8, 1), "float32") for name in ("change", "unknown")}
    model.fit(scans, targets, verbose=0)
    for name, old in before.items():
        assert np.array_equal(weights_of(model, name), old) == (name in still), name


@ONCE
def test_lower_layers_learn_less():
    model = sequential(3, **TINY)
    factors = learning_rate_factors(model, TrainConfig(layer_decay=0.5))
    assert set(factors) == {v.path for v in model.trainable_variables}

    def factor(name):
        (value,) = {f for path, f in factors.items() if path.startswith(f"{name}/")}
        return value

    assert factor("state") == factor("change") == 1
    assert factor("mix") == 0.5
    assert factor("recurrent") == 0.25
    assert factor("conv_3") == factor("norm_3") == 0.5 * factor("project")
    assert factor("conv_0") == 0.125 * factor("conv_3")
    assert learning_rate_factors(model, TrainConfig()) == {}


def test_the_optimizer_heeds_the_factors():
    model = sequential(3, **TINY)
    settings = TrainConfig(
        layer_decay=0.5,
        learning_rate=0.1,
        warmup_epochs=0,
        weight_decay=0.0,
        clip_norm=None,
    )
    factors = learning_rate_factors(model, settings)
    optimizer = make_optimizer(settings, 5, factors)
    optimizer.build(model.trainable_variables)
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    ones = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    optimizer.apply(ones, model.trainable_variables)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        moved = old - keras.ops.convert_to_numpy(variable)
        assert moved == pytest.approx(0.1 * factors[variable.path], rel=1e-3)


@ONCE
def test_batches_are_as_the_config_says():
    dataset = made_up_dataset()
    split = split_dataset(dataset, "p2", seed=0, fold=0, num_folds=3)
    settings = ["model.name=sequential", "data.path=x.h5", "data.soft_labels=0.5"]
    settings += ["simulate.share=0.5", "simulate.unknown=0.25", "simulate.count=8"]
    settings += ["train.batch_size=4"]
    config, cache = load_config(None, settings), {}
    with logged() as said:
        batches = make_batches(config, dataset, split, HEADS, cache=cache)
        inputs, targets, weights = batches[0]
        batches.close()
        again = make_batches(config, dataset, split, HEADS, cache=cache)
    np.testing.assert_array_equal(again[0][0], inputs)
    again.close()
    assert sum(text.startswith("Simulating 8 scans") for text in said) == 1
    assert inputs.shape == (4, 128, 128)
    assert targets["state"].shape == (4, 128, 4)
    assert weights["change"].any(1).tolist() == [False, True, True, False]  # simulated only
    assert targets["unknown"][:, 0, 0].tolist() == [0, 0, 0, 1]
    assert len(batches.scans) == len(split.parts["train"])
    few = load_config(None, ["data.path=x.h5", "data.labels=9"])
    batches = make_batches(few, dataset, split, ())
    batches.close()
    assert len(batches.scans) == 9


@ONCE
def test_what_is_simulated_beside_a_dataset_has_the_size_of_its_scans():
    labels = np.arange(48) % 4
    images = lattice_scans(labels, lines=32, pixels=32)
    dataset = made_up_dataset(48, images=images, lines=np.full(48, 32))
    split = split_dataset(dataset, "p2", seed=0, fold=0, num_folds=3)
    settings = ["model.name=sequential", "data.path=x.h5", "simulate.share=0.5"]
    settings += ["simulate.unknown=0.25", "simulate.count=8", "train.batch_size=4"]
    batches = make_batches(load_config(None, settings), dataset, split, HEADS)
    inputs, targets, _ = batches[0]
    batches.close()
    assert inputs.shape == (4, 32, 32)
    assert targets["unknown"][:, 0, 0].tolist() == [0, 0, 0, 1]


@ONCE
def test_simulated_scans_are_left_out_where_the_classes_are_others():
    dataset = made_up_dataset(classes=("a", "b", "c", "d"))
    split = split_dataset(dataset, "p2", seed=0, fold=0, num_folds=3)
    settings = ["model.name=sequential", "data.path=x.h5", "simulate.share=0.5"]
    config = load_config(None, [*settings, "train.batch_size=4"])
    with logged() as said:
        batches = make_batches(config, dataset, split, HEADS)
        _, _, weights = batches[0]
        batches.close()
    assert weights["state"].any(1).all()
    assert not weights["change"].any()
    assert [text for text in said if "are of other classes than the data" in text]
    assert not [text for text in said if text.startswith("Simulating")]


@ONCE
def test_a_model_of_whole_scans_cannot_learn_what_is_unknown():
    dataset = made_up_dataset()
    split = split_dataset(dataset, "p2", seed=0, fold=0, num_folds=3)
    config = load_config(None, ["simulate.unknown=0.1", "data.path=x.h5"])
    with pytest.raises(ConfigError, match="needs a model with a head for unknown surfaces"):
        make_batches(config, dataset, split, ())
