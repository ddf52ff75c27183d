"""Verdicts for LabVIEW or any other program: one JSON line in, one JSON line out.

    python labview_lines.py h_si100.onnx

What it takes on stdin, a line of UTF-8 each:

    {"line": [1.2e-10, 1.3e-10, ...]}   heights of the next scan line, any unit
    {"reset": true, "lines": 512}       a new scan begins; also "pixels" of a line and "size",
                                        [width, height] in m, of the whole scan: all if known
    {"path": "scan.sxm"}                a scan file, judged whole

Act on "verdict": a class, or why none is to be trusted; null after a line without a signal.
What is wrong with a request is answered too, as {"error": "..."}, and the program goes on. It
ends when stdin is closed, or when nobody reads its answers any more. The model is a step, of
`stm-keras export MODEL -o h_si100.onnx`.
"""

import json
import os
import sys
import warnings
from dataclasses import asdict

from stm_keras import OnnxPredictor, OnnxStream, verdict_of
from stm_keras.errors import InputError, StmKerasError
from stm_keras.readers import read_scan

LONGEST = 2**24  # bytes of a request; a line of a million pixels has as many


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
        told = asdict(stream[0].push(request["line"]))
        shares = told["probabilities"]  # None after a line that has no verdict
        if shares is not None:
            told["probabilities"] = dict(zip(model.classes, shares, strict=True))
        return told
    if "path" in request:
        scan = read_scan(str(request["path"]))
        return {"path": request["path"], **verdict_of(model, scan)}
    if "reset" in request:
        if request["reset"] is not True:
            raise InputError('"reset" is true, or is left out.')
        known = {key: request.get(key) for key in ("lines", "pixels", "size")}
        stream[0] = OnnxStream(model, **known)
        return {"reset": True, **known}
    raise InputError('A request has "line", "path" or "reset".')


def requests(source):
    """Yield what comes line by line: bytes, cut where a line is too long."""
    while text := source.readline(LONGEST + 1):
        rest = text
        while len(rest) > LONGEST and not rest.endswith(b"\n"):
            rest = source.readline(LONGEST + 1)
        yield text


def reply(model, stream, text):
    """Return the answer to a line, whatever is in it."""
    try:
        if len(text) > LONGEST:
            raise InputError(f"A request has at most {LONGEST} bytes.")
        return answer(model, stream, json.loads(text.decode("utf-8-sig")))
    except json.JSONDecodeError as error:
        return {"error": f"No JSON: {error}"}
    except RecursionError:
        return {"error": "No request: nested too deeply."}
    except Exception as error:  # of one request: the next may be right
        return {"error": str(error) or repr(error)}


def main(path):
    """Answer requests until stdin is closed."""
    model = OnnxPredictor.load(path)
    stream = [OnnxStream(model)]
    warnings.simplefilter("ignore")
    for text in requests(sys.stdin.buffer):
        if not text.strip(b"\xef\xbb\xbf \t\r\n"):
            continue
        told = reply(model, stream, text)
        try:
            print(json.dumps(told), flush=True)
        except OSError:  # nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python labview_lines.py MODEL.onnx")
    try:
        main(sys.argv[1])
    except StmKerasError as error:
        sys.exit(f"Error: {error}")
