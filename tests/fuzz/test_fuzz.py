"""Damaged files of every kind: each is taken or refused in one line, soon, in little memory.

    STM_KERAS_FUZZ=100000 python -m pytest tests/fuzz
    STM_KERAS_FUZZ_CASE="scans 1234 nanonis" python -m pytest tests/fuzz

The first runs so many cases of each target: a 100th where Gwyddion's converter reads, a 50th
where a framework opens a model (`targets.py`). The second runs one again. What fails stays in
the folder that is named, to be looked at.
"""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from fuzz.child import keep
from fuzz.targets import TARGETS

from stm_keras.backend import installed_backends

FEW, FEWEST = 200, 4  # cases of a target
COUNT = int(os.environ.get("STM_KERAS_FUZZ", FEW))
ONE = os.environ.get("STM_KERAS_FUZZ_CASE", "").split(None, 2)
NEEDS = {"keras": "keras", "onnx": "onnxruntime", "skops": "skops"}
NEEDS |= {"converted": "gwyddionpy"}
ENDED = {signal.SIGPROF: "more than 5 s of computing", signal.SIGALRM: "more than 60 s"}
ALONE = {  # one core and 1 GB, and nothing of the user's
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "STM_KERAS_MEMORY": "1GB",
    "KERAS_BACKEND": (installed_backends() or [""])[-1],  # torch starts in the least time
    "PYTHONHASHSEED": "0",
}


def run_cases(target, folder, first, last, *only):
    """Run cases in processes that are started again where one ends it.

    Returns:
        tuple of `Counter` of "read" and "refused", and list of dict of `turn`, `seed`, `kind`.
    """
    counts, failures, child = Counter(), [], Path(__file__).with_name("child.py")
    while first < last:
        words = [sys.executable, child, target, folder, str(first), str(last), *only]
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", env=os.environ | ALONE
        )
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode == 0:
            counts.update(rows.pop())
            first = last
        else:
            at = folder / "at"
            assert at.exists(), f"the process did not start: {done.stderr}"
            number, turn, read, refused, seed, path = json.loads(at.read_bytes())
            keep(folder, turn, Path(path))
            counts.update(read=read, refused=refused)
            name = ENDED.get(-done.returncode) or f"ended by {-done.returncode}"
            place = [line for line in done.stderr.splitlines() if "File" in line]
            ours = [line for line in place if "/stm_keras/" in line] or place or [""]
            kind = f"{name} at {ours[0].strip()}"
            rows.append({"turn": turn, "seed": seed, "kind": kind})
            first = number + 1
        failures += rows
    return counts, failures


@pytest.mark.parametrize("target", TARGETS)
def test_damaged_files_are_taken_or_refused(target, tmp_path):
    if find_spec(NEEDS.get(target, "numpy")) is None:
        pytest.skip(f"{NEEDS[target]} is not installed")
    if ONE and ONE[0] != target:
        pytest.skip("another case was asked for")
    (tmp_path / "made").mkdir()
    made = TARGETS[target].seeds(tmp_path / "made")
    (tmp_path / "seeds").write_bytes(pickle.dumps(made))
    first, last = 0, max(COUNT // TARGETS[target].share, FEWEST)
    if ONE:
        first, last = int(ONE[1]), int(ONE[1]) + 1
    begin = time.perf_counter()
    counts, failures = run_cases(target, tmp_path, first, last, *ONE[2:])
    print(
        f"{target}: cases {first} to {last - 1} of {len(made)} seeds in "
        f"{time.perf_counter() - begin:.0f} s: {counts['read']} read, "
        f"{counts['refused']} refused, {len(failures)} failures"
    )
    kinds = {}
    for row in failures:
        kinds.setdefault(re.sub("[0-9]{2,}", "#", row["kind"]), []).append(row)
    told = [
        f"{len(rows)} x {rows[0]['kind']}\n    STM_KERAS_FUZZ_CASE='{target} "
        f"{rows[0]['turn']} {rows[0]['seed']}'"
        for rows in sorted(kinds.values(), key=len, reverse=True)
    ]
    assert not failures, "\n".join([*told, f"kept in {tmp_path / 'failed'}"])
