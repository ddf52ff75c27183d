"""Find scans: files, folders, globs, and lists on standard input."""

import glob
import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

from stm_keras.errors import InputError, NoImageError, ScanError, StmKerasError
from stm_keras.readers.sniff import scan_format

MICROSCOPES = {  # formats that hold nothing but scans; damage in one of them is told
    "nanonis",
    "matrix",
    "createc",
    "gxsm",
    "nanosurf",
    "gwyddion",
    "gwyddion 1",
    "gsf",
    "igor",
    "rhk",
    "wsxm",
    "nanoscope",
    "mul",
    "park",
    "jpk",
    "scala",
}
EXPORTS = ("picture", "text", "numbers")  # formats of what is also there as a scan, mostly
SUFFIXES = {  # names that claim to be a scan, whatever is in the file
    *(".sxm", ".z_mtrx", ".i_mtrx", ".sm2", ".sm3", ".sm4", ".nid"),
    *(".gwy", ".gsf", ".mul", ".flm"),
}
DATASETS = {".h5", ".hdf5", ".npz", ".mat"}
PAUSE = 0.05  # s until what is done is handed out while a list comes in slowly


@dataclass(frozen=True)
class Place:
    """A file to judge.

    Args:
        path: `Path`.
        named: bool. The user named it, or its name or content says that it is a scan: if
            it cannot be judged, that is an error.
        in_folder: bool. It was found in a folder that the user named.
        error: An exception, of a path that leads nowhere.
    """

    path: Path
    named: bool = True
    in_folder: bool = False
    error: Exception | None = None

    def forgives(self, error):
        """Tell whether this is a file that lay in a folder and is no scan after all."""
        if not self.in_folder:
            return False
        if isinstance(error, NoImageError):
            return True
        return not self.named and isinstance(error, StmKerasError)


def find_places(arguments, lines=None):
    """Find the files that arguments mean.

    Args:
        arguments: iterable of `Path`: files, datasets, folders, which are searched to the
            bottom, globs, and "-" for a list of all these, one a line.
        lines: iterable of str. What "-" stands for, such as `sys.stdin`.

    Yields:
        `Place`; None where a list has nothing more to say for a while.
    """
    for argument in arguments:
        if str(argument) != "-":
            yield from _expand(Path(argument))
            continue
        for line in _as_they_come(lines or ()):
            if line is None:
                yield None
            elif line.strip("\r\n"):
                yield from _expand(Path(line.strip("\r\n")))


def _expand(path):
    if path.is_dir():
        yield from _folder(path)
    elif not path.exists() and glob.has_magic(str(path)):
        found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207  one may be absolute
        if not found:
            error = InputError(f"{path}: fits no file. Look at the pattern.")
            yield Place(path, error=error)
        for each in map(Path, found):
            yield from _folder(each) if each.is_dir() else [Place(each)]
    else:
        yield Place(path)


def _folder(folder):
    """Yield the scans of a folder and of those in it, by name.

    Pictures and texts count only where there is nothing else: beside scans they are exports
    of them.
    """
    if is_dataset(folder):
        yield Place(folder)
        return
    found, exports, errors = [], [], []
    for path in _walk(folder, errors):
        place = _look(path)
        if place is None:
            continue
        is_export = not place.named and scan_format(path) in EXPORTS
        (exports if is_export else found).append(place)
    if not (found or exports or errors):
        error = InputError(f"{folder}: holds no scan. Known formats: docs/formats.md.")
        found = [Place(folder, error=error)]
    yield from errors
    yield from found or exports


def is_dataset(folder):
    """Tell whether a folder holds shards, or pictures with a table of them."""
    try:
        if (folder / "shards.json").is_file():
            return True
        if not any(path.suffix.lower() == ".csv" for path in folder.iterdir()):
            return False
        from stm_keras.data.storage import sniff  # h5py takes long to import
        from stm_keras.data.table import find_table

        return sniff(find_table(folder)) == "table"
    except (OSError, StmKerasError):
        return False


def _walk(folder, errors):
    def failed(error):
        reason = f"{error.filename}: cannot be read ({error.strerror})."
        errors.append(Place(Path(error.filename), error=InputError(reason)))

    for root, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, n) for n in sorted(names) if not n.startswith("."))


def _look(path):
    """Return the `Place` of a file in a folder, None where it is no scan."""
    suffix = path.suffix.lower()
    try:
        kind = scan_format(path)
    except ScanError:
        kind = None
    if kind in MICROSCOPES or suffix in SUFFIXES:
        return Place(path, in_folder=True)
    if kind in (*EXPORTS, "array", "hdf5") or (kind is None and suffix in DATASETS):
        return Place(path, named=False, in_folder=True)
    return None


def _as_they_come(lines):
    """Yield lines of a stream, and None when the next one keeps waiting."""
    waiting, over = queue.Queue(), object()

    def read():
        try:
            for line in lines:
                waiting.put(line)
        finally:
            waiting.put(over)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = waiting.get(timeout=PAUSE)
        except queue.Empty:
            yield None
            continue
        if line is over:
            return
        yield line
