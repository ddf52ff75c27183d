"""What a wheel with the extra "onnx" must do: read, judge, stream, and set exit codes."""

import importlib.util
import json
import subprocess
import sys

import numpy as np

import stm_keras


def run(*arguments, code=0):
    """Run the installed command; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "stm_keras", *arguments],
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def main():
    """Judge a made-up scan whole and line by line, and one without a signal."""
    assert importlib.util.find_spec("keras") is None, (
        "this is for an environment without Keras"
    )
    y, x = np.mgrid[:128, :128]
    rows = np.sin(2 * np.pi * (x + 0.3 * y) / 12) + 0.1 * np.random.default_rng(0).normal(
        size=x.shape
    )
    np.save("rows.npy", rows)
    np.save("blank.npy", np.zeros((64, 64)))
    assert "h_si100" in run("models")
    result = json.loads(run("predict", "rows.npy", "--json"))
    assert result["schema"] == 2
    assert abs(sum(result["probabilities"].values()) - 1) < 1e-5
    assert (
        json.loads(run("predict", "blank.npy", "--json", code=3))["verdict"] == "not judged"
    )
    stream = stm_keras.OnnxStream(
        stm_keras.shipped_path().with_suffix(".onnx"), lines=128, pixels=128
    )
    for line in rows:
        verdict = stream.push(line)
    assert verdict.verdict == result["verdict"], (verdict, result)
    told = run("watch", "rows.npy", "--speed", "0", "--json", "--no-page")
    lines = [record for record in map(json.loads, told.splitlines()) if "late_ms" in record]
    assert lines[-1]["verdict"] == result["verdict"], (lines[-1], result)
    assert len(lines) == 128
    print(f"{result['verdict']}, whole, line by line, and watched, on {sys.platform}")


if __name__ == "__main__":
    main()
