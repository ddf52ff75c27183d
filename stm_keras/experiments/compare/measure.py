"""Measure the setups of a comparison: each in a process of its own, round after round.

All processes stay alive and the rounds go from one to the next, so that other work on the
machine hits them all alike. On SLURM, each library is a job of its own.
"""

import contextlib
import logging
import os
import uuid

from stm_keras.data.load import load_dataset
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.experiments.compare.folder import digest
from stm_keras.experiments.compare.machine import describe_machine
from stm_keras.experiments.compare.records import SCORES
from stm_keras.experiments.compare.worker import Process
from stm_keras.experiments.queue import JobFolder, require_sbatch, start_after
from stm_keras.runs import Run

logger = logging.getLogger(__name__)
MERGE = "merge"  # the job that sums up
NO_WARNING = "--signal=B:USR1@0"  # at its time limit a job is a row with its reason
DEVICE_OPTIONS = ("--gres", "--gpus", "-G")  # which that job does not need


def prepare(folder, plan, weights=None):
    """Make what every setup starts from, in a process of the first backend that works.

    Raises:
        UsageError: Data or weights are not those that the comparison started from.
        StmKerasError: A file cannot be read, or no backend could do it.
    """
    material = folder.material()
    dataset = load_dataset(plan.config.data.path)
    given = None if weights is None else digest(folder.weights(weights).values())
    if material is not None:
        if dataset.digest() != material["data"]:
            raise UsageError(
                f"{folder.path}: the data is not that which this comparison started from. "
                "Choose another --output, or add --overwrite."
            )
        if given not in (None, material["weights"]):
            raise UsageError(
                f"{folder.path}: this comparison started from other weights than {weights}. "
                "Choose another --output, or add --overwrite."
            )
        done = all(folder.done(setup) for setup in plan.setups)
        if done or folder.file("batches", "0000.npz").exists():
            return
        weights = folder.file("weights.npz")  # only the batches were removed
    first = {}  # setup of each backend
    for setup in plan.setups:
        if setup.uses_keras:
            first.setdefault(setup.library, setup)
    reasons = []
    for library, setup in first.items():
        logger.info(f"Preparing weights and batches with {library}.")
        with Process(folder, setup, plan.cores) as process:
            try:
                process.call("prepare", weights=weights and str(weights))
            except StmKerasError as error:
                reasons.append(f"{library}: {error}")
                continue
        return
    raise UsageError(
        "No backend could prepare the comparison. "
        + (" ".join(reasons) or "Give one of --backends beside the references.")
    )


def measure(folder, plan, setups):
    """Measure those setups that are not done, and write what each measured as its part."""
    waiting = [setup for setup in setups if folder.done(setup) is None]
    if waiting:
        logger.info(f"Measuring {', '.join(setup.name for setup in waiting)}.")
        _Session(folder, plan).measure(waiting)
    if plan.epochs:
        score_setups(folder, plan, setups)


class _Session:
    """Setups that are measured together."""

    def __init__(self, folder, plan):
        self.folder, self.plan = folder, plan
        material = folder.material()
        identity = {key: material[key] for key in ("data", "split", "batches")}
        self.session = {"session": uuid.uuid4().hex, "identity": identity}
        self.machine = describe_machine()
        self.processes = {}  # of those that did not fail

    def measure(self, setups):
        results = {}
        with contextlib.ExitStack() as stack:
            for setup in setups:
                process = Process(self.folder, setup, self.plan.cores)
                self.processes[setup] = stack.enter_context(process)
                result = self._call(setup, "start")
                if result is not None:
                    results[setup] = {**result, "rounds": []}
                    first = result["first_step"]["wall"]
                    logger.info(f"{setup.name}: first step {first:.1f} s")
            for number in range(self.plan.repeats):
                for setup in list(self.processes):
                    results[setup]["rounds"].append(self._call(setup, "round"))
                logger.info(f"Round {number + 1} of {self.plan.repeats} is done.")
            for setup in list(self.processes):
                last = self._call(setup, "finish")
                if last is not None:
                    self._write(setup, status="done", **results[setup], **last)
                    self.processes.pop(setup).close()
                    logger.info(f"{setup.name}: done.")

    def _call(self, setup, method):
        """Return what a process answers, or note why it failed and return None."""
        try:
            return self.processes[setup].call(method)
        except StmKerasError as error:
            self.processes.pop(setup).close()
            self._write(setup, status="failed", reason=str(error))
            logger.info(f"{setup.name}: failed: {error}")
            return None

    def _write(self, setup, **result):
        load = [*self.machine["load"], round(os.getloadavg()[0], 2)]
        machine = {**self.machine, "load": load}
        part = {"side": setup.model_dump(), "name": setup.name, "machine": machine}
        self.folder.write_part(setup, {**part, **self.session, **result})


