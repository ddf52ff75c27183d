"""The one table of scan formats, and which of them a file has.

The content decides: suffixes lie, or mean two things. A new format is a module with
`parse(path, data) -> ScanFile` and a row of this table, nothing more.
"""

import re
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

from stm_keras.readers.file_bytes import POINTER

HEAD = 4096  # bytes of a file's beginning that recognisers see
TIFF = rb"II\*\0|MM\0\*"


@dataclass(frozen=True)
class Format:
    """One row: what people call a format, how its files are recognised, and who reads them."""

    title: str  # formats that share one are one to people
    module: str  # of this package, whose `parse` reads it
    begins: bytes = b""  # regular expression that the beginning of every such file matches
    # "module.function", called where `begins` matches but does not suffice. It takes the path
    # and the first `HEAD` bytes and returns a bool, or the name of the format where it tells
    # several apart.
    recognise: str = ""
    suffixes: tuple[str, ...] = ()  # that such files usually have
    claims: tuple[str, ...] = ()  # lower-case suffixes that nothing but scans has
    # What is in such a file: scans and nothing else; arrays of anything; exports, mostly copies
    # of what is there as a scan; parts, numbers that belong to another file; or the unknown. In
    # a folder the last two do not count.
    holds: Literal["scans", "anything", "exports", "parts", "unknown"] = "scans"
    extra: str = ""  # of the installation, that brings its library

    @property
    def label(self) -> str:
        """The title and the usual suffixes: "Nanonis (.sxm)"."""
        return self.title + (f" ({', '.join(self.suffixes)})" if self.suffixes else "")

    @property
    def reader(self) -> ModuleType:
        """The module that reads this format, imported when it is first asked for."""
        return import_module(f"{__package__}.{self.module}")

    def fits(self, path: Path, head: bytes) -> bool | str:
        """Tell whether a file is of this format, or the name of the format that it has."""
        if not re.match(self.begins, head):
            return False
        if not self.recognise:
            return bool(self.begins)
        module, _, function = self.recognise.partition(".")
        return getattr(import_module(f"{__package__}.{module}"), function)(path, head)


converted = partial(Format, module="gwyddion", extra="gwyddion")  # by its own program

