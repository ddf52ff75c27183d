"""Networks, augmentation, callbacks and metrics of a user's own; `train` from Python."""

import pathlib
import re

import keras
import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, lattice_scans, stm

import stm_keras
from stm_keras.config import load_config
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.preprocess import standardise_lines
from stm_keras.errors import ConfigError, InputError, TrainingError, UsageError
from stm_keras.inference.model_file import save_model
from stm_keras.models import build_model
from stm_keras.training.own_parts import OwnParts, build_own, load_own_parts, vary

CODE = """
import keras

class Twice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs

def build(num_classes, pixels, max_lines, width=3):
    lines = keras.Input((None, pixels))
    hidden = Twice()(keras.layers.Dense(width, activation="relu")(lines))
    pooled = keras.layers.GlobalAveragePooling1D()(hidden)
    return keras.Model(lines, keras.layers.Dense(num_classes)(pooled), name="mine")

def jitter(heights, rng):
    return heights + rng.normal(0, 0.1, heights.shape)

wrong = 3
"""


def network(classes=4, pixels=128, last=None):
    lines = keras.Input((None, pixels))
    pooled = keras.layers.GlobalAveragePooling1D()(lines)
    return keras.Model(lines, keras.layers.Dense(classes, activation=last)(pooled))


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
        callbacks=[seen],
        metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(2, name="top_two")],
        epochs=2,
        batch_size=16,
        settings=["augment.rotate=0"],
    )
    assert [logs["epoch"] for logs in seen.logs] == [1, 2]
    assert "val_auroc" in seen.logs[0]
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


def test_a_network_of_a_file_trains_only_where_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE + "open('ran', 'w').close()\n")
    given = ["train", "-o", "run", "--epochs", "1", "--set", "simulate.count=60"]
    given += ["--set", "model.name=mine.py:build", "--set", "model.width=5"]
    given += ["--set", "augment.own=mine.py:jitter"]
    refused = stm(*given)
    assert refused.exit_code == 2
    assert "Add --trust-code" in refused.stderr
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run").exists()
    done = stm(*given, "--trust-code")
    assert done.exit_code == 0, done.stderr
    run = stm_keras.Run.open("run")
    assert list(run.read_json("environment.json")["own_code"]) == ["mine.py"]
    assert run.config().model.width == 5
    assert run.predictor.model.layers[1].units == 5  # its own layer is trusted in here
    network = stm_keras.load_model("run/best.keras")
    assert network.output_shape == (None, 4)


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


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda **sizes: network(last="softmax"), "ends in a softmax"),
        (lambda **sizes: network(classes=3), r"must give logits \(scans, 4\)"),
        (lambda **sizes: network(pixels=64), r"must take \(scans, lines, 128\)"),
        (lambda **sizes: 3, "must return a keras.Model. Received: int"),
        (lambda num_classes: network(), "cannot be built: TypeError"),
    ],
)
def test_a_network_that_judges_no_scans_is_refused_in_one_line(build, message):
    settings = load_config(settings=["model.name=mine.py:build"]).model
    with pytest.raises(ConfigError, match=message) as caught:
        build_own(build, settings, 4, 128, 128)
    assert "\n" not in str(caught.value)


@ONCE
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py:build", "none.py: no such file"),
        ("mine.py:nothing", "mine.py: has no function `nothing`"),
        ("mine.py:wrong", "mine.py: has no function `wrong`"),
        ("broken.py:build", "broken.py: ZeroDivisionError"),
    ],
)
def test_a_file_without_the_function_is_named(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(InputError, match=message):
        load_own_parts(load_config(settings=[f"model.name={name}"]), True)


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
    assert pathlib.Path(tmp_path / "history.png").stat().st_size > 1000
