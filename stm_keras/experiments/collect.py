"""What came of runs: the table of a sweep, and the scores of a benchmark over all its folds."""

import json
from statistics import mean, stdev

import numpy as np

from stm_keras.backend import BACKENDS
from stm_keras.config import config_word, differences, load_config, toml_value
from stm_keras.data.split import Split
from stm_keras.errors import StmKerasError
from stm_keras.evaluation.history import compare_runs, read_history
from stm_keras.evaluation.metrics import auroc, balanced_accuracy
from stm_keras.evaluation.scores import reliability_numbers
from stm_keras.experiments.queue import exit_codes
from stm_keras.runs import Run, legs
from stm_keras.signals import EXIT_CODE
from stm_keras.terminal import shell
from stm_keras.training.report import load_predictions

VALIDATION = ("val_auroc", "val_balanced_accuracy")
TEST = ("test_auroc", "test_balanced_accuracy")
# where scans come from and how folds are made of them: other options of the command say it
DATA_SETTINGS = {
    f"data.{name}" for name in ("path", "protocol", "fold", "num_folds", "fractions")
}


def run_state(run, log, queued=None):
    """Tell how far a run of a sweep is.

    Returns:
        Tuple of str: "done", "running", "queued", "failed", "interrupted", "begun" or
        "missing"; int, how often it was started; str, the error it ended with, or "".
    """
    text = log.read_text("utf-8", "replace") if log.is_file() else ""
    codes = exit_codes(text)
    errors = [line for line in text.splitlines() if line.startswith("Error: ")]
    if run.done():
        return "done", len(codes), ""
    if queued is not None:
        return queued.state, len(codes), ""
    if not codes:
        begun = text or (run.path / "config.toml").exists()
        return ("begun" if begun else "missing"), 0, ""
    if codes[-1] in (EXIT_CODE, 130):
        return "interrupted", len(codes), ""
    return "failed", len(codes), errors[-1] if errors else f"exit code {codes[-1]}"


def sweep_rows(folder, sweep, queued):
    """Collect what is known of each run of a `SweepFolder`: list of dict, the best first."""
    rows = []
    for run in folder.runs(sweep):
        state, starts, error = run_state(run, folder.log(run.name), queued.get(run.name))
        row = {"run": run.name, "state": state, **run.values, "seed": run.seed}
        row |= dict.fromkeys(("epochs", *VALIDATION, *TEST, "seconds"))
        row |= {"starts": starts, "error": error}
        if (run.path / "history.csv").exists():
            best = compare_runs({run.name: read_history(run.path)})[0]
            row |= {key: best.get(key) for key in ("epochs", *VALIDATION, "seconds")}
        if run.done():
            scores = Run(run.path).read_json("evaluation.json")
            row |= {key: scores.get(key.removeprefix("test_")) for key in TEST}
        rows.append(row)
    return _best_first(rows)


def mean_rows(rows, sweep):
    """Average finished runs over their seeds: list of dict, the best settings first."""
    groups = {}
    for row in rows:
        if row["state"] == "done":
            point = {key: row[key] for key in sweep.grid or sweep.space}
            key = json.dumps(point, allow_nan=False)
            groups.setdefault(key, (point, []))[1].append(row)
    means = []
    for point, group in groups.values():
        row = {**point, "runs": len(group)}
        for name in (*VALIDATION, *TEST):
            values = [each[name] for each in group if each[name] is not None]
            row[name] = mean(values) if values else None
            row[f"{name}_sd"] = stdev(values) if len(values) > 1 else None
        means.append(row)
    return _best_first(means)


def _best_first(rows):
    return sorted(rows, key=lambda row: -(row["val_auroc"] or 0))


def pool_folds(runs, dataset, seed=0):
    """Score each config and protocol of a benchmark on the test scans of all its folds.

    Every scan is judged by the one model that did not see its fold. Runs that are not done
    are left out and counted. Returns a list of dict, a row for each config and protocol.

    Raises:
        StmKerasError: A run was trained on other data.
    """
    digest = dataset.digest()
    groups = {}
    for run in runs:
        groups.setdefault((run.group, run.protocol), []).append(run)
    rows = []
    for folds in groups.values():
        done = [fold for fold in folds if fold.done()]
        if done:
            rows.append(_pool(folds, done, dataset, digest, seed))
    return rows


