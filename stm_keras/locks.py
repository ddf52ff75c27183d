"""Let one process at a time have a file or a folder."""

import contextlib
import errno
import os
import warnings
from contextlib import contextmanager
from importlib import import_module

from stm_keras.errors import OutputError
from stm_keras.files import is_running, why_unwritten

LOCK = ".lock"
TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)  # any other: there are no locks
TRIES = 100  # to open a file that other processes may remove


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
            failed = why_unwritten(path.parent, error)
            continue  # another process may just have removed the folder
        except OSError as error:
            raise OutputError(why_unwritten(path.parent, error)) from None
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
        if is_running(int(path.read_text(encoding="utf-8"))):
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
