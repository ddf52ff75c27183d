import numpy as np
import pytest

from stm_keras.data.augment import (
    add_noise,
    augment_batch,
    flip_scans,
    lose_lines,
    transform_scans,
)
from stm_keras.data.preprocess import level_lines, standardise_lines
from stm_keras.settings import AugmentConfig

STILL = {
    "flip": False,
    "rotate": 0,
    "zoom": 0,
    "pan": 0,
    "noise": 0,
    "line_dropout": 0,
    "cut": 0,
}


@pytest.fixture
def scans():
    """Smooth scans of 24 lines x 32 pixels that differ everywhere."""
    rng = np.random.default_rng(3)
    row, column = np.mgrid[:24, :32].astype(float)
    waves = rng.uniform(0.1, 0.5, (6, 2))
    return np.stack([np.sin(a * row + b * column) + 0.1 * a * row for a, b in waves])


def settings(**changes):
    return AugmentConfig(**(STILL | changes))


def test_nothing_asked_is_only_standardised(scans):
    out = augment_batch(scans, settings(), np.random.default_rng(0))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(-1), 1, atol=1e-4)


def test_a_batch_follows_from_its_seed(scans):
    one, two, other = (
        augment_batch(scans, AugmentConfig(), np.random.default_rng(seed))
        for seed in ((0, 1, 2), (0, 1, 2), (0, 1, 3))
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("changes", [{}, STILL | {"line_dropout": 0.5}])
def test_input_is_left_alone(scans, changes):
    scans = scans.astype(np.float32)
    before = scans.copy()
    augment_batch(scans, AugmentConfig(**changes), np.random.default_rng(0))
    assert np.array_equal(scans, before)


@pytest.mark.parametrize("shape", [(3, 1, 7), (3, 7, 1), (2, 5, 9)])
def test_scans_of_a_line_or_a_pixel_are_turned_and_panned_too(shape):
    scans = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for rotate in (0, 1):
        chosen = settings(rotate=rotate, pan=0.4)
        out = transform_scans(scans, chosen, np.random.default_rng(1))
        levelled = level_lines(scans)
        assert out.min() >= levelled.min() - 1e-6
        assert out.max() <= levelled.max() + 1e-6


def test_flips_are_the_four_of_a_scan(scans):
    found = set()
    for seed in range(20):
        for scan, out in zip(
            scans, flip_scans(scans, np.random.default_rng(seed)), strict=True
        ):
            views = [scan, scan[:, ::-1], scan[::-1], scan[::-1, ::-1]]
            same = [np.array_equal(out, view) for view in views]
            assert sum(same) == 1
            found.add(same.index(True))
    assert found == {0, 1, 2, 3}


def test_pan_moves_a_scan_and_mirrors_its_edge():
    row, column = np.mgrid[:16, :16].astype(np.float32)
    scan = np.sin(column * 0.7) * 3 + np.cos(row * 0.5)
    out = transform_scans(scan[None], settings(pan=0.2), np.random.default_rng(1))[0]
    shift = np.random.default_rng(1)
    shift.random(1), shift.uniform(0, 1, 1), shift.uniform(-1, 1, 1)
    down, right = shift.uniform(-0.2, 0.2, (1, 2))[0] * 16
    levelled = scan - scan.mean(1, keepdims=True)
    ramp = np.arange(16) - 7.5
    levelled = levelled - (levelled @ ramp / (ramp @ ramp))[:, None] * ramp
    middle = 8
    y, x = middle + down, middle + right
    top, left = int(np.floor(y)), int(np.floor(x))
    wanted = sum(
        levelled[top + i, left + j] * (1 - abs(y - top - i)) * (1 - abs(x - left - j))
        for i in (0, 1)
        for j in (0, 1)
    )
    assert out[middle, middle] == pytest.approx(wanted, abs=1e-3)


def test_rotation_turns_rows_by_a_known_angle():
    row, column = np.mgrid[:64, :64].astype(np.float32)
    scan = np.sin(2 * np.pi * column / 8)
    rng = np.random.default_rng(5)
    out = transform_scans(scan[None], settings(rotate=1), rng)[0]
    again = np.random.default_rng(5)
    again.random(1)
    angle = again.uniform(0, 2 * np.pi, 1)[0]
    middle = (out - out.mean()) * np.outer(np.hanning(64), np.hanning(64))
    power = np.abs(np.fft.fftshift(np.fft.fft2(middle))) ** 2
    y, x = np.unravel_index(power.argmax(), power.shape)
    measured = np.arctan2(y - 32, x - 32)
    difference = (measured - angle) % np.pi
    assert min(difference, np.pi - difference) < 0.15
    assert np.hypot(y - 32, x - 32) == pytest.approx(8, abs=1)


def test_noise_is_as_large_as_the_scan_allows(scans):
    out = add_noise(
        np.repeat(scans, 40, 0).astype(np.float32), 0.5, np.random.default_rng(0)
    )
    added = (out - np.repeat(scans, 40, 0)).std(axis=(1, 2))
    spread = np.repeat(np.median(scans.std(2), 1), 40)
    assert (added / spread).max() < 0.52
    assert (added / spread).min() < 0.05


def test_noise_leaves_unrecorded_lines_alone(scans):
    scans[:, 20:] = 0
    assert not add_noise(scans.astype(np.float32), 0.5, np.random.default_rng(0))[
        :, 20:
    ].any()


def test_lost_lines_are_the_share_asked_for():
    out = lose_lines(
        np.ones((50, 40, 8), "float32"),
        settings(line_dropout=0.1),
        np.random.default_rng(0),
    )
    lost = ~out.any(-1)
    assert lost.mean() == pytest.approx(0.1, abs=0.02)
    assert (out[~lost] == 1).all()


def test_a_cut_ends_a_scan_after_a_random_line():
    ones = np.ones((2000, 40, 8), "float32")
    out = lose_lines(ones, settings(cut=0.5, min_lines=5), np.random.default_rng(0))
    recorded = out.any(-1)
    count = recorded.sum(1)
    assert all(r[:n].all() for r, n in zip(recorded, count, strict=True))
    assert count.min() == 5
    assert (count < 40).mean() == pytest.approx(0.5 * 35 / 36, abs=0.04)


def test_fixed_scans_keep_their_lines_in_place():
    rng = np.random.default_rng(0)
    scans = rng.normal(size=(40, 16, 16)).astype("float32")
    settings = AugmentConfig(rotate=1.0, zoom=0.2, pan=0.2, line_dropout=0.0, cut=0.0)
    fixed = np.arange(40) % 2 == 0
    found = augment_batch(scans, settings, rng, fixed=fixed)
    wanted = standardise_lines(scans)
    same = np.isclose(found, wanted, atol=1e-5).all((1, 2))
    mirrored = np.isclose(found, wanted[:, :, ::-1], atol=1e-5).all((1, 2))
    assert (same | mirrored)[fixed].all()
    assert same[fixed].any()
    assert mirrored[fixed].any()
    assert not (same | mirrored)[~fixed].any()


def test_a_scan_that_is_not_turned_is_read_as_one_turned_by_nothing(scans):
    zoomed = transform_scans(
        scans[:1], settings(zoom=0.3, pan=0.4), np.random.default_rng(2)
    )

    class Upright:
        """A generator that asks for a turn, by an angle of 0."""

        def __init__(self):
            self.rng = np.random.default_rng(2)

        def random(self, size):
            return self.rng.random(size) - 1

        def uniform(self, low, high, size):
            return self.rng.uniform(low, high, size) * (low != 0)

    turned = transform_scans(scans[:1], settings(rotate=0.1, zoom=0.3, pan=0.4), Upright())
    np.testing.assert_allclose(zoomed, turned, rtol=0, atol=1e-6)
