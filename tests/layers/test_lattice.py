"""What the running lattice tells, and what it must not."""

import numpy as np
import pytest
from keras import ops

from stm_keras.data.preprocess import scale_lines
from stm_keras.layers import RunningLattice
from stm_keras.layers.lattice import HARMONICS, OCTAVE
from stm_keras.trees.features import radii_up_to

RADII = radii_up_to(48.0, OCTAVE)
ROWS, ATOMS, DIMERS = (HARMONICS.index(each) for each in ((0.0, 0), (1.0, 0), (1.0, 90)))
RADIUS, STANDS_OUT = len(HARMONICS) + 1, len(HARMONICS) + 2


def lattice(degrees, atoms=0.0, dimers=0.0, period=20.0, noise=0.3, pixels=96):
    """Draw rows of a period in pixels at an angle, with a second and a cross harmonic."""
    place = np.mgrid[:pixels, :pixels].astype(float)
    angle = np.deg2rad(degrees)
    across = 2 * np.pi / period * (np.cos(angle) * place[1] + np.sin(angle) * place[0])
    along = 2 * np.pi / period * (np.cos(angle) * place[0] - np.sin(angle) * place[1])
    heights = np.cos(across) + atoms * np.cos(2 * across) + dimers * np.cos(2 * along)
    return heights + noise * np.random.default_rng(0).normal(size=heights.shape)


def read(*scans, **arguments):
    """Return the features of scans after their last line."""
    lines = scale_lines(np.stack(scans)).astype("float32")
    return ops.convert_to_numpy(RunningLattice(**arguments)(lines))[:, -1]


@pytest.mark.parametrize("degrees", [12, 25, -50, 65])
def test_harmonics_are_found_wherever_the_lattice_points(degrees):
    plain, atoms, dimers = read(
        lattice(degrees), lattice(degrees, atoms=0.7), lattice(degrees, dimers=0.7)
    )
    assert atoms[ATOMS] - atoms[ROWS] > plain[ATOMS] - plain[ROWS] + 1.5
    assert dimers[DIMERS] - dimers[ROWS] > plain[DIMERS] - plain[ROWS] + 1.5
    assert abs(dimers[ATOMS] - plain[ATOMS]) < 1.5
    assert 2 ** plain[RADIUS] == pytest.approx(96 / 20, rel=0.15)


def test_a_finer_lattice_is_found_where_radii_reach_it():
    fine = {"period": 192 / 24, "pixels": 192}  # 24 periods over the width, atoms at 48
    plain, atoms = lattice(25, **fine), lattice(25, atoms=0.7, **fine)
    reached, without = read(atoms, plain, highest=96.0)
    assert 2 ** reached[RADIUS] == pytest.approx(24, rel=0.15)
    assert reached[ATOMS] - reached[ROWS] > without[ATOMS] - without[ROWS] + 1.5
    missed = read(atoms)[0]  # as of 128 pixels
    assert 2 ** missed[RADIUS] < 15
    assert reached[STANDS_OUT] > missed[STANDS_OUT] + 1


@pytest.mark.parametrize("highest", [-1.0, 0.0, 8.9, float("nan"), 1e300])
def test_radii_without_a_place_for_rows_or_without_end_are_named(highest):
    with pytest.raises(ValueError, match=r"`highest` must be from 9 .*Received: highest="):
        RunningLattice(highest=highest)


def test_the_lowest_of_radii_leaves_a_place_for_rows():
    low, high = RunningLattice(highest=9.0).rows
    assert low < high


def test_noise_shows_no_lattice():
    noise = np.random.default_rng(1).normal(size=(96, 96))
    some, none = read(lattice(30), noise)
    assert some[STANDS_OUT] > none[STANDS_OUT] + 1


def test_the_number_of_lines_is_told():
    lines = np.random.default_rng(0).normal(size=(1, 8, 16)).astype("float32")
    told = ops.convert_to_numpy(RunningLattice()(lines))[0, :, -1]
    np.testing.assert_allclose(told, np.log2(np.arange(1, 9)), atol=1e-6)


def test_the_profile_tells_where_power_is_and_whether_it_points_anywhere():
    noise = np.random.default_rng(1).normal(size=(96, 96))
    lines = scale_lines(np.stack([lattice(30, noise=0.1), noise])).astype("float32")
    told = ops.convert_to_numpy(RunningLattice(profile=True)(lines))[:, -1]
    mean, above = told[:, : len(RADII)], told[:, len(RADII) : 2 * len(RADII)]
    rows = np.abs(RADII - 96 / 20).argmin()
    assert above[0].argmax() in (rows - 1, rows, rows + 1)
    assert above[0].max() > above[1].max() + 2
    assert abs(mean[0].argmax() - rows) <= 2
    assert np.ptp(mean[1]) < np.ptp(mean[0]) / 2
    np.testing.assert_allclose(
        told[:, 2 * len(RADII) :], ops.convert_to_numpy(RunningLattice()(lines))[:, -1]
    )
