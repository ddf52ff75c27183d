"""`stm-keras submit` where there is no SLURM; tests/slurm has one."""

import json

import pytest
from helpers import ONCE, TINY, check_error, stm

from stm_keras.locks import locked

pytestmark = ONCE  # no backend changes what is tested here

RUN = """
import json, pathlib, sys
words = sys.argv[1:]
print("Error: made up." if "0001" in str(words) else "fine")
if "0001" in str(words):
    sys.exit(3)
run = pathlib.Path(words[words.index("-o") + 1])
run.mkdir(parents=True)
(run / "history.csv").write_text("epoch,val_auroc,seconds\\n1,0.5,1\\n")
(run / "evaluation.json").write_text(json.dumps({"auroc": 0.5, "balanced_accuracy": 0.5}))
"""


@pytest.fixture
def asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))  # no sbatch
    return ["submit", "-o", "sweep", "--grid", "train.epochs=1,2", *TINY]


@pytest.fixture
def _quick_runs(tmp_path, monkeypatch):
    (tmp_path / "stm_keras.py").write_text(RUN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_dry_run_prints_what_would_be_queued_and_writes_nothing(asked, tmp_path):
    result = stm(*asked, "--dry-run", "--sbatch", "--gres=gpu:1 -t 5", "--jobs", 3)
    assert result.exit_code == 0, result.output
    first, one, two = result.stdout.splitlines()
    assert first.startswith("sbatch --parsable --array=0-1%3 --output=")
    assert " --gres=gpu:1 -t 5 " in first
    assert one.startswith("  0: stm-keras train ")
    assert "--set train.epochs=2 --seed 0" in two
    assert not (tmp_path / "sweep").exists()


def test_without_slurm_it_says_what_to_do(asked):
    check_error(stm(*asked), 2, "There is no sbatch here.")


@pytest.mark.usefixtures("_quick_runs")
def test_here_a_failed_run_is_named_and_only_it_is_made_again(asked, tmp_path):
    result = stm(*asked, "--local", 2)
    name = "0001-epochs-2-seed-0"
    check_error(result, 1, f"1 runs failed: {name}.", "stm-keras submit sweep")
    again = stm("submit", "sweep", "--local", 1, "--dry-run")
    assert [line.split(":")[0] for line in again.stdout.splitlines()] == [name]
    table = stm("analyze", "sweep", "-o", "table.csv", "--json")
    rows = {row["run"]: row for row in json.loads(table.stdout)["runs"]}
    assert rows[name]["state"] == "failed"
    assert rows[name]["error"] == "Error: made up."
    assert rows["0000-epochs-1-seed-0"]["state"] == "done"
    assert "0000-epochs-1-seed-0,done,1,0" in (tmp_path / "table.csv").read_text()
    shown = stm("analyze", "sweep").stdout
    assert f"{name}: Error: made up." in shown
    assert shown.endswith("1 done, 1 failed\n")


def test_a_sweep_file_says_the_same_as_options(asked, tmp_path):
    (tmp_path / "sweep.toml").write_text(
        'seeds = 2\nsbatch = ["-p", "gpu"]\n[grid]\n"train.epochs" = [1, 2]\n'
    )
    result = stm("submit", "--sweep", "sweep.toml", "-o", "other", "--dry-run")
    assert "--array=0-3%8" in result.stdout
    assert " -p gpu " in result.stdout


def test_of_two_that_run_one_sweep_the_second_is_told(asked, tmp_path):
    check_error(stm(*asked), 2, "There is no sbatch here.")  # the folder is there now
    with locked(tmp_path / "sweep" / ".lock", ""):
        told = "sweep: another process queues or runs this sweep. Wait for it."
        check_error(stm("submit", "sweep", "--local", 1), 1, told)
        assert stm("submit", "sweep", "--local", 1, "--dry-run").exit_code == 0


def test_what_makes_no_sense_is_refused_in_one_line(asked, tmp_path):
    check_error(stm("submit"), 2, "Say where the sweep goes: -o sweeps/NAME.")
    check_error(stm("submit", "-o", "x", "--grid", "train.epochs"), 2, "`--grid` takes")
    check_error(stm(*asked), 2, "There is no sbatch here.")  # the folder is there now
    changed = stm("submit", "sweep", "--seeds", 3)
    check_error(changed, 2, "is a sweep, whose runs are fixed", "Received: seeds")
    check_error(stm("analyze", "sweep", "--curves", "a.png"), 2, "SWEEP/runs/*")
    check_error(stm("analyze", tmp_path, "-o", "a.csv"), 2, "the table of one sweep")
