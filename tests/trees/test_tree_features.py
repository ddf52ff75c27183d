"""Features of scans: what they see, and what they must not see."""

import numpy as np
import pytest
from helpers import lattice_scans

from stm_keras.trees.features import recorded_lines, scan_features


def close(one, other, atol=1e-3):
    np.testing.assert_allclose(one, other, atol=atol)


def test_features_are_finite_numbers_for_any_scan():
    rng = np.random.default_rng(0)
    scans = np.zeros((5, 12, 16))
    scans[1] = 7
    scans[2, :1] = rng.normal(size=16)
    scans[3, 5] = 1e9
    scans[4] = rng.normal(size=(12, 16))
    found = scan_features(scans)
    assert found.shape[0] == 5
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert scan_features(scans[:0]).shape == (0, found.shape[1])


def test_neither_unit_nor_offset_nor_tilt_matters():
    scans = lattice_scans([0, 1, 2], lines=32, pixels=32).astype(float)
    other = scans * 3e-12 + 5e-9 + np.linspace(0, 1e-9, 32)
    close(scan_features(other), scan_features(scans))


@pytest.mark.parametrize("count", [1, 2, 9])
def test_a_begun_scan_is_the_same_with_and_without_empty_lines(count):
    scans = lattice_scans([0, 2], lines=24, pixels=24) + 1.0
    begun = np.where(np.arange(24)[:, None] < count, scans, 0)
    assert recorded_lines(begun).tolist() == [count, count]
    close(scan_features(begun), scan_features(scans[:, :count]), atol=1e-5)


def test_a_lattice_is_found_at_any_angle():
    line, pixel = np.mgrid[:64, :64]
    noise = np.random.default_rng(0).normal(0, 0.05, (64, 64))

    def rows(degrees, along):
        angle = np.deg2rad(degrees)
        across = np.cos(angle) * pixel + np.sin(angle) * line
        other = -np.sin(angle) * pixel + np.cos(angle) * line
        wave = np.sin(2 * np.pi * 5 / 64 * across) + noise
        return wave + along * np.sin(2 * np.pi * 10 / 64 * other)

    turned = scan_features(np.array([rows(a, 0) for a in (20, 60, 100)]))
    dimers = scan_features(np.array([rows(a, 1) for a in (20, 60, 100)]))
    apart = np.abs(turned.mean(0) - dimers.mean(0))
    within = np.maximum(turned.std(0), dimers.std(0)) + 1e-3
    assert (apart > 4 * within).sum() > 10


def test_scans_are_described_one_by_one(monkeypatch):
    scans = lattice_scans([0, 1, 2, 3, 0], lines=16, pixels=16)
    whole = scan_features(scans)
    monkeypatch.setattr("stm_keras.trees.features.CHUNK", 2)
    close(scan_features(scans), whole, atol=1e-6)
