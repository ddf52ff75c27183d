"""Which model is meant, and which scans may score it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

from stm_keras.config import load_config
from stm_keras.data.split import split_dataset
from stm_keras.errors import InputError, MissingExtraError, UsageError
from stm_keras.inference import find_model as subject
from stm_keras.inference.evaluate import select_scans
from stm_keras.inference.find_model import choose_model_file, find_model, is_model
from stm_keras.runs import Run

pytestmark = ONCE  # no backend changes what is tested here

DATASET = made_up_dataset(
    32, 8, images=np.zeros((32, 4, 6), np.uint8), lines=np.full(32, 4)
)


@pytest.fixture
def run(tmp_path):
    """Run that was split on `DATASET` under P2."""
    run = Run.start(tmp_path / "run", load_config())
    split = split_dataset(DATASET, "p2").to_json()
    run.write_json("split.json", {**split, "dataset": DATASET.digest()})
    return run


def test_a_run_means_its_best_model(run):
    run.file("best.keras").write_text("")
    assert find_model(run.path) == (run.file("best.keras"), run)
    assert find_model(str(run.file("best.keras"))) == (run.file("best.keras"), run)


def test_a_copy_elsewhere_belongs_to_no_run(tmp_path):
    (tmp_path / "best.keras").write_text("")
    assert find_model(tmp_path / "best.keras") == (tmp_path / "best.keras", None)


def test_models_and_runs_are_told_from_datasets(run, tmp_path):
    (tmp_path / "a.keras").write_text("")
    (tmp_path / "a.h5").write_text("")
    assert is_model(run.path)
    assert is_model(tmp_path / "a.keras")
    assert not is_model(tmp_path / "a.h5")
    assert not is_model(tmp_path)


def test_what_is_no_model_is_named(run, tmp_path):
    with pytest.raises(
        InputError, match=r"the run has no best\.keras yet\. Train it first"
    ):
        find_model(run.path)
    with pytest.raises(
        InputError, match=r"no\.keras: no such file\. Give a \.keras, \.onnx or"
    ):
        find_model(tmp_path / "no.keras")
    with pytest.raises(InputError, match=r"is not a run \(no config\.toml\)"):
        find_model(tmp_path)


def test_a_run_with_its_data_is_scored_on_its_test_part(run):
    chosen = select_scans(DATASET, run)
    split = json.loads(run.file("split.json").read_text())
    assert chosen.part == "test"
    assert chosen.protocol == "p2"
    assert chosen.indices.tolist() == split["parts"]["test"]
    assert len(chosen.groups) == 32


def test_other_data_or_no_run_is_scored_on_all_single_class_scans(run):
    labels = np.where(np.arange(32) % 5, DATASET.labels, -1)
    other = replace(DATASET, labels=labels)
    for given in (run, None):
        chosen = select_scans(other, given)
        assert (chosen.part, chosen.protocol) == ("all", "p2")
        assert chosen.indices.tolist() == np.flatnonzero(labels >= 0).tolist()
    assert select_scans(replace(other, session=None)).protocol == "p1"
    assert select_scans(other, protocol="p3").protocol == "p3"


def test_the_test_part_needs_a_run_its_data_and_its_protocol(run):
    with pytest.raises(UsageError, match="`--split test` needs the run of the model"):
        select_scans(DATASET, None, "test")
    other = replace(DATASET, labels=DATASET.labels[::-1])
    with pytest.raises(UsageError, match="the data is not what the run was split on"):
        select_scans(other, run, "test")
    with pytest.raises(UsageError, match="`--protocol p1`: the run was split under p2"):
        select_scans(DATASET, run, protocol="p1")
    assert select_scans(DATASET, run, "all", "p1").protocol == "p1"


def test_a_shipped_model_is_judged_with_by_onnxruntime_where_it_can(tmp_path, monkeypatch):
    for name in ("small.keras", "small.onnx", "other.keras"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr("stm_keras.inference.find_model.FOLDER", tmp_path)
    there = {"onnxruntime", "keras"}
    monkeypatch.setattr(subject, "find_spec", lambda name: name if name in there else None)
    assert choose_model_file("small") == tmp_path / "small.onnx"
    assert choose_model_file("small", keras_wanted=True) == tmp_path / "small.keras"
    assert choose_model_file("other") == tmp_path / "other.keras"
    assert choose_model_file(tmp_path / "small.keras") == tmp_path / "small.keras"
    with pytest.raises(UsageError, match=r"small.onnx: runs without Keras"):
        choose_model_file(tmp_path / "small.onnx", keras_wanted=True)
    there.remove("onnxruntime")
    assert choose_model_file("small") == tmp_path / "small.keras"

    def missing(module, extra):
        raise MissingExtraError(f'{module}: pip install ".[{extra}]"')

    monkeypatch.setattr(subject, "require", missing)
    there.remove("keras")
    with pytest.raises(MissingExtraError, match=r'onnxruntime.*"\.\[onnx\]"'):
        choose_model_file("small")
