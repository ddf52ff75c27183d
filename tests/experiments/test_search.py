"""Workers of a search: what they share, where they stop, and what a killed one leaves."""

import json
import subprocess
import sys

import pytest
from helpers import ONCE

from stm_keras.errors import MissingExtraError
from stm_keras.experiments import queue, search
from stm_keras.experiments.collect import sweep_rows
from stm_keras.experiments.plan import make_sweep
from stm_keras.experiments.sweep import SweepFolder
from stm_keras.signals import Preempted

pytestmark = ONCE  # no backend changes what is tested here

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "train.epochs": {"low": 2, "high": 9},
    "train.schedule": {"values": ["cosine", "constant"]},
}
RUN = """
import json, math, pathlib, sys
words = sys.argv[1:]
run = pathlib.Path(words[words.index("-o") + 1])
settings = dict(word.split("=", 1) for word in words if "=" in word)
rate = float(settings["train.learning_rate"])
run.mkdir(parents=True, exist_ok=True)
if (run.parent.parent / "fails").exists():
    sys.exit(1)
if (run.parent.parent / "leaves").exists():
    (run.parent.parent / "leaves").unlink()
    sys.exit(75)
(run / "history.csv").write_text(
    f"epoch,val_auroc,seconds\\n1,{1 - abs(math.log10(rate) + 3) / 10},1\\n"
)
(run / "evaluation.json").write_text(json.dumps({"auroc": 0.5, "balanced_accuracy": 0.5}))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A search whose runs take no time: what they reach depends on the learning rate."""

    def start(arguments, log):
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *arguments], stdout=log, stderr=log
        )

    monkeypatch.setattr(queue, "start", start)
    sweep = make_sweep({"space": SPACE, "trials": 5, "seeds": 2, "concurrent": 2})
    folder = SweepFolder(tmp_path / "sweep")
    folder.start(sweep)
    return folder


def test_workers_share_the_trials_and_stop_together(folder, caplog):
    caplog.set_level("INFO", "stm_keras")
    sweep = folder.sweep()
    assert not search.is_over(folder, sweep)
    study = search.open_study(folder, sweep, worker=1)
    number, settings = search._new_trial(study, sweep, 1)  # begun by another worker
    assert search.work(folder, sweep, 0) == 4
    assert not search.is_over(folder, sweep)
    assert search.work(folder, sweep, 1) == 1  # takes up what it had begun
    assert json.loads(folder.file("trials", f"{number:04d}.json").read_text()) == settings
    assert search.is_over(folder, sweep)
    assert search.work(folder, sweep, 0) == 0
    rows = sweep_rows(folder, sweep, {})
    assert len(rows) == 10
    assert {row["state"] for row in rows} == {"done"}
    assert all(2 <= row["train.epochs"] <= 9 for row in rows)
    assert sum("validation AUROC" in line for line in caplog.messages) == 5


def test_a_worker_that_has_to_leave_takes_its_trial_up_again(folder):
    folder.file("leaves").touch()
    sweep = folder.sweep()
    with pytest.raises(Preempted):
        search.work(folder, sweep, 0)
    assert len(sweep_rows(folder, sweep, {})) == 2
    assert search.work(folder, sweep, 0) == 5
    tried = [path.read_text() for path in folder.file("trials").iterdir()]
    assert len(tried) == len(set(tried)) == 5


def test_a_trial_that_fails_is_noted_and_the_next_is_tried(folder, caplog):
    caplog.set_level("INFO", "stm_keras")
    folder.file("fails").touch()
    sweep = folder.sweep()
    assert search.work(folder, sweep, 0) == 5
    assert "trial-0000-seed-0: failed (1), see" in caplog.messages[0]
    assert search.is_over(folder, sweep)
    assert {row["state"] for row in sweep_rows(folder, sweep, {})} == {"failed", "missing"}


def test_without_optuna_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[search\]"'):
        search.open_study(folder, folder.sweep())
