"""`stm-keras predict`."""

import sys
from contextlib import ExitStack, suppress

import click

from stm_keras.cli import options
from stm_keras.errors import DatasetError, UsageError
from stm_keras.files import check_outputs

FAILED, UNREADABLE = 10, 3  # exit codes
CLASSES = {"defects": "generic defects", "rows": "rows"}  # of --fail-on: name of a class
FAIL_ON = (*CLASSES, "unsure", "unknown")


@click.command()
@click.argument("paths", metavar="PATH...", type=options.PATH, nargs=-1, required=True)
@click.option("--model", type=options.PATH, help="Model file, run, or shipped model.")
@click.option("--channel", help='Image of a scan file, such as "Current" or "Z backward".')
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@options.as_json
@click.option(
    "--every-line",
    is_flag=True,
    help="Also print what would have been said live, after each line.",
)
@click.option("--pictures", type=options.PATH, help="Folder for a PNG of each scan.")
@click.option("--report", type=options.PATH, help="HTML file to write: table and pictures.")
@click.option(
    "--fail-on",
    type=click.Choice(FAIL_ON),
    multiple=True,
    help="Exit with 10 if a scan gets this verdict; unknown is an unknown surface or size. May "
    "be repeated.",
)
@options.verbose
@options.overwrite
@options.keras_options
def predict(paths, model, channel, as_csv, as_json, every_line, pictures, report, **more):
    """Judge the tip on scans: verdict, class and confidence.

    Each PATH is a scan as the microscope wrote it (docs/formats.md), a folder of them, a
    glob, a dataset (HDF5, NPZ, MAT, a folder of shards, or of pictures with a CSV file), an array
    (.npy), a picture, or - for a list of paths on standard input, one a line. Folders are searched
    to the bottom, linked ones as well; what is not a scan is left out and counted. Of a scan
    file the forward topography is judged, its lines in the order of acquisition, and a large
    scan in tiles as well.

    The model is the one that comes with stm-keras, run by onnxruntime unless --backend or
    --device asks for Keras; another by --model, or the first PATH where that is a model
    file or the folder of a run.

    The verdict is what to act on: a class, or "unsure", "unknown surface", "unknown size" where
    a class must not be trusted, or "not judged" where there is nothing to judge.

    A file that cannot be read and a scan that cannot be judged are listed, and the others are
    judged still; the exit code is then 3, also where --fail-on would give 10. Act on 10 alone:
    other exit codes say that something is wrong with files, options or the program.

    \b
        stm-keras predict scan.sxm
        stm-keras predict session/ --report session.html
        stm-keras predict "2026-11-*/*.Z_mtrx" --json > verdicts.jsonl
        stm-keras predict scan.sxm --fail-on defects; [ $? -eq 10 ] && repair-tip
    """
    if as_csv and as_json:
        raise UsageError("`--csv` and `--json`: choose one.")
    from stm_keras.cli.verdicts import CsvPrinter, JsonPrinter, TablePrinter
    from stm_keras.inference.find_files import LeftOut, find_places
    from stm_keras.inference.predict_files import judge

    drawn = _check_outputs(model, paths, pictures, report)
    predictor, paths = _load(model, list(paths))
    _check_fail_on(more["fail_on"], predictor.classes)
    kind = JsonPrinter if as_json else CsvPrinter if as_csv else TablePrinter
    drawers = _drawers(predictor, pictures, report, more["overwrite"])
    left_out = LeftOut()
    places = find_places(paths, _list_of_paths(), left_out)
    found = judge(predictor, places, channel, every_line)
    with ExitStack() as stack:
        printer = stack.enter_context(kind(predictor.classes, every_line))
        for drawer in drawers:
            stack.enter_context(drawer)
        code, failed = 0, False
        for judged in found:
            if "-" in map(str, paths):  # what a list names is known as it comes
                check_outputs({"--report": report, "--pictures": drawn}, [judged.path])
            if judged.error is not None:
                code = max(options.report(judged.error, code), UNREADABLE)
            elif judged.reason is not None:
                code = max(options.report(DatasetError(judged.reason), code), UNREADABLE)
            else:
                failed = failed or _fails(judged, more["fail_on"])
            printer.print(judged)
            for drawer in drawers:
                drawer.add(judged)
    options.say_left_out(left_out, more["verbose"])
    if code or failed:
        click.get_current_context().exit(code or FAILED)


def _load(model, paths):
    """Load the model that is meant; return it and what is left to judge."""
    from stm_keras.inference.find_model import find_judge, is_model, needs_keras
    from stm_keras.inference.shipped import DEFAULT

    if model is None and (
        is_model(paths[0]) or paths[0].suffix in (".keras", ".onnx", ".skops")
    ):
        model, *paths = paths
        if not paths:
            raise UsageError(f"{model}: is a model. Give scans to judge as well.")
    asked = click.get_current_context().meta
    wanted = any(asked.get(f"stm_keras.{name}") for name in ("backend", "device"))
    file = find_judge(model or DEFAULT, wanted)
    if needs_keras(file):
        options.load_keras()
    from stm_keras.inference.model_file import load_predictor

    return load_predictor(file), paths


def _check_outputs(model, paths, pictures, report):
    """Refuse to replace what is read; return the pictures that may be replaced."""
    from stm_keras.inference.find_files import find_places

    drawn = list(pictures.glob("*.png")) if pictures and pictures.is_dir() else []
    given = [path for path in (model, *paths) if path is not None and str(path) != "-"]
    read = [path for path in given if not path.is_dir()]
    if drawn or (report is not None and report.exists()):
        found = find_places([path for path in given if path != model])
        read += [place.path for place in found if place.error is None]
    for path in given:
        if (path / "config.toml").exists():
            from stm_keras.runs import Run  # pydantic takes a tenth of a second

            read += Run(path).files()
    check_outputs(
        {"--report": report, "--pictures": [*drawn, *filter(None, [pictures])]}, read
    )
    return drawn


def _list_of_paths():
    """Return standard input; names of files may hold bytes that are no text."""
    with suppress(AttributeError, ValueError):
        sys.stdin.reconfigure(errors="surrogateescape")
    return sys.stdin


def _check_fail_on(wanted, classes):
    for name in wanted:
        if name in CLASSES and CLASSES[name] not in classes:
            raise UsageError(
                f"`--fail-on {name}`: the model knows no class {CLASSES[name]!r}, only "
                f"{', '.join(classes)}."
            )


def _fails(judged, wanted):
    from stm_keras.inference.verdict import UNKNOWN_SIZE, UNKNOWN_SURFACE, UNSURE

    verdicts = {
        **{name: (verdict,) for name, verdict in CLASSES.items()},
        "unsure": (UNSURE,),
        "unknown": (UNKNOWN_SURFACE, UNKNOWN_SIZE),
    }
    return any(judged.outcome in verdicts[name] for name in wanted)


def _drawers(predictor, pictures, report, overwrite):
    """Return what draws each scan, checked before anything is judged."""
    drawers = []
    if pictures is not None:
        from stm_keras.reports.sheets import ScanSheets

        drawers.append(ScanSheets(pictures, overwrite))
    if report is not None:
        from stm_keras.reports.scans import ScanReport

        drawers.append(ScanReport(report, predictor.classes, overwrite))
    return drawers
