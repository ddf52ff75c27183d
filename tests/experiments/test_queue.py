"""How jobs are queued on SLURM; tests/slurm does it for real."""

import pytest
from helpers import ONCE

from stm_keras.errors import InputError
from stm_keras.experiments.queue import (
    JobFolder,
    array_text,
    start_after,
    submit_arrays,
)

pytestmark = ONCE  # no backend changes what is tested here


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([3], "3"), ([0, 1, 2], "0-2"), ([5, 0, 1, 7, 8], "0-1,5,7-8")],
)
def test_array_numbers_are_written_short(numbers, text):
    assert array_text(numbers) == text


def submitted(folder, lines, concurrent, options=(), largest=1001, active=()):
    """Return what sbatch is called with, and what comes of it; arrays are called a, b, c."""
    sent = []

    def send(command):
        sent.append(command)
        return "abc"[len(sent) - 1]

    return sent, list(
        submit_arrays(folder, lines, concurrent, options, largest, active, send)
    )


@pytest.mark.smoke
def test_a_command_has_the_limit_and_the_options_of_the_user(tmp_path):
    (command,), arrays = submitted(tmp_path, [0, 2], 4, ["--gres=gpu:1"])
    assert arrays == [("a", 0, 4, [0, 2])]
    assert command == [
        "--array=0,2%4",
        f"--output={tmp_path}/logs/slurm-%A_%a.log",
        "--gres=gpu:1",
        f"{tmp_path}/sweep.sbatch",
        f"{tmp_path}",
        "0",
    ]


def test_several_arrays_share_the_limit_of_the_sweep_or_wait_for_one_another(tmp_path):
    sent, arrays = submitted(tmp_path, [0, 10, 11, 25], 2, largest=10)
    assert arrays == [("a", 0, 2, [0]), ("b", 10, 1, [10, 11]), ("c", 20, 2, [25])]
    assert [command[0] for command in sent] == [
        "--array=0%2",
        "--array=0-1%1",
        "--array=5%2",
    ]
    assert [command[-1] for command in sent] == ["0", "10", "20"]
    waits = [[word for word in command if "depend" in word] for command in sent]
    assert waits == [[], [], ["--dependency=afterany:a:b"]]


def test_what_is_not_over_of_the_sweep_counts(tmp_path):
    (command,), arrays = submitted(tmp_path, [3], 4, active={"7": 1, "8": 2})
    assert (command[0], arrays) == ("--array=3%1", [("a", 0, 1, [3])])
    (command,), arrays = submitted(tmp_path, [3], 2, ["-d", "singleton"], active={"7": 4})
    assert command[2] == "--dependency=afterany:7,singleton"
    assert arrays == [("a", 0, 2, [3])]


@pytest.mark.parametrize(
    "words",
    [["-dafterok:5"], ["-d", "afterok:5"], ["--dependency=afterok:5"]],
)
def test_jobs_that_the_user_waits_for_are_waited_for_too(words):
    found = start_after(["-p", "gpu", *words, "-c2"], ["7"])
    assert found == ["-p", "gpu", "-c2", "--dependency=afterany:7,afterok:5"]
    assert start_after(words, []) == words


def test_nothing_is_queued_where_nothing_was(tmp_path):
    assert JobFolder(tmp_path).queued() == {}


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "jobs.json").write_text("[")
    with pytest.raises(InputError, match=r"jobs.json: is damaged"):
        JobFolder(tmp_path).queued()