# The first row that fits a file is its format.
FORMATS = {
    "nanonis": Format(
        "Nanonis", "nanonis", rb":NANONIS_VERSION:", suffixes=(".sxm",), claims=(".sxm",)
    ),
    "matrix": Format(
        "Omicron MATRIX",
        "matrix",
        rb"ONTMATRX0101",
        suffixes=(".Z_mtrx", ".I_mtrx"),
        claims=(".z_mtrx", ".i_mtrx"),
        extra="spm",
    ),
    "createc": Format(
        "Createc", "createc", rb"\[Paramco|\[Paramet32\]|\[Parameter\]", suffixes=(".dat",)
    ),
    "gxsm": Format(
        "GXSM",
        "gxsm",
        rb"CDF[\x01\x02\x05]",
        "gxsm.netcdf_format",
        suffixes=(".nc",),
    ),
    "nanosurf": Format(
        "Nanosurf", "nanosurf", rb"\[DataSet\]", suffixes=(".nid",), claims=(".nid",)
    ),
    "gwyddion": Format("Gwyddion", "gwy", rb"GWYP", suffixes=(".gwy",), claims=(".gwy",)),
    "gsf": Format(
        "Gwyddion Simple Field",
        "gsf",
        rb"Gwyddion Simple Field 1\.0\n",
        suffixes=(".gsf",),
        claims=(".gsf",),
    ),
    "hdf5": Format(
        "HDF5",
        "hdf5",
        rb"(?s)(?:|.{512}|.{1024}|.{2048})\x89HDF\r\n\x1a\n",
        "hdf5.hdf5_format",
        suffixes=(".h5", ".nxs", ".mat"),
        holds="anything",
    ),
    "netcdf": Format(  # recognised by the functions of "gxsm" and "hdf5"
        "xarray netCDF", "netcdf", suffixes=(".nc",)
    ),
    "array": Format(
        "array",
        "arrays",
        rb"\x93NUMPY|MATLAB 5\.0|PK",
        "arrays.is_scan",
        suffixes=(".npy", ".npz", ".mat"),
        holds="anything",
    ),
    "rhk": converted(
        "RHK",
        begins=rb"(?s)STiMage|..S\0T\0i\0M\0a\0g\0e\0",
        suffixes=(".sm4",),
        claims=(".sm2", ".sm3", ".sm4"),
    ),
    "text": Format(
        "text export",
        "text",
        recognise="text.text_format",
        suffixes=(".txt", ".asc", ".xyz"),
        holds="exports",
    ),
    "numbers": Format(  # a text without a header; recognised by the function of "text"
        "text export", "text", suffixes=(".txt", ".asc", ".xyz"), holds="exports"
    ),
    "wsxm": converted("WSxM", begins=rb"WSxM file copyright", suffixes=(".stp", ".top")),
    "nanoscope": converted(
        "NanoScope", begins=rb"[\\?]\*File list", suffixes=(".spm", ".000")
    ),
    "mul": converted(
        "SPECS and Aarhus",
        begins=rb"\x01\0\x03\0{3}",
        suffixes=(".mul",),
        claims=(".mul", ".flm"),  # the latter, films, are refused by name
    ),
    "park": converted("Park", begins=TIFF, recognise="tiff.maker", suffixes=(".tiff",)),
    "jpk": converted("JPK", suffixes=(".jpk",)),  # recognised by the function of "park"
    "picture": Format(
        "picture",
        "pictures",
        rb"\x89PNG|\xff\xd8\xff|BM|" + TIFF,
        suffixes=(".png", ".tif", ".jpg", ".bmp"),
        holds="exports",
    ),
    "gwyddion 1": converted("Gwyddion 1", begins=rb"GWYO", suffixes=(".gwy",)),
    "igor": Format(
        "Igor", "igor", recognise="igor.is_wave", suffixes=(".ibw",), extra="spm"
    ),
    "scala": Format(
        "Omicron SCALA",
        "scala",
        rb"(?s);.{0,180}Omicron SPM Control",
        suffixes=(".par", ".tf0"),
    ),
    "scala numbers": Format(
        "Omicron SCALA",
        "scala",
        recognise="scala.has_parameters",
        suffixes=(".par", ".tf0"),
        holds="parts",
    ),
    "unknown": converted(
        "what else Gwyddion reads", recognise="gwyddion.may_read", holds="unknown"
    ),
}

NOT_SCANS = {  # how a file begins: what it is, what to do
    POINTER: ("a Git LFS pointer, not the scan", "Run: git lfs pull"),
    b"Grid dim=": ("a Nanonis grid of spectra (.3ds)", "Give a scan (.sxm)"),
    b"Experiment\t": ("a Nanonis spectrum (.dat)", "Give a scan (.sxm)"),
    b"[ParVERT": ("a Createc spectrum (.VERT)", "Give a scan (.dat)"),
    b"\\*Force file list": ("a NanoScope force curve", "Give a scan"),
    b"?*Force file list": ("a NanoScope force curve", "Give a scan"),
    b"ISO-10303-21": ("a CAD model (STEP), not a WSxM scan", "Give a scan"),
}


def scan_format(path: str | Path) -> str | None:
    """Tell which row of the table a file belongs to.

    Returns:
        A name of `FORMATS`; "refused" for what is known not to be a scan; None for datasets,
        models, other texts and what is not a file.
    """
    path = Path(path)
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return None
    if refusal(head):
        return "refused"
    for name, row in FORMATS.items():
        answer = row.fits(path, head)
        if answer:
            return answer if isinstance(answer, str) else name
    return None


def refusal(head: bytes) -> tuple[str, str] | None:
    """Return what a file is that holds no scan, and what to do; None for all others."""
    reasons = (reason for start, reason in NOT_SCANS.items() if head.startswith(start))
    return next(reasons, None)


def known_formats() -> str:
    """Name all formats with their usual suffixes, for messages."""
    return ", ".join(dict.fromkeys(row.label for row in FORMATS.values()))


def claims_to_be_a_scan(path: Path) -> bool:
    """Tell whether only scans have a file's suffix."""
    return any(path.suffix.lower() in row.claims for row in FORMATS.values())
