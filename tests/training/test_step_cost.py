"""What the host does around a training step: few Python calls, and the same result."""

import cProfile
import pstats

import keras
import numpy as np
import pytest

from stm_keras.backend import feed
from stm_keras.config import load_config
from stm_keras.experiments.compare.keras_trainer import Repeated
from stm_keras.models import build_model
from stm_keras.training.optimizer import ClippedAdamW
from stm_keras.training.train import compile_model, model_to_fit

SMALL = [("model.layers", 1), ("model.heads", 2), ("model.dim", 8), ("model.mlp_dim", 12)]


def test_a_training_step_of_a_small_network_takes_few_python_calls():
    most = {"jax": 300, "torch": 15_000, "tensorflow": 3_000}[keras.config.backend()]
    model, batch = _model_and_batch()
    model.fit(feed(Repeated([batch], 2)), shuffle=False, verbose=0)
    few, many = (_python_calls(model, Repeated([batch], count)) for count in (5, 25))
    assert (many - few) / 20 < most


def test_the_network_itself_is_trained():
    network, batch = _network_and_batch()
    model = model_to_fit(network, Repeated([batch], 3), _config().train)
    before = network.get_weights()
    model.fit(feed(Repeated([batch], 3)), shuffle=False, verbose=0)
    changed = [np.any(a != b) for a, b in zip(before, network.get_weights(), strict=True)]
    assert all(changed)
    assert int(network.optimizer.iterations) == 3


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_gradients_are_clipped_as_keras_clips_them(size):
    rng = np.random.default_rng(0)
    gradients = [
        size * rng.normal(size=shape).astype("float32") for shape in ((3, 5), (7,))
    ]
    gradients = [keras.ops.convert_to_tensor(each) for each in gradients]
    own = ClippedAdamW(global_clipnorm=1.0)._clip_gradients(gradients)
    others = keras.optimizers.AdamW(global_clipnorm=1.0)._clip_gradients(gradients)
    for one, other in zip(own, others, strict=True):
        np.testing.assert_allclose(
            *map(keras.ops.convert_to_numpy, (one, other)), rtol=1e-6
        )


def test_gradients_that_are_not_finite_stay_so():
    gradients = [keras.ops.convert_to_tensor(np.float32([1.0, np.inf])), keras.ops.ones(3)]
    clipped = ClippedAdamW(global_clipnorm=1.0)._clip_gradients(gradients)
    assert not any(np.isfinite(keras.ops.convert_to_numpy(each)).any() for each in clipped)


def _config():
    return load_config("vit", SMALL)


def _network_and_batch():
    config = _config()
    network = build_model(config.model, 4, 16, 6)
    compile_model(network, config.train, 10)
    inputs = np.random.default_rng(0).normal(size=(3, 6, 16)).astype("float32")
    return network, (inputs, np.eye(4, dtype="float32")[:3], np.ones(3, "float32"))


def _model_and_batch():
    network, batch = _network_and_batch()
    return model_to_fit(network, Repeated([batch], 3), _config().train), batch


def _python_calls(model, batches):
    profile = cProfile.Profile()
    profile.runcall(model.fit, feed(batches), shuffle=False, verbose=0)
    return pstats.Stats(profile).total_calls
