"""Sweeps as real job arrays: few at a time, what failed once more, and each task for itself."""

import json

import pytest
from helpers import ONCE, TINY, stm
from slurm_cluster import enter, wait_for

pytestmark = ONCE
SITE = """
stm_keras=(stm_or_not)
stm_or_not() {
    if [[ $* == *0001* && ! -e failed ]]; then
        until [ -e go ]; do sleep 0.1; done # else the second `submit` may find it failed
        touch failed
        echo "Error: made up."
        return 3
    fi
    "$PYTHON" -m stm_keras "$@"
}
"""
STAND_IN = """
stm_keras=(work)
work() { # as `train` does: asked to leave it exits with 75, and the next start ends it
    trap 'exit 75' USR1 TERM
    echo "+ $name" >>"$sweep/events"
    if [ -e "$sweep/$name.begun" ]; then return; fi
    touch "$sweep/$name.begun"
    until [ -e "$sweep/$name.end" ]; do sleep 0.1; done
    return "$(<"$sweep/$name.end")"
}
"""
QUICK = """
stm_keras=(work)
work() {
    echo "+ $name" >>"$sweep/events"
    sleep 0.7
    echo "- $name" >>"$sweep/events"
    if [[ $name == 0001* && ! -e failed ]]; then touch failed; return 3; fi
    mkdir -p "$sweep/runs/$name"
    echo "{}" >"$sweep/runs/$name/evaluation.json"
}
"""


@pytest.fixture
def _login_node(slurm, tmp_path, monkeypatch):
    enter(slurm, tmp_path, monkeypatch, SITE)


def rows(folder):
    found = json.loads(stm("analyze", folder, "--json").stdout)
    return {row["run"]: row for row in found["runs"]}


def states(folder):
    return {name: row["state"] for name, row in sorted(rows(folder).items())}


@pytest.mark.usefixtures("_login_node")
def test_an_array_runs_and_only_what_failed_is_queued_again(dataset_file, tmp_path):
    grid = ["--grid", "train.learning_rate=0.01,0.003", "--seeds", 1]
    given = ["submit", "-o", "sweep", "--data", dataset_file, *grid, *TINY]
    result = stm(
        *given, "--set", "train.epochs=1", "--sbatch", "-c2", "--jobs", 2, "--json"
    )
    assert result.exit_code == 0, result.stderr
    queued = json.loads(result.stdout)
    names = ["0000-learning_rate-0.01-seed-0", "0001-learning_rate-0.003-seed-0"]
    assert queued["queued"] == names
    assert len(queued["jobs"]) == 1
    assert set(states("sweep").values()) <= {"queued", "running", "done", "failed"}
    assert "all 2 are done or queued" in stm("submit", "sweep").stdout
    (tmp_path / "go").touch()
    wait_for(lambda: states("sweep")[names[1]] == "failed", 60, lambda: states("sweep"))
    assert rows("sweep")[names[1]]["error"] == "Error: made up."
    wait_for(lambda: states("sweep")[names[0]] == "done", 120, lambda: states("sweep"))
    again = json.loads(stm("submit", "sweep", "--json").stdout)
    assert again["queued"] == names[1:]
    wait_for(lambda: states("sweep")[names[1]] == "done", 120, lambda: states("sweep"))
    row = rows("sweep")[names[1]]
    assert row["train.learning_rate"] == 0.003
    assert 0 <= row["test_auroc"] <= 1
    assert row["epochs"] == 1


def submit(*words):
    """Queue runs and return the numbers of the jobs."""
    result = stm("submit", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["jobs"]


def events(folder):
    """Return what stand-ins wrote as they began and ended: list of "+" or "-", and a run."""
    path = folder / "events"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_of_an_array_only_the_task_that_was_asked_goes_on_and_a_cancelled_one_stays_so(
    slurm, tmp_path, monkeypatch
):
    """The last task of an array bears the number of the array."""
    enter(slurm, tmp_path, monkeypatch, STAND_IN)
    folders = tmp_path / "asked", tmp_path / "cancelled"
    more = ("--seeds", 5, "--jobs", 5, "--sbatch", "-c1")
    (asked,), (cancelled,) = (submit("-o", folder, *more) for folder in folders)
    names = [f"{number:04d}-seed-{number}" for number in range(5)]
    for folder in folders:
        wait_for(lambda f=folder: len(events(f)) == 5, 30, lambda: slurm.run("squeue"))
    for folder, job in zip(folders, (asked, cancelled), strict=True):
        (folder / f"{names[1]}.end").write_text("3")
        slurm.wait(f"{job}_1", "FAILED", seconds=30)
    for task in (0, 2, 4):
        slurm.run("scancel", "--batch", "--signal=USR1", f"{asked}_{task}")
        slurm.run("scancel", f"{cancelled}_{task}")
    for task in (0, 2, 4):
        slurm.wait(f"{asked}_{task}", "COMPLETED", seconds=60)
        slurm.wait(f"{cancelled}_{task}", "CANCELLED", seconds=60)
    for folder, job in zip(folders, (asked, cancelled), strict=True):
        (folder / f"{names[3]}.end").write_text("0")
        slurm.wait(f"{job}_3", "COMPLETED", seconds=30)
    restarts = {
        job: [slurm.facts(f"{job}_{task}")["Restarts"] for task in range(5)]
        for job in (asked, cancelled)
    }
    assert restarts == {asked: ["1", "0", "1", "0", "1"], cancelled: ["0"] * 5}
    assert sorted(name for _, name in events(folders[0])) == sorted(names + names[::2])
    assert sorted(name for _, name in events(folders[1])) == names


def test_no_more_run_at_a_time_than_asked_for_in_however_many_arrays(
    slurm, tmp_path, monkeypatch
):
    enter(slurm, tmp_path, monkeypatch, QUICK)
    folder = tmp_path / "sweep"
    more = ("--seeds", 7, "--jobs", 2, "--sbatch", "-c1")
    jobs = submit("-o", folder, *more)  # an array may have five
    wait_for((tmp_path / "failed").exists, 30, lambda: slurm.run("squeue"))
    wait_for(lambda: states(folder)["0001-seed-1"] == "failed", 30)
    jobs += submit(folder)
    assert len(jobs) == 3
    wait_for(lambda: set(states(folder).values()) == {"done"}, 60, lambda: states(folder))
    running, most = 0, 0
    for sign, _ in events(folder):
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert (len(events(folder)), running, most) == (16, 0, 2)
