"""`stm-keras predict` of folders, with the shipped model and without Keras."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, SHARED, check_error, lattice_scans, stm
from PIL import Image
from scan_files import sxm

from stm_keras.data.dataset import CLASSES
from stm_keras.inference.verdict import FADED
from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.generate import simulate

pytestmark = ONCE  # no backend changes what is tested here

pytest.importorskip("onnxruntime")

SCANS = lattice_scans([0, 2, 3]) * 1e-12
LIVE = ["line", "verdict", "class", "probabilities", "confidence", "change"]
LIVE += ["change_line", "unsure", "unknown_surface", "unknown_size"]
LIVE += ["offset_step", "slope", "context"]


def write(folder, name="a.sxm", number=0, nm=5.0, slow="down", lines=None):
    heights = SCANS[number] if lines is None else SCANS[number][:lines]
    size = (nm * 1e-9, nm * 1e-9 * len(heights) / 128)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(sxm({"Z": ("m", heights, heights)}, slow, size=size))
    return folder / name


def records(*arguments, code=0):
    result = stm("predict", *arguments, "--json")
    assert result.exit_code == code, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path):
    """Two good scans, a damaged one, and what is none."""
    folder = tmp_path / "session"
    write(folder, "a.sxm")
    whole = write(folder, "deep/c.sxm", 2, slow="up").read_bytes()
    (folder / "b.sxm").write_bytes(whole[:-5])
    (folder / "notes.txt").write_text("hello")
    return folder


PROGRAM = """
import sys
from stm_keras.cli.main import main
main({arguments!r}, standalone_mode=False)
heavy = {{'keras', 'tensorflow', 'torch', 'jax', 'onnx', 'h5py', 'pydantic', 'rich', 'scipy',
         'numpy.ma', 'sklearn', 'matplotlib', 'PIL', 'access2thematrix'}}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def loaded_by(*arguments):
    """Run a command in a process of its own and list what it loaded that takes time."""
    program = PROGRAM.format(arguments=[str(argument) for argument in arguments])
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1], done.stdout


def test_a_scan_file_is_judged_without_keras_and_all_else_that_is_slow(tmp_path):
    path = write(tmp_path)
    loaded, out = loaded_by("predict", path, "--json")
    assert loaded == "[]"
    assert json.loads(out)["class"] in CLASSES
    assert loaded_by("predict", tmp_path, "--report", tmp_path / "a.html")[0] == (
        "['PIL', 'numpy.ma']"
    )


def test_a_folder_is_judged_and_what_is_broken_is_listed(folder):
    found = records(folder, code=3)
    names = [record["path"].removeprefix(f"{folder}/") for record in found]
    assert names == ["a.sxm", "b.sxm", "deep/c.sxm"]
    assert [record["error"] is None for record in found] == [True, False, True]
    assert [record["lines"] for record in found] == [128, None, 128]


def test_a_list_on_standard_input_is_judged(folder):
    from click.testing import CliRunner

    from stm_keras.cli.main import main

    text = f"{folder / 'a.sxm'}\n{folder / 'deep'}\n"
    result = CliRunner().invoke(main, ["predict", "-", "--json"], input=text)
    assert result.exit_code == 0, result.stderr
    paths = [json.loads(line)["path"] for line in result.stdout.splitlines()]
    assert paths == [str(folder / "a.sxm"), str(folder / "deep" / "c.sxm")]


def test_the_table_lists_all_and_sums_up(folder, monkeypatch):
    result = stm("predict", folder)
    assert result.exit_code == 3
    head, *rows, summary = result.stdout.splitlines()
    assert head.split() == ["file", "verdict", "sure", "lines"]
    assert len(rows) == 3
    assert "not judged" in rows[1]
    assert summary.startswith("3 scans: ")
    assert summary.endswith("; 1 not judged")
    assert "\x1b" not in result.stdout
    assert result.stderr.count("Error: ") == 1
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = stm("predict", folder).stdout
    assert "\x1b[31mnot judged" in coloured


SURE = {"unsure": {"threshold": 0.0}, "unknown": {"threshold": 1.0}}
UNSURE = {**SURE, "unsure": {"threshold": 1.1}}
STRANGE = {"unsure": {"threshold": 1.1}, "unknown": {"threshold": -0.1}}
ACTS = {  # --fail-on: facts and nm of scans that it acts on
    "defects": [(SURE, 5)],
    "rows": [],
    "unsure": [(UNSURE, 5)],
    "unknown": [(STRANGE, 5), (STRANGE, 200), (UNSURE, 200), (SURE, 200)],
}


@pytest.mark.parametrize("fail_on", ACTS)
@pytest.mark.filterwarnings("ignore:.*is outside what the model was trained on")
def test_fail_on_acts_on_the_verdict_alone(tmp_path, facts, fail_on):
    cases = [(about, nm) for about in (SURE, UNSURE, STRANGE) for nm in (5, 200)]
    for about, nm in cases:
        facts(**about)
        noise = write(tmp_path, "noise.sxm", 2, nm)
        (said,) = records(noise)
        assert said["class"] == "generic defects"  # stays what the network says
        result = stm("predict", noise, "--fail-on", fail_on)
        assert result.exit_code == 10 * ((about, nm) in ACTS[fail_on]), said["verdict"]
        assert result.stdout


