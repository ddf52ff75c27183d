"""Exported streaming steps: the same verdicts without keras."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from export_models import check_onnx
from helpers import ONCE, REPOSITORY
from streaming import FACTS, rough_scans, tiny_stream

from stm_keras import layers
from stm_keras.data.dataset import Dataset
from stm_keras.data.preprocess import has_signal
from stm_keras.errors import InputError, MismatchError, OutputError
from stm_keras.export import common, export_model, export_onnx, writers
from stm_keras.export.onnx_layers import LAYERS
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.onnx_model import OnnxPredictor, OnnxStream
from stm_keras.inference.stream import LineStream
from stm_keras.models import MODELS
from stm_keras.models.step import LINE_BY_LINE, chain

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

THRESHOLDS = {
    "unsure": {"lines": [1, 24], "thresholds": [0.6, 0.4], "coverage": 0.9},
    "change": {"threshold": 0.5},
    "unknown": {"threshold": 0.5},
    "training": {"note": "ü"},
}
CASES = [  # the graph is ours, whatever backend the network is of
    ("attention", 10),
    *(
        pytest.param(*case, marks=ONCE)
        for case in (("gru", 10), ("mean", 10), ("attention", 1), ("attention", 128))
    ),
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A tiny predictor and its exported file."""
    predictor = tiny_stream(**THRESHOLDS)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(common, "NUM_SCANS", 5)
        told = export_onnx(predictor, path)
    assert told == {**told, "path": str(path), "format": "onnx-step", "scans": 5}
    return predictor, path


@pytest.mark.parametrize(("mixer", "window"), CASES)
def test_every_head_of_every_line_is_that_of_keras(mixer, window, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "NUM_SCANS", 5)
    predictor = tiny_stream(mixer, window, pixels=21)  # odd: convolutions pad unevenly
    told = export_onnx(predictor, tmp_path / "model.onnx")
    assert told["largest_difference"] < 1e-4
    check_onnx(tmp_path / "model.onnx")
    copy = OnnxPredictor.load(tmp_path / "model.onnx")
    scans = rough_scans(2, 24, 21)
    heads = {"state", "change", "unknown"}
    states, ours = predictor.after_every_line(scans), predictor.heads(scans)
    for way in (copy, replace(copy, whole=None)):  # in one pass, and line by line
        assert set(way.outputs(scans)) == {*heads, "recorded", "seen"}
        np.testing.assert_allclose(way.after_every_line(scans), states, atol=1e-5)
        theirs = way.heads(scans)
        for name in ("change", "unknown"):
            np.testing.assert_allclose(theirs[name], ours[name], atol=1e-5)
        np.testing.assert_allclose(
            way.probabilities(scans), predictor.probabilities(scans), atol=1e-5
        )


@ONCE
@pytest.mark.parametrize("variant", ["float16", "int8"])
def test_a_smaller_file_has_one_pass_where_that_answers_as_the_step(
    variant, tmp_path, monkeypatch
):
    monkeypatch.setattr(common, "NUM_SCANS", 5)
    images, labels = rough_scans(6, 24), np.arange(6) % 3
    scored = Dataset(images, labels, tuple("abc"), np.full(6, 24))
    path = tmp_path / "model.onnx"
    export_model(tiny_stream(), path, variant=variant, scored=scored)
    assert (OnnxPredictor.load(path).whole is None) == (variant == "int8")


def test_every_layer_of_a_streaming_model_has_a_step_and_is_written_as_onnx():
    own = [getattr(layers, name) for name in layers.__all__]
    whole = [
        kind.__name__
        for kind in own
        if hasattr(kind, "cache_shapes") != hasattr(kind, "step")
    ]
    assert not whole, "a layer that keeps a cache has `step` and `cache_shapes`"
    used = {*LINE_BY_LINE, *(kind for kind in own if hasattr(kind, "step"))}
    for mixer in ("gru", "attention", "mean"):
        used |= {type(layer) for layer in chain(tiny_stream(mixer, trees=3).model)}
    lacking = sorted(kind.__name__ for kind in used if kind.__name__ not in LAYERS)
    assert not lacking, "write each as a function of `stm_keras.export.onnx_layers`"


@pytest.mark.parametrize("pixels", [16, pytest.param(256, marks=ONCE)])
def test_trees_are_written_as_well(pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "NUM_SCANS", 5)
    predictor = tiny_stream(trees=3, pixels=pixels)
    export_onnx(predictor, tmp_path / "model.onnx")
    check_onnx(tmp_path / "model.onnx")
    copy, scans = OnnxPredictor.load(tmp_path / "model.onnx"), rough_scans(3, 24, pixels)
    ours = predictor.outputs(scans)["state"]
    for way in (copy, replace(copy, whole=None)):
        np.testing.assert_allclose(way.outputs(scans)["state"], ours, atol=1e-4)
        np.testing.assert_allclose(way.logits(scans), predictor.logits(scans), atol=1e-4)
    assert np.ptp(ours, axis=1).max() > 0.1


