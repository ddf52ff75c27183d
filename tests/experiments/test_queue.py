"""How a sweep is handed to SLURM; tests/slurm does it for real."""

import pytest
from helpers import ONCE

from stm_keras.errors import InputError
from stm_keras.experiments.queue import array_text, begin_after, hand_over, queued

pytestmark = ONCE  # no backend changes what is tested here


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([3], "3"), ([0, 1, 2], "0-2"), ([5, 0, 1, 7, 8], "0-1,5,7-8")],
)
def test_array_numbers_are_written_short(numbers, text):
    assert array_text(numbers) == text


def handed_over(folder, numbers, concurrent, words=(), largest=1001, waiting=()):
    """Return what is said to sbatch, and what comes of it; jobs are called a, b, c."""
    sent = []

    def send(command):
        sent.append(command)
        return "abc"[len(sent) - 1]

    return sent, list(hand_over(folder, numbers, concurrent, words, largest, waiting, send))


@pytest.mark.smoke
def test_a_command_has_the_limit_and_the_words_of_the_user(tmp_path):
    (command,), found = handed_over(tmp_path, [0, 2], 4, ["--gres=gpu:1"])
    assert found == [("a", 0, 4)]
    assert command == [
        "--array=0,2%4",
        f"--output={tmp_path}/logs/slurm-%A_%a.log",
        "--gres=gpu:1",
        f"{tmp_path}/sweep.sbatch",
        f"{tmp_path}",
        "0",
    ]


def test_several_arrays_share_the_limit_of_the_sweep_or_wait_for_one_another(tmp_path):
    sent, found = handed_over(tmp_path, [0, 10, 11, 25], 2, largest=10)
    assert found == [("a", 0, 2), ("b", 10, 1), ("c", 20, 2)]
    assert [command[0] for command in sent] == [
        "--array=0%2",
        "--array=0-1%1",
        "--array=5%2",
    ]
    assert [command[-1] for command in sent] == ["0", "10", "20"]
    waits = [[word for word in command if "depend" in word] for command in sent]
    assert waits == [[], [], ["--dependency=afterany:a:b"]]


def test_what_is_not_over_of_the_sweep_counts(tmp_path):
    (command,), found = handed_over(tmp_path, [3], 4, waiting={"7": 1, "8": 2})
    assert (command[0], found) == ("--array=3%1", [("a", 0, 1)])
    (command,), found = handed_over(tmp_path, [3], 2, ["-d", "singleton"], waiting={"7": 4})
    assert command[2] == "--dependency=afterany:7,singleton"
    assert found == [("a", 0, 2)]


@pytest.mark.parametrize(
    "words",
    [["-dafterok:5"], ["-d", "afterok:5"], ["--dependency=afterok:5"]],
)
def test_jobs_that_the_user_waits_for_are_waited_for_too(words):
    found = begin_after(["-p", "gpu", *words, "-c2"], ["7"])
    assert found == ["-p", "gpu", "-c2", "--dependency=afterany:7,afterok:5"]
    assert begin_after(words, []) == words


def test_nothing_is_queued_where_nothing_was(tmp_path):
    assert queued(tmp_path) == {}


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "jobs.json").write_text("[")
    with pytest.raises(InputError, match=r"jobs.json: is damaged"):
        queued(tmp_path)
