"""The models that come with stm-keras, found by name."""

import json

import keras
import numpy as np
import pytest
from export_models import check_onnx
from helpers import ONCE, check_error, lattice_scans, stm, write_dataset
from scan_files import sxm

from stm_keras.errors import InputError
from stm_keras.inference import find_model as subject
from stm_keras.inference.find_model import find_model, shipped_models, shipped_path
from stm_keras.inference.model_file import save_model
from stm_keras.models import sequential

CLASSES = ["individual atoms", "asymmetries/dimers", "rows", "generic defects"]
FACTS = {"classes": CLASSES, "pixels": 128, "max_lines": 128, "input": "scaled"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with two tiny models and a card, in the place of the shipped ones."""
    model = sequential(4, width=2, units=4, spectra=2)
    facts = {**FACTS, "parameters": model.count_params(), "scores": {"P2": "AUROC 0.9"}}
    save_model(model, tmp_path / "h_si100.keras", facts)
    save_model(model, tmp_path / "a_small.keras", facts)
    (tmp_path / "h_si100.onnx").write_bytes(b"onnx")
    (tmp_path / "h_si100.md").write_text("# card")
    monkeypatch.setattr(subject, "FOLDER", tmp_path)
    return tmp_path


@ONCE
def test_the_default_comes_first_with_its_files_and_card(folder):
    first, second = shipped_models()
    assert (first.name, second.name) == ("h_si100", "a_small")
    assert [path.suffix for path in first.files] == [".keras", ".onnx"]
    assert first.card == folder / "h_si100.md"
    assert second.card is None


@ONCE
def test_a_model_is_found_by_its_name(folder):
    assert shipped_path() == folder / "h_si100.keras"
    assert find_model("a_small") == (folder / "a_small.keras", None)
    with pytest.raises(
        InputError, match="h_si111: no model of this name comes with stm-keras"
    ):
        find_model("h_si111")


@ONCE
def test_the_command_lists_them(folder):
    result = stm("models", "--json")
    assert result.exit_code == 0, result.stderr
    listed = json.loads(result.stdout)
    assert [model["name"] for model in listed] == ["h_si100", "a_small"]
    assert set(listed[0]["files"]) == {"keras", "onnx"}
    text = stm("models").stdout
    assert "h_si100: individual atoms" in text
    assert "P2: AUROC 0.9" in text


@ONCE
def test_predict_without_a_model_takes_the_default(folder, tmp_path):
    (folder / "h_si100.onnx").unlink()
    scans = write_dataset(tmp_path / "scans.h5", count=8, sessions=0)
    result = stm("predict", scans, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 8
    named = stm("predict", scans, "--json", "--model", "a_small")
    assert named.stdout == result.stdout
    (folder / "h_si100.keras").unlink()
    check_error(stm("predict", scans), 3, "h_si100: no model of this name", "a_small")


@pytest.mark.smoke
def test_a_backend_asks_for_keras_and_an_onnx_file_has_none(tmp_path):
    heights = lattice_scans([0])[0][:20] * 1e-12
    path, backend = tmp_path / "a.sxm", keras.config.backend()
    size = (5e-9, 5e-9 * 20 / 128)
    path.write_bytes(sxm({"Z": ("m", heights, heights)}, size=size))

    def judged(*arguments):
        result = stm("predict", *arguments, "--json")
        assert result.exit_code == 0, result.stderr
        return [json.loads(line) for line in result.stdout.splitlines()]

    light, heavy = judged(path), judged(path, "--backend", backend)
    for one, other in zip(light, heavy, strict=True):
        given = [list(record["probabilities"].values()) for record in (one, other)]
        np.testing.assert_allclose(*given, atol=1e-4)
    assert judged(path, "--model", subject.FOLDER / "h_si100.onnx") == light
    assert judged(subject.FOLDER / "h_si100.onnx", path) == light
    result = stm("predict", subject.FOLDER / "h_si100.onnx", path, "--backend", backend)
    check_error(result, 2, "runs without Keras")


@ONCE
def test_shipped_onnx_files_keep_the_standard():
    pytest.importorskip("onnx")
    for model in shipped_models():
        check_onnx(next(path for path in model.files if path.suffix == ".onnx"))


@ONCE
@pytest.mark.smoke
def test_the_shipped_models_are_whole():
    for model in shipped_models():
        assert model.card is not None, f"{model.name} has no card"
        assert {path.suffix for path in model.files} == {".keras", ".onnx"}
        assert "/" not in json.dumps(model.metadata.get("training", {}).get("command", ""))
    total = sum(path.stat().st_size for m in shipped_models() for path in m.files)
    assert total < 30e6
