"""A folder as a source: scans as the microscope saves them, found by looking again and again.

Notices of changes do not cross network shares, so the folder is listed every second or so. A
file is read once its size and time have stood still, for no format can be read while it is
written. What was read is remembered: nothing is judged twice, and nothing is lost while a share
is away.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from stm_keras.errors import (
    InputError,
    NoImageError,
    ScanError,
    StmKerasError,
    UnclearError,
)
from stm_keras.live.background import Background
from stm_keras.live.events import Connected, Event, FileSeen, Found, Lost, Note
from stm_keras.live.recorded import RecordedScan, recorded_scans
from stm_keras.readers.formats import FORMATS, claims_to_be_a_scan, scan_format

STILL = 2  # looks at which a file has not changed, until it is read
REFUSED = 30.0  # s for which a file stands still and cannot be read, until that is said
REST = 3  # times as long as it took to list the folder, until it is listed again
CLOSE = 2.0  # s between what the list and the file say of its time, on some shares
AHEAD = 256  # events that are made before they are taken
SCANS = tuple(  # suffixes, for the count of old files, which are not opened
    {
        suffix.lower()
        for row in FORMATS.values()
        if row.holds == "scans"
        for suffix in row.suffixes
    }
)
UNFINISHED = ("~", ".tmp", ".part", ".partial")  # ends of names that programs write under


class Version(NamedTuple):
    """What tells one content of a file from the next without reading it."""

    size: int
    mtime: float


@dataclass
class _Waiting:
    """A version that was not read yet.

    Args:
        since: float. When it was first listed so, by the timer.
        quiet: bool. It was there when the watching began.
        looks: int. How often it was listed so again.
        tries: int. How often it was tried to be read, the next time at `due`.
        reported: bool. Whether it was told that it cannot be opened.
    """

    version: Version
    since: float
    quiet: bool
    looks: int = 0
    tries: int = 0
    due: float = 0.0
    reported: bool = False


class FolderSource:
    """The scans that are saved in a folder and in those below it.

    Args:
        path: str or `Path` of the folder.
        channel: str. As `read_scan` takes it.
        poll: float. Seconds between two looks, at least.
        seen: iterable of (path, size, mtime): files that were judged before, which are not
            judged again.
        clock: callable that returns the time, in s since 1970: it says what is of today.
        timer: callable that returns seconds and never jumps, as clocks do.
    """

    def __init__(
        self,
        path: str | Path,
        channel: str | None = None,
        poll: float = 1.0,
        seen: Iterable[tuple[str | Path, int, float]] = (),
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ):
        self.name = str(path)
        self._folder, self._channel, self._poll = Path(path), channel, poll
        self._clock, self._timer = clock, timer
        self._seen: dict[tuple[int, float], set[str]] = {}
        for each, size, mtime in seen:
            self._seen.setdefault((size, round(mtime, 3)), set()).add(_key(each))
        self._done: dict[str, tuple[Version, bytes | None]] = {}  # for ever, so kept small
        self._waiting: dict[str, _Waiting] = {}
        self._looked = self._lost = False
        self._background: Background | None = None

    def events(self) -> Iterator[Event]:
        """Yield what happens, for ever.

        Raises:
            InputError: There is no such folder now.
        """
        if not self._folder.is_dir():
            raise InputError(f"{self._folder}: is not a folder. Give one that is there.")
        yield Connected(f"The folder {self._folder} is watched.")
        self._background = Background(self._watch, AHEAD)
        yield from self._background.items()

    def close(self) -> None:
        """Stop looking."""
        if self._background is not None:
            self._background.close()

    def answer(self, record: dict) -> None:
        """Do nothing: nobody waits for a verdict."""

    def _watch(self, closed):
        while not closed.is_set():
            began = self._timer()
            yield from self.look()
            ended = self._timer()
            due = ended + max(self._poll, REST * (ended - began))
            # new files before those that wait since long
            while self._timer() < due and (path := self.newest()) and not closed.is_set():
                yield from self.judge(path)
            closed.wait(max(due - self._timer(), 0))

    def look(self) -> Iterator[Event]:
        """List the folder, note what changed, and tell whether it is there."""
        now = self._timer()
        try:
            listed = dict(_files(self._folder))
        except OSError as error:
            if not self._lost:
                self._lost = True
                yield Lost(f"{self._folder} cannot be listed ({error.strerror or error}).")
            for each in self._waiting.values():  # what nobody can see does not stand still
                each.looks, each.since = 0, now
            return
        if self._lost:
            self._lost = False
            yield Found(f"{self._folder} can be listed again.")
        old = 0 if self._looked else self._leave_old(listed)
        for path in self._waiting.keys() - listed.keys():
            del self._waiting[path]
        for path, version in listed.items():
            self._note(path, version, now)
        self._looked = True
        if old:
            files, them = ("file is", "it") if old == 1 else ("files are", "them")
            yield Note(
                f"{old} older {files} left alone; judge {them} with `stm-keras predict "
                f"{self._folder}`."
            )

    def _leave_old(self, listed):
        """Pass over files from before today, and those that were judged; count the former."""
        today = datetime.combine(datetime.fromtimestamp(self._clock()), datetime.min.time())
        old = 0
        for path, version in listed.items():
            names = self._seen.get((version.size, round(version.mtime, 3)))
            seen = names is not None and _key(path) in names
            if seen or version.mtime < today.timestamp():
                self._done[path] = version, None
                old += not seen and path.lower().endswith(SCANS)
        self._seen.clear()
        return old

    def _note(self, path, version, now):
        waiting = self._waiting.get(path)
        if waiting and waiting.version == version:
            waiting.looks += 1
        elif path not in self._done or self._done[path][0] != version:
            self._waiting[path] = _Waiting(version, now, quiet=not self._looked)
        else:  # as it was before
            self._waiting.pop(path, None)

    def newest(self) -> str | None:
        """Return the newest file that is to be read now, or None."""
        now = self._timer()
        ready = (
            (each.version.mtime, path)
            for path, each in self._waiting.items()
            if each.looks >= STILL and now >= each.due
        )
        return max(ready, default=(0, None))[1]

    def judge(self, path: str) -> Iterator[Event]:
        """Read a file; yield its scans and `FileSeen`, or nothing if it is not ready yet."""
        waiting, now = self._waiting[path], self._timer()
        version, refused = waiting.version, now - waiting.since >= REFUSED
        waiting.tries += 1
        waiting.due = now + min(2**waiting.tries, 10, max(waiting.since + REFUSED - now, 1))
        try:
            kind, digest = _kind_and_hash(path, version)
        except OSError as error:  # as long as the microscope writes, on Windows
            if refused and not waiting.reported:
                waiting.reported = True
                reason = f"{path}: cannot be read ({error.strerror or error})."
                yield FileSeen(Path(path), *version, error=reason)
            return
        if kind is None or self._is_known(path, version, digest):
            self._finish(path, version, digest)
            return
        scans, errors = 0, []
        try:
            for scan in recorded_scans(Path(path), self._channel):
                if isinstance(scan, RecordedScan):
                    scans += 1
                    yield from _events(scan, version.mtime, waiting.quiet)
                else:
                    errors.append(scan)
        except StmKerasError as error:
            errors.append(error)
        except Exception as error:  # of a reader, on one file: the watching goes on
            errors.append(ScanError(f"{path}: cannot be read ({error!r})."))
        if errors and not scans:
            if not refused:
                return
            if _is_not_a_scan(errors[0], kind):
                errors.clear()
        self._finish(path, version, digest)
        if scans or errors:
            text = _sentence(errors, scans + len(errors))
            yield FileSeen(Path(path), *version, scans, text)

    def _is_known(self, path, version, digest):
        """Tell whether this content was judged: under this name, or under one that it had."""
        if path in self._done and self._done[path][1] == digest:
            return True
        for name, (known, content) in self._done.items():
            if known == version and content in (digest, None) and not Path(name).exists():
                del self._done[name]  # it was moved
                return True
        return False

    def _finish(self, path, version, digest):
        self._done[path] = version, digest
        del self._waiting[path]


def _events(scan, mtime, quiet):
    yield scan.began(finished=True, quiet=quiet)
    yield from scan.lines(t_end=mtime)  # the latest that can be true
    yield scan.ended()


def _files(folder, roots=None):
    """Yield (path, `Version`) of the files of a folder and of those below it.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    roots = [Path(folder).resolve()] if roots is None else roots
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower().endswith(UNFINISHED):
                continue  # ours, too, while they are being written
            try:
                if entry.is_dir():
                    if not entry.is_symlink() or _leads_elsewhere(entry.path, roots):
                        yield from _files(entry.path, roots)
                elif entry.is_file():
                    status = entry.stat()
                    yield entry.path, Version(status.st_size, status.st_mtime)
            except OSError:  # it went away meanwhile, or may not be read
                continue


