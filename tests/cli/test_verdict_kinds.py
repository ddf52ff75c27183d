"""`stm-keras predict` of a scan of each verdict: what a table, a page and a picture say."""

import csv
import io
import json
import re

import numpy as np
import pytest
from helpers import ONCE, check_error, lattice_scans, stm
from scan_files import sxm

from stm_keras.data.dataset import CLASSES

pytest.importorskip("onnxruntime")
pytestmark = [
    ONCE,
    pytest.mark.filterwarnings(
        "ignore:.*is outside what the model was trained on",
        "ignore:.*is higher than wide",
    ),
]

KNOWN = {"unsure": {"threshold": 0.0}, "unknown": {"threshold": 1.0}, "min_lines": 1}
STRANGE = {"unsure": {"threshold": 1.1}, "unknown": {"threshold": -0.1}, "min_lines": 1}
KINDS = {  # verdict: facts of the model, nm
    "class": (KNOWN, 5),
    "unsure": ({**KNOWN, "unsure": {"threshold": 1.1}}, 5),
    "unknown surface": (STRANGE, 5),
    "unknown size": (STRANGE, 200),
}


def write(folder, nm, lines=128, name="a.sxm"):
    heights = lattice_scans([2])[0] * 1e-12
    heights[lines:] = np.nan
    data = sxm({"Z": ("m", heights, None)}, size=(nm * 1e-9, nm * 1e-9))
    (folder / name).write_bytes(data)
    return folder / name


@pytest.fixture(params=KINDS)
def scan(request, tmp_path, facts):
    """The verdict that is wanted, and a scan that gets it."""
    about, nm = KINDS[request.param]
    facts(**about)
    return request.param, write(tmp_path, nm)


def named(text):
    return [name for name in CLASSES if name in text]


def test_the_last_of_what_speaks_against_a_class_is_the_verdict(scan):
    wanted, path = scan
    record = json.loads(stm("predict", path, "--json").stdout)
    assert record["class"] in CLASSES  # what the network says, whatever the verdict is
    assert record["confidence"] == record["probabilities"][record["class"]]
    verdict = record["class"] if wanted == "class" else wanted
    assert record["verdict"] == verdict
    assert record["error"] is None
    text = stm("predict", path, "--csv").stdout
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["verdict"], row["class"]) == (verdict, record["class"])
    for name in ("unsure", "unknown_surface", "unknown_size"):
        assert row[name] == str(record[name]).lower()


def test_a_table_names_a_class_only_where_it_is_worth_something(scan):
    wanted, path = scan
    result = stm("predict", path, "--every-line")
    assert result.exit_code == 0
    _, row, *lines, summary = result.stdout.splitlines()
    assert len(lines) == 128
    if wanted in ("class", "unsure"):
        assert named(row)
        assert re.search(r"\d%", row)
        for line in lines:
            assert named(line)
    else:
        assert f"  {wanted}  " in row
        assert not named(result.stdout)
        assert not re.search(r"\d ?%", result.stdout)
    if wanted == "class":
        assert re.fullmatch(f"1 scan: 1 ({'|'.join(CLASSES)})", summary)
    else:
        assert summary == f"1 scan: 1 {wanted}"


def test_a_report_shows_a_class_only_where_it_is_worth_something(scan, tmp_path):
    wanted, path = scan
    page = tmp_path / "a.html"
    assert stm("predict", path, "--report", page).exit_code == 0
    text = page.read_text()
    cards = dict(re.findall(r"</i>([^\n]*)</span><strong>(\d+)<", text))
    (row,) = re.findall(r"<tr id=.*?</tr>", text, re.DOTALL)
    if wanted in ("class", "unsure"):
        assert named(row)
        assert re.search(r"\d\s%", row)
        assert row.count("<polygon") == len(CLASSES)
    else:
        assert not named(row)
        assert "%" not in row
        assert "<polygon" not in row
    counted = {name.replace("<wbr/>", "") for name, count in cards.items() if count != "0"}
    counted.discard("with a tip change")
    assert counted == (set(named(row)) if wanted == "class" else {wanted})


def test_counts_are_told_of_each_verdict(tmp_path, facts):
    facts(**KNOWN)
    for number, nm in enumerate((5, 200, 300, 5)):
        write(tmp_path, nm, name=f"{number}.sxm")
    (tmp_path / "blank.sxm").write_bytes(
        sxm({"Z": ("m", np.zeros((64, 64)), None)}, size=(5e-9, 5e-9))
    )
    whole = write(tmp_path, 5, name="cut.sxm").read_bytes()
    (tmp_path / "cut.sxm").write_bytes(whole[:-9])
    result = stm("predict", tmp_path)
    assert result.exit_code == 3
    summary = result.stdout.splitlines()[-1]
    assert summary == "6 scans: 2 generic defects; 2 unknown size; 2 not judged"


