"""Every pair of backend and format: the same probabilities, the facts inside, or a reason."""

import json
import socket
import sys
import zipfile

import keras
import numpy as np
import pytest
from export_models import LINES, PIXELS, check_onnx, output_file
from helpers import REPOSITORY, check_error, lattice_scans, stm

from stm_keras import __version__, scan_verdicts
from stm_keras.errors import MismatchError, MissingExtraError, OutputError, UsageError
from stm_keras.export import (
    FORMATS,
    check_pair,
    choose_format,
    common,
    export_model,
    formats,
)
from stm_keras.export.formats import EVERY_BACKEND
from stm_keras.inference.model_file import load_predictor

BACKEND = keras.config.backend()
HERE = [name for name, form in FORMATS.items() if BACKEND in form.needs]
HEADS = {"vit": "state", "cnn_small": "state", "attention": "change state unknown"}


def facts_of(path, kind):
    """Read the facts in a file as somebody without stm-keras would."""
    if path.is_dir():
        return json.loads((path / "stm_keras.json").read_text())
    if kind.startswith("onnx"):
        import onnx

        props = onnx.load(str(path)).metadata_props
        kept = {entry.key: entry.value for entry in props}
        assert set(kept) - {"stm_keras_scans"} == {"stm_keras"}
        return json.loads(kept["stm_keras"])
    with zipfile.ZipFile(path) as archive:  # torch has a folder for such files
        (name,) = (n for n in archive.namelist() if n.endswith("stm_keras.json"))
        return json.loads(archive.read(name))


@pytest.mark.parametrize("model", HEADS)
@pytest.mark.parametrize("kind", HERE)
def test_a_pair_gives_the_same_probabilities_and_carries_the_facts(
    kind, model, predictors, exported, tmp_path
):
    predictor = predictors[model]
    if kind == "onnx-step" and not predictor.every_line:
        with pytest.raises(
            MismatchError, match="judges whole scans. Use --format onnx-scan"
        ):
            export_model(predictor, output_file(tmp_path, kind), kind)
        return
    path, told, run = exported(model, kind)
    assert told["largest_difference"] < 1e-4
    assert told["bytes"] > 1000
    assert list(path.parent.iterdir()) == [path]
    facts = facts_of(path, kind)
    assert facts["exported"] == {
        "stm_keras": __version__,
        "format": kind,
        "backend": BACKEND,
    }
    assert {name: facts[name] for name in predictor.metadata} == predictor.metadata
    assert facts["preprocessing"].startswith("per line: least-squares")
    if kind.startswith("onnx"):
        check_onnx(path)
    with pytest.raises(OutputError, match="exists already"):
        export_model(predictor, path, kind)
    batch = min(3, FORMATS[kind].batch)
    out = run(np.zeros((batch, LINES, PIXELS), np.float32))
    assert " ".join(sorted(common.probabilities(out))) == HEADS[model]


