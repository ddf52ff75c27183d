"""Leave an adapted model in a folder that other commands take as a run: files and report."""

import logging
from pathlib import Path

import numpy as np

from stm_keras.config import Config, dump_config
from stm_keras.data.split import Split
from stm_keras.errors import MissingExtraError
from stm_keras.evaluation.text import number
from stm_keras.export.formats import export_model
from stm_keras.files import atomic_folder
from stm_keras.inference.model_file import save_model
from stm_keras.reports.card import write_card
from stm_keras.reports.evaluation import write_report
from stm_keras.runs import NOTES, Run
from stm_keras.training.adapt import Adapted
from stm_keras.training.report import model_details
from stm_keras.training.run_data import describe_environment, training_metadata

MODEL, EXPORTED = "best.keras", "best.onnx"

logger = logging.getLogger(__name__)


def write_adapted(
    adapted: Adapted, path: str | Path, command: str, overwrite: bool = False
) -> dict:
    """Write model, exported model, card, report and notes into a new folder, whole or not at all.

    Returns:
        The scores, with `model`, the path of the `.keras` file.

    Raises:
        OutputError: The folder exists, or cannot be written.
    """
    path, dataset = Path(path), adapted.dataset
    notes = adapted.scores["adapted"]
    config = _config(adapted, path)
    split = Split(
        "p2",
        notes["seed"],
        None,
        {
            "train": np.arange(len(dataset)),
            **dict.fromkeys(("validation", "test"), _none()),
        },
        None,
        f"all {len(dataset)} scans; judged by {notes['repeats']} x {notes['folds']} folds",
    )
    environment = describe_environment(config, dataset)
    predictor = adapted.predictor
    predictor.metadata.update(
        training_metadata(config, dataset, split, environment, len(dataset))
    )
    predictor.metadata["scores"] = {_folds_text(notes): _headline(adapted.scores)}
    scores = {
        **adapted.scores,
        "protocol": "p1" if notes["optimistic"] else "p2",
        "split": "left out",
        "data": dataset.source,
        "parameters": predictor.metadata["parameters"],
    }
    with atomic_folder(path, NOTES, overwrite) as temporary:
        run = Run(temporary)
        run.write_text("command.txt", command + "\n")
        run.write_text("config.toml", dump_config(config))
        run.write_json("environment.json", environment)
        saved = {**split.to_json(), "dataset": dataset.digest()}
        run.write_json("split.json", saved)
        save_model(predictor.model, run.file(MODEL), predictor.metadata)
        try:
            export_model(predictor, run.file(EXPORTED))
        except MissingExtraError as error:
            logger.info(f"No {EXPORTED}: {error}")
        _write_report(run, adapted, scores)
        run.write_json("evaluation.json", scores)
        sessions = [] if dataset.session is None else np.unique(dataset.session).tolist()
        seen = {"hashes": adapted.hashes, "sessions": sessions}
        run.write_json(NOTES, {**notes, **seen})
    return {**scores, "model": str(path / MODEL)}


def _none():
    return np.zeros(0, int)


def _config(adapted, path):
    notes = adapted.scores["adapted"]
    return Config(
        name=_name(path),
        seed=notes["seed"],
        data={"path": adapted.dataset.source},
        model=adapted.settings.model_dump(),
        train={"init": notes["start"]},
    )


def _name(path):
    """Return the name of a folder as a config may have it."""
    kept = "".join(
        c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in path.name
    )
    return kept.strip("._-")[:200] or "adapt"


def _folds_text(notes):
    what = notes["optimistic"] or "unseen sessions"
    return f"{notes['repeats']} x {notes['folds']} folds, {what}"


def _headline(scores):
    names = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}
    return ", ".join(f"{title} {number(scores[key])}" for key, title in names.items())


def _write_report(run, adapted, scores):
    notes, dataset = scores["adapted"], adapted.dataset
    details = model_details(adapted.predictor, dataset.source, run)
    details |= {
        "model": f"{details['model']}, adapted from {notes['start']}",
        "figures show": f"the first of {notes['repeats']} repeats; scores are those of all",
        "labels": notes["labels"],
        "scores are of": _folds_text(notes),
    }
    for number_, each in enumerate(
        filter(None, [*notes["doubts"], notes["seen_before"]]), 1
    ):
        details[f"doubt {number_}"] = each
    predictions = {"labels": dataset.labels, "probabilities": adapted.probabilities}
    if dataset.name is not None:
        predictions["names"] = dataset.name
    write_report(
        run.file("report.html"),
        title=f"{run.config().name}: adapted to {notes['labels']} scans",
        scores=scores,
        facts=details,
        predictions=predictions,
        images=dataset.images,
    )
    write_card(run.file("card.md"), details, scores, model=adapted.predictor.metadata)
