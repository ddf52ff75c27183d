"""The programs in examples/ do what they say, in processes of their own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, lattice_scans

from stm_keras.inference.find_model import FOLDER

pytestmark = ONCE  # no backend changes what is tested here

pytest.importorskip("onnxruntime")
EXAMPLES = REPOSITORY / "examples"
STEP = FOLDER / "h_si100.onnx"


def run(*arguments, **options):
    """Run an example and return what it gave."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        env=environment,
        timeout=120,
        **{"text": True, **options},
    )


def test_json_lines_are_answered_one_by_one_and_bad_ones_do_no_harm(tmp_path):
    scan = lattice_scans([2])[0].astype(float)
    np.save(tmp_path / "scan.npy", scan)
    np.save(tmp_path / "two.npy", np.stack([scan, scan]))
    requests = [json.dumps({"reset": True, "lines": 128})]
    requests += [json.dumps({"line": line.tolist()}) for line in scan[:8]]
    bad = ["{", "[]", "{}", '{"line": ["a", "b"]}', '{"line": [1]}', '{"path": "no.sxm"}']
    bad += ['{"reset": true, "lines": "x"}', '{"line": [Infinity, 1]}', '{"line": 5}']
    bad += ['{"reset": false}', '{"reset": 1}', '{"line": [' + "1" * 400 + "]}"]
    bad += ["[" * 100_000, '{"path": ' + "[" * 100_000 + "]" * 100_000 + "}", "\x00"]
    bad.append(json.dumps({"path": str(tmp_path / "two.npy")}))
    requests += bad + [json.dumps({"line": scan[8].tolist()})]
    requests.append(json.dumps({"path": str(tmp_path / "scan.npy")}))
    done = run(EXAMPLES / "labview_lines.py", STEP, input="\n".join(requests) + "\n")
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(requests)
    assert told[0] == {"reset": True, "lines": 128, "pixels": None, "size": None}
    assert [each["line"] for each in told[1:9]] == list(range(8))
    assert [each["verdict"] is None for each in told[1:9]] == [True] * 7 + [False]
    assert all(list(each) == ["error"] for each in told[9 : 9 + len(bad)]), told
    assert "holds 2 scans. Judge it with" in told[8 + len(bad)]["error"]
    assert told[-2]["line"] == 8  # the stream went on where it was
    assert abs(sum(told[-2]["probabilities"].values()) - 1) < 1e-5
    assert told[-1]["lines"] == 128
    assert told[-1]["class"] in told[-1]["probabilities"]


def test_a_byte_order_mark_and_bytes_that_are_no_text_do_no_harm():
    line = json.dumps({"line": list(range(128))}).encode() + b"\n"
    mark = b"\xef\xbb\xbf"
    given = mark + line + b"\xff\xfe\n" + mark + b"\n" + line
    done = run(EXAMPLES / "labview_lines.py", STEP, input=given, text=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each.get("line") for each in told] == [0, None, 1]
    assert "not in UTF-8" in told[1]["error"]


def test_the_requests_of_watch_are_answered_too_and_each_way_has_its_own_lines():
    scan = np.random.default_rng(0).normal(size=(9, 32)).cumsum(1)
    frame = {"lines": 9, "pixels": 32, "slow": "up"}
    requests = [{"scan": frame}]
    for number, line in enumerate(scan.tolist()):
        gap = [None, *line[1:]] if number == 3 else line
        requests += [{"line": gap}, {"line": line, "direction": "backward"}]
    requests += [{"end": True}, {"line": scan[0].tolist()}]
    done = run(
        EXAMPLES / "labview_lines.py", STEP, input="\n".join(map(json.dumps, requests))
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 19, done.stderr
    assert [each["direction"] for each in told] == ["forward", "backward"] * 9 + ["forward"]
    assert [each["line"] for each in told] == [*sorted(2 * list(range(9))), 0]
    assert [each["row"] for each in told[::2]] == [*range(8, -1, -1), 0]
    assert told[17]["class"] == told[17]["name"] is not None


def test_a_request_that_is_too_long_is_answered_once():
    line = json.dumps({"line": list(range(128))}).encode() + b"\n"
    given = b"[" + b"1," * 2**24 + b"\n" + line
    done = run(EXAMPLES / "labview_lines.py", STEP, input=given, text=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(each) == ["error"] for each in told] == [True, False]


def test_it_ends_quietly_when_nobody_reads_its_answers():
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "labview_lines.py", STEP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    process.stdout.close()
    _, said = process.communicate(b'{"reset": true}\n' * 50, timeout=60)
    assert (process.returncode, said) == (0, b"")


def test_a_line_without_a_signal_has_no_verdict_and_a_known_size_counts():
    line = np.random.default_rng(0).normal(size=128).cumsum().tolist()
    size = {"reset": True, "lines": 128, "pixels": 128, "size": [1e-6, 1e-6]}
    lines = [{"line": line}] * 8  # as many as the model needs
    requests = [*lines, {"line": [0] * 128}, {"line": line}, size, *lines]
    done = run(
        EXAMPLES / "labview_lines.py", STEP, input="\n".join(map(json.dumps, requests))
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    lost, first, wide = told[8], told[9], told[-1]
    assert lost["verdict"] is lost["probabilities"] is lost["name"] is None
    assert first["name"] is not None
    assert wide["verdict"] == "unknown size"


def test_an_answer_comes_before_the_next_request():
    line = json.dumps({"line": list(range(128))}) + "\n"
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "labview_lines.py", STEP],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        for number in range(2):
            process.stdin.write(line)
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["line"] == number
    finally:
        process.stdin.close()
        assert process.wait(60) == 0
        process.stdout.close()


def test_a_missing_model_is_one_line():
    done = run(EXAMPLES / "labview_lines.py", "none.onnx", input="")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: none.onnx: does not exist")
    assert run(EXAMPLES / "labview_lines.py", input="").returncode == 1
