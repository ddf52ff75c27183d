"""Whole scans in one pass of an exported model: the answers of its step, and several at a time."""

import base64
from dataclasses import replace

import h5py
import numpy as np
import pytest
from helpers import ONCE, SHARED, lattice_scans
from scan_files import sxm

from stm_keras.errors import InputError
from stm_keras.inference import onnx_model, onnx_session, predict_files
from stm_keras.inference.find_files import InputFile
from stm_keras.inference.find_model import shipped_path
from stm_keras.inference.judge import scan_verdicts
from stm_keras.inference.onnx_model import OnnxPredictor, OnnxStream

pytest.importorskip("onnxruntime")
pytestmark = ONCE  # no backend changes what is tested here

SHIPPED = shipped_path("h_si100_small").with_suffix(".onnx")


@pytest.fixture(scope="module")
def model():
    """A shipped model. Read only."""
    return OnnxPredictor.load(SHIPPED)


@pytest.fixture(scope="module")
def stepped(model):
    """The same without its graph of whole scans."""
    return replace(model, whole=None)


def awkward(scans):
    """Return scans as floats: some begun, some with lost lines, one blank."""
    scans = scans.astype(np.float32)
    scans[0] = np.linspace(0, 1, scans.shape[2])
    scans[1, 7:] = 0  # fewer lines than the model needs
    scans[2, 61:] = 0
    scans[3, [0, 1, 17, 18, 80]] = 0
    scans[4, 30:40] = 0
    scans[4, 100:] = 0
    return scans


def check_equal(model, stepped, scans):
    """See that one pass gives the verdicts of the step, with states and without."""
    expected = scan_verdicts(stepped, scans)
    for states in (True, False):
        verdicts = scan_verdicts(model, scans, states=states)
        assert verdicts == [
            replace(e, probabilities=v.probabilities)
            for v, e in zip(verdicts, expected, strict=True)
        ]
        for one, other in zip(verdicts, expected, strict=True):
            if other.probabilities is None:
                assert one.reason == other.reason is not None
                continue
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-5)
            np.testing.assert_allclose(one.change, other.change, atol=1e-5)
            if states:
                np.testing.assert_allclose(one.state, other.state, atol=1e-5)
            else:
                assert one.state is None
    return expected


def test_one_pass_answers_as_the_steps_do(model, stepped):
    scans = awkward(lattice_scans([0, 1, 2, 3, 0, 1, 3]))
    scans[5, 70:] = scans[6, 70:]  # another tip
    expected = check_equal(model, stepped, scans)
    assert [each.reason is None for each in expected] == [False, False, *[True] * 5]
    check_equal(model, stepped, scans[:0])
    check_equal(model, stepped, scans[:, :50])


def test_one_pass_answers_as_the_steps_do_on_real_scans(model, stepped):
    path = SHARED / "nottingham.h5"
    if not path.exists():
        pytest.skip(f"no real scans: {path} is missing")
    with h5py.File(path) as file:
        scans = awkward(file["images"][5:3000:300])
    expected = check_equal(model, stepped, scans)
    assert len({each.verdict for each in expected}) > 2
    assert any(each.change_lines for each in expected)


def test_logits_of_first_lines_and_of_every_head_are_those_of_the_steps(model, stepped):
    scans = awkward(lattice_scans([0, 1, 2, 3, 0]))
    for seen in (None, 20):
        ours, theirs = (each.logits(scans, seen) for each in (model, stepped))
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert not ours[0].any()  # nothing was judged
    ours, theirs = (each.heads(scans) for each in (model, stepped))
    assert set(ours) == {"change", "unknown"}
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], atol=2e-5)


def changed(folder, graph):
    """Copy a shipped file with another graph of whole scans, bytes; None for the step alone."""
    onnx = pytest.importorskip("onnx")
    network = onnx.load(str(SHIPPED))
    kept = {entry.key: entry.value for entry in network.metadata_props}
    kept.pop(onnx_session.WHOLE)
    if graph is not None:
        kept[onnx_session.WHOLE] = base64.b64encode(graph).decode()
    del network.metadata_props[:]
    onnx.helper.set_model_props(network, kept)
    path = folder / "model.onnx"
    onnx.save(network, str(path))
    return path


def graph_of(path):
    """Return the graph of whole scans in a file as an `onnx.ModelProto`."""
    onnx = pytest.importorskip("onnx")
    (text,) = (
        entry.value
        for entry in onnx.load(str(path)).metadata_props
        if entry.key == onnx_session.WHOLE
    )
    return onnx.load_from_string(base64.b64decode(text))