def _leads_elsewhere(path, roots):
    """Tell whether a linked folder neither holds nor lies in one that is listed; note it."""
    target = Path(path).resolve()
    if any(target.is_relative_to(root) or root.is_relative_to(target) for root in roots):
        return False
    roots.append(target)
    return True


def _kind_and_hash(path, version):
    """Return what a file may hold, and the hash of its content if that can be a scan.

    Raises:
        OSError: It may not be opened now, or is not of this version any more.
    """
    with open(path, "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if status.st_size != version.size or abs(status.st_mtime - version.mtime) > CLOSE:
            raise OSError("it is being written")
        kind = _kind(path)
        return kind, kind and hashlib.file_digest(file, "sha256").digest()[:16]


def _kind(path):
    """Return "scans", or "anything", which may hold some; None for what is left alone.

    Pictures and texts are: in the folder of a microscope they are exports, or no scans at all.
    """
    try:
        row = FORMATS.get(scan_format(path) or "")
    except ScanError:
        row = None
    if claims_to_be_a_scan(Path(path)):
        return "scans"
    return row.holds if row and row.holds in ("scans", "anything") else None


def _is_not_a_scan(error, kind):
    """Tell whether an error says that a file in a folder is just something else."""
    is_array = kind == "anything" and not isinstance(error, UnclearError)
    return is_array or isinstance(error, NoImageError)


def _sentence(errors, scans):
    """Say in one line what is wrong with a file, or None."""
    if not errors:
        return None
    first = " ".join(str(errors[0]).split())
    return (
        first if scans == 1 else f"{len(errors)} of {scans} scans are not judged: {first}"
    )


def _key(path):
    return os.path.normcase(Path(path).absolute())
