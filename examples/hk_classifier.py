"""Scanbot's `hk_classifier`: tell Scanbot to shape the tip when scans stay bad.

Copy this file into Scanbot's folder (~/scanbot/scanbot/), set STM_KERAS_MODEL to an .onnx
file of `stm-keras export` (or to one of those that come with stm-keras), install stm-keras
with its extra `onnx` into Scanbot's Python, and start a survey with
`-autotip=1 -hk_classifier=1`.

After every scan Scanbot 4.5 calls `run` and shapes the tip where "tipShape" is 1. It is, when

- PATIENCE scans in a row show a bad tip for sure, on a surface and of a size that the model
  knows: nothing is done about a scan that could not be judged, and it breaks the row;
- and the tip was shaped fewer than MOST_ACTIONS times since Scanbot was started.

What is not judged is told: in Scanbot's window, and in the record as "message".

Scanbot scans upwards, but hands over neither direction nor size. So the saved .sxm file is
judged, which knows both: Scanbot's computer must see it by the name that Nanonis gives it.

`run` never raises. If it did, Scanbot would go on with its own classifier, which reads
"nan" and "tipChanges" of what this one returned before: they are there, as Scanbot has them.
Tested with the `survey` and `classify` of Scanbot 4.5.1, not on a microscope.
"""

import os
from contextlib import suppress
from functools import cache

import numpy as np

from stm_keras import load_onnx, verdict_of
from stm_keras.readers import read_scan

BAD = ("generic defects", "rows")  # classes in which no single atom is resolved
PATIENCE = 3  # scans in a row
MOST_ACTIONS = 5  # of one start of Scanbot
done = {"actions": 0}


@cache
def model():
    """Load the model once."""
    return load_onnx(os.environ["STM_KERAS_MODEL"])


def run(scan_data, filename, classification_hist):
    """Classify a scan for Scanbot.

    Args:
        scan_data: float array `(lines, pixels)` of Nanonis' FrameDataGrab, NaN where nothing
            was recorded.
        filename: str. The .sxm file.
        classification_hist: list of dict, what this function returned before.

    Returns:
        dict. Scanbot's own keys: "tipShape" (int, 1 to shape the tip), "tipChanges" (int) and
        "nan" (bool: of no use to Scanbot's classifier). Ours: "verdict" (str), "bad" (bool)
        and "message" (str, empty where there is nothing to tell).
    """
    record = {"tipShape": 0, "tipChanges": 0, "nan": True, "verdict": "not judged"}
    record |= {"bad": False, "message": ""}
    try:
        record |= judge(scan_data, filename)
        record |= decide(record, classification_hist)
    except Exception as error:  # whatever it is, a survey goes on
        record["message"] = f"not judged: {error!r}"
    if record["message"]:
        with suppress(OSError, ValueError):  # nobody listens
            print(f"stm-keras: {filename}: {record['message']}", flush=True)
    return record


def judge(scan_data, filename):
    """Return what the model says of the saved scan."""
    told = verdict_of(model(), read_scan(filename))
    known = told["unknown_surface"] is False and told["unknown_size"] is False
    judged = told["verdict"] in model().classes
    message = ""
    if not judged or not known:
        message = f"nothing is done about this scan: {told['error'] or told['verdict']}"
        if judged:
            message += ", of a surface or size of which the model cannot tell"
    return {
        "tipChanges": len(told["change_lines"] or ()),
        "nan": bool(np.isnan(scan_data).any()) or not judged,
        "verdict": told["verdict"],
        "bad": bool(known and told["verdict"] in BAD),
        "message": message,
    }


def decide(record, history):
    """Say whether the tip is to be shaped."""
    row = [*history, record][-PATIENCE:]
    if len(row) < PATIENCE or not all(each.get("bad") for each in row):
        return {}
    if any(each.get("tipShape") for each in row):
        return {}
    if done["actions"] >= MOST_ACTIONS:
        told = (
            f"the tip was shaped {MOST_ACTIONS} times already and is bad still: look at it"
        )
        return {"message": told}
    done["actions"] += 1
    return {"tipShape": 1}
