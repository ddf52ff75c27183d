"""`stm-keras benchmark --human`: raters, and models on the very same scans."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from folds import finish
from helpers import ONCE, check_error, made_up_dataset, stm

from stm_keras.benchmark_records import Rows
from stm_keras.data.dataset import SIX_CLASSES, labels_from_votes
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.errors import DatasetError, StmKerasError
from stm_keras.evaluation.ceiling import score_ceiling
from stm_keras.experiments import human
from stm_keras.experiments.human import pool_human
from stm_keras.experiments.plan import benchmark_runs
from stm_keras.records import HUMAN, check_record
from stm_keras.reports.benchmark import merge_rows, results_page
from stm_keras.reports.human import ALIKE, UNKNOWN, verdict

pytestmark = ONCE  # no backend changes what is tested here

SPLIT = {
    49: (1, 2),
    53: (1, 2, 5),
    55: (0, 3),
    59: (0, 3),
    71: (4, 5),
}  # boxes of half a vote


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """File of 96 scans of two raters each, who differ on five; pixels tell the scan."""
    votes = np.eye(6)[[0, 2, 3, 5]][np.arange(96) % 4]
    for scan, boxes in SPLIT.items():
        votes[scan] = 0
        votes[scan, list(boxes)] = 0.5
    fields = {
        "classes": SIX_CLASSES,
        "votes": votes,
        "raters": np.full(96, 2),
        "unanimous": ((votes == 0) | (votes == 1)).all(1),
        "labels": labels_from_votes(votes),
        "images": np.repeat(np.arange(96, dtype="u1"), 128 * 128).reshape(96, 128, 128),
    }
    path = tmp_path_factory.mktemp("data") / "scans.h5"
    save_dataset(made_up_dataset(**fields), path)
    return path, load_dataset(path), votes


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A ceiling of two types, in no time."""
    ceiling = partial(score_ceiling, tried=(4,), resamples=3)
    monkeypatch.setattr(
        human, "score_ceiling", lambda scans, seed: ceiling(scans, seed=seed)
    )


@pytest.fixture
def asked(monkeypatch):
    """Scans that the kept model of each run is asked about; they are of class 1, it says."""
    scans = {}

    class Kept:
        def __init__(self, path):
            self.run = path.parent

        def probabilities(self, images):
            scans[self.run] = images[:, 0, 0].tolist()
            return np.eye(4)[np.ones(len(images), int)]

    monkeypatch.setattr(human, "find_model", lambda path: (path / "best.keras", None))
    monkeypatch.setattr(human, "load_predictor", Kept)
    return scans


def planned(data, folder, finished=3):
    folds = benchmark_runs([Path("configs/small.toml")], ["p2"], data[1], folder, 3)
    for fold in folds[:finished]:
        finish(fold, data[1], right=1)
    return folds


def test_kept_models_judge_the_scans_without_a_class_of_the_sessions_that_test_them(
    data, tmp_path, asked
):
    folds = planned(data, tmp_path)
    row = pool_human(folds, data[1], data[2])
    assert sorted(sum(asked.values(), [])) == sorted(SPLIT)
    assert len(asked) > 1
    for run, scans in asked.items():
        tested = np.load(run / "predictions.npz")["indices"]
        assert set(data[1].session[scans]) <= set(data[1].session[tested])
    pairs = row["models"]["small"]["beside"]["pairs"]
    # raters: 91 agree, as do those of 49 and 71; 55 and 59 differ, and 53 does in a third
    assert pairs["n"] == pytest.approx(95 + 1 / 3)
    assert pairs["certain"] == 95
    assert pairs["human"]["accuracy"][0] == pytest.approx(93 / (95 + 1 / 3))
    # the model is wrong on 71, 55 and 59, and right with one of both raters of 53
    assert pairs["model"]["accuracy"][0] == pytest.approx((92 + 1 / 6) / (95 + 1 / 3))
    check_record(Rows, json.loads(json.dumps([row], allow_nan=False)), "results.json")


