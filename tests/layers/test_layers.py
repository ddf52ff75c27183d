import keras
import numpy as np
import pytest
from layer_contract import check_layer, run_layer_test

from stm_keras import layers
from stm_keras.layers.position import sinusoids

CASES = {
    "ScanlineTokenizer": ({"dim": 8}, (2, 5, 16), (2, 5, 8), 2),
    "ScanlineTokenizer-conv": ({"dim": 8, "stem": "conv"}, (2, 5, 16), (2, 5, 8), 8),
    "ScanlineTokenizer-spectra": (
        {"dim": 8, "stem": "spectra"},
        (2, 5, 16),
        (2, 5, 8),
        6,
    ),
    "RecordedLines": ({"extra": 3}, (2, 5, 16), (2, 1, 8), 0),
    "RollingWindows": ({"window": 3, "stride": 2}, (2, 7, 4), (8, 3, 4), 0),
    "ClassToken": ({}, (2, 5, 6), (2, 6, 6), 1),
    "Positions": ({"max_tokens": 7}, (2, 5, 6), (2, 5, 6), 1),
    "Positions-sinusoidal": (
        {"max_tokens": 7, "kind": "sinusoidal"},
        (2, 5, 6),
        (2, 5, 6),
        0,
    ),
    "HashedDropout": ({"rate": 0.3}, (2, 5, 6), (2, 5, 6), 0),
    "EncoderBlock": (
        {"num_heads": 2, "mlp_dim": 10, "dropout": 0.0},
        (2, 5, 6),
        (2, 5, 6),
        16,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_layer_keeps_its_promises(case, tmp_path):
    arguments, shape, expected, weights = CASES[case]
    cls = getattr(layers, case.partition("-")[0])
    check_layer(cls, arguments, shape, expected, weights, tmp_path / "layer.keras")
    dtype = "bool" if case == "RecordedLines" else None
    run_layer_test(cls, arguments, shape, expected, dtype)


def test_every_public_layer_is_tested():
    elsewhere = {"HoldAnswers", "WindowSequences"}  # of two inputs, in test_windows.py
    elsewhere |= {
        "CausalBlock",
        "CausalConv",
        "LastFeatures",
        "LineChannels",
        "LineSummary",
    }
    elsewhere |= {"LineWindow", "Recurrent", "RunningLattice", "RunningMean"}
    elsewhere |= {"BoostedTrees", "RunningSpectra", "RunningStatistics"}
    # line by line too, in test_causal.py
    assert {name.partition("-")[0] for name in CASES} | elsewhere == set(layers.__all__)


@pytest.mark.parametrize("stem", ["linear", "conv", "spectra"])
def test_a_token_knows_its_own_line_and_its_spectra_those_before(stem):
    tokenizer = layers.ScanlineTokenizer(8, stem)
    lines = np.random.default_rng(0).normal(size=(1, 5, 16)).astype("float32")
    changed = lines.copy()
    changed[:, 3] += 1
    before, after = (keras.ops.convert_to_numpy(tokenizer(x)) for x in (lines, changed))
    moved = np.abs(before - after).max(axis=(0, 2)) > 1e-6
    assert moved.tolist() == [False, False, False, True, stem == "spectra"]


def test_dropout_drops_its_share_anew_each_time_and_everywhere_alike():
    layer = layers.HashedDropout(0.3, seed=4)
    ones = np.ones((40, 50, 60), "float32")
    first, second = (keras.ops.convert_to_numpy(layer(ones, training=True)) for _ in "ab")
    again = layers.HashedDropout(0.3, seed=4)
    assert np.array_equal(keras.ops.convert_to_numpy(again(ones, training=True)), first)
    assert np.array_equal(keras.ops.convert_to_numpy(layer(ones)), ones)
    for kept in (first > 0, second > 0):
        assert kept.mean() == pytest.approx(0.7, abs=0.004)  # 3 sigma of 120,000
        for axes in ((1, 2), (0, 2), (0, 1)):
            of_each = kept.mean(axes)
            assert np.ptp(of_each) < 0.09
            share = kept.size // len(of_each)
            assert of_each.std() == pytest.approx(np.sqrt(0.21 / share), rel=0.4)
        for axis in range(3):  # neighbours are independent
            beside = np.diff(kept.astype(int), axis=axis) == 0
            assert beside.mean() == pytest.approx(0.58, abs=0.006)
    assert ((first > 0) == (second > 0)).mean() == pytest.approx(0.58, abs=0.006)
    assert np.unique(first) == pytest.approx([0, 1 / 0.7])


def test_empty_lines_are_not_looked_at():
    lines = np.ones((1, 3, 4), "float32")
    lines[0, 1] = 0
    mask = keras.ops.convert_to_numpy(layers.RecordedLines(extra=1)(lines))
    assert mask.tolist() == [[[True, True, False, True]]]


def test_a_masked_token_changes_nothing():
    block = layers.EncoderBlock(num_heads=2, mlp_dim=10)
    tokens = np.random.default_rng(0).normal(size=(1, 4, 6)).astype("float32")
    other = tokens.copy()
    other[:, 3] = 9
    mask = np.array([[[True, True, True, False]]])
    one, two = (
        keras.ops.convert_to_numpy(block(t, attention_mask=mask))[:, :3]
        for t in (tokens, other)
    )
    np.testing.assert_allclose(one, two, atol=1e-6)


def test_sinusoids_are_those_of_the_paper():
    table = sinusoids(5, 6)
    assert table.shape == (5, 6)
    assert table[3, 0] == pytest.approx(np.sin(3))
    assert table[3, 1] == pytest.approx(np.cos(3))
    assert table[2, 4] == pytest.approx(np.sin(2 / 10000 ** (4 / 6)))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"`dim` must be positive. Received: dim=0"):
        layers.ScanlineTokenizer(0)
    with pytest.raises(ValueError, match=r'"conv", "spectra". Received: stem=rnn'):
        layers.ScanlineTokenizer(4, "rnn")
    with pytest.raises(
        ValueError, match=r"`extra` must not be negative. Received: extra=-1"
    ):
        layers.RecordedLines(-1)
    with pytest.raises(ValueError, match=r"`max_tokens` must be positive"):
        layers.Positions(0)
    with pytest.raises(ValueError, match=r"`kind` must be .* Received: kind=none"):
        layers.Positions(3, "none")
    with pytest.raises(
        ValueError, match=r"more tokens than `max_tokens`. Received: 5 tokens"
    ):
        layers.Positions(3).build((None, 5, 6))
    with pytest.raises(ValueError, match=r"`num_heads` must divide .* num_heads=4"):
        layers.EncoderBlock(4, 8).build((None, 5, 6))
