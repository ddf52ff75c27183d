"""Smaller files, and their loss of AUROC: float16 weights, and ONNX with products in int8."""

import io
import zipfile
from dataclasses import replace

import numpy as np

from stm_keras.errors import DatasetError, require
from stm_keras.evaluation.metrics import auroc
from stm_keras.export.common import facts_text
from stm_keras.export.onnx_graph import EXACT, put_facts, whole_of
from stm_keras.export.onnx_scan import name_nodes
from stm_keras.inference.find_model import METADATA, WEIGHTS
from stm_keras.inference.model_file import load_predictor
from stm_keras.inference.predictor import check_classes, check_size

SMALLEST = 64  # values of an array that is stored in half the bits
HALVES = {"float32": "float16", "int32": "int16"}  # weights, and indices


def scored_scans(facts, dataset, indices, data):
    """Return the `Dataset` of the scans at `indices`, which may score the model.

    Raises:
        MismatchError: Model and data do not fit.
        DatasetError: There are not two classes to tell apart.
    """
    check_classes(facts, dataset.classes, data)
    check_size(facts, dataset.images.shape, data)
    part = replace(dataset.take(indices), source=str(data))
    if len(np.unique(part.labels)) < 2:
        raise DatasetError(
            f"{data}: needs complete scans of at least two classes to measure an AUROC."
        )
    return part


def write(predictor, path, facts, variant, scored):
    """Replace a file in float32 by a smaller variant that says what it costs.

    `variant` is a name in `formats.VARIANTS`.

    Returns:
        dict, JSON-ready: `name`, `auroc` of the file, `auroc_float32` of the model,
        `loss` of AUROC, `scans` and `data` that they are measured on.
    """
    put = halve if path.suffix == ".keras" else _put
    if put is _put:
        {"float16": _float16, "int8": _int8}[variant](path)
    put(path, facts)
    before, after = (
        auroc(scored.labels, model.probabilities(scored.images))[0]
        for model in (predictor, load_predictor(path))
    )
    cost = {
        "name": variant,
        "auroc": round(after, 4),
        "auroc_float32": round(before, 4),
        "loss": round(before - after, 4),
        "scans": len(scored.labels),
        "data": scored.source.rpartition("/")[2],
    }
    put(path, {**facts, "exported": {**facts["exported"], "variant": cost}})
    return cost


def halve(path, facts=None):
    """Round the weights of a `.keras` file to float16, in place, and compress the archive.

    The network stays as it is: layers still compute in float32, and loading turns the
    weights back. What float16 cannot hold stays in float32. `facts` replace those of the
    file.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[WEIGHTS] = _halved(parts[WEIGHTS])
    if facts is not None:
        parts[METADATA] = facts_text(facts).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def _put(path, facts):
    """Put facts into an ONNX file, whose nodes a quantiser may have left without names."""
    import onnx

    network = onnx.load(str(path))
    name_nodes(network.graph)
    put_facts(network, facts, whole_of(network))
    path.write_bytes(network.SerializeToString())


def _float16(path):
    """Store weights in float16 and indices in int16, and compute in 32 bits as processors do.

    Computing in float16 too would gain nothing there, and lose what is small: spectra
    have a floor of 1e-6, which float16 hardly holds.
    """
    import onnx

    network = onnx.load(str(path))
    whole = whole_of(network)
    for each in (network, whole):
        if each is not None:
            _halve_weights(each.graph)
    put_facts(network, {}, whole)
    path.write_bytes(network.SerializeToString())


def _halve_weights(graph):
    """Store the weights of a graph in 16 bits, in place, and turn them back where it begins."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        half = HALVES.get(values.dtype.name)
        exact = weight.name.startswith(EXACT)
        if half is None or exact or values.size < SMALLEST or not _fits(values, half):
            continue
        name, kind = weight.name, weight.data_type
        weight.CopyFrom(numpy_helper.from_array(values.astype(half), f"{name}_{half}"))
        casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=kind))
    for index, node in enumerate(casts):
        graph.node.insert(index, node)


def _fits(values, half):
    """Return whether no value is too large for half the bits."""
    limits = np.finfo(half) if values.dtype.kind == "f" else np.iinfo(half)
    return np.abs(values).max(initial=0) <= limits.max


def _int8(path):
    """Multiply in int8: weights are scaled per channel, inputs when they come.

    Inputs are scaled together, so a graph of whole scans would not answer as the step does: a
    file has the step alone.
    """
    import onnx

    network = onnx.load(str(path))
    put_facts(network, {})
    path.write_bytes(network.SerializeToString())
    quantization = require("onnxruntime.quantization", "export")
    kind = quantization.QuantType.QInt8
    quantization.quantize_dynamic(str(path), str(path), weight_type=kind, per_channel=True)


def _halved(data):
    """Copy an HDF5 file with its float32 arrays in float16: bytes in, bytes out."""
    import h5py

    copy = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as source, h5py.File(copy, "w") as target:

        def copy_item(name, item):
            if isinstance(item, h5py.Dataset):
                values = item[()]
                if values.dtype == np.float32 and _fits(values, "float16"):
                    values = values.astype("float16")
                new = target.create_dataset(name, data=values)
            else:
                new = target.require_group(name)
            new.attrs.update(item.attrs)

        source.visititems(copy_item)
        target.attrs.update(source.attrs)
    return copy.getvalue()
