"""How much memory the reading of one file may take, counted before it is taken.

A file of some kilobytes can promise gigabytes. Whoever reads one opens an account; whatever
decompresses, decodes or converts charges its bytes to it first, for every format.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from stm_keras.errors import InputError, StmKerasError, UsageError

VARIABLE = "STM_KERAS_MEMORY"
SCANS = 2 * 10**9  # bytes: the most that a scan file gets unless the variable says more
SPARE = 1 << 27  # bytes that other threads may take while one reads a file
LEAST = 10**6  # bytes, of a budget: below, no scan can be read
UNKNOWN = 8 << 30  # bytes of a machine whose memory is unknown
UNITS = {
    f"{letter}{end}": 1000**n for n, letter in enumerate("KMGT", 1) for end in ("B", "")
}
UNITS |= {f"{letter}IB": 1024**n for n, letter in enumerate("KMGT", 1)} | {"B": 1, "": 1}
CGROUPS = (  # of Linux: which controller, where it is mounted, the file with its limit
    ("", "/sys/fs/cgroup", "memory.max"),
    ("memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
)


def budget(most: int | None = None) -> int:
    """Return how many bytes the reading of one file may take.

    It is what `STM_KERAS_MEMORY` says, such as "1GB" or "512MiB"; else a quarter of the memory
    of the machine, or of what this process is allowed of it, and at most `most`.

    Raises:
        UsageError: The variable is not a size.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        return _bytes_of(text)
    quarter = machine() // 4
    return quarter if most is None else min(quarter, most)


@cache
def machine() -> int:
    """Return the bytes of memory of this machine, or of its control group, if it has less."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        physical = UNKNOWN
    return min([physical, *_limits()])


def one_file(
    path: object,
    cure: str,
    error: type[StmKerasError] = InputError,
    most: int | None = None,
) -> "Account":
    """Open the account of one file; what is read in its `with` block is charged to it.

    `cure` says what to do instead of allowing more, as a clause: "convert it to HDF5". An
    account of the same file that is open already is returned as it is.
    """
    outer = _open.get()
    if outer is not None and outer.path == str(path):
        return outer
    return Account(str(path), budget(most), cure, error)


def charge(size: int, what: str = "its data") -> None:
    """Count bytes that are about to be taken for the file being read, and kept.

    Raises:
        StmKerasError: As `one_file` was given, if they are more than are left. `what` takes
            them, for the message.
    """
    account = _open.get() or Account("the file", budget(), "give a smaller one", InputError)
    account.charge(size, what)


def left() -> int:
    """Return how many bytes the file being read may still take."""
    account = _open.get()
    return budget() if account is None else account.left


@contextmanager
def borrow(size: int, what: str = "its data") -> Iterator[None]:
    """Charge bytes as `charge` does, and give them back at the end of the block."""
    charge(size, what)
    account = _open.get()
    try:
        yield
    finally:
        if account is not None:
            account.used -= size


@contextmanager
def limited() -> Iterator[None]:
    """Refuse memory to all that runs in this block, C too, beyond what is left for the file.

    A damaged length in an HDF5 file makes the library allocate gigabytes before it checks.
    Only Linux can refuse them. The limit is of the whole process, so threads share it, with
    room for what the rest of them may take meanwhile.
    """
    used = _data_bytes()
    if used is None:
        yield
        return
    import resource

    which = resource.RLIMIT_DATA
    with _limit_lock:
        _limits_set.append(None)
        if len(_limits_set) == 1:
            _limits_set[0] = resource.getrlimit(which)
            soft, hard = _limits_set[0]
            wanted = used + left() + SPARE
            if all(
                wanted < each or each == resource.RLIM_INFINITY for each in (soft, hard)
            ):
                resource.setrlimit(which, (wanted, hard))
    try:
        yield
    finally:
        with _limit_lock:
            before = _limits_set[0]
            _limits_set.pop()
            if not _limits_set:
                resource.setrlimit(which, before)


@dataclass
class Account:
    """The bytes that the reading of one file has taken; its `with` block may be entered again."""

    path: str
    limit: int
    cure: str
    error: type[StmKerasError]
    used: int = 0
    _outer: list = field(default_factory=list, repr=False)

    def __enter__(self) -> "Account":
        self._outer.append(_open.set(self))
        return self

    def __exit__(self, *error):
        _open.reset(self._outer.pop())

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return max(self.limit - self.used, 0)

    def charge(self, size: int, what: str) -> None:
        """Count bytes, or raise the error that says how many would be needed."""
        size = max(int(size), 0)
        if self.used + size > self.limit:
            raise self.error(
                f"{self.path}: needs {shown(self.used + size)} of memory or more ({what}), and "
                f"{shown(self.limit)} are allowed for one file. Set "
                f"{VARIABLE}={_enough(self.used + size)}, or {self.cure}."
            )
        self.used += size


def shown(size: int) -> str:
    """Return a number of bytes as people write it: "2.4 GB"."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if size >= factor:
            return f"{min(size, 10**18) / factor:.3g} {unit}"
    return f"{size} B"


_limit_lock = threading.Lock()
_limits_set = []  # one for each block of `limited` that runs; the first is the former limit
_open: ContextVar[Account | None] = ContextVar("account", default=None)


def _data_bytes():
    """Return the bytes of data that this process has, None where that is unknown."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  it is quick
            return int(file.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _bytes_of(text):
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Z]*)", text.upper())
    factor = UNITS.get(match[2]) if match else None
    size = int(float(match[1]) * factor) if factor else 0
    if size < LEAST:
        raise UsageError(
            f"{VARIABLE} must be a size of 1MB or more, such as 4GB or 512MiB. Received: "
            f"{text[:40]!r}."
        )
    return size


def _enough(size):
    """Return a size to set that leaves room for the rest of a file: "3GB"."""
    unit, factor = ("GB", 10**9) if size >= 10**9 else ("MB", 10**6)
    return f"{-(-min(size, 10**18) * 5 // (4 * factor))}{unit}"


def _limits():
    """Yield the limits of the control groups that this process is in: int, bytes."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):  # not Linux
        return
    groups = {}  # controller to the group of this process
    for line in lines:
        _, controllers, group = (line.split(":", 2) + ["", ""])[:3]
        groups |= dict.fromkeys(controllers.split(","), group)
    for controller, root, name in CGROUPS:
        group = Path(root, groups.get(controller, "").strip("/"))
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            try:
                text = (folder / name).read_text(encoding="utf-8").strip()
            except (OSError, ValueError):
                continue
            if text.isdigit():
                yield int(text)
