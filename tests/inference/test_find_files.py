"""Which files are judged: what the user named, and what is a scan in a folder."""

import errno
import io
import os
import threading

import numpy as np
import pytest
from helpers import ONCE
from PIL import Image
from scan_files import ibw, mul, park, scala, surface, sxm

from stm_keras.errors import NoImageError, ScanError, UnclearError
from stm_keras.inference.find_files import LeftOut, find_files
from stm_keras.readers import read_scan

pytestmark = ONCE  # no backend changes what is tested here

SCAN = sxm({"Z": ("m", surface(), None)})


def names(*arguments, lines=None):
    return [file.path.name for file in find_files(arguments, lines)]


def fill(folder):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.sxm", "a.sxm", "deep/er/c.dat", ".hidden/d.sxm", "._a.sxm"):
        (folder / name).write_bytes(SCAN)
    (folder / "broken.sxm").write_bytes(b"")
    (folder / "notes.txt").write_text("hello")
    (folder / "table.csv").write_text("path,class\n")
    (folder / "program.bin").write_bytes(bytes(100))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "a.png")


def test_a_folder_is_searched_to_the_bottom_for_scans_alone(tmp_path):
    fill(tmp_path)
    assert names(tmp_path) == ["a.sxm", "b.sxm", "broken.sxm", "c.dat"]


def test_pictures_count_where_there_is_nothing_else(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("hello")
    assert names(tmp_path) == ["a.png"]
    (tmp_path / "labels.csv").write_text("file,label\na.png,0\n")
    assert list(find_files([tmp_path]))[0].path == tmp_path  # a dataset


def test_a_scan_of_two_files_is_one_scan(tmp_path):
    counts = np.arange(192).reshape(12, 16)
    ways = ((".tf0", "Forward"), (".tb0", "Backward"))
    scala(tmp_path, "m1", [(suffix, "Z", way, "nm", counts) for suffix, way in ways])
    assert names(tmp_path) == ["m1.par"]
    assert names(tmp_path / "m1.tf0") == ["m1.tf0"]


def test_scans_in_other_clothes_count_by_their_content(tmp_path):
    counts = np.arange(192).reshape(12, 16)
    (tmp_path / "a.tiff").write_bytes(park(counts))
    (tmp_path / "b.bin").write_bytes(mul([(counts, (100, 100), 1, 1, 1)]))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "c.tiff")
    assert names(tmp_path) == ["a.tiff", "b.bin"]


def test_texts_of_numbers_count_where_there_is_nothing_else(tmp_path):
    np.savetxt(tmp_path / "matrix.txt", surface(20, 24))
    np.savetxt(tmp_path / "curve.dat", surface(50, 2))
    log = "".join(f"{epoch},{1 / (epoch + 1)},0.5\n" for epoch in range(99))
    (tmp_path / "history.csv").write_text("epoch,loss,accuracy\n" + log)
    (tmp_path / "log.txt").write_text(log)
    (tmp_path / "README.md").write_text("# Scans of 2020\n")
    assert names(tmp_path) == ["matrix.txt"]
    (tmp_path / "a.sxm").write_bytes(SCAN)
    assert names(tmp_path) == ["a.sxm"]


def test_arrays_and_datasets_in_a_folder_count(tmp_path):
    np.save(tmp_path / "a.npy", surface())
    np.savez(tmp_path / "b.npz", images=surface()[None])
    assert names(tmp_path) == ["a.npy", "b.npz"]


def test_only_what_claims_to_be_a_scan_is_an_error_in_a_folder(tmp_path):
    fill(tmp_path)
    np.save(tmp_path / "labels.npy", np.arange(3))
    (tmp_path / "curve.ibw").write_bytes(ibw(np.zeros(40)))
    files = {file.path.name: file for file in find_files([tmp_path])}
    assert not files["broken.sxm"].leave_out(ScanError("is empty"))
    assert files["labels.npy"].leave_out(ScanError("needs numbers"))
    with pytest.raises(NoImageError) as caught:
        read_scan(tmp_path / "curve.ibw")
    assert files["curve.ibw"].leave_out(caught.value)
    (named,) = find_files([tmp_path / "curve.ibw"])
    assert not named.leave_out(caught.value)


def test_globs_are_expanded_where_no_shell_did(tmp_path):
    fill(tmp_path)
    assert names(tmp_path / "*.sxm") == ["a.sxm", "b.sxm", "broken.sxm"]
    assert names(tmp_path / "**" / "*.dat") == ["c.dat"]
    assert names(tmp_path / "de*") == ["c.dat"]
    (tmp_path / "odd[1].sxm").write_bytes(SCAN)
    assert names(tmp_path / "odd[1].sxm") == ["odd[1].sxm"]
    (file,) = find_files([tmp_path / "no*.sxm"])
    assert "fits no file" in str(file.error)


def test_a_folder_without_a_scan_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (file,) = find_files([tmp_path])
    assert "holds no scan" in str(file.error)


