"""Judge scans with numpy and onnxruntime alone: `python onnx_alone.py model.onnx scans.npy`.

The model is of `stm-keras export MODEL -o model.onnx --format onnx-scan`; the scans are
heights `(scans, lines, pixels)` in any unit, of the size that the model names. A scan without
a line that has a signal is not judged, and an unknown surface gets no class. On Linux,
onnxruntime 1.32 tells Microsoft that it runs, unless ORT_DISABLE_TELEMETRY=1 is set.
"""

import json
import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
facts = json.loads(session.get_modelmeta().custom_metadata_map["stm_keras"])
heads = [each.name for each in session.get_outputs()]


def prepare(heights):
    """Return the model's input of one scan, and how many of its lines have a signal."""
    ramp = np.arange(heights.shape[1]) - (heights.shape[1] - 1) / 2
    lines = heights - heights.mean(1, keepdims=True)
    lines -= (lines @ ramp / (ramp @ ramp))[:, None] * ramp  # each line levelled
    size = lines.std(1, keepdims=True)
    steps = np.sort(np.diff(heights, axis=1, append=heights[:, -1:]), axis=1)
    gaps, least = np.diff(steps, axis=1), 1e-6 * np.abs(heights).max(1, keepdims=True)
    there = ((gaps > least) & (0.35 * gaps < size)).any(1)  # not merely rounding of a slope
    there &= size[:, 0] > least[:, 0]
    if facts["input"] != "scaled":
        return np.where(there[:, None], lines / np.where(size > 0, size, 1), 0), there.sum()
    lines, size = lines[there], size[there]  # a line that was lost changes nothing
    counts = np.arange(1, len(size) + 1)[:, None]
    size = np.exp(np.cumsum(np.log(size), 0) / counts)  # geometric mean of the lines so far
    return lines / size, there.sum()


def at(known, key, seen):
    """Read a curve over the number of lines from the model's facts."""
    return np.interp(np.log2(seen), np.log2(known["lines"]), known[key])


def judge(heights):
    """Return what is said of one scan: a verdict, and a confidence where it is a class."""
    lines, seen = prepare(heights[: facts["max_lines"]].astype(np.float64))
    if seen < max(1, facts.get("min_lines", 1)):
        return "not judged", ""
    given = np.zeros((1, facts["max_lines"], facts["pixels"]), np.float32)
    given[0, : len(lines)] = lines
    out = dict(zip(heads, session.run(heads, {"lines": given}), strict=True))
    every_line = out["state"].ndim == 3
    logits = out["state"][0, seen - 1] if every_line else out["state"][0]
    if "temperature" in facts:
        logits = logits / at(facts["temperature"], "values", seen)
    shares = np.exp(logits - logits.max())
    first = shares.max() / shares.sum()
    if (
        "confidence" in facts
    ):  # how often validation scans were judged right at such a share
        slope, shift = (at(facts["confidence"], key, seen) for key in ("slopes", "shifts"))
        first = 1 / (1 + np.exp(-slope * np.log(first / (1 - first)) - shift))
    if "unknown" in out and "unknown" in facts:
        strange = 1 / (1 + np.exp(-out["unknown"][0, seen - 1, 0]))
        if strange > at(facts["unknown"], "thresholds", seen):
            return "unknown surface", ""
    if "unsure" in facts and first < at(facts["unsure"], "thresholds", seen):
        return "unsure", ""
    return facts["classes"][logits.argmax()], round(float(first), 3)


for scan in np.load(sys.argv[2]):
    print(*judge(scan))
