"""Search for good settings with Optuna: workers that share their results in one file.

A worker tries one trial after another; several, on several nodes, are a job array. Each
trial trains a run for every seed and is judged by the best AUROC on validation scans, the
mean over seeds: test scans choose nothing. A worker that is killed takes up its trial again.
"""

import json
import logging
import random

from stm_keras.errors import StmKerasError, require
from stm_keras.evaluation.history import compare_runs, read_history
from stm_keras.experiments.plan import trial_runs
from stm_keras.experiments.queue import Task, exit_codes, run_all
from stm_keras.signals import EXIT_CODE, Preempted, watched
from stm_keras.untrusted import parse_json

logger = logging.getLogger(__name__)
FINISHED = ("COMPLETE", "FAIL", "PRUNED")


def is_over(folder, sweep):
    """Tell whether every trial of a search has ended."""
    if not folder.file("study.log").exists():
        return False
    trials = open_study(folder, sweep).get_trials(deepcopy=False)
    return sum(trial.state.name in FINISHED for trial in trials) >= sweep.trials


def work(folder, sweep, worker):
    """Try trials until the search is over.

    Raises:
        Preempted: The process was asked to stop; the trial waits to be taken up again.
    """
    study, made = open_study(folder, sweep, worker), 0
    with watched():
        while trial := _resumed_trial(study, worker) or _new_trial(study, sweep, worker):
            number, settings = trial
            text = json.dumps(settings, allow_nan=False)
            folder.write_text(f"trials/{number:04d}.json", text + "\n")
            value = _train_and_score(folder, sweep, number, settings)
            if value is None:
                study.tell(number, state=_state("FAIL"))
            else:
                study.tell(number, value)
            made += 1
            outcome = "failed" if value is None else f"validation AUROC {value:.4f}"
            logger.info(f"trial {number}: {outcome}, {text}")
    return made


def open_study(folder, sweep, worker=0):
    """Open what the workers share: an `optuna.Study`; `MissingExtraError` without Optuna."""
    optuna = require("optuna", "search")
    journal = require("optuna.storages.journal", "search")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    file = journal.JournalFileBackend(str(folder.file("study.log")))
    study = optuna.create_study(
        study_name="sweep",
        storage=optuna.storages.JournalStorage(file),
        load_if_exists=True,
        direction="maximize",
    )
    # a worker that starts again must not draw once more what it drew at first
    drawn = random.Random(f"{worker} {len(study.get_trials(deepcopy=False))}")
    seed = drawn.randrange(2**31)
    if sweep.sampler == "random":
        study.sampler = optuna.samplers.RandomSampler(seed=seed)
    else:  # others' unfinished trials count as bad, so that two do not try the same
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return study


def _resumed_trial(study, worker):
    """Return the trial that this worker left when it was killed, or None."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "RUNNING" and trial.user_attrs.get("worker") == worker:
            return trial.number, parse_json(trial.user_attrs["settings"], "study.log")
    return None


def _new_trial(study, sweep, worker):
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


def _train_and_score(folder, sweep, number, settings):
    """Train the runs of a trial and return their mean score, or None where one failed."""
    scores = []
    for run in trial_runs(sweep, folder.path, number, settings):
        task = Task(run.name, run.arguments(), folder.log(run.name), run.done)
        if not run.done() and run_all([task]) != [True]:
            if exit_codes(task.log.read_text("utf-8", "replace"))[-1] == EXIT_CODE:
                raise Preempted("SIGTERM")
            return None
        score = compare_runs({run.name: read_history(run.path)})[0].get("val_auroc")
        if score is None:
            raise StmKerasError(f"{run.name}: has no validation AUROC to search by.")
        scores.append(score)
    return sum(scores) / len(scores)
