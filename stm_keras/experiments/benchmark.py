"""Train configs fold by fold under each protocol, and pool what they say of unseen scans.

Each fold is a run of its own, made by `stm-keras train` in a process of its own: one that
is there already is not made again, so a benchmark may be interrupted, spread over nights
or brought together from several machines.
"""

import numpy as np

from stm_keras.backend import BACKENDS
from stm_keras.config import config_word, differences, load_config, toml_value
from stm_keras.errors import StmKerasError
from stm_keras.evaluation.metrics import auroc, balanced_accuracy
from stm_keras.evaluation.scores import reliability_numbers
from stm_keras.experiments.queue import Task, run_all
from stm_keras.runs import SPLIT, Run, legs
from stm_keras.terminal import shell
from stm_keras.training.report import load_predictions

# where scans come from and how folds are made of them: other words of the command say it
PLACES = {f"data.{name}" for name in ("path", "protocol", "fold", "num_folds", "fractions")}


def train_folds(folds, data, arguments=(), jobs=1, say=print):
    """Make the runs that are not there yet, each in a process of its own.

    Args:
        folds: list of `Fold`.
        data: `Path` of the dataset.
        arguments: sequence of str, passed on to `stm-keras train`.
        jobs: int. Runs at a time.
        say: callable of str.

    Returns:
        list of `Fold` that failed.
    """
    waiting = [fold for fold in folds if not fold.done()]
    say(f"{len(folds)} runs, {len(folds) - len(waiting)} of them done.")

    def task(fold):
        words = [
            "train",
            str(fold.config),
            "--data",
            str(data),
            "--protocol",
            fold.protocol,
        ]
        words += ["--fold", str(fold.number), "--output", str(fold.path), *arguments]
        words += [word for setting in fold.settings for word in ("--set", setting)]
        log = fold.path.with_name(f"{fold.path.name}.log")
        return Task(fold.key, words, log, fold.done)

    made = run_all([task(fold) for fold in waiting], jobs, say)
    return [fold for fold, ok in zip(waiting, made, strict=True) if not ok]


def pool_folds(folds, dataset, seed=0):
    """Score each config and protocol on the test scans of all its folds together.

    Every scan is judged by the one model that did not see its fold.

    Args:
        folds: list of `Fold`; those that are not done are left out and counted.
        dataset: The `Dataset` they were trained on.
        seed: int. Of the bootstrap.

    Returns:
        list of dict, JSON-ready, a row for each config and protocol.

    Raises:
        StmKerasError: A run was trained on other data.
    """
    digest = dataset.digest()
    rows = []
    for name, protocol in dict.fromkeys((f.name, f.protocol) for f in folds):
        own = [f for f in folds if (f.name, f.protocol) == (name, protocol)]
        done = [fold for fold in own if fold.done()]
        if done:
            rows.append(_pool(own, done, dataset, digest, seed))
    return rows


def _pool(folds, done, dataset, digest, seed):
    from stm_keras.inference.evaluate import score

    indices, by_lines, runs, spread, areas = [], {}, [], [], []
    for fold in done:
        run = Run.open(fold.path)
        if run.read_json("split.json", SPLIT)["dataset"] != digest:
            raise StmKerasError(f"{fold.path}: was trained on other data. Move it away.")
        found, probabilities = load_predictions(run)
        indices.append(found)
        for lines, values in probabilities.items():
            by_lines.setdefault(lines, []).append(values.astype(float))
        whole = probabilities[max(probabilities)]
        labels = dataset.labels[found]
        spread.append(float(balanced_accuracy(labels, whole.argmax(1), whole.shape[1])))
        areas.append(float(auroc(labels, whole)[0]))
        runs.append(run)
    indices = np.concatenate(indices)
    by_lines = {lines: np.concatenate(values) for lines, values in by_lines.items()}
    subsets = {
        "all": np.ones(len(indices), bool),
        "full agreement": dataset.full_agreement()[indices],
        "consensus": dataset.consensus()[indices],
    }
    environments = [run.read_json("environment.json") for run in runs]
    histories = [run.epochs() for run in runs]
    row = {
        "config": done[0].name,
        "base": done[0].config.stem,
        "protocol": done[0].protocol,
        "folds": len(folds),
        "folds_done": len(done),
        "fold_numbers": [fold.number for fold in done],
        "command": repeat_command(folds, done, runs[0], environments[0]),
        "epochs": [len(rows) for rows in histories],
        "seconds": [
            round(sum(row["seconds"] for own in run.trainings() for row in own.epochs()), 1)
            for run in runs
        ],
        "backend": sorted({leg["backend"] for e in environments for leg in legs(e)}),
        "devices": sorted(
            {", ".join(leg["devices"]) for e in environments for leg in legs(e)}
        ),
        "precision": sorted({e["precision"] for e in environments}),
        "git": sorted({str(e["git"]) for e in environments}),
        "seed": environments[0]["seed"],
        "data": digest,
        "auroc_by_fold": areas,
        "balanced_accuracy_by_fold": spread,
        "parameters": (runs[0].read_json("evaluation.json") or {}).get("parameters"),
        "trust": _trust(runs),
    }
    for name, mask in subsets.items():
        if mask.any():
            part = {lines: values[mask] for lines, values in by_lines.items()}
            row[name] = score(dataset, indices[mask], part, done[0].protocol, seed=seed)
    return row


def _trust(runs):
    """Average over folds what the runs say of abstention, unknown surfaces and changes."""
    found = {}
    for run in runs:
        for name, value in reliability_numbers(
            run.read_json("evaluation.json") or {}
        ).items():
            found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def repeat_command(folds, done, run, environment):
    """Return the command that makes finished folds again, without paths of this machine.

    Args:
        folds: list of `Fold`, all of one name and protocol.
        done: list of `Fold`, those that are finished.
        run: The `Run` of one of them.
        environment: dict, its environment.json.

    Returns:
        str.
    """
    fold = done[0]
    config = fold.config
    words = ["stm-keras", "benchmark", config_word(config), "--data", "scans.h5"]
    words += ["--protocols", fold.protocol]
    if fold.variant:
        words += ["--vary", f"{fold.variant}:{','.join(fold.settings)}"]
    if len(done) < len(folds) or fold.variant:
        words += [word for each in done for word in ("--only", each.key)]
    used = run.config()
    # the config file may be elsewhere, where runs were brought together
    base = load_config(config if config.exists() else None, fold.settings)
    for key in differences(base, used):
        section, _, name = key.rpartition(".")
        values = getattr(used, section) if section else used
        if key not in PLACES and section != "simulate" and hasattr(values, name):
            words += ["--set", f"{key}={toml_value(getattr(values, name))}"]
    if environment["backend"] in BACKENDS:  # trees have none
        words += ["--backend", environment["backend"]]
    return shell(words)
