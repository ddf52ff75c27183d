"""`stm-keras predict` of scans that show nothing: not judged, whatever is asked for."""

import csv
import io
import json

import h5py
import numpy as np
import pytest
from helpers import ONCE, lattice_scans, stm
from PIL import Image
from scan_files import sxm

from stm_keras.data.dataset import CLASSES

pytestmark = ONCE  # no backend changes what is tested here

pytest.importorskip("onnxruntime")

ROW, COLUMN = np.mgrid[:64, :64]
SURFACES = {
    "zeros": np.zeros((64, 64)),
    "constant": np.full((64, 64), 0.3),
    "plane": 0.1 + (0.7 * ROW + 3 * COLUMN) / 300,
    "plane through 0": (0.7 * ROW - 3 * (COLUMN - 29.7)) / 300,
}


def write_sxm(path, surface):
    heights = surface * 1e-9
    path.write_bytes(sxm({"Z": ("m", heights, heights)}, size=(8e-9, 8e-9)))


WRITERS = {  # name of the file: how it is written
    "a.npy": lambda path, surface: np.save(path, surface),
    "b.npy": lambda path, surface: np.save(path, surface.astype("f4")),
    "c.npy": lambda path, surface: np.save(path, np.round(surface * 9000).astype("i2")),
    "a.png": lambda path, surface: Image.fromarray(
        np.round(surface * 100 + 120).astype("u1")
    ).save(path),
    "a.sxm": write_sxm,
}
REASON = "no line shows more than a straight slope, so there is nothing to judge"


@pytest.fixture(params=SURFACES)
def blank(request, tmp_path):
    """Files of one blank scan, stored in each way."""
    for name, write in WRITERS.items():
        write(tmp_path / name, SURFACES[request.param])
    return [tmp_path / name for name in WRITERS]


def check(record):
    """See that a record says of a scan that it was not judged."""
    assert record["verdict"] == "not judged"
    assert record["class"] is record["probabilities"] is record["confidence"] is None
    assert record["change_lines"] is record["unsure"] is record["unknown_surface"] is None
    assert record["error"].endswith(f"{REASON}.")
    assert record["lines"] == 0


def test_programs_are_told_and_nothing_acts(blank):
    asked = ("--fail-on", "defects", "--fail-on", "rows", "--fail-on", "unsure")
    result = stm("predict", *blank, "--json", *asked, "--fail-on", "unknown")
    assert result.exit_code == 3
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == len(WRITERS)
    for record in records:
        check(record)
    assert result.stderr.count("Error: ") == len(WRITERS)


def test_keras_judges_no_blank_scan(model_file, blank):
    result = stm("predict", model_file, *blank, "--json", "--fail-on", "defects")
    assert result.exit_code == 3
    for line in result.stdout.splitlines():
        check(json.loads(line))


def test_tables_say_so_without_a_class(blank):
    table = stm("predict", *blank, "--fail-on", "defects")
    assert table.exit_code == 3
    *_, summary = table.stdout.splitlines()
    assert summary == f"{len(WRITERS)} scans: {len(WRITERS)} not judged"
    assert "%" not in table.stdout
    assert not [name for name in CLASSES if name in table.stdout]
    text = stm("predict", *blank, "--csv", "--fail-on", "defects")
    assert text.exit_code == 3
    for row in csv.DictReader(io.StringIO(text.stdout)):
        assert (row["verdict"], row["class"], row["confidence"]) == ("not judged", "", "")
        assert {row[name] for name in CLASSES} == {""}
        assert REASON in row["error"]


def test_every_line_has_no_verdict(blank):
    path = blank[-1]
    result = stm("predict", path, "--every-line", "--json")
    assert result.exit_code == 3
    record = json.loads(result.stdout)
    check(record)
    assert [line["line"] for line in record["every_line"]] == list(range(64))
    for name in (
        "verdict",
        "class",
        "probabilities",
        "confidence",
        "change",
        "change_line",
    ):
        assert {line[name] for line in record["every_line"]} == {None}
    table = stm("predict", path, "--every-line")
    assert table.exit_code == 3
    assert table.stdout.count("  line ") == 64
    assert "%" not in table.stdout
    rows = list(
        csv.DictReader(io.StringIO(stm("predict", path, "--every-line", "--csv").stdout))
    )
    assert [row["verdict"] for row in rows] == ["not judged"] + [""] * 64


def test_pages_and_pictures_are_drawn_all_the_same(blank, tmp_path):
    pytest.importorskip("matplotlib")
    page, pictures = tmp_path / "a.html", tmp_path / "pictures"
    result = stm("predict", *blank, "--report", page, "--pictures", pictures)
    assert result.exit_code == 3
    text = page.read_text()
    table = text[text.index("<tbody>") : text.index("</tbody>")]
    rows = table.split("</tr>")[:-1]
    assert len(rows) == len(WRITERS)
    assert all(REASON in row and "not judged</td>" in row for row in rows)
    assert "%" not in table
    assert "<polygon" not in table
    assert f"not judged</span><strong>{len(WRITERS)}</strong>" in text
    assert not [name for name in CLASSES if name in table]
    assert len(list(pictures.iterdir())) == len(WRITERS)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("kind", ["h5", "npz"])
def test_a_blank_scan_of_a_dataset_ends_with_three(tmp_path, kind, surface):
    scans = lattice_scans([2, 2, 2]).astype("f4")
    row, column = np.mgrid[:128, :128]
    scans[1] = np.pad(SURFACES[surface], ((0, 64), (0, 64)), "edge")
    if "plane" in surface:
        scans[1] = row * 0.7 - 3 * (column - 99.7)
    path = tmp_path / f"scans.{kind}"
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file["images"] = scans
    else:
        np.savez(path, images=scans)
    result = stm("predict", path, "--json", "--fail-on", "defects", "--fail-on", "unsure")
    assert result.exit_code == 3
    first, blank, third = (json.loads(line) for line in result.stdout.splitlines())
    assert [first["index"], blank["index"], third["index"]] == [0, 1, 2]
    check(blank)
    assert None not in (first["class"], third["class"])
    assert (first["lines"], third["lines"]) == (128, 128)
