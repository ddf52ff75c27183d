"""The networks that ours is measured against are ours, and learn as Keras does."""

import sys

import keras
import numpy as np
import pytest
from helpers import ONCE

from stm_keras.models import vit
from stm_keras.settings.models import VitConfig

pytestmark = ONCE  # no backend changes what is tested here

SIZES = {"layers": 2, "heads": 3, "dim": 12, "mlp_dim": 20}
CONFIG = VitConfig(**SIZES)


def drawn_weights(model, rng):
    """Give a model weights that all count, and return them: dict of path to array."""
    for variable in model.weights:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    return {v.path: keras.ops.convert_to_numpy(v.value) for v in model.weights}


@pytest.mark.parametrize("masked", [False, True])
def test_native_network_is_ours_in_plain_pytorch(masked):
    torch = pytest.importorskip("torch")
    from stm_keras.experiments.compare.torch_trainer import NativeViT, copy_weights

    model = vit(4, pixels=5, max_lines=7, **SIZES)
    network = NativeViT(CONFIG, 4, 5, 7, masked=masked).eval()
    assert sum(weight.numel() for weight in network.parameters()) == model.count_params()
    rng = np.random.default_rng(0)
    copy_weights(drawn_weights(model, rng), network)
    lines = rng.normal(size=(3, 6, 5)).astype("float32")
    if masked:
        lines[1, 4:] = 0
    with torch.no_grad():
        native = network(torch.from_numpy(lines)).numpy()
    ours = keras.ops.convert_to_numpy(model(lines, training=False))
    assert np.abs(native - ours).max() < 1e-4


def test_native_step_learns_and_spares_what_must_not_decay():
    torch = pytest.importorskip("torch")
    from stm_keras.experiments.compare.torch_trainer import NativeViT, native_step
    from stm_keras.settings import TrainConfig

    torch.manual_seed(0)
    network = NativeViT(CONFIG, 4, 5, 7)
    settings = TrainConfig(learning_rate=0.1, weight_decay=0.5)
    step = native_step(network, settings, [0.001 * n for n in range(1, 101)])
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(8, 7, 5)).astype("float32")
    targets = np.eye(4, dtype="float32")[np.arange(8) % 4]
    losses = [float(step(inputs, targets, np.ones(8, "float32"))) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]

    before = {name: weight.clone() for name, weight in network.named_parameters()}
    still = native_step(network, settings, [0.1])
    still(inputs, targets, np.zeros(8, "float32"))  # no gradient: decay alone
    moved = {
        name
        for name, weight in network.named_parameters()
        if not torch.equal(weight, before[name])
    }
    assert moved == {
        name for name in before if name.endswith("weight") and "norm" not in name
    }


def test_timm_network_is_ours_on_whole_scans():
    torch = pytest.importorskip("torch")
    pytest.importorskip("timm")
    from stm_keras.experiments.compare.torch_trainer import TimmViT, copy_weights

    model = vit(4, pixels=5, max_lines=7, **SIZES)
    network = TimmViT(CONFIG, 4, 5, 7).eval()
    assert sum(weight.numel() for weight in network.parameters()) == model.count_params()
    rng = np.random.default_rng(0)
    copy_weights(drawn_weights(model, rng), network)
    lines = rng.normal(size=(3, 7, 5)).astype("float32")
    with torch.no_grad():
        theirs = network(torch.from_numpy(lines)).numpy()
    ours = keras.ops.convert_to_numpy(model(lines, training=False))
    assert np.abs(theirs - ours).max() < 1e-4


def test_without_timm_one_is_told_what_to_install(monkeypatch):
    pytest.importorskip("torch")
    from stm_keras.errors import MissingExtraError
    from stm_keras.experiments.compare.torch_trainer import TimmViT

    monkeypatch.setitem(sys.modules, "timm.models.vision_transformer", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"timm cannot .* Run: pip install timm"):
        TimmViT(CONFIG, 4, 5, 7)
