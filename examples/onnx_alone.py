"""Judge scans with numpy and onnxruntime alone: `python onnx_alone.py model.onnx scans.npy`.

The model is of `stm-keras export MODEL -o model.onnx --format onnx-scan`; the scans are
heights `(scans, lines, pixels)` in any unit, of the size that the model names.
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
facts = json.loads(session.get_modelmeta().custom_metadata_map["stm_keras"])
scans = np.load(sys.argv[2])[:, : facts["max_lines"]].astype(np.float64)
ramp = np.arange(scans.shape[2]) - (scans.shape[2] - 1) / 2
lines = scans - scans.mean(-1, keepdims=True)
lines -= (lines @ ramp / (ramp @ ramp))[..., None] * ramp  # each line levelled
size = lines.std(-1, keepdims=True)
there = size > 1e-6 * np.abs(scans).max((1, 2), keepdims=True)  # not merely rounding
if facts["input"] == "scaled":  # by the geometric mean of the lines so far
    sums = np.cumsum(np.log(np.where(there, size, 1)), 1)
    size = np.exp(sums / np.maximum(np.cumsum(there, 1), 1))
given = np.zeros((len(scans), facts["max_lines"], facts["pixels"]), np.float32)
given[:, : scans.shape[1]] = np.where(there, lines / np.where(there, size, 1), 0)
logits = session.run(["state"], {"lines": given})[0]
if logits.ndim == 3:  # an answer after every line: take the last
    logits = logits[:, scans.shape[1] - 1]
known = facts.get("temperature", {"lines": [1], "values": [1]})
logits = logits / np.interp(
    np.log2(scans.shape[1]), np.log2(known["lines"]), known["values"]
)
shares = np.exp(logits - logits.max(1, keepdims=True))
for share in shares / shares.sum(1, keepdims=True):
    first, curve = share.max(), facts.get("confidence")
    if curve:  # how often validation scans were judged right at such a share
        seen = np.log2(scans.shape[1]), np.log2(curve["lines"])
        slope, shift = (np.interp(*seen, curve[key]) for key in ("slopes", "shifts"))
        first = 1 / (1 + np.exp(-slope * np.log(first / (1 - first)) - shift))
    print(facts["classes"][share.argmax()], round(float(first), 3))
