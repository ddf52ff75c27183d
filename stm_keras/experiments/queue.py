"""Make runs: some at a time in processes here, or on SLURM as job arrays.

manifest.tsv   a line for each job: its name, and the arguments of `stm-keras`
sweep.sbatch   the job of an array: it does the line that its number says
common.sh      what every job does, such as to queue itself again after a time limit
jobs.json      the arrays that were queued
logs/          a log for each job, by its name
"""

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.files import atomic, check_folder
from stm_keras.records import Queued
from stm_keras.resources import resource_folder
from stm_keras.runs import JsonFolder
from stm_keras.terminal import shell

logger = logging.getLogger(__name__)
JOBS = "jobs.json"
SCRIPTS = ("common.sh", "sweep.sbatch")
RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING")


@dataclass(frozen=True)
class QueuedJob:
    """A job of an array that is not over."""

    id: str  # such as "12_3"
    state: str  # "queued" or "running"


@dataclass(frozen=True)
class JobFolder(JsonFolder):
    """A folder of jobs for SLURM, on a disk that all nodes see."""

    kind: ClassVar[str] = "the record of the jobs of a sweep"
    records: ClassVar[dict] = {JOBS: Queued}

    def write_jobs(self, jobs):
        """Write the scripts, and a line for each job: dict of name to arguments."""
        check_folder(self.file("logs"))
        for name in SCRIPTS:
            copy_script(name, self.path)
        lines = [f"{name}\t{shell(arguments)}\n" for name, arguments in jobs.items()]
        self.write_text("manifest.tsv", "".join(lines))

    def arrays(self):
        """Return the arrays that were queued: list of dict, as of `records.Array`."""
        return self.read_json(JOBS) or []

    def submit(self, names, lines, concurrent, options=()):
        """Queue lines of the manifest, and note the arrays; return the id of each by name.

        Raises:
            StmKerasError: SLURM refuses.
        """
        ids = {}
        for job, first, at_once, chosen in self.send_arrays(lines, concurrent, options):
            array = {"job": job, "first": first, "names": names, "at_once": at_once}
            self.write_json(JOBS, [*self.arrays(), array])
            ids |= {names[line]: f"{job}_{line - first}" for line in chosen}
        return ids

    def send_arrays(self, lines, concurrent, options=(), send=None):
        """Queue lines beside the arrays that are not over, as `submit_arrays` does."""
        limits = {a["job"]: a.get("at_once", concurrent) for a in self.arrays()}
        counts = Counter(job for job, _, _ in active_jobs()) if limits else {}
        active = {job: min(limits[job], n) for job, n in counts.items() if job in limits}
        size, send = max_array_size(), send or sbatch
        return submit_arrays(self.path, lines, concurrent, options, size, active, send)

    def queued(self):
        """Ask SLURM which lines are not over: dict of name to `QueuedJob`."""
        arrays = {array["job"]: array for array in self.arrays()}
        jobs = {}
        for job, task, state in active_jobs() if arrays else ():
            array = arrays.get(job)
            line = None if array is None or task is None else array["first"] + task
            if line is not None and line < len(array["names"]):
                jobs[array["names"][line]] = QueuedJob(f"{job}_{task}", state)
        return jobs


def submit_arrays(folder, lines, concurrent, options, max_size, active, send):
    """Queue lines of a manifest so that never more run than asked for, in any number of arrays.

    SLURM counts within an array only. So each gets what those before leave of `concurrent`,
    and where that is nothing, it begins when they are over: `active` are the arrays that are
    not over, and how many jobs of each may run. `send` gets what follows `sbatch` and returns
    the array's number. `max_size` is SLURM's MaxArraySize: numbers of an array are below.

    Yields:
        Tuple of str, the array's number; int, the line that its job 0 stands for; int, how
        many of its jobs may run at a time; and list of int, its lines.
    """
    folder, active = Path(folder).resolve(), dict(active)
    for first in range(0, max(lines) + 1, max_size):
        chosen = [line for line in lines if first <= line < first + max_size]
        if not chosen:
            continue
        free = concurrent - sum(active.values())
        after = [] if free > 0 else list(active)
        at_once = free if free > 0 else concurrent
        tasks = array_text([line - first for line in chosen])
        command = [f"--array={tasks}%{at_once}"]
        command += [f"--output={folder}/logs/slurm-%A_%a.log", *start_after(options, after)]
        job = send([*command, str(folder / "sweep.sbatch"), str(folder), str(first)])
        active[job] = min(at_once, len(chosen))
        yield job, first, at_once, chosen


def array_text(numbers):
    """Write the numbers of an array as sbatch takes them: [0, 1, 2, 5] is "0-2,5"."""
    parts = []
    # what follows one another is as far from its place in the list
    for _, pairs in groupby(enumerate(sorted(numbers)), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in pairs]
        parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return ",".join(parts)


