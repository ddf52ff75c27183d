"""Write a result whole or not at all, and never over what is read or what came meanwhile."""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from stm_keras.errors import OutputError, UsageError

EXISTS = "{}: exists already. Add --overwrite to replace it."
PAGES = (".html", ".md")  # never read as data: may lie among scans, and be replaced there
DAY = 86400  # s after which a temporary file of another machine is no longer written
# .NAME-stmMACHINE-PROCESS-RANDOM.SUFFIX, see `_prefix`
LEFTOVER = re.compile(r"\.(.*)-stm([0-9a-f]{8})-(\d{1,10})-[a-z0-9_]{8}(?:\..*?)?(-old)?")


@contextmanager
def atomic(path, overwrite=False):
    """Yield a temporary path beside `path` and rename it when all went well.

    A full disk, an error or a kill leaves `path` as it was: missing, or old. If several
    processes write it at once, and may not replace it, one of them does. Missing folders are
    made; the temporary path has the suffix of `path`.

    Raises:
        OutputError: `path` exists, or its folder cannot be written or is full.
    """
    path = check_file(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=_prefix(path.stem), suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise OutputError(why_unwritten(path, error)) from None
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files for this user only
        if overwrite:
            temporary.replace(path)
        else:
            _rename_new(temporary, path)
    except FileExistsError:
        raise OutputError(EXISTS.format(path)) from None
    except OSError as error:
        raise OutputError(why_unwritten(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


def check_file(path, overwrite=False):
    """Return the `Path` of a file that `atomic` may write; ask it before long work.

    Raises:
        OutputError: There is something of that name that must stay.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder. Give the name of a file.")
    if path.exists() and not path.is_file():  # which a rename would replace, if we may
        raise OutputError(f"{path}: is not an ordinary file. Give the name of a file.")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(EXISTS.format(path))
    return path


def _rename_new(temporary, path):
    """Rename a file unless there is one of that name, which `os.rename` would replace."""
    try:
        os.link(temporary, path)  # the old name is removed by the caller
    except FileExistsError:
        raise
    except (OSError, AttributeError, NotImplementedError):  # a file system without links
        with path.open("x", encoding="utf-8"):
            pass
        try:
            temporary.replace(path)
        except OSError:
            path.unlink()
            raise


@contextmanager
def atomic_folder(path, marker, overwrite=False):
    """Yield a temporary folder beside `path` and rename it when all went well.

    `marker` is the name of a file that every such result holds: only a folder with it is ever
    replaced, whatever else has that name.

    Raises:
        OutputError: `path` exists, is not such a result, or cannot be written.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise OutputError(EXISTS.format(path))
    if path.exists() and not (path / marker).is_file():
        raise OutputError(f"{path}: is not a result of this command. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(path.name), dir=path.parent))
    except OSError as error:
        raise OutputError(why_unwritten(path, error)) from None
    old = temporary.with_name(temporary.name + "-old")
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes folders for this user only
        if path.exists() and overwrite:
            path.replace(old)
        try:
            temporary.rename(path)  # which fails where a folder holds something
        except OSError:
            if old.exists():
                old.replace(path)
            if path.exists():
                raise OutputError(EXISTS.format(path)) from None
            raise
    except OSError as error:
        raise OutputError(why_unwritten(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def check_outputs(
    outputs: dict, inputs: Iterable[Path | None] = (), whole: Iterable[str] = ()
) -> None:
    """Refuse outputs that are inputs or one another, before any work; sweep their folders.

    Links and other spellings of a name are recognised. Whether results may be replaced does
    not matter: an input is never a result.

    Args:
        outputs: dict of str, an option, to `Path` of a file or folder, a list, or None.
        inputs: `Path` of files, and of folders all of whose files are read, or None.
        whole: names of options whose folder is replaced with all that it holds.

    Raises:
        UsageError: An output is, or holds, or is in, what is read; or two are one.
    """
    sources = [Path(source) for source in inputs if source is not None]
    known = {key: source for source in sources for key in file_keys(source)}
    folders = [source for source in sources if source.is_dir()]
    written = {}
    for option, given in outputs.items():
        for path in map(Path, given if isinstance(given, list) else filter(None, [given])):
            source = next((known[key] for key in file_keys(path) if key in known), None)
            source = source or next((f for f in folders if _among(path, f)), None)
            if option in whole:
                held = (each for each in sources if _inside(each, path))
                source = source or next(held, None)
            if source is not None:
                raise UsageError(
                    f"`{option} {path}`: would replace what is read from {source}. Choose "
                    "another path."
                )
            for key in file_keys(path):
                other = written.setdefault(key, option)
                if other != option:
                    raise UsageError(
                        f"`{option} {path}`: is where `{other}` writes. Choose another path."
                    )
            sweep(path.parent)
            sweep(path)


def file_keys(path):
    """Yield what identifies a file or folder, whatever its name: its path, and its number."""
    yield os.path.normcase(os.path.realpath(path))
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        if status.st_ino:  # some file systems have no numbers
            yield status.st_dev, status.st_ino


def _inside(path, folder):
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _among(path, folder):
    """Return whether an output is a file of a folder that is read."""
    if not path.is_file() or path.suffix.lower() in PAGES:
        return False
    if _inside(path, folder):
        return True
    linked = path.stat().st_nlink > 1
    return linked and any(
        each.is_file() and each.samefile(path) for each in folder.rglob("*")
    )


def sweep(folder: Path) -> None:
    """Remove temporary files and folders of commands that were killed.

    Those of a running process stay. Those of another machine are removed if nothing was
    written to them for a day. A folder that a command had set aside gets its name back if the
    command was killed before the new one got it.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(".*-stm*"):
            match = LEFTOVER.fullmatch(path.name)
            if not match or _alive(path, match[2], int(match[3])):
                continue
            kept = folder / match[1]
            if match[4] and not kept.exists():
                path.rename(kept)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(path, machine, process):
    """Return whether a temporary file may still be written."""
    if machine != _machine() or os.name == "nt":  # where os.kill would end the process
        return time.time() - path.lstat().st_mtime < DAY
    return is_running(process)


def is_running(process):
    """Return whether a process of this machine runs; not for Windows, where it would end."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


def _prefix(name):
    """Name a temporary file so that other processes can tell whether its own still runs."""
    return f".{name[:60]}-stm{_machine()}-{os.getpid()}-"


@functools.cache
def _machine():
    """Return eight digits that identify this machine, since it started, and its container."""
    parts = [os.uname().nodename if hasattr(os, "uname") else ""]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def check_folder(path):
    """Make a folder, see that a file can be written there, and return its `Path`.

    Raises:
        OutputError: The folder cannot be made or written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: cannot be written (not a folder). Choose another path.")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        sweep(path)
    except OSError as error:
        raise OutputError(why_unwritten(path, error)) from None
    return path


def why_unwritten(path, error):
    return f"{path}: cannot be written ({error.strerror or error}). Choose another path."
