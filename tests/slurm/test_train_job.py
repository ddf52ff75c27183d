"""Real jobs of a real SLURM: evicted, interrupted, cancelled, their node lost; and what is left."""

import json
import os

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, TINY, stm
from slurm_cluster import history, wait_for

from stm_keras.inference.model_file import load_predictor

SLOW = """
import pathlib, sys, time
from stm_keras.backend import import_keras
import_keras()
from stm_keras.cli.main import main
from stm_keras.signals import notice
from stm_keras.training.callbacks import FiniteLoss

check, reached = FiniteLoss.on_train_batch_end, pathlib.Path("reached")

def on_train_batch_end(self, batch, logs=None):
    check(self, batch, logs)
    if (self.epoch, batch) == (1, 2) and not reached.exists():
        reached.touch()
        for _ in range(600):
            time.sleep(0.1 * (not notice.number))

FiniteLoss.on_train_batch_end = on_train_batch_end
main(sys.argv[1:])
"""
NIGHTLY = pytest.mark.skipif(
    "STM_KERAS_NIGHTLY" not in os.environ, reason="takes minutes: STM_KERAS_NIGHTLY=1"
)


@pytest.fixture
def command(dataset_file):
    return ["--data", dataset_file, "--epochs", 3, *TINY, "-o", "run"]


@pytest.fixture(scope="module")
def undisturbed(dataset_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result = stm("train", "--data", dataset_file, "--epochs", 3, *TINY, "-o", folder)
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def site(tmp_path):
    """Settings of a site whose stm-keras waits in the middle of the second epoch, once."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "site.sh").write_text('stm_keras=("$PYTHON" "$SLURM_SUBMIT_DIR/slow.py")\n')
    return {"STM_KERAS_SITE": str(tmp_path / "site.sh")}


def queue(slurm, site, folder, command, *words):
    """Queue a training, wait until it is in the middle, and return the job's number."""
    script = REPOSITORY / "jobs" / "train.sbatch"
    job = slurm.sbatch("-c4", "-o", "log", *words, script, *command, cwd=folder, env=site)
    wait_for(
        (folder / "reached").exists,
        tell=lambda: (slurm.facts(job), (folder / "log").read_text()),
    )
    return job


def evict(slurm):
    slurm.sbatch("-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 0.5")


def check_like(run, undisturbed):
    """See that a run came out as one that nobody disturbed."""
    np.testing.assert_allclose(history(run), history(undisturbed), atol=1e-6)
    models = [load_predictor(each / "best.keras").model for each in (run, undisturbed)]
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    scores = [
        json.loads((each / "evaluation.json").read_text()) for each in (run, undisturbed)
    ]
    assert abs(scores[0]["auroc"] - scores[1]["auroc"]) < 1e-6
    assert not list(run.glob(".*-*")), "temporary files are left"


@ONCE
@pytest.mark.parametrize("name", ["train", "train_multi", "compare", "sweep"])
def test_slurm_takes_every_script_and_refuses_what_no_node_has(name, slurm):
    script = REPOSITORY / "jobs" / f"{name}.sbatch"
    slurm.run("sbatch", "--test-only", "--gres=gpu:2", script)
    with pytest.raises(
        AssertionError, match="Requested node configuration is not available"
    ):
        slurm.run("sbatch", "--test-only", "--gres=gpu:9", script)


@ONCE
def test_an_evicted_job_goes_on_and_gives_what_an_undisturbed_run_gives(
    slurm, site, command, undisturbed, tmp_path
):
    job = queue(slurm, site, tmp_path, command, "--partition=scavenge")
    evict(slurm)
    facts = slurm.wait(job, "COMPLETED", "FAILED", seconds=180)
    log = (tmp_path / "log").read_text()
    assert facts["JobState"] == "COMPLETED", log
    assert facts["Restarts"] == "1"
    assert "Stopped by SIGUSR1. Run the same command again to go on in run." in log
    assert "run: goes on after epoch 1." in log
    check_like(tmp_path / "run", undisturbed)


@ONCE
@pytest.mark.parametrize(
    "how", ["lost node", "signal", pytest.param("no grace", marks=NIGHTLY)]
)
def test_a_job_goes_on_whatever_ends_it(how, slurm, site, command, undisturbed, tmp_path):
    job = queue(slurm, site, tmp_path, command, "--partition=nograce")
    if how == "no grace":
        evict(slurm)
    elif how == "signal":  # that of `--signal=B:USR1@300`, before a time limit
        slurm.run("scancel", "--batch", "--signal=USR1", job)
    else:
        node = slurm.facts(job)["NodeList"]
        slurm.run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        wait_for(lambda: slurm.facts(job)["Restarts"] == "1")
        back = ("scontrol", "update", f"nodename={node}", "state=resume")
        slurm.run(*back, may_fail=True)  # a node that answers is back by itself
    facts = slurm.wait(job, "COMPLETED", "FAILED", seconds=180)
    assert facts["JobState"] == "COMPLETED", (tmp_path / "log").read_text()
    assert facts["Restarts"] == "1"
    check_like(tmp_path / "run", undisturbed)


@ONCE
def test_a_cancelled_job_stays_so_and_goes_on_when_it_is_queued_again(
    slurm, site, command, undisturbed, tmp_path
):
    job = queue(slurm, site, tmp_path, command)
    slurm.run("scancel", job)
    facts = slurm.wait(job, "CANCELLED")
    assert facts["Restarts"] == "0"
    again = queue(slurm, site, tmp_path, command)
    slurm.wait(again, "COMPLETED", "FAILED", seconds=180)
    check_like(tmp_path / "run", undisturbed)


@ONCE
@NIGHTLY
def test_a_job_goes_on_after_its_time_limit(slurm, site, command, undisturbed, tmp_path):
    job = queue(slurm, site, tmp_path, command, "--time=2", "--signal=B:USR1@60")
    facts = slurm.wait(job, "COMPLETED", "FAILED", "TIMEOUT", seconds=240)
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1")
    check_like(tmp_path / "run", undisturbed)
