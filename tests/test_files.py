import os
import stat
from pathlib import Path

import pytest

from stm_keras.errors import OutputError
from stm_keras.files import atomic, check_folder


def write(path, overwrite=False):
    with atomic(path, overwrite) as temporary:
        temporary.write_text("new")


def write_and_fail(path, error):
    with atomic(path, overwrite=True) as temporary:
        temporary.write_text("new")
        raise error


def names(folder):
    return [path.name for path in folder.iterdir()]


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
        OutputError, match=r"cannot be written \(.*\)\. Choose another place"
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
