"""Networks from one start, one after another: what each is, their mean, and a restart."""

import numpy as np
import pytest
from helpers import made_up_dataset

from stm_keras.config import load_config
from stm_keras.data.storage import save_dataset
from stm_keras.errors import ConfigError
from stm_keras.runs import Run
from stm_keras.training import callbacks as after
from stm_keras.training.members import member_path
from stm_keras.training.train import train

SETTINGS = ["model.name=cnn_small", "model.width=2", "train.batch_size=16"]
SETTINGS += ["train.epochs=2", "train.keep=last"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scans.h5"
    save_dataset(made_up_dataset(64, sessions=8), path)
    return path


def trained(folder, data, *settings):
    config = load_config(None, [*SETTINGS, f"data.path={data}", *settings])
    run = Run.start(folder, config)
    return run, train(config, run)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data):
    return trained(tmp_path_factory.mktemp("runs") / "whole", data, "train.members=2")


def members(run):
    found = []
    for number in range(2):
        with np.load(member_path(run, number)) as file:
            found.append([file[name] for name in file.files])
    return found


def assert_same(ones, others, **tolerance):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def test_the_model_is_the_mean_of_its_members(whole):
    run, predictor = whole
    first, second = members(run)
    assert any(not np.allclose(one, two) for one, two in zip(first, second, strict=True))
    for one, two, mean in zip(first, second, predictor.model.get_weights(), strict=True):
        if one.dtype.kind == "f":
            np.testing.assert_allclose((one + two) / 2, mean, rtol=1e-5, atol=1e-6)
    assert predictor.facts["training"]["members"] == 2
    assert "best" not in predictor.facts["training"]
    assert "temperature" in predictor.facts


def test_the_first_member_is_the_network_alone(tmp_path, data, whole):
    run, alone = trained(tmp_path / "alone", data)
    assert_same(members(whole[0])[0], alone.model.get_weights(), rtol=1e-3, atol=1e-5)
    rows = [each.read_json("checkpoints/state.json")["rows"] for each in (run, whole[0])]
    assert [row["epoch"] for row in rows[1]] == [1, 2, 3, 4]
    for one, other in zip(rows[0], rows[1], strict=False):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    rates = [row["learning_rate"] for row in rows[1]]
    assert rates[2:] == pytest.approx(rates[:2])  # warm-up and cosine begin anew


def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path, data, whole, monkeypatch):
    class Stops(after.FiniteLoss):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1 and self.epoch in stops:
                stops.remove(self.epoch)
                raise KeyboardInterrupt

    stops = [2, 3]  # in the first and in the second epoch of the second member
    monkeypatch.setattr(after, "FiniteLoss", Stops)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "broken", data, "train.members=2")
    run, predictor = trained(tmp_path / "broken", data, "train.members=2")
    assert not stops
    for one, other in zip(members(run), members(whole[0]), strict=True):
        assert_same(one, other, rtol=1e-3, atol=1e-5)
    assert_same(
        predictor.model.get_weights(), whole[1].model.get_weights(), rtol=1e-3, atol=1e-5
    )
    path, before = run.file("best.keras"), run.file("best.keras").read_bytes()
    trained(tmp_path / "broken", data, "train.members=2")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "setting", ["train.keep=best", "train.early_stopping=2", "train.schedule=plateau"]
)
def test_members_must_end_alike(setting):
    with pytest.raises(ConfigError, match="`members` above 1 needs keep"):
        load_config(None, [*SETTINGS, "train.members=2", setting])
