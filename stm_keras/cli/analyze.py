"""`stm-keras analyze`."""

import json

import click

from stm_keras.cli import options
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.files import atomic, check_outputs
from stm_keras.runs import AGAIN, NOTES, Run
from stm_keras.terminal import one_line

SHOWN = (
    "epochs",
    "best_epoch",
    "val_auroc",
    "val_balanced_accuracy",
    "val_loss",
    "seconds",
)


@click.command()
@click.argument("runs", type=options.PATH, nargs=-1, required=True)
@options.path("--curves", help="Draw the training curves to this PNG.")
@options.path("-o", "--output", "csv_file", help="Write a sweep's table to this CSV file.")
@options.overwrite
@options.as_json
def analyze(runs, curves, csv_file, overwrite, as_json):
    """Show the epochs of one run, or compare several.

    Of one run it shows the best and the latest epoch for each score, of several the
    best epoch of each run, the best run first. A run that cannot be read is reported
    and the others are compared still; the exit code is then 3. --json prints a list
    with an object for each run. Of the folder of a sweep it shows how far each run is,
    and the scores of each setting over its seeds.

    \b
        stm-keras analyze runs/vit
        stm-keras analyze runs --curves curves.png
        stm-keras analyze sweeps/decay -o decay.csv
    """
    if curves is not None and curves.suffix.lower() != ".png":
        raise UsageError(f"`--curves` writes PNG. Received: {curves}. Name it .png.")
    from stm_keras.experiments.sweep import SweepFolder

    if len(runs) == 1 and SweepFolder(runs[0]).exists():
        if curves is not None:
            raise UsageError("`--curves` is of runs: stm-keras analyze SWEEP/runs/*.")
        return _show_sweep(SweepFolder(runs[0]), csv_file, overwrite, as_json)
    if csv_file is not None:
        raise UsageError("`--output` writes the table of one sweep: its folder alone.")
    from stm_keras.evaluation.history import best_epochs, compare_runs, read_history

    runs = [run for path in runs for run in _runs_below(path)]
    check_outputs(
        {"--curves": curves}, [file for path in runs for file in Run(path).files()]
    )
    histories, adapted, tests, code = {}, {}, {}, 0
    for path in runs:
        try:
            run = Run.open(path)
            tests[str(path)] = _test_scores(run)
            if run.file(NOTES).exists():
                adapted[str(path)] = run.scores()
                continue
            histories[str(path)] = read_history(run.file("history.csv"))
        except StmKerasError as error:
            code = options.report(error, code)
    rows = [
        {**row, "scores": best_epochs(histories[row["run"]]), "test": tests[row["run"]]}
        for row in compare_runs(histories)
    ]
    if curves is not None and histories:
        from stm_keras.evaluation.plots import plot_history
        from stm_keras.evaluation.style import figure_png

        with atomic(curves, overwrite) as temporary:
            temporary.write_bytes(figure_png(plot_history(histories)))
    if as_json:
        rows += [{"run": path, "epochs": 0, "test": tests[path]} for path in adapted]
        click.echo(json.dumps(rows, allow_nan=False))
        rows, adapted = [], {}
    for path, scores in adapted.items():
        click.echo(_adapted(path, scores))
    if not as_json and len(runs) == 1 and rows:
        click.echo(_one_run(rows[0]))
    elif rows:
        click.echo(_several_runs(rows))
    if code:
        click.get_current_context().exit(code)
    return None


def _runs_below(path):
    """Return the runs of a folder of runs; of any other path itself."""
    if (path / "config.toml").exists():
        return [path]
    return sorted(each.parent for each in path.glob("*/config.toml")) or [path]


def table(rows):
    """Lay out a list of dicts with the same keys as text columns."""
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in [columns, *cells]
    )


def _show_sweep(folder, csv_file, overwrite, as_json):
    """Show how far the runs of a sweep are."""
    from stm_keras.experiments.collect import mean_rows, sweep_rows
    from stm_keras.runs import csv_text

    check_outputs({"--output": csv_file}, folder.files())
    sweep = folder.sweep()
    rows = sweep_rows(folder, sweep, folder.jobs.queued())
    summary = mean_rows(rows, sweep)
    if csv_file is not None and rows:
        with atomic(csv_file, overwrite) as temporary:
            temporary.write_text(csv_text(rows, list(rows[0])), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"runs": rows, "settings": summary}, allow_nan=False))
        return
    states = [row["state"] for row in rows]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
    shown = [{key: value for key, value in row.items() if key != "error"} for row in rows]
    click.echo(table(shown) if rows else "no trial has begun")
    for row in rows:
        if row["error"]:
            click.echo(one_line(f"{row['run']}: {row['error']}"))
    if summary and sweep.seeds > 1:
        click.echo("\nmean and standard deviation over seeds\n" + table(summary))
    click.echo(f"\n{counts or 'no runs'}")


def _test_scores(run):
    scores = run.read_json("evaluation.json", ("auroc", "balanced_accuracy", "n"))
    if scores is None:
        return None
    keys = ("auroc", "balanced_accuracy", "n", "protocol")
    scores = {key: scores.get(key) for key in keys}
    return {**scores, "refit": (run.path / AGAIN / "best.keras").exists()}


def _one_run(row):
    text = table([{"score": name, **values} for name, values in row["scores"].items()])
    test = row["test"]
    protocol = ((test or {}).get("protocol") or "-").upper()
    if test is None:
        return f"{text}\nnot scored on its test scans yet"
    if test["refit"]:
        text += "\nThe epochs are those of the first training; the model that was scored was then"
        text += " trained once more, on the validation scans too."
    return (
        f"{text}\ntest: AUROC {_cell(test['auroc'])}, balanced accuracy "
        f"{_cell(test['balanced_accuracy'])} ({test['n']} scans, {protocol})"
    )


def _adapted(path, scores):
    """Say what is known of a folder of `stm-keras adapt`, which has no epochs."""
    text = f"{path}: adapted from another model, so there are no epochs"
    if scores is None:
        return f"{text}, and it is not scored"
    auroc, accuracy = (_cell(scores[key]) for key in ("auroc", "balanced_accuracy"))
    return (
        f"{text}; on scans left out: AUROC {auroc}, balanced accuracy {accuracy} "
        f"({scores['n']} scans)"
    )


def _several_runs(rows):
    return table(
        [
            {
                "run": row["run"],
                **{name: row.get(name) for name in SHOWN},
                "test_auroc": row["test"] and row["test"]["auroc"],
                "test_balanced_accuracy": row["test"] and row["test"]["balanced_accuracy"],
            }
            for row in rows
        ]
    )


def _cell(value):
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else one_line(value)
