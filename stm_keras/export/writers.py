"""How each format of a model is written, and loaded again to be compared with the model.

`write(predictor, path, facts)` makes the file or folder; `read(path)` gives a callable of
prepared scans, float32 `(scans, max_lines, pixels)`, that returns a dict of logits.
"""

import json
import zipfile

import numpy as np

from stm_keras.export import onnx_graph, onnx_scan
from stm_keras.export.common import fixed_network, in_batches, no_telemetry
from stm_keras.inference.model_file import load_predictor, save_model

FACTS, FILE = "stm_keras.json", "model.xml"
MOST = 1024  # scans at a time, under torch


def write_saved_model(predictor, path, facts):
    """Write the folder that TensorFlow runs without Keras."""
    model, spec = fixed_network(predictor)
    model.export(path, format="tf_saved_model", verbose=False, input_signature=spec)
    (path / FACTS).write_text(
        json.dumps(facts, indent=1, allow_nan=False), encoding="utf-8"
    )


def read_saved_model(path):
    """Load it as a callable."""
    import tensorflow

    loaded = tensorflow.saved_model.load(str(path))

    def run(scans):
        out = loaded.serve(tensorflow.constant(scans))
        return {name: each.numpy() for name, each in out.items()}

    return lambda scans: in_batches(run, scans)


def write_keras(predictor, path, facts):
    """Write a `.keras` file."""
    save_model(predictor.model, path, facts, overwrite=True)


def read_keras(path):
    """Load it as a callable."""
    model = load_predictor(path).model
    return lambda scans: model.predict(scans, batch_size=20, verbose=0)


def write_litert(predictor, path, facts):
    """Write the file.

    LiteRT's own metadata put files of their own into a zip archive behind the network,
    which LiteRT does not look at; so do we.
    """
    model, spec = fixed_network(predictor, batch=1)
    model.export(path, format="litert", verbose=False, input_signature=spec)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FACTS, json.dumps(facts, indent=1, allow_nan=False))


def read_litert(path):
    """Load it as a callable."""
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(str(path), num_threads=1)
    serve = loaded.get_signature_runner("serving_default")

    def run(scans):
        return serve(lines=scans)

    return lambda scans: in_batches(run, scans, 1)


def write_openvino(predictor, path, facts):
    """Write the folder, from ONNX.

    OpenVINO reads ONNX well whichever backend wrote it. It does not read what JAX hands
    over by way of TensorFlow, and under torch it loses the names of the heads.
    """
    whole = path / "model.onnx"
    onnx_scan.write(predictor, whole, facts)
    with no_telemetry():
        import openvino

        made = openvino.convert_model(whole)
    openvino.save_model(made, path / FILE, compress_to_fp16=False)
    whole.unlink()
    (path / FACTS).write_text(
        json.dumps(facts, indent=1, allow_nan=False), encoding="utf-8"
    )


def read_openvino(path):
    """Load it as a callable.

    On some processors OpenVINO computes in bfloat16 unless it is told not to.
    """
    with no_telemetry():
        import openvino

    precise = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    loaded = openvino.Core().compile_model(path / FILE, "CPU", precise)
    names = [each.get_any_name() for each in loaded.outputs]

    def run(scans):
        found = loaded(np.ascontiguousarray(scans)).values()
        return dict(zip(names, map(np.array, found), strict=True))

    return lambda scans: in_batches(run, scans)


def write_torch(predictor, path, facts):
    """Write the file."""
    import torch

    model, spec = fixed_network(predictor)
    batch = {0: torch.export.Dim("batch", min=1, max=MOST)}
    model.export(
        path, format="torch", verbose=False, input_signature=spec, dynamic_shapes=batch
    )
    program = torch.export.load(path)
    text = json.dumps(facts, indent=1, allow_nan=False)
    torch.export.save(program, path, extra_files={FACTS: text})


def read_torch(path):
    """Load it as a callable."""
    import torch
    from keras import ops

    program = torch.export.load(path).module()

    def run(scans):
        with torch.inference_mode():
            out = program(ops.convert_to_tensor(scans))
        return {name: ops.convert_to_numpy(each) for name, each in out.items()}

    return lambda scans: in_batches(run, scans)


WRITERS = {  # format: what writes a file or folder, and what loads it as a callable
    "keras": (write_keras, read_keras),
    "onnx-step": (onnx_graph.write, onnx_graph.read),
    "onnx-scan": (onnx_scan.write, onnx_scan.read),
    "saved-model": (write_saved_model, read_saved_model),
    "litert": (write_litert, read_litert),
    "openvino": (write_openvino, read_openvino),
    "torch": (write_torch, read_torch),
}
