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
from importlib import import_module
from pathlib import Path

from stm_keras.errors import OutputError, UsageError

EXISTS = "{}: exists already. Add --overwrite to replace it."
PAGES = (".html", ".md")  # never read as data: may lie among scans, and be replaced there
DAY = 86400  # s after which a temporary file of another machine is no longer written
# .NAME-stmMACHINE-PROCESS-RANDOM.SUFFIX, see `_prefix`
LEFTOVER = re.compile(r"\.(.*)-stm([0-9a-f]{8})-(\d{1,10})-[a-z0-9_]{8}(?:\..*?)?(-old)?")

LOCK = ".lock"
TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)  # any other: there are no locks
TRIES = 100  # to open a file that other processes may remove


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
        raise OutputError(_reason(path, error)) from None
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
        raise OutputError(_reason(path, error)) from error
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
        raise OutputError(_reason(path, error)) from None
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
        raise OutputError(_reason(path, error)) from error
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
    return _runs(process)


def _runs(process):
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


@contextmanager
def locked(path, refusal):
    """Hold a lock on a file, so that no second process has it meanwhile.

    Network file systems may have no locks. Then we go on without, and warn: no lock at all is
    not a lock that another process has.

    Raises:
        OutputError: Another process has it, with the message `refusal`; or the file or its
            folder cannot be made.
    """
    failed = refusal
    for _ in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = open(path, "a", encoding="utf-8", opener=_no_link)  # noqa: PTH123, SIM115
        except (FileNotFoundError, FileExistsError) as error:
            failed = _reason(path.parent, error)
            continue  # another process may just have removed the folder
        except OSError as error:
            raise OutputError(_reason(path.parent, error)) from None
        with lock:
            _take(lock, path, refusal)
            try:
                if _is_at(lock, path):  # nobody has removed it since we opened it
                    yield
                    return
            finally:
                if _numbers():
                    lock.truncate(0)
    raise OutputError(failed)


def _no_link(name, flags):
    """Open a file, but neither a link, which may lead anywhere, nor a FIFO, which waits."""
    more = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(name, flags | more, 0o666)


def _take(lock, path, refusal):
    try:
        if _numbers():
            _take_by_number(lock, path, refusal)
        else:
            _lock_file(lock)
    except OSError as error:
        if error.errno in TAKEN:
            raise OutputError(refusal) from None
        lacking = f"this file system has no locks ({error.strerror or error})"
        warnings.warn(f"{path.parent}: {lacking}. Start no second process in this folder.")


def _numbers():
    """Tell whether Python knows no locks here, so that a process leaves its number instead."""
    return not (_module("fcntl") or _module("msvcrt"))


def _module(name):
    try:
        return import_module(name)
    except ImportError:
        return None


def _lock_file(lock):
    if fcntl := _module("fcntl"):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:  # Windows
        msvcrt = _module("msvcrt")
        lock.seek(0)  # where all processes lock one byte, whether there is one or not
        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)


def _take_by_number(lock, path, refusal):
    with contextlib.suppress(ValueError):  # it is empty: nobody has it
        if _runs(int(path.read_text(encoding="utf-8"))):
            raise OutputError(refusal)
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()


def _is_at(lock, path):
    try:
        return os.path.samestat(os.fstat(lock.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def claimed(folder, mark, refusal, stranger):
    """Hold the lock of a folder that is ours, or that is new or empty and becomes ours.

    A second process that comes as the first makes it is told so, and nothing else.

    Args:
        mark: str. Name, or pattern, of a file that every folder of ours holds.
        refusal: str. Message where another process has the lock.
        stranger: str. Message where the folder holds something else.

    Raises:
        OutputError: As said, or the folder cannot be made or written.
    """
    lock = folder / LOCK
    ours = lock.exists()
    if is_foreign(folder, mark) and not (ours or lock.exists()):
        raise OutputError(stranger)  # before a lock is made there
    with locked(lock, refusal):
        if is_foreign(folder, mark):
            raise OutputError(stranger)
        yield


def is_foreign(folder, mark):
    """Tell whether a folder holds something else than ours, which has a file named `mark`."""
    if not folder.is_dir() or any(folder.glob(mark)):
        return False
    try:
        return any(path.name != LOCK for path in folder.iterdir())
    except FileNotFoundError:  # another process has just removed it
        return False


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
        raise OutputError(_reason(path, error)) from None
    return path


def _reason(path, error):
    return f"{path}: cannot be written ({error.strerror or error}). Choose another path."
