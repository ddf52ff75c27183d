"""Python files of a user's own: run only with `--trust-code`, and only that which trained a run."""

import contextlib
import shutil
from pathlib import Path

import pytest
from helpers import ONCE, stm

import stm_keras
from stm_keras.config import load_config
from stm_keras.errors import InputError
from stm_keras.inference.keras_parts import TRUSTED
from stm_keras.training.own_parts import load_own_parts

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
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.py:build", "none.py: no such file"),
        ("mine.py:nothing", "mine.py: has no function `nothing`"),
        ("mine.py:wrong", "mine.py: has no function `wrong`"),
        ("broken.py:build", r"broken.py: ZeroDivisionError: .* \(line 1 of broken.py\)"),
    ],
)
def test_a_file_without_the_function_is_named(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(InputError, match=message):
        load_own_parts(load_config(settings=[f"model.name={name}"]), True)


@pytest.fixture(scope="module")
def own_run(tmp_path_factory, dataset_file):
    """Folder with mine.py and a run whose network has a layer of it."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine.py").write_text(CODE)
    shutil.copy(dataset_file, folder / "scans.h5")
    given = ["--data", "scans.h5", "--epochs", "1", "--batch-size", "16", "--trust-code"]
    with contextlib.chdir(folder):
        done = stm("train", "-o", "run", *given, "--set", "model.name=mine.py:build")
    assert done.exit_code == 0, done.stderr
    assert "--model run --trust-code" in done.stderr.splitlines()[-1]
    return folder


@pytest.fixture
def stranger(own_run, monkeypatch):
    """That folder, in a process that knows no layer of it."""
    known = {*TRUSTED}
    TRUSTED.clear()
    monkeypatch.chdir(own_run)
    yield own_run
    TRUSTED.update(known)


def test_a_run_with_layers_of_ones_own_is_opened_by_trust_code(stranger):
    refused = stm("evaluate", "run", "--data", "scans.h5")
    assert refused.exit_code == 3
    assert "from its run by --trust-code of predict" in refused.stderr
    for words in (
        ["evaluate", "run", "--data", "scans.h5"],
        ["predict", "scans.h5", "--model", "run"],
        ["export", "run", "-o", "mine.keras"],
    ):
        TRUSTED.clear()
        done = stm(*words, "--trust-code")
        assert done.exit_code == 0, done.stderr
    TRUSTED.clear()
    alone = stm("predict", "scans.h5", "--model", "mine.keras", "--trust-code")
    assert alone.exit_code == 2
    assert "mine.keras lies in no run" in alone.stderr


def test_no_code_runs_but_that_which_trained_the_run(stranger):
    code = (stranger / "mine.py").read_text()
    (stranger / "mine.py").write_text(code + "open('ran', 'w').close()")
    words = ["predict", "scans.h5", "--model", "run", "--trust-code"]
    changed = stm(*words)
    (stranger / "mine.py").unlink()
    missing = stm(*words)
    (stranger / "mine.py").write_text(code)
    assert not (stranger / "ran").exists()
    assert changed.exit_code == missing.exit_code == 3
    assert "mine.py: is not, or no longer, the file that trained run." in changed.stderr
    assert "mine.py: no such file" in missing.stderr


@ONCE
def test_an_edited_file_runs_anew_in_the_same_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(settings=["augment.own=mine.py:one"])
    Path("mine.py").write_text("def one(heights, rng): return 1", encoding="utf-8")
    assert load_own_parts(config, True).augment(0, 0) == 1
    Path("mine.py").write_text("def one(heights, rng): return 2", encoding="utf-8")
    assert load_own_parts(config, True).augment(0, 0) == 2
    assert not Path("__pycache__").exists()  # which would be run in its place
