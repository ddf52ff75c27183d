"""Close a run: judge the test part with its best model, score it, write report and card."""

import logging

import numpy as np

from stm_keras.errors import InputError
from stm_keras.files import atomic
from stm_keras.inference.evaluate import predict_by_lines, reliability_scores, score
from stm_keras.inference.find_model import find_model
from stm_keras.progress import progress, stage
from stm_keras.reports.card import write_card
from stm_keras.runs import legs
from stm_keras.untrusted import read_arrays, read_text

PREDICTIONS, VALIDATION = "predictions.npz", "validation.npz"

logger = logging.getLogger(__name__)


def report_run(run, predictor, dataset, split):
    """Judge and score the test part of a run with its best model, once: evaluation.json.

    A run that kept nothing for a test is scored on its validation part, and says so: by
    the predictions of the model before `train.refit`.
    """
    scores = run.scores()
    if scores is not None and run.file("report.html").exists():
        return scores
    part = "test" if len(split.parts["test"]) else "validation"
    indices = split.parts[part]
    refit = part == "validation" and run.file(VALIDATION).exists()  # trained on them last
    if refit:
        indices, by_lines = load_predictions(run, VALIDATION)
    logger.info(f"Judging {len(indices)} {part} scans.")
    if not refit:
        by_lines = predict_by_lines(predictor, dataset, indices, progress("judging"))
    save_predictions(run, indices, by_lines)
    stage("resampling for intervals, and judging simulated scans")
    scores = score(dataset, indices, by_lines, split.protocol, split.groups)
    groups = None if split.groups is None else np.asarray(split.groups)[indices]
    setting = None  # scans that set the thresholds cannot score them
    if part == "test":
        setting = _validation_probabilities(run, predictor, dataset, split)
    scans = dataset.take(indices)
    scores |= reliability_scores(predictor, scans, setting, groups, trained_on=refit)
    scores |= {
        "protocol": split.protocol,
        "fold": split.fold,
        "split": part,
        "model": str(find_model(run.path)[0]),
        "data": dataset.source,
        "parameters": predictor.metadata.get("parameters"),
    }
    stage("writing the report")
    _write_report(run, predictor, scans, by_lines[max(by_lines)], scores)
    run.write_json("evaluation.json", scores)
    return scores


def _validation_probabilities(run, predictor, dataset, split):
    """Return probabilities of the validation scans by a model that was not trained on them.

    A refit model was: the predictions of the one before are in the run.
    """
    if run.file(VALIDATION).exists():
        _, by_lines = load_predictions(run, VALIDATION)
        return by_lines[max(by_lines)]
    chosen = split.parts["validation"]
    return predictor.probabilities(dataset.take(chosen).images) if len(chosen) else None


def save_predictions(run, indices, by_lines, name=PREDICTIONS):
    """Write `predictions.npz` of a run: probabilities `(scans, classes)` by lines seen."""
    with atomic(run.file(name), overwrite=True) as temporary:
        np.savez_compressed(
            temporary,
            indices=indices,
            lines=np.array(sorted(by_lines)),
            probabilities=np.stack([by_lines[n] for n in sorted(by_lines)]).astype("f4"),
        )


def load_predictions(run, name=PREDICTIONS):
    """Read `predictions.npz`: int array of scans, and dict of lines to probabilities."""
    path = run.file(name)
    file = read_arrays(path, "the predictions of a run")
    names = ("indices", "lines", "probabilities")
    indices, lines, values = (file.get(each, np.zeros(0)) for each in names)
    fits = indices.ndim == lines.ndim == 1 and indices.dtype.kind == lines.dtype.kind == "i"
    fits = fits and values.ndim == 3 and values.shape[:2] == (len(lines), len(indices))
    finite = values.size and values.dtype.kind == "f" and np.isfinite(values).all()
    if not (fits and finite):
        raise InputError(f"{path}: is damaged (no probabilities). Train into a new folder.")
    return indices, dict(zip(lines.tolist(), values, strict=True))


