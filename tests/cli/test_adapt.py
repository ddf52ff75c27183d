"""`stm-keras adapt`: from labelled scans to a folder that predict and watch take."""

import json

import numpy as np
import pytest
from helpers import check_error, lattice_scans, made_up_dataset, stm, write_dataset
from streaming import shaken

import stm_keras
from stm_keras.data.load import save_dataset
from stm_keras.evaluation import repeated
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.models import sequential

pytest.importorskip("sklearn")

CONFIG = {"width": 2, "units": 8, "spectra": 0, "lattice": 0, "trees": 0}
CLASSES = ("sharp", "blunt", "double")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(repeated, "RESAMPLES", 30)


def labelled(count=12, sessions=3, **changes):
    labels = np.arange(count) % 3
    fields = {"images": lattice_scans(labels), "labels": labels, "classes": CLASSES}
    session = np.array([f"day {i * sessions // count}" for i in range(count)])
    fields = {**fields, "session": session, **changes}
    return made_up_dataset(count, sessions, voted=False, **fields)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "start.keras"
    training = {"name": "tiny", "data": {}, "model": {"name": "sequential", **CONFIG}}
    metadata = {
        "classes": ["a", "b"],
        "pixels": 128,
        "max_lines": 128,
        "input": "scaled",
        "training": {"config": training},
    }
    save_model(shaken(sequential(2, **CONFIG)), path, metadata)
    return path


@pytest.fixture(scope="module")
def first(start, tmp_path_factory):
    """Data of a first evening, and the folder that `adapt` made of it."""
    folder = tmp_path_factory.mktemp("first")
    save_dataset(labelled(), folder / "own.h5")
    done = stm(
        "adapt", folder / "own.h5", "-o", folder / "run", "--model", start, "--repeats", 1
    )
    assert done.exit_code == 0, done.stderr
    return folder / "own.h5", folder / "run", done.stdout


def test_it_prints_scores_of_each_class_and_what_more_labels_would_bring(first):
    *_, text = first
    assert "12 scans, from " in text
    assert "1 x 3 folds by session" in text
    for name in CLASSES:
        assert f"  {name}: AUROC " in text
    assert "too few for a score that holds. Label more." in text


def test_python_does_what_the_command_does(first, start, tmp_path):
    data, folder, _ = first
    run = stm_keras.adapt(data, tmp_path / "run", model=start, repeats=1)
    scores = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    for name in ("auroc", "balanced_accuracy", "per_class"):
        assert run.scores()[name] == scores[name]
    assert "on 12 left out scans" in repr(run)
    assert run.predictor.classes == CLASSES
    with pytest.raises(stm_keras.StmKerasError, match="run: exists already"):
        stm_keras.adapt(data, tmp_path / "run", model=start)


def test_the_folder_holds_model_exported_model_card_and_report(first):
    _, run, _ = first
    names = {path.name for path in run.iterdir()}
    assert {"best.keras", "best.onnx", "card.md", "report.html", "adapt.json"} <= names
    assert "Your labels" in (run / "report.html").read_text(encoding="utf-8")
    assert "3 x" not in (run / "card.md").read_text(encoding="utf-8").split("\n")[0]
    data, _, _ = first
    scans = labelled().images
    keras, onnx = (load_predictor(run / name) for name in ("best.keras", "best.onnx"))
    assert keras.classes == onnx.classes == CLASSES
    difference = keras.after_every_line(scans) - onnx.after_every_line(scans)
    assert np.abs(difference).max() < 1e-5


def test_predict_and_watch_take_the_result(first, tmp_path):
    data, run, _ = first
    told = stm("predict", data, "--model", run, "--json")
    assert told.exit_code == 0, told.stderr
    assert {json.loads(line)["class"] for line in told.stdout.splitlines()} <= set(CLASSES)
    scan = tmp_path / "scan.npy"
    np.save(scan, labelled().images[0].astype("float32"))
    watch = ("watch", scan, "--no-page", "--speed", 0, "--model", run, "--json")
    told = stm(*watch, "--log", tmp_path / "one")
    assert told.exit_code == 0, told.stderr
    assert "No alarm at a bad tip: name its class of sharp, blunt, double" in told.stderr
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert sum(record["event"] == "line" for record in lines) == 128
    told = stm(*watch, "--bad", "blunt", "--log", tmp_path / "two")
    assert told.exit_code == 0, told.stderr
    assert "No alarm" not in told.stderr


def test_evaluate_scores_new_scans_and_not_those_that_it_was_adapted_to(first, tmp_path):
    data, run, _ = first
    refused = stm("evaluate", run, "--data", data)
    check_error(
        refused, 2, f"{run} was adapted to these scans, or to others of their sessions"
    )
    every = json.loads(
        stm("evaluate", run, "--data", data, "--split", "all", "--json").stdout
    )
    assert (every["n"], every["protocol"]) == (12, "p1")  # not of a new day
    later = np.array([f"day {i // 4 + 2}" for i in range(12)])  # the first is an old one
    new, images = tmp_path / "new.h5", lattice_scans(np.arange(12) % 3, seed=5)
    save_dataset(labelled(images=images, session=later), new)
    told = json.loads(stm("evaluate", run, "--data", new, "--json").stdout)
    assert (told["n"], told["split"], told["protocol"]) == (8, "new", "p2")
    images[4] = labelled().images[0]  # a scan of old in a session of another name
    save_dataset(labelled(images=images, session=later), new, overwrite=True)
    told = json.loads(stm("evaluate", run, "--data", new, "--json").stdout)
    assert told["n"] == 4


def test_a_second_evening_is_compared_with_the_first(first, start, tmp_path):
    data, run, _ = first
    images = lattice_scans(np.arange(18) % 3, seed=3)
    images[:12] = labelled().images
    more = tmp_path / "more.h5"
    days = np.array([f"day {i // 4}" for i in range(18)])
    save_dataset(labelled(18, 5, images=images, session=days), more)
    again = ("adapt", more, "-o", tmp_path / "run", "--model", start, "--repeats", 1)
    done = stm(*again, "--compare", run)
    assert "better than with the 12 labels of before by " in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        ({"labels": np.r_[np.arange(11) % 2, 2]}, 3, "1 complete scan of class 'double'"),
        ({"labels": np.zeros(12, int)}, 3, "two classes or more"),
    ],
)
def test_too_few_labels_are_one_clear_line(wrong, code, message, start, tmp_path):
    save_dataset(labelled(**wrong), tmp_path / "own.h5")
    done = stm("adapt", tmp_path / "own.h5", "-o", tmp_path / "run", "--model", start)
    assert done.exit_code == code
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_classes_of_another_dataset_are_refused_and_the_first_result_stays(
    first, start, tmp_path
):
    _, run, _ = first
    other = write_dataset(tmp_path / "other.h5", count=12, sessions=3, voted=False)
    before = sorted(path.name for path in run.iterdir())
    done = stm("adapt", other, "-o", tmp_path / "run", "--model", start, "--compare", run)
    assert done.exit_code == 4
    assert "the earlier model knows sharp, blunt, double" in done.stderr
    assert stm("adapt", other, "-o", run, "--model", start).exit_code == 1
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_folder_without_scans_is_one_clear_line(start, tmp_path):
    spectra = tmp_path / "spectra"
    spectra.mkdir()
    (spectra / "point.dat").write_text("[DATA]\nBias (V)\tCurrent (A)\n0\t1e-12\n")
    done = stm("adapt", spectra, "-o", tmp_path / "run", "--model", start)
    assert done.exit_code == 3
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not (tmp_path / "run").exists()
