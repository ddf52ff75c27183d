"""Networks, augmentation, callbacks and metrics of a user's own; `train` from Python."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, lattice_scans, stm

import stm_keras
from stm_keras.config import load_config
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.load import save_dataset
from stm_keras.data.preprocess import standardise_lines
from stm_keras.errors import ConfigError, InputError, TrainingError, UsageError
from stm_keras.inference.model_file import save_model
from stm_keras.models import build_model
from stm_keras.training.own_parts import OwnParts, build_own, load_own_parts, vary


def network(classes=4, pixels=128, last=None, first=lambda lines: lines):
    lines = keras.Input((None, pixels))
    pooled = keras.layers.GlobalAveragePooling1D()(first(lines))
    return keras.Model(lines, keras.layers.Dense(classes, activation=last)(pooled))


def sharpened(logits):
    return 2 * logits


@pytest.fixture(scope="module")
def scans():
    labels = np.arange(60) % 4
    return Dataset(
        images=lattice_scans(labels).astype("float32"),
        labels=labels,
        classes=CLASSES,
        lines=np.full(60, 128),
        session=np.array([f"day {each // 6}" for each in range(60)]),
        source="made up",
    )


def test_logs_for_tensorboard_hold_every_epoch_once(tmp_path, scans):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    given = {"data": scans, "model": network(), "batch_size": 16, "tensorboard": True}
    stm_keras.train(output=tmp_path / "run", epochs=2, **given)
    written = {}
    for path in (tmp_path / "run" / "tensorboard").iterdir():
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            event = Event.FromString(data[12 : 12 + size])
            data = data[16 + size :]
            for value in event.summary.value:
                written.setdefault(value.tag, []).append((event.step, value.simple_value))
    run = stm_keras.Run.open(tmp_path / "run")
    for name in ("loss", "val_auroc", "learning_rate"):
        steps, values = zip(*written[name], strict=True)
        assert steps == (1, 2)
        assert np.allclose(values, run.history[name], rtol=1e-4)


class Seen(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.logs = []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))


def test_a_network_a_callback_and_a_metric_of_ones_own_train_in_one_call(tmp_path, scans):
    seen = Seen()
    model = network()
    before = model.get_weights()
    run = stm_keras.train(
        output=tmp_path / "run",
        data=scans,
        model=model,
        augment=lambda heights, rng: heights[:, ::-1],
        callbacks=[seen, keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")],
        metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(2, name="top_two")],
        epochs=2,
        batch_size=16,
        settings=["augment.rotate=0"],
    )
    assert len(seen.logs) == 2
    assert "val_auroc" in seen.logs[0]
    saved = keras.models.load_model(tmp_path / "1.keras")  # without our classes
    assert type(saved) is type(model)
    assert saved.output_shape == (None, 4)
    assert run.history["top_two"].shape == (2,)
    assert run.history["top_two"][-1] == pytest.approx(seen.logs[-1]["top_two"], abs=1e-5)
    assert re.fullmatch(r"Run\('.+', AUROC 0\.\d+, balanced .+ test scans\)", repr(run))
    assert run.report.is_file()
    assert len(run.plot().axes) >= 2
    assert run.predictor.architecture == model.name
    assert run.config().data.path == "made up"
    after = run.predictor.model.get_weights()
    assert not np.array_equal(after[0], before[0])
    assert all(
        np.array_equal(*pair) for pair in zip(model.get_weights(), before, strict=True)
    )
    again = stm_keras.train(
        output=run,
        data=scans,
        model=model,
        augment=lambda heights, rng: heights[:, ::-1],
        epochs=2,
        batch_size=16,
        settings=["augment.rotate=0"],
    )
    assert again.scores() == run.scores()


class Stop(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_a_run_that_a_callback_stopped_is_finished_until_it_is_prolonged(tmp_path, scans):
    save_dataset(scans, tmp_path / "scans.h5")
    given = {"data": tmp_path / "scans.h5", "output": tmp_path / "run", "batch_size": 16}
    given["settings"] = ["model.width=2"]

    def train(**more):
        return stm_keras.train(**given, epochs=2, **more)

    run = train(callbacks=[Stop()], metrics=["accuracy"])
    assert len(run.epochs()) == 1
    before = run.report.stat().st_mtime_ns
    assert len(train().epochs()) == 1
    assert run.report.stat().st_mtime_ns == before
    longer = stm("train", "-o", str(run.path), "--more-epochs", "1")
    assert longer.exit_code == 0, longer.stderr
    history = stm_keras.Run.open(run.path).history
    assert len(history["epoch"]) == 2
    assert np.isnan(history["accuracy"]).tolist() == [
        False,
        True,
    ]  # a metric of Python alone


def test_a_finished_run_on_scans_of_python_returns_at_once(tmp_path, scans):
    given = {"output": tmp_path / "run", "model": network(), "epochs": 1, "batch_size": 16}
    run = stm_keras.train(data=scans, **given)
    before = run.report.stat().st_mtime_ns
    assert stm_keras.train(data=scans, **given).scores() == run.scores()
    assert run.report.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="the data is not what this run began with"):
        stm_keras.train(data=scans.take(np.arange(50)), **given)


@ONCE
@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (
            keras.callbacks.ReduceLROnPlateau(),
            "ReduceLROnPlateau cannot set the learning rate",
        ),
        (keras.callbacks.LearningRateScheduler(float), "train.schedule=plateau"),
        (max, "must be of Keras. Received: builtin_function_or_method"),
    ],
)
def test_a_callback_that_would_fail_hours_later_is_refused_at_once(callback, message):
    with pytest.raises(UsageError, match=message):
        OwnParts(callbacks=[callback])


@ONCE
def test_a_layer_of_ones_own_is_refused_until_it_is_handed_over(tmp_path):
    class Thrice(keras.layers.Layer):
        def call(self, inputs):
            return 3 * inputs

    keras.saving.register_keras_serializable("own")(Thrice)
    lines = keras.Input((None, 128))
    pooled = Thrice()(keras.layers.GlobalAveragePooling1D()(lines))
    path = tmp_path / "thrice.keras"
    keras.Model(lines, keras.layers.Dense(4)(pooled)).save(path)
    with pytest.raises(InputError, match=r"\(Thrice .*load_model\(path, \{name: class\}\)"):
        stm_keras.load_predictor(path)
    loaded = stm_keras.load_model(path, {"Thrice": Thrice})
    assert isinstance(loaded.layers[2], Thrice)


def test_varied_scans_follow_from_the_draw_and_lines_that_were_not_recorded_stay_so():
    heights = np.ones((2, 3, 4), np.uint8)
    heights[1, 2] = 0

    def noisy(scan, rng):
        assert scan.dtype == np.float32
        return scan + rng.normal(size=scan.shape)

    one, two, other = (vary(heights, noisy, np.random.default_rng(n)) for n in (0, 0, 1))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])
    assert not one[1, 2].any()
    assert one[0].all()
    with pytest.raises(TrainingError, match=r"finite heights \(3, 4\). Received: \(3, 2\)"):
        vary(heights, lambda scan, rng: scan[:, :2], np.random.default_rng(0))
    with pytest.raises(TrainingError, match="not all finite"):
        vary(heights, lambda scan, rng: scan * np.nan, np.random.default_rng(0))
    with pytest.raises(TrainingError, match=r"Received: \(\), not all finite"):
        vary(heights, lambda scan, rng: None, np.random.default_rng(0))
    with pytest.raises(TrainingError, match="own`: ValueError: could not convert"):
        vary(heights, lambda scan, rng: "scan", np.random.default_rng(0))
    line = noisy.__code__.co_firstlineno
    with pytest.raises(
        TrainingError, match=rf"AssertionError: .*\(line {line + 1} of .*py\)"
    ):
        vary(
            heights,
            lambda scan, rng: noisy(scan.astype(int), rng),
            np.random.default_rng(0),
        )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda **sizes: network(last="softmax"), "ends in a softmax"),
        (lambda **sizes: network(classes=3), r"must give logits \(scans, 4\)"),
        (lambda **sizes: network(pixels=64), r"must take \(scans, lines, 128\)"),
        (lambda **sizes: 3, "must return a keras.Model. Received: int"),
        (lambda num_classes: network(), "cannot be built: TypeError"),
        (lambda **sizes: network(first=keras.layers.Lambda(abs)), "Lambda of keras.layers"),
        (lambda **sizes: network(last=sharpened), "function sharpened of builtins"),
    ],
)
def test_a_network_that_judges_no_scans_is_refused_in_one_line(build, message):
    settings = load_config(settings=["model.name=mine.py:build"]).model
    with pytest.raises(ConfigError, match=message) as caught:
        build_own(build, settings, 4, 128, 128)
    assert "\n" not in str(caught.value)


@ONCE
def test_what_was_given_in_python_is_not_trained_from_a_command():
    with pytest.raises(UsageError, match="was given in Python"):
        load_own_parts(load_config(settings=["model.name=python:Net"]), True)
    assert load_own_parts(load_config(), False) == OwnParts()


@ONCE
def test_other_commands_say_that_a_network_of_ones_own_is_for_training():
    settings = load_config(settings=["model.name=mine.py:build"]).model
    with pytest.raises(UsageError, match="only `stm-keras train --trust-code`"):
        build_model(settings, 4)


def batches_of(kind, inputs, labels):
    if kind == "arrays":
        return {"x": inputs, "y": labels, "batch_size": 8}
    if kind == "tf.data":
        data = pytest.importorskip("tensorflow").data
        return {"x": data.Dataset.from_tensor_slices((inputs, labels)).batch(8)}
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.tensor(inputs), torch.tensor(labels))
    return {"x": torch.utils.data.DataLoader(pairs, batch_size=8)}


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "DataLoader"])
def test_a_stranger_tunes_a_model_file_with_keras_alone(tmp_path, scans, kind):
    small = build_model(load_config(settings=["model.width=2"]).model, 4)
    save_model(small, tmp_path / "small.keras", {"classes": list(CLASSES), "pixels": 128})
    classifier = stm_keras.load_model(tmp_path / "small.keras")
    classifier.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    inputs = standardise_lines(scans.images[:16])
    before = classifier.predict(inputs, verbose=0)
    history = classifier.fit(
        **batches_of(kind, inputs, scans.labels[:16].astype("int32")),
        epochs=5,
        shuffle=False,
        callbacks=[
            keras.callbacks.EarlyStopping("loss", patience=2),
            keras.callbacks.ModelCheckpoint(tmp_path / "tuned.keras", monitor="loss"),
            keras.callbacks.ReduceLROnPlateau("loss", patience=1),
        ],
        verbose=0,
    ).history
    assert len(history["learning_rate"]) >= 3
    assert np.isfinite(history["loss"]).all()
    tuned = stm_keras.load_model(tmp_path / "tuned.keras")
    after = tuned.predict(inputs, verbose=0)
    assert after.shape == before.shape == (16, 4)
    assert not np.allclose(after, before, atol=1e-3)


@ONCE
def test_the_examples_of_the_page_run(tmp_path):
    from test_python_page import blocks, run

    page = (REPOSITORY / "docs" / "network.md").read_text(encoding="utf-8")
    mine, *examples = blocks(page)
    (tmp_path / "mine.py").write_text(mine, encoding="utf-8")
    told = run("\n".join(examples), tmp_path)
    assert len(examples) == 2
    assert "(2, 4) report.html" in told
    assert told.rstrip().endswith("(2, 4)")
    assert Path(tmp_path / "history.png").stat().st_size > 1000
