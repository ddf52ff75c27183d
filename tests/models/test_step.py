"""Line by line, a model says what it says of the whole scan."""

import numpy as np
import pytest
from keras import ops
from streaming import rough_scans, tiny_stream, whole_scans

from stm_keras.backend import compiled
from stm_keras.data.preprocess import scale_lines
from stm_keras.errors import MismatchError
from stm_keras.inference.verdict import softmax
from stm_keras.models import MODELS, sequential
from stm_keras.models.step import chain, first_cache, make_step

# windows of one line and of all: tests/layers, and what is exported of them tests/export
CASES = [("gru", 10), ("mean", 10), ("attention", 10), ("attention", 30)]


def loop(step, lines, run=None):
    """Return the outputs of every line, a dict of arrays `(batch, lines, outputs)`.

    Keras is asked for every line anew, or a function that `compiled` made of the step.
    """
    run = run or (lambda entries: step(entries, training=False))
    cache, found = first_cache(step, len(lines)), {}
    sizes = [tuple(array.shape) for array in cache]
    for place in range(lines.shape[1]):
        line = ops.convert_to_tensor(lines[:, place : place + 1])
        out = dict(run([line, *cache]))
        cache = out.pop("cache")
        assert [tuple(array.shape) for array in cache] == sizes
        for name, logits in out.items():
            found.setdefault(name, []).append(ops.convert_to_numpy(logits))
    return {name: np.stack(values, axis=1) for name, values in found.items()}


@pytest.mark.parametrize(("mixer", "window"), CASES)
def test_the_loop_over_lines_equals_the_whole_scan(mixer, window):
    model = tiny_stream(mixer, window).model
    lines = scale_lines(rough_scans(1, 200 if window == 30 else 48))
    whole = whole_scans(model, lines)
    step = make_step(model)
    one = loop(step, lines, compiled(step))  # as streams do; Keras takes long line by line
    assert set(one) == set(whole)
    np.testing.assert_allclose(softmax(one["state"]), softmax(whole["state"]), atol=1e-5)
    for name in whole:
        np.testing.assert_allclose(one[name], whole[name], atol=1e-4)
    assert np.ptp(whole["state"], axis=1).min() > 0.01  # else equality says little


def test_trees_beside_the_network_go_line_by_line_as_well():
    model = tiny_stream(trees=3).model
    lines = scale_lines(rough_scans(2, 48))
    whole = whole_scans(model, lines)["state"]
    step = make_step(model)
    one = loop(step, lines, compiled(step))["state"]
    np.testing.assert_allclose(softmax(one), softmax(whole), atol=1e-5)
    model.get_layer("trees").set_trees({"leaves": np.zeros(3 * 3 * 4 * 8)})
    fewer = whole_scans(model, lines)["state"]
    assert np.abs(fewer - whole).max() > 0.1


@pytest.mark.smoke
@pytest.mark.parametrize(("mixer", "window"), [("gru", 10), ("mean", 10), ("attention", 3)])
def test_scans_side_by_side_equal_the_whole_scans_without_compiling(mixer, window):
    model = tiny_stream(mixer, window).model
    lines = scale_lines(rough_scans(2, 7))
    whole = whole_scans(model, lines)
    for name, values in loop(make_step(model), lines).items():
        np.testing.assert_allclose(values, whole[name], atol=1e-4)


def test_a_step_shares_the_weights_of_its_model():
    model = tiny_stream().model
    step = make_step(model)
    assert {id(v) for v in step.weights} == {id(v) for v in model.weights}
    lines = scale_lines(rough_scans(1, 1))
    before = loop(step, lines)["change"]
    bias = model.get_layer("change").bias
    bias.assign(np.asarray(bias) + 1)
    np.testing.assert_allclose(loop(step, lines)["change"], before + 1, atol=1e-5)


def test_the_first_cache_is_empty_and_of_the_size_of_the_batch():
    step = make_step(tiny_stream("attention", 7).model)
    assert {array.shape[0] for array in first_cache(step, 5)} == {5}
    assert not any(ops.convert_to_numpy(array).any() for array in first_cache(step))
    assert (1, 7, 2, 6) in [tuple(array.shape) for array in first_cache(step)]


@pytest.mark.parametrize("name", ["vit", "cnn_small"])
def test_a_model_of_whole_scans_is_refused(name):
    settings = {"layers": 1, "heads": 2, "dim": 8, "mlp_dim": 8} if name == "vit" else {}
    model = MODELS[name](3, pixels=16, max_lines=8, **settings)
    with pytest.raises(MismatchError, match=rf"\({name}\) judges whole scans\. Take"):
        make_step(model)


def test_a_layer_that_sees_several_lines_is_refused():
    import keras

    entry = keras.Input((None, 16))
    mixed = keras.layers.Conv1D(3, 3, padding="causal", name="mix")(entry)
    model = keras.Model(entry, {"state": mixed}, name="other")
    with pytest.raises(
        MismatchError, match=r"\(other\) cannot go line by line: mix \(Conv1D\)"
    ):
        make_step(model)
    over_lines = keras.layers.BatchNormalization(axis=1)(keras.Input((4, 16), name="four"))
    model = keras.Model(over_lines._keras_history.operation.input, {"state": over_lines})
    with pytest.raises(MismatchError, match="sees several lines at once"):
        make_step(model)


def test_every_layer_of_the_streaming_network_streams():
    for mixer in ("gru", "attention", "mean"):
        model = sequential(4, mixer=mixer)
        assert len(chain(model)) == len(model.layers) - 1
