"""A last training, on validation scans too: what it learns from, and what it keeps of others."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE, logged, made_up_dataset

from stm_keras.config import load_config
from stm_keras.data.load import save_dataset
from stm_keras.data.split import split_dataset
from stm_keras.errors import ConfigError, TrainingError
from stm_keras.inference.evaluate import predict_by_lines
from stm_keras.inference.model_file import load_predictor
from stm_keras.runs import Run
from stm_keras.training import calibrate, network_trees
from stm_keras.training import train as subject
from stm_keras.training.calibrate import adopt_refit, calibration_stages
from stm_keras.training.network_trees import add_trees
from stm_keras.training.report import VALIDATION, load_predictions, report_run
from stm_keras.training.train import train

pytestmark = ONCE  # plain Python around trainings

SIZES = ["width=2", "units=8", "spectra=4", "lattice=4", "trees=2"]
SETTINGS = [
    "model.name=sequential",
    *(f"model.{size}" for size in SIZES),
    *("train.epochs=2", "train.keep=last", "train.refit=true", "augment.cut=0"),
    *("train.calibration_folds=2", "train.batch_size=8", "train.learning_rate=0.01"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scans.h5"
    save_dataset(made_up_dataset(48), path)
    return path


def trained(folder, data):
    """Train, or go on: run, model, data set, split, and what was said."""
    config = load_config(None, [*SETTINGS, f"data.path={data}"])
    run = Run.start(folder, config)
    with logged() as said:
        return run, *train(config, run), said


@pytest.fixture(scope="module")
def again(tmp_path_factory, data):
    """A run stopped before the last model got its trees, and then taken up again.

    Run, last model, data set, split, what was said, and the first model.
    """
    folder, first = tmp_path_factory.mktemp("runs") / "again", []

    def note(stages, dataset):
        first.append(load_predictor(stages[0][0].file("best.keras")))
        return adopt_refit(stages, dataset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "CHANGE_SCANS", 24)
        patch.setattr(network_trees, "FEWEST_SCANS", 20)
        patch.setattr(subject, "add_trees", _fail_below)
        with pytest.raises(TrainingError, match="stopped"):
            trained(folder, data)
        assert "temperature" not in load_predictor(folder / "best.keras").metadata
        patch.setattr(subject, "add_trees", add_trees)
        patch.setattr(subject, "adopt_refit", note)
        return *trained(folder, data), first[0]


def _fail_below(config, run, dataset, split, **fewest):
    if not len(split.parts["validation"]):
        raise TrainingError("stopped")
    return add_trees(config, run, dataset, split, **fewest)


def test_all_that_is_not_tested_teaches_network_and_trees(again):
    run, second, _, split, said, first = again
    validation = len(split.parts["validation"])
    counts = first.metadata["training"]["counts"]
    taught = counts["taught"] + validation
    assert second.metadata["training"]["counts"] == {**counts, "taught": taught}
    assert second.metadata["training"]["refit"] == validation
    assert any(f"Fitting trees on {taught} scans" in text for text in said)
    weights = [each.model.get_layer("state").get_weights()[0] for each in (first, second)]
    assert np.abs(weights[0] - weights[1]).max() > 1e-4
    leaves = [np.asarray(each.model.get_layer("trees").leaves) for each in (first, second)]
    assert np.abs(leaves[0] - leaves[1]).max() > 1e-4
    assert [row["epoch"] for row in run.epochs()] == [1, 2]
    assert "val_auroc" in run.epochs()[0]
    assert "val_auroc" not in run.below("refit").epochs()[0]


def test_what_the_first_model_says_of_itself_is_kept(again):
    run, second, dataset, split, _, first = again
    assert {"temperature", "confidence", "unsure", "unknown", "change"} <= set(
        first.metadata
    )
    for key in set(first.metadata) | set(second.metadata) - {"training"}:
        assert key == "training" or first.metadata[key] == second.metadata[key], key
    other = load_predictor(run.below("calibration-2").file("best.keras"))
    other = replace(other, metadata=first.metadata)
    count = len(split.parts["validation"])
    chosen, by_lines = load_predictions(run, VALIDATION)
    np.testing.assert_array_equal(chosen[:count], split.parts["validation"])
    for model, asked in ((first, slice(count)), (other, slice(count, None))):
        for lines, found in predict_by_lines(model, dataset, chosen[asked]).items():
            np.testing.assert_allclose(by_lines[lines][asked], found, atol=1e-5)


def test_another_model_is_asked_about_other_scans(again):
    run, predictor, dataset, split, *_ = again
    chosen, _ = load_predictions(run, VALIDATION)
    asked = chosen[len(split.parts["validation"]) :]
    assert set(asked) <= set(split.parts["train"])
    groups = np.asarray(split.groups)
    taught = np.setdiff1d(split.parts["train"], asked)
    assert not set(groups[asked]) & set(groups[taught])
    other = load_predictor(run.below("calibration-2").file("best.keras"))
    counts = other.metadata["training"]["counts"]
    assert counts["train"] == len(taught) + len(split.parts["validation"])
    assert counts["validation"] == len(asked)
    assert counts["test"] == len(split.parts["test"])
    known = {"folds": 2, "scans": len(chosen)}
    assert predictor.metadata["training"]["calibration"] == known
    assert [own.path.name for own in run.trainings()] == ["again", "calibration-2", "refit"]
    assert all(own.epochs() for own in run.trainings())


@pytest.mark.parametrize("protocol", ["p1", "p2"])
def test_models_leave_out_disjoint_scans_by_whole_groups(tmp_path, protocol):
    dataset = made_up_dataset(240, sessions=12)
    split = split_dataset(dataset, protocol, fold=0, num_folds=4)
    run = Run(tmp_path)
    assert calibration_stages(run, dataset, split, 1) == [(run, split)]
    stages = calibration_stages(run, dataset, split, 4)
    names = [own.path.name for own, _ in stages[1:]]
    assert names == ["calibration-2", "calibration-3", "calibration-4"]
    whole = np.concatenate([split.parts["train"], split.parts["validation"]])
    parts = [own.parts for _, own in stages]
    asked = np.concatenate([part["validation"] for part in parts])
    assert len(set(asked)) == len(asked)
    for part in parts:
        both = np.concatenate([part["train"], part["validation"]])
        np.testing.assert_array_equal(np.sort(both), np.sort(whole))
        assert set(dataset.labels[part["validation"]]) == set(range(4))
        assert len(part["validation"]) == pytest.approx(
            len(parts[0]["validation"]), rel=0.4
        )
        if protocol == "p2":
            days = [set(dataset.session[part[name]]) for name in ("train", "validation")]
            assert not days[0] & days[1]


def test_too_few_scans_or_groups_for_so_many_models_ask_fewer(tmp_path):
    dataset = made_up_dataset(48, sessions=12)
    split = split_dataset(dataset, "p1", fold=0, num_folds=4)
    with logged() as said:
        stages = calibration_stages(Run(tmp_path), dataset, split, 30)
    assert 1 < len(stages) < 30
    assert said == [
        f"Only {len(stages)} of 30 models calibrate the last: there are too few scans or "
        "groups for more."
    ]
    split = split_dataset(dataset, "p2", fold=0, num_folds=4)
    split.groups[:] = split.groups[0]
    run = Run(tmp_path)
    with logged() as said:
        assert calibration_stages(run, dataset, split, 2) == [(run, split)]
    assert len(said) == 1


@pytest.fixture
def given(monkeypatch):
    """What sets the thresholds, given to what scores them, which takes a minute."""
    given = []

    def note(predictor, part, validation=None, groups=None, seed=0, trained_on=False):
        given.append("trained on" if trained_on else validation)
        return {"rejection": None, "unknown": None, "changes": None}

    monkeypatch.setattr("stm_keras.training.report.reliability_scores", note)
    return given


def test_validation_scans_that_taught_set_no_threshold(again, given):
    run, predictor, dataset, split, *_ = again
    report_run(run, predictor, dataset, split)
    chosen, by_lines = load_predictions(run, VALIDATION)
    np.testing.assert_array_equal(given[0], by_lines[128])
    knowing = predictor.probabilities(dataset.take(chosen).images)
    assert np.abs(given[0] - knowing).max() > 1e-3
    assert "validation scans too" in run.file("card.md").read_text()


def test_without_a_test_part_the_first_model_is_scored(tmp_path, again, given):
    run, predictor, dataset, split, *_ = again
    alone = Run(shutil.copytree(run.path, tmp_path / "alone"))
    for name in ("evaluation.json", "predictions.npz"):
        alone.file(name).unlink(missing_ok=True)
    nothing = {**split.parts, "test": np.zeros(0, int)}
    scores = report_run(alone, predictor, dataset, replace(split, parts=nothing))
    assert scores["split"] == "validation"
    assert given == ["trained on"]
    chosen, by_lines = load_predictions(alone)
    _, first = load_predictions(run, VALIDATION)
    np.testing.assert_array_equal(by_lines[128], first[128])
    knowing = predictor.probabilities(dataset.take(chosen).images)
    assert np.abs(by_lines[128] - knowing).max() > 1e-3


def test_a_prolonged_run_prolongs_every_model_and_calibrates_the_last_anew(
    again, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibrate, "CHANGE_SCANS", 24)
    monkeypatch.setattr(network_trees, "FEWEST_SCANS", 20)
    run = Run(shutil.copytree(again[0].path, tmp_path / "longer"))
    config = load_config(None, [*SETTINGS, f"data.path={data}", "train.epochs=3"])
    before = load_predictor(run.file("best.keras")).metadata
    known = run.file(VALIDATION).read_bytes()
    predictor, *_ = train(config, Run.start(run.path, config, prolong=True))
    assert [len(each.epochs()) for each in run.trainings()] == [3, 3, 3]
    assert predictor.metadata["training"]["refit"] == before["training"]["refit"]
    assert predictor.metadata["temperature"] != before["temperature"]
    assert run.file(VALIDATION).read_bytes() != known
    assert network_trees.TREES in {layer.name for layer in predictor.model.layers}


def test_a_finished_run_is_left_as_it_is(again, data):
    run, *_ = again
    before = run.file("best.keras").read_bytes()
    *_, said = trained(run.path, data)
    assert run.file("best.keras").read_bytes() == before
    assert not any("rees" in text or "raining" in text for text in said)


@pytest.mark.parametrize(
    "setting", ["keep=best", "early_stopping=3", "schedule=plateau"], ids=str
)
def test_scans_that_teach_cannot_choose(setting):
    with pytest.raises(
        ConfigError, match="`refit` leaves no validation scans to choose by"
    ):
        load_config(None, ["train.keep=last", "train.refit=true", f"train.{setting}"])


def test_where_the_first_model_gets_no_trees_no_other_gets_any(again, data, monkeypatch):
    run, *_ = again
    asked = []
    monkeypatch.setattr(subject, "add_trees", lambda _, own, *rest: asked.append(own.path))
    trained(run.path, data)
    assert asked == [run.path]
