"""Scans to judge from any file; what is refused is in tests/cli/test_predict.py."""

import h5py
import numpy as np
import pytest
from helpers import ONCE, SHARED, lattice_scans, made_up_dataset
from PIL import Image

from stm_keras.data.dataset import CLASSES
from stm_keras.data.load import load_dataset
from stm_keras.data.preprocess import standardise_lines
from stm_keras.errors import DatasetError, InputError
from stm_keras.inference.inputs import read_scans, resample_heights
from stm_keras.inference.scan_input import read_scan_inputs

pytestmark = ONCE  # no backend changes what is tested here

FACTS = {"pixels": 128, "max_lines": 128}
SCANS = lattice_scans([0, 1, 2])


def test_scans_of_hdf5_stay_in_their_file(dataset_file):
    scans = read_scans(dataset_file, FACTS)
    assert not isinstance(scans, np.ndarray)
    assert scans.shape == (96, 128, 128)
    np.testing.assert_array_equal(scans[:], made_up_dataset().images)


def test_scans_need_no_labels_and_any_size_may_come(tmp_path):
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["images"] = SCANS[:, :5, :7]
    assert read_scans(tmp_path / "bare.h5", FACTS).shape == (3, 5, 7)
    np.savez(tmp_path / "bare.npz", images=SCANS.astype("f8"))
    np.testing.assert_array_equal(read_scans(tmp_path / "bare.npz", FACTS), SCANS)


def test_lines_that_were_not_recorded_may_hold_nan(tmp_path):
    images = SCANS.astype("f4")
    images[1, 100:] = np.nan
    with h5py.File(tmp_path / "cut.h5", "w") as file:
        file["images"] = images
        file["lines"] = [128, 100, 128]
    assert (read_scans(tmp_path / "cut.h5", FACTS)[1, 100:] == 0).all()
    with h5py.File(tmp_path / "cut.h5", "r+") as file:
        del file["lines"]
    with pytest.raises(
        DatasetError, match="1 of 3 scans hold NaN or inf in recorded lines"
    ):
        read_scans(tmp_path / "cut.h5", FACTS)


def test_a_folder_of_pictures_with_a_table_is_a_dataset(tmp_path):
    for number, scan in enumerate(SCANS):
        Image.fromarray(scan).save(tmp_path / f"{number}.png")
    rows = "".join(f"{n}.png,{CLASSES[n]}\n" for n in range(3))
    (tmp_path / "labels.csv").write_text(f"file,label\n{rows}")
    np.testing.assert_array_equal(read_scans(tmp_path, FACTS), SCANS)
    np.testing.assert_array_equal(read_scans(tmp_path / "labels.csv", FACTS), SCANS)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((128, 128), 128),
        ((20, 128), 20),
        ((512, 512), 128),
        ((128, 512), 31),  # the 32nd waits for the next line of the scan
        ((64, 64), 128),
        ((32, 64), 63),
        ((513, 512), 128),
        ((1, 512), 1),
    ],
)
def test_pixels_stay_square(shape, expected):
    heights = np.random.default_rng(0).normal(size=(2, *shape))
    resampled = resample_heights("a", heights, FACTS)
    assert resampled.shape == (2, 128, 128)
    there = resampled.any(2)  # a scan that is wider than high has begun: the rest is 0
    assert there.sum(1).tolist() == [expected] * 2
    assert there[:, :expected].all()


def test_rows_stay_lines_and_columns_pixels():
    ramp = np.arange(256.0)[None, :, None] + 1e-3 * np.sin(np.arange(256.0))
    resampled = resample_heights("a", ramp, FACTS)
    assert np.ptp(resampled, axis=2).max() < 1e-3
    steps = np.diff(resampled[0, 1:-1, 5])
    np.testing.assert_allclose(steps, 2 / 127.5, rtol=1e-2)  # in parts of the largest


def test_scans_higher_than_wide_are_refused():
    with pytest.raises(DatasetError, match=r"^a: is higher than wide \(64 x 128 pixels\)"):
        resample_heights("a", np.zeros((1, 128, 64)), FACTS)


def test_an_array_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", SCANS)
    np.savez(tmp_path / "a.npz", images=SCANS)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(
            InputError, match=rf"{name}: cannot be read \(Permission denied\)"
        ):
            read_scans(tmp_path / name, FACTS)


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real scans are not here")
def test_real_scans_are_the_same_from_matlab_and_npz():
    facts = {"pixels": 128, "max_lines": 128}
    one = read_scans(SHARED / "raw_sample.mat", facts)
    other = read_scans(SHARED / "processed_sample.npz", facts)
    np.testing.assert_array_equal(one[:], other)
    labelled = load_dataset(SHARED / "processed_sample.npz").images
    np.testing.assert_array_equal(standardise_lines(other), standardise_lines(labelled))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_gaps_of_an_array_are_lines_that_were_not_recorded_whatever_the_file(tmp_path):
    scan = np.random.default_rng(3).normal(size=(48, 48)).astype("f4")
    scan[5] = np.nan  # a lost line
    scan[7, :10] = np.inf  # a gap that is bridged
    scan[9, :40] = np.nan  # too long a gap
    scan[30:] = np.nan
    np.save(tmp_path / "a.npy", np.stack([scan, scan[::-1]]))
    np.savez(tmp_path / "a.npz", scans=np.stack([scan, scan[::-1]]))
    arrays, archived = (
        list(read_scan_inputs(tmp_path / name, {**FACTS, "classes": ()}))
        for name in ("a.npy", "a.npz")
    )
    for one, other in zip(arrays, archived, strict=True):
        np.testing.assert_array_equal(one.lines, other.lines)
        np.testing.assert_array_equal(one.heights, other.heights)
        assert (
            (one.planned, one.model_lines)
            == (other.planned, other.model_lines)
            == (48, 128)
        )
    assert arrays[0].lines.shape == (29, 48)
    assert np.isfinite(arrays[0].lines).all(1).sum() == 28
    np.testing.assert_array_equal(
        read_scans(tmp_path / "a.npy", FACTS), read_scans(tmp_path / "a.npz", FACTS)
    )
