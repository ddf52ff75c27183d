"""How each format of a model is written, and loaded again to be compared with the model.

`write_...(predictor, path, facts)` writes the file or folder; `read_...(path)` returns a
callable of prepared scans, float32 `(Format.batch, max_lines, pixels)`, that returns a dict of
logits. `WRITERS` below has the two of each format.
"""

import zipfile

import numpy as np

from stm_keras.errors import OutputError
from stm_keras.export import onnx_scan
from stm_keras.export.common import (
    MAX_BATCH,
    TOLERANCE,
    facts_text,
    fixed_network,
    no_telemetry,
    probabilities,
)
from stm_keras.export.onnx_graph import put_facts, step_graph
from stm_keras.export.onnx_whole import whole_graph
from stm_keras.inference.find_model import METADATA
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.inference.onnx_model import OnnxPredictor

OPENVINO_FILE = "model.xml"


def write_saved_model(predictor, path, facts):
    """Write a folder that TensorFlow runs without Keras."""
    model, spec = fixed_network(predictor)
    model.export(path, format="tf_saved_model", verbose=False, input_signature=spec)
    (path / METADATA).write_text(facts_text(facts), encoding="utf-8")


def read_saved_model(path):
    import tensorflow

    loaded = tensorflow.saved_model.load(str(path))

    def run(scans):
        out = loaded.serve(tensorflow.constant(scans))
        return {name: each.numpy() for name, each in out.items()}

    return run


def write_keras(predictor, path, facts):
    save_model(predictor.model, path, facts, overwrite=True)


def read_keras(path):
    model = load_predictor(path).model
    return lambda scans: model.predict(scans, verbose=0)


def write_onnx_step(predictor, path, facts):
    """Write the step, and in the same file the graph of whole scans."""
    network = step_graph(predictor.model)
    put_facts(network, facts, whole_graph(predictor.model, facts["max_lines"]))
    path.write_bytes(network.SerializeToString())


def read_onnx_step(path):
    """Load it as a callable that goes through the lines; one pass, if any, must give the same."""
    copy = OnnxPredictor.load(path)

    def run(scans):
        lines = np.full(len(scans), scans.shape[1])
        stepped = copy.by_steps(scans, lines)
        if copy.whole is None:  # in int8
            return stepped
        whole = copy.whole.outputs(scans, lines)
        apart = [
            np.abs(each - probabilities(whole)[name]).max()
            for name, each in probabilities(stepped).items()
        ]
        if not max(apart) <= TOLERANCE:
            raise OutputError(
                f"{path}: line by line and in one pass, a probability differs by "
                f"{max(apart):.1e}, more than {TOLERANCE:.0e}. Nothing was written."
            )
        return stepped

    return run


def write_litert(predictor, path, facts):
    """Write the file, and the facts into a zip archive at its end.

    LiteRT's own metadata are kept there too; LiteRT does not read past the network.
    """
    model, spec = fixed_network(predictor, batch=1)
    model.export(path, format="litert", verbose=False, input_signature=spec)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(METADATA, facts_text(facts))


def read_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(str(path), num_threads=1)
    serve = loaded.get_signature_runner("serving_default")
    return lambda scans: serve(lines=scans)


def write_openvino(predictor, path, facts):
    """Write a folder, from ONNX.

    OpenVINO reads ONNX well, whichever backend wrote it. It does not read what JAX exports
    by way of TensorFlow, and under torch it loses the names of the heads.
    """
    onnx_file = path / "model.onnx"
    onnx_scan.write(predictor, onnx_file, facts)
    with no_telemetry():
        import openvino

        model = openvino.convert_model(onnx_file)
    openvino.save_model(model, path / OPENVINO_FILE, compress_to_fp16=False)
    onnx_file.unlink()
    (path / METADATA).write_text(facts_text(facts), encoding="utf-8")


def read_openvino(path):
    """Load it to compute in float32; on some processors the default is bfloat16."""
    with no_telemetry():
        import openvino

    precise = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    loaded = openvino.Core().compile_model(path / OPENVINO_FILE, "CPU", precise)
    names = [each.get_any_name() for each in loaded.outputs]

    def run(scans):
        outputs = loaded(np.ascontiguousarray(scans)).values()
        return dict(zip(names, map(np.array, outputs), strict=True))

    return run


def write_torch(predictor, path, facts):
    import torch

    model, spec = fixed_network(predictor)
    batch = {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}
    model.export(
        path, format="torch", verbose=False, input_signature=spec, dynamic_shapes=batch
    )
    program = torch.export.load(path)
    torch.export.save(program, path, extra_files={METADATA: facts_text(facts)})


def read_torch(path):
    import torch
    from keras import ops

    program = torch.export.load(path).module()

    def run(scans):
        with torch.inference_mode():
            out = program(ops.convert_to_tensor(scans))
        return {name: ops.convert_to_numpy(each) for name, each in out.items()}

    return run


WRITERS = {  # name in `formats.FORMATS` to (write, read)
    "keras": (write_keras, read_keras),
    "onnx-step": (write_onnx_step, read_onnx_step),
    "onnx-scan": (onnx_scan.write, onnx_scan.read),
    "saved-model": (write_saved_model, read_saved_model),
    "litert": (write_litert, read_litert),
    "openvino": (write_openvino, read_openvino),
    "torch": (write_torch, read_torch),
}