def test_scans_of_split_votes_are_counted_and_scored_apart(data, tmp_path, asked):
    row = pool_human(planned(data, tmp_path), data[1], data[2])
    assert row["label_rule"] == {"kept": 91, "sure": 2, "sums": 3}
    rules = row["models"]["small"]["label_rule"]
    assert [scores["n"] for scores in rules.values()] == [91, 93, 94]
    accuracies = [scores["accuracy"] for scores in rules.values()]
    assert accuracies == pytest.approx([1, 92 / 93, 93 / 94])  # wrong on 71 alone
    page = results_page([row], "scans.h5")
    assert "On 2 scans this is certain" in page
    assert "3 scans would gain a class" in page
    assert "| small | as they are, by the larger share | 91 | 1.000 [" in page


def test_without_all_folds_raters_are_measured_alone(data, tmp_path, asked):
    row = pool_human(planned(data, tmp_path, finished=2), data[1], data[2])
    assert row["models"] == {}
    assert asked == {}
    assert row["raters"]["pairs"]["n"] == pytest.approx(95 + 1 / 3)
    assert row["ceiling"]["types"] == 4


def test_runs_of_other_data_and_data_without_raters_are_refused(data, tmp_path):
    folds = planned(data, tmp_path)
    other = data[1].take(np.arange(95))
    with pytest.raises(StmKerasError, match="small-p2-fold0: was trained on other data"):
        pool_human(folds, other, data[2][:95])
    with pytest.raises(
        DatasetError, match="has no `raters`, so nothing is known of single"
    ):
        pool_human([], made_up_dataset(raters=None), np.eye(4))


def test_the_command_writes_raters_where_no_fold_is_done(data, tmp_path):
    page, scores = tmp_path / "page.md", tmp_path / "scores.json"
    config = tmp_path / "small.toml"
    config.write_text("")
    given = ["benchmark", config, "--data", data[0], "--runs", tmp_path / "none"]
    given += ["--no-train", "--protocols", "p2", "--report", page, "-o", scores]
    check_error(stm(*given), 1, "none: no fold is finished yet")
    assert not scores.exists()
    for _ in range(2):  # and once more into what is there
        result = stm(*given, "--human")
        assert result.exit_code == 0, result.stderr
        assert "small: not all folds are done" in result.stderr
        (row,) = json.loads(scores.read_text())
        assert row["config"] == HUMAN
        assert "## The human beside the model" in page.read_text()
        assert "| two raters, one class each | a human rater | 95 |" in page.read_text()


def test_results_keep_the_models_of_the_same_data_beside_raters(data, tmp_path, asked):
    row = pool_human(planned(data, tmp_path), data[1], data[2])
    (kept,) = merge_rows([row], [{**row, "models": {"vit": row["models"]["small"]}}])
    assert list(kept["models"]) == ["small", "vit"]
    (alone,) = merge_rows([{**row, "data": "others"}], [{**row, "models": {}}])
    assert alone["models"] == {}


def beside(*bounds):
    """What `verdict` reads, with these intervals of differences."""
    each = [None if b is None else [sum(b) / 2, *b] for b in bounds]
    names = ("balanced_accuracy", "accuracy")
    return {
        "pairs": {"difference": dict(zip(names, each[:2], strict=True))},
        "mixed": {"difference": dict(zip(names, each[2:], strict=True))},
    }


HELD, ABOVE, BELOW = (-0.02, 0.03), (0.01, 0.03), (-0.04, -0.01)


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ([HELD] * 4, ALIKE),
        ([HELD, HELD, HELD, None], UNKNOWN),
        ([ABOVE] * 4, "above a human rater"),
        ([BELOW] * 4, "below a human rater"),
        (
            [HELD, BELOW, HELD, HELD],
            "below a human rater in accuracy (two raters, one class each); no difference can be "
            "shown in the rest",
        ),
        (
            [HELD, ABOVE, BELOW, HELD],
            "above a human rater in accuracy (two raters, one class each); below a human rater in "
            "balanced accuracy (a decided rater, labels as under P2); no difference can be shown "
            "in the rest",
        ),
        (
            [ABOVE, ABOVE, BELOW, BELOW],
            "above a human rater in balanced accuracy (two raters, one class each) and accuracy "
            "(two raters, one class each); below a human rater in balanced accuracy (a decided "
            "rater, labels as under P2) and accuracy (a decided rater, labels as under P2)",
        ),
    ],
)
def test_words_come_out_of_the_intervals(bounds, said):
    assert verdict(beside(*bounds)) == said
