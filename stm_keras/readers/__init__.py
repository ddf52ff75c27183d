"""Read scans from the files that microscopes write.

Every module has `read(path, channel) -> Scan`; which one is told by the content.
"""

from importlib import import_module
from pathlib import Path

from stm_keras.errors import NoImageError, ScanError
from stm_keras.readers.found import choose, choose_all
from stm_keras.readers.sniff import HEAD, refusal, scan_format
from stm_keras.readers.source import read_bytes
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
    "array": ("plain", "arrays (.npy, .npz, .mat)"),
    "picture": ("pictures", "pictures"),
    "rhk": ("converted", "RHK (.sm4)"),
    "wsxm": ("converted", "WSxM (.stp, .top)"),
    "nanoscope": ("converted", "NanoScope (.spm, .000)"),
    "mul": ("converted", "SPECS and Aarhus (.mul)"),
    "park": ("converted", "Park (.tiff)"),
    "jpk": ("converted", "JPK (.jpk)"),
    "scala": ("scala", "Omicron SCALA (.par, .tf0)"),
    "scala numbers": ("scala", "Omicron SCALA (.par, .tf0)"),
    "text": ("text", "text exports of WSxM, Gwyddion and SPIP"),
    "numbers": ("text", "matrices and points x, y, z as text"),
    "gwyddion 1": ("converted", "Gwyddion 1 (.gwy)"),
    "unknown": ("converted", "what else Gwyddion reads"),
}


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
            curves instead of an image; or it has no such channel.
        MissingExtraError: A library that reads this format is not installed.
    """
    return choose(path, _parse(Path(path)), channel)


def read_scans(path: str | Path, channel: str | None = None) -> list:
    """Read one image of each scan of a file: of most there is one, of some there are many.

    Args, Raises: As for `read_scan`.

    Returns:
        list of `Scan`, or of `ScanError` where one scan of several cannot be taken, see
        `found.choose_all`.
    """
    return choose_all(path, _parse(Path(path)), channel)


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
    if module.__name__.endswith("converted"):
        return module.parse(path, data, name)
    return module.parse(path, data)
