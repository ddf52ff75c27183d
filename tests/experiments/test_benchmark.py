"""Benchmarks: which runs, one process each, and scores over all folds together."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from folds import finish
from helpers import ONCE, check_error, made_up_dataset, stm

from stm_keras.benchmark_records import Rows
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.data.split import split_dataset
from stm_keras.errors import InputError, StmKerasError, UsageError
from stm_keras.experiments import queue
from stm_keras.experiments.collect import pool_context, pool_folds, pool_splices
from stm_keras.experiments.plan import benchmark_runs, read_variant
from stm_keras.experiments.queue import run_missing
from stm_keras.records import check_record
from stm_keras.reports.benchmark import merge_rows, results_page

pytestmark = ONCE  # no backend changes what is tested here

CONFIGS = [Path("configs/small.toml"), Path("configs/vit.toml")]
SCORED = {"auroc": [0.7, 0.6, 0.8], "balanced_accuracy": [0.5, 0.4, 0.6], "ece": 0.02}
POINT = {  # after some lines, with and without the scans before
    "alone": SCORED,
    "context": {**SCORED, "auroc": [0.8, 0.7, 0.9]},
    "gain": {"auroc": [0.1, 0.05, 0.15], "balanced_accuracy": [0.0, -0.1, 0.1]},
    "changed": {
        "scans": 6,
        "alone": [0.5, 0.4, 0.6],
        "context": [0.4, 0.3, 0.5],
        "gain": [-0.1, -0.2, 0.0],
    },
    "same": None,
}
SCANS_BEFORE = {
    "scans": 30,
    "before": 20,
    "dropped": 1,
    "numbers": [{"frequency": 0.5, "strength": 0.9, "fade_lines": 48}],
    "chosen": True,
    "lines": [{"lines": lines, **POINT} for lines in (2, 8)],
}
SUBSETS = ("all", "full agreement", "consensus")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """File of 96 scans in 12 sessions of three campaigns, and its `Dataset`."""
    path = tmp_path_factory.mktemp("data") / "scans.h5"
    campaign = np.array([f"campaign {i // 4 % 12 // 4}" for i in range(96)])
    save_dataset(
        made_up_dataset(campaign=campaign, images=np.ones((96, 128, 128), "u1")), path
    )
    return path, load_dataset(path)


def test_a_plan_names_every_config_protocol_and_fold(data):
    folds = benchmark_runs(CONFIGS, ["p1", "p2"], data[1], Path("runs"), num_folds=3)
    assert len(folds) == 2 * 2 * 3
    assert folds[0].key == "small:p1:0"
    assert folds[-1].key == "vit:p2:2"
    assert folds[0].path == Path("runs/small-p1-fold0")


def test_under_p3_each_campaign_is_a_fold(data):
    assert len(benchmark_runs(CONFIGS[:1], ["p3"], data[1], Path("runs"), num_folds=7)) == 3


@pytest.mark.parametrize(
    ("only", "keys"),
    [
        (["vit:p2:1"], ["vit:p2:1"]),
        (["vit:p2"], ["vit:p2:0", "vit:p2:1"]),
        (
            ["small", "vit:p1:0"],
            ["small:p1:0", "small:p1:1", "small:p2:0", "small:p2:1", "vit:p1:0"],
        ),
    ],
)
def test_only_takes_beginnings_of_names(data, only, keys):
    folds = benchmark_runs(CONFIGS, ["p1", "p2"], data[1], Path("runs"), 2, only)
    assert [fold.key for fold in folds] == keys


def test_only_that_names_nothing_is_refused(data):
    with pytest.raises(
        UsageError, match=r"`--only vit:p9` names no run\. Runs are small:p1:0,"
    ):
        benchmark_runs(CONFIGS, ["p1"], data[1], Path("runs"), 2, ["vit:p9"])


class Ended:
    """A process that is over already."""

    def __init__(self, code):
        self.code = code

    def wait(self):
        return self.code


def test_each_missing_fold_is_a_process_and_failures_are_told(
    data, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", "stm_keras")
    folds = benchmark_runs(
        CONFIGS[:1], ["p2"], data[1], tmp_path, 3, settings=("seed=4",), backend="jax"
    )
    finish(folds[0], data[1])
    called = []

    def start(arguments, log):
        called.append(arguments)
        if arguments[arguments.index("--fold") + 1] == "1":
            finish(folds[1], data[1])
            return Ended(0)
        return Ended(3)

    monkeypatch.setattr(queue, "start", start)
    failed = run_missing(folds, at_once=2)
    assert failed == [folds[2]]
    assert len(called) == 2
    assert called[0][:2] == ["train", str(CONFIGS[0])]
    assert called[0][-4:] == ["--set", "seed=4", "--backend", "jax"]
    assert caplog.messages[0] == "3 runs, 1 of them done."
    assert any("small:p2:2: failed (3), see" in line for line in caplog.messages)


def test_folds_are_scored_together(data, tmp_path):
    folds = benchmark_runs(CONFIGS[:1], ["p2", "p3"], data[1], tmp_path, 3)
    for fold in folds:
        finish(fold, data[1])
    by_session, by_campaign = pool_folds(folds, data[1])
    for row in (by_session, by_campaign):
        assert (row["folds"], row["folds_done"]) == (3, 3)
        assert row["all"]["n"] == 96
        assert 0.85 < row["all"]["accuracy"] < 0.95
        assert row["consensus"]["n"] == data[1].consensus().sum()
        assert row["epochs"] == [2, 2, 2]
        assert row["seconds"] == [2.2, 2.2, 2.2]
        assert len(row["balanced_accuracy_by_fold"]) == 3
    assert by_session["all"]["resampled"]["units"] == 12
    json.dumps([by_session, by_campaign], allow_nan=False)


def test_the_command_that_repeats_a_row_names_its_folds_and_settings(data, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(
        "[data]\nsoft_labels = 0.5\nsoft_labels_trees = 1\n[train]\nlearning_rate = 0.5\n"
    )
    folds = benchmark_runs([config], ["p1"], data[1], tmp_path, 3)
    finish(folds[1], data[1])
    (row,) = pool_folds(folds, data[1])
    assert row["command"] == (
        "stm-keras benchmark configs/small.toml --data scans.h5 --protocols p1 "
        "--only small:p1:1 --set data.soft_labels=0.0 "
        "--set 'data.soft_labels_trees=\"none\"' --set train.epochs=2 "
        "--set train.learning_rate=0.003 --backend jax"
    )


def test_what_is_not_done_is_counted_and_left_out(data, tmp_path):
    folds = benchmark_runs(CONFIGS, ["p1"], data[1], tmp_path, 3)
    finish(folds[1], data[1])
    (row,) = pool_folds(folds, data[1])
    assert (row["config"], row["folds"], row["folds_done"]) == ("small", 3, 1)
    assert pool_folds(folds[:1], data[1]) == []


def test_folds_of_other_data_are_refused(data, tmp_path):
    folds = benchmark_runs(CONFIGS[:1], ["p1"], data[1], tmp_path, 3)
    finish(folds[0], data[1])
    with pytest.raises(StmKerasError, match="small-p1-fold0: was trained on other data"):
        pool_folds(folds, data[1].take(np.arange(95)))


def test_damaged_predictions_are_named(data, tmp_path):
    folds = benchmark_runs(CONFIGS[:1], ["p1"], data[1], tmp_path, 3)
    finish(folds[0], data[1])
    (folds[0].path / "predictions.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"fold0/predictions\.npz: cannot be read \("):
        pool_folds(folds, data[1])


def test_the_page_shows_scores_classes_lines_and_how_they_were_made(data, tmp_path):
    folds = benchmark_runs(CONFIGS[:1], ["p1", "p2"], data[1], tmp_path, 3)
    for fold in folds:
        finish(fold, data[1])
    page = results_page(pool_folds(folds, data[1]), "waves.h5")
    for text in (
        "## P1, random split per scan",
        "## P2, split by session",
        "| small | 3 of 3 | all single-class | 96 |",
        "| small | 3 of 3 | consensus |",
        "Data: waves.h5",
        "--protocols p1 --set train.epochs=2 --backend jax\n",
        "| small | 71,252 | P2 | 3 of 3 | 2 | 2-2 | jax | cpu | float32 | 0 | abc |",
        "| coverage where 90% is wanted | 0.880 |",
        "| unknown surfaces, AUROC | 0.930 |",
    ):
        assert text in page
    assert "## P3" not in page


def test_a_variant_is_a_setting_or_several():
    assert read_variant("hard:data.soft_labels=0") == ("hard", ("data.soft_labels=0",))
    name, settings = read_variant("few:data.labels=10,data.fractions=[0.5,0.3,0.2],seed=3")
    assert name == "few"
    assert settings == ("data.labels=10", "data.fractions=[0.5,0.3,0.2]", "seed=3")
    for wrong in ("data.labels=10", "few:", "a b:seed=1"):
        with pytest.raises(UsageError, match="`--vary` takes name:section.key=value"):
            read_variant(wrong)


def test_variants_are_compared_with_their_config_fold_by_fold(data, tmp_path, monkeypatch):
    variants = [("short", ("train.epochs=2",))]
    folds = benchmark_runs(
        CONFIGS[:1], ["p2"], data[1], tmp_path, 3, variants=variants, settings=("seed=4",)
    )
    assert [fold.key for fold in folds][::3] == ["small:p2:0", "small+short:p2:0"]
    assert folds[3].path == tmp_path / "small+short-p2-fold0"
    for fold in folds[:3]:
        finish(fold, data[1], right=0.6)
    for fold in folds[4:]:
        finish(fold, data[1], right=0.9)
    base, short = pool_folds(folds, data[1])
    assert (short["base"], short["fold_numbers"]) == ("small", [1, 2])
    assert "--vary short:train.epochs=2 --only small+short:p2:1" in short["command"]
    assert "--set" not in short["command"]
    page = results_page([base, short], "waves.h5")
    (line,) = [x for x in page.splitlines() if x.startswith("| small+short | 2 | +")]
    gained = np.subtract(short["auroc_by_fold"], base["auroc_by_fold"][1:])
    assert f"{gained.mean():+.3f} ({gained.min():+.3f} to {gained.max():+.3f})" in line

    called = []
    monkeypatch.setattr(
        queue, "start", lambda arguments, log: (called.append(arguments), Ended(0))[1]
    )
    run_missing(folds)
    assert called[0][-4:] == ["--set", "seed=4", "--set", "train.epochs=2"]


def test_splices_are_measured_on_the_test_scans_of_each_fold_and_kept(
    data, tmp_path, monkeypatch
):
    folds = benchmark_runs(CONFIGS[:1], ["p2"], data[1], tmp_path, 3)
    for fold in folds[:2]:
        finish(fold, data[1], right=0.6)
    drawn = []

    def splice(dataset, indices, seed):
        drawn.append((sorted(indices), seed))

    flags = {"named": np.eye(5, 40, dtype=bool), "by_scan": np.zeros((5, 40), bool)}
    flags |= {"called": np.ones(5, bool), "sessions": np.array(list("aabbb"))}
    flags |= {"changes": np.zeros(4, bool), "disturbed": np.arange(4) == 1}
    monkeypatch.setattr("stm_keras.live.splices.splice_scans", splice)
    monkeypatch.setattr("stm_keras.live.splices.judge_splices", lambda *_: flags)
    monkeypatch.setattr("stm_keras.inference.model_file.load_predictor", lambda path: None)
    told = pool_splices(folds, data[1])["small", "p2"]
    for fold, (indices, seed) in zip(folds[:2], drawn, strict=True):
        split = split_dataset(data[1], "p2", fold=fold.fold, num_folds=3)
        assert indices == sorted(split.parts["test"])
        assert seed == fold.fold
    assert told["folds"] == [0, 1]
    assert told["splices"] == 10
    assert told["named"][0] == 1
    assert told["at"]["4"] == [0.2, 0.0]
    assert told["disturbed"] == 0.25

    (before,) = pool_folds(folds, data[1])
    (row,) = merge_rows([before], [{**before, "folds_done": 1, "splices": told}])
    assert (row["folds_done"], row["splices"]) == (2, told)  # of fewer folds, and kept
    (row,) = merge_rows([row], [before])
    assert row["splices"] == told
    page = results_page([row], "waves.h5")
    assert "named within 10 lines in 100 % [100, 100]" in page
    assert "--splices --only small:p2:0 --only small:p2:1" in page
    assert "| 4 | 20 % | 0 % |" in page


def test_what_scans_before_bring_is_measured_by_the_model_of_each_fold(
    data, tmp_path, monkeypatch
):
    dataset = replace(data[1], run=np.repeat(np.arange(2), 48))
    folds = benchmark_runs(CONFIGS[:1], ["p1", "p2"], dataset, tmp_path, 3)
    for fold in folds[:5]:  # of P1 all three, whose sessions are in training: not measured
        finish(fold, dataset)
    judged, scored = [], []

    def judge(model, dataset, tested, transitions, progress):
        judged.append((model.parent.name, sorted(tested), transitions.shape))
        return len(judged)

    monkeypatch.setattr("stm_keras.inference.context.FEWEST_PAIRS", 30)
    monkeypatch.setattr("stm_keras.inference.evaluate_context.judge_sessions", judge)
    monkeypatch.setattr(
        "stm_keras.inference.evaluate_context.score_context",
        lambda parts, seed: scored.append(parts) or SCANS_BEFORE,
    )
    monkeypatch.setattr("stm_keras.inference.find_model.find_model", lambda p: (p / "m", 0))
    monkeypatch.setattr("stm_keras.inference.model_file.load_predictor", lambda path: path)
    told = pool_context(folds, dataset)
    assert list(told) == [("small", "p2")]
    assert told["small", "p2"]["folds"] == [0, 1]
    assert scored == [[1, 2]]
    for fold, (name, tested, shape) in zip(folds[3:5], judged, strict=True):
        split = split_dataset(dataset, "p2", fold=fold.fold, num_folds=3)
        assert name == fold.path.name
        assert tested == sorted(split.parts["test"])
        assert shape == (4, 4)


def test_scans_before_need_scans_that_follow_each_other(data, tmp_path):
    folds = benchmark_runs(CONFIGS[:1], ["p2"], data[1], tmp_path, 3)
    finish(folds[0], data[1])
    with pytest.raises(StmKerasError, match="needs `session` and `run` of each scan"):
        pool_context(folds, data[1])


def test_gain_and_price_of_the_scans_before_are_on_the_page(data, tmp_path):
    folds = benchmark_runs(CONFIGS[:1], ["p2"], data[1], tmp_path, 3)
    finish(folds[0], data[1])
    (before,) = pool_folds(folds, data[1])
    told = {**SCANS_BEFORE, "folds": [0]}
    (row,) = merge_rows([before], [{**before, "context": told}])
    (row,) = merge_rows([row], [before])  # of another time, without
    check_record(Rows, [row], "results.json")
    page = results_page([row], "waves.h5")
    assert "`small`, folds 0: 30 scans, 20 of them with scans before them" in page
    assert "chosen on the other folds (0.5, 0.9, 48)" in page
    gain = "0.700 [0.600, 0.800] | 0.800 [0.700, 0.900] | +0.100 [+0.050, +0.150]"
    assert f"| 8 | {gain} |" in page
    assert "of the 6 scans whose class is not that of the scan before" in page
    assert (
        "| 8 | 0.500 [0.400, 0.600] | 0.400 [0.300, 0.500] | -0.100 [-0.200, +0.000] |"
        in page
    )
    assert "| 2 | 0.7" not in page  # 1, 8, 20 and 48 are shown


# The same through the command line


@pytest.fixture
def small(tmp_path):
    """An empty config: all defaults."""
    path = tmp_path / "small.toml"
    path.write_text("")
    return path


@pytest.fixture
def command(data, tmp_path, small):
    """Arguments of a benchmark without training, with its folds done."""
    for fold in benchmark_runs([small], ["p1", "p2"], data[1], tmp_path / "runs", 3):
        finish(fold, data[1])
    given = ["benchmark", small, "--data", data[0], "--runs", tmp_path / "runs"]
    return [*given, "--folds", 3, "--protocols", "p1,p2"]


def test_the_command_prints_and_writes_the_page_and_the_scores(command, tmp_path):
    page, scores = tmp_path / "deep" / "results.md", tmp_path / "scores.json"
    given = [*command, "--no-train", "--report", page, "-o", scores]
    result = stm(*given)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == page.read_text() + "\n"
    assert [row["protocol"] for row in json.loads(scores.read_text())] == ["p1", "p2"]
    assert stm(*given).exit_code == 0, "results are written anew"


def test_results_of_other_configs_are_kept(command, tmp_path):
    scores = tmp_path / "scores.json"
    given = [*command, "--no-train", "-o", scores]
    assert stm(*given).exit_code == 0
    rows = json.loads(scores.read_text())
    other = {**rows[0], "config": "older"}
    foreign = {**rows[0], "config": "of other data", "data": "another digest"}
    scores.write_text(json.dumps([foreign, {**rows[1], "seed": 99}, other]))
    result = stm(*given)
    found = json.loads(scores.read_text())
    names = [(row["config"], row["protocol"]) for row in found]
    assert names == [("small", "p2"), ("older", "p1"), ("small", "p1")]
    assert found[0]["seed"] == 0
    assert "| older | 3 of 3 |" in result.stdout
    scores.write_text("{")
    check_error(stm(*given), 3, "scores.json: is damaged")


def test_finished_folds_are_not_trained_again(command, monkeypatch):
    monkeypatch.setattr(queue, "start", None)
    result = stm(*command)
    assert result.exit_code == 0
    assert "6 runs, 6 of them done." in result.stderr


def test_failed_folds_are_named_after_the_table(command, monkeypatch):
    monkeypatch.setattr(queue, "start", lambda arguments, log: Ended(3))
    result = stm(*command, "--folds", 4, "--only", "small:p2")
    check_error(result, 1, "1 runs failed: small:p2:3.")
    assert "## P2, split by session" in result.stdout


def test_nothing_finished_or_wrong_arguments_are_one_line(data, tmp_path, small):
    given = ["benchmark", small, "--data", data[0], "--runs", tmp_path / "none"]
    check_error(stm(*given, "--no-train"), 1, "none: no fold is finished yet")
    result = stm(*given, "--protocols", "p1,p7")
    assert result.exit_code == 2
    assert "p7 is not a protocol: p1, p2, p3" in result.stderr
    check_error(stm(*given, "--only", "vit"), 2, "`--only vit` names no run")
    check_error(stm("benchmark", small, "--data", "no.h5"), 3, "no.h5: does not exist")
    # a config that is not there is told before any scan is read
    result = stm("benchmark", tmp_path / "vit_smal.toml", "--data", "no.h5")
    check_error(result, 3, "vit_smal.toml: no such file. Did you mean `vit_small`?")
