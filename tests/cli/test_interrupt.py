"""Ctrl-C and kill in the middle of a training, in real processes."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers import REPOSITORY, TINY

PATIENCE = 120  # seconds for a process to load keras and train an epoch


@pytest.fixture
def training(dataset_file, tmp_path):
    """Function that starts a training of many epochs in a process, and its folder."""
    processes = []
    command = [sys.executable, "-m", "stm_keras", "train", str(dataset_file.name)]
    command = [sys.executable, "-m", "stm_keras", "train", "--data", str(dataset_file)]
    command += ["--epochs", "400", *TINY, "-o", str(tmp_path / "run")]

    def start():
        processes.append(
            subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        )
        return processes[-1]

    yield start, tmp_path / "run"
    for process in processes:
        process.kill()
        process.communicate()


def wait_for_epochs(folder, count, process):
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE:
        if process.poll() is not None:
            raise AssertionError(process.stderr.read())
        if epochs(folder) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"no epoch {count} after {PATIENCE} s")


def epochs(folder):
    if not (folder / "history.csv").exists():
        return 0
    with (folder / "history.csv").open(newline="") as file:
        return len(list(csv.DictReader(file)))


def test_ctrl_c_keeps_the_epochs_and_the_same_command_goes_on(training):
    start, folder = training
    first = start()
    wait_for_epochs(folder, 2, first)
    first.send_signal(signal.SIGINT)
    told = first.communicate(timeout=PATIENCE)[1]
    assert first.returncode == 130, told
    assert told.endswith(f"\nInterrupted. Type the same command to go on in {folder}.\n")
    assert "Traceback" not in told
    done = epochs(folder)
    assert 2 <= done < 400
    assert not list(folder.glob(".best-*")), "a temporary file was left"

    second = start()
    wait_for_epochs(folder, done + 1, second)
    second.kill()
    second.communicate()
    kept = epochs(folder)

    third = start()
    wait_for_epochs(folder, kept + 1, third)
    third.send_signal(signal.SIGINT)
    told = third.communicate(timeout=PATIENCE)[1]
    assert third.returncode == 130, told
    assert f"{folder}: goes on after epoch {kept}." in told
