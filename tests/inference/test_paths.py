"""Which files are judged: what the user named, and what is a scan in a folder."""

import os
import threading

import numpy as np
import pytest
from PIL import Image
from scan_files import ibw, mul, park, scala, surface, sxm

from stm_keras.errors import NoImageError, ScanError
from stm_keras.inference.paths import find_places
from stm_keras.readers import read_scan

SCAN = sxm({"Z": ("m", surface(), None)})


def names(*arguments, lines=None):
    return [place.path.name for place in find_places(arguments, lines)]


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
    assert list(find_places([tmp_path]))[0].path == tmp_path  # a dataset


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
    places = {place.path.name: place for place in find_places([tmp_path])}
    assert not places["broken.sxm"].forgives(ScanError("is empty"))
    assert places["labels.npy"].forgives(ScanError("needs numbers"))
    with pytest.raises(NoImageError) as caught:
        read_scan(tmp_path / "curve.ibw")
    assert places["curve.ibw"].forgives(caught.value)
    (named,) = find_places([tmp_path / "curve.ibw"])
    assert not named.forgives(caught.value)


def test_globs_are_expanded_where_no_shell_did(tmp_path):
    fill(tmp_path)
    assert names(tmp_path / "*.sxm") == ["a.sxm", "b.sxm", "broken.sxm"]
    assert names(tmp_path / "**" / "*.dat") == ["c.dat"]
    assert names(tmp_path / "de*") == ["c.dat"]
    (tmp_path / "odd[1].sxm").write_bytes(SCAN)
    assert names(tmp_path / "odd[1].sxm") == ["odd[1].sxm"]
    (place,) = find_places([tmp_path / "no*.sxm"])
    assert "fits no file" in str(place.error)


def test_a_folder_without_a_scan_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (place,) = find_places([tmp_path])
    assert "holds no scan" in str(place.error)


def test_a_list_is_taken_line_by_line(tmp_path):
    fill(tmp_path)
    lines = [f"{tmp_path / 'b.sxm'}\n", "\n", f"{tmp_path / 'a.sxm'}\r\n", "none.sxm"]
    assert names("-", lines=lines) == ["b.sxm", "a.sxm", "none.sxm"]


def test_a_slow_list_pauses_so_that_verdicts_come_out(tmp_path):
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines, os.fdopen(writer, "w") as out:
        places = find_places(["-"], lines)
        out.write("one.sxm\n")
        out.flush()
        first = next(place for place in places if place is not None)
        assert first.path.name == "one.sxm"
        assert next(places) is None
        threading.Timer(0.1, lambda: (out.write("two.sxm\n"), out.close())).start()
        rest = [place.path.name for place in places if place is not None]
        assert rest == ["two.sxm"]
