"""`stm-keras predict`, and how it prints verdicts: a table, CSV or JSON lines."""

import csv
import io
import json
import os
import sys
from collections import Counter
from contextlib import ExitStack, suppress
from itertools import zip_longest

import click

from stm_keras.cli import options
from stm_keras.cli.predictors import load_models, models_first
from stm_keras.errors import DatasetError, UsageError
from stm_keras.files import check_outputs
from stm_keras.inference.verdict import NOT_JUDGED, UNKNOWN_SIZE, UNKNOWN_SURFACE, UNSURE
from stm_keras.terminal import columns, console, one_line

NAME_WIDTH = 38  # of a file in the table, at most
LEAST_WIDTH = 12  # on a narrow terminal
PICO = 1e12
GOOD, MIDDLING, BAD = "green", "yellow", "red"
NO_CLASS = (UNSURE, UNKNOWN_SURFACE, UNKNOWN_SIZE)  # verdicts beside the classes
STYLES = {"rows": MIDDLING, "generic defects": BAD, NOT_JUDGED: BAD}
STYLES |= dict.fromkeys(NO_CLASS, MIDDLING)

NAMES, FLAGS = (  # columns of CSV
    ("verdict", "class", "confidence"),
    ("unsure", "unknown_surface", "unknown_size"),
)

FAILED, UNREADABLE = 10, 3  # exit codes
FAIL_ON = {  # option to verdicts
    "defects": ("generic defects",),
    "rows": ("rows",),
    "unsure": (UNSURE,),
    "unknown": (UNKNOWN_SURFACE, UNKNOWN_SIZE),
}


@click.command()
@click.argument("paths", metavar="PATH...", type=options.PATH, nargs=-1, required=True)
@options.path(
    "--model",
    "models",
    multiple=True,
    help="Model file, run, or shipped model. Given several times, or a folder of runs such as "
    "the folds of a config: the mean of their calibrated probabilities.",
)
@click.option("--channel", help='Image of a scan file, such as "Current" or "Z backward".')
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@options.as_json
@click.option(
    "--every-line",
    is_flag=True,
    help="Also print the verdict after each line, as in a live scan.",
)
@options.path("--pictures", help="Folder for a PNG of each scan.")
@options.path("--report", help="HTML file to write: table and pictures.")
@click.option(
    "--context/--no-context",
    default=True,
    show_default=True,
    help="Also judge scans with few lines by the scans before them: a second verdict.",
)
@click.option(
    "--fail-on",
    metavar=f"[{'|'.join(FAIL_ON)}|CLASS]",
    multiple=True,
    help="Exit with 10 if a scan gets this verdict: defects are generic ones, unknown is an "
    "unknown surface or size, CLASS a class of a model of your own. May be repeated.",
)
@options.trust_code
@options.verbose
@options.overwrite
@options.keras_options
def predict(paths, models, channel, as_csv, as_json, every_line, pictures, report, **more):
    """Judge the tip on scans: verdict, class and confidence.

    Each PATH is a scan as the microscope wrote it (docs/formats.md), a folder of them, a
    glob, a dataset (HDF5, NPZ, MAT, a folder of shards, or of pictures with a CSV file), an array
    (.npy), a picture, or - for a list of paths on standard input, one a line. Folders are searched
    with all their subfolders, linked ones too; files that are not scans are left out and
    counted. Of a scan file the forward topography is judged, its lines in the order of
    acquisition; a large scan is judged in tiles as well.

    The model is the one that comes with stm-keras, run by onnxruntime unless --backend or
    --device asks for Keras; another by --model, or the first PATH where that is a model
    file or the folder of a run. Several models, of the same classes and size of scans, judge
    together: probabilities, thresholds and heads are averaged (docs/microscope.md).

    The verdict is what to act on: a class, or "unsure", "unknown surface", "unknown size" where
    a class must not be trusted, or "not judged" where there is nothing to judge. Where files
    tell when their scans began, a scan with few lines gets a second verdict, with the scans
    before it in its folder.

    A file that cannot be read or a scan that cannot be judged is listed, and the rest is still
    judged; the exit code is then 3, even where --fail-on would give 10. Act on 10 alone: other
    exit codes say that something is wrong with files, options or the program.

    \b
        stm-keras predict scan.sxm
        stm-keras predict session/ --report session.html
        stm-keras predict "2026-11-*/*.Z_mtrx" --json > verdicts.jsonl
        stm-keras predict runs/vit-fold* scan.sxm
        stm-keras predict scan.sxm --fail-on defects; [ $? -eq 10 ] && repair-tip
    """
    if as_csv and as_json:
        raise UsageError("`--csv` and `--json`: choose one.")
    from stm_keras.inference.context import Context
    from stm_keras.inference.find_files import LeftOut, find_files
    from stm_keras.inference.predict_files import add_scans_before, predict_files

    models, paths = models_first(models, list(paths))
    replaced = _check_outputs(models, paths, pictures, report)
    predictor = load_models(models, more["trust_code"])
    acts = _verdicts_to_fail_on(more["fail_on"], predictor.classes)
    printer = JsonPrinter if as_json else CsvPrinter if as_csv else TablePrinter
    drawers = []  # which check now that they can write
    if pictures is not None:
        from stm_keras.reports.sheets import ScanSheets

        drawers.append(ScanSheets(pictures, more["overwrite"]))
    if report is not None:
        from stm_keras.reports.scans import ScanReport

        drawers.append(ScanReport(report, predictor.classes, more["overwrite"]))
    left_out = LeftOut()
    files = find_files(paths, _list_of_paths(), left_out)
    states = bool(drawers)  # which show the answer after every line
    results = predict_files(predictor, files, channel, every_line, states=states)
    context = more["context"] and Context.of(predictor.metadata) is not None
    if context:
        results = add_scans_before(results, predictor)
    listed = "-" in map(str, paths)  # a path on standard input is known only now
    with ExitStack() as stack:
        stack.enter_context(options.summed_warnings(more["verbose"] or listed))
        writers = (printer(predictor.classes, every_line, context), *drawers)
        for writer in writers:
            stack.enter_context(writer)
        code, failed = 0, False
        for result in results:
            if listed:
                check_outputs({"--report": report, "--pictures": replaced}, [result.path])
            if result.error is not None:
                code = max(options.report(result.error, code), UNREADABLE)
            elif result.reason is not None:
                code = max(options.report(DatasetError(result.reason), code), UNREADABLE)
            else:
                failed = failed or result.outcome in acts
            for writer in writers:
                writer.add(result)
    options.say_left_out(left_out, more["verbose"])
    if code or failed:
        click.get_current_context().exit(code or FAILED)