def model_details(predictor, source, run=None):
    """Collect the details of a model and its training for a report: dict of str to str."""
    training = predictor.metadata.get("training")
    name = predictor.architecture
    if name is None:  # an exported model lost it
        name = "exported" if training is None else training["config"]["model"]["name"]
    details = {"data": source, "model": name}
    if run is not None and run.file("command.txt").exists():
        details["command"] = read_text(run.file("command.txt")).strip()
    if training is None:
        return details | {"origin": "not trained by stm-keras"}
    environment = training["environment"]
    if training["config"]["data"]["path"] is None:
        details["data_licence"] = "simulated scans, none needed"
    details |= {
        "parameters": f"{predictor.metadata['parameters']:,}",
        "training data": environment["dataset"]["source"],
        "training data sha256": environment["dataset"]["sha256"],
        **_refit(training),
        "seed": str(training["config"]["seed"]),
    }
    if "best" in training:  # trees have no epochs
        own = training["config"]["train"]["epochs"]
        epochs = own if run is None else run.config().train.epochs  # prolonged since
        details["best epoch"] = f"{training['best']['epoch']} of {epochs}"
    preprocessing = {"preprocessing": predictor.metadata["preprocessing"]}
    return details | _environment(environment) | preprocessing


def _environment(environment):
    """Describe where a model was trained: of each leg, where they differ."""

    def pairs(values, sign):
        return ", ".join(f"{key}{sign}{value}" for key, value in values.items())

    def hosts(leg):  # version 0.1.0 wrote none
        names = leg.get("parallel", {}).get("hosts") or [leg.get("host")]
        return ", ".join(dict.fromkeys(filter(None, names)))

    readers = {
        "date": lambda leg: leg.get("started"),
        "backend": lambda leg: leg["backend"],
        "devices": lambda leg: ", ".join(leg["devices"]),
        "machine": hosts,
        "precision": lambda leg: leg["precision"],
        "stm-keras": lambda leg: leg.get("stm_keras"),
        "git": lambda leg: leg["git"] or "not a checkout",
        "versions": lambda leg: pairs(leg.get("packages", {}), " "),
        "variables": lambda leg: pairs(leg.get("variables", {}), "="),
    }
    texts = {
        key: dict.fromkeys(filter(None, map(read, legs(environment))))
        for key, read in readers.items()
    }
    return {key: ", then ".join(each) for key, each in texts.items() if each}


def _refit(training):
    """Describe a last training on the validation scans too, if there was one."""
    if "refit" not in training:
        return {}
    known = training.get("calibration", {"folds": 1, "scans": training["refit"]})
    models = "a model" if known["folds"] == 1 else f"{known['folds']} models"
    text = (
        f"on {training['refit']} validation scans too; confidence and thresholds come from the "
        f"answers of {models} to {known['scans']} scans that were not trained on"
    )
    return {"trained once more": text}


def _write_report(run, predictor, scans, probabilities, scores):
    from stm_keras.evaluation.history import read_history
    from stm_keras.reports.evaluation import write_report

    details = model_details(predictor, scans.source, run)
    predictions = {"labels": scans.labels, "probabilities": probabilities}
    if scans.name is not None:
        predictions["names"] = scans.name
    write_report(
        run.file("report.html"),
        title=f"{run.config().name}: tip state on {len(scans)} {scores['split']} scans",
        scores=scores,
        facts=details,
        history=read_history(run.file("history.csv")),
        predictions=predictions,
        images=scans.images,
        traces=_traces(predictor, scans, probabilities),
        overwrite=True,
    )
    write_card(run.file("card.md"), details, scores, True, predictor.metadata)


def _traces(predictor, scans, probabilities):
    """Collect what the report draws of a few scans: evidence, or attention, by line."""
    from stm_keras.evaluation.scan_figures import choose_examples

    def drawn(chosen):
        return {
            "scans": scans.images[chosen],
            "labels": scans.labels[chosen],
            "classes": predictor.classes,
            "names": None if scans.name is None else scans.name[chosen],
        }

    if predictor.every_line:
        state = predictor.after_every_line(scans.images)
        chosen = choose_examples(scans.labels, state)
        change = predictor.heads(scans.images[chosen]).get("change")
        return {**drawn(chosen), "state": state[chosen], "change": change}
    chosen = choose_examples(scans.labels, probabilities[:, None])
    attention = predictor.line_attention(scans.images[chosen])
    return None if attention is None else {**drawn(chosen), "attention": attention}
