"""How a sweep is handed to SLURM; tests/slurm does it for real."""

import pytest

from stm_keras.errors import InputError
from stm_keras.sweep.queue import array_text, queued, sbatch_commands


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([3], "3"), ([0, 1, 2], "0-2"), ([5, 0, 1, 7, 8], "0-1,5,7-8")],
)
def test_array_numbers_are_written_short(numbers, text):
    assert array_text(numbers) == text


def test_a_command_has_the_limit_and_the_words_of_the_user(tmp_path):
    ((first, command),) = sbatch_commands(tmp_path, [0, 2], 4, ["--gres=gpu:1"])
    assert first == 0
    assert command == [
        "--array=0,2%4",
        f"--output={tmp_path}/logs/slurm-%A_%a.log",
        "--gres=gpu:1",
        f"{tmp_path}/sweep.sbatch",
        f"{tmp_path}",
        "0",
    ]


def test_a_sweep_larger_than_an_array_may_be_becomes_several(tmp_path):
    found = sbatch_commands(tmp_path, [0, 9, 10, 25], 4, largest=10)
    assert [(first, command[0]) for first, command in found] == [
        (0, "--array=0,9%4"),
        (10, "--array=0%4"),
        (20, "--array=5%4"),
    ]
    assert [command[-1] for _, command in found] == ["0", "10", "20"]


def test_nothing_is_queued_where_nothing_was(tmp_path):
    assert queued(tmp_path) == {}


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "jobs.json").write_text("[")
    with pytest.raises(InputError, match=r"jobs.json: is damaged"):
        queued(tmp_path)
