"""Files that are only ever appended to, a line at a time, so that no crash ends them.

file = AppendedFile()
file.write(Path("labels/ada.jsonl"), b'{"scan": "..."}\n')
file.sync()
"""

import contextlib
import errno
import os
from pathlib import Path


class AppendedFile:
    """Writes whole lines at the end of a file, which may be another one each time.

    A line is written by one call, so that a kill leaves all of it or nothing; half of one, which
    a full disk or a crash of the system left, is ended before the next. A file that was moved or
    removed meanwhile is made anew. Not safe between threads.
    """

    def __init__(self) -> None:
        self._path: Path | None = None
        self._descriptor = -1
        self._torn = False  # whether half a line is at the end

    def write(self, path: Path, line: bytes) -> None:
        """Write a line, which ends with a newline: it survives a kill.

        Raises:
            OSError: It cannot be written, or not all of it: then the file is as if it had not
                been.
        """
        if path != self._path or not self._is_there():
            self._open(path)
        data = b"\n" + line if self._torn else line
        if os.write(self._descriptor, data) < len(data):  # to be opened again, and ended
            self.close()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False

    def sync(self) -> None:
        """Wait until what was written is on the disk: it survives a power cut."""
        with contextlib.suppress(OSError):  # of a file system that cannot
            getattr(os, "fdatasync", os.fsync)(self._descriptor)

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor, self._path = -1, None

    def _is_there(self):
        """Tell whether the open file still has its name, and has not been moved or removed."""
        try:
            return self._descriptor >= 0 and os.path.samestat(
                os.fstat(self._descriptor), self._path.stat()
            )
        except OSError:
            return False

    def _open(self, path):
        self.close()
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor, self._path = os.open(path, flags, 0o666), path
        self._torn = False
        if os.fstat(self._descriptor).st_size:
            os.lseek(self._descriptor, -1, os.SEEK_END)
            self._torn = os.read(self._descriptor, 1) != b"\n"
