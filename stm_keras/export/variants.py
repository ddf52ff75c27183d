"""Smaller files, and what they cost: float16 weights, and ONNX with products in int8."""

import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np

from stm_keras.errors import DatasetError, require
from stm_keras.evaluation.metrics import auroc
from stm_keras.export.onnx_graph import put_facts
from stm_keras.export.onnx_scan import name_nodes
from stm_keras.inference.model_file import FACTS, load_predictor
from stm_keras.inference.onnx_scan import load_onnx

WEIGHTS = "model.weights.h5"

SMALLEST = 64  # values of an array that is worth halving
HALVES = {"float32": "float16", "int32": "int16"}  # weights, and places in a line
VARIANTS = ("float16", "int8")


@dataclass(frozen=True)
class Scored:
    """Labelled scans on which the loss of a variant is measured.

    Args:
        images: array of shape `(scans, lines, pixels)`. Heights.
        labels: int array of shape `(scans,)`.
        source: str. Where they come from.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str


def scored_scans(facts, dataset, indices, data):
    """Choose labelled scans to measure a variant on.

    Args:
        facts: dict of the model.
        dataset: A `Dataset`.
        indices: int array. Scans that may score the model.
        data: str or `Path`. Where the dataset was read.

    Returns:
        `Scored`.

    Raises:
        MismatchError: Model and data do not fit.
        DatasetError: There are not two classes to tell apart.
    """
    from stm_keras.inference.predictor import Predictor

    model = Predictor(None, facts)
    model.check_classes(dataset.classes, data)
    model.check_scans(dataset.images.shape, data)
    part = dataset.take(indices)
    if len(np.unique(part.labels)) < 2:
        raise DatasetError(
            f"{data}: needs complete scans of at least two classes to measure an AUROC."
        )
    return Scored(part.images, part.labels, str(data))


def write(predictor, path, facts, variant, scored):
    """Replace a file by a smaller variant that says what it costs.

    Args:
        predictor: A `Predictor`.
        path: `Path` of the file in float32.
        facts: dict of the model.
        variant: str. A name of `VARIANTS`.
        scored: `Scored`.

    Returns:
        dict, JSON-ready: `name`, `auroc` of the file, `auroc_float32` of the model,
        `loss` of AUROC, `scans` and `data` that they are measured on.
    """
    small = _SmallKeras(path) if path.suffix == ".keras" else _SmallOnnx(path, variant)
    small.put(facts)
    ours = predictor.probabilities(scored.images)
    theirs = small.probabilities(scored.images)
    areas = [auroc(scored.labels, each)[0] for each in (theirs, ours)]
    cost = {
        "name": variant,
        "auroc": round(areas[0], 4),
        "auroc_float32": round(areas[1], 4),
        "loss": round(areas[1] - areas[0], 4),
        "scans": len(scored.labels),
        "data": scored.source.rpartition("/")[2],
    }
    small.put({**facts, "exported": {**facts["exported"], "variant": cost}})
    return cost


class _SmallOnnx:
    def __init__(self, path, variant):
        import onnx

        self.path = path
        {"float16": _float16, "int8": _int8}[variant](path)
        self.network = onnx.load(str(path))
        name_nodes(self.network.graph)

    def put(self, facts):
        put_facts(self.network, facts)
        self.path.write_bytes(self.network.SerializeToString())

    def probabilities(self, images):
        return load_onnx(self.path).probabilities(images)


class _SmallKeras:
    def __init__(self, path):
        self.path = path

    def put(self, facts):
        halve(self.path, facts)

    def probabilities(self, images):
        return load_predictor(self.path).probabilities(images)


def _float16(path):
    """Keep weights in float16, places in int16, and compute in 32 bits as processors do.

    Computing in float16 too would gain nothing there, and lose what is small: spectra
    have a floor of 1e-6, which float16 hardly holds.
    """
    import onnx
    from onnx import numpy_helper

    network = onnx.load(str(path))
    graph, casts = network.graph, []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        half = HALVES.get(values.dtype.name)
        if half is None or values.size < SMALLEST or _larger(values, half):
            continue
        name, kind = weight.name, weight.data_type
        weight.CopyFrom(numpy_helper.from_array(values.astype(half), f"{name}_{half}"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=kind))
    for place, node in enumerate(casts):
        graph.node.insert(place, node)
    path.write_bytes(network.SerializeToString())


def _larger(values, half):
    """Tell whether a value is too large for half the bits."""
    limits = np.finfo(half) if values.dtype.kind == "f" else np.iinfo(half)
    return np.abs(values).max() > limits.max


def _int8(path):
    """Multiply in int8: weights per channel, and what comes in scaled as it comes."""
    made = require("onnxruntime.quantization", "export")
    kind = made.QuantType.QInt8
    made.quantize_dynamic(str(path), str(path), weight_type=kind, per_channel=True)


def halve(path, facts=None):
    """Round the weights of a `.keras` file to float16 and pack the archive.

    The network says what it said: layers still compute in float32, and loading turns the
    weights back. What float16 cannot hold stays as it is.

    Args:
        path: `Path` of a `.keras` file, which is replaced.
        facts: dict, JSON-ready. What the file shall say of itself; None for what it says.
    """
    parts = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            parts[name] = archive.read(name)
    parts[WEIGHTS] = _halved(parts[WEIGHTS])
    if facts is not None:
        parts[FACTS] = json.dumps(facts, indent=1, allow_nan=False).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def _halved(data):
    """Copy an HDF5 file with its float32 arrays in float16: bytes in, bytes out."""
    import h5py

    copy = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as source, h5py.File(copy, "w") as target:

        def take(name, item):
            if isinstance(item, h5py.Dataset):
                made = target.create_dataset(name, data=_rounded(item[()]))
            else:
                made = target.require_group(name)
            made.attrs.update(item.attrs)

        source.visititems(take)
        target.attrs.update(source.attrs)
    return copy.getvalue()


def _rounded(values):
    largest = np.finfo(np.float16).max
    if values.dtype != np.float32 or np.abs(values).max(initial=0) > largest:
        return values
    return values.astype(np.float16)
