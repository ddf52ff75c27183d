"""How a process learns which of several it is, and what is refused before anything starts."""

import pytest
from helpers import ONCE, stm

from stm_keras.errors import UsageError
from stm_keras.training.launch import Launch, check_parallel, find_launch, first_host

pytestmark = ONCE  # no backend changes what is tested here

SLURM = {
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "n[03-04,9]",
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_ID": "2",
}
TORCHRUN = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "4321",
}
BY_HAND = {
    "KERAS_DISTRIBUTION_PROCESS_ID": "1",
    "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    "KERAS_DISTRIBUTION_JOB_ADDRESSES": "a:1,b:2",
}


@pytest.mark.parametrize(
    ("environ", "launch"),
    [
        (SLURM, Launch(3, 4, 1, "n03:20139")),
        ({**SLURM, "MASTER_ADDR": "vm"}, Launch(3, 4, 1, "vm:20139")),
        ({**SLURM, "SLURM_STEP_NUM_NODES": "1"}, Launch(3, 4, 1, "127.0.0.1:20139")),
        (TORCHRUN, Launch(1, 2, 1, "127.0.0.1:4321")),
        (
            {**TORCHRUN, "MASTER_ADDR": "vm", "LOCAL_WORLD_SIZE": "2"},
            Launch(1, 2, 1, "127.0.0.1:4321"),
        ),
        (BY_HAND, Launch(1, 2, 0, "a:1")),
        ({**SLURM, **TORCHRUN}, Launch(1, 2, 1, "127.0.0.1:4321")),
        ({**TORCHRUN, **BY_HAND}, Launch(1, 2, 1, "a:1")),
    ],
)
def test_srun_torchrun_and_keras_variables_tell_the_process(environ, launch):
    assert find_launch(environ) == launch


@pytest.mark.parametrize(
    ("address", "here"),
    [("127.0.0.1:1", True), ("localhost:1", True), ("[::1]:1", True), ("127.0.1.1:1", True)]
    + [("n03:1", False), ("192.0.2.2:1", False), ("localhost.example:1", False)],
)
def test_what_no_other_machine_needs_to_reach(address, here):
    assert Launch(0, 2, 0, address).here == here


@pytest.mark.parametrize("host", ["192.0.2.2", "127.0.0.1"])
def test_who_listens_for_other_machines_says_so_before(host, tmp_path, monkeypatch):
    for name, value in {**TORCHRUN, "RANK": "0", "MASTER_ADDR": host}.items():
        monkeypatch.setenv(name, value)

    def join(*_):
        raise UsageError("enough")

    monkeypatch.setattr("stm_keras.training.parallel.make_strategy", join)
    monkeypatch.setattr("stm_keras.cli.train.check_parallel", lambda *_: find_launch())
    result = stm("train", "-o", tmp_path / "run", "--parallel", "processes")
    told = "This process listens for those of other machines: on port 4321 of every address"
    assert (told in result.stderr) == (host != "127.0.0.1")
    assert result.stderr.endswith("Error: enough\n")


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu[07-09],a", "gpu07"), ("r[1,3]-ib,x", "r1-ib")],
)
def test_the_first_host_of_a_list(nodes, host):
    assert first_host(nodes) == host


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "finds one process alone. Start it with `srun --ntasks=2"),
        ({"SLURM_NTASKS": "1"}, "finds one process alone"),
        (
            {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"},
            "this job has 2 tasks, and this process is none of them. Start it with `srun",
        ),
        (
            {"WORLD_SIZE": "2", "RANK": "0"},
            "the variable MASTER_ADDR is not set, and RANK is",
        ),
        ({**TORCHRUN, "RANK": "2"}, "must be below their count. Received: process 2 of 2"),
        ({**TORCHRUN, "RANK": "one"}, "Received: process one of 2"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(environ, message):
    with pytest.raises(UsageError, match=message):
        find_launch(environ)


@pytest.mark.parametrize(
    ("kind", "backend", "model", "message"),
    [
        (
            "devices",
            "torch",
            "vit",
            "torch trains on one device a process. Use `--parallel ",
        ),
        (
            "processes",
            "tensorflow",
            "vit",
            r"cannot fit over several processes under TensorFlow \(keras issue 20585\)",
        ),
        ("devices", None, "trees", "model.name=trees has none. Leave it out"),
    ],
)
def test_what_cannot_train_together_is_refused(kind, backend, model, message):
    with pytest.raises(UsageError, match=message):
        check_parallel(kind, backend, model, environ=TORCHRUN)


def test_compiled_steps_of_torch_are_refused():
    with pytest.raises(
        UsageError, match="torch compiles away under train.jit_compile=true"
    ):
        check_parallel("processes", "torch", "vit", True, TORCHRUN)


def test_what_works_is_let_through():
    assert check_parallel(None, "torch", "trees") is None
    assert check_parallel("devices", "jax", "vit", environ={}) is None
    assert check_parallel("processes", "torch", "vit", environ=TORCHRUN).rank == 1


def test_a_refusal_is_one_line_and_leaves_nothing(tmp_path):
    folder = tmp_path / "run"
    result = stm(
        "train", "--set", "model.name=trees", "--parallel", "devices", "-o", folder
    )
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "Leave it out: trees use all processors" in result.stderr
    assert not folder.exists()
