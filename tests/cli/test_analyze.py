"""`stm-keras analyze`: best epochs, several runs, curves, damaged histories."""

import json
import shutil

import pytest
from helpers import ONCE, check_error, stm

from stm_keras.runs import COLUMNS

pytestmark = ONCE  # no backend changes what is tested here

HEAD = ",".join(COLUMNS)
HISTORY = (
    HEAD
    + """
1,1.5,0.6,0.4,1.4,0.7,0.5,0.001,2
2,1.0,0.8,0.6,1.1,0.9,0.7,0.001,2
3,0.5,0.9,0.8,1.3,0.8,0.75,0.0005,2
"""
)


@pytest.fixture
def runs(tmp_path):
    """Folders of two runs with three epochs each; the second is scored."""
    for name, best in (("a", 0.9), ("b", 0.95)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.toml").write_text(f'name = "{name}"\n')
        text = HISTORY.replace("2,1.0,0.8,0.6,1.1,0.9", f"2,1.0,0.8,0.6,1.1,{best}")
        (tmp_path / name / "history.csv").write_text(text)
    scores = {
        "auroc": 0.87,
        "balanced_accuracy": 0.61,
        "n": 32,
        "protocol": "p2",
        "ece": 0.1,
    }
    (tmp_path / "b" / "evaluation.json").write_text(json.dumps(scores))
    return tmp_path / "a", tmp_path / "b"


def test_one_run_shows_best_and_latest_epoch_of_each_score(runs):
    result = stm("analyze", runs[0])
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["score", "best_epoch", "best", "latest_epoch", "latest"]
    assert ["val_auroc", "2", "0.9", "3", "0.8"] in lines
    assert ["val_loss", "2", "1.1", "3", "1.3"] in lines
    assert ["val_balanced_accuracy", "3", "0.75", "3", "0.75"] in lines
    assert result.stdout.endswith("not scored on its test scans yet\n")


def test_a_scored_run_shows_its_test_scores(runs):
    last = stm("analyze", runs[1]).stdout.splitlines()[-1]
    assert last == "test: AUROC 0.87, balanced accuracy 0.61 (32 scans, P2)"


def test_a_run_that_was_trained_once_more_says_what_is_scored(runs):
    (runs[1] / "refit").mkdir()
    (runs[1] / "refit" / "best.keras").touch()
    told, last = stm("analyze", runs[1]).stdout.splitlines()[-2:]
    assert told.startswith("The epochs are those of the first training; ")
    assert last.startswith("test: AUROC 0.87")
    rows = json.loads(stm("analyze", *runs, "--json").stdout)
    assert {row["run"][-1]: row["test"] and row["test"]["refit"] for row in rows} == {
        "a": None,
        "b": True,
    }


def test_several_runs_are_a_table_with_the_best_first(runs):
    lines = [line.split() for line in stm("analyze", *runs).stdout.splitlines()]
    assert lines[0][:4] == ["run", "epochs", "best_epoch", "val_auroc"]
    assert lines[0][-2:] == ["test_auroc", "test_balanced_accuracy"]
    assert lines[1][:4] == [str(runs[1]), "3", "2", "0.95"]
    assert lines[1][-2:] == ["0.87", "0.61"]
    assert lines[2][:4] == [str(runs[0]), "3", "2", "0.9"]
    assert lines[2][-2:] == ["-", "-"]


def test_a_folder_of_runs_is_its_runs(runs):
    assert stm("analyze", runs[0].parent).stdout == stm("analyze", *runs).stdout


def test_json_is_a_list_with_an_object_for_each_run(runs):
    result = stm("analyze", *runs, "--json")
    assert result.stdout.count("\n") == 1
    b, a = json.loads(result.stdout)
    assert (a["run"], b["run"]) == tuple(map(str, runs))
    assert b["scores"]["val_auroc"] == {
        "best_epoch": 2,
        "best": 0.95,
        "latest_epoch": 3,
        "latest": 0.8,
    }
    assert (a["test"], b["test"]["protocol"]) == (None, "p2")
    assert [entry["run"] for entry in json.loads(stm("analyze", runs[0], "--json").stdout)]


def test_curves_are_a_picture_and_are_not_replaced_unasked(runs, tmp_path):
    picture = tmp_path / "new" / "curves.png"
    given = ["analyze", *runs, "--curves", picture]
    assert stm(*given).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    check_error(stm(*given), 1, f"{picture}: exists already. Add --overwrite")
    assert stm(*given, "--overwrite").exit_code == 0
    assert [path.name for path in picture.parent.iterdir()] == ["curves.png"]


def test_curves_of_another_format_are_refused(runs, tmp_path):
    given = ["analyze", runs[0], "--curves", tmp_path / "curves.pdf"]
    check_error(stm(*given), 2, "`--curves` writes PNG.", "curves.pdf")


@pytest.mark.smoke
def test_a_trained_run_can_be_analysed(trained_run):
    (row,) = json.loads(stm("analyze", trained_run, "--json").stdout)
    said = json.loads((trained_run / "evaluation.json").read_text())
    assert row["epochs"] == 2
    assert row["test"]["auroc"] == said["auroc"]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "holds no epoch"),
        ("epoch,loss\n", "holds no epoch"),
        ("loss\n1\n", "has no column `epoch`"),
        ("epoch,loss\n1,abc\n", "line 2, `loss` is not a number. Received: 'abc'."),
        ("epoch,loss\n1\n", "line 2 has 1 cells, the header 2."),
        (None, "does not exist"),
    ],
)
def test_a_damaged_history_is_named(runs, text, phrase):
    history = runs[0] / "history.csv"
    history.unlink()
    if text is not None:
        history.write_text(text)
    result = stm("analyze", runs[0])
    check_error(result, 3, f"{history}: ", phrase)
    assert result.stdout == ""


def test_a_run_that_cannot_be_read_does_not_keep_the_others_back(runs, tmp_path):
    result = stm("analyze", tmp_path / "none", *runs, "--json")
    check_error(result, 3, "none: is not a run (no config.toml).")
    assert len(json.loads(result.stdout)) == 2


def test_a_damaged_evaluation_is_named(runs):
    (runs[1] / "evaluation.json").write_text("{")
    check_error(stm("analyze", runs[1]), 3, "evaluation.json: is damaged")


def test_a_path_with_spaces_and_umlauts_is_fine(runs, tmp_path):
    odd = tmp_path / "Läufe vom 3. Mai" / "größer 原子"
    shutil.copytree(runs[1], odd)
    result = stm("analyze", runs[0], odd, "--curves", tmp_path / "ü b.png")
    assert result.exit_code == 0
    assert str(odd) in result.stdout


def test_a_folder_of_adapt_shows_its_scores_though_it_has_no_epochs(trained_run, tmp_path):
    adapted = shutil.copytree(trained_run, tmp_path / "adapted")
    (adapted / "history.csv").unlink()
    notes = {"start": "h_si100", "classes": ["a"], "hashes": []}
    (adapted / "adapt.json").write_text(json.dumps(notes))
    result = stm("analyze", adapted)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(
        f"{adapted}: adapted from another model, so there are no"
    )
    scores = json.loads((adapted / "evaluation.json").read_text())
    assert f"AUROC {scores['auroc']:.4g}" in result.stdout
    (row,) = json.loads(stm("analyze", adapted, "--json").stdout)
    assert (row["run"], row["epochs"]) == (str(adapted), 0)
    assert row["test"]["auroc"] == scores["auroc"]
    assert len(stm("analyze", adapted, trained_run).stdout.splitlines()) == 3
