"""Windows that roll over a scan, and what is made of them."""

import keras
import numpy as np
import pytest
from layer_contract import run_layer_test

from stm_keras.layers import HoldAnswers, RollingWindows, WindowSequences


def scans(count=2, lines=7, pixels=4):
    return np.random.default_rng(0).normal(size=(count, lines, pixels)).astype("float32")


def by_hand(lines, window, ends):
    """Cut windows one by one: list of arrays `(window, pixels)`."""
    found = []
    for scan in lines:
        for end in ends:
            part = scan[max(end + 1 - window, 0) : end + 1]
            found.append(np.pad(part, ((window - len(part), 0), (0, 0))))
    return np.array(found)


@pytest.mark.parametrize(
    ("stride", "ends"),
    [
        (1, [0, 1, 2, 3, 4, 5, 6]),
        (2, [0, 1, 3, 5]),
        (3, [0, 2, 5]),
        (7, [0, 6]),
        (9, [0]),
    ],
)
@pytest.mark.parametrize("window", [1, 3, 20])
def test_a_window_holds_a_line_and_those_before_it(window, stride, ends):
    lines = scans()
    found = keras.ops.convert_to_numpy(RollingWindows(window, stride)(lines))
    np.testing.assert_array_equal(found, by_hand(lines, window, ends))


def test_features_return_to_their_scans():
    features = np.arange(12, dtype="float32").reshape(6, 2)
    found = keras.ops.convert_to_numpy(WindowSequences()(features, scans(lines=3)))
    np.testing.assert_array_equal(found, features.reshape(2, 3, 2))


@pytest.mark.parametrize("stride", [1, 2, 3, 9])
def test_an_answer_is_held_until_the_next_window_ends(stride):
    lines = scans(count=1)
    ends = [0, *range(stride - 1, 7, stride)] if stride > 1 else list(range(7))
    answers = np.array(ends, "float32").reshape(1, -1, 1)
    found = keras.ops.convert_to_numpy(HoldAnswers(stride)(answers, lines))
    latest = [max(end for end in ends if end <= line) for line in range(7)]
    assert found.shape == (1, 7, 1)
    assert found[0, :, 0].tolist() == latest


def test_shapes_are_known_before_there_are_scans():
    lines = keras.Input((7, 4), batch_size=2)
    windows = RollingWindows(3, 2)(lines)
    sequences = WindowSequences()(keras.ops.mean(windows, axis=1), lines)
    assert windows.shape == (8, 3, 4)
    assert sequences.shape == (2, 4, 4)
    assert HoldAnswers(2)(sequences, lines).shape == (2, 7, 4)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (WindowSequences, {"features_shape": (8, 3), "lines_shape": (2, 7, 5)}),
        (HoldAnswers, {"answers_shape": (2, 7, 3), "lines_shape": (2, 7, 5)}),
    ],
)
def test_a_layer_of_two_inputs_is_what_keras_asks_of_a_layer(layer, shapes):
    run_layer_test(layer, {}, shapes)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="`window` must be positive. Received: window=0"):
        RollingWindows(0)
    for layer in (RollingWindows, HoldAnswers):
        with pytest.raises(ValueError, match="`stride` must be positive. .*: stride=0"):
            layer(stride=0)
