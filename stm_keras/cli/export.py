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
@options.overwrite
@options.as_json
@options.keras_options
def export(model, kind, output, overwrite, as_json):
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

    file, _ = find_model(model)
    if not needs_keras(file):
        raise UsageError(f"{file}: trees are shipped as they are: copy the file.")
    options.load_keras()
    from stm_keras.export import FORMATS
    from stm_keras.inference.model_file import load_predictor

    facts = FORMATS[kind](load_predictor(file), output, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        size = output.stat().st_size / 1e6
        click.echo(
            f"{output}: {size:.1f} MB, largest difference of a logit "
            f"{facts['largest_difference']:.1e} over {facts['scans']} scans"
        )
