"""Jobs of a comparison: what is queued, in what order, and what sbatch is told."""

import subprocess

import pytest
from compare_parts import made_up_folder, part
from helpers import ONCE

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.experiments.compare.slurm import submit, without_devices

pytestmark = ONCE  # no backend changes what is tested here

FAKE = """\
#!/bin/bash
echo "$@" >> {log}
echo "$(wc -l < {log});cluster"
"""


@pytest.fixture
def queued(tmp_path, monkeypatch):
    """Put an sbatch in the way that only notes how it was called; returns its log."""
    log = tmp_path / "queued"
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "sbatch"
    script.write_text(FAKE.format(log=log))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return log


def test_each_library_is_a_job_and_the_last_one_waits_for_them(tmp_path, queued):
    half = part("jax", precision="mixed_bfloat16")
    folder = made_up_folder(
        tmp_path / "vit", [part("jax"), half, part("torch"), part("native")]
    )
    folder.file("parts", "jax.json").unlink()
    folder.file("parts", "native.json").unlink()
    jobs = submit(folder, folder.plan(), ["-p", "gpu"])
    assert jobs == {"jax": "1", "native": "2", "merge": "3"}  # torch and jax bf16 are done
    calls = queued.read_text().splitlines()
    assert calls[0] == f"--parsable -p gpu {folder.path.resolve()}/jobs/jax.sbatch"
    assert "--parsable -p gpu --dependency=afterany:1:2 " in calls[2]
    script = folder.file("jobs", "jax.sbatch").read_text()
    words = f"compare --only jax --output {folder.path.resolve()}"
    assert f'keep_going "${{stm_keras[@]}}" {words}\n' in script
    assert f". {folder.path.resolve()}/jobs/common.sh\n" in script
    assert f"#SBATCH --output={folder.path.resolve()}/logs/jax-%j.out" in script
    last = folder.file("jobs", "merge.sbatch").read_text()
    assert f"compare --merge {folder.path.resolve()} --output" in last
    for path in folder.file("jobs").glob("*.s*"):
        assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_what_is_queued_already_is_left_alone(tmp_path, queued, monkeypatch):
    folder = made_up_folder(tmp_path / "vit", [part("jax"), part("torch")])
    for name in ("jax", "torch"):
        folder.file("parts", f"{name}.json").unlink()
    first = submit(folder, folder.plan())
    assert first == {"jax": "1", "torch": "2", "merge": "3"}
    squeue = tmp_path / "bin" / "squeue"
    squeue.write_text(
        "#!/bin/bash\nprintf '1 N/A RUNNING\\n2 N/A PENDING\\n3 N/A PENDING\\n'\n"
    )
    squeue.chmod(0o755)
    assert submit(folder, folder.plan()) == first
    squeue.write_text("#!/bin/bash\nprintf '1 N/A RUNNING\\n3 N/A PENDING\\n'\n")
    assert submit(folder, folder.plan()) == {"jax": "1", "torch": "4", "merge": "5"}
    assert "--dependency=afterany:1:4 " in queued.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    "words",
    [["--gres=gpu:1"], ["--gres", "gpu:1"], ["-G", "1"], ["-G1"], ["--gpus-per-node=2"]],
)
def test_the_job_that_sums_up_asks_for_no_gpu(words):
    assert without_devices(["-p", "gpu", *words, "-t", "60"]) == ["-p", "gpu", "-t", "60"]


def test_a_side_without_scores_is_queued_again(tmp_path, queued):
    folder = made_up_folder(tmp_path / "vit", [part("jax"), part("native")], epochs=2)
    assert list(submit(folder, folder.plan())) == ["jax", "merge"]


def test_without_sbatch_one_is_told_where_to_type_it(tmp_path, monkeypatch):
    folder = made_up_folder(tmp_path / "vit", [])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        UsageError, match=r"There is no sbatch here\. Type it on a cluster's login"
    ):
        submit(folder, folder.plan())


def test_what_sbatch_refuses_is_passed_on(tmp_path, queued):
    script = tmp_path / "bin" / "sbatch"
    script.write_text("#!/bin/bash\necho 'sbatch: error: invalid partition' >&2; exit 1\n")
    folder = made_up_folder(tmp_path / "vit", [])
    with pytest.raises(
        StmKerasError,
        match=r"SLURM refuses: sbatch: error: invalid partition Command: sbatch --pars",
    ):
        submit(folder, folder.plan())
