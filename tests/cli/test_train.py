"""`stm-keras train`: what a run leaves behind, and how it is started again."""

import contextlib
import csv
import fcntl
import json
import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import (
    ONCE,
    REPOSITORY,
    TINY,
    check_error,
    lattice_scans,
    stm,
    stm_process,
    write_dataset,
)
from scan_files import sxm

from stm_keras.cli import train as subject
from stm_keras.config import config_names, load_config
from stm_keras.inference.find_model import read_metadata
from stm_keras.runs import COLUMNS, Run

FILES = {
    ".lock",
    "best.keras",
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
}


@pytest.mark.smoke
def test_a_run_holds_everything_one_needs_to_repeat_and_to_trust_it(
    trained_run, dataset_file
):
    assert {path.name for path in trained_run.iterdir()} == FILES
    environment = json.loads((trained_run / "environment.json").read_text())
    assert environment["backend"] == keras.config.backend()
    assert environment["packages"]["keras"] == keras.__version__
    assert environment["dataset"]["scans"] == 96
    assert environment["dataset"]["sessions"] == 12
    config = load_config(trained_run / "config.toml")
    assert config.train.epochs == 2
    assert config.data.path == str(dataset_file)
    facts = read_metadata(trained_run / "best.keras")
    assert facts["training"]["config"] == json.loads(config.model_dump_json())


@ONCE
def test_a_model_of_another_size_judges_files_of_as_many_pixels_and_of_more(tmp_path):
    run, onnx = tmp_path / "run", tmp_path / "a.onnx"
    size = ("--set", "simulate.size=40", "--set", "simulate.count=60")
    result = stm("train", "quickstart", "-o", run, *TINY, *size, "--epochs", 1)
    assert result.exit_code == 0, result.stderr
    assert stm("export", run, "-o", onnx).exit_code == 0
    metadata = read_metadata(run / "best.keras")
    assert (metadata["pixels"], metadata["max_lines"]) == (40, 40)
    for pixels in (40, 80):
        heights = lattice_scans([1], lines=pixels, pixels=pixels)[0] * 1e-12
        data = sxm({"Z": ("m", heights, None)}, size=(9e-9, 9e-9))
        (tmp_path / f"{pixels}.sxm").write_bytes(data)
        judged = []
        for model in (run, onnx):
            result = stm("predict", tmp_path / f"{pixels}.sxm", "--model", model, "--json")
            judged.append(json.loads(result.stdout))
            assert judged[-1]["lines"] == pixels
            assert "tiles" not in judged[-1]
        one, other = (list(each["probabilities"].values()) for each in judged)
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_the_help_names_the_configs():
    text = " ".join(stm("train", "--help").stdout.split())
    *most, last = config_names()
    assert f"comes with stm-keras: {', '.join(most)} or {last}." in text


