"""Many scans in one file: all of them, or a sentence that says how to name or order them."""

import h5py
import numpy as np
import pytest
from PIL import Image
from scan_files import surface
from scipy.io import savemat

from stm_keras.errors import InputError, NoImageError, UnclearError
from stm_keras.inference.inputs import read_scan_file
from stm_keras.inference.scan_input import read_scan_inputs
from stm_keras.readers import read_scan, read_scans

SCANS = np.stack([surface(24, 24, seed) * (1 + seed) for seed in range(6)])
FACTS = {"pixels": 24, "max_lines": 24, "classes": ["a", "b"]}


def mat73(path, **arrays):
    """As MATLAB saves today: HDF5 with the axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file".ljust(512))


def h5(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def npy(path, array):
    with path.open("wb") as file:
        np.save(file, array)


def npz(path, save=np.savez, **arrays):
    with path.open("wb") as file:
        save(file, **arrays)


def mat5(path, **arrays):
    savemat(path, arrays, appendmat=False)


def packed_mat5(path, **arrays):
    savemat(path, arrays, appendmat=False, do_compression=True)


ALL = {  # name: how to write six scans so that all of them are read
    "npy": lambda p: npy(p, SCANS),
    "npz": lambda p: npz(p, scans=SCANS),
    "npz, packed": lambda p: npz(p, np.savez_compressed, scans=SCANS.astype("f4")),
    "npz of arrays without names": lambda p: npz(
        p, **{f"arr_{i}": SCANS[i] for i in range(6)}
    ),
    "npz of numbered scans": lambda p: npz(
        p, **{f"scan_{i:03d}": SCANS[i] for i in range(6)}
    ),
    "npz of numbered channels": lambda p: npz(
        p,
        **{f"Z_forward_{i}": SCANS[i] for i in range(6)},
        **{f"Z_backward_{i}": -SCANS[i] for i in range(6)},
    ),
    "npz of channels": lambda p: npz(p, current=-SCANS, topo=SCANS),
    "mat v5": lambda p: mat5(p, scans=SCANS.transpose(1, 2, 0)),
    "mat v7": lambda p: packed_mat5(p, scans=SCANS.transpose(1, 2, 0)),
    "mat v7, first axis": lambda p: packed_mat5(p, scans=SCANS),
    "hdf5 of numbered scans": lambda p: h5(p, **{f"scan_{i}": SCANS[i] for i in range(6)}),
    "hdf5 of folders": lambda p: h5(p, **{f"{'abcdef'[i]}/Z": SCANS[i] for i in range(6)}),
}


@pytest.mark.parametrize("name", ALL)
def test_all_scans_of_a_file_are_read(tmp_path, name):
    ALL[name](tmp_path / "a")
    scans = read_scans(tmp_path / "a")
    assert [scan.index for scan in scans] == [0, 1, 2, 3, 4, 5]
    for scan, heights in zip(scans, SCANS, strict=True):
        np.testing.assert_allclose(scan.heights, heights, rtol=1e-6)


DATASETS = {  # likewise, where `images` or `x_raw` says that they are scans
    "npz": lambda p: npz(p, images=SCANS),
    "hdf5": lambda p: h5(p, images=SCANS),
    "mat v5": lambda p: mat5(p, images=SCANS.transpose(1, 2, 0)),
    "mat v7, first axis": lambda p: packed_mat5(p, images=SCANS),
    "mat v7 of four": lambda p: packed_mat5(p, images=SCANS[:4].transpose(1, 2, 0)),
    "mat v7.3": lambda p: mat73(p, images=SCANS.transpose(1, 2, 0)),
    "mat v7.3, first axis": lambda p: mat73(p, images=SCANS),
    "mat v7 of lines": lambda p: packed_mat5(p, x_raw=SCANS.reshape(-1, 24), y=votes()),
    "mat v7.3 of lines": lambda p: mat73(p, x_raw=SCANS.reshape(-1, 24), y=votes()),
}


def votes():
    return np.eye(4)[[0, 1, 2, 3, 0, 1]].repeat(24, 0)


@pytest.mark.parametrize("name", DATASETS)
def test_all_scans_of_a_dataset_are_judged_as_they_lay(tmp_path, name):
    DATASETS[name](tmp_path / "a")
    found = [scan_input.heights for scan_input in read_scan_inputs(tmp_path / "a", FACTS)]
    assert len(found) == (4 if "four" in name else 6)
    np.testing.assert_allclose(found, SCANS[: len(found)])


PICTURES = np.random.default_rng(0).integers(0, 255, (2, 24, 24)).astype("u1")
CUBE = np.stack([surface(24, 24)] * 24)
LAST = SCANS.transpose(1, 2, 0)
REFUSED = {  # name: how to write it, what the line says
    "npy, last axis": (lambda p: npy(p, LAST), r"numpy\.moveaxis\(array, -1, 0\)"),
    "npz, last axis": (
        lambda p: npz(p, a=LAST),
        r"`a` seems to have its scans along the last",
    ),
    "npz, many last": (lambda p: npz(p, a=np.tile(LAST, 9)), r"along the last axis"),
    "npz, lines last": (lambda p: npz(p, a=LAST[:20]), r"lines of 6 pixels, or its scans"),
    "npz of names": (
        lambda p: npz(p, first=SCANS[0], second=SCANS[1]),
        r"holds several arrays that may be scans: 'first' \(24, 24\), 'second' \(24, 24\)\. "
        r"Put all scans into one array `images` .* or say which array is meant with --channel",
    ),
    "npz of parts": (lambda p: npz(p, x_train=SCANS, x_test=SCANS[:2]), r"several arrays"),
    "npz with a mean": (lambda p: npz(p, scans=SCANS, mean=SCANS[0]), r"several arrays"),
    "npz with a topograph": (
        lambda p: npz(p, scans=SCANS, topo=SCANS[0]),
        r"several arrays",
    ),
    "npz with an odd stack": (
        lambda p: npz(p, a=LAST, topo=SCANS[0]),
        r"other arrays is meant",
    ),
    "npz, one below the other": (
        lambda p: npz(p, lines=SCANS.reshape(-1, 24)),
        r"`lines` has 144 lines of 24 pixels: .* several scans one below the other",
    ),
    "npz, five axes": (
        lambda p: npz(p, a=SCANS[..., None]),
        r"axis too many\. Drop the last",
    ),
    "npz of 2000": (
        lambda p: npz(p, a=np.zeros((2000, 16, 16), "u1")),
        r"2000 scans, and 1000",
    ),
    "tiff": (
        lambda p: Image.fromarray(PICTURES[0]).save(
            p, "TIFF", save_all=True, append_images=[Image.fromarray(PICTURES[1])]
        ),
        r"holds several pictures\. Save one scan per file",
    ),
    "mat, cube": (lambda p: mat5(p, a=CUBE), r"does not say which axis counts the scans"),
    "mat, odd": (lambda p: packed_mat5(p, a=LAST[:20]), r"does not say which axis counts"),
    "mat v7.3": (
        lambda p: mat73(p, a=LAST),
        r"`a` \(6, 24, 24\) may be scans.* name it `im",
    ),
    "hdf5": (
        lambda p: h5(p, a=SCANS),
        r"`a` \(6, 24, 24\) may be scans.* name it `images`",
    ),
    "hdf5 with a mean": (
        lambda p: h5(p, a=SCANS, mean=SCANS[0]),
        r"`a` .* name it `images`",
    ),
    "hdf5 of names": (
        lambda p: h5(p, a=SCANS[0], b=SCANS[1]),
        r"several arrays that may be",
    ),
    "hdf5, one below the other": (
        lambda p: h5(p, a=SCANS.reshape(-1, 24)),
        r"one below the",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_tell_its_scans_apart_is_refused(tmp_path, name):
    write, phrase = REFUSED[name]
    write(tmp_path / "a")
    for read in (read_scan, read_scans):
        with pytest.raises(UnclearError, match=phrase) as caught:
            read(tmp_path / "a")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=phrase):
        list(read_scan_inputs(tmp_path / "a", FACTS))


def test_the_user_may_say_which_array_is_meant(tmp_path):
    npz(tmp_path / "a", scans=SCANS, mean=SCANS[0] * 9, odd=LAST)
    scans = read_scans(tmp_path / "a", "scans")
    np.testing.assert_array_equal([scan.heights for scan in scans], SCANS)
    (mean,) = read_scans(tmp_path / "a", "mean")
    np.testing.assert_array_equal(mean.heights, SCANS[0] * 9)


def test_channels_of_one_scan_stay_one_scan(tmp_path):
    npz(
        tmp_path / "a",
        height=SCANS[0],
        phase=SCANS[1],
        amplitude=SCANS[2],
        x=np.arange(24.0),
    )
    h5(tmp_path / "b", FW_Z=SCANS[0], BW_Z=SCANS[1], FW_I=SCANS[2])
    for name in "ab":
        (scan,) = read_scans(tmp_path / name)
        np.testing.assert_array_equal(scan.heights, SCANS[0])


@pytest.mark.parametrize(
    "images", [LAST, LAST[..., None], SCANS[..., None]], ids=lambda a: str(a.shape)
)
@pytest.mark.parametrize("write", [npz, h5], ids=lambda write: write.__name__)
def test_images_in_another_order_say_how_to_order_them(tmp_path, write, images):
    write(tmp_path / "a", images=images)
    with pytest.raises(InputError, match=r"moveaxis\(images, -1, 0\)|\[\.\.\., 0\]"):
        list(read_scan_inputs(tmp_path / "a", FACTS))


NO_FRAMES = {  # shapes that are tables of colours, curves, lines of spectra, pictures
    "colours": (256, 3),
    "colours and opacity": (256, 4),
    "points": (5000, 3),
    "three curves": (3, 200),
    "spectra along a line": (8, 512),
    "a curve": (300,),
    "one line": (1, 300),
    "one column": (300, 1),
    "a number": (),
    "nothing": (0, 24),
    "few pixels": (6, 24, 9),
    "few lines": (6, 9, 24),
    "a movie in colour": (6, 24, 24, 3),
}


@pytest.mark.parametrize("name", NO_FRAMES)
@pytest.mark.parametrize("write", [npy, npz, mat5, h5], ids=lambda write: write.__name__)
def test_an_array_that_is_not_a_frame_is_refused(tmp_path, write, name):
    if write is mat5 and len(NO_FRAMES[name]) == 3:
        pytest.skip("MATLAB may count scans along any axis")
    array = np.random.default_rng(0).normal(size=NO_FRAMES[name])
    write(tmp_path / "a", array) if write is npy else write(tmp_path / "a", table=array)
    message = r"at least 16|needs numbers of shape|two axes of 16 or more|without an image"
    with pytest.raises(NoImageError, match=message) as caught:
        read_scan(tmp_path / "a")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        list(read_scan_inputs(tmp_path / "a", FACTS))


@pytest.mark.parametrize("colours", [3, 4])
@pytest.mark.parametrize("write", [npy, npz, mat5], ids=lambda write: write.__name__)
def test_a_picture_in_colour_is_not_taken_for_scans(tmp_path, write, colours):
    array = np.random.default_rng(0).integers(0, 255, (24, 24, colours)).astype("u1")
    write(tmp_path / "a", array) if write is npy else write(tmp_path / "a", picture=array)
    with pytest.raises(
        UnclearError, match=r"either a picture in colour or has its scans along"
    ):
        read_scans(tmp_path / "a")
    with pytest.raises(UnclearError, match="either a picture in colour"):
        list(read_scan_inputs(tmp_path / "a", FACTS))


def test_weights_of_a_network_are_not_scans(tmp_path):
    h5(tmp_path / "a", **{"layers/dense/vars/0": SCANS[0], "layers/dense/vars/1": SCANS[1]})
    with pytest.raises(NoImageError, match="holds the weights of a Keras model"):
        read_scan(tmp_path / "a")


@pytest.mark.filterwarnings("ignore")
def test_one_of_several_scans_is_told_and_others_are_fitted_too(tmp_path):
    npz(tmp_path / "a", scans=SCANS)
    told = " ".join(read_scan(tmp_path / "a").warnings)
    assert "the file holds 6 scans, and this is one" in told
    assert read_scan_file(tmp_path / "a", FACTS).shape == (6, 24, 24)


@pytest.mark.parametrize(
    ("units", "axis"), [(("eV", "deg"), "in eV"), (("", ""), "`energy`")]
)
def test_arrays_of_energies_and_angles_are_not_frames(tmp_path, units, axis):
    with h5py.File(tmp_path / "arpes.nxs", "w") as file:
        group = file.create_group("entry/data")
        group.attrs["NX_class"], group.attrs["signal"] = "NXdata", "data"
        group.attrs["axes"] = ["energy", "angle"]
        group["data"] = np.random.default_rng(0).normal(size=(24, 24))
        for name, unit in zip(("energy", "angle"), units, strict=True):
            group[name] = np.arange(24.0)
            group[name].attrs["units"] = unit
    with pytest.raises(
        NoImageError, match=f"an axis of `entry/data/data` is {axis}, not a length"
    ):
        read_scan(tmp_path / "arpes.nxs")


@pytest.mark.parametrize("units", [("eV", "deg"), ("", "")])
def test_netcdf_variables_over_energies_and_angles_are_not_frames(tmp_path, units):
    netcdf = pytest.importorskip("scipy.io").netcdf_file
    with netcdf(tmp_path / "arpes.nc", "w") as file:
        for axis, unit in zip(("energy", "angle"), units, strict=True):
            file.createDimension(axis, 24)
            file.createVariable(axis, "f8", (axis,))[:] = np.arange(24)
            file.variables[axis].units = unit
        counts = file.createVariable("counts", "f8", ("energy", "angle"))
        counts[:] = np.random.default_rng(0).normal(size=(24, 24))
    with pytest.raises(
        NoImageError, match="no variable has two axes of 16 or more that are"
    ):
        read_scan(tmp_path / "arpes.nc")