def _check_outputs(models, paths, pictures, report):
    """Refuse to replace a file that is read; return the pictures that may be replaced."""
    from stm_keras.inference.find_files import find_files
    from stm_keras.inference.find_model import runs_in

    replaced = list(pictures.glob("*.png")) if pictures and pictures.is_dir() else []
    given = [path for path in (*models, *paths) if str(path) != "-"]
    read = [path for path in given if not path.is_dir()]
    if replaced or (report is not None and report.exists()):
        files = find_files([path for path in given if path not in models])
        read += [file.path for file in files if file.error is None]
    for path in (*given, *(run for model in models for run in runs_in(model))):
        if (path / "config.toml").exists():
            from stm_keras.runs import Run  # pydantic takes a tenth of a second

            read += Run(path).files()
    check_outputs(
        {"--report": report, "--pictures": [*replaced, *filter(None, [pictures])]}, read
    )
    return replaced


def _list_of_paths():
    """Return standard input; a file name may hold bytes that are not UTF-8."""
    with suppress(AttributeError, ValueError):
        sys.stdin.reconfigure(errors="surrogateescape")
    return sys.stdin


def _verdicts_to_fail_on(wanted, classes):
    """Return the verdicts that `--fail-on` means: set of str."""
    acts = set()
    for name in wanted:
        verdicts = (name,) if name in classes else FAIL_ON.get(name, (name,))
        for verdict in verdicts:
            if verdict not in (*classes, *NO_CLASS):
                raise UsageError(
                    f"`--fail-on {name}`: the model has no class {verdict!r}. Give one of its "
                    f"classes, {', '.join(classes)}; or unsure, or unknown."
                )
        acts.update(verdicts)
    return acts


class JsonPrinter:
    """Prints one JSON object a line: for each scan, and each file that could not be judged."""

    def __init__(self, classes, every_line, context=False):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def add(self, result):
        """Print one `ScanResult`."""
        click.echo(json.dumps(result.record(), allow_nan=False))


class CsvPrinter(JsonPrinter):
    """Prints a header, then a row for each scan, each tile, and with --every-line each line."""

    def __init__(self, classes, every_line, context=False):
        self.classes = classes
        self.more = ("line", "offset_step", "slope") if every_line else ()
        self.context = (*NAMES, "scans", "absent") if context else ()
        about = (*FLAGS, "change_lines", "lines", "error", "tile", *self.more)
        about += tuple(f"context_{name}" for name in self.context)
        self._row(["path", "index", *NAMES, *classes, *about])

    def add(self, result):
        """Print one `ScanResult`."""
        record = result.record()
        start = [record["path"], record["index"]]
        self._line(start, record)
        for tile in record.get("tiles", ()):
            corner = f"{tile['row']} {tile['column']}"
            lines = "-".join(map(str, tile["lines"]))
            self._line(start, {**record, **tile, "lines": lines, "context": None}, corner)
        for line in record.get("every_line", ()):
            changes = None if line["change"] is None else []
            changes = [line["change_line"]] if line["change"] else changes
            about = {"change_lines": changes, "lines": line["line"] + 1, "error": None}
            self._line(start, {**line, **about})

    def _line(self, start, verdict, tile=""):
        probabilities = verdict["probabilities"] or {}
        cells = [verdict[name] for name in NAMES]
        cells += map(probabilities.get, self.classes)
        cells += [verdict[name] for name in FLAGS]
        cells.append(" ".join(map(str, verdict["change_lines"] or ())))
        cells += [verdict["lines"], verdict["error"], tile]
        cells += map(verdict.get, self.more)
        cells += map((verdict.get("context") or {}).get, self.context)
        self._row([*start, *map(_cell, cells)])

    def _row(self, cells):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(
            one_line(cell) if isinstance(cell, str) else cell for cell in cells
        )
        click.echo(text.getvalue())


