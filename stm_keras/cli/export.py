"""`stm-keras export`."""

import json

import click

from stm_keras.cli import options
from stm_keras.errors import UsageError


@click.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["keras", "onnx"]),
    help="File format. Default: onnx for a name that ends in .onnx, else keras.",
)
@click.option("-o", "--output", type=options.PATH, required=True, help="File to write.")
@click.option(
    "--scores",
    type=options.PATH,
    help="Results of a benchmark or an evaluation (JSON): what the recipe or the model "
    "reached goes into the file, and a model card is written beside it.",
)
@click.option("--data-licence", help="Of the training data, for the card.")
@options.overwrite
@options.as_json
@options.keras_options
def export(model, kind, output, scores, data_licence, overwrite, as_json):
    """Write a model as a file for others.

    MODEL is a .keras file or the folder of a run. A .keras file runs under every backend;
    an .onnx file holds the step from line to line of a model that answers after every
    line, and needs onnxruntime alone. Both carry class names, preprocessing and training
    facts, and are compared with the original before they get their name.

    \b
        stm-keras export runs/vit -o h_si100.keras
        stm-keras export runs/sequential -o h_si100.onnx
    """
    if kind is None:
        kind = "onnx" if output.suffix == ".onnx" else "keras"
    from stm_keras.inference.choice import find_model, needs_keras

    file, run = find_model(model)
    if not needs_keras(file):
        raise UsageError(f"{file}: trees are shipped as they are: copy the file.")
    options.load_keras()
    from stm_keras.export import FORMATS
    from stm_keras.inference.model_file import load_predictor

    predictor = load_predictor(file)
    if scores is not None:
        predictor, row = _scored(predictor, scores)
    facts = FORMATS[kind](predictor, output, overwrite=overwrite)
    if scores is not None:
        from stm_keras.training.ship import write_shipped_card

        card = output.with_suffix(".md")
        write_shipped_card(card, predictor, row, run, data_licence, overwrite=True)
        options.say(f"{card}: the model card.")
    if as_json:
        click.echo(json.dumps(facts))
    else:
        size = output.stat().st_size / 1e6
        click.echo(
            f"{output}: {size:.1f} MB, largest difference of a logit "
            f"{facts['largest_difference']:.1e} over {facts['scans']} scans"
        )


def _scored(predictor, scores):
    """Find what the recipe of a model reached, and put it among the model's facts."""
    from dataclasses import replace

    from stm_keras.training.ship import read_scores, with_scores

    training = predictor.facts.get("training")
    if training is None:
        raise UsageError("`--scores`: the model does not say how it was trained.")
    row = read_scores(scores, training["config"]["name"])
    return replace(predictor, facts=with_scores(predictor, row)), row
