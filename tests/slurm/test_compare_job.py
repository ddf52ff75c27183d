"""Three backends compared as jobs of a real SLURM."""

import json

from helpers import ONCE, TINY, stm
from slurm_cluster import enter

pytestmark = ONCE
SITE = 'stm_keras=("$PYTHON" -m stm_keras)\n'


def test_three_backends_agree_in_jobs_of_their_own(
    slurm, dataset_file, tmp_path, monkeypatch
):
    enter(slurm, tmp_path, monkeypatch, SITE)
    (tmp_path / "tiny.toml").write_text('[model]\nname = "cnn_small"\n')
    given = ["compare", "tiny.toml", "--data", dataset_file, "-o", "both", *TINY]
    short = ["--steps", 3, "--rounds", 2, "--steps-per-round", 1]
    result = stm(*given, *short, "--slurm", "--sbatch", "-c2 --gres=gpu:1", "--json")
    assert result.exit_code == 0, result.stderr
    jobs = json.loads(result.stdout)["jobs"]
    assert list(jobs) == ["tensorflow", "jax", "torch", "merge"]
    facts = slurm.wait(jobs["merge"], "COMPLETED", "FAILED", seconds=300)
    logs = "".join(path.read_text() for path in (tmp_path / "both" / "logs").iterdir())
    assert facts["JobState"] == "COMPLETED", logs
    comparison = json.loads((tmp_path / "both" / "comparison.json").read_text())
    rows = {row["library"]: row for row in comparison["rows"]}
    assert set(rows) == {"tensorflow", "jax", "torch"}
    assert all(row["status"] == "done" for row in rows.values()), logs
    assert (tmp_path / "both" / "comparison.html").exists()
    for name in ("jax", "torch"):
        assert 0 < rows[name]["loss_difference"] < 1e-4