@ONCE
def test_a_file_whose_graphs_differ_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "NUM_SCANS", 5)
    other = tiny_stream(seed=1).model
    whole_graph = writers.whole_graph
    monkeypatch.setattr(writers, "whole_graph", lambda model, n: whole_graph(other, n))
    with pytest.raises(OutputError, match="line by line and in one pass, a probability"):
        export_onnx(tiny_stream(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@ONCE
def test_channels_that_only_the_last_line_reads_are_computed_for_all(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "NUM_SCANS", 5)
    entry = keras.Input((None, 16))
    channels = layers.CausalConv(3, 4, 2, 1, 2)(layers.LineChannels()(entry))
    state = keras.layers.Dense(3, name="state")(layers.LineSummary()(channels))
    predictor = KerasPredictor(keras.Model(entry, {"state": state}), FACTS)
    export_onnx(predictor, tmp_path / "model.onnx")
    copy, scans = OnnxPredictor.load(tmp_path / "model.onnx"), rough_scans(2, 24)
    np.testing.assert_allclose(copy.logits(scans), predictor.logits(scans), atol=1e-5)


@pytest.mark.smoke
def test_a_stream_without_keras_gives_the_same_verdicts(exported):
    predictor, path = exported
    ours, theirs = LineStream(predictor, 48), OnnxStream(path, 48)
    lost, scan = [], rough_scans(1, 48, 40)[0]
    for line in scan:
        one, two = ours.push(line), theirs.push(line)
        for name in ("line", "verdict", "change", "change_line"):
            assert getattr(one, name) == getattr(two, name)
        if two.verdict is None:
            lost.append(two.line)
            assert one.probabilities is two.probabilities is None
            continue
        np.testing.assert_allclose(one.probabilities, two.probabilities, atol=1e-5)
        assert None not in (two.unsure, two.change, two.unknown)
    assert lost == np.flatnonzero(~has_signal(scan)).tolist()


def test_the_file_says_everything_that_the_model_does(exported):
    predictor, path = exported
    facts = OnnxPredictor.load(path).metadata
    assert {name: facts[name] for name in predictor.metadata} == predictor.metadata
    assert "geometric mean" in facts["preprocessing"]


def test_keras_is_not_needed(exported):
    _, path = exported
    program = (
        "import sys\nimport numpy as np\n"
        "from stm_keras.inference.onnx_model import OnnxStream\n"
        f"print(OnnxStream({str(path)!r}).push(np.arange(9.0) ** 2).name)\n"
        "assert not {'keras', 'tensorflow', 'torch', 'jax', 'onnx'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in FACTS["classes"]


def test_what_cannot_be_exported_is_refused(tmp_path):
    model = MODELS["cnn_small"](3, pixels=16, max_lines=8, width=2)
    with pytest.raises(MismatchError, match="judges whole scans"):
        export_onnx(KerasPredictor(model, FACTS), tmp_path / "model.onnx")
    with pytest.raises(OutputError, match=r"ends in \.onnx"):
        export_onnx(tiny_stream(), tmp_path / "model.keras")
    entry = keras.Input((None, 16))
    state = keras.layers.Dense(3, activation="gelu", name="odd")(entry)
    model = keras.Model(entry, {"state": state})
    with pytest.raises(MismatchError, match="the activation gelu of odd is not known"):
        export_onnx(KerasPredictor(model, FACTS), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def changed(path, output, facts):
    """Copy an ONNX file with other facts, or with none."""
    network = onnx.load(str(path))
    if facts is None:
        del network.metadata_props[:]
    else:
        (entry,) = (each for each in network.metadata_props if each.key == "stm_keras")
        entry.value = facts
    onnx.save(network, str(output))
    return output


def test_files_that_are_not_ours_are_named(exported, tmp_path):
    _, path = exported
    output = tmp_path / "other.onnx"
    facts = json.dumps({**FACTS, "format": 1, "pixels": 17})
    for given, message in (
        (None, "is not of `stm-keras export`"),
        ("{", "metadata `stm_keras`: is damaged"),
        ("[]", r"damaged \(not an object\)"),
        ('{"format": 2}', "of a newer stm-keras"),
        ('{"format": 1}', "no `classes`"),
        (facts, "does not fit"),
    ):
        with pytest.raises(InputError, match=message):
            OnnxStream(changed(path, output, given))
    with pytest.raises(InputError, match="does not exist"):
        OnnxStream(tmp_path / "none.onnx")
    output.write_bytes(b"nothing")
    with pytest.raises(
        InputError, match=r"other\.onnx: is not a model that is run here \(damaged"
    ):
        OnnxStream(output)
    with pytest.raises(
        MismatchError, match="lines of 16 pixels. Received: scans of 3 lines x 8"
    ):
        OnnxPredictor.load(path).outputs(np.zeros((1, 3, 8)))
