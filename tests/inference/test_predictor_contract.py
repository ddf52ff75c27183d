"""All predictors keep one contract, whoever computes: Keras, onnxruntime or trees."""

import inspect
import json

import numpy as np
import pytest
from streaming import rough_scans

from stm_keras.errors import MismatchError
from stm_keras.inference.judge import scan_verdicts, verdict_of
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.stream import LineStream
from stm_keras.models import sequential, vit
from stm_keras.trees.features import scan_features
from stm_keras.trees.file import save_trees
from stm_keras.trees.model import fit_trees

LINES, PIXELS = 8, 16
METADATA = {"classes": ["a", "b", "c"], "pixels": PIXELS, "max_lines": LINES}
METADATA["temperature"] = {"lines": [1, LINES], "values": [4.0, 1.0]}
FIT = {"iterations": 2, "learning_rate": 0.3, "leaves": 3, "regularisation": 1.0}
FIT |= {"seed": 0, "share": 1.0, "logistic": 0.1}


def write_onnx(path, step):
    """Write a network of one product: of a line, or of a whole scan."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    name, shape = ("line", [1, PIXELS]) if step else ("lines", ["batch", LINES, PIXELS])
    length = PIXELS if step else LINES * PIXELS
    matrix = np.random.default_rng(0).normal(size=(length, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", [name], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "matrix"], ["state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, [shape[0], 3])],
        [numpy_helper.from_array(matrix, "matrix")],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    entry = model.metadata_props.add()
    entry.key, entry.value = "stm_keras", json.dumps({"format": 1, **METADATA})
    onnx.save(model, str(path))


def write_trees(path):
    pytest.importorskip("skops")
    features = scan_features(rough_scans(24, LINES))
    trees = fit_trees(features, np.arange(24) % 3, np.ones(24), **FIT)
    save_trees(trees, path, METADATA)


WRITERS = {  # name of a file: how it is written, whether it answers after every line
    "lines.keras": (
        lambda path: save_model(
            sequential(3, PIXELS, LINES, width=2, units=4), path, METADATA
        ),
        True,
    ),
    "scan.keras": (
        lambda path: save_model(
            vit(3, PIXELS, LINES, layers=1, heads=2, dim=8, mlp_dim=12), path, METADATA
        ),
        False,
    ),
    "lines.onnx": (lambda path: write_onnx(path, step=True), True),
    "scan.onnx": (lambda path: write_onnx(path, step=False), False),
    "trees.skops": (write_trees, False),
}


@pytest.fixture(scope="module", params=WRITERS)
def loaded(request, tmp_path_factory):
    """A predictor of each kind, and whether it answers after every line."""
    write, every_line = WRITERS[request.param]
    path = tmp_path_factory.mktemp("contract") / request.param
    write(path)
    return load_predictor(path), every_line


@pytest.fixture
def predictor(loaded):
    return loaded[0]


@pytest.fixture
def scans():
    return rough_scans(5, LINES)


def test_attributes_are_those_of_the_contract(loaded):
    predictor, every_line = loaded
    assert isinstance(predictor, Predictor)
    assert predictor.every_line is every_line
    assert predictor.classes == ("a", "b", "c")
    assert {name: predictor.metadata[name] for name in METADATA} == METADATA
    assert isinstance(predictor.parallel, bool)
    assert predictor.architecture is None or isinstance(predictor.architecture, str)


def test_methods_take_the_same_arguments(predictor):
    public = [name for name in vars(Predictor) if not name.startswith("_")]
    methods = [name for name in public if inspect.isfunction(getattr(Predictor, name))]
    assert {"outputs", "probabilities", "start_scan", "step"} <= set(methods)
    for name in methods:
        wanted, own = (
            list(inspect.signature(getattr(kind, name)).parameters)
            for kind in (Predictor, type(predictor))
        )
        assert own == wanted, name


def test_outputs_have_the_shapes_of_the_contract(loaded, scans):
    predictor, every_line = loaded
    out = predictor.outputs(scans)
    assert {values.dtype for values in out.values()} <= {np.dtype("f4"), np.dtype(int)}
    if every_line:
        assert out["state"].shape == (5, LINES, 3)
        assert out["recorded"].shape == (5,)
        assert out["seen"].shape == (5, LINES)
        assert predictor.outputs(scans, lines=3)["state"].shape == (5, 3, 3)
    else:
        assert {name: values.shape for name, values in out.items()} == {"state": (5, 3)}


def test_probabilities_follow_from_logits_of_whole_and_partial_scans(predictor, scans):
    counts = []
    whole = predictor.probabilities(scans, progress=lambda *both: counts.append(both))
    assert counts[-1] == (5, 5)
    assert whole.shape == (5, 3)
    assert whole.dtype == np.float64
    np.testing.assert_allclose(whole.sum(1), 1, atol=1e-9)
    assert (predictor.logits(scans).argmax(1) == whole.argmax(1)).all()
    partial = np.where(np.arange(LINES)[:, None] < 3, scans, 0)
    np.testing.assert_allclose(
        predictor.probabilities(scans, lines=3), predictor.probabilities(partial), atol=1e-5
    )
    by_lines = predictor.by_lines(scans, [3, LINES])
    np.testing.assert_allclose(by_lines[LINES], whole, atol=1e-5)
    assert by_lines[3].shape == (5, 3)
    assert predictor.probabilities(scans[:0]).shape == (0, 3)


def test_scans_that_do_not_fit_are_refused_alike(predictor):
    for shape, message in (
        ((2, LINES, PIXELS + 1), f"the model judges lines of {PIXELS} pixels. Received"),
        ((2, LINES + 1, PIXELS), f"the model judges up to {LINES} lines. Received"),
        ((LINES, PIXELS), r"the shape \(scans, lines, pixels\). Received: shape"),
    ):
        with pytest.raises(MismatchError, match=message):
            predictor.probabilities(np.zeros(shape))
    with pytest.raises(MismatchError, match="knows a, b, c. Received: scans labelled a, b"):
        predictor.check_classes(("a", "b"))


def test_a_model_goes_line_by_line_or_says_why_not(loaded, scans):
    predictor, every_line = loaded
    if not every_line:
        with pytest.raises(MismatchError, match="judges whole scans|Only networks go"):
            LineStream(predictor)
        with pytest.raises(MismatchError, match="judges whole scans, not every line"):
            predictor.after_every_line(scans)
        assert predictor.heads(scans) == {}
        return
    line = predictor.prepare(scans[:1])[:, :1]
    logits, _ = predictor.step(line, predictor.start_scan())
    assert logits["state"].shape == (1, 3)
    stream = LineStream(predictor, lines=LINES)
    for scan, states in zip(scans, predictor.after_every_line(scans), strict=True):
        stream.reset()
        for line, state in zip(scan, states, strict=True):
            verdict = stream.push(line)
            if verdict.verdict is not None:
                np.testing.assert_allclose(verdict.probabilities, state, atol=1e-5)


def test_attention_is_of_every_line_or_missing(predictor, scans):
    attention = predictor.line_attention(scans)
    if predictor.architecture == "vit":
        assert attention.shape == (5, LINES)
    else:
        assert attention is None


def test_scans_are_judged_alike(loaded, scans):
    predictor, every_line = loaded
    scans[1, 3:] = 0  # aborted: calibrated as one of three lines
    verdicts = scan_verdicts(predictor, scans)
    found = [verdict.probabilities for verdict in verdicts]
    np.testing.assert_allclose(found, predictor.probabilities(scans), atol=1e-5)
    assert all((verdict.state is not None) is every_line for verdict in verdicts)
    assert verdict_of(predictor, scans[0])["class"] == verdicts[0].name


def test_the_contract_itself_is_no_model():
    with pytest.raises(TypeError, match=r"stm_keras\.KerasPredictor\(model, metadata\)"):
        Predictor(None, METADATA)


def test_the_former_name_of_metadata_still_works():
    with pytest.warns(DeprecationWarning, match="`facts` is now called `metadata`"):
        assert KerasPredictor(None, METADATA).facts is METADATA


def test_a_predictor_is_never_asked_what_it_has():
    """What a model can do is in the contract: nobody looks for its attributes."""
    import ast
    from pathlib import Path

    import stm_keras

    asked = []
    for path in sorted(Path(stm_keras.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            call = ast.unparse(node) if isinstance(node, ast.Call) else ""
            if call.startswith(("hasattr(", "getattr(")) and "predictor" in call.lower():
                asked.append(f"{path.name}:{node.lineno}: {call}")
    assert not asked
