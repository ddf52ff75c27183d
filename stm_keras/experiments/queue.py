"""Hand a sweep to SLURM as job arrays, and ask what became of them."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.files import atomic
from stm_keras.records import Queued, check_record
from stm_keras.resources import resource_folder
from stm_keras.terminal import shell
from stm_keras.untrusted import read_json

SCRIPTS = resource_folder("jobs")
RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING")

RECORD = "jobs.json"


def array_text(numbers):
    """Write array numbers as sbatch takes them: [0, 1, 2, 5] is "0-2,5"."""
    parts, numbers = [], sorted(numbers)
    begin = last = numbers[0]
    for number in [*numbers[1:], None]:
        if number is not None and number == last + 1:
            last = number
            continue
        parts.append(str(begin) if begin == last else f"{begin}-{last}")
        begin = last = number
    return ",".join(parts)


def hand_over(folder, numbers, concurrent, words, largest, waiting, send):
    """Queue lines of a manifest so that never more run than asked for, in how many arrays ever.

    SLURM counts within an array only. So each gets what those before leave of `concurrent`,
    and where that is nothing, it begins when they are over.

    Args:
        folder: `Path` of the sweep.
        numbers: list of int. Lines of manifest.tsv, from 0.
        concurrent: int. Jobs at a time.
        words: sequence of str. Further words for sbatch.
        largest: int. SLURM's MaxArraySize: numbers of an array must be below.
        waiting: dict of str to int: arrays of the sweep that are not over, and how many jobs
            of each may run at a time.
        send: callable of a list of str, what follows `sbatch`, that returns the job's number.

    Yields:
        Tuple of str, the job's number; int, the line that number 0 of the array stands for;
        and int, how many of its jobs may run at a time.
    """
    folder, waiting = Path(folder).resolve(), dict(waiting)
    for first in range(0, max(numbers) + 1, largest):
        own = [number - first for number in numbers if 0 <= number - first < largest]
        if not own:
            continue
        free = concurrent - sum(waiting.values())
        after = [] if free > 0 else list(waiting)
        at_once = free if free > 0 else concurrent
        command = [f"--array={array_text(own)}%{at_once}"]
        command += [f"--output={folder}/logs/slurm-%A_%a.log", *begin_after(words, after)]
        job = send([*command, str(folder / "sweep.sbatch"), str(folder), str(first)])
        waiting[job] = min(at_once, len(own))
        yield job, first, at_once


def begin_after(words, jobs):
    """Add to words for sbatch that jobs must be over, however they end: list of str."""
    if not jobs:
        return list(words)
    kept, given, words = [], [f"afterany:{':'.join(jobs)}"], iter(words)
    for word in words:  # of several such options sbatch would take the last alone
        option, _, value = word.partition("=")
        if option == "--dependency":
            given.append(value or next(words, ""))
        elif word.startswith("-d") and not word.startswith("--"):
            given.append(word[2:] or next(words, ""))
        else:
            kept.append(word)
    return [*kept, f"--dependency={','.join(given)}"]


def max_array_size():
    """Ask SLURM how many numbers an array may have; 1001 where it does not say."""
    text = ask(["scontrol", "show", "config"])
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize" and value.strip().isdigit():
            return max(int(value), 1)
    return 1001


def queue(folder, names, numbers, concurrent, words=()):
    """Queue lines of a manifest, and note the arrays in the sweep's folder.

    Args:
        folder: `Path` of the sweep.
        names: list of str. What each line of the manifest is called.
        numbers, concurrent, words: As for `hand_over`.

    Returns:
        list of str. Numbers of the jobs.

    Raises:
        StmKerasError: SLURM refuses.
    """
    jobs, waiting = [], not_over(folder, concurrent)
    for job, first, at_once in hand_over(
        folder, numbers, concurrent, words, max_array_size(), waiting, sbatch
    ):
        jobs.append(job)
        record = {"job": job, "first": first, "names": names, "at_once": at_once}
        with atomic(Path(folder) / RECORD, overwrite=True) as temporary:
            text = json.dumps([*_records(folder), record], indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    return jobs


def not_over(folder, concurrent):
    """Ask SLURM which arrays of a sweep are not over.

    Args:
        folder: `Path` of the sweep.
        concurrent: int. Jobs at a time where that was not noted.

    Returns:
        dict of str to int: the array, and how many of its jobs may run at a time.
    """
    limits = {r["job"]: r.get("at_once", concurrent) for r in _records(folder)}
    left = Counter(job for job, _, _ in unfinished()) if limits else {}
    return {job: min(limits[job], count) for job, count in left.items() if job in limits}


def queued(folder):
    """Ask SLURM which lines of a manifest are queued or running.

    Returns:
        dict of name to "queued" or "running"; empty where there is no SLURM.
    """
    records = {record["job"]: record for record in _records(folder)}
    found = {}
    for job, number, state in unfinished() if records else ():
        record = records.get(job)
        place = None if record is None or number is None else record["first"] + number
        if place is not None and place < len(record["names"]):
            found[record["names"][place]] = state
    return found


def _records(folder):
    path = Path(folder) / RECORD
    if not os.path.lexists(path):
        return []
    records = read_json(path, "the record of the jobs of a sweep")
    check_record(Queued, records, path)
    return records


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


@dataclass(frozen=True)
class Task:
    """One command.

    Args:
        key: str. What messages call it.
        words: list of str. Arguments of `stm-keras`.
        log: `Path` that its output is added to.
        done: callable that tells whether its result is there.
    """

    key: str
    words: list
    log: Path
    done: object


def run_all(tasks, at_once=1, say=print):
    """Run tasks, some at a time, and wait for them.

    Whatever ends this, Ctrl-C too, ends them as well: each is asked to leave and keeps
    the epochs that are done.

    Args:
        tasks: list of `Task`.
        at_once: int.
        say: callable of str, told of each as it ends.

    Returns:
        list of bool: whether each is done.
    """
    running, leaving, lock = set(), threading.Event(), threading.Lock()

    def make(task):
        begin = time.perf_counter()
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("a", encoding="utf-8") as file:
            with lock:
                if leaving.is_set():
                    return False
                process = start(task.words, file)
                running.add(process)
            code = process.wait()
            with lock:
                running.discard(process)
            file.write(f"ended with exit code {code}\n")
        seconds = time.perf_counter() - begin
        ok = task.done()
        how = "done" if ok else f"failed ({code}), see {task.log}"
        say(f"{task.key}: {how} in {seconds:.0f} s")
        return ok

    with ThreadPoolExecutor(at_once) as pool:
        made = [pool.submit(make, task) for task in tasks]
        try:
            return [each.result() for each in made]
        except BaseException:
            with lock:
                leaving.set()
                for process in running:
                    with contextlib.suppress(OSError):
                        process.terminate()
            raise


def start(words, file):
    """Start `stm-keras` with these arguments in a process of its own.

    Args:
        words: list of str.
        file: open file for its output.

    Returns:
        `subprocess.Popen`.
    """
    command = [sys.executable, "-m", "stm_keras", *words]
    return subprocess.Popen(command, stdout=file, stderr=file)
