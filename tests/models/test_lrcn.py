"""The LRCN: windows through the CNN, an LSTM over windows, an answer after every line."""

import json

import keras
import numpy as np
import pytest
from helpers import ONCE, check_error, stm

from stm_keras.models import cnn, lrcn

TINY = {"window": 4, "width": 2, "units": 5}
LINES = 9


def scans():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, LINES, 16)).astype("float32")


def state(model, lines):
    return keras.ops.convert_to_numpy(model(lines)["state"])


@pytest.mark.parametrize("stride", [1, 3])
def test_later_lines_change_no_earlier_answer(stride):
    keras.utils.set_random_seed(0)  # the few filters may all be dead under others
    model = lrcn(3, 16, LINES, stride=stride, **TINY)
    lines, other = scans(), scans()
    other[:, 6:] += 3
    whole, changed = state(model, lines), state(model, other)
    np.testing.assert_array_equal(whole[:, :6], changed[:, :6])
    assert np.abs(whole[:, -1] - changed[:, -1]).max() > 1e-4


@pytest.mark.parametrize("stride", [1, 3])
def test_a_begun_scan_is_judged_as_its_lines_are_in_the_whole(stride):
    model = lrcn(3, 16, LINES, stride=stride, **TINY)
    whole = state(model, scans())
    for seen in (1, 2, 5):
        begun = state(model, scans()[:, :seen])
        np.testing.assert_allclose(begun, whole[:, :seen], atol=1e-6)


def test_it_is_the_cnn_over_windows_and_an_lstm_over_those():
    model, alone = lrcn(3, 16, LINES, **TINY), cnn(3, 16, LINES, width=2)
    for layer in alone.layers:
        if layer.weights and layer.name != "logits":
            layer.set_weights(model.get_layer(layer.name).get_weights())
    features = keras.Model(alone.input, alone.get_layer("mean").output)
    padded = np.pad(scans(), ((0, 0), (TINY["window"] - 1, 0), (0, 0)))
    seen = [
        keras.ops.convert_to_numpy(features(padded[:, line : line + TINY["window"]]))
        for line in range(LINES)
    ]
    answers = model.get_layer("lstm")(np.stack(seen, axis=1))
    answers = keras.ops.convert_to_numpy(model.get_layer("logits")(answers))
    np.testing.assert_allclose(state(model, scans()), answers, atol=1e-5)


def test_a_stride_holds_each_answer_until_the_next():
    answers = state(lrcn(3, 16, LINES, stride=4, **TINY), scans())
    same = np.abs(np.diff(answers, axis=1)).max(axis=(0, 2)) == 0
    assert same.tolist() == [True, True, False, True, True, True, False, True]


def test_every_weight_learns():
    model = lrcn(3, 16, LINES, stride=2, **TINY)
    before = model.get_weights()
    model.compile("sgd", {"state": "mse"}, jit_compile=False)
    model.fit(scans(), {"state": np.ones((2, LINES, 3), "float32")}, verbose=0)
    moved = [np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)]
    assert min(moved) > 0


def test_a_saved_model_is_the_same(tmp_path):
    model = lrcn(3, 16, LINES, stride=2, **TINY)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(state(loaded, scans()), state(model, scans()), atol=1e-6)


@ONCE
def test_it_learns_what_it_answers_and_no_other_head(dataset_file, tmp_path):
    sizes = ["model.window=4", "model.stride=32", "model.width=2", "model.units=5"]
    settings = ["model.name=lrcn", *sizes, "train.steps_per_epoch=1", "train.batch_size=8"]
    given = [part for setting in settings for part in ("--set", setting)]
    asked = ["train", "--data", dataset_file, "--epochs", 1, *given]
    result = stm(*asked, "-o", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert scores["by_lines"][-1]["lines"] == 128
    assert scores["unknown"] is scores["changes"] is None
    result = stm(*asked, "--set", "simulate.unknown=0.1", "-o", tmp_path / "other")
    check_error(result, 2, "needs a model with a head for unknown surfaces")