class TablePrinter(JsonPrinter):
    """Prints aligned columns, in colour on a terminal, and a summary at the end."""

    def __init__(self, classes, every_line, context=False):
        self.classes = classes
        self.width = max(map(len, (*classes, *NO_CLASS, NOT_JUDGED)))
        self.counts = Counter()
        self.total = self.changed = 0
        in_colour = sys.stdout.isatty() or os.environ.get("FORCE_COLOR")
        self.console = console() if in_colour else None  # rich is slow to load
        self.name = NAME_WIDTH
        if sys.stdout.isatty():
            room = columns(sys.stdout) - self.width - len("    100%  lines")
            self.name = min(NAME_WIDTH, max(LEAST_WIDTH, room))

    def __enter__(self):
        head = f"{'file':<{self.name}}  {'verdict':<{self.width}}  {'sure':>4}  lines"
        self._say([(head, "bold")])
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self._say([(self.summary(), "bold")])

    def add(self, result):
        """Print one `ScanResult`."""
        name = self._shortened(result)
        self.total += 1
        self.counts[result.outcome] += 1
        if result.error is not None:
            self._say([(f"{name:<{self.name}}  ", None), (NOT_JUDGED, BAD)])
            return
        verdict = result.verdict
        self.changed += bool(verdict.change_lines)
        remarks = remarks_on(verdict, result.change_lines)
        remarks += result.scan_input.remarks + getattr(result.context, "remarks", ())
        self._verdict(name, verdict, result.lines, remarks)
        for tile, verdict in zip(result.scan_input.tiles, result.tiles, strict=True):
            left, top, width, height = tile.nm
            title = f"  {width:.3g} x {height:.3g} nm at ({left:.3g}, {top:.3g}) nm"
            lines = f"{tile.lines[0]}-{tile.lines[1] - 1}"
            self._verdict(title, verdict, lines, remarks_on(verdict))
        if result.line_verdicts:
            self._live(result)

    def summary(self):
        """Return one line: how many scans got which verdict."""

        def counted(names):
            return [f"{self.counts[name]} {name}" for name in names if self.counts[name]]

        parts = [", ".join(counted(self.classes)), *counted((*NO_CLASS, NOT_JUDGED))]
        if self.changed:
            parts.append(f"{self.changed} with a tip change")
        some = f"{self.total} scan{'' if self.total == 1 else 's'}"
        return f"{some}: {'; '.join(filter(None, parts))}"

    def _shortened(self, result):
        name = one_line(result.path)
        if result.index:
            name += f" [{result.index}]"
        return name if len(name) <= self.name else "…" + name[1 - self.name :]

    def _verdict(self, title, verdict, lines, remarks):
        name = verdict.verdict or "-"  # a line that was lost has none
        share = f"{100 * verdict.confidence:3.0f}%" if name == verdict.name else ""
        self._say(
            [
                (f"{title:<{self.name}}  ", None),
                (f"{name:<{self.width}}", STYLES.get(name, GOOD)),
                (f"  {share:>4}  {lines!s:>5}", None),
                ("".join(f"  {remark}" for remark in remarks), MIDDLING),
            ]
        )

    def _live(self, result):
        steps, slopes = result.line_trends
        metres = result.scan_input.unit == "m"
        for line, context in zip_longest(result.line_verdicts, result.line_contexts):
            remarks = [*perhaps(line), *getattr(context, "remarks", ())]
            if line.change:
                remarks.append(f"tip change at line {line.change_line}")
            if metres and steps[line.line] == steps[line.line]:
                step, slope = (PICO * v[line.line] for v in (steps, slopes))
                remarks.append(f"step {step:+.0f} pm, slope {slope:+.0f} pm")
            self._verdict(f"  line {line.line}", line, line.line + 1, remarks)

    def _say(self, pieces):
        pieces = [(text, style) for text, style in pieces if text]
        if self.console is None:
            click.echo("".join(text for text, _ in pieces).rstrip())
            return
        from rich.text import Text

        text = Text.assemble(*((text, style or "") for text, style in pieces))
        self.console.print(text, soft_wrap=True)


def remarks_on(verdict, changes=None):
    """Return what a person should know beside the class: tuple of str.

    `changes` are the first lines with another tip, in the lines of the file.
    """
    remarks = perhaps(verdict)
    if verdict.reason:
        remarks += (verdict.reason,)
    if changes:
        remarks += ("tip change at line " + ", ".join(map(str, changes)),)
    return remarks


def perhaps(verdict):
    """Return what an unsure verdict would have been: tuple of str, else empty."""
    if verdict.verdict != UNSURE:
        return ()
    return (f"perhaps {verdict.name} ({100 * verdict.confidence:.0f}%)",)


def _cell(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
