"""Find scans: files, folders, globs, and lists on standard input."""

import glob
import os
import queue
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stm_keras.errors import (
    InputError,
    NoImageError,
    ScanError,
    StmKerasError,
    UnclearError,
)
from stm_keras.files import file_keys
from stm_keras.readers.formats import FORMATS, claims_to_be_a_scan, scan_format

LONGEST = 1 << 16  # characters of a name in a list; no system takes as many
DATASETS = {".h5", ".hdf5", ".npz", ".mat"}
SHARDS = ("shards.json", "shards.part")  # the latter while they are being written
PAUSE = 0.05  # s until what is done is handed out while a list comes in slowly


@dataclass
class LeftOut:
    """Files that lay in folders and are not judged."""

    files: dict = field(default_factory=dict)  # path to why it is not a scan
    exports: list = field(default_factory=list)  # pictures and texts beside scans

    def text(self, hint: str = "") -> str:
        """Say in one line how many there are, and with `hint` what lists them; "" without any."""
        parts = []
        for count, one, many in (
            (len(self.files), "file is not a scan", "files are not scans"),
            (len(self.exports), "export lies beside scans", "exports lie beside scans"),
        ):
            if count:
                parts.append(f"{count} {one if count == 1 else many}")
        was = "was" if len(self.files) + len(self.exports) == 1 else "were"
        return f"{' and '.join(parts)} and {was} left out{hint}." if parts else ""

    def lines(self) -> list[str]:
        """Name each file with the reason."""
        named = [f"{path}: {reason}" for path, reason in self.files.items()]
        return named + [f"{path}: an export beside scans" for path in self.exports]


@dataclass(frozen=True)
class InputFile:
    """A file to judge."""

    path: Path
    # the user named it, or its name or content says that it is a scan: if it cannot be judged,
    # that is an error
    named: bool = True
    in_folder: bool = False  # it lies in a folder that the user named
    error: Exception | None = None  # of a path that leads nowhere
    # notes the file when it turns out not to be a scan
    left_out: LeftOut | None = field(default=None, compare=False, repr=False)

    def leave_out(self, error: Exception) -> bool:
        """Note a file that lay in a folder and turned out not to be a scan; else return False.

        One that holds scans and does not tell them apart is an error in a folder as well.
        """
        not_a_scan = isinstance(error, NoImageError) or (
            not self.named
            and isinstance(error, StmKerasError)
            and not isinstance(error, UnclearError)
        )
        if not (self.in_folder and not_a_scan):
            return False
        if self.left_out is not None:
            reason = " ".join(str(error).split()).removeprefix(f"{self.path}: ")
            self.left_out.files[self.path] = reason
        return True


