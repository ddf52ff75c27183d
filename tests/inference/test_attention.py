import numpy as np
import pytest
from helpers import lattice_scans

from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.models import cnn_small, sequential, vit

FACTS = {"classes": ["a", "b", "c"], "pixels": 16, "max_lines": 8}
TINY = {"pixels": 16, "max_lines": 8}


@pytest.fixture
def scans():
    return lattice_scans(np.arange(5) % 4, lines=8, pixels=16)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_class_token_looks_at_recorded_lines_only(scans, layers):
    model = vit(3, **TINY, layers=layers, heads=2, dim=8, mlp_dim=12)
    scans[1, 5:] = 0
    found = KerasPredictor(model, FACTS).line_attention(scans)
    assert found.shape == (5, 8)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert np.abs(found[1, 5:]).max() < 1e-6
    assert found[0].min() > 0


def test_a_window_ends_what_the_last_line_sees(scans):
    settings = {"mixer": "attention", "units": 8, "heads": 2, "width": 2, "layers": 1}
    model = sequential(3, **TINY, **settings, window=3)
    found = KerasPredictor(model, {**FACTS, "input": "scaled"}).line_attention(scans)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert np.abs(found[:, :5]).max() < 1e-6
    assert found[:, 5:].min() > 0


def test_what_has_no_attention_has_no_map(scans):
    assert KerasPredictor(cnn_small(3, 16, width=2), FACTS).line_attention(scans) is None
