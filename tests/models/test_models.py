import inspect

import keras
import numpy as np
import pytest
from helpers import ONCE

from stm_keras import layers as own
from stm_keras.config import load_config
from stm_keras.models import MODELS, build_model, vit
from stm_keras.settings.models import MODEL_CONFIGS

PARAMETERS = {  # (name, settings): weights with four classes and scans of 128 x 128
    ("vit", ()): 4_806_404,
    ("vit", (("positions", "sinusoidal"),)): 4_773_380,
    ("vit", (("tokenizer", "conv"),)): 4_837_572,
    ("vit", (("tokenizer", "spectra"),)): 5_018_564,
    ("vit", (("tokenizer", "sequential"),)): 4_942_680,
    ("cnn_small", ()): 71_252,
    ("cnn", ()): 288_228,
    ("lrcn", ()): 682_980,
    ("lrcn", (("stride", 4),)): 682_980,
    ("sequential", ()): 363_322,
    ("sequential", (("mixer", "attention"),)): 743_738,
    ("sequential", (("mixer", "mean"),)): 223_290,
    ("sequential", (("spectra", 0),)): 275_002,
    ("sequential", (("lattice", 0),)): 354_054,
    ("sequential", (("trees", 60),)): 384_571,
}
TINY = {
    "vit": {"layers": 2, "heads": 2, "dim": 8, "mlp_dim": 12},
    "cnn_small": {"width": 3},
    "cnn": {"width": 2},
    "lrcn": {"window": 4, "stride": 2, "width": 2, "units": 5},
    "sequential": {"width": 2, "units": 8},
}


def word(outputs):
    """Return the logits of a model, "state" of one that answers after every line."""
    return outputs["state"] if isinstance(outputs, dict) else outputs


@ONCE
@pytest.mark.parametrize(("name", "settings"), PARAMETERS)
def test_number_of_weights(name, settings):
    config = MODEL_CONFIGS[name](**dict(settings))
    assert build_model(config, num_classes=4).count_params() == PARAMETERS[name, settings]


def test_every_model_is_counted_and_has_a_config():
    assert (
        {name for name, _ in PARAMETERS}
        == set(MODELS)
        == set(MODEL_CONFIGS) - {"trees"}  # which are no network
        == set(TINY)
    )


@ONCE
def test_the_predecessor_is_the_vit_config():
    config = load_config("configs/vit.toml").model
    assert build_model(config, num_classes=4).count_params() == 4_806_404


@ONCE
def test_the_small_vit_has_an_eleventh_of_its_weights():
    config = load_config("configs/vit_small.toml").model
    assert build_model(config, num_classes=4).count_params() == 418_776
    assert config.input == "scaled"  # as `sequential`, whose first layers it begins with


@ONCE
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sequential", {"trees": 2}),
        ("vit", {"tokenizer": "sequential"}),
        ("vit", {"tokenizer": "spectra"}),
    ],
)
def test_more_pixels_are_looked_at_up_to_higher_spatial_frequencies(name, settings):
    def reach(pixels):
        model = MODELS[name](3, pixels, 9, **TINY[name], **settings)
        layers = [*model.layers, *(getattr(each, "spectra", None) for each in model.layers)]
        kinds = (own.RunningLattice, own.RunningSpectra)
        found = [each for each in layers if isinstance(each, kinds)]
        assert found
        return {getattr(each, "bins", 0) or each.highest for each in found}

    assert [reach(pixels) for pixels in (64, 128, 256)] == [{48}, {48}, {96}]


@pytest.mark.parametrize("name", TINY)
def test_any_number_of_lines_gives_logits_also_of_an_empty_scan(name):
    model = MODELS[name](num_classes=3, pixels=16, max_lines=9, **TINY[name])
    scans = np.random.default_rng(0).normal(size=(2, 9, 16)).astype("float32")
    for lines in (1, 5, 9):
        logits = word(model.predict(scans[:, :lines], verbose=0))
        assert logits.shape in ((2, 3), (2, lines, 3))
        assert np.isfinite(logits).all()
        assert logits.dtype == np.float32
    logits = word(model.predict(np.zeros_like(scans), verbose=0))
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("tokenizer", ["linear", "conv", "spectra", "sequential"])
def test_padding_an_aborted_scan_changes_nothing(tokenizer):
    model = vit(3, 16, 9, tokenizer, **TINY["vit"])
    scans = np.random.default_rng(0).normal(size=(2, 9, 16)).astype("float32")
    scans[:, 4:] = 0
    padded, cut = model.predict(scans, verbose=0), model.predict(scans[:, :4], verbose=0)
    np.testing.assert_allclose(padded, cut, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_a_saved_model_is_the_same(name, tmp_path):
    model = MODELS[name](num_classes=3, pixels=16, max_lines=9, **TINY[name])
    scans = np.random.default_rng(0).normal(size=(2, 9, 16)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(
        word(loaded.predict(scans, verbose=0)),
        word(model.predict(scans, verbose=0)),
        atol=1e-6,
    )


EVERY_LINE = [  # settings of models that answer after every line
    ("sequential", {"mixer": mixer, "window": window})
    for mixer, window in [("gru", 128), ("attention", 128), ("attention", 4), ("mean", 128)]
]


@pytest.mark.parametrize(("name", "settings"), EVERY_LINE)
def test_later_lines_do_not_matter(name, settings):
    keras.utils.set_random_seed(0)  # a few units may all be dead under others
    model = MODELS[name](num_classes=3, pixels=16, **TINY[name], **settings)
    rng = np.random.default_rng(0)
    scans = rng.normal(size=(2, 12, 16)).astype("float32")
    changed = scans.copy()
    changed[:, 7:] = rng.normal(size=(2, 5, 16))
    one, other = (model.predict(s, verbose=0) for s in (scans, changed))
    for head, values in one.items():
        np.testing.assert_allclose(values[:, :7], other[head][:, :7], atol=1e-5)
        assert np.abs(values[:, 7:] - other[head][:, 7:]).max() > 1e-3


SIZES = {"num_classes", "pixels", "max_lines"}  # of the data, not of a config


def test_the_networks_have_the_defaults_of_the_settings():
    """`stm_keras/settings.py` is the one place of a default; here each stands a second time."""
    differences = []
    for name, network in MODELS.items():
        fields = MODEL_CONFIGS[name].model_fields
        arguments = inspect.signature(network).parameters
        differences += [
            f"{name}.{key}: only one of settings and network has it"
            for key in (set(fields) - {"name"}) ^ (set(arguments) - SIZES)
        ]
        differences += [
            f"{name}.{key}: {fields[key].default} in settings, {each.default} in the network"
            for key, each in arguments.items()
            if key in fields and fields[key].default != each.default
        ]
    assert not differences, "\n".join(differences)
