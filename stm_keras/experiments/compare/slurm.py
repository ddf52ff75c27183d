"""A comparison as SLURM jobs: one for each library, and one that brings them together."""

import shlex

from stm_keras.experiments.compare.folder import QUEUED
from stm_keras.experiments.queue import copy_script, need_sbatch, sbatch, unfinished
from stm_keras.files import atomic

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={job}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
# Written by `stm-keras compare --slurm`. Parts that are done are not done again.
. {common}
keep_going "${{stm_keras[@]}}" {words}
"""
OF_DEVICES = ("--gres", "--gpus", "-G")  # a job that only sums up needs none


def submit(folder, plan, options=()):
    """Queue what is not done: a job for each library, then one that sums up.

    The last one begins when the others have ended, however they did, so that a crash or a
    time limit leaves a row with its reason. What is queued already is left alone.

    Args:
        folder: A `Folder` that is prepared.
        plan: Its `Plan`.
        options: sequence of str, words passed on to sbatch.

    Returns:
        dict of str to str: the number of each job, "merge" the last.

    Raises:
        UsageError: There is no sbatch here.
        StmKerasError: It refused a job.
    """
    need_sbatch()
    folder.file("jobs").mkdir(exist_ok=True)
    folder.file("logs").mkdir(exist_ok=True)
    copy_script("common.sh", folder.file("jobs"))
    path = str(folder.path.resolve())
    active = {job for job, _, _ in unfinished()}
    before = folder.read_json(QUEUED) or {}
    jobs = {name: job for name, job in before.items() if job in active}
    waiting = {}
    for side in plan.sides:
        undone = folder.done(side) is None or _unscored(folder, plan, side)
        if undone and side.library not in jobs:
            waiting.setdefault(side.library, []).append(side)
    if "merge" in jobs and not waiting:
        return jobs
    merge = jobs.pop("merge", None)  # one more, that waits for the new ones too
    for library, sides in waiting.items():
        words = [word for side in sides for word in ("--only", side.name)]
        words += ["--output", path]
        jobs[library] = _queue(folder, library, words, options)
        folder.write_json(QUEUED, {**jobs, **({"merge": merge} if merge else {})})
    after = [f"--dependency=afterany:{':'.join(jobs.values())}"] if jobs else []
    words = ["--merge", path, "--output", path]
    jobs["merge"] = _queue(folder, "merge", words, [*without_devices(options), *after])
    folder.write_json(QUEUED, jobs)
    return jobs


def without_devices(options):
    """Leave out the words for sbatch that ask for GPUs: list of str."""
    kept, skip = [], False
    for word in options:
        if skip:
            skip = False
        elif word.startswith(OF_DEVICES):  # its value may be the next word
            skip = word == "-G" or (word.startswith("--") and "=" not in word)
        else:
            kept.append(word)
    return kept


def _unscored(folder, plan, side):
    return plan.epochs > 0 and side.ours and "scores" not in folder.done(side)


def _queue(folder, name, words, options):
    script = folder.file("jobs", f"{name}.sbatch").resolve()
    text = SCRIPT.format(
        job=f"compare-{name}",
        log=folder.file("logs", f"{name}-%j.out").resolve(),
        common=shlex.quote(str(script.with_name("common.sh"))),
        words=shlex.join(["compare", *words]),
    )
    with atomic(script, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return sbatch([*options, str(script)])
