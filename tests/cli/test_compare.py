"""`stm-keras compare`: real comparisons of a tiny network, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import h5py
import numpy as np
import psutil
import pytest
from compare_parts import TINY_VIT, made_up_folder, part
from helpers import ONCE, REPOSITORY, check_error, stm

from stm_keras.backend import BACKENDS, installed_backends
from stm_keras.experiments.compare.folder import ComparisonFolder

pytestmark = ONCE
SMALL = ("--rounds", 2, "--steps-per-round", 1, "--cores", 1)
HERE = os.environ["KERAS_BACKEND"]
INSTALLED = installed_backends()
TORCH = find_spec("torch") is not None  # the references need it


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """File of a tiny ViT."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text("")
    return path


def arguments(config, data, output, *more):
    settings = [word for setting in TINY_VIT for word in ("--set", setting)]
    return ["compare", config, "--data", data, "-o", output, *settings, *SMALL, *more]


@pytest.fixture(scope="module")
def crashing_timm(tmp_path_factory):
    """Folder with a timm that kills whoever imports it."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "timm.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    return folder


@pytest.fixture(scope="module")
def compared(tmp_path_factory, config, dataset_file, crashing_timm):
    """All backends, torch without Keras and a side that crashes: command, folder, result."""
    folder = tmp_path_factory.mktemp("compared") / "out"
    given = ("--backends", ",".join(INSTALLED), "--steps", 4, "--loading", 2, "--json")
    given += ("--reference", "native,timm" if TORCH else "none")
    command = arguments(config, dataset_file, folder, *given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(crashing_timm))
        return command, folder, stm(*command)


@pytest.mark.skipif(not TORCH, reason="timm needs torch")
def test_a_crash_is_a_row_with_the_reason_and_the_others_still_come(compared):
    _, folder, result = compared
    assert result.exit_code == 3, result.output
    *whole, crashed = json.loads(result.stdout)["rows"]
    assert [row["side"] for row in whole] == [*INSTALLED, "native"]
    assert {row["status"] for row in whole} == {"done"}
    assert crashed["side"] == "timm"
    assert crashed["reason"].startswith("ended by signal 9 (out of memory?), see ")
    assert "Did not run: timm: ended by signal 9" in result.stderr
    for suffix in ("html", "md", "json"):
        assert folder.joinpath(f"comparison.{suffix}").stat().st_size > 500
    assert list((folder / "batches").iterdir()), "for the next try"


def test_a_setup_says_what_it_measured(compared):
    row = json.loads(compared[2].stdout)["rows"][0]
    assert row["devices"] == ["cpu"] or row["devices"][0].startswith("gpu")
    assert row["dtypes"]["computed"] == "float32"
    assert len(row["losses"]) == 4
    assert len(row["step_wall"]["values"]) == 2
    assert (
        0
        < row["step_wall"]["min"]
        <= row["step_wall"]["median"]
        < row["first_step"]["wall"]
    )
    assert row["scans_per_second"]["predict"] > 0
    assert 0.1 < row["memory_gb"]["host"] < 20
    assert 0 <= row["waiting_share"] < 1
    assert row["versions"]["keras"]


def test_what_is_done_is_not_done_again(compared, crashing_timm, monkeypatch):
    command, folder, before = compared
    monkeypatch.setenv("PYTHONPATH", str(crashing_timm))
    written = (folder / "parts" / f"{HERE}.json").read_text()
    result = stm(*command)
    assert result.exit_code == 3
    assert "Measuring timm." in result.stderr  # it failed, so it is tried again
    assert HERE not in result.stderr
    assert json.loads(result.stdout)["rows"][0] == json.loads(before.stdout)["rows"][0]
    assert json.loads((folder / "parts" / f"{HERE}.json").read_text()) == json.loads(
        written
    )


def test_other_data_is_refused(compared, tmp_path, dataset_file):
    command, folder, _ = compared
    other = tmp_path / "scans.h5"
    other.write_bytes(dataset_file.read_bytes())
    with h5py.File(other, "r+") as file:
        file["images"][0, 0, 0] ^= 1
    changed = [other if word == dataset_file else word for word in command]
    check_error(stm(*changed), 2, "the data is not that which this comparison started from")


def test_other_weights_are_refused(compared, tmp_path):
    command, folder, _ = compared
    ComparisonFolder(tmp_path).save_weights(["kernel"], [np.zeros(3)])
    other = ("--weights", tmp_path / "weights.npz")
    check_error(stm(*command, *other), 2, "started from other weights than", "--overwrite")
    lost = ("--weights", tmp_path / "lost.npz")
    check_error(stm(*command, *lost), 3, "lost.npz: does not exist. Give the weights.npz")


def test_data_that_is_missing_is_told_before_a_backend_is_loaded(config, tmp_path):
    given = arguments(config, tmp_path / "lost.h5", tmp_path / "out", "--backends", HERE)
    result = stm(*given)
    check_error(result, 3, "lost.h5: does not exist")
    assert "Preparing" not in result.stderr


def test_a_backend_that_is_broken_is_told_with_its_last_words(
    config, dataset_file, tmp_path, monkeypatch
):
    (tmp_path / "keras.py").write_text("raise RuntimeError('no keras')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    given = arguments(config, dataset_file, tmp_path / "out", "--backends", HERE)
    result = stm(*given)
    assert result.exit_code == 2
    told = f"No backend could prepare the comparison. {HERE}: RuntimeError: no keras"
    assert result.stderr.endswith(f"Error: {told}\n")


def test_a_job_measures_only_its_setups_and_joins_them_as_they_are(compared, tmp_path):
    _, folder, _ = compared
    assert stm("compare", "--only", HERE, "-o", folder).exit_code == 0
    check_error(
        stm("compare", "--only", "mxnet", "-o", folder),
        2,
        "`--only mxnet`: is not a setup of this comparison. Setups: ",
        f", {HERE}",
    )
    result = stm("compare", "--join", folder, "-o", tmp_path / "joined")
    assert result.exit_code == 3  # one side has failed
    assert result.stdout.splitlines()[0].startswith("setup ")
    assert (tmp_path / "joined" / "comparison.html").exists()


@pytest.mark.skipif(list(BACKENDS) != INSTALLED, reason="needs all three")
def test_three_backends_and_native_pytorch_agree(compared):
    command, folder, result = compared
    comparison = json.loads(result.stdout)
    first, *others, _ = comparison["rows"]
    assert first["losses"][0] != first["losses"][-1]
    for row in others:
        assert row["agrees_with"] == BACKENDS[0]
        assert row["logits_difference"] < 1e-4
        assert row["loss_difference"] < 1e-4
        assert row["logits_difference_after"] < 1e-3
        assert row["parameters"] == first["parameters"]
    told = comparison["command"]
    assert told.startswith("stm-keras compare configs/tiny.toml --data scans.h5 ")
    assert str(folder.parent) not in told


def test_when_all_was_measured_the_batches_are_removed(tmp_path):
    folder = made_up_folder(tmp_path, [part("jax"), part("torch")])
    folder.save_arrays("batches/0000.npz", {"scans": np.zeros(3)})
    assert stm("compare", "--join", tmp_path, "-o", tmp_path).exit_code == 0
    assert list((tmp_path / "batches").iterdir()) == []


def test_ctrl_c_leaves_no_process_and_says_how_to_go_on(config, dataset_file, tmp_path):
    words = arguments(config, dataset_file, tmp_path / "out", "--backends", HERE)
    process = subprocess.Popen(
        [sys.executable, "-m", "stm_keras", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stderr.readline() == f"Preparing weights and batches with {HERE}.\n"
    children = []
    while not children:
        children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Interrupted. Run the same command to go on in {tmp_path / 'out'}." in told
    _, left = psutil.wait_procs(children, timeout=20)
    assert not left


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "model.name=trees"], "`trees` is not a network"),
        (
            ["--set", "model.tokenizer=conv", "--reference", "native"],
            "`--reference` is for a",
        ),
        (["--backends", "mxnet"], "`--backends`: unknown 'mxnet'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    config, dataset_file, tmp_path, more, message
):
    given = ["compare", config, "--data", dataset_file, "-o", tmp_path / "out"]
    check_error(stm(*given, "--set", "model.name=vit", *more), 2, message)
    assert not (tmp_path / "out").exists()


def test_config_data_and_folders_are_asked_for(tmp_path):
    check_error(stm("compare", "-o", tmp_path), 2, "Give one CONFIG and --data, or folders")
    check_error(stm("compare", "--join", "-o", tmp_path), 2, "give the folders to join")
    check_error(
        stm("compare", "--join", tmp_path, "-o", tmp_path), 3, "is not a comparison"
    )
