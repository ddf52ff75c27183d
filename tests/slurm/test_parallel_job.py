"""Two processes on two nodes of a real SLURM train one model, are stopped, and go on."""

import keras
import pytest
from helpers import REPOSITORY, TINY, stm
from slurm_cluster import enter, history, wait_for

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "jax",
    reason="runs once, under JAX; torch's processes are in tests/training/test_parallel.py",
)
SITE = 'stm_keras=("$PYTHON" -m stm_keras)\n'


def test_two_processes_give_what_one_gives_also_when_they_are_stopped(
    slurm, dataset_file, tmp_path, monkeypatch
):
    enter(slurm, tmp_path, monkeypatch, SITE)
    given = ["--data", dataset_file, "--epochs", 3, *TINY, "--learning-rate", 0.001]
    script = REPOSITORY / "jobs" / "train_multi.sbatch"
    job = slurm.sbatch("-c2", "-o", "log", script, *given, "-o", "run", cwd=tmp_path)
    rows = tmp_path / "run" / "history.csv"
    wait_for(lambda: rows.exists(), 180, lambda: (tmp_path / "log").read_text())
    slurm.run("scancel", "--batch", "--signal=USR1", job)
    facts = slurm.wait(job, "COMPLETED", "FAILED", seconds=300)
    log = (tmp_path / "log").read_text()
    assert (facts["JobState"], facts["NumNodes"]) == ("COMPLETED", "2"), log
    result = stm("train", *given, "-o", "alone")
    assert result.exit_code == 0, result.stderr
    two, one = history(tmp_path / "run"), history(tmp_path / "alone")
    assert abs(two - one).max() < 2e-3
    assert "Stopped by SIGUSR1" in log
    assert facts["Restarts"] == "1"
