"""Verdicts for LabVIEW or any other program: one JSON line in, one JSON line out.

    python labview_lines.py h_si100.onnx

It takes on stdin what `stm-keras watch -` takes, a line of UTF-8 each, and answers each line of
a scan with the verdict on the tip (docs/live.md, "Lines from any program"):

    {"scan": {"lines": 512, "pixels": 512, "size": [2e-8, 2e-8]}}   a scan begins
    {"line": [1.2e-10, 1.3e-10, ...]}                               its next line
    {"end": true}                                                   it is over

Here there is no log, page or alarm, but two requests more, which are answered as well:

    {"reset": true, "lines": 512}       "scan" in the words of earlier versions; also "pixels"
                                        of a line and "size", [width, height] in m
    {"path": "scan.sxm"}                a file of one scan, judged whole

Act on "verdict": a class, or why none is to be trusted; null after a line without a signal.
What is wrong with a request is answered, as {"error": "..."}, and the program goes on. It ends
when stdin is closed, or when nobody reads its answers any more. The model is a step, of
`stm-keras export MODEL -o h_si100.onnx`.
"""

import json
import os
import sys
import warnings
from dataclasses import asdict

import numpy as np

from stm_keras import OnnxPredictor, OnnxStream, verdict_of
from stm_keras.errors import InputError, StmKerasError
from stm_keras.live.events import BACKWARD, FORWARD, Line, ScanBegan
from stm_keras.live.push_protocol import BLANK, LONGEST, PushProtocol, parse_request
from stm_keras.readers import read_scans
from stm_keras.scan import bridge_gaps


def answers(model, streams, protocol, request):
    """Yield the answers to one request: dicts.

    Args:
        model: `OnnxPredictor`.
        streams: dict of direction to `OnnxStream`, of the scan that is being recorded.
        protocol: `PushProtocol`.
        request: dict.
    """
    if "path" in request:
        scan, *more = read_scans(str(request["path"]))
        if more:
            raise InputError(
                f"The file holds {1 + len(more)} scans. Judge it with `stm-keras predict`."
            )
        if isinstance(scan, StmKerasError):
            raise scan
        yield {"path": request["path"], **verdict_of(model, scan)}
    elif "reset" in request:
        if request["reset"] is not True:
            raise InputError('"reset" is true, or is left out.')
        known = {key: request.get(key) for key in ("lines", "pixels", "size")}
        yield from answers(model, streams, protocol, {"scan": known})
        yield {"reset": True, **known}
    else:
        for event in protocol.events(request):
            if isinstance(event, ScanBegan):
                frame = event.frame
                for stream in streams.values():
                    stream.reset(frame.lines, frame.pixels, frame.size)
            elif isinstance(event, Line):
                yield judged(model, streams[event.direction], event)


def judged(model, stream, line):
    """Judge the next `Line`; return what `Verdict` holds, and which line it is: dict."""
    told = asdict(stream.push(np.nan_to_num(bridge_gaps(line.heights[None])[0])))
    shares = told["probabilities"]  # None after a line that has no verdict
    if shares is not None:
        told["probabilities"] = dict(zip(model.classes, shares, strict=True))
    return {**told, "class": told["name"], "row": line.row, "direction": line.direction}


def requests(source):
    """Yield what comes line by line: bytes, cut where a line is too long."""
    while text := source.readline(LONGEST + 1):
        rest = text
        while len(rest) > LONGEST and not rest.endswith(b"\n"):
            rest = source.readline(LONGEST + 1)
        yield text


def replies(model, streams, protocol, text):
    """Return the answers to a line, whatever is in it: list of dict."""
    try:
        return list(answers(model, streams, protocol, parse_request(text)))
    except Exception as error:  # of one request: the next may be right
        return [{"error": str(error) or repr(error)}]


def main(path):
    """Answer requests until stdin is closed."""
    model = OnnxPredictor.load(path)
    streams = {way: OnnxStream(model) for way in (FORWARD, BACKWARD)}
    protocol = PushProtocol()
    warnings.simplefilter("ignore")
    for text in requests(sys.stdin.buffer):
        if not text.strip(BLANK):
            continue
        try:
            for told in replies(model, streams, protocol, text):
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
