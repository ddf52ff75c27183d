"""Write a result whole or not at all, and never over what is read or what came meanwhile."""

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path

from stm_keras.errors import OutputError, UsageError

EXISTS = "{}: exists already. Add --overwrite to replace it."
PAGES = (".html", ".md")  # never read as data: may lie among scans, and be replaced there
DAY = 86400  # s after which a temporary file of another machine is no longer written
# .NAME-stmPLACE-PROCESS-RANDOM.SUFFIX, see `_prefix`
LEFTOVER = re.compile(r"\.(.*)-stm([0-9a-f]{8})-(\d{1,10})-[a-z0-9_]{8}(?:\..*?)?(-old)?")

LOCK = ".lock"
TAKEN = (
    errno.EACCES,
    errno.EAGAIN,
    errno.EWOULDBLOCK,
)  # others mean that there are no locks
TRIES = 100  # to open a file that others may remove


@contextmanager
def atomic(path, overwrite=False):
    """Yield a temporary path beside `path` and rename it when all went well.

    A full disk, an error or a kill leaves `path` as it was: missing, or old. Of several
    processes that write it at once, and may not replace it, one does.

    Args:
        path: str or `Path`. Where the result goes. Missing folders are made.
        overwrite: bool. Whether an existing result may be replaced.

    Yields:
        `Path` of the temporary file, with the suffix of `path`.

    Raises:
        OutputError: `path` exists, or its folder cannot be written or is full.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: is a folder. Give the name of a file.")
    if path.exists() and not path.is_file():  # which a rename would replace, if we may
        raise OutputError(f"{path}: is not an ordinary file. Give the name of a file.")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(EXISTS.format(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=_prefix(path.stem), suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
    except OSError as error:
        raise OutputError(_reason(path, error)) from None
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that others cannot read
        if overwrite:
            temporary.replace(path)
        else:
            _rename_new(temporary, path)
    except FileExistsError:
        raise OutputError(EXISTS.format(path)) from None
    except OSError as error:
        raise OutputError(_reason(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


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

    Args:
        path: str or `Path`. The folder that the result becomes.
        marker: str. Name of a file that every such result holds: only a folder with it
            is ever replaced, whatever else somebody calls it.
        overwrite: bool. Whether an existing result may be replaced.

    Yields:
        `Path` of the temporary folder, empty.

    Raises:
        OutputError: `path` exists, is no such result, or cannot be written.
    """
    path = Path(path)
    if os.path.lexists(path) and not overwrite:
        raise OutputError(EXISTS.format(path))
    if path.exists() and not (path / marker).is_file():
        raise OutputError(f"{path}: is no result of this command. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=_prefix(path.name), dir=path.parent))
    except OSError as error:
        raise OutputError(_reason(path, error)) from None
    old = temporary.with_name(temporary.name + "-old")
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes folders that others cannot read
        if path.exists() and overwrite:
            path.replace(old)
        try:
            temporary.rename(path)  # which no folder that holds something stands in for
        except OSError:
            if old.exists():
                old.replace(path)
            if path.exists():
                raise OutputError(EXISTS.format(path)) from None
            raise
    except OSError as error:
        raise OutputError(_reason(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def check_outputs(
    outputs: dict, inputs: Iterable[Path | None] = (), whole: Iterable[str] = ()
) -> None:
    """Refuse outputs that are inputs or one another, before any work; sweep their folders.

    Links and other spellings of a name are seen through. What the options say of
    replacing results does not matter: an input is never a result.

    Args:
        outputs: dict of str, an option, to `Path` of a file or folder, a list, or None.
        inputs: `Path` of files, and of folders all of whose files are read; None is left out.
        whole: names of options whose folder is replaced with all that it holds.

    Raises:
        UsageError: An output is, or holds, or lies among, what is read; or two are one.
    """
    sources = [Path(source) for source in inputs if source is not None]
    known = {key: source for source in sources for key in _keys(source)}
    folders = [source for source in sources if source.is_dir()]
    written = {}
    for option, given in outputs.items():
        for path in map(Path, given if isinstance(given, list) else filter(None, [given])):
            source = next((known[key] for key in _keys(path) if key in known), None)
            source = source or next((f for f in folders if _among(path, f)), None)
            if option in whole:
                held = (each for each in sources if _inside(each, path))
                source = source or next(held, None)
            if source is not None:
                raise UsageError(
                    f"`{option} {path}`: would replace what is read from {source}. Choose "
                    "another place."
                )
            for key in _keys(path):
                other = written.setdefault(key, option)
                if other != option:
                    raise UsageError(
                        f"`{option} {path}`: is where `{other}` writes. Choose another place."
                    )
            sweep(path.parent)
            sweep(path)


def _keys(path):
    """Yield what a file or folder is known by, whatever it is called."""
    yield os.path.normcase(os.path.realpath(path))
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        if status.st_ino:  # some file systems have no numbers
            yield status.st_dev, status.st_ino


def _inside(path, folder):
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _among(path, folder):
    """Tell whether an output is a file of a folder that is read."""
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

    Those of a living process stay; of another machine, which may write here as well, those
    that nothing was written to for a day go. A folder that a command had set aside, and
    was killed before its new one got the name, gets its name back.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(".*-stm*"):
            found = LEFTOVER.fullmatch(path.name)
            if not found or _alive(path, found[2], int(found[3])):
                continue
            kept = folder / found[1]
            if found[4] and not kept.exists():
                path.rename(kept)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _alive(path, place, process):
    """Tell whether a temporary file may still be written."""
    if place != _place() or os.name == "nt":  # where os.kill would end the process
        return time.time() - path.lstat().st_mtime < DAY
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


def _prefix(name):
    """Name a temporary file so that others can tell whether its process lives."""
    return f".{name[:60]}-stm{_place()}-{os.getpid()}-"


@functools.cache
def _place():
    """Return eight digits that tell this machine, since it started, and its container."""
    told = [os.uname().nodename if hasattr(os, "uname") else ""]
    for read, name in (
        (
            lambda name: Path(name).read_text(encoding="utf-8"),
            "/proc/sys/kernel/random/boot_id",
        ),
        (os.readlink, "/proc/self/ns/pid"),
    ):
        with contextlib.suppress(OSError):
            told.append(read(name))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:8]


@contextmanager
def locked(path, refusal):
    """Hold a lock on a file, and let no second process have it meanwhile.

    Network file systems may have no locks, nor has Python on Windows. Then we go on
    without, and warn: no lock at all is not a lock that another process has.

    Args:
        path: `Path` of the file, which is made, and its folder.
        refusal: str. What to tell where another process has it.

    Raises:
        OutputError: Another process has it, or the file cannot be made.
    """
    failed = refusal
    for _ in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(path, "a", encoding="utf-8", opener=_no_link)  # noqa: PTH123, SIM115
        except (FileNotFoundError, FileExistsError) as error:
            failed = _reason(path.parent, error)
            continue  # whoever had it may just have removed the folder
        except OSError as error:
            raise OutputError(_reason(path.parent, error)) from None
        with lock:
            _take(lock, path, refusal)
            if _is_at(lock, path):  # nobody has removed it since we opened it
                yield
                return
    raise OutputError(failed)


def _no_link(name, flags):
    """Open a file of ours: no link that leads to one of others, no FIFO that waits."""
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(name, flags | more, 0o666)


def _take(lock, path, refusal):
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows
        lacking = "Python has no locks here"
    except OSError as error:
        if error.errno in TAKEN:
            raise OutputError(refusal) from None
        lacking = f"this file system has no locks ({error.strerror or error})"
    else:
        return
    warnings.warn(f"{path.parent}: {lacking}. Start no second process in this folder.")


def _is_at(lock, path):
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def claimed(folder, mark, refusal, stranger):
    """Hold the lock of a folder that is ours, or new or empty and becomes ours.

    A second process that comes as the first makes it is told so, and nothing else.

    Args:
        folder: `Path`.
        mark: str. Name of a file that tells a folder of ours.
        refusal: str. What to tell where another process has it.
        stranger: str. What to tell where it holds something else.

    Raises:
        OutputError: As said, or the folder cannot be made or written.
    """
    lock = folder / LOCK
    ours = lock.exists()
    if _holds_others(folder, mark) and not (ours or lock.exists()):
        raise OutputError(stranger)  # and no lock is left there
    with locked(lock, refusal):
        if _holds_others(folder, mark):
            raise OutputError(stranger)
        yield


def _holds_others(folder, mark):
    if not folder.is_dir() or (folder / mark).exists():
        return False
    try:
        return any(path.name != LOCK for path in folder.iterdir())
    except FileNotFoundError:  # whoever had it has just removed it
        return False


def check_folder(path):
    """Make a folder and see that a file can be written there.

    Args:
        path: str or `Path`.

    Returns:
        `Path` of the folder.

    Raises:
        OutputError: The folder cannot be made or written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(
            f"{path}: cannot be written (not a folder). Choose another place."
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        sweep(path)
    except OSError as error:
        raise OutputError(_reason(path, error)) from None
    return path


def _reason(path, error):
    return f"{path}: cannot be written ({error.strerror or error}). Choose another place."
