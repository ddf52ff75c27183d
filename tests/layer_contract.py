"""What every layer promises, checked in one call."""

import inspect

import keras
import numpy as np


def check_layer(cls, arguments, shape, expected_shape, num_weights, path):
    """Check configuration, shapes, weights, a training step and a saved copy.

    Args:
        cls: a `keras.layers.Layer` class.
        arguments: dict of the arguments of `__init__`.
        shape: tuple. Shape of an input, with a batch.
        expected_shape: tuple. Shape of its output.
        num_weights: int. Weight arrays.
        path: `Path` of a file to save to, ending in `.keras`.
    """
    layer = cls(**arguments)
    config = layer.get_config()
    parameters = inspect.signature(cls.__init__).parameters
    own = {name for name in parameters if name not in ("self", "kwargs")}
    assert own <= set(config), f"get_config lacks {own - set(config)}"
    copy = cls.from_config(config)
    assert copy.get_config() == config

    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    symbolic = copy(keras.Input(shape[1:], batch_size=shape[0]))
    assert tuple(symbolic.shape) == expected_shape
    outputs = keras.ops.convert_to_numpy(copy(inputs))
    assert outputs.shape == expected_shape
    assert len(copy.weights) == num_weights

    entry = keras.Input(shape[1:])
    model = keras.Model(entry, layer(entry))
    if model.trainable_weights:
        model.compile("sgd", "mse", jit_compile=False)
        model.fit(inputs, np.zeros(expected_shape, "float32"), verbose=0)
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False)
    np.testing.assert_allclose(
        model.predict(inputs, verbose=0), loaded.predict(inputs, verbose=0), atol=1e-6
    )