def scored_setups(setups):
    """List the setups that are trained for scores: each backend and precision once.

    How a step is compiled changes its speed, not what is learnt.
    """
    chosen = {}
    for setup in setups:
        if setup.uses_keras:
            chosen.setdefault((setup.library, setup.precision), setup)
    return list(chosen.values())


def score_setups(folder, plan, setups):
    """Train the runs that are not done, one after the other, and note their scores.

    An interrupted run goes on after its last epoch.
    """
    for setup in scored_setups(plan.setups):
        part = folder.done(setup)
        if setup not in setups or part is None:
            continue
        scores, failed = {}, {}
        for seed in range(plan.config.seed, plan.config.seed + plan.seeds):
            try:
                scores[str(seed)] = _scores(folder, plan, setup, seed)
            except StmKerasError as error:
                failed[str(seed)] = str(error)
                logger.info(f"{setup.name}, seed {seed}: failed: {error}")
        part["scores"] = {"runs": scores, "failed": failed, "epochs": plan.epochs}
        folder.write_part(setup, part)


def _scores(folder, plan, setup, seed):
    run = Run(folder.run_path(setup, seed))
    scores = run.read_json("evaluation.json", SCORES)
    if scores is None:
        logger.info(f"{setup.name}, seed {seed}: training {plan.epochs} epochs.")
        with Process(folder, setup, plan.cores) as process:
            scores = process.call("score", seed=seed)
    if None in (scores[key] for key in SCORES):
        raise StmKerasError("its test scans give no score")
    return {key: scores[key] for key in SCORES}


def submit(folder, plan, options=()):
    """Queue what is not done on SLURM, and return the id of each job by its name.

    There is a job for each library and one that sums up. It starts when the others have ended,
    however they did, so that a crash or a time limit leaves a row with its reason. What is
    queued already is left alone.

    Raises:
        UsageError: There is no sbatch here.
        StmKerasError: It refused a job.
    """
    require_sbatch()
    path = str(folder.path.resolve())
    jobs, unfinished = {}, set()
    for setup in plan.setups:
        arguments = jobs.setdefault(setup.library, ["compare", "--output", path])
        arguments += ["--only", setup.name]
        if _unfinished(folder, plan, setup):
            unfinished.add(setup.library)
    jobs[MERGE] = ["compare", "--join", path, "--output", path]
    queue = JobFolder(folder.file("slurm"))
    ids = {name: job.id for name, job in queue.queued().items()}
    unfinished -= ids.keys()
    if MERGE in ids and not unfinished:
        return ids
    ids.pop(MERGE, None)  # one more, that waits for the new ones too
    # jobs that wait in the queue read their line when they start: it must stay where it is
    before = [name for array in queue.arrays()[-1:] for name in array["names"]]
    names = list(dict.fromkeys([*before, *jobs]))
    queue.write_jobs({name: jobs.get(name, jobs[MERGE]) for name in names})
    options = ["--job-name=stm-keras-compare", NO_WARNING, *options]
    lines = [line for line, name in enumerate(names) if name in unfinished]
    if lines:
        ids |= queue.submit(names, lines, len(names), options)
    arrays = list(dict.fromkeys(each.partition("_")[0] for each in ids.values()))
    options = start_after(without_devices(options), arrays)
    return ids | queue.submit(names, [names.index(MERGE)], len(names), options)


def _unfinished(folder, plan, setup):
    """Tell whether a setup is not measured, or not scored."""
    part = folder.done(setup)
    scored = plan.epochs > 0 and setup in scored_setups(plan.setups)
    return part is None or (scored and "scores" not in part)


def without_devices(options):
    """Leave out the options for sbatch that ask for GPUs: list of str."""
    others, words = [], iter(options)
    for word in words:
        if not word.startswith(DEVICE_OPTIONS):
            others.append(word)
        elif word == "-G" or (word.startswith("--") and "=" not in word):
            next(words, None)  # its value
    return others
