"""Read scans from the files that microscopes write.

Every module has `read(path, channel) -> Scan`; which one is told by the content.
"""

from importlib import import_module
from pathlib import Path

from stm_keras.errors import NoImageError, ScanError
from stm_keras.memory import SCANS, charge, one_file
from stm_keras.readers.file_bytes import read_bytes
from stm_keras.readers.scan_file import choose, choose_each
from stm_keras.readers.sniff import HEAD, refusal, scan_format
from stm_keras.scan import Scan

READERS = {  # format: module, and what people call it
    "nanonis": ("nanonis", "Nanonis (.sxm)"),
    "matrix": ("matrix", "Omicron MATRIX (.Z_mtrx, .I_mtrx)"),
    "createc": ("createc", "Createc (.dat)"),
    "gxsm": ("gxsm", "GXSM, xarray (.nc)"),
    "nanosurf": ("nanosurf", "Nanosurf (.nid)"),
    "gwyddion": ("gwy", "Gwyddion (.gwy)"),
    "gsf": ("gsf", "Gwyddion Simple Field (.gsf)"),
    "igor": ("igor", "Igor (.ibw)"),
    "hdf5": ("hdf5", "HDF5, NeXus, netCDF 4"),
    "array": ("arrays", "arrays (.npy, .npz, .mat)"),
    "picture": ("pictures", "pictures"),
    "rhk": ("gwyddion", "RHK (.sm4)"),
    "wsxm": ("gwyddion", "WSxM (.stp, .top)"),
    "nanoscope": ("gwyddion", "NanoScope (.spm, .000)"),
    "mul": ("gwyddion", "SPECS and Aarhus (.mul)"),
    "park": ("gwyddion", "Park (.tiff)"),
    "jpk": ("gwyddion", "JPK (.jpk)"),
    "scala": ("scala", "Omicron SCALA (.par, .tf0)"),
    "scala numbers": ("scala", "Omicron SCALA (.par, .tf0)"),
    "text": ("text", "text exports of WSxM, Gwyddion and SPIP"),
    "numbers": ("text", "matrices and points x, y, z as text"),
    "gwyddion 1": ("gwyddion", "Gwyddion 1 (.gwy)"),
    "unknown": ("gwyddion", "what else Gwyddion reads"),
}


KEPT = 9  # bytes of memory for a pixel of a `Scan`
CURE = "give smaller scans, or fewer in one file"


def read_scan(path: str | Path, channel: str | None = None) -> Scan:
    """Read one image of a scan file of any known format; of several scans, the first.

    Args:
        path: str or `Path`.
        channel: str. As `found.choose` takes it: "Z", "Current", "Z backward up". None
            is the forward topography, or the current of a scan at constant height.

    Returns:
        `Scan`.

    Raises:
        ScanError: The file is missing, damaged, of an unknown format, empty, or holds
            curves instead of an image; it has no such channel; or it needs more memory than
            one file may take, see `memory.budget`.
        MissingExtraError: A library that reads this format is not installed.
    """
    with one_file(path, CURE, ScanError, SCANS):
        return choose(path, _parse(Path(path)), channel)


def read_scans(path: str | Path, channel: str | None = None) -> list:
    """Read one image of each scan of a file: of most there is one, of some there are many.

    Args, Raises: As for `read_scan`.

    Returns:
        list of `Scan`, or of `ScanError` where one scan of several cannot be taken, see
        `found.choose_each`.
    """
    with one_file(path, CURE, ScanError, SCANS):
        found = _parse(Path(path))
        pixels = {image.index: image.pixels for image in found.images}
        charge(sum(pixels.values()) * KEPT, "all of its scans")
        return list(choose_each(path, found, channel))


def each_scan(path: str | Path, channel: str | None = None) -> tuple:
    """Read the scans of a file as `read_scans` does, but one after the other.

    Args, Raises: As for `read_scan`.

    Returns:
        Tuple of int, how many scans the file holds, and an iterator of what `read_scans`
        lists.
    """
    with one_file(path, CURE, ScanError, SCANS) as account:
        found = _parse(Path(path))
    count = len({image.index for image in found.images})
    return count, _each(account, choose_each(path, found, channel))


def _each(account, scans):
    """Yield scans; the account of their file is open only while one is read."""
    while True:
        with account:
            scan = next(scans, None)
        if scan is None:
            return
        yield scan


def _parse(path):
    data = read_bytes(path)
    name = scan_format(path)
    told = refusal(data[:HEAD])
    if told:
        raise NoImageError(f"{path}: is {told[0]}. {told[1]}.")
    if name is None:
        known = ", ".join(dict.fromkeys(text for _, text in READERS.values()))
        raise ScanError(f"{path}: is of an unknown format. Known: {known}.")
    module = import_module(f"stm_keras.readers.{READERS[name][0]}")
    if module.__name__.endswith("gwyddion"):
        return module.parse(path, data, name)
    return module.parse(path, data)