def test_commands_take_a_config_by_its_name_and_say_an_unknown_one(
    dataset_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    wrong = ["--set", "train.epochs=0"]  # which is refused once the config was read
    data = ["--data", dataset_file]
    for command, output in (
        ("train", []),
        ("compare", ["-o", "a"]),
        ("submit", ["-o", "b"]),
    ):
        given = [*data, *output, *wrong]
        check_error(stm(command, "vit_small", *given), 2, "`train.epochs`")
        check_error(
            stm(command, "vit_smal", *given), 3, "vit_smal: no such", "`vit_small`?"
        )
    check_error(stm("benchmark", "vit_smal", *data), 3, "vit_smal: no such", "`vit_small`?")
    given = ["benchmark", "vit_small", *data, "--protocols", "p1", "--only", "x"]
    check_error(stm(*given), 2, "Runs are vit_small:p1:0, ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.smoke
def test_the_history_has_a_row_for_each_epoch(trained_run):
    with (trained_run / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(np.isfinite([float(value) for value in row.values()]).all() for row in rows)


@pytest.mark.smoke
def test_predictions_are_those_that_scored_the_run(trained_run, dataset_file):
    with np.load(trained_run / "predictions.npz") as saved:
        indices, whole = saved["indices"], saved["probabilities"][-1]
    result = stm("predict", trained_run, dataset_file, "--json")
    assert result.exit_code == 0, result.stderr
    records = [json.loads(line) for line in result.stdout.splitlines()]
    told = np.array([list(records[i]["probabilities"].values()) for i in indices])
    np.testing.assert_allclose(told, whole, atol=2e-6)


def test_sessions_stay_in_one_part_without_being_asked(trained_run):
    split = json.loads((trained_run / "split.json").read_text())
    days = np.array(split["groups"])
    parts = {name: set(days[indices]) for name, indices in split["parts"].items()}
    assert split["protocol"] == "p2"
    assert sum(map(len, parts.values())) == 12
    assert len(set.union(*parts.values())) == 12


def test_the_same_command_again_trains_nothing_and_says_the_scores(
    trained_run, train_command
):
    before = {path: path.stat().st_mtime_ns for path in trained_run.rglob("*.*")}
    result = stm(*train_command, "-o", trained_run, "--json")
    assert result.exit_code == 0
    assert "epoch" not in result.stderr
    scores = json.loads((trained_run / "evaluation.json").read_text())
    assert json.loads(result.stdout) == {"run": str(trained_run), **scores}
    after = {path: path.stat().st_mtime_ns for path in trained_run.rglob("*.*")}
    assert {path.name for path in after if after[path] != before.get(path)} <= {".lock"}


@ONCE
def test_a_run_that_is_over_ends_at_once_without_keras(trained_run, train_command):
    words = [str(word) for word in (*train_command, "-o", trained_run, "--json")]
    program = (
        "import sys\n"
        "from stm_keras.cli.main import main\n"
        f"main({words!r}, standalone_mode=False)\n"
        "assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(trained_run)


def test_another_config_in_the_same_folder_is_refused(trained_run, train_command):
    given = [*train_command, "-o", trained_run, "--seed", 5, "--set", "model.width=8"]
    config = (trained_run / "config.toml").read_bytes()
    check_error(
        stm(*given),
        2,
        f"{trained_run}: holds a run with another config, different in model.width, seed.",
        "Choose another --output",
    )
    assert (trained_run / "config.toml").read_bytes() == config


def test_other_data_in_the_same_folder_is_refused(trained_run, tmp_path):
    other = write_dataset(tmp_path / "other.h5", seed=1)
    check_error(
        stm("train", "--data", other, "--epochs", 2, *TINY, "-o", trained_run),
        2,
        "the data is not what this run began with",
    )
    assert (trained_run / "best.keras").exists()


def test_a_folder_that_is_no_run_is_refused_and_left_alone(tmp_path, train_command):
    (tmp_path / "letter.txt").write_text("dear")
    check_error(
        stm(*train_command, "-o", tmp_path),
        1,
        f"{tmp_path}: is not empty and is not a run.",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_output_that_cannot_be_written_is_refused(tmp_path, train_command):
    (tmp_path / "file").write_text("")
    result = stm(*train_command, "-o", tmp_path / "file" / "run")
    check_error(result, 1, "run: cannot be written (Not a directory). Choose another path.")


def test_a_second_process_in_the_folder_is_refused(trained_run, train_command):
    with (trained_run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = stm(*train_command, "-o", trained_run)
    check_error(result, 1, f"{trained_run}: another process trains here.")
    assert (trained_run / "best.keras").exists()


def test_a_second_process_does_not_clear_what_the_first_has_begun(tmp_path, train_command):
    folder = tmp_path / "run"
    with Run(folder).claimed(load_config()):
        check_error(stm(*train_command, "-o", folder), 1, "another process trains here.")
        assert (folder / "config.toml").exists()


def test_of_two_in_a_new_folder_one_is_told_that_another_trains_here(
    tmp_path, train_command, monkeypatch
):
    folder, made = tmp_path / "run", Run.write_text

    def interfere(run, name, text):
        """Let the second come before the first has written anything."""
        monkeypatch.setattr(Run, "write_text", made)
        check_error(stm(*train_command, "-o", folder), 1, "another process trains here.")
        return made(run, name, text)

    monkeypatch.setattr(Run, "write_text", interfere)
    monkeypatch.setattr("stm_keras.training.train.load_run_data", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stm(*train_command, "-o", folder)
    assert not folder.exists()


@ONCE
def test_of_many_at_once_in_a_new_folder_all_but_one_are_refused(tmp_path):
    """Each makes the folder, and removes it when it fails: no two have it at a time."""
    code = """
import pathlib, sys, time
from stm_keras.config import load_config
from stm_keras.errors import OutputError
from stm_keras.runs import Run

end, alone = time.time() + 1.5, pathlib.Path("alone")
while time.time() < end:
    try:
        with Run(pathlib.Path("run")).claimed(load_config()):
            alone.open("x").close()
            alone.unlink()
            1 / 0
    except ZeroDivisionError:
        print("had it")
    except OutputError as error:
        assert "another process trains here" in str(error), error
"""
    many = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    told = [process.communicate(timeout=60) for process in many]
    assert [errors for _, errors in told] == [""] * 3
    assert all("had it" in text for text, _ in told)


@ONCE
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc to make locks fail with")
def test_a_file_system_without_locks_is_trained_on_and_read_from(tmp_path, train_command):
    """As NFS without a lock daemon: also HDF5, and Keras' own files, do without."""
    code = "#include <errno.h>\nint flock(int f, int o) { errno = ENOLCK; return -1; }\n"
    library = tmp_path / "nolocks.so"
    words = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", library]
    subprocess.run(words, input=code, text=True, check=True)
    given = [*train_command, "-o", tmp_path / "run"]
    done = stm_process(*given, env={"LD_PRELOAD": str(library)})
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning: ") == 1
    assert f"Warning: {tmp_path}/run: this file system has no locks (No l" in done.stderr
    asked = {"LD_PRELOAD": str(library), "HDF5_USE_FILE_LOCKING": "TRUE"}
    done = stm_process("info", train_command[2], env=asked)
    check_error(done, 3, "cannot be locked, as HDF5_USE_FILE_LOCKING asks for")


def test_an_interrupt_before_the_first_epoch_leaves_nothing(
    tmp_path, train_command, monkeypatch
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("stm_keras.training.train.load_run_data", interrupted)
    result = stm(*train_command, "-o", tmp_path / "run")
    assert result.exit_code == 130
    assert "Interrupted before the first epoch was done: nothing is kept." in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_killed_in_its_first_epoch_takes_another_config(tmp_path):
    """As after a kill for memory, with a smaller batch."""
    run = Run.start(tmp_path / "run", load_config())
    run.write_json("split.json", {})
    run.file(".best-12ab.keras").write_text("half a model")
    run.file("checkpoints").mkdir()
    other = load_config(None, ["train.batch_size=2"])
    held = contextlib.ExitStack()
    held.enter_context(run.claimed(other))
    assert run.config() == other
    found = {path.name for path in run.path.iterdir()}
    assert found == {".lock", "command.txt", "config.toml"}
    with pytest.raises(ZeroDivisionError), held:
        raise ZeroDivisionError
    assert not run.path.exists()


def test_a_config_that_the_user_keeps_in_the_folder_is_not_removed(tmp_path):
    (tmp_path / "config.toml").write_text('name = "mine"\n')
    result = stm("train", tmp_path / "config.toml", "--data", "nothing.h5", "-o", tmp_path)
    check_error(result, 2, "different in") if result.exit_code == 2 else check_error(
        result, 3
    )
    assert (tmp_path / "config.toml").read_text() == 'name = "mine"\n'


def test_without_output_the_run_goes_to_a_dated_folder(tmp_path, dataset_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(
        subject.Run, "start", lambda path, config, *_: seen.append(path) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        stm("train", "--data", dataset_file, "--set", "name=mine")
    assert seen[0].parent.name == "runs"
    assert seen[0].name.endswith("-mine")
    assert not list((tmp_path / "runs").iterdir())


def test_short_options_are_the_settings_they_stand_for(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        subject.Run, "start", lambda path, config, *_: seen.append(config) or 1 / 0
    )
    shorts = (
        "--epochs 3 --batch-size 7 --learning-rate 2e-3 --seed 5 --protocol p1 --fold 1"
    )
    with pytest.raises(ZeroDivisionError):
        stm("train", "--data", "x.h5", *shorts.split(), "--precision", "mixed_bfloat16")
    (config,) = seen
    settings = config.train
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (3, 7, 2e-3)
    assert (config.seed, config.data.protocol, config.data.fold) == (5, "p1", 1)
    assert (config.data.path, settings.precision) == ("x.h5", "mixed_bfloat16")


def test_a_short_option_wins_over_a_setting_and_both_over_the_file(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        subject.Run, "start", lambda path, config, *_: seen.append(config) or 1 / 0
    )
    file = tmp_path / "mine.toml"
    file.write_text("seed = 1\n[train]\nepochs = 1\nbatch_size = 9\n")
    given = ["--set", "train.epochs=2", "--set", "seed=2", "--seed", "3"]
    with pytest.raises(ZeroDivisionError):
        stm("train", file, *given)
    (config,) = seen
    assert (config.seed, config.train.epochs, config.train.batch_size) == (3, 2, 9)


@ONCE
def test_a_bare_train_simulates_its_scans(tmp_path):
    small = ["--set", "simulate.count=48", "--epochs", 1, *TINY]
    result = stm("train", *small, "-o", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    assert "Simulating 48 scans, seed 0." in result.stderr
    scores = json.loads(result.stdout)
    assert scores["protocol"] == "p1"
    assert scores["data"] == "simulated, seed 0"
