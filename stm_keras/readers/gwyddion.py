"""Read RHK, WSxM, NanoScope, Park, JPK, SPECS and more through Gwyddion's own converter.

The converter is a program of its own (GPL), which gwyddionpy brings and runs: what crashes
it does not crash us, and it gets a minute. Its result is read with its mask, which
`gwyddionpy.load` drops: lines that were not recorded would look like data.
"""

import re
import tempfile
from pathlib import Path

from stm_keras.errors import (
    MissingExtraError,
    NoImageError,
    ScanError,
    how_to_install,
    require,
)
from stm_keras.memory import charge, limited
from stm_keras.readers.file_bytes import damage
from stm_keras.readers.formats import FORMATS, scan_format
from stm_keras.readers.gwy import parse as parse_gwy
from stm_keras.readers.hdf5_open import is_hdf5
from stm_keras.readers.scan_file import ScanFile

SECONDS = 60
MODULES = {"park": "psia", "jpk": "jpkscan"}  # of Gwyddion, which must have read these
DATES = {"rhk-sm4": "%m/%d/%y %H:%M:%S"}  # by module: how it writes when a scan began
NEVER = (b"PK", b"\x80", b"\x1f\x8b", b"%PDF", b"MATLAB 5.0")  # beginnings of other files
PROBES = """
    aistfile anfatec ardf asciiexport asdfile assing-afm attocube bcrfile burleigh
    burleigh_bii burleigh_exp createc csmfile dimensionfile dmefile ecsfile ezdfile femtoscan
    femtoscan-txt gdeffile gsffile gsxmfile gwyfile hitachi-afm hitachi-afm-old igorfile
    iso28600 jeol jpkscan jspmfile miffile mifile mulfile nanoeducator nanomagnetics nanonics
    nanonis nanoscan nanoscope nanoscope-ii nanotop nova-asc nt-mdt omicron omicronflat
    omicronmatrix phoenix pltfile psia psifile pxpfile qnami quazarnpic quesant rhk-sm3
    rhk-sm4 rhk-spm32 s94file seiko shimadzu sicm sis spip-asc spml spmlab spmlabf stmprg
    stpfile unisoku win_stm wrustfile wsffile wsxmfile zyvex
"""  # modules of Gwyddion for files of scanning probe microscopes


def may_read(path: Path, head: bytes) -> bool:
    """Tell whether binary content that no other row knows may be given to Gwyddion."""
    return b"\0" in head and not head.startswith(NEVER) and not is_hdf5(head)


def parse(path: Path, data: bytes) -> ScanFile:
    """Find all images of a file that Gwyddion knows, which goes by its suffix too."""
    name = scan_format(path)
    try:
        gwyddionpy = require("gwyddionpy", "gwyddion")
    except MissingExtraError as error:
        raise ScanError(f"{path}: {_named(name)} Gwyddion reads. {error}") from None
    with tempfile.TemporaryDirectory() as folder:
        # A copy: the file may still be written, and its name may begin with a dash.
        source = Path(folder) / f"scan{Path(path).suffix}"
        target = Path(folder) / "converted.gwy"
        source.write_bytes(data)
        try:
            with limited():  # the converter as well, which is a child of this process
                module = gwyddionpy.run_converter(source, target, timeout=SECONDS)
        except gwyddionpy.ConverterNotFoundError:
            raise ScanError(
                f"{path}: {_named(name)} Gwyddion reads, and its converter is missing. "
                f"{how_to_install('gwyddion')}"
            ) from None
        except gwyddionpy.ConversionError as error:
            reason = str(error).splitlines()[0].replace(str(source), "")
            reason = re.sub(r"^gwyconvert: cannot load '':", "", reason).strip(" :'\"")
            kind = f"is a {FORMATS[name].title} scan that " if name in MODULES else ""
            raise ScanError(
                f"{path}: {kind}cannot be read by Gwyddion ({reason[:160]}): damaged, cut "
                "short, or of an unknown format. Copy it again, or export it as .gwy."
            ) from None
        except (OSError, UnicodeError) as error:
            raise ScanError(f"{path}: Gwyddion cannot be run ({error}).") from None
        if not target.is_file():
            raise ScanError(f"{path}: Gwyddion found no image in it. Give a scan file.")
        _check_module(path, name, module)
        charge(target.stat().st_size, "converted by Gwyddion")
        with damage(path, "Gwyddion file"):
            return parse_gwy(path, target.read_bytes(), DATES.get(module))


def _check_module(path, name, module):
    """Check that Gwyddion took a file for what it is, and that it is a probe's."""
    if module is None:  # an older converter does not say
        return
    if module != MODULES.get(name, module):
        raise ScanError(
            f"{path}: is a {FORMATS[name].title} scan in a TIFF file, in which Gwyddion finds no "
            "more than pictures. Export it as .gwy."
        )
    if module not in PROBES.split():
        raise NoImageError(
            f"{path}: is not a scan of a probe microscope: Gwyddion reads it as "
            f"{module[:40]!r}. Give a scan file."
        )


def _named(name):
    if name == "unknown":
        return "is of an unknown format; maybe one of those that"
    return f"is of a format ({name}) that"
