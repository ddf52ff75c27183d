import subprocess

import numpy as np
import pytest
from helpers import ONCE, logged

from stm_keras.config import load_config
from stm_keras.data.dataset import CLASSES, Dataset
from stm_keras.data.load import save_dataset
from stm_keras.errors import DatasetError
from stm_keras.runs import Run
from stm_keras.training import run_data
from stm_keras.training.finished import finished_scores
from stm_keras.training.run_data import (
    describe_environment,
    git_state,
    load_run_data,
    simulated_scans,
    split_run_data,
    training_metadata,
)

pytestmark = ONCE  # no backend changes what is tested here


@pytest.fixture
def dataset():
    """80 scans of noise, every second one a copy of the one before."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 254, (40, 128, 128)), 2, axis=0).astype("uint8")
    return Dataset(
        images=images,
        labels=np.repeat(np.arange(40) % 4, 2),
        classes=CLASSES,
        lines=np.full(80, 128),
    )


def test_without_sessions_copies_stay_together_and_the_user_is_told(dataset):
    with logged() as told:
        split = split_run_data(load_config(None, ["data.path=x.h5"]), dataset)
    assert split.protocol == "p2"
    assert "names no sessions" in told[0]
    part = np.empty(80, "U10")
    for name, indices in split.parts.items():
        part[indices] = name
    assert (part[::2] == part[1::2]).all()
    assert set(part) == {"train", "validation", "test"}


def test_with_sessions_the_split_is_by_session(dataset):
    from dataclasses import replace

    sessions = np.array([f"day {i // 8}" for i in range(80)])
    config = load_config(None, ["data.path=x.h5"])
    with logged() as told:
        split = split_run_data(config, replace(dataset, session=sessions))
    assert split.protocol == "p2"
    assert told[0].startswith("Split: p2 (by session), seed 0: train ")
    found = [set(sessions[indices]) for indices in split.parts.values()]
    assert not (found[0] & found[1] | found[0] & found[2] | found[1] & found[2])


def test_simulated_scans_are_made_and_split_by_scan():
    config = load_config(None, ["simulate.count=70", "simulate.seed=3"])
    with logged() as told:
        dataset = load_run_data(config)
    assert len(dataset) == 70
    assert told[0] == "No --data given: the scans are simulated."
    assert told[1] == "Simulating 70 scans, seed 3."
    assert split_run_data(config, dataset).protocol == "p1"


def test_simulated_scans_have_the_size_that_is_asked_for():
    config = load_config(None, ["simulate.count=3", "simulate.size=48"])
    assert load_run_data(config).images.shape == (3, 48, 48)
    assert simulated_scans(config, 40).images.shape == (3, 40, 40)


def test_too_few_simulated_scans_are_said_so():
    config = load_config(None, ["simulate.count=3"])
    dataset = load_run_data(config)
    with pytest.raises(DatasetError, match=r"3 simulated scans .* Raise `simulate.count`"):
        split_run_data(config, dataset)


def test_the_environment_is_what_one_needs_to_repeat_a_run(dataset, tmp_path):
    import keras

    save_dataset(dataset, tmp_path / "scans.h5")
    config = load_config(None, [f"data.path={tmp_path / 'scans.h5'}", "seed=4"])
    facts = describe_environment(config, load_run_data(config))
    assert facts["backend"] == keras.config.backend()
    assert facts["seed"] == 4
    assert facts["dataset"]["sha256"] == dataset.digest()
    assert facts["dataset"]["scans"] == 80
    assert facts["packages"]["keras"] == keras.__version__
    assert facts["devices"]


def test_variables_that_change_numbers_are_told_and_no_secrets(monkeypatch):
    told = {"JAX_ENABLE_X64": "1", "XLA_FLAGS": "--x", "TF_DETERMINISTIC_OPS": "1"}
    told |= {"NVIDIA_TF32_OVERRIDE": "1", "OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "0"}
    told |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "JAX_DEFAULT_MATMUL_PRECISION": "high"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    others = {"TF_VAR_password", "TF_TOKEN_x", "TORCH_HOME", "JAX_COMPILATION_CACHE_DIR"}
    for name in others:
        monkeypatch.setenv(name, "secret")
    config = load_config(None, ["simulate.count=40", "model.name=trees"])
    found = describe_environment(config, load_run_data(config))["variables"]
    assert found.items() >= told.items()
    assert not others & set(found)


def test_a_run_of_too_few_epochs_is_not_over(tmp_path, monkeypatch):
    """As of version 0.1.0 where KERAS_MAX_EPOCHS ended it early, with a report."""
    config = load_config(None, ["train.epochs=2"])
    run = Run.start(tmp_path / "run", config)
    for name in ("report.html", "split.json", "best.keras"):
        run.write_text(name, "")
    monkeypatch.setattr(Run, "scores", lambda self: {"auroc": 0.5})
    run.file("checkpoints").mkdir()
    rows = [{"epoch": epoch, "seconds": 1.0} for epoch in (1, 2)]
    run.write_json(
        "checkpoints/state.json", {"weights": "epoch-1.weights.h5", "rows": rows[:1]}
    )
    assert finished_scores(run, config) is None
    run.write_json(
        "checkpoints/state.json", {"weights": "epoch-2.weights.h5", "rows": rows}
    )
    assert finished_scores(run, config) == {"auroc": 0.5}


def test_git_state_is_a_commit_or_nothing():
    state = git_state()
    assert state is None or len(state.removesuffix("+changes")) >= 7


def test_the_commit_of_somebody_elses_repository_is_not_ours(tmp_path, monkeypatch):
    package = tmp_path / "venv" / "run_data.py"
    package.parent.mkdir()
    package.write_text("")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(run_data, "__file__", str(package))
    assert git_state() is None
    subprocess.run(["git", "add", "-f", "venv"], cwd=tmp_path, check=True)
    assert git_state() is not None


def test_a_model_learns_how_scans_follow_each_other_from_its_training_sessions(dataset):
    from dataclasses import replace

    sessions = np.array([f"day {i // 20}" for i in range(80)])
    scans = replace(dataset, session=sessions, run=np.zeros(80, int))
    config = load_config(None, ["data.path=x.h5"])
    split = split_run_data(config, scans)
    split.parts["train"] = np.array([3, 17, 25])  # of two days
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stm_keras.inference.context.FEWEST_PAIRS", 30)
        context = training_metadata(config, scans, split, {}, 80)["context"]
    assert context["pairs"] == 2 * 19  # of each day, whatever part its scans are in
    assert np.array(context["transitions"]).sum(1) == pytest.approx(np.ones(4), abs=1e-5)
    assert "context" not in training_metadata(config, scans, split, {}, 80)  # too few
    assert "context" not in training_metadata(config, dataset, split, {}, 80)
