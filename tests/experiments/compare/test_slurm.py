"""Jobs of a comparison: what is queued, in what order, and what sbatch is told."""

import pytest
from compare_parts import made_up_folder, part
from helpers import ONCE

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.experiments.compare.measure import submit, without_devices

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


def test_each_library_is_a_job_of_an_array_and_the_last_one_waits(tmp_path, queued):
    half = part("jax", precision="mixed_bfloat16")
    folder = made_up_folder(
        tmp_path / "vit", [part("jax"), half, part("torch"), part("native")]
    )
    folder.file("parts", "jax.json").unlink()
    folder.file("parts", "native.json").unlink()
    jobs = submit(folder, folder.plan(), ["-p", "gpu"])
    # torch and jax bf16 are done
    assert jobs == {"jax": "1_0", "native": "1_2", "merge": "2_3"}
    array, last = queued.read_text().splitlines()
    slurm, path = folder.path.resolve() / "slurm", folder.path.resolve()
    assert array.startswith("--parsable --array=0,2%4 ")
    assert array.endswith(f" -p gpu {slurm}/sweep.sbatch {slurm} 0")
    assert last.startswith("--parsable --array=3%")
    assert " -p gpu --dependency=afterany:1 " in last
    lines = dict(
        line.split("\t") for line in (slurm / "manifest.tsv").read_text().splitlines()
    )
    assert list(lines) == ["jax", "torch", "native", "merge"]
    assert lines["jax"] == f"compare --output {path} --only jax --only 'jax bf16'"
    assert lines["merge"] == f"compare --join {path} --output {path}"


def test_what_is_queued_already_is_left_alone(tmp_path, queued, monkeypatch):
    folder = made_up_folder(tmp_path / "vit", [part("jax"), part("torch")])
    for name in ("jax", "torch"):
        folder.file("parts", f"{name}.json").unlink()
    first = submit(folder, folder.plan())
    assert first == {"jax": "1_0", "torch": "1_1", "merge": "2_2"}
    squeue = tmp_path / "bin" / "squeue"
    squeue.write_text("#!/bin/bash\nprintf '1 0 RUNNING\\n1 1 PENDING\\n2 2 PENDING\\n'\n")
    squeue.chmod(0o755)
    assert submit(folder, folder.plan()) == first
    squeue.write_text("#!/bin/bash\nprintf '1 0 RUNNING\\n2 2 PENDING\\n'\n")
    again = submit(folder, folder.plan())
    assert again == {"jax": "1_0", "torch": "3_1", "merge": "4_2"}
    assert "--dependency=afterany:1:3 " in queued.read_text().splitlines()[-1]


def test_more_libraries_leave_the_lines_of_waiting_jobs_where_they_are(tmp_path, queued):
    folder = made_up_folder(tmp_path / "vit", [part("torch")])
    folder.file("parts", "torch.json").unlink()
    submit(folder, folder.plan())
    more = made_up_folder(tmp_path / "vit", [part("jax"), part("torch")])
    more.file("parts", "jax.json").unlink()
    more.file("parts", "torch.json").unlink()
    submit(more, more.plan())
    lines = folder.file("slurm", "manifest.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == ["torch", "merge", "jax"]


@pytest.mark.parametrize(
    "words",
    [["--gres=gpu:1"], ["--gres", "gpu:1"], ["-G", "1"], ["-G1"], ["--gpus-per-node=2"]],
)
def test_the_job_that_sums_up_asks_for_no_gpu(words):
    assert without_devices(["-p", "gpu", *words, "-t", "60"]) == ["-p", "gpu", "-t", "60"]


def test_a_setup_without_scores_is_queued_again(tmp_path, queued):
    folder = made_up_folder(tmp_path / "vit", [part("jax"), part("native")], epochs=2)
    assert list(submit(folder, folder.plan())) == ["jax", "merge"]


def test_without_sbatch_one_is_told_where_to_type_it(tmp_path, monkeypatch):
    folder = made_up_folder(tmp_path / "vit", [])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        UsageError, match=r"There is no sbatch here\. Run the command on a cluster's login"
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
