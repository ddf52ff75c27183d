"""A `stm-keras watch` with its page in a process of its own, and lines that are pushed to it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy as np
from helpers import REPOSITORY

from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.generate import simulate

PATIENCE = 60  # s, of a machine that does other things as well


def free_port():
    """Return a port that nobody has at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, seconds=PATIENCE, what="it never came"):
    """Wait until a condition holds; return what it gave."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, what
        time.sleep(0.02)


def tips():
    """Return lines with a good tip, and lines with a bad one: each `(64, 128)`."""
    made = simulate(64, 5, SimulationConfig(p_tip_change=0))
    whole = (made.lines == 128) & (made.change_line < 0)
    first = [np.flatnonzero(whole & (made.labels == name))[0] for name in (0, 3)]
    return [made.images[scan][:64].astype(float) * 1e-12 for scan in first]


class Serving:
    """A command of `stm-keras` that serves a page; ended with the `with` block."""

    def __init__(self, folder, *words, port=None):
        self.port = free_port() if port is None else port
        words = [sys.executable, "-m", "stm_keras", *words, "--no-browser"]
        words += ["--port", self.port]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUTF8": "1"}
        environment.pop("PYTEST_CURRENT_TEST", None)  # by which NiceGUI takes it for a test
        self.process = subprocess.Popen(
            [str(word) for word in words],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.address = until(lambda: self.find(r"Page: (\S+)"), what=self.said)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.end()

    def _read(self):
        for line in self.process.stderr:
            self.said.append(line)

    def find(self, pattern):
        """Return the first group of a pattern in what the program said, or None."""
        assert self.process.poll() is None or not self.said, self.said
        found = re.search(pattern, "".join(self.said))
        return found and found[1]

    def end(self, number=signal.SIGTERM):
        """End it by a signal; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.process.stderr.close()
        return code

    def get(self, path, **headers):
        """Ask for a path: status and body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


class Watching(Serving):
    """`stm-keras watch SOURCE` with its page."""

    def __init__(self, folder, source, *arguments, port=None):
        super().__init__(folder, "watch", source, "--log", folder, *arguments, port=port)

    def state(self):
        """Return what `/api/state` says."""
        return json.loads(self.get("/api/state")[1])

    def records(self, folder, event):
        """Return the records of an event in its log."""
        (log,) = folder.glob("*.jsonl")
        found = map(json.loads, log.read_text(encoding="utf-8").splitlines())
        return [record for record in found if record["event"] == event]


class Pusher:
    """Sends lines to a watching by `push://`."""

    def __init__(self, port):
        self.connection = until(lambda: _connect(port))
        self.stream = self.connection.makefile("rw", encoding="utf-8")

    def close(self):
        self.stream.close()
        self.connection.close()

    def send(self, **request):
        print(json.dumps(request), file=self.stream, flush=True)

    def scan(self, heights, direction="forward", end=False, pause=0.0, **frame):
        """Send a scan, and wait for the verdict on each line."""
        lines = frame.pop("lines", len(heights))
        if direction == "forward":
            frame = {"size": [4e-9, 2e-9], "slow": "up", **frame}
            self.send(scan={"lines": lines, "pixels": len(heights[0]), **frame})
        for number, line in enumerate(heights):
            row = lines - 1 - number
            self.send(line=[float(each) for each in line], row=row, direction=direction)
            assert "error" not in json.loads(self.stream.readline())
            time.sleep(pause)
        if end:
            self.send(end=True)


def _connect(port):
    with contextlib.suppress(OSError):
        return socket.create_connection(("127.0.0.1", port))
    return None