def test_a_file_of_the_step_alone_goes_line_by_line(tmp_path, stepped):
    alone = OnnxPredictor.load(changed(tmp_path, None))
    assert alone.whole is None
    assert alone.side_by_side == 1
    scans = lattice_scans([1])
    assert scan_verdicts(alone, scans) == scan_verdicts(stepped, scans)


def answer_with(graph, head, columns):
    """Have a graph give some columns of a head alone."""
    onnx = pytest.importorskip("onnx")
    (node,) = (each for each in graph.node if head in each.output)
    node.output[0] = "all"
    indices = onnx.numpy_helper.from_array(np.array(columns), "columns")
    graph.initializer.append(indices)
    chosen = onnx.helper.make_node("Gather", ["all", "columns"], [head], axis=2)
    graph.node.append(chosen)
    (output,) = (each for each in graph.output if each.name == head)
    output.type.tensor_type.shape.dim[2].dim_value = len(columns)


def test_a_graph_that_is_damaged_or_of_another_model_is_told_in_one_line(tmp_path):
    foreign, odd, heads, fewer = (graph_of(SHIPPED) for _ in range(4))
    foreign.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 64
    odd.graph.node[0].op_type = "Celsius"
    del heads.graph.output[-1]
    answer_with(fewer.graph, "state", [0, 2])
    cases = (
        (b"nothing", "its graph of whole scans is damaged"),
        (odd.SerializeToString(), "is damaged .a node 'Celsius', which no network"),
        (foreign.SerializeToString(), "onnxruntime cannot load it|does not fit"),
        (heads.SerializeToString(), "its graph of whole scans does not fit the metadata"),
        (fewer.SerializeToString(), "its graph of whole scans does not fit the metadata"),
    )
    scans, line = lattice_scans([1]), np.sin(np.arange(128.0) ** 2)
    for graph, message in cases:
        path = changed(tmp_path, graph)
        assert OnnxStream(path).push(line) is not None  # which never opens it
        with pytest.raises(InputError, match=message) as error:
            scan_verdicts(OnnxPredictor.load(path), scans)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


def test_the_graph_keeps_the_standard():
    pytest.importorskip("onnx")
    from onnx import checker, shape_inference

    network = graph_of(SHIPPED)
    checker.check_model(network, full_check=True)
    shape_inference.infer_shapes(network, check_type=True, strict_mode=True, data_prop=True)


def write(path, lines, pixels, seed):
    made = np.random.default_rng(seed).normal(size=(lines, pixels)) * 1e-10
    path.write_bytes(sxm({"Z": ("m", made, None)}, size=(1e-8, 1e-8 * lines / pixels)))
    return InputFile(path)


@pytest.fixture
def passes(monkeypatch):
    """Numbers of scans that were computed in one pass."""
    counts, run = [], onnx_model.WholeScans._run

    def counted(graph, prepared, read):
        counts.append(len(prepared))
        return run(graph, prepared, read)

    monkeypatch.setattr(onnx_model.WholeScans, "_run", counted)
    return counts


def test_files_of_any_size_are_judged_side_by_side_in_their_order(
    tmp_path, model, stepped, passes, monkeypatch
):
    monkeypatch.setattr(predict_files, "PATIENCE", 1e9)
    sizes = [(128, 128), (40, 60), (110, 120), (64, 64), (128, 128), (100, 200), (90, 90)]
    files = [write(tmp_path / f"{n}.sxm", *size, n) for n, size in enumerate(sizes * 2)]
    files[9].path.write_bytes(files[9].path.read_bytes()[:-1])
    judged = predict_files.predict_files
    found = [each.record() for each in judged(model, files, threads=2, states=False)]
    assert sorted(passes) == [1, 4, 8]  # a file with an error comes between
    assert [each["path"] for each in found] == [str(file.path) for file in files]
    assert "is cut short" in found[9]["error"]
    for one, other in zip(found, judged(stepped, files, threads=2), strict=True):
        other = other.record()
        for record in (one, other):
            shares = record.pop("probabilities")
            record["confidence"] = list((shares or {}).values())
        np.testing.assert_allclose(
            one.pop("confidence"), other.pop("confidence"), atol=1e-5
        )
        assert one == other


def test_a_scan_waits_for_no_file_that_takes_long(tmp_path, model, passes, monkeypatch):
    monkeypatch.setattr(predict_files, "PATIENCE", -1.0)
    files = [write(tmp_path / f"{n}.sxm", 128, 128, n) for n in range(3)]
    assert len(list(predict_files.predict_files(model, files, states=False))) == 3
    assert passes == [1, 1, 1]
