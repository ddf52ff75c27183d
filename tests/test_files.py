import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from stm_keras.errors import OutputError
from stm_keras.files import atomic, check_folder
from stm_keras.locks import claimed, locked


def write(path, overwrite=False):
    with atomic(path, overwrite) as temporary:
        temporary.write_text("new")


def write_and_fail(path, error):
    with atomic(path, overwrite=True) as temporary:
        temporary.write_text("new")
        raise error


def names(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.smoke
def test_a_result_appears_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "scans.h5"
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".h5"
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "half"
    assert names(path.parent) == ["scans.h5"]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_and_fail(path, ZeroDivisionError())
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.smoke
def test_an_existing_result_is_replaced_only_when_told(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"a\.txt: exists already\. Add --overwrite"):
        write(path)
    write(path, overwrite=True)
    assert path.read_text() == "new"


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(OutputError, match=r"is a folder\. Give the name of a file"):
        write(tmp_path, overwrite=True)


def test_others_may_read_the_result_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(
        OutputError, match=r"cannot be written \(.*\)\. Choose another path"
    ):
        write(tmp_path / "file" / "a.txt")
    with pytest.raises(OutputError, match=r"file: cannot be written"):
        check_folder(tmp_path / "file")


def test_a_full_disk_is_told(tmp_path):
    with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(No space left"):
        write_and_fail(tmp_path / "a.txt", OSError(28, "No space left on device"))
    assert names(tmp_path) == []


def test_folders_are_made_and_tried(tmp_path):
    assert check_folder(str(tmp_path / "a" / "b")) == Path(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
    assert OutputError.exit_code == 1


def held(path):
    with locked(path, "another process is here"):
        return path.exists()


@pytest.fixture
def flock_fails(monkeypatch):
    """Have locks fail: call it with the number of an error."""
    fcntl = pytest.importorskip("fcntl")

    def fail(number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return fail


@pytest.mark.parametrize("name", ["ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EINVAL"])
def test_a_file_system_without_locks_is_not_one_where_somebody_is(
    name, tmp_path, flock_fails
):
    flock_fails(getattr(errno, name))
    with pytest.warns(UserWarning, match="this file system has no locks .* no second proc"):
        assert held(tmp_path / ".lock")


@pytest.mark.parametrize("name", ["EAGAIN", "EWOULDBLOCK", "EACCES"])
def test_a_lock_that_somebody_has_is_refused(name, tmp_path, flock_fails):
    flock_fails(getattr(errno, name))
    with pytest.raises(OutputError, match="another process is here"):
        held(tmp_path / ".lock")


def test_windows_locks_the_first_byte(tmp_path, monkeypatch):
    locked_at, taken = [], OSError(errno.EACCES, "Permission denied")

    def locking(descriptor, how, count):
        if locked_at:
            raise taken
        locked_at.append((os.lseek(descriptor, 0, os.SEEK_CUR), how, count))

    msvcrt = SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    with locked(tmp_path / ".lock", "another process is here"):
        assert locked_at == [(0, 2, 1)]
        with pytest.raises(OutputError, match="another process is here"):
            held(tmp_path / ".lock")


@pytest.mark.skipif(os.name == "nt", reason="asks for a process by its number")
def test_without_locks_in_python_a_process_leaves_its_number(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", None)
    path = tmp_path / ".lock"
    with locked(path, "another process is here"):
        assert path.read_text(encoding="utf-8") == str(os.getpid())
        with pytest.raises(OutputError, match="another process is here"):
            held(path)
    assert path.read_text(encoding="utf-8") == ""
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1
    )
    path.write_bytes(ended.stdout)  # it was killed and could not take its number back
    assert held(path)


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path):
    """Who removes a folder at the end may do so between another's opening and locking."""
    fcntl = pytest.importorskip("fcntl")
    path, flock, opened = tmp_path / "run" / ".lock", fcntl.flock, []

    def late(lock, how):
        opened.append(os.fstat(lock.fileno()).st_ino)
        if len(opened) == 1:
            path.rename(tmp_path / "gone")
        flock(lock, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        with locked(path, "another process is here"):
            assert path.stat().st_ino == opened[1] != opened[0]


def test_a_folder_of_somebody_else_gets_no_lock(tmp_path):
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    refused = pytest.raises(OutputError, match="holds something else")
    with refused, claimed(tmp_path, "ours.json", "taken", "holds something else"):
        pass
    assert names(tmp_path) == ["letter.txt"]
