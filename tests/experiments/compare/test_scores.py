"""What all sides begin with, and runs that are scored: in this process, to spare time."""

import keras
import numpy as np
import pytest
from compare_parts import TINY_VIT, part
from helpers import FEW_LINES, ONCE

from stm_keras.config import load_config
from stm_keras.errors import MismatchError, TrainingError
from stm_keras.experiments.compare import measure
from stm_keras.experiments.compare.folder import ComparisonFolder, digest
from stm_keras.experiments.compare.keras_trainer import prepare
from stm_keras.experiments.compare.records import Plan, Setup
from stm_keras.experiments.compare.worker import Worker
from stm_keras.runs import Run

pytestmark = ONCE
SETUP = Setup(library=keras.config.backend())


def start(path, dataset_file, *settings, **plan):
    config = load_config(settings=[*TINY_VIT, f"data.path={dataset_file}", *settings])
    plan = {"steps": 2, "epochs": 1, "seeds": 1, **plan}
    folder = ComparisonFolder(path)
    return folder, folder.start(Plan(config=config, setups=(SETUP,), **plan))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, dataset_file):
    """A `ComparisonFolder` that is prepared for a tiny ViT, and its `Plan`."""
    folder, plan = start(tmp_path_factory.mktemp("prepared"), dataset_file)
    prepare(folder, plan)
    return folder, plan


def test_batches_weights_and_split_are_those_of_the_run(prepared):
    folder, _ = prepared
    material = folder.material()
    assert len(material["batches"]) == 4  # as many as timing goes round
    inputs, targets, weights = folder.batch(1)
    assert digest([inputs]) == material["batches"][1] != material["batches"][0]
    assert inputs.shape == (8, 128, 128)
    assert targets.shape == (8, 4)
    assert weights.shape == (8,)
    assert digest(folder.weights().values()) == material["weights"]
    assert material["learning_rates"][0] < material["learning_rates"][1]
    parts = folder.read_json("split.json")["parts"]
    assert set(parts) == {"train", "validation", "test"}


def test_prepared_again_everything_is_the_same(prepared, dataset_file, tmp_path):
    again, plan = start(tmp_path, dataset_file)
    prepare(again, plan, prepared[0].file("weights.npz"))
    assert again.material() == prepared[0].material()


def test_weights_of_another_network_are_refused(
    prepared, dataset_file, tmp_path, monkeypatch
):
    small = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    monkeypatch.setattr(
        "stm_keras.experiments.compare.keras_trainer.build_model", lambda *sizes: small
    )
    other, plan = start(tmp_path, dataset_file)
    with pytest.raises(
        MismatchError, match=r"is of another network than vit of tiny\. Give"
    ):
        prepare(other, plan, prepared[0].file("weights.npz"))


def test_a_seed_is_trained_and_judged_on_the_split_of_the_comparison(prepared, monkeypatch):
    monkeypatch.setattr("stm_keras.inference.evaluate.LINES_SEEN", FEW_LINES)
    folder, _ = prepared
    found = Worker(folder, SETUP).score(seed=5)
    assert 0 <= found["auroc"] <= 1
    run = Run.open(folder.run_path(SETUP, 5))
    assert run.config().seed == 5
    assert run.config().train.epochs == 1
    assert run.read_json("split.json")["parts"] == folder.read_json("split.json")["parts"]
    judged = np.load(run.file("predictions.npz"))["indices"].tolist()
    assert judged == folder.read_json("split.json")["parts"]["test"]
    assert found["auroc"] == run.read_json("evaluation.json")["auroc"]


def test_seeds_that_are_done_are_only_read_and_a_failure_is_noted(
    prepared, dataset_file, tmp_path, monkeypatch, caplog
):
    class Failing:
        def __init__(self, folder, setup, cores):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def call(self, method, seed):
            assert (method, seed) == ("score", 1)
            raise TrainingError("the loss is not finite")

    monkeypatch.setattr(measure, "Process", Failing)
    folder, plan = start(tmp_path, dataset_file, seeds=2)
    done = {"auroc": 0.75, "balanced_accuracy": 0.5}
    folder.write_json(f"runs/{SETUP.slug}-seed0/evaluation.json", done)
    folder.write_part(SETUP, part(SETUP.library))
    caplog.set_level("INFO", "stm_keras")
    measure.score_setups(folder, plan, [SETUP])
    found = folder.done(SETUP)["scores"]
    assert found["runs"] == {"0": done}
    assert found["failed"] == {"1": "the loss is not finite"}
    assert caplog.messages[-1] == f"{SETUP.name}, seed 1: failed: the loss is not finite"
