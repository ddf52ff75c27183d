"""The folder of a sweep: started, read again, refused; and the table of its runs."""

import json

import pytest
from helpers import ONCE

from stm_keras.errors import InputError, OutputError, UsageError
from stm_keras.experiments.collect import mean_rows, run_state, sweep_rows
from stm_keras.experiments.plan import make_sweep
from stm_keras.experiments.queue import QueuedJob
from stm_keras.experiments.sweep import SweepFolder

pytestmark = ONCE  # no backend changes what is tested here

GRID = {"grid": {"train.weight_decay": (0.01, 0.05)}, "seeds": 2}
NAMES = [
    f"000{n}-weight_decay-{d}-seed-{s}"
    for n, (s, d) in enumerate([(0, 0.01), (0, 0.05), (1, 0.01), (1, 0.05)])
]
HEAD = "epoch,loss,auroc,balanced_accuracy,val_loss,val_auroc,val_balanced_accuracy"


@pytest.fixture
def folder(tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    folder.start(make_sweep(GRID))
    return folder


def finish(folder, name, validation, test):
    run = folder.file("runs", name)
    run.mkdir()
    (run / "history.csv").write_text(
        f"{HEAD},learning_rate,seconds\n1,1,0.5,0.25,1,0.5,0.25,0.1,2\n"
        f"2,1,0.5,0.25,1,{validation},0.75,0.1,2\n"
    )
    (run / "evaluation.json").write_text(
        json.dumps({"auroc": test, "balanced_accuracy": 0.5})
    )


def test_a_sweep_read_again_is_the_same_and_may_go_on(folder):
    sweep = folder.sweep()
    assert folder.write_jobs(sweep) == NAMES
    folder.file("logs", "one.log").write_text("begun\n")
    folder.start(sweep)
    folder.start(make_sweep({**GRID, "concurrent": 3, "sbatch": ["-p", "gpu"]}))
    assert folder.sweep().concurrent == 3
    lines = folder.file("manifest.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == NAMES
    assert folder.file("common.sh").read_text().count("run_and_requeue()") == 1


def test_another_sweep_in_the_same_folder_is_refused_once_one_was_begun(folder):
    folder.start(make_sweep({**GRID, "seeds": 3}))  # nothing ran yet
    folder.file("logs", "one.log").write_text("begun\n")
    with pytest.raises(UsageError, match="holds another sweep, different in seeds"):
        folder.start(make_sweep(GRID))
    other = make_sweep({**GRID, "seeds": 3, "settings": ("train.epochs=5",)})
    with pytest.raises(UsageError, match=r"different in train\.epochs"):
        folder.start(other)


def test_a_folder_that_is_not_a_sweep_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is not empty and not a sweep"):
        SweepFolder(tmp_path).start(make_sweep(GRID))
    with pytest.raises(InputError, match=r"is not a sweep \(no sweep.json\)"):
        SweepFolder(tmp_path).sweep()
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(InputError, match=r"sweep.json: is damaged"):
        SweepFolder(tmp_path).sweep()


@pytest.mark.parametrize(
    ("log", "state"),
    [
        ("", ("missing", 0, "")),
        ("Split: p2\n", ("begun", 0, "")),
        ("start 0 of job 7 ended with exit code 75\n", ("interrupted", 1, "")),
        ("ended with exit code 75\nended with exit code 130\n", ("interrupted", 2, "")),
        ("Error: no.\nended with exit code 3\n", ("failed", 1, "Error: no.")),
        ("Killed\nended with exit code 137\n", ("failed", 1, "exit code 137")),
    ],
)
def test_the_log_tells_how_far_a_run_is(log, state, folder):
    if log:
        folder.log(NAMES[1]).write_text(log)
    run = folder.runs(folder.sweep())[1]
    assert run_state(run, folder.log(run.name)) == state
    queued = QueuedJob("7_1", "queued")
    assert run_state(run, folder.log(run.name), queued)[0] == "queued"


def test_rows_come_best_first_and_seeds_are_averaged(folder):
    sweep = folder.sweep()
    finish(folder, NAMES[0], 0.8, 0.7)
    finish(folder, NAMES[2], 0.9, 0.75)
    finish(folder, NAMES[3], 0.95, 0.6)
    rows = sweep_rows(folder, sweep, {NAMES[1]: QueuedJob("7_1", "running")})
    assert [row["run"] for row in rows] == [NAMES[3], NAMES[2], NAMES[0], NAMES[1]]
    assert [row["state"] for row in rows] == ["done", "done", "done", "running"]
    assert rows[0]["val_auroc"] == 0.95
    assert (rows[0]["epochs"], rows[0]["seconds"]) == (2, 4)
    assert rows[3]["test_auroc"] is None
    first, second = mean_rows(rows, sweep)
    assert (first["train.weight_decay"], first["runs"]) == (0.05, 1)
    assert first["val_auroc_sd"] is None
    assert second["val_auroc"] == pytest.approx(0.85)
    assert second["val_auroc_sd"] == pytest.approx(0.0707, abs=1e-4)
    assert second["test_auroc"] == pytest.approx(0.725)
