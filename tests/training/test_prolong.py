"""`train --more-epochs`: a finished run goes on, as a longer one from where it stands."""

import csv
import json
import shutil

import pytest
from helpers import ONCE, check_error, stm

from stm_keras.errors import InputError
from stm_keras.locks import LOCK
from stm_keras.runs import Run
from stm_keras.training import callbacks

pytestmark = ONCE  # plain Python around trainings


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy of a finished run of two epochs."""
    return Run(shutil.copytree(trained_run, tmp_path / "run"))


def history(run):
    """Return the rows of history.csv without what the clock says."""
    rows = list(csv.DictReader(run.file("history.csv").read_text().splitlines()))
    return [{key: row[key] for key in row if key != "seconds"} for row in rows]


def test_a_prolonged_run_appends_epochs_and_is_scored_anew(run):
    before, scored = history(run), run.file("evaluation.json").stat().st_mtime_ns
    result = stm("train", "-o", run.path, "--more-epochs", 2)
    assert result.exit_code == 0, result.stderr
    after = history(run)
    assert after[:2] == before
    assert [row["epoch"] for row in after] == ["1", "2", "3", "4"]
    # warm-up of 1 epoch, then a cosine over 3: after two of these a quarter is left
    rates = [float(row["learning_rate"]) for row in after]
    assert rates == pytest.approx([0.01, 0, 0.0025, 0], abs=1e-6)
    assert run.config().train.epochs == 4
    assert run.file("evaluation.json").stat().st_mtime_ns > scored
    assert run.file("command.txt").read_text().count("\n") == 2
    assert "4</td>" in run.file("report.html").read_text().partition("best epoch")[2][:60]


def test_an_interrupted_prolongation_goes_on_and_adds_nothing_twice(run, monkeypatch):
    undisturbed = Run(shutil.copytree(run.path, run.path.with_name("undisturbed")))
    command = ["train", "-o", run.path, "--more-epochs", 3]
    real = callbacks.EpochScores.on_epoch_end

    def interrupted(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt
        real(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.EpochScores, "on_epoch_end", interrupted)
        assert stm(*command).exit_code == 130
    assert (len(history(run)), run.config().train.epochs) == (3, 5)
    assert not run.file("evaluation.json").exists()
    result = stm(*command)
    assert "goes on after epoch 3" in result.stderr
    assert stm("train", "-o", undisturbed.path, "--more-epochs", 3).exit_code == 0
    assert history(run) == history(undisturbed)
    scores = [json.loads(r.file("evaluation.json").read_text()) for r in (run, undisturbed)]
    assert scores[0]["auroc"] == scores[1]["auroc"]


def test_a_prolongation_without_an_epoch_leaves_the_run_finished(run, monkeypatch):
    def contents():
        return {
            path.relative_to(run.path): path.read_bytes()
            for path in run.path.rglob("*")
            if path.is_file() and path.name != LOCK
        }

    def fail(config):
        raise InputError("the data is away")

    before = contents()
    with monkeypatch.context() as patch:
        patch.setattr("stm_keras.training.train.load_run_data", fail)
        result = stm("train", "-o", run.path, "--more-epochs", 1)
    check_error(result, 3, "the data is away")
    assert contents() == before
    assert "is finished" in stm("train", run.file("config.toml"), "-o", run.path).stderr


def test_the_command_that_made_the_run_prolongs_it_too(run, train_command):
    assert stm(*train_command, "-o", run.path, "--more-epochs", 1).exit_code == 0
    assert len(history(run)) == 3


def test_what_cannot_be_prolonged_is_refused(run, tmp_path):
    check_error(stm("train", "--more-epochs", 1), 2, "needs the run", "Add -o")
    check_error(
        stm("train", "-o", run.path, "--more-epochs", 1, "--seed", 7),
        2,
        "trained with another config, different in seed",
    )
    check_error(stm("train", "-o", tmp_path, "--more-epochs", 1), 3, "is not a run")
    shutil.rmtree(run.file("checkpoints"))  # as of a folder of `adapt`
    check_error(stm("train", "-o", run.path, "--more-epochs", 1), 2, "has no epochs")


def test_a_longer_run_in_the_folder_is_told_how(run, train_command):
    longer = [*train_command, "-o", run.path, "--epochs", 9]
    check_error(stm(*longer), 2, f"stm-keras train -o {run.path} --more-epochs N.")


def test_a_run_that_stopped_early_asks_for_more_patience(run):
    state = run.read_json("checkpoints/state.json")
    state["rows"][0]["val_auroc"], state["rows"][1]["val_auroc"] = 0.9, 0.8
    run.write_json("checkpoints/state.json", state)
    config = run.file("config.toml").read_text()
    run.write_text("config.toml", config.replace("keep =", "early_stopping = 1\nkeep ="))
    command = ["train", "-o", run.path, "--more-epochs", 1]
    check_error(stm(*command), 2, "stopped early, 1 epochs after its best")
    assert run.config().train.epochs == 2
    result = stm(*command, "--set", "train.early_stopping=none")
    assert result.exit_code == 0, result.stderr
    assert len(history(run)) == 3
    assert run.config().train.early_stopping is None


def test_the_data_of_a_finished_run_is_read_again_only_if_its_file_changed(
    run, train_command, monkeypatch
):
    def load(path):
        raise AssertionError("the data was read")

    monkeypatch.setattr("stm_keras.data.load.load_dataset", load)
    result = stm(*train_command, "-o", run.path)
    assert result.exit_code == 0
    assert "is finished" in result.stderr
    split = run.read_json("split.json")
    run.write_json("split.json", {**split, "stamp": [split["stamp"][0], 1]})
    with pytest.raises(AssertionError, match="the data was read"):
        stm(*train_command, "-o", run.path)


def test_a_warm_up_as_long_as_the_run_is_said(tmp_path, train_command):
    command = [*train_command, "-o", tmp_path / "short", "--epochs", 1]
    said = "the learning rate only rises"
    assert said in stm(*command).stderr
    assert said not in stm("train", "-o", command[-3], "--more-epochs", 1).stderr
