"""What describes the lines so far, and the trees that see it."""

import numpy as np
import pytest
from keras import ops

from stm_keras.data.preprocess import scale_lines
from stm_keras.layers import BoostedTrees, RunningStatistics
from stm_keras.layers.boosted import stage_slopes
from stm_keras.layers.statistics import FOLLOWS, HEIGHTS, SIZES, STEPS, ramp

NUMBERS = len(HEIGHTS) - 1 + len(SIZES) + len(STEPS) + len(FOLLOWS) - 3


def describe(heights):
    """Return what is told after the last line of a scan."""
    lines = scale_lines(heights[None]).astype("float32")
    return ops.convert_to_numpy(RunningStatistics()(lines))[0, -1]


@pytest.fixture
def noise():
    return np.random.default_rng(0).normal(size=(64, 96))


def test_a_distribution_slides_between_its_edges(noise):
    told = describe(noise)[: len(HEIGHTS) - 1]
    assert (np.diff(told) <= 0).all()
    middle = HEIGHTS.index(0)
    assert told[middle - 1] - told[middle] == pytest.approx(0.19, abs=0.03)  # of a Gaussian


def test_lines_that_follow_each_other_differ_less(noise):
    alike = np.repeat(noise[:1], 64, axis=0) + 0.1 * noise
    size, step, follows = NUMBERS, NUMBERS + 1, NUMBERS + 2
    assert describe(alike)[step] < describe(noise)[step] - 2
    assert describe(alike)[follows] > 0.9
    assert describe(noise)[follows] == pytest.approx(0, abs=0.05)
    assert describe(noise)[size] == pytest.approx(0, abs=0.1)


def test_a_wave_stands_in_its_band():
    place = np.arange(96)
    waves = [np.tile(np.sin(2 * np.pi * k * place / 96), (9, 1)) for k in (4, 24)]
    slow, fast = (describe(wave)[NUMBERS + 3 :].argmax() for wave in waves)
    assert slow < fast


def test_unit_and_scale_do_not_matter(noise):
    np.testing.assert_allclose(describe(noise), describe(3e-11 * noise + 2), atol=1e-3)


def test_ramps_are_as_wide_as_their_edges_are_apart():
    low, rise = ramp((0, 2, 3))
    assert low.tolist() == [0, 2]
    assert rise.tolist() == [0.5, 1]


def test_stages_share_every_number_of_lines():
    rise, begin, fall, end = stage_slopes((4, 16, 128))
    for lines in (1, 3, 4, 8, 16, 50, 128, 300):
        place = np.log2(lines)
        parts = np.clip(np.minimum(place * rise + begin, place * fall + end), 0, 1)
        assert parts.sum() == pytest.approx(1, abs=1e-5)
    assert parts.tolist() == [0, 0, 1]


def test_a_split_slides_from_one_side_to_the_other():
    layer = BoostedTrees(1, 1, stages=(1, 2))
    layer.build((None, None, 2))
    splits, leaves = np.full(14, 1e4, "float32"), np.zeros(16, "float32")
    splits[0] = 2.0  # the root of the first tree; 0 is its feature
    leaves.reshape(8, 2)[1, 0] = 1.0  # right of the root, then left twice
    start = np.array([[0.25], [7.0]], "float32")  # of each stage, without any tree
    layer.set_trees({"threshold": splits, "leaves": leaves, "start": start})
    values = np.array([1.4, 1.5, 2.0, 2.3, 2.5, 9.0], "float32")
    features = np.stack([values, 0 * values], axis=-1)[:, None]  # one line: stage 1
    said = ops.convert_to_numpy(layer(features)).ravel()
    np.testing.assert_allclose(said - 0.25, [0, 0, 0.5, 0.8, 1, 1], atol=1e-6)
