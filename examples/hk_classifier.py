"""Scanbot's `hk_classifier`: tell Scanbot to shape the tip when scans stay bad.

Copy this file into Scanbot's folder (~/scanbot/scanbot/), set STM_KERAS_MODEL to an .onnx
file of `stm-keras export`, install stm-keras with its extra `onnx` into Scanbot's Python,
and start a survey with `-autotip=1 -hk_classifier=1`.

Scanbot calls `run(scan_data, filename, classification_hist)` after every scan and reshapes
the tip when "tipShape" is true (https://new-horizons-spm.github.io/scanbot, page Hooks, and
`survey` in its scanbot.py). It was not tried on a microscope.
"""

import os
from functools import cache

import numpy as np

from stm_keras.inference.scan_files import fit_scan
from stm_keras.runtime import load_onnx, verdict_of
from stm_keras.scan import Scan

BAD = ("generic defects", "rows")  # classes in which no single atom is resolved
PATIENCE = 3  # bad scans one after the other


@cache
def model():
    """Load the model once."""
    return load_onnx(os.environ["STM_KERAS_MODEL"])


def run(scan_data, filename, classification_hist):
    """Classify a scan for Scanbot.

    Args:
        scan_data: float array `(lines, pixels)` of Nanonis' FrameDataGrab, in m, NaN where
            nothing was recorded. Scanbot scans upwards; it hands over no direction.
        filename: str. The .sxm file.
        classification_hist: list of dict, what this function returned before.

    Returns:
        dict with "tipShape", and what it rests on.
    """
    heights = np.asarray(scan_data, np.float64)
    scan = Scan(heights, np.isfinite(heights), path=str(filename))
    verdict = verdict_of(model(), fit_scan(scan, model().facts))
    bad = verdict["class"] in BAD and not verdict["unsure"]
    bad = bad and not verdict["unknown_surface"]
    before = [each.get("bad", False) for each in classification_hist[-(PATIENCE - 1) :]]
    shaped = any(each["tipShape"] for each in classification_hist[-(PATIENCE - 1) :])
    enough = len(before) == PATIENCE - 1 and all(before) and not shaped
    return {
        "tipShape": bool(bad and enough),
        "bad": bool(bad),
        "tipChanges": verdict["change_lines"],
        **{name: verdict[name] for name in ("class", "confidence", "unsure")},
        "unknown_surface": verdict["unknown_surface"],
    }
