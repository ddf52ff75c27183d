"""Scans on the device are varied, trained on and resumed as those on the host."""

from pathlib import Path

import keras
import numpy as np
import pytest

from stm_keras.config import load_config
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.data.preprocess import INPUTS
from stm_keras.errors import ConfigError
from stm_keras.inference.model_file import load_predictor
from stm_keras.runs import Run
from stm_keras.settings import AugmentConfig
from stm_keras.training import residence
from stm_keras.training import train as training
from stm_keras.training.batches import Batches
from stm_keras.training.residence import ResidentBatches, lives_on_device, with_scans
from stm_keras.training.targets import TrainingSet

SHARED = Path(__file__).parents[3] / "shared/data/nottingham.h5"
SHAPE = 9, 14  # lines, pixels
ALL = {"rotate": 0.5, "zoom": 0.1, "pan": 0.2, "min_lines": 3, "cut": 0.5}
ALL["line_dropout"] = 0.2
SETTINGS = {
    "nothing": None,
    "flips and losses": AugmentConfig(line_dropout=0.2, min_lines=3, cut=0.5),
    "all but noise": AugmentConfig(**ALL),
}


def made_up(count=6, dtype="uint8", seed=0):
    """Scans of noise on slopes; one has ended early, and one has lost a line."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 200, (count, *SHAPE)) + 3 * np.arange(SHAPE[1])
    images[1, 5:] = 0
    images[2, 3] = 77
    return images.astype(dtype) * (1 if dtype == "uint8" else 1e-12)


def training_set(images, fixed=None, **changes):
    count = len(images)
    state = np.eye(3, dtype="float32")[np.arange(count) % 3]
    weight = 1 + np.arange(count, dtype="float32") / count
    return TrainingSet(images, np.arange(count), state, weight, fixed=fixed, **changes)


def both(scans, augment, **more):
    """Return batches of the host and of the device, of the same scans."""
    return [kind(scans, 4, 0, augment, **more) for kind in (Batches, ResidentBatches)]


def passed_through(batches):
    """Return the first batch: what a network would get, targets and weights."""
    lines, pixels = batches.scans.images.shape[1:]
    entry = keras.Input((lines, pixels))
    model = with_scans(keras.Model(entry, keras.layers.Identity()(entry)), batches)
    inputs, *rest = batches[0]
    return keras.ops.convert_to_numpy(model(inputs)), *rest


@pytest.mark.parametrize("fixed", [False, True], ids=["", "fixed"])
@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_device_varies_scans_as_the_host_does(settings, input, fixed):
    keep = np.arange(6) % 2 == 0 if fixed else None
    host, device = both(training_set(made_up(), keep), SETTINGS[settings], input=input)
    (mine, *rest), (own, *others) = passed_through(host), passed_through(device)
    assert mine.shape == (4, *SHAPE)
    np.testing.assert_allclose(own, mine, atol=1e-4)
    keras.tree.map_structure(np.testing.assert_array_equal, others, rest)


@pytest.mark.skipif(not SHARED.is_file(), reason="no real scans here")
@pytest.mark.parametrize("input", INPUTS)
def test_real_scans_are_varied_as_on_the_host(input):
    images = np.asarray(load_dataset(SHARED).images[:200])
    augment = AugmentConfig(**ALL)
    batches = [
        kind(training_set(images), 64, 0, augment, input=input)
        for kind in (Batches, ResidentBatches)
    ]
    mine, own = (passed_through(each)[0] for each in batches)
    scans = np.abs(own - mine).max((1, 2)) > 1e-4
    # the host sees in a few turned lines of ended scans that they are steps, and no more
    assert scans.mean() < 0.1
    assert np.median(np.abs(own - mine)) < 1e-6


def test_heights_of_any_unit_are_kept_in_16_bits():
    batches = both(training_set(made_up(dtype="float64")), AugmentConfig(**ALL))
    mine, own = (passed_through(each)[0] for each in batches)
    np.testing.assert_allclose(own, mine, atol=5e-3)
    assert residence.stored_scans(batches[1].sets).dtype == np.float16


def test_noise_is_as_strong_as_on_the_host_and_differs_from_step_to_step():
    rng = np.random.default_rng(3)
    images = rng.normal(size=(64, 32, 128))
    augment = AugmentConfig(flip=False, noise=0.8, line_dropout=0, cut=0)
    batches = [
        kind(training_set(images), 64, 0, augment) for kind in (Batches, ResidentBatches)
    ]
    host, device = (passed_through(each)[0] for each in batches)
    clean = INPUTS["standardised"](images[batches[0].order(0)])
    # what of a scan is left beside the noise: 1 / sqrt(1 + level^2) of each
    left = [(each * clean).mean((1, 2)) for each in (host, device)]
    np.testing.assert_allclose(left[1], left[0], atol=0.03)
    assert left[0].min() < 0.85
    assert np.abs(host - device).max() > 0.5  # other numbers, all the same
    batches[1].set_epoch(0)
    model = with_scans(identity((32, 128)), batches[1])
    inputs = batches[1][0][0]
    twice = [keras.ops.convert_to_numpy(model(inputs)) for _ in range(2)]
    assert np.abs(twice[0] - twice[1]).max() > 0.5


def identity(shape):
    entry = keras.Input(shape)
    return keras.Model(entry, keras.layers.Identity()(entry))


def test_targets_of_lines_end_where_the_lines_do_and_shares_are_kept():
    heads = ("state", "change", "unknown")
    beside = training_set(made_up(5, seed=1), unknown=True)
    more = {"heads": heads, "auxiliary": [(beside, 0.3)], "late": 2.0, "input": "scaled"}
    host, device = both(training_set(made_up()), SETTINGS["flips and losses"], **more)
    (mine, *rest), (own, *others) = passed_through(host), passed_through(device)
    np.testing.assert_allclose(own, mine, atol=1e-4)
    keras.tree.map_structure(np.testing.assert_array_equal, others, rest)
    assert rest[1]["state"].min() == 0  # some end early


def test_each_process_makes_its_own_rows():
    augment = SETTINGS["all but noise"]
    whole = ResidentBatches(training_set(made_up()), 4, 0, augment)[0][0]
    for rank in range(2):
        more = {"rank": rank, "world": 2, "devices": 2}
        part = ResidentBatches(training_set(made_up()), 4, 0, augment, **more)[0][0]
        for name, values in part.items():
            assert np.array_equal(values, whole[name][2 * rank : 2 * rank + 2]), name


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    waves = np.sin(np.arange(128) * (0.1 + 0.25 * labels[:, None, None]))
    images = 127 + 30 * (waves + rng.normal(0, 0.5, (40, 128, 128)))
    path = tmp_path_factory.mktemp("data") / "waves.h5"
    save_dataset(
        Dataset(
            images=images.clip(0, 254).astype("uint8"),
            labels=labels,
            classes=CLASSES,
            lines=np.full(40, 128),
            session=np.array([f"day {i // 4}" for i in range(40)]),
        ),
        path,
    )
    return path


def run_of(path, data, where, *more):
    """Start a run of a small ViT, on the host or the device."""
    settings = ["name=vit", "layers=1", "heads=2", "dim=8", "mlp_dim=8"]
    settings = [f"model.{each}" for each in settings] + ["train.batch_size=8"]
    settings += ["train.epochs=2", "train.warmup_epochs=1", f"data.path={data}"]
    config = load_config(None, [*settings, f'data.residence="{where}"', *more])
    return config, Run.start(path, config)


@pytest.mark.smoke
def test_a_training_on_the_device_is_that_on_the_host_and_goes_on_there(
    data, tmp_path, monkeypatch
):
    histories, models = {}, {}
    for where in ("host", "device"):
        config, run = run_of(tmp_path / where, data, where)
        training.train(config, run)
        histories[where] = run.epochs()
        models[where] = load_predictor(run.file("best.keras"))
    for mine, own in zip(histories["host"], histories["device"], strict=True):
        assert own.pop("seconds") > 0 < mine.pop("seconds")
        assert own == pytest.approx(mine, rel=2e-3)
    host, device = (each.model for each in models.values())
    assert host.count_params() == device.count_params()  # the scans are not among them
    assert [each.name for each in device.layers] == [each.name for each in host.layers]

    config, run = run_of(tmp_path / "both", data, "host")

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    original = training._callbacks
    monkeypatch.setattr(training, "_callbacks", lambda *a: [*original(*a), Stop()])
    with pytest.raises(KeyboardInterrupt):
        training.train(config, run)
    assert len(run.epochs()) == 1
    monkeypatch.setattr(training, "_callbacks", original)
    data = config.data.model_copy(update={"residence": "device"})
    training.train(config.model_copy(update={"data": data}), run)
    last = {k: v for k, v in run.epochs()[-1].items() if k != "seconds"}
    assert last == pytest.approx(histories["host"][-1], rel=2e-3)


def test_scans_live_on_a_gpu_where_they_fit(monkeypatch):
    sets = [training_set(made_up())]
    assert not lives_on_device("host", sets)
    monkeypatch.setattr(residence, "devices", lambda: ["cpu"])
    assert not lives_on_device("auto", sets)
    assert lives_on_device("device", sets)
    monkeypatch.setattr(residence, "devices", lambda: ["gpu: one"])
    needed = 6 * SHAPE[0] * SHAPE[1]
    monkeypatch.setattr(residence, "device_memory", lambda: 4 * needed)
    assert lives_on_device("auto", sets)
    monkeypatch.setattr(residence, "device_memory", lambda: 4 * needed - 4)
    assert not lives_on_device("auto", sets)
    monkeypatch.setattr(residence, "device_memory", lambda: None)
    assert lives_on_device("auto", sets)
    monkeypatch.setattr(residence, "budget", lambda: needed - 1)  # of the host
    with pytest.raises(ConfigError, match=r"7.56e-07 GB of scans, of which the memory"):
        lives_on_device("device", sets)
