"""Hand a sweep to SLURM as job arrays, and ask what became of them."""

import json
import os
from collections import Counter
from pathlib import Path

from stm_keras.experiments.slurm import ask, sbatch, unfinished
from stm_keras.files import atomic
from stm_keras.records import Queued, check_record
from stm_keras.untrusted import read_json

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
