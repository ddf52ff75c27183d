"""Scanbot's `hk_classifier`: tell Scanbot to shape the tip when scans stay bad.

Copy this file into Scanbot's folder (~/scanbot/scanbot/), start `stm-keras watch` with its page
on the same computer, and a survey with `-autotip=1 -hk_classifier=1`. Scanbot's Python needs
nothing but its own NumPy: the scan is judged by the watch, with the model that it was given.

After every scan Scanbot 4.5 calls `run` and shapes the tip where "tipShape" is 1. It is, when

- PATIENCE scans in a row show a bad tip for sure, on a surface and of a size that the model
  knows: nothing is done about a scan that could not be judged, and it breaks the row;
- and the tip was shaped fewer than MOST_ACTIONS times since Scanbot was started.

What is not judged is told: in Scanbot's window, and in the record as "message". A watch that
does not answer, or with an error, is such a case.

Scanbot scans upwards, but hands over neither direction nor size. So both are taken from the head
of the saved .sxm file: Scanbot's computer must see it by the name that Nanonis gives it.

`run` never raises. If it did, Scanbot would go on with its own classifier, which reads
"nan" and "tipChanges" of what this one returned before: they are there, as Scanbot has them.
Tested with the `survey` and `classify` of Scanbot 4.5.1, not on a microscope.
"""

import http.client
import io
import json
import math
import os
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import numpy as np

PORT = 8765  # of the page of the watch
TOKEN = os.environ.get("STM_TOKEN", "")  # of a watch that was started with --token
SECONDS = 10  # for which Scanbot waits for a verdict at most
BAD = ("generic defects", "rows")  # classes in which no single atom is resolved
PATIENCE = 3  # scans in a row
MOST_ACTIONS = 5  # of one start of Scanbot
done = {"actions": 0}


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
    """Return what the watch says of a scan."""
    told = ask(np.asarray(scan_data, "<f4"), *direction_and_size(filename))
    judged = told["verdict"] == told["class"]
    known = told["unknown_surface"] is False and told["unknown_size"] is False
    message = ""
    if not judged or not known:
        message = f"nothing is done about this scan: {told['verdict']}"
        if judged:
            message += ", of a surface or size of which the model cannot tell"
    return {
        "tipChanges": len(told["change_lines"] or ()),
        "nan": bool(np.isnan(scan_data).any()) or not judged,
        "verdict": told["verdict"],
        "bad": bool(known and judged and told["class"] in BAD),
        "message": message,
    }


def ask(heights, up, size):
    """Ask the watch for its verdict on a scan.

    Args:
        heights: float32 array `(lines, pixels)`, row 0 on top.
        up: bool. Whether the scan went up.
        size: list [width, height] in m.

    Returns:
        dict, as of `stm-keras predict --json`.

    Raises:
        OSError: The watch is not there, or does not answer in time.
        ValueError: It says that it has no verdict, or what answers is not a watch.
    """
    rows, columns = heights.shape
    geometry = {"width_m": size[0], "height_m": size[1]}
    meta = {"channel_name": "Z (m)", "rows": rows, "cols": columns, "direction_up": up}
    headers = {"X-Payload-Meta": json.dumps({**meta, "geometry": geometry})}
    if TOKEN:
        headers["Authorization"] = f"Bearer {TOKEN}"
    body = io.BytesIO()
    np.save(body, np.ascontiguousarray(heights))
    with closing(http.client.HTTPConnection("127.0.0.1", PORT, timeout=SECONDS)) as watch:
        watch.request("POST", "/classify", body.getvalue(), headers)
        answer = watch.getresponse()
        text = answer.read()
    if answer.status != 200:
        raise ValueError(f"the watch answers {answer.status}: {text[:300]!r}")
    return json.loads(text)


def direction_and_size(filename):
    """Read the head of an .sxm file: whether the scan went up, and [width, height] in m."""
    with Path(filename).open("rb") as file:
        head = file.read(1 << 16).partition(b":SCANIT_END:")[0].decode("latin-1")
    lines = [line.strip() for line in head.split("\n")]
    value = dict(pairwise(lines))
    direction = value[":SCAN_DIR:"]
    size = [float(each) for each in value[":SCAN_RANGE:"].split()]
    if (
        direction not in ("up", "down")
        or len(size) != 2
        or not all(map(math.isfinite, size))
    ):
        raise ValueError(f"{filename}: tells neither direction nor size")
    return direction == "up", size


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
