"""Read datasets from HDF5, NPZ, MATLAB or pictures, and save them as HDF5."""

from pathlib import Path

from stm_keras.data.dataset import SQUARE, Dataset
from stm_keras.data.hdf5 import read_hdf5, small_arrays, write_hdf5
from stm_keras.data.hdf5_arrays import open_file
from stm_keras.data.label_table import find_table, is_table
from stm_keras.data.matlab import read_matlab, read_old_matlab
from stm_keras.data.npz import read_npz
from stm_keras.data.raw import RawDataset, check_lengths
from stm_keras.data.shard_index import is_sharded
from stm_keras.data.shards import load_shards
from stm_keras.data.validate import validate_dataset
from stm_keras.errors import DatasetError, InputError, UsageError
from stm_keras.files import atomic
from stm_keras.memory import VARIABLE, one_file
from stm_keras.readers.formats import FORMATS, known_formats, refusal, scan_format
from stm_keras.readers.hdf5_open import is_hdf5, names_of
from stm_keras.readers.mat5 import MAGIC as OLD_MATLAB
from stm_keras.terminal import shell
from stm_keras.untrusted import ordinary_file

SHAPE = (128, 128)  # lines and pixels that pictures and files of microscopes are brought to
NOT_DATASETS = {  # how a file begins: what it is, what to do
    b"\x93NUMPY": ("one bare array", "Save images and labels with numpy.savez"),
    b"version https://git-lfs": ("a Git LFS pointer, not the data", "Run: git lfs pull"),
    b"\x80\x04": ("a Python pickle, which is never opened", "Save it with numpy.savez"),
    b"\x80\x05": ("a Python pickle, which is never opened", "Save it with numpy.savez"),
    b"\x89PNG": ("one picture", "Give the folder, with a CSV file of labels"),
    b"\xff\xd8\xff": ("one picture", "Give the folder, with a CSV file of labels"),
    b"\x1f\x8b": ("a gzip archive", "Unpack it first"),
}
CURE = "run `stm-keras convert THIS -o NEW.h5`: that is read piece by piece"
CURES = {
    "old matlab": "save it in MATLAB with save(..., '-v7.3'), which is read piece by piece",
    "hdf5": "give fewer scans",
    "matlab": "give fewer scans",
    "shards": "give fewer scans",
}
KNOWN = "HDF5, NPZ, MATLAB, a folder of shards or of pictures with a CSV file"


def load_dataset(
    path: str | Path,
    merge: bool = True,
    lazy_above: int | None = None,
    shape: tuple[int, int] | str | None = SQUARE,
    streamed: bool = False,
    classes: tuple[str, ...] | None = None,
) -> Dataset:
    """Read scans with labels from a file or folder, whatever its name ends in.

    Six classes become four where `merge` says so: of votes the larger counts, labels
    are mapped. A file that does not name its classes has four or six: as many as columns
    of votes, or as labels, each of which must be there.

    Args:
        path: str or `Path` of an HDF5, NPZ or MATLAB file, of a folder of shards, or
            of a folder of pictures with a CSV file (or of that CSV file).
        merge: bool. Whether six classes become four.
        lazy_above: int. Images of more bytes stay in their HDF5 or MATLAB file and
            are read when indexed, as those of shards always are. None is what one file
            may take, see `memory.budget`.
        shape: tuple (lines, pixels) that scans must have, and that pictures are brought to; None
            for any, `SQUARE` for as many lines as pixels, 32 to 512.
        streamed: bool. Whether the images will be read in order only, to be written anew:
            then those of an NPZ file or of pictures may stay in their files as well.
        classes: tuple of str. All classes of a table that names some; None as for
            `label_table.class_names`.

    Returns:
        `Dataset`.

    Raises:
        InputError: The file is missing or cannot be read.
        DatasetError: The file is damaged, or is not a usable dataset.
        UsageError: There are `classes`, and it is not a table.
    """
    path = Path(path)
    try:
        kind = sniff(path)
        cure = CURES.get(kind, CURE).replace("THIS", shell([str(path)]))
        with one_file(path, cure, DatasetError):
            if kind == "shards" and not classes:
                return load_shards(path, merge, shape)
            if classes and kind not in ("folder", "table"):
                raise UsageError(
                    "`--classes` is for tables, folders and records of labels. In a dataset they "
                    "are the `classes`."
                )
            size = shape if isinstance(shape, tuple) else SHAPE
            raw = read_raw(kind, path, *size, classes)
            return validate_dataset(path, raw, merge, shape, lazy_above, streamed)
    except PermissionError:
        raise InputError(f"{path}: may not be read. Change its permissions.") from None
    except MemoryError:
        raise DatasetError(
            f"{path}: does not fit into the memory that is free. Set {VARIABLE} lower, so that "
            "HDF5 is read piece by piece, or end other programs."
        ) from None


