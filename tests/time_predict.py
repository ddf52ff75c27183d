"""How long `stm-keras predict` takes: one scan, and a folder of them. A script, no test.

    python tests/time_predict.py --count 1000 --pixels 512

Writes made-up .sxm files (topography and current, forward and backward) into a temporary
folder and prints wall time, processor time and memory of whole processes. Processor time
is what other programs on the machine hardly change. The folder is judged again by the step of
the model alone, line by line, as before version 0.2: the last line is how much longer that takes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scan_files import sxm

PROGRAM = """
import os, resource, sys
from stm_keras.cli.main import main
if "LINE_BY_LINE" in os.environ:
    from stm_keras.inference import onnx_session
    onnx_session.WHOLE = "nowhere"
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
"""


def made_up(number, pixels):
    """Return bytes of a .sxm file: a lattice of dimers with noise."""
    rng = np.random.default_rng(number)
    line, pixel = np.mgrid[:pixels, :pixels] * (10 / pixels)  # nm
    angle = rng.uniform(0, np.pi)
    across = pixel * np.cos(angle) + line * np.sin(angle)
    along = line * np.cos(angle) - pixel * np.sin(angle)
    heights = np.cos(2 * np.pi * across / 0.768) + 0.5 * np.cos(2 * np.pi * along / 0.384)
    heights = (8 * heights + rng.normal(0, 2, heights.shape)) * 1e-12
    images = {"Z": ("m", heights, heights), "Current": ("A", heights, heights)}
    return sxm(images, size=(1e-8, 1e-8))


def timed(*arguments, **environment):
    """Run `stm-keras predict`: wall time and processor time, s, and largest memory, MiB."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "predict", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    wall = time.perf_counter() - begin
    processor, memory = map(float, done.stderr.split()[-2:])
    return wall, processor, memory, done.stdout


def main():
    """Time it and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--pixels", type=int, default=512)
    wanted = parser.parse_args()
    print(f"cores {os.cpu_count()}, load {os.getloadavg()}")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(wanted.count):
            data = made_up(number % 50, wanted.pixels)
            Path(folder, f"{number:04}.sxm").write_bytes(data)
        spent = []
        for count, what, how in (
            (1, Path(folder, "0000.sxm"), {}),
            (wanted.count, folder, {}),
            (wanted.count, folder, {"LINE_BY_LINE": "1"}),
        ):
            wall, processor, memory, out = timed(what, "--csv", **how)
            assert out.count("\n") == count + 1, out
            print(
                f"{count} scans{' line by line' if how else ''}: {wall:.2f} s, "
                f"{processor:.2f} s of a processor, {memory:.0f} MiB at most; "
                f"load {os.getloadavg()[0]:.1f}"
            )
            spent.append(processor)
        print(f"line by line takes {spent[2] / spent[1]:.1f} times as long")


if __name__ == "__main__":
    main()
