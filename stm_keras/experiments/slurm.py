"""What we ask of SLURM: queue a job, and say which are not over."""

import os
import shutil
import subprocess
from pathlib import Path

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.files import atomic
from stm_keras.resources import resource_folder
from stm_keras.terminal import shell

SCRIPTS = resource_folder("jobs")
RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING")


def need_sbatch():
    """See that SLURM is here.

    Raises:
        UsageError: It is not.
    """
    if shutil.which("sbatch") is None:
        raise UsageError(
            "There is no sbatch here. Type it on a cluster's login node, or run it here "
            "without SLURM."
        )


def copy_script(name, folder):
    """Copy a script of `jobs/` to where jobs will find it, whatever becomes of us."""
    with atomic(Path(folder) / name, overwrite=True) as temporary:
        shutil.copyfile(SCRIPTS / name, temporary)


def sbatch(words):
    """Queue a job.

    Args:
        words: list of str. What follows `sbatch`.

    Returns:
        str. The number of the job.

    Raises:
        StmKerasError: SLURM refuses it.
    """
    command = ["sbatch", "--parsable", *words]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = " ".join(done.stderr.split()) or "it says nothing"
        raise StmKerasError(f"SLURM refuses: {said} Command: {shell(command)}")
    return done.stdout.strip().split(";")[0]


def unfinished():
    """List the jobs of this user that are queued or running.

    Returns:
        list of tuple of str, the job; int or None, its number in an array; and str,
        "queued" or "running". Empty where there is no SLURM.
    """
    if shutil.which("squeue") is None:
        return []
    # not --jobs: SLURM refuses the whole question where it has forgotten one of them
    text = ask(["squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%F %K %T"])
    found = []
    for line in text.splitlines():
        job, number, state = line.split()
        place = int(number) if number.isdigit() else None
        found.append((job, place, "running" if state in RUNNING else "queued"))
    return found


def ask(command):
    """Return what a command of SLURM prints, or nothing where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=60, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
