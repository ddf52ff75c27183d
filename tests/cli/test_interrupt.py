"""Ctrl-C in the middle of a training in a real process, and what comes after."""

import csv
import os
import signal
import subprocess
import sys
import time

from helpers import REPOSITORY, TINY, stm

PATIENCE = 180  # seconds for a process to load keras and train an epoch
EPOCHS = 24


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "stm_keras", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def wait_for_epochs(folder, count, process):
    begin = time.monotonic()
    while len(history(folder)) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() - begin < PATIENCE, f"no epoch {count} after {PATIENCE} s"
        time.sleep(0.02)


def history(folder):
    if not (folder / "history.csv").exists():
        return []
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_ctrl_c_keeps_the_epochs_and_the_same_command_finishes(dataset_file, tmp_path):
    folder = tmp_path / "run"
    command = ["train", "--data", dataset_file, "--epochs", EPOCHS, *TINY, "-o", folder]
    process = start(*command)
    try:
        wait_for_epochs(folder, 1, process)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()
        process.wait()
    kept = history(folder)
    assert process.returncode == 130, told
    assert 1 <= len(kept) < EPOCHS
    assert told.endswith(f"\nInterrupted. Type the same command to go on in {folder}.\n")
    assert "Traceback" not in told
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".best")]
    result = stm(*command)
    assert result.exit_code == 0, result.stderr
    assert f"{folder}: goes on after epoch {len(kept)}." in result.stderr
    rows = history(folder)
    assert rows[: len(kept)] == kept
    assert [row["epoch"] for row in rows] == [str(epoch + 1) for epoch in range(EPOCHS)]
    assert (folder / "evaluation.json").exists()
