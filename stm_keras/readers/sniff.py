"""Tell the format of a scan file from its content: suffixes lie, or mean two things."""

import zipfile
from pathlib import Path

from stm_keras.readers.arrays import NPY
from stm_keras.readers.file_bytes import POINTER, charge_list
from stm_keras.readers.gsf import MAGIC as GSF
from stm_keras.readers.gwy import MAGIC as GWY
from stm_keras.readers.gwy import OLD as OLD_GWY
from stm_keras.readers.hdf5_open import is_hdf5, names_of, open_hdf5
from stm_keras.readers.igor import is_igor
from stm_keras.readers.mat5 import MAGIC as MATLAB
from stm_keras.readers.mat5 import read_names
from stm_keras.readers.matrix import MAGIC as MATRIX
from stm_keras.readers.netcdf import MAGIC as NETCDF
from stm_keras.readers.pictures import MAGICS as PICTURES
from stm_keras.readers.scala import is_parameters, parameters_of
from stm_keras.readers.text import text_format
from stm_keras.readers.tiff import ORDERS, maker

HEAD = 4096  # bytes that tell
BEGINNINGS = {  # how a file begins: its reader
    b":NANONIS_VERSION:": "nanonis",
    MATRIX: "matrix",
    b"[Paramco": "createc",
    b"[Paramet32]": "createc",
    b"[Parameter]": "createc",
    NETCDF + b"\x01": "gxsm",
    NETCDF + b"\x02": "gxsm",
    NETCDF + b"\x05": "gxsm",
    b"[DataSet]": "nanosurf",
    GWY: "gwyddion",
    GSF: "gsf",
    NPY: "array",
    OLD_GWY: "gwyddion 1",
    b"STiMage": "rhk",
    b"WSxM file copyright": "wsxm",
    b"\\*File list": "nanoscope",
    b"?*File list": "nanoscope",
    b"\1\0\3\0\0\0": "mul",
} | dict.fromkeys(PICTURES, "picture")
RHK4 = "STiMage".encode("utf-16-le")  # after the two bytes of its length
NOT_SCANS = {  # how a file begins: what it is, what to do
    POINTER: ("a Git LFS pointer, not the scan", "Type: git lfs pull"),
    b"Grid dim=": ("a Nanonis grid of spectra (.3ds)", "Give a scan (.sxm)"),
    b"Experiment\t": ("a Nanonis spectrum (.dat)", "Give a scan (.sxm)"),
    b"[ParVERT": ("a Createc spectrum (.VERT)", "Give a scan (.dat)"),
    b"\\*Force file list": ("a NanoScope force curve", "Give a scan"),
    b"?*Force file list": ("a NanoScope force curve", "Give a scan"),
    b"ISO-10303-21": ("a CAD model (STEP), not a WSxM scan", "Give a scan"),
}
GXSM_FIELDS = {"FloatField", "DoubleField"}
DATASET_KEYS = {"images", "x_raw"}
LABELS = {"labels", "votes"}  # of a dataset, whatever it calls its images
OTHERS = (b"PK", b"\x80", b"\x1f\x8b", b"%PDF")  # never handed to Gwyddion


def scan_format(path):
    """Tell which reader a file is for.

    Args:
        path: str or `Path`.

    Returns:
        str: the name of a reader; "refused" for what is known to be no scan; "unknown"
        for binary content that Gwyddion may know; None for datasets, models, other text
        and what is no file at all.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(HEAD)
            clothes = maker(file) if head[:4] in ORDERS else None
    except OSError:
        return None
    if clothes:
        return clothes
    if head.startswith(b"WSxM") and text_format(head):
        return "text"
    if head.startswith(MATLAB):
        return None if read_names(path) & (DATASET_KEYS | LABELS) else "array"
    for beginning, name in BEGINNINGS.items():
        if head.startswith(beginning):
            return name
    if head[2:].startswith(RHK4):
        return "rhk"
    if refusal(head):
        return "refused"
    if head.startswith(b"PK"):
        return _of_archive(path)
    if is_hdf5(head):
        return _of_hdf5(path)
    if is_igor(head):
        return "igor"
    if is_parameters(head):
        return "scala"
    if parameters_of(path):
        return "scala numbers"
    if b"\0" in head:
        return None if head.startswith(OTHERS) else "unknown"
    return text_format(head)


def refusal(head):
    """Return what a file is that holds no scan, and what to do: two of str, or None."""
    found = (told for start, told in NOT_SCANS.items() if head.startswith(start))
    return next(found, None)


def _of_archive(path):
    """An NPZ file with `images` is a dataset; one with another name in it, a scan."""
    try:
        with path.open("rb") as file:
            charge_list(file)
            with zipfile.ZipFile(file) as archive:
                names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None
    plain = {name.removesuffix(".npy") for name in names if name.endswith(".npy")}
    return "array" if plain and not plain & (DATASET_KEYS | LABELS) else None


def _of_hdf5(path):
    from stm_keras.errors import ScanError

    try:
        with open_hdf5(path, path.open("rb")) as file:
            names = set(names_of(file))
            if names & GXSM_FIELDS:
                return "gxsm"
            return None if names & (DATASET_KEYS | LABELS) else "hdf5"
    except ScanError:
        return None
