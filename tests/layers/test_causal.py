"""Layers that look back over lines: what they promise, and that a step is a call."""

import keras
import numpy as np
import pytest
from keras import ops
from layer_contract import check_layer, run_layer_test
from streaming import random_trees

from stm_keras import layers

SPECTRA = {"bins": 3, "lags": (1, 4)}
CASES = {  # arguments, input, output, weight arrays
    "BoostedTrees": (
        {"classes": 3, "rounds": 2, "stages": (2, 8)},
        (2, 9, 5),
        (2, 9, 3),
        5,
    ),
    "CausalConv": (
        {"filters": 3, "kernel": 4, "taps": 3, "dilation": 2, "stride": 2},
        (2, 9, 7, 5),
        (2, 9, 4, 3),
        1,
    ),
    "CausalConv-one tap": ({"filters": 3, "taps": 1}, (2, 9, 7, 5), (2, 9, 7, 3), 1),
    "CausalBlock": ({"num_heads": 2, "mlp_dim": 10, "window": 4}, (2, 9, 8), (2, 9, 8), 16),
    "CausalBlock-all": ({"num_heads": 2, "mlp_dim": 10}, (2, 9, 8), (2, 9, 8), 16),
    "LineChannels": ({"limit": 2.0}, (2, 5, 7), (2, 5, 7, 3), 0),
    "LineSummary": ({}, (2, 5, 7, 3), (2, 5, 6), 0),
    "LineWindow": ({"window": 3}, (2, 9, 5), (2, 9, 15), 0),
    "LineWindow-one": ({"window": 1}, (2, 9, 5), (2, 9, 5), 0),
    "Recurrent": ({"units": 3}, (2, 9, 5), (2, 9, 3), 3),
    "LastFeatures": ({"count": 2}, (2, 9, 5), (2, 9, 2), 0),
    "RunningLattice": ({}, (2, 9, 16), (2, 9, 13), 0),
    "RunningLattice-profile": ({"profile": True}, (2, 9, 16), (2, 9, 55), 0),
    "RunningLattice-fine": ({"profile": True, "highest": 96.0}, (2, 9, 16), (2, 9, 63), 0),
    "RunningMean": ({}, (2, 9, 5), (2, 9, 5), 0),
    "RunningStatistics": ({}, (2, 9, 16), (2, 9, 53), 0),
    "RunningSpectra": (SPECTRA, (2, 9, 16), (2, 9, 15), 0),
}
STEPPING = [case for case in CASES if hasattr(getattr(layers, case.split("-")[0]), "step")]


def made(case):
    """Return the layer of a case, with inputs of which one line is lost."""
    arguments, shape, _, _ = CASES[case]
    layer = getattr(layers, case.partition("-")[0])(**arguments)
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    inputs[:, 3] = 0
    if hasattr(layer, "set_trees"):  # without them it says 0 to everything
        layer.build(shape)
        layer.set_trees(random_trees(layer, shape[-1]))
    return layer, inputs


@pytest.mark.parametrize("case", CASES)
def test_layer_keeps_its_promises(case, tmp_path):
    arguments, shape, expected, weights = CASES[case]
    cls = getattr(layers, case.partition("-")[0])
    check_layer(cls, arguments, shape, expected, weights, tmp_path / "layer.keras")
    run_layer_test(cls, arguments, shape, expected)


@pytest.mark.parametrize("case", STEPPING)
def test_steps_over_lines_equal_the_call(case):
    layer, inputs = made(case)
    whole = ops.convert_to_numpy(layer(inputs))
    shapes = layer.cache_shapes((None, 1, *inputs.shape[2:]))
    cache = [ops.zeros((len(inputs), *shape)) for shape in shapes]
    for line in range(inputs.shape[1]):
        given = ops.convert_to_tensor(inputs[:, line : line + 1])
        out, cache = layer.step(given, cache)
        np.testing.assert_allclose(
            ops.convert_to_numpy(out)[:, 0], whole[:, line], atol=1e-5
        )
        assert [tuple(array.shape[1:]) for array in cache] == shapes


@pytest.mark.smoke
@pytest.mark.parametrize("case", CASES)
def test_no_line_knows_a_later_one(case):
    layer, inputs = made(case)
    other = inputs.copy()
    other[:, 4:] = 9
    one, two = (ops.convert_to_numpy(layer(x)) for x in (inputs, other))
    np.testing.assert_allclose(one[:, :4], two[:, :4], atol=1e-6)
    assert np.abs(one[:, 4] - two[:, 4]).max() > 1e-3


