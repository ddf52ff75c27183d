"""What comes of labels: `stm-keras label export` and `stm-keras label agreement`."""

import json

import click

from stm_keras.cli import options
from stm_keras.cli.convert import class_list, convert, no_model_shown
from stm_keras.cli.pages import load_any
from stm_keras.errors import UsageError
from stm_keras.files import check_outputs

FOLDER = "labels"

classes_option = click.option(
    "--classes",
    metavar="A,B,...",
    help="All marks. [those that are named, in order of appearance]",
)


@click.command(short_help="Make a dataset of what raters said.")
@click.argument("scans", type=options.PATH)
@click.option(
    "-o", "--output", type=options.PATH, required=True, help="HDF5 file to write."
)
@options.path(
    "--records", default=FOLDER, show_default=True, help="Folder of what raters said."
)
@classes_option
@no_model_shown
@options.size
@options.verbose
@options.overwrite
@options.as_json
@click.pass_context
def export(context, scans, **chosen):
    """Make a dataset of scans and what raters said of them.

    SCANS is the folder of the scans, which may have been moved or renamed since. The dataset has
    the share of raters who set each mark (`votes`), how many they were, the line from which on
    another tip scanned, the session, and whether a rater was shown the verdict of a model. It is
    what `stm-keras convert SCANS --records labels` writes (docs/data.md).

    \b
        stm-keras label export scans/ -o own.h5
        stm-keras label export scans/ -o own.h5 --no-model-shown
        stm-keras train sequential --data own.h5 -o runs/own
    """
    context.invoke(convert, source=scans, **chosen)


@click.command(short_help="Measure how well raters agree.")
@click.argument("source", type=options.PATH, default=FOLDER)
@classes_option
@no_model_shown
@click.option(
    "--with-model",
    "model",
    type=options.PATH,
    help="Model as one more rater, by name or file; judges --scans.",
)
@options.path("--scans", multiple=True, help="Scans that were labelled, or their folder.")
@options.path("--report", help="HTML page to write.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the intervals."
)
@options.overwrite
@options.as_json
def agreement(source, classes, no_model_shown, model, scans, report, seed, **more):
    """Measure how well raters agree with one another, and with themselves.

    SOURCE is a folder of records of `stm-keras label` [labels], or a CSV file of votes made
    elsewhere: a line for each picture and rater, with columns path, rater, and either label or
    one column of 0 and 1 for each mark. Krippendorff's alpha of each mark and of whole sets of
    marks with 95 % intervals, kappa, prevalence, each rater with each, pictures that came again,
    and how far apart marked tip changes lie (docs/label.md).

    \b
        stm-keras label agreement
        stm-keras label agreement labels --report agreement.html
        stm-keras label agreement votes.csv --json
        stm-keras label agreement labels --with-model h_si100 --scans scans/
    """
    from stm_keras.data.ratings import read_ratings
    from stm_keras.evaluation.agreement_scores import score_agreement
    from stm_keras.reports.agreement import agreement_text, write_agreement

    check_outputs({"--report": report}, [source, *scans])
    if (model is None) != (not scans):
        raise UsageError("`--with-model` and `--scans`: give both, or neither.")
    ratings = read_ratings(source, class_list(classes, least=1), no_model_shown)
    if model is not None:
        if not ratings.scans:
            raise UsageError(
                f"`--with-model`: {source} does not tell which scans are meant. Give records."
            )
        ratings = ratings.with_model(*_judged(model, scans))
    scores = score_agreement(ratings, seed=seed)
    if report is not None:
        write_agreement(report, scores, more["overwrite"])
        options.say(f"Report: {report}")
    text = (
        json.dumps(scores, allow_nan=False) if more["as_json"] else agreement_text(scores)
    )
    click.echo(text)


def _judged(model, paths):
    """Return the name of a model, its classes, and its verdict on each scan, by `scan_hash`."""
    from stm_keras.inference.find_files import LeftOut, find_files
    from stm_keras.inference.predict_files import predict_files

    file, predictor = load_any(model)
    verdicts = {}
    with options.summed_warnings(False):
        for result in predict_files(
            predictor, find_files(paths, left_out=LeftOut()), states=False
        ):
            if result.error is not None:
                options.report(result.error, 0)
            else:
                verdicts[result.scan_input.hash] = result.outcome, result.change_lines
    return f"{file.stem} (model)", predictor.classes, verdicts