def test_fail_on_may_be_repeated_and_a_bad_file_ends_with_three(folder, tmp_path, facts):
    facts(**SURE)
    noise = write(tmp_path, "noise.sxm", 2)
    some = ["--fail-on", "rows", "--fail-on", "defects"]
    assert stm("predict", noise, *some).exit_code == 10
    assert stm("predict", noise, folder / "b.sxm", *some).exit_code == 3
    assert stm("predict", folder, "--fail-on", "defects").exit_code == 3


def test_fail_on_needs_a_class_that_the_model_knows(tmp_path, facts):
    facts(classes=list("abcd"))
    result = stm("predict", write(tmp_path), "--fail-on", "rows")
    check_error(
        result,
        2,
        "`--fail-on rows`: the model has no class 'rows'. Give one of its classes, a, b",
    )
    facts(classes=list("abcd"), **SURE)
    codes = [
        stm("predict", write(tmp_path), *("--fail-on", name)).exit_code for name in "abcd"
    ]
    assert sorted(codes) == [0, 0, 0, 10]


@pytest.mark.filterwarnings("always:.*outside what the model was trained on")
def test_a_large_scan_is_judged_in_tiles_as_well(tmp_path):
    large = np.kron(SCANS[0], np.ones((2, 2)))
    data = sxm({"Z": ("m", large, large)}, size=(9e-8, 9e-8))
    (tmp_path / "large.sxm").write_bytes(data)
    (record,) = records(tmp_path / "large.sxm")
    assert list(record)[-1] == "tiles"
    assert record["verdict"] == "unknown size"
    assert {tile["unknown_size"] for tile in record["tiles"]} == {False}
    places = [(tile["row"], tile["column"]) for tile in record["tiles"]]
    assert places == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert record["tiles"][3]["nm"] == [45, 45, 45, 45]
    assert record["tiles"][2]["lines"] == [128, 256]
    result = stm("predict", tmp_path / "large.sxm")
    assert "90 nm wide, trained on 3 to 80 nm (as Gordon et al. 2020" in result.stderr
    table = result.stdout
    assert "45 x 45 nm at (0, 45) nm" in table
    assert "90 nm wide, trained on 3 to 80 nm" in table
    text = stm("predict", tmp_path / "large.sxm", "--csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["tile"] for row in rows] == ["", "0 0", "0 1", "1 0", "1 1"]
    (small,) = records(write(tmp_path, "small.sxm"))
    assert "tiles" not in small


def test_every_line_gets_a_verdict(tmp_path):
    path = write(tmp_path, lines=20)
    (record,) = records(path, "--every-line")
    assert record["lines"] == 20
    assert [list(line) for line in record["every_line"]] == [LIVE] * 20
    assert [line["line"] for line in record["every_line"]] == list(range(20))
    last = record["every_line"][-1]
    assert last["class"] == record["class"]
    given, live = (np.array(list(r["probabilities"].values())) for r in (record, last))
    np.testing.assert_allclose(live, given, atol=2e-3)
    table = stm("predict", path, "--every-line").stdout
    assert table.count("  line ") == 20
    assert " pm, slope " in table
    rows = list(
        csv.DictReader(io.StringIO(stm("predict", path, "--every-line", "--csv").stdout))
    )
    assert [row["line"] for row in rows] == ["", *map(str, range(20))]


def test_a_model_of_whole_scans_has_no_verdict_for_every_line(model_file, tmp_path):
    result = stm("predict", model_file, write(tmp_path), "--every-line")
    check_error(result, 4, "judges whole scans")
    assert result.stdout == ""


def test_a_name_that_leaves_no_room_for_an_ending_is_shortened(tmp_path):
    names = [f"{'a' * 250}.sxm", f"{'a' * 249}b.sxm", "b.sxm"]
    for name in names:
        write(tmp_path / "in", name)
    result = stm("predict", tmp_path / "in", "--pictures", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    drawn = sorted(len(path.name) for path in (tmp_path / "out").iterdir())
    assert drawn == [len("b.sxm.png"), 204, 204]


@pytest.mark.figures
def test_pictures_are_drawn_one_a_scan(folder, tmp_path):
    pytest.importorskip("matplotlib")
    again = write(folder, "deep/a.sxm", 1, lines=70)
    result = stm("predict", folder, "--pictures", tmp_path / "out")
    assert result.exit_code == 3
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.sxm.png", "c.sxm.png", "deep-a.sxm.png"]
    picture = np.asarray(Image.open(tmp_path / "out" / "a.sxm.png").convert("RGB"))
    assert picture.shape[0] > 500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 500
    again = stm("predict", folder, "--pictures", tmp_path / "out")
    check_error(again, 1, "holds pictures already. Add --overwrite")
    assert again.stdout == ""
    assert (
        stm(
            "predict", folder / "a.sxm", "--pictures", tmp_path / "out", "--overwrite"
        ).exit_code
        == 0
    )


def test_the_report_is_one_file_that_holds_everything(folder, tmp_path):
    odd = folder / "<b>&.sxm"
    write(folder, odd.name, 1)
    result = stm("predict", folder, "--report", tmp_path / "r.html")
    assert result.exit_code == 3
    page = (tmp_path / "r.html").read_text()
    assert "<h1>4 scans</h1>" in page
    assert page.count("<img src=") == page.count("data:image/jpeg;base64,") == 3
    assert "http" not in page
    assert "<b>&.sxm" not in page
    assert "&lt;b&gt;&amp;.sxm" in page
    assert "is cut short" in page
    for name in CLASSES:
        assert name.replace("/", "/<wbr/>") in page
    table = page[page.index("<tbody>") :]
    assert table.count("<tr ") == 4
    shown = [r["verdict"] in (r["class"], "unsure") for r in records(folder, code=3)]
    assert table.count("<polygon ") == sum(shown) * len(CLASSES)
    again = stm("predict", folder, "--report", tmp_path / "r.html")
    check_error(again, 1, "exists already. Add --overwrite")
    assert again.stdout == ""


@pytest.mark.skipif(not (SHARED / "spm").exists(), reason="the shared scans are not here")
@pytest.mark.filterwarnings("ignore")
def test_the_folder_of_real_scans_is_judged():
    found = records(SHARED / "spm", code=3)
    bad = {
        record["path"].rsplit("/", 1)[1]: record["error"]
        for record in found
        if record["error"]
    }
    assert "img_0246_CORRUPT_crlf.sxm" in bad
    for name in bad.keys() - {"img_0246_CORRUPT_crlf.sxm"}:  # read with that extra
        assert ".[gwyddion]" in bad[name], name
    assert len(found) == 18
    tiled = {record["path"].rsplit("/", 1)[1] for record in found if "tiles" in record}
    assert tiled == {"20201111--4_1.Z_mtrx", "top-1.top"} - bad.keys()


@pytest.fixture(scope="module")
def in_a_row(tmp_path_factory):
    """A folder of two scans, one after the other, of the second 40 of 128 lines."""
    made = simulate(2, 5, SimulationConfig(p_tip_change=0, p_partial=0))
    folder = tmp_path_factory.mktemp("day")
    for number, heights in enumerate(made.images * 1e-12):
        heights[128 - 88 * number :] = np.nan
        entries = {"REC_DATE": "01.12.2026", "REC_TIME": f"10:0{number}:00"}
        scan = sxm({"Z": ("m", heights, None)}, size=(2e-8, 2e-8), **entries)
        (folder / f"{number}.sxm").write_bytes(scan)
    return folder


def test_a_scan_with_few_lines_gets_a_second_verdict_with_those_before(in_a_row):
    first, second = records(in_a_row)
    assert first["context"]["absent"] == FADED
    assert second["context"]["scans"] == 1
    assert second["context"]["class"] in CLASSES
    assert second["context"]["probabilities"] != second["probabilities"]
    rows = list(csv.DictReader(io.StringIO(stm("predict", in_a_row, "--csv").stdout)))
    names = ("verdict", "class", "confidence", "scans", "absent")
    assert list(rows[1])[-5:] == [f"context_{name}" for name in names]
    assert rows[1]["context_verdict"] == second["context"]["verdict"]
    assert rows[0]["context_absent"] == FADED
    table = stm("predict", in_a_row).stdout.splitlines()
    assert f"with the scans before: {second['context']['verdict']}" in table[2]
    assert "with the scans before" not in table[1]


def test_without_context_there_is_one_verdict_and_it_is_the_same(in_a_row):
    both, alone = records(in_a_row), records(in_a_row, "--no-context")
    assert [{**each, "context": None} for each in both] == [
        {**each, "context": None} for each in alone
    ]
    assert not any("context" in each for each in alone)
    for way in ("--csv", "--every-line"):
        assert (
            "with the scans before"
            not in stm("predict", in_a_row, "--no-context", way).stdout
        )
    assert "context" not in stm("predict", in_a_row, "--no-context", "--csv").stdout


def test_each_of_the_first_lines_is_judged_with_the_scans_before(in_a_row):
    whole = records(in_a_row, "--every-line")[1]
    told = [line["context"] for line in whole["every_line"]]
    assert not [each for each in told if each["verdict"] is None]  # from the first line on
    assert [each["verdict"] for each in whole["every_line"]][:8].count(None) == 7
    assert told[-1]["verdict"] == whole["context"]["verdict"]
    text = stm("predict", in_a_row, "--every-line").stdout
    assert text.count("with the scans before") == 41