def test_a_window_ends():
    layer, inputs = made("CausalBlock")
    other = inputs.copy()
    other[:, 0] = 9
    one, two = (ops.convert_to_numpy(layer(x)) for x in (inputs, other))
    assert np.abs(one[:, 3] - two[:, 3]).max() > 1e-3
    np.testing.assert_allclose(one[:, 4:], two[:, 4:], atol=1e-6)


def test_channels_show_shape_height_and_scale_and_leave_lost_lines_empty():
    lines = np.array([[[3.0, -3.0], [0.0, 0.0], [0.5, -0.5]]], "float32")
    shape, height, scale = np.moveaxis(
        ops.convert_to_numpy(layers.LineChannels(limit=2.0)(lines)), -1, 0
    )
    np.testing.assert_allclose(shape[0], [[1, -1], [0, 0], [1, -1]], atol=1e-6)
    np.testing.assert_allclose(height[0], [[2, -2], [0, 0], [0.5, -0.5]], atol=1e-6)
    np.testing.assert_allclose(scale[0, :, 0], [np.log(3), 0, np.log(0.5)], atol=1e-6)


def test_a_causal_convolution_is_a_dilated_one():
    layer = layers.CausalConv(2, kernel=3, taps=2, dilation=3)
    inputs = np.random.default_rng(0).normal(size=(1, 8, 5, 4)).astype("float32")
    found = ops.convert_to_numpy(layer(inputs))
    kernel = np.asarray(layer.convolution.kernel).reshape(3, 2, 4, 2).swapaxes(0, 1)
    padded = np.pad(inputs, [(0, 0), (3, 0), (1, 1), (0, 0)])
    by_hand = sum(
        padded[:, 3 * tap : 3 * tap + 8, place : place + 5] @ kernel[tap, place]
        for tap in range(2)
        for place in range(3)
    )
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


def test_a_running_mean_is_one():
    tokens = np.arange(6, dtype="float32").reshape(1, 3, 2)
    out = ops.convert_to_numpy(layers.RunningMean()(tokens))
    assert out[0].tolist() == [[0, 1], [1, 2], [2, 3]]


def test_spectra_find_the_period_and_its_slant():
    pixel, line = np.arange(16), np.arange(9)[:, None]
    lines = np.sin(2 * np.pi * (2 * pixel + line) / 16)[None].astype("float32")
    out = ops.convert_to_numpy(layers.RunningSpectra(**SPECTRA)(lines))[0, -1]
    assert out[:3].argmax() == 1
    turn = 2 * np.pi / 16
    # lag 1 at two periods a line: nearly whole coherence, turned by the shift of a line
    real, imaginary = out[3 + 1], out[6 + 1]
    assert np.hypot(real, imaginary) > 0.8
    assert abs(np.arctan2(imaginary, real)) == pytest.approx(turn, abs=0.05)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`window` must be positive. Received: window=0"):
        layers.CausalBlock(2, 8, window=0)
    with pytest.raises(
        ValueError, match=r"even number .* num_heads=4, tokens of length 12"
    ):
        layers.CausalBlock(4, 8).build((None, 5, 12))
    with pytest.raises(ValueError, match=r"`lags` must be positive. Received: lags=\(0,"):
        layers.RunningSpectra(lags=(0, 1))


DTYPES = ["float32", "mixed_float16", "mixed_bfloat16", "float64"]
if keras.config.backend() == "jax":  # it has no float64 unless asked for by its environment
    DTYPES.remove("float64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_a_layer_says_the_dtype_of_what_it_gives(case, dtype):
    arguments, shape, _, _ = CASES[case]
    layer = getattr(layers, case.partition("-")[0])(**arguments, dtype=dtype)
    inputs = np.random.default_rng(0).normal(size=shape).astype("float32")
    found = keras.backend.standardize_dtype(layer(inputs).dtype)
    told = layer.compute_output_spec(keras.KerasTensor(shape, dtype=layer.compute_dtype))
    assert found == told.dtype == layer.compute_dtype
    assert {each.dtype for each in layer.weights} <= {layer.variable_dtype, "int32"}


def test_sums_over_lines_lose_nothing_in_half_precision():
    for case in ("RunningLattice", "RunningSpectra", "RunningStatistics", "BoostedTrees"):
        layer, inputs = made(case)
        half = type(layer).from_config({**layer.get_config(), "dtype": "mixed_float16"})
        half.build(inputs.shape)
        half.set_weights(layer.get_weights())
        one, other = (ops.convert_to_numpy(each(inputs)) for each in (layer, half))
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-3)


def test_a_causal_layer_computes_in_the_precision_asked_for():
    block = layers.CausalBlock(2, 8, dtype="mixed_bfloat16")
    out = block(np.ones((1, 3, 8), "float32"))
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
