"""Arrays and HDF5: what they do not tell is said, and nothing in them is run."""

import io
import zipfile

import h5py
import numpy as np
import pytest
from scan_files import surface
from scipy.io import savemat

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers import read_scan
from stm_keras.readers.formats import scan_format

HEIGHTS = surface(20, 24)


def test_npy_of_one_scan_or_several(tmp_path):
    np.save(tmp_path / "a.npy", HEIGHTS)
    scan = read_scan(tmp_path / "a.npy")
    np.testing.assert_array_equal(scan.heights, HEIGHTS)
    assert (scan.channel, scan.unit, scan.size) == ("Z", "", None)
    np.save(tmp_path / "b.npy", np.asfortranarray(np.stack([HEIGHTS, -HEIGHTS])))
    np.testing.assert_array_equal(read_scan(tmp_path / "b.npy").heights, HEIGHTS)


def test_npz_and_mat_may_tell_what_an_array_cannot(tmp_path):
    told = {"size_nm": [4.8, 4.0], "bias_V": -1.5, "setpoint_A": 5e-11, "slow": "up"}
    np.savez(tmp_path / "a.npz", topo_backward=-HEIGHTS, topo_forward=HEIGHTS, **told)
    savemat(tmp_path / "a.mat", {"topo": HEIGHTS, **told})
    savemat(tmp_path / "b.mat", {"topo": HEIGHTS, **told}, do_compression=True)
    for name in ("a.npz", "a.mat", "b.mat"):
        scan = read_scan(tmp_path / name)
        np.testing.assert_array_equal(scan.heights, HEIGHTS)
        assert scan.size == pytest.approx((4.8e-9, 4e-9))
        assert (scan.channel, scan.slow, scan.bias) == ("Z", "up", -1.5)
        assert scan.setpoint == 5e-11
        np.testing.assert_array_equal(scan.lines()[0], HEIGHTS[-1])
        assert scan.warnings == ()


def test_lines_of_nan_were_not_recorded(tmp_path):
    np.save(tmp_path / "a.npy", np.where(np.arange(20)[:, None] < 7, HEIGHTS, np.nan))
    assert read_scan(tmp_path / "a.npy").recorded.tolist() == list(range(7))


def test_hdf5_of_an_instrument_names_channels_and_directions(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["BW_Z"], file["FW_I"], file["FW_Z"] = -HEIGHTS, 2 * HEIGHTS, HEIGHTS
        file["spectrum"] = np.arange(300.0)
    scan = read_scan(tmp_path / "a.h5")
    np.testing.assert_array_equal(scan.heights, HEIGHTS)
    assert scan.images == ("Z backward", "Current forward", "Z forward")
    assert "does not say which line is the top one" in scan.warnings[0]


def test_nexus_begins_at_the_bottom(tmp_path):
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file.attrs["NX_class"] = "NXroot"
        group = file.create_group("entry/z_forward")
        group["data"] = HEIGHTS[::-1] * 1e9
        group["data"].attrs["units"] = "nm"
        for axis, count in (("x", 24), ("y", 20)):
            group[axis] = np.arange(count) * 0.2
            group[axis].attrs["units"] = "nm"
    scan = read_scan(tmp_path / "a.nxs")
    np.testing.assert_allclose(scan.heights, HEIGHTS)
    assert (scan.format, scan.unit) == ("nexus", "m")
    assert scan.size == pytest.approx((4.8e-9, 4e-9))
    assert (scan.channel, scan.direction) == ("Z", "forward")


def test_matlab_of_today_has_its_axes_exchanged(tmp_path):
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["topo"] = HEIGHTS.T
        file["topo"].attrs["MATLAB_class"] = np.bytes_("double")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.mat").heights, HEIGHTS)


def test_datasets_are_no_scans(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = HEIGHTS[None]
    np.savez(tmp_path / "a.npz", images=HEIGHTS[None], labels=[0])
    assert scan_format(tmp_path / "a.h5") is None
    assert scan_format(tmp_path / "a.npz") is None


def packed(name, data):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_what_holds_no_image_is_refused(tmp_path):
    savemat(tmp_path / "s.mat", {"a": {"b": 1}, "c": [1.0, 2.0]})
    huge = npy(HEIGHTS).replace(b"(20, 24)", b"(9" + b"9" * 3 + b"," + b"9" * 2 + b")")
    for data, phrase in (
        (npy(np.array([{}])), "holds Python objects. Reading them could run code"),
        (npy(np.arange(5.0)), "needs numbers of shape"),
        (npy(np.array([["a"]])), "needs numbers of shape"),
        (npy(HEIGHTS)[:-8], "is cut short"),
        (huge, "is cut short"),
        (packed("a.npy", b"\x93NUMPY\x09"), "is a damaged NPZ file"),
        (packed("a.npy", npy(HEIGHTS))[:-30], "unknown format|damaged NPZ"),
        (packed("a.npy", npy(np.arange(3))), "needs numbers of shape"),
        (
            (tmp_path / "s.mat").read_bytes(),
            "needs numbers of shape .* Received: c: float64",
        ),
        ((tmp_path / "s.mat").read_bytes()[:-9], "is a damaged MATLAB file"),
    ):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(ScanError, match=phrase):
            read_scan(tmp_path / "x")


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_does(tmp_path):
    data = bytearray(packed("a.npy", npy(HEIGHTS)))
    size = data.rfind(b"PK\x01\x02") + 24  # the unpacked size in its directory
    data[size : size + 4] = b"\xff\xff\xff\x3f"
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ScanError, match="is a damaged NPZ file"):
        read_scan(tmp_path / "a.npz")


def test_hdf5_that_promises_terabytes_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("Z", (1 << 20, 1 << 20), "f8", chunks=(64, 64))
        file.create_dataset(
            "FloatField", (1, 1, 1 << 20, 1 << 20), "f4", chunks=(1, 1, 8, 8)
        )
    with pytest.raises(ScanError, match="image is not in it"):
        read_scan(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["FloatField"]
    with pytest.raises(NoImageError, match="is an HDF5 file without an image"):
        read_scan(tmp_path / "a.h5")