def save_dataset(dataset: Dataset, path: str | Path, overwrite: bool = False) -> None:
    """Write a dataset to HDF5, so that `load_dataset` gives it back.

    The file has the arrays of `Dataset` under their names, one chunk per scan, and
    the attributes format, version, classes, merged, axes and source.

    Args:
        dataset: `Dataset`.
        path: str or `Path`.
        overwrite: bool. Whether an existing file may be replaced.

    Raises:
        DatasetError: An array has another length than the images, or a recorded line
            holds NaN, inf or more than is believed.
        OutputError: The file exists, or cannot be written.
    """
    arrays = {**small_arrays(dataset), **dataset.parameters}
    check_lengths(path, len(dataset.images), arrays)
    with atomic(path, overwrite) as temporary:
        write_hdf5(dataset, temporary)


def sniff(path: Path) -> str:
    """Tell the format of a dataset from its content.

    Returns:
        str: "hdf5", "matlab", "old matlab", "npz", "shards", "folder" or "table".

    Raises:
        InputError: The path is missing or cannot be read.
        DatasetError: The content is of no known format.
    """
    if path.is_dir():
        return "shards" if is_sharded(path) else "folder"
    if not path.exists():
        raise InputError(f"{path}: does not exist. Look at the path.")
    with ordinary_file(path, "a file or a folder").open("rb") as stream:
        head = stream.read(4096)
    if not head:
        raise DatasetError(f"{path}: is empty. Copy or make it again.")
    if is_hdf5(head):
        return _sniff_hdf5(path, head)
    if head.startswith(b"MATLAB 7.3"):
        raise DatasetError(f"{path}: is cut short: a MATLAB header alone. Copy it again.")
    if head.startswith(b"PK"):
        return "npz"
    if head.startswith(OLD_MATLAB):
        return "old matlab"
    for magic, (what, cure) in NOT_DATASETS.items():
        if head.startswith(magic):
            raise DatasetError(f"{path}: is {what}. {cure}.")
    if is_table(head):
        return "table"
    raise DatasetError(f"{path}: {_what_else(path, head)}.")


def _what_else(path, head):
    """Say what a file is that is not a dataset, and what to do with it."""
    reason, kind = refusal(head), scan_format(path)
    if reason:
        return f"is {reason[0]}. Give a dataset: {KNOWN}"
    if kind in FORMATS and kind not in ("unknown", "array", "picture", "hdf5"):
        return (
            f"is a microscope's file, {FORMATS[kind].label}, not a dataset. `stm-keras predict` "
            "judges a scan as it is; `stm-keras convert` makes a dataset of a folder of scans with "
            "labels"
        )
    return f"is of an unknown format. Scans: {known_formats()}. Datasets: {KNOWN}"


def _sniff_hdf5(path, head):
    if scan_format(path) in ("gxsm", "netcdf"):
        raise DatasetError(f"{path}: {_what_else(path, head)}.")
    with open_file(path) as file:
        names = names_of(file)
        if "images" not in names and ("x_raw" in names or head[:6] == b"MATLAB"):
            return "matlab"
    return "hdf5"


def read_raw(
    kind: str, path: Path, lines: int, pixels: int, classes: tuple | None = None
) -> RawDataset:
    """Read a dataset of a `kind` that `sniff` tells, but shards; nothing is checked yet.

    A scan has so many lines and pixels, and a table these classes, where the file does not tell;
    MATLAB's `x_raw` of other pixels has as many lines.
    """
    if kind == "hdf5":
        return read_hdf5(path)
    if kind == "matlab":
        return read_matlab(path, lines, pixels)
    if kind == "old matlab":
        return read_old_matlab(path, lines, pixels)
    if kind == "npz":
        return read_npz(path)
    from stm_keras.data.picture_folder import read_pictures  # Pillow is rarely needed

    table = find_table(path) if kind == "folder" else path
    return read_pictures(table, lines, pixels, classes)
