"""Ctrl-C in the middle of a training in a real process, and what comes after."""

import csv
import os
import subprocess
import sys

from helpers import REPOSITORY, TINY, stm

INTERRUPTED = """
import os, signal, sys
from stm_keras.backend import import_keras
import_keras()
from stm_keras.cli.main import main
from stm_keras.training.callbacks import FiniteLoss

check = FiniteLoss.on_train_batch_end

def on_train_batch_end(self, batch, logs=None):
    check(self, batch, logs)
    if (self.epoch, batch) == (1, 2):
        os.kill(os.getpid(), signal.SIGINT)

FiniteLoss.on_train_batch_end = on_train_batch_end
main(sys.argv[1:])
"""


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_ctrl_c_keeps_the_epochs_and_the_same_command_finishes(dataset_file, tmp_path):
    folder = tmp_path / "run"
    command = ["train", "--data", dataset_file, "--epochs", 3, *TINY, "-o", folder]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 130, done.stderr
    told = f"\nInterrupted. Type the same command to go on in {folder}.\n"
    assert done.stderr.endswith(told), done.stderr
    assert "Traceback" not in done.stderr
    (first,) = history(folder)
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "best.keras",
        "checkpoints",
        "command.txt",
        "config.toml",
        "environment.json",
        "history.csv",
        "split.json",
    }
    result = stm(*command)
    assert result.exit_code == 0, result.stderr
    assert f"{folder}: goes on after epoch 1." in result.stderr
    rows = history(folder)
    assert rows[0] == first
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert (folder / "evaluation.json").exists()
