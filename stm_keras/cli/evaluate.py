"""`stm-keras evaluate`, and scores as text."""

import json
from pathlib import Path

import click

from stm_keras.cli import options
from stm_keras.cli.predictors import trust_layers
from stm_keras.files import atomic, check_file, check_folder, check_outputs
from stm_keras.progress import progress, stage

HEADLINES = {  # score to its name
    "auroc": "AUROC (macro)",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "ece": "calibration error",
}


@click.command()
@click.argument("model", type=options.PATH)
@options.data
@click.option(
    "--split",
    "part",
    type=click.Choice(["test", "all"]),
    help="The test part of the model's run, or all scans. [test in a run, else all]",
)
@click.option(
    "--protocol",
    type=click.Choice(["p1", "p2", "p3"]),
    help="P2, P3: resample sessions for the intervals. [the run's; else p2 with sessions]",
)
@options.path(
    "--others",
    multiple=True,
    help="Scans of other surfaces, as predict takes them: how many are called unknown? Of an "
    "HDF5 file with `source` also by source and kind. May be repeated.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap."
)
@options.path("-o", "--output", help="Folder for report, scores, figures.")
@options.overwrite
@options.as_json
@options.trust_code
@options.keras_options
def evaluate(
    model, data, part, protocol, others, seed, output, overwrite, as_json, trust_code
):
    """Score a model on scans with known classes.

    MODEL is a .keras file or the folder of a run. Every score comes with a 95 %
    bootstrap interval, also for the scans of which only the first lines are seen.

    \b
        stm-keras evaluate runs/vit --data scans.h5
        stm-keras evaluate best.keras --data new_day.h5 --split all --protocol p2 --json
        stm-keras evaluate runs/sequential --data scans.h5 --others graphite.sxm
    """
    from stm_keras.data.load import load_dataset
    from stm_keras.inference.evaluate import select_scans
    from stm_keras.inference.find_model import find_model, needs_keras

    file, run = find_model(model)
    if output is not None:
        from stm_keras.evaluation.plots import NAMES

        files = [output / name for name in ("evaluation.json", "report.html", *NAMES)]
        own = [] if run is None else run.files()
        check_outputs({"--output": [output, *files]}, [file, data, *others, *own])
        for path in files:
            check_file(path, overwrite)
    dataset = load_dataset(data)
    chosen = select_scans(dataset, run, part, protocol)
    if output is not None:
        check_folder(output)
    if needs_keras(file):
        options.load_keras()
    if trust_code:
        trust_layers([model])
    from stm_keras.inference.evaluate import predict_by_lines, resampling_groups, score
    from stm_keras.inference.evaluate_unknown import (
        read_unknown,
        score_sources,
        score_unknown_scans,
    )
    from stm_keras.inference.model_file import load_predictor

    predictor = load_predictor(file)
    unknown = read_unknown(others, predictor) if others else None
    by_lines = predict_by_lines(predictor, dataset, chosen.indices, progress("scoring"))
    stage("resampling for intervals")
    scores = score(dataset, chosen.indices, by_lines, chosen.protocol, chosen.groups, seed)
    if unknown:
        groups = resampling_groups(dataset, chosen.indices, chosen.protocol, chosen.groups)
        part = dataset.take(chosen.indices)
        scores["unknown"] = score_unknown_scans(predictor, part, unknown, groups, seed)
        scores["sources"] = score_sources(predictor, part, others, groups, seed)
    scores |= {
        "protocol": chosen.protocol,
        "split": chosen.part,
        "model": str(file),
        "data": str(data),
        "source": dataset.source,
        "seed": seed,
    }
    if output is not None:
        stage("writing the report")
        _write(output, scores, predictor, dataset, chosen, by_lines, run, overwrite)
    click.echo(json.dumps(scores, allow_nan=False) if as_json else score_lines(scores))
    if output is not None:
        options.say_next(output / "report.html", file)


def _write(output, scores, predictor, dataset, chosen, by_lines, run, overwrite):
    from stm_keras.evaluation.history import read_history
    from stm_keras.evaluation.plots import write_figures
    from stm_keras.reports.evaluation import write_report
    from stm_keras.training.report import model_details

    part = dataset.take(chosen.indices)
    predictions = {"labels": part.labels, "probabilities": by_lines[max(by_lines)]}
    if part.name is not None:
        predictions["names"] = part.name
    epochs = run.file("history.csv") if run else Path()
    history = read_history(epochs) if epochs.is_file() else None
    write_report(
        output / "report.html",
        title=f"{Path(scores['model']).name} on {Path(scores['data']).name}",
        scores=scores,
        facts=model_details(predictor, dataset.source),
        history=history,
        predictions=predictions,
        images=part.images,
        overwrite=overwrite,
    )
    write_figures(output, scores, predictions, history, overwrite)
    with atomic(output / "evaluation.json", overwrite) as temporary:
        text = json.dumps(scores, indent=1, allow_nan=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def score_lines(scores):
    """Write the main scores of `score_predictions` as text."""
    from stm_keras.evaluation.scores import SUBSETS
    from stm_keras.reports.page import render

    text = render("scores.txt", scores=scores, headlines=HEADLINES, subsets=SUBSETS)
    return text.removesuffix("\n")
