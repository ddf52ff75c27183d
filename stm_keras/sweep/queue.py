"""Hand a sweep to SLURM as job arrays, and ask what became of them."""

import json
import os
from pathlib import Path

from stm_keras.files import atomic
from stm_keras.records import Queued, check_record
from stm_keras.slurm import ask, sbatch, unfinished
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


def sbatch_commands(folder, numbers, concurrent, words=(), largest=1001):
    """Return the commands that queue lines of a manifest.

    Args:
        folder: `Path` of the sweep.
        numbers: list of int. Lines of manifest.tsv, from 0.
        concurrent: int. Jobs at a time.
        words: sequence of str. Further words for sbatch.
        largest: int. SLURM's MaxArraySize: numbers of an array must be below.

    Returns:
        list of tuple of int, the line that number 0 of the array stands for, and list of
        str, what follows `sbatch`.
    """
    folder = Path(folder).resolve()
    found = []
    for first in range(0, max(numbers) + 1, largest):
        own = [number - first for number in numbers if 0 <= number - first < largest]
        if own:
            command = [f"--array={array_text(own)}%{concurrent}"]
            command += [f"--output={folder}/logs/slurm-%A_%a.log", *words]
            command += [str(folder / "sweep.sbatch"), str(folder), str(first)]
            found.append((first, command))
    return found


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
        numbers, concurrent, words: As for `sbatch_commands`.

    Returns:
        list of str. Numbers of the jobs.

    Raises:
        StmKerasError: SLURM refuses.
    """
    jobs = []
    for first, command in sbatch_commands(
        folder, numbers, concurrent, words, max_array_size()
    ):
        job = sbatch(command)
        jobs.append(job)
        records = [*_records(folder), {"job": job, "first": first, "names": names}]
        with atomic(Path(folder) / RECORD, overwrite=True) as temporary:
            temporary.write_text(json.dumps(records, indent=1, allow_nan=False) + "\n")
    return jobs


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
