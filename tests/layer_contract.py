"""What every layer promises: ours in `check_layer`, Keras' own in `run_layer_test`."""

import inspect
import warnings

import keras
import numpy as np
from keras.src.testing import TestCase
from streaming import shaken


def check_layer(cls, arguments, shape, expected_shape, num_weights, path):
    """Check configuration, shapes, weights and a saved copy.

    Layers are called, not asked to predict: JAX has compiled that by then. They are trained
    by `run_layer_test`.

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
    model = shaken(keras.Model(entry, layer(entry)))  # else new weights were as good
    model.save(path)
    loaded = keras.saving.load_model(path, compile=False)
    outputs = [keras.ops.convert_to_numpy(each(inputs)) for each in (model, loaded)]
    np.testing.assert_allclose(*outputs, atol=1e-6)


def run_layer_test(cls, arguments, shape, expected_shape=None, dtype=None):
    """Run what Keras asks of its own layers, under the backend of this run.

    Args:
        cls: a `keras.layers.Layer` class.
        arguments: dict of the arguments of `__init__`.
        shape: tuple, or dict of tuples by the names that `build` takes. With a batch.
        expected_shape: tuple. Shape of the output.
        dtype: str. Of the output, where it is not that of the layer.
    """
    two_inputs = isinstance(shape, dict)
    with warnings.catch_warnings():  # it gives its own data as a generator
        warnings.filterwarnings("ignore", "`shuffle=True` was passed", UserWarning)
        warnings.filterwarnings(
            "ignore", "The model does not have any trainable", UserWarning
        )
        TestCase("run_layer_test").run_layer_test(
            cls,
            arguments,
            input_shape=shape,
            input_dtype=dict.fromkeys(shape, "float32") if two_inputs else None,
            expected_output_shape=expected_shape,
            expected_output_dtype=dtype,
            # it has nothing to sum up of bool, and gives a model one input
            run_training_check=dtype != "bool" and not two_inputs,
        )