def start_after(options, jobs):
    """Add to options for sbatch that jobs must be over, however they end: list of str."""
    if not jobs:
        return list(options)
    others, conditions, rest = [], [f"afterany:{':'.join(jobs)}"], iter(options)
    for word in rest:  # of several such options sbatch would take the last alone
        option, _, value = word.partition("=")
        if option == "--dependency":
            conditions.append(value or next(rest, ""))
        elif word.startswith("-d") and not word.startswith("--"):
            conditions.append(word[2:] or next(rest, ""))
        else:
            others.append(word)
    return [*others, f"--dependency={','.join(conditions)}"]


def max_array_size():
    """Ask SLURM how many numbers an array may have; 1001 where it does not say."""
    text = ask_slurm(["scontrol", "show", "config"])
    found = re.search(r"^\s*MaxArraySize\s*=\s*(\d+)\s*$", text, re.MULTILINE)
    return max(int(found[1]), 1) if found else 1001


def require_sbatch():
    """Raise a `UsageError` where SLURM is not installed."""
    if shutil.which("sbatch") is None:
        raise UsageError(
            "There is no sbatch here. Run the command on a cluster's login node, or run it "
            "here without SLURM."
        )


def copy_script(name, folder):
    """Copy a script of `jobs/`: a job needs it however long it waits, whatever becomes of us."""
    with atomic(Path(folder) / name, overwrite=True) as temporary:
        shutil.copyfile(resource_folder("jobs") / name, temporary)


def sbatch(arguments):
    """Queue a job and return its number, a str."""
    command = ["sbatch", "--parsable", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        reason = " ".join(done.stderr.split()) or "it gives no reason"
        raise StmKerasError(f"SLURM refuses: {reason} Command: {shell(command)}")
    return done.stdout.strip().split(";")[0]


def active_jobs():
    """List the jobs of this user that are not over: tuples of job, number in array, state."""
    if shutil.which("squeue") is None:
        return []
    # not --jobs: SLURM refuses the whole question where it has forgotten one of them
    text = ask_slurm(["squeue", "-h", "-r", "-u", str(os.getuid()), "-o", "%F %K %T"])
    jobs = []
    for line in text.splitlines():
        job, task, state = line.split()
        number = int(task) if task.isdigit() else None
        jobs.append((job, number, "running" if state in RUNNING else "queued"))
    return jobs


def ask_slurm(command):
    """Return what a command of SLURM prints, or nothing where it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=60, encoding="utf-8", errors="replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


@dataclass(frozen=True)
class Task:
    """One command to run here."""

    name: str
    arguments: list[str]  # of `stm-keras`
    log: Path
    done: Callable[[], bool]  # tells whether its result is there


def run_all(tasks, at_once=1, progress=None):
    """Run tasks, some at a time, and return whether each is done: list of bool.

    Whatever ends this, Ctrl-C too, ends them as well: each is asked to stop and keeps the
    epochs that are done.
    """
    ended, running, stopping, lock = [], set(), threading.Event(), threading.Lock()

    def run(task):
        started = time.perf_counter()
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a", encoding="utf-8") as log:
            with lock:
                if stopping.is_set():
                    return False
                process = start(task.arguments, log)
                running.add(process)
            code = process.wait()
            with lock:
                running.discard(process)
            log.write(f"ended with exit code {code}\n")
        seconds = time.perf_counter() - started
        done = task.done()
        outcome = "done" if done else f"failed ({code}), see {task.log}"
        logger.info(f"{task.name}: {outcome} in {seconds:.0f} s")
        if progress is not None:
            with lock:
                ended.append(task)
                progress(len(ended), len(tasks))
        return done

    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run, task) for task in tasks]
        try:
            return [future.result() for future in futures]
        except BaseException:
            with lock:
                stopping.set()
                for process in running:
                    with contextlib.suppress(OSError):
                        process.terminate()
            raise


def exit_codes(log):
    """Return the exit code of each process that ended, from the text of a log: list of int."""
    return [int(code) for code in re.findall(r"ended with exit code (-?\d{1,9})", log)]


def run_missing(runs, at_once=1, progress=None):
    """Make the planned runs that are not there yet, and return those that failed.

    `progress` takes runs done and runs in all, of those that were missing.
    """
    missing = [run for run in runs if not run.done()]
    logger.info(f"{len(runs)} runs, {len(runs) - len(missing)} of them done.")
    tasks = [
        Task(run.key, run.arguments(), run.path.with_name(f"{run.name}.log"), run.done)
        for run in missing
    ]
    results = run_all(tasks, at_once, progress)
    return [run for run, done in zip(missing, results, strict=True) if not done]


def start(arguments, log):
    """Start `stm-keras` in a process of its own, which writes to an open file."""
    command = [sys.executable, "-m", "stm_keras", *arguments]
    return subprocess.Popen(command, stdout=log, stderr=log)
