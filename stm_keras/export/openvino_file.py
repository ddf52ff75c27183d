"""Write a model as OpenVINO IR: a folder with `model.xml` and `model.bin`."""

import json

import numpy as np

from stm_keras.export import onnx_scan
from stm_keras.export.common import in_batches
from stm_keras.export.quiet import no_telemetry

FACTS, FILE = "stm_keras.json", "model.xml"


def write(predictor, path, facts):
    """Write the folder, from ONNX; see `formats.Format`.

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


def read(path):
    """Load it as a callable; see `formats.Format`.

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
