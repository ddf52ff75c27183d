"""`stm-keras analyze`."""

import json

import click

from stm_keras.cli import options
from stm_keras.files import atomic
from stm_keras.runs import Run


@click.command()
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@click.option("--curves", type=options.PATH, help="Draw the training curves to this PNG.")
@options.overwrite
@options.as_json
def analyze(runs, curves, overwrite, as_json):
    """Show the best and latest epoch of one run, or compare several.

    \b
        stm-keras analyze runs/vit
        stm-keras analyze runs/* --curves curves.png
    """
    from stm_keras.evaluation.history import compare_runs, read_history, summarise_run

    histories, scores = {}, {}
    for path in runs:
        run = Run.open(path)
        histories[str(path)] = read_history(run.file("history.csv"))
        scores[str(path)] = run.read_json("evaluation.json")
    if curves is not None:
        from stm_keras.evaluation.plots import figure_png, training_curves

        with atomic(curves, overwrite) as temporary:
            temporary.write_bytes(figure_png(training_curves(histories)))
    if len(histories) == 1:
        ((path, history),) = histories.items()
        rows = summarise_run(history)
    else:
        rows = compare_runs(histories, scores)
    click.echo(json.dumps(rows) if as_json else table(rows))


def table(rows):
    """Lay out a list of dicts with the same keys as text columns."""
    if not rows:
        return "nothing yet"
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [columns, *cells]
    )


def _cell(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
