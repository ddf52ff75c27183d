import keras
import numpy as np
import pytest

from stm_keras.config import MODEL_CONFIGS, load_config
from stm_keras.models import MODELS, build_model, vit

PARAMETERS = {  # (name, settings): weights with four classes and scans of 128 x 128
    ("vit", ()): 4_806_404,
    ("vit", (("positions", "sinusoidal"),)): 4_773_380,
    ("vit", (("tokenizer", "conv"),)): 4_837_572,
    ("cnn_small", ()): 71_252,
}
TINY = {
    "vit": {"layers": 2, "heads": 2, "dim": 8, "mlp_dim": 12},
    "cnn_small": {"width": 3},
}


@pytest.mark.parametrize(("name", "settings"), PARAMETERS)
def test_number_of_weights(name, settings):
    config = MODEL_CONFIGS[name](**dict(settings))
    assert build_model(config, num_classes=4).count_params() == PARAMETERS[name, settings]


def test_every_model_is_counted_and_has_a_config():
    assert (
        {name for name, _ in PARAMETERS} == set(MODELS) == set(MODEL_CONFIGS) == set(TINY)
    )


def test_the_predecessor_is_the_vit_config():
    config = load_config("configs/vit.toml").model
    assert build_model(config, num_classes=4).count_params() == 4_806_404


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("lines", [1, 5, 9])
def test_any_number_of_lines_gives_logits(name, lines):
    model = MODELS[name](num_classes=3, pixels=16, max_lines=9, **TINY[name])
    scans = np.random.default_rng(0).normal(size=(2, lines, 16)).astype("float32")
    logits = model.predict(scans, verbose=0)
    assert logits.shape == (2, 3)
    assert np.isfinite(logits).all()
    assert logits.dtype == np.float32


@pytest.mark.parametrize("name", TINY)
def test_an_empty_scan_gives_finite_logits(name):
    model = MODELS[name](num_classes=3, pixels=16, max_lines=9, **TINY[name])
    assert np.isfinite(model.predict(np.zeros((2, 9, 16), "float32"), verbose=0)).all()


@pytest.mark.parametrize("tokenizer", ["linear", "conv"])
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
        loaded.predict(scans, verbose=0), model.predict(scans, verbose=0), atol=1e-6
    )
