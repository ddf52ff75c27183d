"""`stm-keras export`: a file for others, written whole or not at all."""

import json
import os
import subprocess
import sys

import pytest
from export_models import check_onnx
from helpers import ONCE, REPOSITORY, check_error, stm
from streaming import tiny_stream

from stm_keras.inference.find_model import read_metadata
from stm_keras.inference.model_file import save_model
from stm_keras.records import HUMAN
from stm_keras.training.model_card import read_scores

pytestmark = ONCE  # of each backend: tests/export

CONVERTERS = {"tensorflow": "tf2onnx", "jax": "jax2onnx", "torch": "onnxscript"}


@pytest.fixture(autouse=True)
def few_scans(monkeypatch):
    """Compare on some scans, not on 100."""
    monkeypatch.setattr("stm_keras.export.common.NUM_SCANS", 4)


@pytest.mark.smoke
def test_a_run_is_written_as_one_file_with_its_facts(trained_run, model_file, tmp_path):
    output = tmp_path / "for others" / "h_si100.keras"
    result = stm("export", trained_run, "--format", "keras", "-o", output, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["path"] == str(output)
    assert told["largest_difference"] < 1e-4
    facts = read_metadata(output)
    assert facts.pop("exported")["format"] == "keras"
    assert facts == read_metadata(model_file)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_text_tells_size_and_difference(model_file, tmp_path, monkeypatch):
    monkeypatch.undo()  # of `few_scans`
    result = stm("export", model_file, "-o", tmp_path / "copy.keras")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{tmp_path / 'copy.keras'}: 0.")
    assert "MB, largest difference of a probability" in result.stdout
    assert result.stdout.endswith("over 100 scans\n")


def test_an_existing_file_is_replaced_only_when_asked(model_file, tmp_path):
    output = tmp_path / "copy.keras"
    output.write_text("mine")
    check_error(
        stm("export", model_file, "-o", output),
        1,
        f"{output}: exists already. Add --overwrite",
    )
    assert output.read_text() == "mine"
    assert stm("export", model_file, "-o", output, "--overwrite").exit_code == 0
    assert read_metadata(output)["format"] == 1


def test_the_name_chooses_onnx(model_file, tmp_path):
    pytest.importorskip("onnxruntime")
    predictor = tiny_stream()
    save_model(predictor.model, tmp_path / "stream.keras", predictor.metadata)
    output = tmp_path / "stream.onnx"
    result = stm("export", tmp_path / "stream.keras", "-o", output, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["format"] == "onnx-step"
    from stm_keras.inference.onnx_model import OnnxPredictor

    assert OnnxPredictor.load(output).classes == predictor.classes
    result = stm("export", tmp_path / "stream.keras", "--format", "keras", "-o", output)
    check_error(result, 1, "the name of a Keras file ends in .keras")
    given = ["export", model_file, "--format", "onnx-step", "-o", tmp_path / "whole.onnx"]
    check_error(stm(*given), 4, "judges whole scans. Use --format onnx-scan")


def test_an_output_that_cannot_be_written_is_named(model_file, tmp_path):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "copy.keras"
    check_error(stm("export", model_file, "-o", output), 1, f"{output}: cannot be written")


def test_a_missing_model_and_an_unknown_format_are_refused(model_file, tmp_path):
    output = tmp_path / "copy.keras"
    check_error(stm("export", tmp_path / "no.keras", "-o", output), 3, "no such file")
    result = stm("export", model_file, "--format", "tflite", "-o", output)
    assert result.exit_code == 2
    assert "'tflite' is not one of 'keras', 'onnx-step', 'onnx-scan'" in result.stderr


def test_a_pair_that_cannot_be_is_refused_before_keras_is_loaded(model_file, tmp_path):
    for backend, kind, code, reason in (
        ("jax", "litert", 2, "LiteRT is made from TensorFlow's graph. Add --backend tenso"),
        ("torch", "saved-model", 2, "needs torch_xla under torch"),
        ("tensorflow", "torch", 2, "is a program of torch. Add --backend torch"),
        ("jax", "onnx-step", 4, "judges whole scans"),
    ):
        given = ["--format", kind, "-o", tmp_path / "a", "--backend", backend]
        program = (
            "import sys\n"
            "from stm_keras.cli.main import main\n"
            f"try:\n    main({[str(x) for x in ['export', model_file, *given]]})\n"
            "finally:\n"
            "    assert not {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        check_error(done, code, reason)
    assert list(tmp_path.iterdir()) == []


def test_variants_ask_for_scans_and_for_onnx(model_file, dataset_file, tmp_path):
    pytest.importorskip("onnx")
    given = ["export", model_file, "-o", tmp_path / "a.keras"]
    check_error(stm(*given, "--variant", "int8"), 2, "`--variant int8` is for ONNX,")
    check_error(stm(*given, "--data", dataset_file), 2, "Add --variant")
    pytest.importorskip(CONVERTERS[os.environ["KERAS_BACKEND"]])
    given = ["export", model_file, "-o", tmp_path / "a.onnx", "--variant", "float16"]
    check_error(stm(*given), 2, "so it needs labelled scans. Add --data")
    check_error(stm(*given, "--data", tmp_path / "no.h5"), 3, "no.h5")


@pytest.mark.parametrize("variant", ["float16", "int8"])
def test_a_variant_says_what_it_costs(variant, model_file, dataset_file, tmp_path):
    pytest.importorskip(CONVERTERS[os.environ["KERAS_BACKEND"]])
    output = tmp_path / "small.onnx"
    given = ["--variant", variant, "--data", dataset_file]
    result = stm("export", model_file, "-o", output, *given)
    assert result.exit_code == 0, result.stderr
    assert f"{variant}: AUROC " in result.stdout
    check_onnx(output)
    from stm_keras import load_onnx

    told = load_onnx(output).metadata["exported"]["variant"]
    assert told["name"] == variant
    split = json.loads((model_file.parent / "split.json").read_text())
    assert told["scans"] == len(split["parts"]["test"]) > 0
    assert abs(told["loss"] - (told["auroc_float32"] - told["auroc"])) < 2e-4
    assert abs(told["loss"]) < 0.05


def test_a_keras_file_is_halved_too_and_its_card_says_what_that_costs(
    trained_run, results, dataset_file, tmp_path
):
    file, _ = results
    whole, half = tmp_path / "whole.keras", tmp_path / "half.keras"
    assert stm("export", trained_run, "-o", whole).exit_code == 0
    given = ["--variant", "float16", "--data", dataset_file, "--scores", file]
    result = stm("export", trained_run, "-o", half, *given)
    assert result.exit_code == 0, result.stderr
    assert half.stat().st_size < whole.stat().st_size
    told = read_metadata(half)["exported"]["variant"]
    assert told["name"] == "float16"
    assert abs(told["loss"]) < 0.05
    assert f"it loses {told['loss']:.4f} AUROC" in half.with_suffix(".md").read_text()


@pytest.fixture
def results(trained_run, tmp_path):
    """Results of a benchmark of the run's config, as a file."""
    scores = json.loads((trained_run / "evaluation.json").read_text())
    config = read_metadata(trained_run / "best.keras")["training"]["config"]["name"]
    row = {"config": config, "protocol": "p2", "folds": 5, "folds_done": 5, "all": scores}
    row["full agreement"] = {**scores, "n": 17}
    row["command"] = "stm-keras benchmark configs/x.toml"
    row["trust"] = {"accuracy where 90% is wanted": 0.8125}
    row |= {"epochs": [1] * 5, "seconds": [1.0] * 5, "balanced_accuracy_by_fold": [0.5] * 5}
    row |= {"backend": ["jax"], "devices": ["cpu"], "precision": ["float32"], "git": []}
    row |= {"seed": 0, "data": "scans.h5"}
    (tmp_path / "results.json").write_text(json.dumps([{**row, "protocol": "p1"}, row]))
    return tmp_path / "results.json", scores


def test_what_the_recipe_reached_goes_into_file_and_card(trained_run, results, tmp_path):
    file, scores = results
    output = tmp_path / "shipped.keras"
    result = stm("export", trained_run, "-o", output, "--scores", file)
    assert result.exit_code == 0, result.stderr
    told = read_metadata(output)["scores"]
    assert list(told) == ["P2, unseen sessions", "P2, unseen sessions, full agreement"]
    assert told["P2, unseen sessions"].startswith(f"AUROC {scores['auroc']:.3f} [")
    card = output.with_suffix(".md").read_text()
    assert card.startswith("# shipped\n")
    assert "| full-agreement scans (no rater against) | 17 |" in card
    assert "| accuracy where 90% is wanted | 0.812 |" in card
    assert f"{scores['balanced_accuracy']:.3f}" in card
    assert "5 of 5 folds of the same recipe" in card
    assert "stm-keras benchmark configs/x.toml" in card


def test_the_card_says_what_was_measured_of_this_recipe_beside_raters(
    trained_run, results, tmp_path
):
    file, _ = results
    row = json.loads(file.read_text())[1]
    scores = {"balanced_accuracy": [0.8, 0.7, 0.9], "accuracy": [0.8, 0.7, 0.9]}
    part = {"n": 3.0, "certain": 3.0, "human": scores, "model": scores}
    part["difference"] = {name: [0.1, 0.05, 0.2] for name in scores}
    kinds = {"single-class": {**scores, "auroc": [0.9, 0.8, 1.0]}}
    human = {
        "config": HUMAN,
        "protocol": "p2",
        "data": row["data"],
        "raters": {"pairs": part, "mixed": part},
        "ceiling": {"types": 2, "among": [2], "scores": kinds, "range": kinds, "scans": 3}
        | {"pairs": {"balanced_accuracy": 0.5, "accuracy": 0.5}},
        "label_rule": None,
        "models": {
            name: {"beside": {"pairs": part, "mixed": part}, "label_rule": {}}
            for name in (row["config"], "other")
        },
    }
    for measured, models in ((human, [row["config"]]), ({**human, "data": "x"}, None)):
        file.write_text(json.dumps([row, measured]))
        found = read_scores(file, row["config"]).get("human")
        assert (found and list(found["models"])) == models
    file.write_text(json.dumps([row, human]))
    output = tmp_path / "shipped.keras"
    result = stm("export", trained_run, "-o", output, "--scores", file)
    assert result.exit_code == 0, result.stderr
    card = output.with_suffix(".md").read_text()
    assert f"`{row['config']}` is **above a human rater**." in card
    variant = f"{row['config']}+once"
    human["models"] = {variant: human["models"].pop("other")}
    once = {**row, "config": variant, "command": "stm-keras benchmark --vary once:..."}
    file.write_text(json.dumps([row, once, human]))
    result = stm("export", trained_run, "-o", output, "--scores", file, "--overwrite")
    assert result.exit_code == 0, result.stderr
    card = output.with_suffix(".md").read_text()
    assert f"`{variant}` is **above a human rater**." in card
    assert f"this recipe with other settings: {once['command']}" in card


def test_the_evaluation_of_the_very_model_will_do(trained_run, tmp_path):
    output = tmp_path / "shipped.keras"
    scores = trained_run / "evaluation.json"
    given = ["--scores", scores, "--data-licence", "CC0"]
    result = stm("export", trained_run, "-o", output, *given)
    assert result.exit_code == 0, result.stderr
    assert "Licence of the data: CC0." in output.with_suffix(".md").read_text()
    assert "this very model on all complete" in output.with_suffix(".md").read_text()


def test_a_recipe_without_scores_is_not_shipped(trained_run, tmp_path):
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "bad.json").write_text("{")
    given = ["export", trained_run, "-o", tmp_path / "x.keras", "--scores"]
    check_error(stm(*given, tmp_path / "none.json"), 3, "none.json: has no scores of")
    check_error(stm(*given, tmp_path / "bad.json"), 3, "bad.json: is damaged (Expecting")
    assert not (tmp_path / "x.keras").exists()