def find_files(
    arguments: Iterable[Path],
    lines: Iterable[str] | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[InputFile | None]:
    """Find the files that arguments mean.

    Args:
        arguments: iterable of `Path`: files, datasets, folders, which are searched to the
            bottom, through links as well, each folder once; globs; and "-" for a list of all
            these, one a line.
        lines: iterable of str. What "-" stands for, such as `sys.stdin`.
        left_out: `LeftOut` to note what lies in folders and is not judged.

    Yields:
        `InputFile`; None where a list has nothing more to say for a while.
    """
    left_out = LeftOut() if left_out is None else left_out
    for argument in arguments:
        if str(argument) != "-":
            yield from _expand(Path(argument), left_out)
            continue
        for line in _as_they_come(_names(lines or ())):
            if line is None:
                yield None
            elif isinstance(line, Exception):
                reason = getattr(line, "strerror", None) or line
                text = (
                    f"standard input: is not a list of files that can be read ({reason})."
                )
                yield InputFile(Path("-"), error=InputError(text))
            elif line:
                yield from _expand(Path(line), left_out)


def _expand(path, left_out):
    seen = set()
    if path.is_dir():
        yield from _folder(path, left_out, seen)
    elif not path.exists() and glob.has_magic(str(path)):
        paths = list(dict.fromkeys(_glob(path)))
        if not paths:
            error = InputError(f"{path}: fits no file. Look at the pattern.")
            yield InputFile(path, error=error)
        for each in _links_last(paths):
            if each.is_dir():
                yield from _folder(each, left_out, seen)
            elif _is_new(each, seen):
                yield InputFile(each)
    else:
        yield InputFile(path)


def _folder(folder, left_out, seen):
    """Yield the scans of a folder and of those in it, by name.

    Pictures and texts count only where there is nothing else: beside scans they are exports
    of them.
    """
    if not _is_new(folder, seen):  # walked through a link, by another name
        return
    scans, exports, errors, in_dataset = [], [], [], frozenset()
    if is_dataset(folder):
        yield InputFile(folder)
        in_dataset = _files_of(folder)
    for path in _walk(folder, errors, seen):
        if path in in_dataset:
            continue
        file = _classify(path, left_out)
        if file is None:
            left_out.files[path] = "not a scan"
        elif not file.named and _holds(path) == "exports":
            exports.append(file)
        else:
            scans.append(file)
    if in_dataset or scans:
        left_out.exports += [file.path for file in exports]
        exports = []
    files = scans or exports
    yield from errors
    yield from files
    if errors or in_dataset:
        return
    if all(file.path in left_out.files for file in files):  # noted since they were yielded
        error = InputError(f"{folder}: holds no scan. Known formats: docs/formats.md.")
        yield InputFile(folder, error=error)


def _files_of(dataset):
    """Return the files that a folder holds as a dataset: set of `Path`."""
    if any((dataset / name).is_file() for name in SHARDS):
        return frozenset(dataset.iterdir())
    from stm_keras.data.label_table import find_table, read_rows

    table = find_table(dataset)
    try:
        pictures = read_rows(table).columns["file"]
    except StmKerasError:  # which reading the dataset raises
        return frozenset([table])
    return frozenset([table, *(dataset / picture for picture in pictures)])


def is_dataset(folder):
    """Tell whether a folder holds shards, or pictures with a table of them."""
    try:
        if any((folder / name).is_file() for name in SHARDS):
            return True
        if not any(path.suffix.lower() == ".csv" for path in folder.iterdir()):
            return False
        from stm_keras.data.label_table import find_table, names_scans
        from stm_keras.data.load import sniff  # h5py takes long to import

        table = find_table(folder)
        return sniff(table) == "table" and not names_scans(table)
    except (OSError, StmKerasError):
        return False


def _walk(folder, errors, seen):
    """Yield the files of a folder and of those in it, linked ones as well, each once."""

    def failed(error):
        reason = f"{error.filename}: cannot be read ({error.strerror})."
        errors.append(InputFile(Path(error.filename), error=InputError(reason)))

    for root, names in _walk_folders(folder, seen, failed):
        files = _links_last(Path(root, name) for name in names if not name.startswith("."))
        yield from (path for path in files if _is_new(path, seen))


def _walk_folders(folder, seen, failed=None):
    """Yield path and names of files of a folder and of those in it, each once."""
    for root, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        if root != str(folder) and not _is_new(Path(root), seen):
            folders.clear()  # a link to where the walk was, or is
            continue
        inside = (Path(root, name) for name in folders if not name.startswith("."))
        folders[:] = [path.name for path in _links_last(inside)]
        yield root, names


def _glob(pattern):
    """Yield paths that fit; through links as well, but never round in a circle."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from map(Path, glob.glob(str(pattern)))  # noqa: PTH207  one may be absolute
        return
    position = parts.index("**")
    for base in glob.glob(str(Path(*parts[:position]))) if position else ["."]:  # noqa: PTH207
        seen = set()
        _is_new(Path(base), seen)
        for folder, _ in _walk_folders(base, seen):
            yield from _glob(Path(glob.escape(folder), *(parts[position + 1 :] or ("*",))))


def _links_last(paths):
    """Sort paths by name, links after what they may lead to."""
    return sorted(paths, key=lambda path: (path.is_symlink(), path))


def _is_new(path, seen):
    """Tell whether a file or folder was not met yet by any name, and note it."""
    *_, key = file_keys(path)
    new = key not in seen
    seen.add(key)
    return new


def _classify(path, left_out):
    """Return the `InputFile` of a file in a folder, None where it is not a scan."""
    holds = _holds(path)
    if holds == "scans" or claims_to_be_a_scan(path):
        return InputFile(path, in_folder=True, left_out=left_out)
    is_dataset_file = holds is None and path.suffix.lower() in DATASETS
    if holds in ("exports", "anything") or is_dataset_file:
        return InputFile(path, named=False, in_folder=True, left_out=left_out)
    return None


def _holds(path):
    """Return what a file may hold, as the table of formats says; None for what is not in it."""
    try:
        row = FORMATS.get(scan_format(path))
    except ScanError:
        return None
    return row.holds if row else None


def _names(lines):
    """Yield what a list has on its lines, or between NULs, as `find -print0` writes them."""
    if not hasattr(lines, "readline"):
        yield from (line.strip("\r\n") for line in lines)
        return
    rest, first = "", True
    while text := lines.readline(LONGEST):
        rest += text.removeprefix("\ufeff") if first else text  # Windows marks texts so
        first = False
        if "\0\0" in rest or len(rest) > LONGEST and not re.search("[\0\n]", rest):
            raise ValueError("it holds text that is not a file name")
        *whole, rest = re.split("[\0\n]", rest)
        yield from (name.strip("\r") for name in whole)
    yield rest.strip("\r")


def _as_they_come(lines):
    """Yield lines of a stream, None when the next one keeps waiting, and what ended it."""
    waiting, over = queue.Queue(), object()

    def read():
        try:
            for line in lines:
                waiting.put(line)
        except Exception as error:  # which would end with the thread
            waiting.put(error)
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
