"""Ctrl-C and SLURM's signals in the middle of a training in a real process, and after."""

import csv
import json
import os
import platform
import signal
import subprocess
import sys

import pytest
from helpers import BACKEND, ONCE, REPOSITORY, TINY, stm

from stm_keras.inference.find_model import read_metadata
from stm_keras.signals import Preempted, notice, watched

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
        os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))

FiniteLoss.on_train_batch_end = on_train_batch_end
main(sys.argv[1:])
"""


def history(folder):
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("number", "code", "told", "backend"),
    [
        ("SIGINT", 130, "Interrupted.", BACKEND),
        pytest.param("SIGUSR1", 75, "Stopped by SIGUSR1.", "jax", marks=ONCE),
    ],
)
def test_a_signal_keeps_the_epochs_and_the_same_command_finishes(
    number, code, told, backend, dataset_file, tmp_path
):
    """Wherever it goes on, and whatever was made up there to try Keras out."""
    folder = tmp_path / "run"
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"floatx": "float16"}')
    odd = {"HOME": str(tmp_path), "KERAS_MAX_EPOCHS": "1", "NVIDIA_TF32_OVERRIDE": "0"}
    here = {"SIGNAL": number, "KERAS_BACKEND": backend, **odd}
    command = ["train", "--data", dataset_file, "--epochs", 3, *TINY, "-o", folder]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *map(str, command)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **here},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    told = f"\n{told} Run the same command again to go on in {folder}.\n"
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
    check_legs(folder, [backend, BACKEND])


def check_legs(folder, backends):
    """See that a run, its card and its report name where it was trained, in this order."""
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["backend"] == backends[-1]
    legs = environment["legs"]
    assert [leg["backend"] for leg in legs] == backends
    assert [leg["epochs_before"] for leg in legs] == [0, 1]
    assert [leg["host"] for leg in legs] == [platform.node()] * 2
    assert [leg["variables"].get("NVIDIA_TF32_OVERRIDE") for leg in legs] == ["0", None]
    facts = read_metadata(folder / "best.keras")
    assert len(facts["training"]["environment"]["legs"]) in (1, 2)  # the best may be early
    names = ", then ".join(dict.fromkeys(backends))
    assert f"- backend: {names}\n" in (folder / "card.md").read_text()
    assert names in (folder / "report.html").read_text()


def test_a_signal_outside_a_training_is_obeyed_at_once_and_handlers_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with watched(), pytest.raises(Preempted, match="SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_within_a_step_waits_for_its_end():
    with watched():
        notice.deferred = True
        os.kill(os.getpid(), signal.SIGUSR1)
        assert notice.number == signal.SIGUSR1
        with pytest.raises(Preempted):
            notice.check()


def test_a_signal_before_the_first_epoch_leaves_nothing(
    dataset_file, tmp_path, monkeypatch
):
    def load(config):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("stm_keras.training.train.load_run_data", load)
    command = ["train", "--data", dataset_file, *TINY, "-o", tmp_path / "run"]
    result = stm(*command)
    assert result.exit_code == 75
    assert "SIGTERM before the first epoch was done: nothing is kept" in result.stderr
    assert not (tmp_path / "run").exists()
