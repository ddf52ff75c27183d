"""Tiny models of each kind that tests write in every format, and what an ONNX file keeps."""

from collections import Counter

import keras
import pytest
from streaming import FACTS, shaken, tiny_stream

from stm_keras.export import FORMATS
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.models import MODELS

LINES, PIXELS = 8, 16
SIZES = {
    "vit": {"layers": 1, "heads": 2, "dim": 8, "mlp_dim": 12},
    "cnn_small": {"width": 2},
}


def tiny_model(name):
    """Return a `KerasPredictor`: "vit", "cnn_small", or "attention" of `sequential`.

    Under torch the last has trees and the layer for surfaces, too, as shipped models have:
    their converters under other backends are not tested.
    """
    facts = {**FACTS, "max_lines": LINES, "pixels": PIXELS}
    if name not in SIZES:
        whole = keras.config.backend() == "torch"
        more = {"trees": 2, "surface": 3} if whole else {}
        return KerasPredictor(tiny_stream(name, pixels=PIXELS, **more).model, facts)
    model = shaken(MODELS[name](3, PIXELS, LINES, **SIZES[name]))
    return KerasPredictor(model, {**facts, "input": "standardised"})


def output_file(folder, kind):
    """Return where a model is written in a format; skip where a package is missing."""
    for package in FORMATS[kind].needs[keras.config.backend()]:
        pytest.importorskip(package)
    return folder / f"model{FORMATS[kind].suffix}"


def check_onnx(path):
    """See that an ONNX file is what the standard says, not only what ONNX Runtime takes.

    Args:
        path: `Path`.
    """
    import onnx

    network = onnx.load(str(path))
    onnx.checker.check_model(network, full_check=True)
    onnx.shape_inference.infer_shapes(
        network, check_type=True, strict_mode=True, data_prop=True
    )
    graph = network.graph
    names = Counter(node.name for node in graph.node)
    assert "" not in names, f"{names['']} nodes have no name"
    assert max(names.values()) == 1, names.most_common(3)
    shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Clip":  # its limits are scalars, where they are known
            limits = [shapes.get(name, ()) for name in node.input[1:]]
            assert set(limits) <= {()}, f"{node.name}: limits of shape {limits}"
