"""Adapt a model, and leave it in a folder that other commands take as a run: files and report."""

import logging
import os
from pathlib import Path

import numpy as np

from stm_keras.config import Config, dump_config
from stm_keras.data.dataset import Dataset
from stm_keras.data.load import load_dataset
from stm_keras.data.split import Split
from stm_keras.errors import MissingExtraError, OutputError
from stm_keras.evaluation.repeated import REPEATS
from stm_keras.evaluation.text import number
from stm_keras.export.formats import export_model
from stm_keras.files import EXISTS, atomic_folder
from stm_keras.inference.find_model import DEFAULT, find_model
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.progress import progress_on_stderr
from stm_keras.reports.card import write_card
from stm_keras.reports.evaluation import write_report
from stm_keras.runs import NOTES, read_notes
from stm_keras.training import adapt as fitting
from stm_keras.training.adapt import Adapted
from stm_keras.training.python import Run
from stm_keras.training.report import model_details
from stm_keras.training.run_data import describe_environment, training_metadata

MODEL, EXPORTED = "best.keras", "best.onnx"

logger = logging.getLogger(__name__)


def adapt(
    data: Dataset | str | Path,
    output: str | Path,
    *,
    model: str | Path = DEFAULT,
    compare: str | Path | None = None,
    repeats: int = REPEATS,
    seed: int = 0,
    overwrite: bool = False,
    command: str = "stm_keras.adapt",
) -> Run:
    """Adapt a model to a few labelled scans of one's own, as `stm-keras adapt` does.

    The network stays as it is and gets a new last layer for the classes of the scans.

    Args:
        data: 30 to 300 labelled scans, of three sessions or more, in the lines and pixels of
            the start model; or their file, as of `stm-keras convert`.
        output: Folder for the result: `best.keras`, `best.onnx`, a card, a report.
        model: The start model: one that comes with stm-keras, a `.keras` file or a run.
        compare: Result of an earlier `adapt`: its labels alone are judged on the same folds.
        repeats: Of the folds.
        overwrite: Whether to replace what an earlier `adapt` left there.
        command: What the folder notes as its origin.

    Returns:
        The `Run`; its `scores()` are of sessions that were left out.

    Raises:
        StmKerasError: The scans do not allow it, or the folder exists.
    """
    output = Path(output)
    if os.path.lexists(output) and not overwrite:
        raise OutputError(EXISTS.format(output))
    before = None if compare is None else read_notes(compare)
    start = load_predictor(find_model(model)[0])
    if not isinstance(data, Dataset):
        data = load_dataset(data)
    with progress_on_stderr():
        scans = fitting.usable_scans(data)
        adapted = fitting.adapt(scans, start, str(model), seed, repeats, before)
        _write(adapted, output, command, overwrite)
    return Run(output)


def _write(adapted: Adapted, path: Path, command: str, overwrite: bool) -> None:
    """Write model, exported model, card, report and notes into a folder, whole or not at all."""
    dataset = adapted.dataset
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
