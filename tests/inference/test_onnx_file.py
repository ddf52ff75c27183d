"""Files that onnxruntime, which is C, must not see, and those that must not hang it."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
from helpers import ONCE, check_error, stm

from stm_keras.errors import InputError, MismatchError, StmKerasError
from stm_keras.inference import onnx_session
from stm_keras.inference.onnx_file import Network, Refused
from stm_keras.inference.onnx_model import load_onnx

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

pytestmark = ONCE  # no backend changes what is tested here

FACTS = {"format": 1, "classes": ["a", "b"], "pixels": 4, "max_lines": 3}
SHIPPED = Path(__file__).parents[2] / "models" / "h_si100_small.onnx"
HOSTILE = Path(__file__).parents[3] / "shared" / "cases" / "hostile" / "onnx_run_fails.onnx"
FUZZ = int(os.environ.get("STM_KERAS_FUZZ", "60"))


def node(kind, inputs, outputs, **attributes):
    return helper.make_node(kind, inputs.split(), outputs.split(), **attributes)


def whole(value):
    return np.array(value, np.int64)


def network(nodes, weights=None, step=False, facts=FACTS, **parts):
    """Return the bytes of a file that maps "x" of a scan, or of a line, to "state"."""
    entry = ("line", [1, 4]) if step else ("x", ["batch", 3, 4])
    weights = {"matrix": np.ones((4, 2), np.float32), **(weights or {})}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(entry[0], TensorProto.FLOAT, entry[1])],
        [helper.make_tensor_value_info("state", TensorProto.FLOAT, [*entry[1][:-1], 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    parts = {"opset_imports": [helper.make_opsetid("", 18)], "ir_version": 9, **parts}
    model = helper.make_model(graph, **parts)
    entry = model.metadata_props.add()
    entry.key, entry.value = "stm_keras", json.dumps(facts)
    return model


def written(model, folder):
    path = folder / "model.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def judged(path):
    model = load_onnx(path)
    return model.probabilities(np.random.default_rng(0).normal(size=(2, 3, 4)))


PLAIN = [node("MatMul", "x matrix", "state")]
STEP = [node("MatMul", "line matrix", "state")]


def test_a_plain_network_is_judged_by(tmp_path):
    assert judged(written(network(PLAIN), tmp_path)).shape == (2, 2)
    assert judged(written(network(STEP, step=True), tmp_path)).shape == (2, 2)


def other_domain():
    made = [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]
    made.append(node("MatMul", "y matrix", "state"))
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return network(made, opset_imports=domains)


def outside():
    model = network(PLAIN)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return model


def endless(step=False):
    """A loop whose condition stays true, as often as int64 can count."""
    name = "line" if step else "x"
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Add", "carried carried", "next")],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [node("Loop", f"most always {name}", "y", body=body)]
    nodes.append(node("MatMul", "y matrix", "state"))
    weights = {"most": whole(2**63 - 1), "always": np.array(True)}
    return network(nodes, weights, step)


def huge_array():
    model = network(PLAIN)
    model.graph.initializer[0].dims[0] = 10**12
    return model


def huge_input():  # onnxruntime would take 2 GB while it loads the file
    model = network(PLAIN)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**31
    return model


def twice():
    data = network(PLAIN).SerializeToString()
    return data + onnx.ModelProto(graph=network(PLAIN).graph).SerializeToString()


def functions():
    model = network(PLAIN)
    model.functions.add().name = "f"
    return model


def shaped():
    nodes = [
        node("Cast", "line", "n", to=TensorProto.INT64),
        node("Reshape", "n flat", "m"),
    ]
    nodes += [node("Expand", "line m", "y"), node("ReduceMax", "y axes", "z")]
    nodes.append(node("MatMul", "z matrix", "state"))
    weights = {"flat": whole([4]), "axes": whole([0, 1, 2])}
    return network(nodes, weights, step=True)


REFUSED = {
    "a node of another kind": (
        lambda: network([node("NonZero", "x", "state")]),
        "NonZero",
    ),
    "a node of another standard": (other_domain, "com.microsoft"),
    "weights in another file": (outside, "weights in another file"),
    "a loop in a step": (lambda: endless(step=True), "graph inside a node 'Loop'"),
    "an array larger than the file": (huge_array, "larger than its file"),
    "an input too large": (huge_input, "more numbers than a network of stm-keras has"),
    "two graphs": (twice, "no graph, or more than one"),
    "functions": (functions, "functions of its own"),
    "sizes that depend on the line": (shaped, "'Expand' whose size depends on the scan"),
    "no message": (lambda: b"\xff" * 100, "damaged, or cut short"),
    "nothing": (lambda: b"", "no graph"),
    "a number for a graph": (lambda: b"\x38\x05", "a number in place of a part"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_export_has_is_refused_before_onnxruntime_sees_it(
    name, tmp_path, monkeypatch
):
    make, phrase = REFUSED[name]
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(InputError) as told:
        load_onnx(written(make(), tmp_path))
    assert phrase in str(told.value)
    assert "\n" not in str(told.value)


def test_a_loop_without_end_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_session, "SECONDS", 0.5)
    with pytest.raises(MismatchError, match="cannot be computed \\(it takes more than"):
        judged(written(endless(), tmp_path))


@pytest.mark.parametrize("constant", [False, True])
def test_a_network_that_grows_without_end_is_stopped(constant, tmp_path):
    nodes = [node("Concat", f"g{i} g{i}", f"g{i + 1}", axis=0) for i in range(38)]
    nodes += [node("ReduceMax", "g38 axes", "most"), node("Add", "x most", "y")]
    nodes.append(node("MatMul", "y matrix", "state"))
    if not constant:
        nodes.insert(0, node("ReduceMax", "x axes", "g0"))
    weights = {"axes": whole([0]), "g0": np.ones((1, 3, 4), np.float32)}
    if not constant:
        del weights["g0"]
    with pytest.raises(StmKerasError, match=r"more than [0-9.]+ GB of memory"):
        judged(written(network(nodes, weights), tmp_path))


def test_much_that_depends_on_weights_alone_is_not_computed_while_a_file_is_loaded():
    nodes = [node("MatMul", f"m{i} m{i}", f"m{i + 1}") for i in range(3)]
    nodes += [node("ReduceMax", "m3", "most"), node("Add", "x most", "y")]
    nodes.append(node("MatMul", "y matrix", "state"))
    model = network(nodes, {"m0": np.ones((8, 8), np.float32)})
    assert not Network(model.SerializeToString()).foldable
    assert Network(SHIPPED.read_bytes()).foldable


WRONG = {
    "weights that are no numbers": (
        lambda: network(STEP, {"matrix": np.full((4, 2), np.nan, np.float32)}, True),
        "not finite",
    ),
    "weights without end": (
        lambda: network(PLAIN, {"matrix": np.full((4, 2), np.inf, np.float32)}),
        "not finite",
    ),
    "another number of classes": (
        lambda: network(STEP, step=True, facts={**FACTS, "classes": ["a", "b", "c"]}),
        "does not fit the metadata of its file",
    ),
    "another shape than was promised": (
        lambda: network(
            [node("Gather", "matrix zero", "state")],
            {"zero": whole([0, 1])},
            True,
        ),
        "does not fit the metadata of its file",
    ),
}


def caches():
    """A step that would begin with 100 caches of a million numbers each."""
    model = network(STEP, step=True)
    for number in range(100):
        entry, made = f"cache_{number}", f"next_cache_{number}"
        shape = (TensorProto.FLOAT, [1000, 1000])
        model.graph.input.append(helper.make_tensor_value_info(entry, *shape))
        model.graph.output.append(helper.make_tensor_value_info(made, *shape))
        model.graph.node.append(node("Relu", entry, made))
    return model


def no_inputs():
    model = network([node("Identity", "matrix", "state")])
    del model.graph.input[:]
    return model


WRONG["nothing that goes in"] = (no_inputs, "takes nothing")
WRONG["caches of gigabytes"] = (caches, "does not fit the metadata of its file")


@pytest.mark.parametrize("name", WRONG)
def test_what_a_network_gives_is_looked_at(name, tmp_path):
    make, phrase = WRONG[name]
    with pytest.raises(StmKerasError, match=phrase) as told:
        judged(written(make(), tmp_path))
    assert "\n" not in str(told.value)


def test_predict_says_in_one_line_what_is_wrong_with_a_model(tmp_path):
    np.save(tmp_path / "scan.npy", np.random.default_rng(0).normal(size=(24, 32)))
    for model, code, phrase in (
        (endless(step=True), 3, "is not a model that is run here"),
        (network(PLAIN, {"matrix": np.full((4, 2), np.nan, np.float32)}), 4, "not finite"),
    ):
        path = written(model, tmp_path)
        told = stm("predict", "--model", path, tmp_path / "scan.npy")
        check_error(told, code, phrase)


@pytest.mark.skipif(not HOSTILE.exists(), reason="the shared cases are not here")
def test_a_file_that_fails_at_its_first_line_is_one_line():
    with pytest.raises(MismatchError, match="cannot be computed .*Export the model anew"):
        load_onnx(HOSTILE)


def test_damage_anywhere_is_one_line_or_leaves_finite_answers(tmp_path):
    data, rng = SHIPPED.read_bytes(), random.Random(0)
    scans = np.random.default_rng(0).normal(size=(1, 2, 128))
    kept, told = 0, []
    for _ in range(FUZZ):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 3))):
            place = rng.randrange(rng.choice((len(data), 60_000)))
            damaged[place] = rng.randrange(256)
        try:
            path = written(bytes(damaged), tmp_path)
            assert np.isfinite(load_onnx(path).probabilities(scans)).all()
            kept += 1
        except StmKerasError as error:
            told.append(str(error))
    assert kept < FUZZ
    assert not [line for line in told if "\n" in line]


def test_a_file_cut_short_anywhere_is_read_or_refused():
    data, told = network(PLAIN).SerializeToString(), []
    for end in range(len(data)):
        try:
            Network(data[:end])
        except Refused as error:
            told.append(str(error))
    assert len(told) > len(data) / 2
    assert not [line for line in told if "\n" in line]
