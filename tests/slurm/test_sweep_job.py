"""A sweep as a real job array: two at a time, and what failed once more."""

import json

import pytest
from helpers import ONCE, TINY, stm
from slurm_cluster import enter, wait_for

pytestmark = ONCE
SITE = """
stm_keras=(stm_or_not)
stm_or_not() {
    if [[ $* == *0001* && ! -e failed ]]; then
        touch failed
        echo "Error: made up."
        return 3
    fi
    "$PYTHON" -m stm_keras "$@"
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
        *given, "--set", "train.epochs=1", "--sbatch", "-c2", "--concurrent", 2, "--json"
    )
    assert result.exit_code == 0, result.stderr
    queued = json.loads(result.stdout)
    names = ["0000-learning_rate-0.01-seed-0", "0001-learning_rate-0.003-seed-0"]
    assert queued["queued"] == names
    assert len(queued["jobs"]) == 1
    assert set(states("sweep").values()) <= {"queued", "running", "done", "failed"}
    assert "are done or queued" in stm("submit", "sweep").stdout
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
