"""`stm-keras export`."""

import json

import click

from stm_keras.cli import options


@click.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["keras"]),
    default="keras",
    show_default=True,
    help="File format.",
)
@click.option("-o", "--output", type=options.PATH, required=True, help="File to write.")
@options.overwrite
@options.as_json
@options.keras_options
def export(model, kind, output, overwrite, as_json):
    """Write a model as a file for others.

    MODEL is a .keras file or the folder of a run. The .keras file that is written holds
    class names, preprocessing and training facts, runs under every backend, and is
    compared with the original before it gets its name.

    \b
        stm-keras export runs/vit --format keras -o h_si100.keras
    """
    from stm_keras.inference.choice import find_model

    file, _ = find_model(model)
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
