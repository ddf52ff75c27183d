"""Read and write datasets in HDF5, the format of this project."""

import io
from dataclasses import fields
from pathlib import Path

import h5py
import numpy as np

from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.hdf5_arrays import StoredImages, member, open_file, values
from stm_keras.data.raw import RawDataset, bad_scans, blocks_of, must
from stm_keras.errors import DatasetError
from stm_keras.readers.frames import frame_axes
from stm_keras.readers.hdf5_open import attribute, child, names_of
from stm_keras.readers.units import COUNTS

FORMAT = "stm-keras dataset"
VERSION = 1
FIRST, OTHER = ("labels", "votes"), ("images", "classes", "parameters", "source")
# in the order in which they lie in a file: the digest of shards is made of their bytes
ARRAYS = (*FIRST, *(f.name for f in fields(Dataset) if f.name not in (*FIRST, *OTHER)))
AXES = "scan, line (slow axis, row 0 is the first recorded), pixel (fast axis)"


def read_hdf5(path: Path) -> RawDataset:
    """Read a dataset from HDF5, MATLAB's v7.3 included; its images stay in the file."""
    with open_file(path) as file:
        own = attribute(file, "format") == FORMAT
        if own and attribute(file, "version", 0) > VERSION:
            raise DatasetError(
                f"{path}: was written in version {file.attrs['version']} of the format; "
                f"this stm-keras reads version {VERSION}. Update stm-keras."
            )
        images = member(path, file, "images")
        names, source = names_of(file), attribute(file, "source")
        matlab = "MATLAB_class" in images.attrs
        arrays = {key: values(path, file, key) for key in ARRAYS if key in names}
        if matlab:  # whose axes HDF5 shows in reverse
            arrays = {key: squeeze_list(key, array.T) for key, array in arrays.items()}
        parameters = {}
        group = child(file, "parameters")
        if group is not None:
            if not isinstance(group, h5py.Group):
                raise DatasetError(f"{path}: `parameters` must be a group of arrays.")
            parameters = {key: values(path, group, key) for key in names_of(group)}
        axes = _matlab_axes(path, images) if matlab else (0, 1, 2)
        shape = tuple(images.shape[axis] for axis in axes) if matlab else images.shape
        return RawDataset(
            images=StoredImages(path, "images", shape, images.dtype, axes=axes),
            arrays=arrays,
            classes=_classes(path, file, names),
            parameters=parameters,
            source=_text(source) if isinstance(source, str | bytes) else None,
            own=own,
            keys=tuple(names),
        )


def _matlab_axes(path, images):
    """Return where scans, lines and pixels lie in images that MATLAB wrote: three axes."""
    shape = images.shape[::-1]  # as MATLAB shows it, such as 128 x 128 x scans
    axes = frame_axes(path, "images", shape, matlab=True)
    if len(axes) == 2:
        wanted = "have shape (scans, lines, pixels)"
        raise must(path, "images", wanted, f"one image of shape {shape}")
    return tuple(2 - axis for axis in axes)


def squeeze_list(key: str, array: np.ndarray) -> np.ndarray:
    """Return a field in our shape: MATLAB makes a list of labels a row or a column."""
    if (
        key in ("votes", "line_labels", "size_nm")
        or array.ndim != 2
        or 1 not in array.shape
    ):
        return array
    return array.ravel()


def small_arrays(dataset: Dataset) -> dict:
    """Return the arrays beside images and parameters that a dataset has, by their names."""
    return {key: value for key in ARRAYS if (value := getattr(dataset, key)) is not None}


def write_hdf5(dataset: Dataset, path: Path) -> None:
    """Write a dataset to an HDF5 file.

    One chunk holds one scan, so that scans read in any order cost one chunk each.

    Raises:
        DatasetError: A recorded line holds NaN, inf or more than is believed.
        OSError: The file cannot be written.
    """
    images = dataset.images
    packed = {
        "chunks": (1, *images.shape[1:]),
        "compression": "gzip",
        "compression_opts": 1,
        "shuffle": images.dtype.itemsize > 1,
    }
    with _Sink(path, "w+") as sink:
        with h5py.File(sink, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["version"] = VERSION
            file.attrs["axes"] = AXES
            file.attrs["source"] = dataset.source
            file.attrs["classes"] = list(dataset.classes)
            file.attrs["merged"] = dataset.classes == CLASSES
            stored = file.create_dataset("images", images.shape, images.dtype, **packed)
            for scans, block in blocks_of(images):
                _check_heights(dataset, scans, block)
                stored[scans] = block
                sink.check()
            for key, value in small_arrays(dataset).items():
                _write(file, key, value)
            if dataset.votes is not None:
                file["votes"].attrs["classes"] = list(dataset.classes)
            for key, value in dataset.parameters.items():
                _write(file, f"parameters/{key}", value)
        sink.check()


class _Sink(io.FileIO):
    """A file that keeps its first error for `check`.

    HDF5 cannot close a file on a full disk: it crashes the process.
    """

    error = None

    def check(self):
        if self.error is not None:
            raise self.error

    def write(self, data):
        rest = memoryview(data).cast("B")
        size = len(rest)
        while len(rest) and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return size

    def truncate(self, size=None):
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size


def _check_heights(dataset, scans, block):
    not_finite, too_large = bad_scans(block, dataset.lines[scans], COUNTS)
    bad = not_finite | too_large
    if bad.any():
        first = bad.argmax()
        what = "NaN or inf" if not_finite[first] else f"heights above {COUNTS:.2g}"
        raise DatasetError(
            f"`dataset` holds {what} in recorded lines of scan {scans.start + first}. Remove "
            "it, or tell in `lines` how many lines were recorded."
        )


def _write(file, key, value):
    if value.dtype.kind == "U":
        file.create_dataset(key, data=value.astype(object), dtype=h5py.string_dtype())
    else:
        file.create_dataset(key, data=value)


def _classes(path, file, names):
    if "classes" in names:
        return tuple(values(path, file, "classes"))
    holders = [file[key] for key in ("votes", "labels") if key in names]
    for holder in (*holders, file):
        names = attribute(holder, "classes")
        if names is not None:
            return tuple(_text(name) for name in names)
    return None


def _text(value):
    return value.decode() if isinstance(value, bytes) else value
