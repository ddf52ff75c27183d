from pathlib import Path

import numpy as np
import pytest

from stm_keras.data import matching
from stm_keras.data.duplicates import KINDS, find_duplicates
from stm_keras.data.load import load_dataset
from stm_keras.data.preprocess import resample_pixels, resample_scan, standardise_lines
from stm_keras.errors import DatasetError

NOTTINGHAM = Path(__file__).parents[3] / "shared" / "data" / "nottingham.h5"
needs_nottingham = pytest.mark.skipif(
    not NOTTINGHAM.exists(), reason="../shared/data/nottingham.h5 is not there"
)


def surface(seed, lines=128, pixels=128, noise=0.15):
    """One lattice, the same for all seeds, with blobs and line noise of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:lines, :pixels] / 128
    heights = np.cos(2 * np.pi * (4.7 * x + 1.1 * y))
    heights += 0.6 * np.cos(2 * np.pi * (9.4 * y - 2.2 * x))
    for _ in range(4):
        row, column = rng.uniform(0, 1, 2) * (lines / 128, pixels / 128)
        radius = rng.uniform(0.04, 0.12)
        height = rng.uniform(-3, 5)
        heights += height * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 2 / radius**2)
    raw = rng.normal(size=(lines, pixels // 2))
    heights += noise * np.sqrt(1.5) * resample_pixels(raw, pixels)
    return heights - heights.mean(1, keepdims=True)


def picture(heights):
    return np.round(254 * (heights - heights.min()) / np.ptp(heights)).astype(np.uint8)


OTHERS = np.stack([surface(seed) for seed in range(100, 107)])
SCAN = surface(1)
RNG = np.random.default_rng(5)
WIDE = surface(2, 160, 160)
COPIES = {
    "gain and offset": (SCAN, 3e-12 * SCAN + 5e-9, "same place"),
    "8-bit": (SCAN, picture(SCAN), "same place"),
    "lines standardised": (SCAN, standardise_lines(SCAN), "same place"),
    "noisy": (
        SCAN,
        standardise_lines(SCAN) + RNG.normal(0, 0.3, SCAN.shape),
        "same place",
    ),
    "flipped along lines": (SCAN, SCAN[:, ::-1], "flipped"),
    "flipped along the slow axis": (SCAN, SCAN[::-1], "flipped"),
    "turned by 180": (SCAN, SCAN[::-1, ::-1], "flipped"),
    "turned by 90": (SCAN, np.rot90(SCAN), "rotated"),
    "turned by 270": (SCAN, np.rot90(SCAN, 3), "rotated"),
    "transposed": (SCAN, SCAN.T, "rotated"),
    "rolled": (SCAN, np.roll(SCAN, (25, -19), (0, 1)), "shifted"),
    "panned": (WIDE[:128, :128], WIDE[30:158, 28:156], "shifted"),
    "panned, filled with 0": (
        SCAN,
        np.pad(SCAN, ((0, 20), (26, 0)))[20:, :128],
        "shifted",
    ),
    "zoomed": (SCAN, resample_scan(SCAN[4:120, 10:126], 128, 128), "zoomed"),
    "flipped, shifted and noisy": (
        SCAN,
        np.roll(standardise_lines(SCAN)[::-1], (16, 12), (0, 1))
        + RNG.normal(0, 0.15, SCAN.shape),
        "flipped",
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_among_other_scans_of_the_same_lattice(name):
    first, second, kind = COPIES[name]
    images = np.concatenate([[first], OTHERS, [second]])
    result = find_duplicates(images)
    assert list(zip(result.first, result.second, strict=True)) == [(0, 8)]
    assert result.kind[0] == kind
    assert 0.74 <= result.score[0] <= 1
    np.testing.assert_array_equal(result.groups, [*range(8), 0])


def test_scans_of_one_lattice_are_no_duplicates():
    result = find_duplicates(OTHERS)
    assert len(result) == 0
    assert result.counts() == {}
    assert (result.first.dtype, result.kind.dtype.kind) == (int, "U")
    np.testing.assert_array_equal(result.groups, np.arange(7))


@pytest.mark.smoke
def test_exact_copies_are_paired_with_the_first_and_grouped():
    images = np.stack([picture(surface(seed)) for seed in (7, 8, 7, 9, 7)])
    result = find_duplicates(images)
    np.testing.assert_array_equal(result.first, [0, 0])
    np.testing.assert_array_equal(result.second, [2, 4])
    assert result.counts() == {"exact": 2}
    assert set(result.kind) <= set(KINDS)
    np.testing.assert_array_equal(result.groups, [0, 1, 0, 2, 0])


def test_groups_join_copies_of_copies():
    drift = surface(3, 200, 200)
    windows = [drift[s : s + 128, s : s + 128] for s in (0, 24, 48, 72)]
    images = np.stack([*windows[::-1], SCAN])
    result = find_duplicates(images)
    assert (0, 3) not in set(
        zip(result.first.tolist(), result.second.tolist(), strict=True)
    )
    np.testing.assert_array_equal(find_duplicates(images).groups, [0, 0, 0, 0, 1])


def test_constant_scans_are_nobodys_duplicates():
    images = np.stack([np.full((128, 128), 3.0), np.full((128, 128), 3.0), SCAN])
    np.testing.assert_array_equal(find_duplicates(images).groups, [0, 1, 2])


def test_scans_with_few_structured_lines_are_no_near_duplicates():
    images = np.zeros((3, 128, 128))
    images[0, 60:66] = SCAN[60:66]
    images[1, 60:66] = 2 * SCAN[60:66]
    images[2, 60:66] = SCAN[60:66]
    np.testing.assert_array_equal(find_duplicates(images).groups, [0, 1, 0])


def test_lines_that_were_not_recorded_do_not_count():
    first, second = SCAN.copy(), 2 * SCAN
    first[80:] = 7
    second[80:] = np.nan
    images = np.stack([first, *OTHERS[:2], second])
    np.testing.assert_array_equal(
        find_duplicates(images, [80, 128, 128, 80]).groups, [0, 1, 2, 0]
    )


def test_other_sizes_than_128_and_oblong_scans():
    images = np.stack([surface(seed, 96, 160) for seed in range(5)])
    images = np.concatenate([images, images[2:3, ::-1], images[4:, :, ::-1]])
    np.testing.assert_array_equal(find_duplicates(images).groups, [0, 1, 2, 3, 4, 2, 4])


@pytest.mark.parametrize("count", [0, 1])
def test_hardly_any_scans(count):
    np.testing.assert_array_equal(find_duplicates(OTHERS[:count]).groups, np.arange(count))


def test_a_last_block_of_one_scan(monkeypatch):
    monkeypatch.setattr("stm_keras.data.duplicates._BLOCK", 3)
    images = np.concatenate([OTHERS[:6], OTHERS[5:6, ::-1]])
    np.testing.assert_array_equal(find_duplicates(images).groups, [0, 1, 2, 3, 4, 5, 5])


def test_images_are_read_block_by_block():
    class Lazy:
        shape = (300, 16, 16)
        longest = 0

        def __getitem__(self, part):
            block = np.zeros(self.shape)[part]
            self.longest = max(self.longest, len(block))
            return block

    images = Lazy()
    np.testing.assert_array_equal(find_duplicates(images).groups, np.arange(300))
    assert images.longest == 128


def test_progress_reaches_its_total():
    calls = []
    find_duplicates(OTHERS[:4], progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == calls[-1][1]


def test_images_of_another_shape_are_refused():
    with pytest.raises(DatasetError, match=r"`images` must have the shape .*\(128, 128\)"):
        find_duplicates(SCAN)
    with pytest.raises(DatasetError, match=r"`lines` must hold one number for each of 7"):
        find_duplicates(OTHERS, lines=[128, 128])


@pytest.mark.parametrize("kind", range(4))
def test_flipped_spectra_are_those_of_flipped_scans(kind):
    scans = np.random.default_rng(0).normal(size=(3, matching.SIZE, matching.SIZE))
    scans = scans.astype(np.float32)
    np.testing.assert_allclose(
        matching.flip_spectra(matching.coarse_spectra(scans), kind),
        matching.coarse_spectra(matching.flip(scans, kind)),
        atol=1e-5,
    )


def test_find_shifts_and_similarity_agree_on_the_shift():
    scans = matching.reduce_scans(OTHERS[:5], np.full(5, 128))
    moved = np.roll(scans, (-5, 3), (1, 2))
    shifts, heights = matching.find_shifts(
        matching.coarse_spectra(scans), matching.coarse_spectra(moved)
    )
    np.testing.assert_array_equal(shifts[:, 0], [[5, -3]] * 5)
    assert (heights[:, 0] > 0.99).all()
    similarity, common = matching.similarity(scans, moved, shifts[:, 0])
    assert (similarity > 0.99).all()
    np.testing.assert_array_equal(common, matching.SIZE - 5)


@needs_nottingham
def test_real_copies_are_found_and_other_sessions_are_not():
    dataset = load_dataset(NOTTINGHAM)
    rng = np.random.default_rng(0)
    scans = dataset.take(rng.choice(np.flatnonzero(dataset.single_class()), 120, False))
    standard = standardise_lines(scans.images[:20]).astype(np.float64)
    noisy = standard + rng.normal(0, 0.2, standard.shape)
    copies = np.roll(noisy[:, :, ::-1], (20, -14), (1, 2))
    images = np.concatenate([scans.images.astype(np.float64), copies])
    result = find_duplicates(images)
    pairs = set(zip(result.first.tolist(), result.second.tolist(), strict=True))
    assert sum((i, 120 + i) in pairs for i in range(20)) >= 18
    session = np.concatenate([scans.session, scans.session[:20]])
    assert (session[result.first] == session[result.second]).all()
