"""A real SLURM of two made-up nodes for tests: see slurm/cluster.sh."""

import csv
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers import REPOSITORY

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])


class Slurm:
    """What tests ask of the cluster."""

    def __init__(self, environment):
        self.environment = environment

    def run(self, *command, may_fail=False, **more):
        """Run a command of SLURM and return what it printed."""
        words = [str(word) for word in command]
        environment = {**self.environment, **more.pop("env", {})}
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, **more
        )
        assert may_fail or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def sbatch(self, *words, **more):
        """Queue a job and return its number."""
        return self.run("sbatch", "--parsable", *words, **more).split(";")[0]

    def facts(self, job):
        """Return what `scontrol` knows of a job: dict of str."""
        pairs = self.run("scontrol", "-o", "show", "job", job).split()
        return dict(pair.split("=", 1) for pair in pairs if "=" in pair)

    def wait(self, job, *states, seconds=120):
        """Wait until a job is in one of these states, and return its facts."""
        wait_for(
            lambda: self.facts(job)["JobState"] in states, seconds, lambda: self.facts(job)
        )
        return self.facts(job)


def wait_for(true, seconds=120, tell=lambda: ""):
    """Wait until a function returns something true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s in vain: {tell()}"
        time.sleep(0.2)


def history(run):
    """Read history.csv of a run but for its seconds: float array `(epochs, columns)`."""
    with (run / "history.csv").open(newline="") as file:
        rows = [
            [float(value) for name, value in row.items() if name != "seconds"]
            for row in csv.DictReader(file)
        ]
    return np.array(rows)


def enter(slurm, folder, monkeypatch, site):
    """Have this process find SLURM, as on a login node, and work in a folder.

    Args:
        slurm: `Slurm`.
        folder: `Path` to work in.
        monkeypatch: pytest's.
        site: str. What jobs/site.sh says.
    """
    (folder / "site.sh").write_text(site)
    monkeypatch.chdir(folder)
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STM_KERAS_SITE", str(folder / "site.sh"))


def free_ports(first, count=13, step=1000):
    """Return the first of so many free ports: a killed test run leaves its cluster behind."""
    for base in range(first, 60000, step):
        with ExitStack() as taken:
            try:
                for port in range(base, base + count):
                    taken.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return base
    raise AssertionError(f"no {count} free ports from {first} on")


@contextmanager
def cluster():
    """Yield the `Slurm` of this process, or skip and say what to install."""
    missing = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    if missing:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    root = tempfile.mkdtemp(prefix="stm-slurm-", dir="/tmp")  # a socket's path is short
    script = Path(__file__).parent / "slurm" / "cluster.sh"
    environment = {
        **os.environ,
        "PATH": PATH,
        "SLURM_LOCAL_ROOT": root,
        "BASE_PORT": str(free_ports(27900 + 100 * WORKER)),
        "SLURM_CONF": f"{root}/slurm.conf",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHON": sys.executable,
        "STM_KERAS_JOBS": str(REPOSITORY / "jobs"),
    }
    Path(root).chmod(0o755)
    done = subprocess.run(
        [script, "start"], env=environment, capture_output=True, text=True
    )
    try:
        assert done.returncode == 0, done.stderr
        yield Slurm(environment)
    finally:
        subprocess.run([script, "wipe"], env=environment, capture_output=True)
