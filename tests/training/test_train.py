"""Whole runs: what is kept, what a restart gives, and what stops one."""

import contextlib
import csv
import io
import math
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from helpers import ONCE, logged
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from stm_keras.config import load_config
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.load import save_dataset
from stm_keras.errors import InputError, TrainingError, UsageError
from stm_keras.inference.verdict import softmax
from stm_keras.runs import COLUMNS, Run
from stm_keras.signals import CtrlC
from stm_keras.training import calibrate
from stm_keras.training import callbacks as subject
from stm_keras.training.callbacks import Interrupt
from stm_keras.training.train import MONITORED, _monitored, train

VIT = [
    "model.name=vit",
    "model.layers=1",
    "model.heads=2",
    "model.dim=8",
    "model.mlp_dim=8",
]
SMALL = [*VIT, "train.batch_size=16", "train.epochs=4", "train.warmup_epochs=1"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A dataset of 96 scans of four waves and their sessions, as a file."""
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 4
    column = np.arange(128)
    waves = np.sin(
        column * (0.1 + 0.25 * labels[:, None, None]) + rng.uniform(0, 6, (96, 128, 1))
    )
    images = (waves + rng.normal(0, 0.5, (96, 128, 128))) * 30 + 127
    path = tmp_path_factory.mktemp("data") / "waves.h5"
    dataset = Dataset(
        images=images.clip(0, 254).astype("uint8"),
        labels=labels,
        classes=CLASSES,
        lines=np.full(96, 128),
        session=np.array([f"day {i // 8}" for i in range(96)]),
    )
    save_dataset(dataset, path)
    return path


def run_of(path, scans, *settings):
    config = load_config(None, [*SMALL, f"data.path={scans}", *settings])
    return config, Run.start(path, config)


def history(run):
    with run.file("history.csv").open() as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def weights(run):
    names = list(run.file("checkpoints").glob("epoch-*.weights.h5"))
    assert len(names) == 1
    config = run.config()
    from stm_keras.models import build_model

    model = build_model(config.model, 4)
    model.load_weights(names[0])
    return model.get_weights()


@pytest.mark.smoke
def test_a_run_keeps_everything(tmp_path, scans):
    config, run = run_of(tmp_path / "run", scans)
    predictor, dataset, split = train(config, run)
    rows = history(run)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert run.config() == config
    environment = run.read_json("environment.json")
    assert environment["backend"] == keras.config.backend()
    assert environment["dataset"]["sha256"] == dataset.digest()
    best = max(rows, key=lambda row: (row["val_auroc"], -row["epoch"]))
    assert predictor.metadata["training"]["best"]["epoch"] == best["epoch"]

    validation = split.parts["validation"]
    labels = dataset.labels[validation]
    # as it was before a temperature was fitted, which moves scans past one another
    probabilities = softmax(predictor.logits(dataset.images[validation]))
    area = roc_auc_score(labels, probabilities, multi_class="ovr")
    assert best["val_auroc"] == pytest.approx(area, abs=1e-4)
    balanced = balanced_accuracy_score(labels, probabilities.argmax(1))
    assert best["val_balanced_accuracy"] == pytest.approx(balanced, abs=1e-4)


def test_a_run_is_repeatable_whatever_else_keras_was_told(tmp_path, scans):
    rows = []
    for name in ("one", "two"):
        if rows:
            keras.config.set_max_epochs(1)
            keras.config.set_floatx("float16")
            keras.config.set_epsilon(0.1)
        config, run = run_of(tmp_path / name, scans, "train.epochs=2")
        train(config, run)
        rows.append(
            [{k: v for k, v in row.items() if k != "seconds"} for row in history(run)]
        )
    for one, two in zip(*rows, strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-6)


KILLED = """
import os, sys
from stm_keras.backend import import_keras
import_keras()
from stm_keras.config import load_config
from stm_keras.runs import Run
from stm_keras.training import callbacks, train
class Dies(callbacks.FiniteLoss):
    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if self.epoch == 2 and batch == 1:
            os.kill(os.getpid(), 9)
callbacks.FiniteLoss = Dies
config = load_config(sys.argv[1])
train.train(config, Run.start(sys.argv[2], config))
"""


@pytest.mark.parametrize(
    "extra",
    [pytest.param([], marks=ONCE), ["train.ema=0.9", "train.schedule=plateau"]],
)
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path, scans, extra):
    extra = [*extra, "train.plateau_patience=1"]
    config, whole = run_of(tmp_path / "whole", scans, *extra)
    train(config, whole)
    _, broken = run_of(tmp_path / "broken", scans, *extra)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, whole.file("config.toml"), broken.path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(history(broken)) == 2
    train(config, broken)
    assert len(history(broken)) == 4
    for one, two in zip(history(whole), history(broken), strict=True):
        del one["seconds"], two["seconds"]
        assert one == pytest.approx(two, rel=1e-3, abs=1e-5)
    for one, two in zip(weights(whole), weights(broken), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)


@ONCE
def test_a_finished_run_is_not_trained_again(tmp_path, scans):
    config, run = run_of(tmp_path / "run", scans, "train.epochs=1")
    train(config, run)
    before = run.file("best.keras").stat().st_mtime_ns, history(run)
    train(config, run)
    assert (run.file("best.keras").stat().st_mtime_ns, history(run)) == before


@ONCE
def test_other_data_is_refused_on_resume(tmp_path, scans):
    config, run = run_of(tmp_path / "run", scans, "train.epochs=1")
    train(config, run)
    other = tmp_path / "other.h5"
    from stm_keras.data.load import load_dataset

    save_dataset(load_dataset(scans).take(np.arange(95)), other)
    changed = load_config(None, [*SMALL, f"data.path={other}", "train.epochs=1"])
    with pytest.raises(UsageError, match="the data is not what this run began with"):
        train(changed, Run.start(run.path, changed))


@ONCE
def test_a_diverging_run_says_where(tmp_path, scans):
    config, run = run_of(
        tmp_path / "run",
        scans,
        "train.learning_rate=1e30",
        "train.start_learning_rate=1e30",
        "train.warmup_epochs=0",
        "train.clip_norm=none",
        "train.schedule=constant",
    )
    with pytest.raises(
        TrainingError, match=r"not finite after epoch 1|by (step|epoch) \d+"
    ):
        train(config, run)
    assert not run.file("checkpoints").exists()


@ONCE
def test_early_stopping_stops_and_stays_stopped(tmp_path, scans):
    config, run = run_of(
        tmp_path / "run",
        scans,
        "train.early_stopping=1",
        "train.epochs=30",
        "train.learning_rate=1e-9",
        "train.start_learning_rate=0.0",
    )
    train(config, run)
    epochs = len(history(run))
    assert epochs < 30
    train(config, run)
    assert len(history(run)) == epochs


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_ships_float32(tmp_path, scans, precision):
    config, run = run_of(
        tmp_path / "run", scans, "train.epochs=1", f"train.precision={precision}"
    )
    if precision == "mixed_float16" and keras.config.backend() == "jax":
        with pytest.raises(UsageError, match="JAX has no float16 on a processor"):
            train(config, run)
        return
    predictor, _, _ = train(config, run)
    assert {layer.compute_dtype for layer in predictor.model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_the_average_of_the_weights_is_lent_and_given_back():
    entry = keras.Input((3,))
    model = keras.Model(entry, keras.layers.Dense(2)(entry))
    model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5), "mse")
    inputs, targets = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    model.train_on_batch(inputs, targets)
    first = model.get_weights()[0]
    model.train_on_batch(inputs, targets)
    own = model.get_weights()[0]
    with subject.averaged(model):
        lent = model.get_weights()[0]
    assert not np.allclose(lent, own)
    np.testing.assert_allclose(lent, (first + own) / 2, atol=1e-6)
    assert np.array_equal(model.get_weights()[0], own)


@ONCE
@pytest.mark.smoke
def test_a_signal_between_epochs_loses_nothing(tmp_path, scans):
    config, run = run_of(tmp_path / "run", scans, "train.epochs=500")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "stm_keras",
            "train",
            run.file("config.toml"),
            "-o",
            run.path,
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        text=True,
    )
    deadline = time.monotonic() + 120
    while not run.file("history.csv").exists():  # which is written after state.json
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Run the same command again to go on" in told
    assert "Traceback" not in told
    assert len(history(run)) >= 1


def test_a_warm_up_that_is_as_long_as_the_training_is_told(tmp_path, monkeypatch):
    def stop(config):
        raise InputError("no data")

    monkeypatch.setattr("stm_keras.training.train.load_run_data", stop)
    for epochs in (3, 5, 6):
        expected = [f"`train.warmup_epochs` is 5, of {epochs} epochs"] * (epochs < 6)
        config = load_config(None, ["train.warmup_epochs=5", f"train.epochs={epochs}"])
        with pytest.raises(InputError), logged() as told:
            train(config, Run(tmp_path))
        assert [text[:39] for text in told] == expected


@pytest.mark.parametrize("around", [contextlib.nullcontext, CtrlC])  # as the command line
def test_an_interrupt_that_python_swallowed_is_raised_after_the_step(around):
    interrupt = Interrupt()
    former = signal.getsignal(signal.SIGINT)
    with around():
        interrupt.on_train_begin()
        try:
            interrupt.on_train_batch_end(0)
            with contextlib.suppress(KeyboardInterrupt):  # as a destructor would
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupt.on_train_batch_end(1)
        finally:
            interrupt.close()
    assert signal.getsignal(signal.SIGINT) == former


LIVE = ["model.name=sequential", "model.width=2", "model.units=8", "model.spectra=4"]


def test_a_streaming_model_learns_from_votes_lines_and_other_surfaces(
    tmp_path, scans, monkeypatch
):
    monkeypatch.setattr(calibrate, "CHANGE_SCANS", 24)
    settings = ["simulate.share=0.25", "simulate.unknown=0.125", "simulate.count=16"]
    settings += ["train.keep=last", "train.layer_decay=0.7", "train.batch_size=8"]
    config = load_config(None, [*LIVE, f"data.path={scans}", "train.epochs=2", *settings])
    run = Run.start(tmp_path / "run", config)
    predictor, dataset, split = train(config, run)
    assert predictor.metadata["training"]["best"]["epoch"] == 2
    assert predictor.metadata["input"] == "scaled"
    assert set(predictor.heads(dataset.images[:3])) == {"change", "unknown"}
    assert {"temperature", "unsure", "unknown", "change"} <= set(predictor.metadata)


@ONCE
def test_a_streaming_model_begins_with_the_weights_of_a_run(tmp_path, scans, monkeypatch):
    monkeypatch.setattr(calibrate, "CHANGE_SCANS", 24)
    settings = [*LIVE, f"data.path={scans}", "train.epochs=1"]
    first = load_config(None, settings)
    train(first, Run.start(tmp_path / "first", first))
    again = load_config(None, [*settings, f"train.init={tmp_path / 'first'}"])
    second = Run.start(tmp_path / "second", again)
    train(again, second)
    assert len(history(second)) == 1


@ONCE
@pytest.mark.parametrize(
    ("train_scans", "validation", "scored"),
    [(5000, 3000, MONITORED), (5000, 0, MONITORED), (5000, 70, 70), (30, 70, 30)],
)
def test_few_training_scans_are_scored_after_an_epoch(train_scans, validation, scored):
    indices = np.arange(0, 3 * train_scans, 3)
    drawn = _monitored(indices, validation, seed=2)
    assert len(drawn) == scored
    assert np.isin(drawn, indices).all()
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, _monitored(indices, validation, seed=2))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["log", "terminal"])
def test_a_log_has_a_line_an_epoch_and_a_terminal_a_bar_of_steps(stream):
    shown = []
    lines = subject.ProgressLines(
        stream, lambda title: lambda *counts: shown.append(counts)
    )
    lines.set_params({"epochs": 2, "steps": 3})
    for epoch in range(2):
        lines.on_epoch_begin(epoch)
        for batch in range(3):
            lines.on_train_batch_end(batch)
        lines.on_epoch_end(epoch, {"loss": 1.5, "auroc": 0.75, "seconds": 2})
    assert stream.getvalue() == "".join(
        f"epoch {n}/2  loss 1.5000  AUROC 0.750  2.0 s\n" for n in (1, 2)
    )
    assert shown == [(1, 3), (2, 3), (3, 3)] * 2 * stream.isatty()
