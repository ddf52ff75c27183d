"""`stm-keras models`."""

import json

import click

from stm_keras.cli import options


@click.command()
@options.as_json
def models(as_json):
    """List the models that come with stm-keras.

    `stm-keras predict` takes any of them by name, and the first where none is named.

    \b
        stm-keras models
        stm-keras predict scan.png --model h_si100_simulated
    """
    from stm_keras.inference.shipped import shipped_models

    found = shipped_models()
    if as_json:
        click.echo(json.dumps([model.to_json() for model in found], allow_nan=False))
        return
    if not found:
        click.echo("No models come with this installation.")
    for model in found:
        table = model.to_json()
        sizes = ", ".join(
            f"{kind} {size / 1e6:.1f} MB" for kind, size in table["files"].items()
        )
        click.echo(f"{model.name}: {', '.join(table['classes'])}")
        click.echo(f"    {table['parameters']:,} weights, {sizes}")
        for name, text in table["scores"].items():
            click.echo(f"    {name}: {text}")
        if model.card is not None:
            click.echo(f"    card: {model.card}")
