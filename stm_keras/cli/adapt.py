"""`stm-keras adapt`."""

import json
import sys
from datetime import date
from pathlib import Path

import click

from stm_keras.cli import options
from stm_keras.cli.convert import class_list, read_labelled
from stm_keras.files import check_outputs
from stm_keras.inference.find_model import DEFAULT
from stm_keras.terminal import shell


@click.command()
@click.argument("data", type=options.PATH)
@options.path("-o", "--output", help="Folder for the result. [runs/<date>-adapt]")
@click.option(
    "--model",
    "start",
    type=options.PATH,
    default=Path(DEFAULT),
    show_default=True,
    help="Model to start from: one of `stm-keras models`, a .keras file or a run.",
)
@options.path(
    "--compare",
    "before",
    help="Result of an earlier evening: compare with its labels alone, on the same folds.",
)
@options.path(
    "--records", help="Folder of the records of `stm-keras label`. [DATA/labels, or labels]"
)
@click.option("--classes", metavar="A,B,...", help="All classes. [those that are named]")
@options.count("--repeats", default=5, show_default=True, help="Of the folds.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@options.verbose
@options.overwrite
@options.keras_options
@options.as_json
def adapt(data, output, start, before, repeats, seed, overwrite, as_json, **read):
    """Adapt a model to a few labelled scans of your own.

    DATA is a dataset, or a folder of scans with labels as `stm-keras convert` takes it: 30 to
    300 scans, of three sessions or more. The network stays as it is and gets a new last layer
    for your classes, with boosted trees beside it where they help. The folder gets the model
    (best.keras, best.onnx), a card and a report with scores on sessions that were left out,
    and what more labels would bring (docs/surface.md).

    \b
        stm-keras adapt own.h5 -o runs/first
        stm-keras predict new_scan.sxm --model runs/first
        stm-keras adapt more.h5 -o runs/second --compare runs/first
    """
    from stm_keras.errors import OutputError
    from stm_keras.files import EXISTS
    from stm_keras.inference.find_model import find_model, read_metadata

    output = output or Path("runs") / f"{date.today().isoformat()}-adapt"
    check_outputs(
        {"--output": output}, [data, start, before, read["records"]], whole=["--output"]
    )
    if output.exists() and not overwrite:
        raise OutputError(EXISTS.format(output))
    file, _ = find_model(start)
    if before is not None:
        from stm_keras.runs import read_notes

        read_notes(before)  # which fails at once, not after the scans are read
    dataset, code = _read(data, output, read_metadata(file), **read)
    options.load_keras()
    from stm_keras.experiments.adapt_run import MODEL
    from stm_keras.experiments.adapt_run import adapt as run_adapt
    from stm_keras.reports.page import render

    command = shell(["stm-keras", *sys.argv[1:]])
    adapting = {
        "repeats": repeats,
        "seed": seed,
        "overwrite": overwrite,
        "command": command,
    }
    run = run_adapt(dataset, output, model=start, compare=before, **adapting)
    scores = run.scores() | {"model": str(output / MODEL)}
    if as_json:
        click.echo(json.dumps({"run": str(output), **scores}, allow_nan=False))
    else:
        click.echo(f"{output}\n" + render("adapted.txt", scores=scores).rstrip("\n"))
    command = ["stm-keras", "predict", "SCAN", "--model", str(output)]
    options.say_next(output / "report.html", output / MODEL, command)
    click.get_current_context().exit(code)


def _read(data, output, metadata, records, classes, verbose):
    """Read labelled scans, from a dataset or from files; return them and the exit code.

    They come in the lines and pixels of the start model, whose `metadata` these are.
    """
    from stm_keras.data.load import SHAPE, load_dataset
    from stm_keras.inference.scan_labels import find_labels

    classes, shape = class_list(classes), SHAPE
    if {"max_lines", "pixels"} <= metadata.keys():  # a model of another program has none
        shape = metadata["max_lines"], metadata["pixels"]
    labelled = find_labels(data, records, classes)
    if labelled is None:
        return load_dataset(data, shape=shape, classes=classes), 0
    dataset, _, code = read_labelled(labelled, output, None, True, verbose, shape)
    return dataset, code
