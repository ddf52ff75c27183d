"""A comparison as SLURM jobs: one for each library, and one that brings them together."""

import shlex
import shutil
import subprocess
import sys

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.files import atomic

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={job}
#SBATCH --output={log}
#SBATCH --open-mode=append
# Written by `stm-keras compare --slurm`. Parts that are done are not done again.
exec {command}
"""


def submit(folder, plan, options=()):
    """Queue what is not done: a job for each library, then one that sums up.

    The last one begins when the others have ended, however they did, so that a crash or a
    time limit leaves a row with its reason.

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
    if shutil.which("sbatch") is None:
        raise UsageError("`--slurm`: there is no sbatch here. Type it on a login node.")
    path = str(folder.path.resolve())
    waiting = {}
    for side in plan.sides:
        if folder.done(side) is None or _unscored(folder, plan, side):
            waiting.setdefault(side.library, []).append(side)
    jobs = {}
    for library, sides in waiting.items():
        words = [word for side in sides for word in ("--only", side.name)]
        jobs[library] = _sbatch(folder, library, [*words, "--output", path], options)
    after = [f"--dependency=afterany:{':'.join(jobs.values())}"] if jobs else []
    words = ["--merge", path, "--output", path]
    jobs["merge"] = _sbatch(folder, "merge", words, [*options, *after])
    return jobs


def _unscored(folder, plan, side):
    return plan.epochs > 0 and side.ours and "scores" not in folder.done(side)


def _sbatch(folder, name, words, options):
    script = folder.file("jobs", f"{name}.sbatch").resolve()
    folder.file("logs").mkdir(exist_ok=True)
    text = SCRIPT.format(
        job=f"compare-{name}",
        log=folder.file("logs", f"{name}-%j.out").resolve(),
        command=shlex.join([sys.executable, "-m", "stm_keras", "compare", *words]),
    )
    with atomic(script, overwrite=True) as temporary:
        temporary.write_text(text)
    done = subprocess.run(
        ["sbatch", "--parsable", *options, str(script)], capture_output=True, text=True
    )
    if done.returncode:
        raise StmKerasError(
            f"sbatch refused {script.name}: {' '.join(done.stderr.split())} Change --sbatch."
        )
    return done.stdout.strip().partition(";")[0]