def test_fewer_lines_than_the_model_needs_are_not_judged(tmp_path, facts):
    facts(**{**KNOWN, "min_lines": 16})
    short, enough = write(tmp_path, 5, 9, "a.sxm"), write(tmp_path, 5, 40, "b.sxm")
    asked = ("--fail-on", "defects", "--every-line")
    result = stm("predict", short, enough, "--json", *asked)
    assert result.exit_code == 3
    one, other = (json.loads(line) for line in result.stdout.splitlines())
    assert one["verdict"] == "not judged"
    assert one["class"] is one["probabilities"] is one["confidence"] is None
    assert one["change_lines"] is one["unsure"] is one["unknown_surface"] is None
    assert one["lines"] == 9
    assert "9 of the 16 lines that the model needs were recorded" in one["error"]
    assert {line["verdict"] for line in one["every_line"]} == {None}
    assert other["error"] is None
    said = [line["verdict"] is None for line in other["every_line"]]
    assert said == [True] * 15 + [False] * 25
    table = stm("predict", short)
    assert table.exit_code == 3
    assert not named(table.stdout)
    assert "%" not in table.stdout
    assert table.stdout.splitlines()[-1] == "1 scan: 1 not judged"
    page = tmp_path / "a.html"
    assert stm("predict", short, "--report", page).exit_code == 3
    (row,) = re.findall(r"<tr id=.*?</tr>", page.read_text(), re.DOTALL)
    assert "9 of the 16 lines" in row
    assert not named(row)


def test_a_lost_first_line_has_no_verdict_and_the_next_has_one(tmp_path, facts):
    facts(**KNOWN)
    heights = lattice_scans([2])[0] * 1e-12
    heights[0] = 0
    path = tmp_path / "a.sxm"
    path.write_bytes(sxm({"Z": ("m", heights, None)}, size=(5e-9, 5e-9)))
    record = json.loads(stm("predict", path, "--every-line", "--json").stdout)
    first, second = record["every_line"][:2]
    assert first["verdict"] is first["class"] is first["probabilities"] is None
    assert first["line"] == 0
    assert second["verdict"] in CLASSES
    table = stm("predict", path, "--every-line")
    assert table.exit_code == 0
    assert re.search(r"  line 0 +- +1\n", table.stdout)


def test_pixels_too_coarse_for_the_lattice_are_an_unknown_size(tmp_path, facts):
    facts(**KNOWN)
    heights = lattice_scans([2])[0] * 1e-12
    for nm, verdict in ((49, "rows"), (50, "unknown size")):  # 0.383 and 0.391 nm a pixel
        (tmp_path / "a.sxm").write_bytes(
            sxm({"Z": ("m", heights, None)}, size=(nm * 1e-9, nm * 1e-9))
        )
        result = stm("predict", tmp_path / "a.sxm", "--json", "--every-line")
        record = json.loads(result.stdout)
        assert (record["verdict"] == "unknown size") == (verdict == "unknown size")
        assert record["every_line"][-1]["verdict"] == record["verdict"]
    table = stm("predict", tmp_path / "a.sxm", "--fail-on", "defects", "--fail-on", "rows")
    assert table.exit_code == 0
    assert "0.39 nm a pixel: too coarse for a lattice of 0.768 nm" in table.stdout


@pytest.mark.filterwarnings(
    "ignore:.*(neither heights nor a tunnelling|there is no topography)"
)
def test_what_is_no_height_is_judged_only_by_its_name(tmp_path, facts):
    facts(**KNOWN)
    heights = lattice_scans([3])[0] * 1e-12
    for unit in ("deg", "V", "Hz"):
        (tmp_path / "a.sxm").write_bytes(sxm({"Phase": (unit, heights, None)}))
        result = stm("predict", tmp_path / "a.sxm", "--fail-on", "defects")
        check_error(
            result, 3, f"Phase forward down is in {unit}, neither heights", "--channel"
        )
        named = stm("predict", tmp_path / "a.sxm", "--channel", "Phase", "--json")
        assert json.loads(named.stdout)["class"] in CLASSES
    (tmp_path / "a.sxm").write_bytes(sxm({"Current": ("A", heights, None)}))
    assert stm("predict", tmp_path / "a.sxm").exit_code == 0


def test_a_few_lines_or_pixels_are_not_the_frame_of_a_scan(tmp_path):
    heights = lattice_scans([3])[0] * 1e-12
    for part in (heights[:, :9], heights[:9]):
        (tmp_path / "a.sxm").write_bytes(sxm({"Z": ("m", part, None)}))
        result = stm("predict", tmp_path / "a.sxm", "--fail-on", "defects")
        check_error(result, 3, "lines of", "pixels are not the frame of a scan")


def test_lines_of_a_dataset_say_how_many_were_recorded(tmp_path, facts):
    facts(**{**KNOWN, "min_lines": 8})
    scan = lattice_scans([1])[0]
    np.savez(tmp_path / "a.npz", images=np.stack([scan] * 4), lines=[128, 0, 7, 40])
    result = stm("predict", tmp_path / "a.npz", "--json")
    assert result.exit_code == 3
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["lines"] for record in told] == [128, 0, 7, 40]
    assert [record["verdict"] == "not judged" for record in told] == [
        False,
        True,
        True,
        False,
    ]
