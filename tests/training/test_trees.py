"""A run of trees: what it keeps, what it refuses, and the commands that read it."""

import csv
import json

import numpy as np
import pytest
from helpers import ONCE, check_error, logged, stm, write_dataset

from stm_keras.config import load_config
from stm_keras.data.load import load_dataset
from stm_keras.errors import UsageError
from stm_keras.inference.find_model import find_model, is_model, read_metadata
from stm_keras.inference.model_file import load_predictor
from stm_keras.runs import Run
from stm_keras.training.trees import train_trees

pytestmark = ONCE  # trees have no backend

FILES = {
    ".lock",
    "best.skops",
    "card.md",
    "checkpoints",
    "command.txt",
    "config.toml",
    "environment.json",
    "evaluation.json",
    "history.csv",
    "predictions.npz",
    "report.html",
    "split.json",
    "validation.npz",  # of the first fit, which had not learnt from those scans
}
QUICK = ["model.name=trees", "model.iterations=8", "model.learning_rate=0.4"]
QUICK += ["model.begun=1", "model.logistic=0.1"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """HDF5 file of made-up scans in 12 sessions, with votes."""
    return write_dataset(tmp_path_factory.mktemp("trees") / "scans.h5")


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory):
    """Folder of a run of trees that the command line made."""
    path = tmp_path_factory.mktemp("runs") / "trees"
    settings = [word for setting in QUICK for word in ("--set", setting)]
    result = stm("train", "--data", scans, "-o", path, *settings)
    assert result.exit_code == 0, result.stderr
    assert "Fitting trees again, on the validation scans too." in result.stderr
    return path


def test_a_run_of_trees_holds_what_other_runs_hold(folder):
    assert {path.name for path in folder.iterdir()} == FILES
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["backend"] == "scikit-learn"
    assert environment["devices"] == ["cpu"]
    assert {"scikit-learn", "skops"} <= set(environment["packages"])
    with (folder / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert 0.5 < float(row["val_auroc"]) <= 1
    assert float(row["seconds"]) > 0
    card = (folder / "card.md").read_text()
    assert "# trees" in card
    assert "best epoch" not in card


def test_the_file_tells_how_it_was_made(folder):
    facts = read_metadata(folder / "best.skops")
    assert facts["training"]["config"]["model"]["name"] == "trees"
    counts = facts["training"]["counts"]
    assert counts["taught"] == counts["train"] + counts["validation"]
    assert facts["parameters"] > 100
    assert facts["temperature"]["lines"][-1] == 128


def test_a_run_of_trees_means_its_trees(folder):
    assert is_model(folder)
    assert is_model(folder / "best.skops")
    assert find_model(folder) == (folder / "best.skops", Run(folder))
    assert find_model(folder / "best.skops") == (folder / "best.skops", Run(folder))


def test_trees_judge_whole_and_begun_scans(folder, scans):
    predictor, dataset = load_predictor(folder / "best.skops"), load_dataset(scans)
    test = json.loads((folder / "split.json").read_text())["parts"]["test"]
    images, labels = dataset.images[test], dataset.labels[test]
    told = []
    whole = predictor.probabilities(images, progress=lambda *each: told.append(each))
    assert whole.shape == (len(test), 4)
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-6)
    alike = np.array([0, 1, 1, 3])  # levelled, the made-up dimers are rows
    assert (alike[whole.argmax(1)] == alike[labels]).mean() > 0.9
    assert told[-1] == (len(test), len(test))
    begun = predictor.probabilities(images, 40)
    cut = images.copy()
    cut[:, 40:] = 0
    np.testing.assert_allclose(begun, predictor.probabilities(images[:, :40]), atol=1e-6)
    logits = predictor.logits(cut)
    np.testing.assert_allclose(logits, predictor.logits(images, 40), atol=1e-4)
    assert predictor.probabilities(images[:0]).shape == (0, 4)
    assert not predictor.every_line


def test_the_same_command_again_fits_nothing(folder, scans):
    before = (folder / "best.skops").read_bytes()
    config = load_config(folder / "config.toml")
    with logged() as told:
        predictor, _, split = train_trees(config, Run.open(folder))
    assert (folder / "best.skops").read_bytes() == before
    assert told == []
    assert list(predictor.classes) == read_metadata(folder / "best.skops")["classes"]
    assert len(split.parts["test"])


def test_few_labels_and_no_refit(scans, tmp_path):
    more = ["model.refit=false", "data.labels=24", f"data.path={scans}", "seed=3"]
    config = load_config(None, [*QUICK, *more])
    predictor, _, _ = train_trees(config, Run.start(tmp_path / "run", config))
    assert predictor.metadata["training"]["counts"]["taught"] == 24


@pytest.mark.parametrize(
    "setting",
    [
        "data.soft_labels=true",
        "data.soft_labels_trees=0.5",
        "train.init=runs/a",
        "simulate.share=0.5",
    ],
)
def test_what_only_networks_can_do_is_refused(scans, tmp_path, setting):
    config = load_config(None, [*QUICK, f"data.path={scans}", setting])
    name = setting.partition("=")[0]
    with pytest.raises(UsageError, match=f"`{name}` is for networks. Leave it out"):
        train_trees(config, Run.start(tmp_path / "run", config))


# The commands that read a run


def test_evaluate_gives_the_scores_of_the_run(folder, scans):
    result = stm("evaluate", folder, "--data", scans, "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)
    kept = json.loads((folder / "evaluation.json").read_text())
    for key in ("auroc", "balanced_accuracy", "n", "by_lines"):
        assert scores[key] == kept[key]


def test_predict_analyze_and_info_know_trees(folder, scans):
    result = stm("predict", folder / "best.skops", scans, "--json")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 96
    assert set(records[0]["probabilities"]) == set(
        read_metadata(folder / "best.skops")["classes"]
    )
    result = stm("analyze", folder, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[0]["epochs"] == 1
    result = stm("info", folder, "--json")
    assert json.loads(result.stdout)["training"]["config"]["model"]["begun"] == 1


def test_trees_are_no_keras_file(folder, tmp_path):
    result = stm("export", folder, "--format", "keras", "-o", tmp_path / "a.keras")
    check_error(result, 2, "best.skops", "trees need no export: copy the file")