def _pool(folds, done, dataset, digest, seed):
    from stm_keras.inference.evaluate import score

    first, runs = done[0], [Run.open(fold.path) for fold in done]
    indices, by_lines, accuracies, areas = [], {}, [], []
    for run in runs:
        if run.read_json("split.json")["dataset"] != digest:
            raise StmKerasError(f"{run.path}: was trained on other data. Move it away.")
        tested, probabilities = load_predictions(run)
        indices.append(tested)
        for lines, values in probabilities.items():
            by_lines.setdefault(lines, []).append(values.astype(float))
        whole = probabilities[max(probabilities)]
        labels = dataset.labels[tested]
        classes = whole.shape[1]
        accuracies.append(float(balanced_accuracy(labels, whole.argmax(1), classes)))
        areas.append(float(auroc(labels, whole)[0]))
    indices = np.concatenate(indices)
    by_lines = {lines: np.concatenate(values) for lines, values in by_lines.items()}
    environments = [run.read_json("environment.json") for run in runs]
    all_legs = [leg for environment in environments for leg in legs(environment)]
    row = {
        "config": first.group,
        "base": first.config.stem,
        "protocol": first.protocol,
        "folds": len(folds),
        "folds_done": len(done),
        "fold_numbers": [fold.fold for fold in done],
        "command": repeat_command(folds, done, runs[0], environments[0]),
        "epochs": [len(run.epochs()) for run in runs],
        "seconds": [  # of all epochs of all trainings of a run
            round(sum(e["seconds"] for each in run.trainings() for e in each.epochs()), 1)
            for run in runs
        ],
        "backend": sorted({leg["backend"] for leg in all_legs}),
        "devices": sorted({", ".join(leg["devices"]) for leg in all_legs}),
        "precision": sorted({each["precision"] for each in environments}),
        "git": sorted({str(each["git"]) for each in environments}),
        "seed": environments[0]["seed"],
        "data": digest,
        "auroc_by_fold": areas,
        "balanced_accuracy_by_fold": accuracies,
        "parameters": (runs[0].read_json("evaluation.json") or {}).get("parameters"),
        "trust": _mean_trust(runs),
    }
    subsets = {
        "all": np.ones(len(indices), bool),
        "full agreement": dataset.full_agreement()[indices],
        "consensus": dataset.consensus()[indices],
    }
    for name, mask in subsets.items():
        if mask.any():
            part = {lines: values[mask] for lines, values in by_lines.items()}
            row[name] = score(dataset, indices[mask], part, first.protocol, seed=seed)
    return row


def pool_splices(runs, dataset, seed=0, progress=None):
    """Measure on splices of each fold's test scans how soon a new tip is named, see `splices`.

    Args:
        progress: callable that takes a name and returns a callable of (done, total), or None.

    Returns:
        dict of (config, protocol) to a dict, as of `splices.summarise`.
    """
    from stm_keras.inference.model_file import load_predictor
    from stm_keras.live.splices import judge_splices, splice_scans, summarise

    parts = {}
    for fold in runs:
        if not fold.done():
            continue
        run = Run.open(fold.path)
        if run.read_json("split.json")["dataset"] != dataset.digest():
            raise StmKerasError(f"{run.path}: was trained on other data. Move it away.")
        splices = splice_scans(dataset, load_predictions(run)[0], seed=seed + fold.fold)
        told = judge_splices(
            load_predictor(run.file("best.keras")),
            splices,
            progress and progress(f"{fold.key}: splices"),
        )
        parts.setdefault((fold.group, fold.protocol), []).append((fold.fold, told))
    return {
        key: {"folds": [fold for fold, _ in group]}
        | summarise([told for _, told in group], seed)
        for key, group in parts.items()
    }


def pool_context(runs, dataset, seed=0, progress=None):
    """Measure what the scans before a scan bring, on the test sessions of each fold.

    Args:
        progress: callable that takes a name and returns a callable of (done, total), or None.

    Returns:
        dict of (config, protocol) to a dict, as of `score_context`, and `folds`.
    """
    from stm_keras.inference.context import fit_context
    from stm_keras.inference.evaluate_context import judge_sessions, score_context
    from stm_keras.inference.find_model import find_model
    from stm_keras.inference.model_file import load_predictor

    parts = {}
    for fold in runs:
        if not fold.done() or fold.protocol == "p1":  # of which each session is in training
            continue
        run = Run.open(fold.path)
        saved = run.read_json("split.json")
        if saved["dataset"] != dataset.digest():
            raise StmKerasError(f"{run.path}: was trained on other data. Move it away.")
        split = Split.from_json(saved, len(dataset))
        trained = fit_context(dataset, np.unique(dataset.session[split.parts["train"]]))
        if trained is None:
            raise StmKerasError(
                f"{dataset.source}: too few scans are known to follow another of their run. "
                "--context needs `session` and `run` of each scan, and votes or labels."
            )
        judged = judge_sessions(
            load_predictor(find_model(run.path)[0]),
            dataset,
            split.parts["test"],
            np.array(trained["transitions"]),
            progress and progress(f"{fold.key}: scans before"),
        )
        parts.setdefault((fold.group, fold.protocol), []).append((fold.fold, judged))
    return {
        key: {"folds": [fold for fold, _ in group]}
        | score_context([judged for _, judged in group], seed)
        for key, group in parts.items()
    }


def _mean_trust(runs):
    """Average over folds what the runs say of abstention, unknown surfaces and changes."""
    numbers = {}
    for run in runs:
        scores = run.read_json("evaluation.json") or {}
        for name, value in reliability_numbers(scores).items():
            numbers.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in numbers.items()}


def repeat_command(folds, done, run, environment):
    """Return the command that makes finished folds again, without paths of this machine."""
    first = done[0]
    command = ["stm-keras", "benchmark", config_word(first.config), "--data", "scans.h5"]
    command += ["--protocols", first.protocol]
    if first.variant:
        command += ["--vary", f"{first.variant}:{','.join(first.variant_settings)}"]
    if len(done) < len(folds) or first.variant:
        command += [part for each in done for part in ("--only", each.key)]
    used = run.config()
    # the config file may be elsewhere, where runs were brought together
    config = first.config if first.config.exists() else None
    for key in differences(load_config(config, first.variant_settings), used):
        section, _, name = key.rpartition(".")
        values = getattr(used, section) if section else used
        if key not in DATA_SETTINGS and section != "simulate" and hasattr(values, name):
            command += ["--set", f"{key}={toml_value(getattr(values, name))}"]
    if environment["backend"] in BACKENDS:  # trees have none
        command += ["--backend", environment["backend"]]
    return shell(command)
