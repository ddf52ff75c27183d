"""Search for good settings with Optuna: workers that share what they know in one file.

A worker tries one trial after another; several, on several nodes, are a job array. Each
trial trains a run for every seed and is judged by the best AUROC on validation scans, the
mean over seeds: test scans choose nothing. A worker that is killed takes up its trial again.
"""

import json
import random
import signal
import subprocess
from pathlib import Path

from stm_keras.errors import StmKerasError, require
from stm_keras.evaluation.history import compare_runs, read_history
from stm_keras.experiments.queue import start
from stm_keras.experiments.sweep import is_done, trial_members
from stm_keras.files import atomic
from stm_keras.signals import EXIT_CODE, Preempted, watched
from stm_keras.untrusted import parse_json

FINISHED = ("COMPLETE", "FAIL", "PRUNED")


def open_study(folder, sweep, worker=0):
    """Open what the workers of a search share.

    Args:
        folder: `Path` of the sweep.
        sweep: Its `Sweep`.
        worker: int. Each has random numbers of its own.

    Returns:
        `optuna.Study`.

    Raises:
        MissingExtraError: Optuna is not installed.
    """
    optuna = require("optuna", "search")
    journal = require("optuna.storages.journal", "search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = journal.JournalFileBackend(str(Path(folder) / "study.log"))
    study = optuna.create_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(file),
        load_if_exists=True,
        direction="maximize",
    )
    # a worker that begins again must not draw once more what it drew at first
    drawn = random.Random(f"{worker} {len(study.get_trials(deepcopy=False))}")
    seed = drawn.randrange(2**31)
    if sweep.sampler == "random":
        study.sampler = optuna.samplers.RandomSampler(seed=seed)
    else:  # others' unfinished trials count as bad, so that two do not try the same
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return study


def is_over(folder, sweep):
    """Tell whether every trial of a search has ended."""
    if not (Path(folder) / "study.log").exists():
        return False
    trials = open_study(folder, sweep).get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state.name in FINISHED]
    return len(ended) >= sweep.trials


def work(folder, sweep, worker, say=print):
    """Try trials until the search is over.

    Args:
        folder: `Path` of the sweep.
        sweep: Its `Sweep`.
        worker: int. Which of the workers this is.
        say: callable of str.

    Returns:
        int. Trials that this worker has made.

    Raises:
        Preempted: The process was asked to leave; the trial waits to be taken up again.
    """
    study, made = open_study(folder, sweep, worker), 0
    with watched():
        while True:
            trial = _mine(study, worker) or _new(study, sweep, worker)
            if trial is None:
                return made
            number, settings = trial
            path = Path(folder) / "trials" / f"{number:04d}.json"
            with atomic(path, overwrite=True) as temporary:
                text = json.dumps(settings, allow_nan=False) + "\n"
                temporary.write_text(text, encoding="utf-8")
            value = _value(folder, sweep, number, settings, say)
            if value is None:
                study.tell(number, state=_state("FAIL"))
            else:
                study.tell(number, value)
            made += 1
            told = "failed" if value is None else f"validation AUROC {value:.4f}"
            say(f"trial {number}: {told}, {json.dumps(settings, allow_nan=False)}")


def _mine(study, worker):
    """Find the trial that this worker left when it was killed."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "RUNNING" and trial.user_attrs.get("worker") == worker:
            return trial.number, parse_json(trial.user_attrs["settings"], "study.log")
    return None


def _new(study, sweep, worker):
    """Ask for a new trial, or return None when there are enough."""
    if len(study.get_trials(deepcopy=False)) >= sweep.trials:
        return None
    trial = study.ask()
    settings = {key: _suggest(trial, key, span) for key, span in sweep.space.items()}
    if trial.number >= sweep.trials:  # another worker was sooner
        study.tell(trial, state=_state("FAIL"))
        return None
    trial.set_user_attr("settings", json.dumps(settings, allow_nan=False))
    trial.set_user_attr("worker", worker)
    return trial.number, settings


def _suggest(trial, key, span):
    if span.values:  # Optuna keeps no lists
        values = {json.dumps(value, allow_nan=False): value for value in span.values}
        return values[trial.suggest_categorical(key, list(values))]
    if isinstance(span.low, int) and isinstance(span.high, int):
        return trial.suggest_int(key, span.low, span.high, log=span.log)
    return trial.suggest_float(key, span.low, span.high, log=span.log)


def _state(name):
    return require("optuna", "search").trial.TrialState[name]


def _value(folder, sweep, number, settings, say):
    """Train the runs of a trial and return their mean score, or None where one failed."""
    scores = []
    for member in trial_members(number, settings, sweep.seeds):
        log = Path(folder) / "logs" / f"{member.name}.log"
        if not is_done(folder, member.name):
            with log.open("a", encoding="utf-8") as file:
                code = _wait(start(member.words(folder, sweep), file))
                file.write(f"ended with exit code {code}\n")
            if code == EXIT_CODE:
                raise Preempted("SIGTERM")
        if not is_done(folder, member.name):
            say(f"{member.name}: failed, see {log}")
            return None
        history = read_history(Path(folder) / "runs" / member.name)
        score = compare_runs({member.name: history})[0].get("val_auroc")
        if score is None:
            raise StmKerasError(f"{member.name}: has no validation AUROC to search by.")
        scores.append(score)
    return sum(scores) / len(scores)


def _wait(process):
    """Wait for a run; where this process is asked to leave, so is the run."""
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
