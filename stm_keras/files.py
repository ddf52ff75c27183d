"""Write a result whole or not at all, and keep a second process out of a folder."""

import errno
import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

from stm_keras.errors import OutputError

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

    A full disk, an error or a kill leaves `path` as it was: missing, or old.

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
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
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
        temporary.replace(path)
    except OSError as error:
        raise OutputError(_reason(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


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
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")
    if path.exists() and not (path / marker).is_file():
        raise OutputError(f"{path}: is no result of this command. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise OutputError(_reason(path, error)) from None
    old = temporary.with_name(temporary.name + "-old")
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)  # mkdtemp makes folders that others cannot read
        if path.exists():
            path.replace(old)
        try:
            temporary.replace(path)
        except OSError:
            if old.exists():
                old.replace(path)
            raise
    except OSError as error:
        raise OutputError(_reason(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


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
            lock = path.open("a", encoding="utf-8")
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
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(_reason(path, error)) from None
    return path


def _reason(path, error):
    return f"{path}: cannot be written ({error.strerror or error}). Choose another place."
