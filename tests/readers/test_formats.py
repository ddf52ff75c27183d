"""The one table of formats: what a new format takes, and who goes by the table."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scan_files import surface, sxm

from stm_keras.data.load import load_dataset
from stm_keras.errors import DatasetError, ScanError
from stm_keras.inference.find_files import LeftOut, find_files
from stm_keras.readers import read_scan
from stm_keras.readers.formats import FORMATS, Format, scan_format
from stm_keras.readers.scan_file import Image, ScanFile

ROOT = Path(__file__).parents[2]
HEIGHTS = surface()


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """Add a format with a module and a row, and nothing more; return a file of it."""

    def parse(path, data):
        heights = np.frombuffer(data[16:], "<f8").reshape(HEIGHTS.shape)
        return ScanFile(images=(Image(heights, slow="down"),), size=(2e-9, 1e-9))

    module = ModuleType("stm_keras.readers.made_up")
    module.parse = parse
    module.is_scan = lambda path, head: head[8:16] == b"an image"
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = Format(
        "Made up", "made_up", rb"Made up ", "made_up.is_scan", (".made",), claims=(".made",)
    )
    unknown = FORMATS["unknown"]
    monkeypatch.delitem(FORMATS, "unknown")
    monkeypatch.setitem(FORMATS, "made up", row)
    monkeypatch.setitem(FORMATS, "unknown", unknown)  # the last row takes all that is left
    (tmp_path / "a.made").write_bytes(b"Made up an image" + HEIGHTS.tobytes())
    return tmp_path / "a.made"


def test_a_new_format_is_one_module_and_one_row(made_up):
    assert scan_format(made_up) == "made up"
    scan = read_scan(made_up)
    np.testing.assert_array_equal(scan.heights, HEIGHTS)
    assert (scan.format, scan.size, scan.slow) == ("made up", (2e-9, 1e-9), "down")


def test_folders_and_messages_know_a_new_format(made_up):
    other = made_up.with_name("other.txt")
    other.write_text("hello")
    made_up.with_name("cut.made").write_bytes(b"Made up of curves")
    left_out = LeftOut()
    places = find_files([made_up.parent], left_out=left_out)
    assert [place.path.name for place in places] == ["a.made", "cut.made"]
    assert list(left_out.files) == [other]
    with pytest.raises(
        ScanError, match=r"Known: Nanonis \(\.sxm\), .*, Made up \(\.made\), what"
    ):
        read_scan(other)
    with pytest.raises(DatasetError, match=r"is a microscope's file, Made up \(\.made\)"):
        load_dataset(made_up)


def test_the_page_of_formats_shows_the_table():
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    table = page.split("| tested with |")[1].split("\n\n")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.strip().splitlines()[1:]
    ]
    shown = {title: (suffix, read_by) for title, suffix, _, read_by, _ in rows}
    assert list(shown) == list(dict.fromkeys(shown))
    assert shown.keys() == {row.title for row in FORMATS.values()}
    for row in FORMATS.values():
        suffixes, read_by = shown[row.title]
        assert suffixes == ", ".join(row.suffixes)
        assert re.findall(r"`\[(\w+)\]`", read_by) == [row.extra] * bool(row.extra)


def test_extras_of_formats_can_be_installed():
    config = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for extra in {row.extra for row in FORMATS.values()} - {""}:
        assert re.search(rf"^{extra} =", config, re.MULTILINE)


def test_suffixes_that_claim_a_scan_belong_to_one_title():
    claims = [(suffix, row.title) for row in FORMATS.values() for suffix in row.claims]
    assert all(suffix == suffix.lower() for suffix, _ in claims)
    assert len(dict(claims)) == len(set(claims))


def test_a_file_whose_suffix_claims_a_scan_is_not_passed_over(tmp_path):
    for name in ("film.flm", "old.SM2", "notes.txt"):
        (tmp_path / name).write_bytes(b"hello")
    left_out = LeftOut()
    places = list(find_files([tmp_path], left_out=left_out))
    assert {place.path.name: place.named for place in places} == {
        "film.flm": True,
        "old.SM2": True,
    }
    assert [path.name for path in left_out.files] == ["notes.txt"]


def test_readers_are_imported_when_they_are_needed(tmp_path):
    (tmp_path / "a.sxm").write_bytes(sxm({"Z": ("m", HEIGHTS, None)}))
    code = (
        "import sys; from stm_keras.readers import read_scan\n"
        f"formats = {sorted({row.module for row in FORMATS.values()})}\n"
        "loaded = lambda: [n for n in formats if f'stm_keras.readers.{n}' in sys.modules]\n"
        "assert not loaded(), loaded()\n"
        f"read_scan({str(tmp_path / 'a.sxm')!r})\n"
        "assert loaded() == ['nanonis'], loaded()\n"
        "assert not {'h5py', 'PIL', 'scipy', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
