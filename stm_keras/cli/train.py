"""`stm-keras train`."""

import json

import click

from stm_keras.cli import options
from stm_keras.config import load_config
from stm_keras.runs import Run, default_path


@click.command()
@click.argument("config", type=options.PATH, required=False)
@click.option("--data", help="Dataset to train on. Default: simulated scans.")
@click.option("-o", "--output", type=options.PATH, help="Run folder. [runs/<date>-<name>]")
@click.option("--epochs", type=int, help="Short for --set train.epochs=...")
@click.option("--batch-size", type=int, help="Short for --set train.batch_size=...")
@click.option("--learning-rate", type=float, help="Short for --set train.learning_rate=...")
@click.option("--seed", type=int, help="Short for --set seed=...")
@click.option("--protocol", help="p1, p2 or p3: short for --set data.protocol=...")
@click.option("--fold", type=int, help="Test fold: short for --set data.fold=...")
@click.option("--precision", help="float32, mixed_bfloat16 or mixed_float16.")
@click.option(
    "--set", "settings", multiple=True, help="section.key=value; may be repeated."
)
@options.keras_options
@options.as_json
def train(
    config,
    data,
    output,
    epochs,
    batch_size,
    learning_rate,
    seed,
    protocol,
    fold,
    precision,
    settings,
    as_json,
):
    """Train a model as CONFIG says. Start again to resume.

    Without CONFIG it trains a small model on simulated scans, in a few minutes. The
    run folder gets the model (best.keras), the history, the scores on the test part
    and a report.

    \b
        stm-keras train
        stm-keras train configs/vit.toml --data scans.h5 -o runs/vit --epochs 60
        stm-keras train --backend jax --set model.layers=6 --set augment.cut=0.5
    """
    shorts = {
        "data.path": data,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.learning_rate": learning_rate,
        "seed": seed,
        "data.protocol": protocol,
        "data.fold": fold,
        "train.precision": precision,
    }
    given = [(key, value) for key, value in shorts.items() if value is not None]
    resolved = load_config(config, [*settings, *given])
    run = Run.start(output or default_path(resolved), resolved)
    with run.locked():
        options.load_keras()
        from stm_keras.training.finish import finish
        from stm_keras.training.train import train as fit

        try:
            predictor, dataset, split = fit(resolved, run, options.say)
            scores = finish(run, predictor, dataset, split, options.say)
        except KeyboardInterrupt:
            options.say(f"\nInterrupted. Type the same command to go on in {run.path}.")
            click.get_current_context().exit(130)
    if as_json:
        click.echo(json.dumps({"run": str(run.path), **scores}))
    else:
        from stm_keras.cli.show import score_lines

        click.echo(f"{run.path}\n" + score_lines(scores))
