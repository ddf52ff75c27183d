"""Verdicts for LabVIEW or any other program: one JSON line in, one JSON line out.

    python labview_lines.py h_si100.onnx

What it takes on stdin, a line each:

    {"line": [1.2e-10, 1.3e-10, ...]}   heights of the next scan line, any unit
    {"reset": true, "lines": 512}       a new scan begins; lines it will have, if known
    {"path": "scan.sxm"}                a scan file, judged whole

What is wrong with a request is answered too, as {"error": "..."}: the program goes on. It
ends when stdin is closed. The model is a step, of `stm-keras export MODEL -o h_si100.onnx`.
"""

import json
import sys
import warnings
from dataclasses import asdict

from stm_keras.errors import InputError, StmKerasError
from stm_keras.inference.scan_files import read_scan_file
from stm_keras.runtime import OnnxPredictor, OnnxStream, verdict_of


def answer(model, stream, request):
    """Answer one request.

    Args:
        model: `OnnxPredictor`.
        stream: list of the `OnnxStream` of the scan that is being recorded.
        request: what JSON gave.

    Returns:
        dict.
    """
    if not isinstance(request, dict):
        raise InputError("A request is a JSON object.")
    if "line" in request:
        verdict = asdict(stream[0].push(request["line"]))
        names = zip(model.classes, verdict["probabilities"], strict=True)
        return {**verdict, "probabilities": dict(names)}
    if "path" in request:
        heights = read_scan_file(str(request["path"]), model.facts)[0]
        return {"path": request["path"], **verdict_of(model, heights)}
    if "reset" in request:
        stream[0] = OnnxStream(model, request.get("lines"))
        return {"reset": True, "lines": request.get("lines")}
    raise InputError('A request has "line", "path" or "reset".')


def main(path):
    """Answer requests until stdin is closed."""
    model = OnnxPredictor.load(path)
    stream = [OnnxStream(model)]
    warnings.simplefilter("ignore")
    for text in sys.stdin:
        if not text.strip():
            continue
        try:
            told = answer(model, stream, json.loads(text))
        except json.JSONDecodeError as error:
            told = {"error": f"No JSON: {error}"}
        except (StmKerasError, ValueError, TypeError, OSError) as error:
            told = {"error": str(error)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python labview_lines.py MODEL.onnx")
    try:
        main(sys.argv[1])
    except StmKerasError as error:
        sys.exit(f"Error: {error}")