@pytest.mark.parametrize("model", HEADS)
def test_a_file_of_whole_scans_judges_like_its_network(
    model, predictors, exported, tmp_path
):
    ours, (path, *_) = predictors[model], exported(model, "onnx-scan")
    theirs = load_predictor(path)
    assert theirs.every_line == ours.every_line
    scans = lattice_scans(np.arange(5) % 4, lines=LINES, pixels=PIXELS)
    scans[1, 5:] = 0
    for seen in (None, 3):
        np.testing.assert_allclose(
            theirs.logits(scans, seen), ours.logits(scans, seen), atol=1e-4
        )
    for one, other in zip(
        scan_verdicts(theirs, scans), scan_verdicts(ours, scans), strict=True
    ):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)
        assert (one.lines, one.change_lines) == (other.lines, other.change_lines)
    np.savez(tmp_path / "scans.npz", images=scans)  # so few lines are a scan by this name
    result = stm("predict", path, tmp_path / "scans.npz", "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    found = [list(record["probabilities"].values()) for record in records]
    np.testing.assert_allclose(found[0], ours.probabilities(scans)[0], atol=1e-4)
    assert len(found) == 5
    result = stm("predict", path, tmp_path / "scans.npz", "--every-line")
    check_error(result, 4, "judges whole scans")


@pytest.mark.parametrize("backend", EVERY_BACKEND)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_pair_can_be_written_or_says_which_backend_can(kind, backend, tmp_path):
    form = FORMATS[kind]
    assert (backend in form.needs) != (backend in form.cannot)
    if backend in form.cannot:
        with pytest.raises(UsageError, match=r"Add --backend (tensorflow|torch)") as told:
            check_pair(kind, tmp_path / f"a{form.suffix}", backend, every_line=True)
        assert "\n" not in str(told.value)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    for kind, backend, package, extra in (
        ("onnx-step", "jax", "onnx", "export"),
        ("litert", "tensorflow", "ai_edge_litert", "litert"),
    ):
        with pytest.raises(MissingExtraError) as told:
            check_pair(kind, tmp_path / f"a{FORMATS[kind].suffix}", backend, True)
        assert f"needs {package}, which" in str(told.value)
        assert f'".[{extra}]"' in str(told.value)


def test_every_package_has_an_extra_of_setup_cfg():
    extras = (REPOSITORY / "setup.cfg").read_text()
    for form in FORMATS.values():
        for package in {each for given in form.needs.values() for each in given}:
            extra = formats.EXTRAS.get(package, package)
            assert f"\n{extra} =\n" in extras, package


def test_the_name_chooses_the_format(tmp_path):
    assert choose_format(None, tmp_path / "a.keras", True) == "keras"
    assert choose_format(None, tmp_path / "a.onnx", True) == "onnx-step"
    assert choose_format("onnx", tmp_path / "a.onnx", False) == "onnx-scan"
    assert choose_format(None, tmp_path / "a.tflite", False) == "litert"
    assert choose_format(None, tmp_path / "a.pt2", False) == "torch"
    assert choose_format(None, tmp_path / "a", False) == "keras"
    assert choose_format("openvino", tmp_path / "a.onnx", False) == "openvino"


@pytest.mark.parametrize("name", ["model.h5", "model", "model.keras.zip"])
def test_another_suffix_is_refused(name, predictors, tmp_path):
    with pytest.raises(OutputError, match=r"the name of a Keras file ends in \.keras"):
        export_model(predictors["cnn_small"], tmp_path / name, "keras")
    with pytest.raises(OutputError, match=r"is a folder. Leave out \.onnx"):
        check_pair("saved-model", tmp_path / "a.onnx", "tensorflow", True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("difference", [2e-4, float("nan"), float("inf")])
def test_a_copy_that_differs_is_not_kept(difference, predictors, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "difference", lambda *given: difference)
    with pytest.raises(OutputError, match="in a probability.* Nothing was written"):
        export_model(predictors["cnn_small"], tmp_path / "model.keras", "keras")
    assert list(tmp_path.iterdir()) == []


def test_the_comparison_sees_other_weights_and_other_heads(predictors, tmp_path):
    predictor = predictors["attention"]
    given = {name: each * 0 for name, each in _run(predictor).items()}
    assert common.difference(predictor, _run_of(predictor), common.NUM_SCANS) == 0
    assert common.difference(predictor, lambda scans: given, common.NUM_SCANS) > 0.01
    given.pop("change")
    assert common.difference(predictor, lambda scans: given, common.NUM_SCANS) == float(
        "inf"
    )


def _run_of(predictor):
    return lambda scans: predictor.model.predict(scans, batch_size=20, verbose=0)


def _run(predictor):
    return _run_of(predictor)(predictor.prepare(common.random_scans(predictor.metadata)))


def test_scans_to_compare_on_are_whole_and_begun():
    scans = common.random_scans({"max_lines": 24, "pixels": 16})
    last = 24 - scans.any(-1)[:, ::-1].argmax(1)
    assert (last == 24).sum() > 1
    assert (last < 20).any()


def test_a_folder_of_somebody_else_is_never_replaced(predictors, tmp_path):
    if BACKEND == "torch":
        pytest.skip("SavedModel is not written under torch")
    path = tmp_path / "model"
    path.mkdir()
    (path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match="is not a result of this command"):
        export_model(predictors["cnn_small"], path, "saved-model", overwrite=True)
    assert (path / "thesis.tex").read_text() == "mine"
    (path / "thesis.tex").unlink()
    path.rmdir()
    export_model(predictors["cnn_small"], path, "saved-model")
    export_model(predictors["cnn_small"], path, "saved-model", overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


SHOWN = {  # where the file holds the facts, and what runs it
    "keras": ("`stm_keras.json` in the file", "Keras"),
    "onnx-step": ("metadata `stm_keras`", "`stm_keras.load_onnx`, ONNX Runtime"),
    "onnx-scan": ("metadata `stm_keras`", "`stm_keras.load_onnx`, ONNX Runtime"),
    "saved-model": ("`stm_keras.json` in the folder", "TensorFlow"),
    "litert": ("`stm_keras.json` in the zip archive at its end", "LiteRT"),
    "openvino": ("`stm_keras.json` in the folder", "OpenVINO"),
    "torch": ("extra file `stm_keras.json`", "torch"),
}


def test_the_page_shows_the_table_of_pairs():
    page = (REPOSITORY / "docs" / "export.md").read_text()
    table = page[page.index("| format ") :].split("\n\n")[0].splitlines()[2:]
    assert len(table) == len(FORMATS)
    for row, (name, form) in zip(table, FORMATS.items(), strict=True):
        pairs = ["yes" if each in form.needs else "no" for each in EVERY_BACKEND]
        file = f"`*{form.suffix}`" if form.suffix else "a folder"
        batch = "1" if form.batch == 1 else "any"
        cells = [form.title, f"`{name}`", file, *pairs, batch, *SHOWN[name]]
        assert row == "| " + " | ".join(cells) + " |"


def test_openvino_reports_to_nobody(predictors, tmp_path, monkeypatch):
    for package in (*FORMATS["openvino"].needs[BACKEND], "openvino_telemetry"):
        pytest.importorskip(package)
    import openvino_telemetry

    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *names, **_: asked.append(names))
    for name in ("start_session", "send_event"):
        monkeypatch.setattr(
            openvino_telemetry.Telemetry, name, lambda *given, **_: asked.append(given[1])
        )
    export_model(predictors["cnn_small"], tmp_path / "model", "openvino")
    assert asked == []
    assert sys.modules["openvino_telemetry"] is openvino_telemetry  # others may have it