def test_what_is_left_out_of_a_folder_is_counted_and_named(tmp_path):
    fill(tmp_path)
    np.save(tmp_path / "labels.npy", np.arange(3))
    left_out = LeftOut()
    files = {p.path.name: p for p in find_files([tmp_path], left_out=left_out)}
    assert sorted(path.name for path in left_out.files) == [
        "notes.txt",
        "program.bin",
        "table.csv",
    ]
    assert [path.name for path in left_out.exports] == ["a.png"]
    file = files["labels.npy"]
    assert file.leave_out(NoImageError(f"{file.path}: needs numbers"))
    assert left_out.files[file.path] == "needs numbers"
    assert left_out.text(" (see)") == (
        "4 files are not scans and 1 export lies beside scans and were left out (see)."
    )
    assert len(left_out.lines()) == 5
    assert LeftOut().text() == ""
    assert LeftOut({1: "a"}).text() == "1 file is not a scan and was left out."
    assert LeftOut({}, [1, 2]).text() == "2 exports lie beside scans and were left out."


def test_a_file_whose_scans_cannot_be_told_apart_is_an_error_in_a_folder(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((24, 24, 5)))
    (file,) = find_files([tmp_path])
    with pytest.raises(UnclearError) as caught:
        read_scan(file.path)
    assert not file.leave_out(caught.value)


def test_scans_beside_the_pictures_of_a_dataset_are_found_too(tmp_path):
    fill(tmp_path)
    (tmp_path / "labels.csv").write_text("file,label\na.png,0\n")
    (tmp_path / "more.png").write_bytes((tmp_path / "a.png").read_bytes())
    left_out = LeftOut()
    found = [file.path for file in find_files([tmp_path], left_out=left_out)]
    assert found[0] == tmp_path
    assert [path.name for path in found[1:]] == ["a.sxm", "b.sxm", "broken.sxm", "c.dat"]
    assert [path.name for path in left_out.exports] == ["more.png"]
    assert "labels.csv" not in {path.name for path in left_out.files}


@pytest.fixture
def linked(tmp_path):
    """A folder with a link to one outside, twice, to itself, and to a folder of its own."""
    inside, outside = tmp_path / "session", tmp_path / "elsewhere"
    for folder in (inside / "day", outside):
        folder.mkdir(parents=True)
        (folder / f"{folder.name}.sxm").write_bytes(SCAN)
    try:
        (inside / "one").symlink_to(outside)
        (inside / "two").symlink_to(outside)
        (inside / "day" / "loop").symlink_to(inside)
        (inside / "again").symlink_to(inside / "day")
        (inside / "same.sxm").symlink_to(inside / "day" / "day.sxm")
        (inside / "gone.sxm").symlink_to(inside / "nowhere")
    except OSError:
        pytest.skip("this system makes no links")
    return inside


def test_linked_folders_are_followed_and_each_scan_is_found_once(linked):
    assert sorted(names(linked)) == ["elsewhere.sxm", "gone.sxm", "same.sxm"]
    found = [file.path for file in find_files([linked])]
    assert linked / "one" / "elsewhere.sxm" in found


def test_a_glob_through_links_finds_each_scan_once(linked):
    assert sorted(names(linked / "**" / "*.sxm")) == [
        "day.sxm",
        "elsewhere.sxm",
        "gone.sxm",
    ]
    assert sorted(names(linked / "*")) == ["day.sxm", "elsewhere.sxm", "gone.sxm"]


def test_a_folder_that_is_named_is_walked_through_a_link_as_well(linked):
    assert names(linked / "one") == ["elsewhere.sxm"]


def test_a_folder_of_curves_alone_is_an_error(tmp_path):
    (tmp_path / "curve.ibw").write_bytes(ibw(np.zeros(40)))
    files = find_files([tmp_path])
    file = next(files)
    assert file.leave_out(NoImageError("curves"))
    assert "holds no scan" in str(next(files).error)


def test_a_list_is_taken_line_by_line(tmp_path):
    fill(tmp_path)
    lines = [f"{tmp_path / 'b.sxm'}\n", "\n", f"{tmp_path / 'a.sxm'}\r\n", "none.sxm"]
    assert names("-", lines=lines) == ["b.sxm", "a.sxm", "none.sxm"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b.sxm\0a\nb.sxm\0", ["b.sxm", "a", "b.sxm"]),  # find -print0
        ("\ufeffb.sxm\r\na.sxm", ["b.sxm", "a.sxm"]),  # PowerShell
        ("b.sxm\n" * 30_000, ["b.sxm"] * 30_000),
    ],
)
def test_a_list_may_be_of_any_program(text, expected):
    assert names("-", lines=io.StringIO(text)) == expected


class Failing(io.StringIO):
    def readline(self, size=-1):
        return super().readline(size) or self.fail()

    def fail(self):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize(
    ("list_", "reason"),
    [
        (Failing("b.sxm\n"), "Input/output error"),
        (io.StringIO("b.sxm\n" + "\0" * 10), "not a file name"),
        (io.StringIO("b.sxm\n" + "x" * 70_000), "not a file name"),
    ],
)
def test_what_ends_a_list_is_told_and_what_came_before_is_judged(list_, reason):
    first, last = find_files(["-"], list_)
    assert (first.path.name, first.error) == ("b.sxm", None)
    assert reason in str(last.error)
    assert str(last.error).startswith("standard input: is not a list of files")


def test_a_slow_list_pauses_so_that_verdicts_come_out(tmp_path):
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines, os.fdopen(writer, "w") as out:
        files = find_files(["-"], lines)
        out.write("one.sxm\n")
        out.flush()
        first = next(file for file in files if file is not None)
        assert first.path.name == "one.sxm"
        assert next(files) is None
        threading.Timer(0.1, lambda: (out.write("two.sxm\n"), out.close())).start()
        rest = [file.path.name for file in files if file is not None]
        assert rest == ["two.sxm"]
