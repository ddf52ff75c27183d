"""`stm-keras predict`."""

import csv
import io
import json

import click

from stm_keras.cli import options
from stm_keras.errors import StmKerasError, UsageError


@click.command()
@click.argument("files", type=options.PATH, nargs=-1, required=True)
@click.option("--model", type=options.PATH, help="Model file, run, or shipped model.")
@click.option("--channel", help='Image of a scan file, such as "Current" or "Z backward".')
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@options.as_json
@options.keras_options
def predict(files, model, channel, as_csv, as_json):
    """Judge the tip on scans: class and confidence.

    Each of FILES is a scan as the microscope wrote it (docs/formats.md), a dataset (HDF5,
    NPZ, MAT, a folder of pictures with a CSV file), an array (.npy) or one picture. Of a
    scan file the forward topography is judged, its lines in the order of acquisition. The
    model is the one that comes with stm-keras, another by --model, or the first of FILES
    where that is a .keras file or the folder of a run.
    A file that cannot be read is reported and the others are judged still; the exit code
    is then 3. --json prints one line per scan.

    \b
        stm-keras predict scan.sxm
        stm-keras predict runs/vit scans.h5
        stm-keras predict scan.png --model h_si100_simulated --json
    """
    if as_csv and as_json:
        raise UsageError("`--csv` and `--json`: choose one.")
    from stm_keras.inference.choice import find_model, is_model, needs_keras
    from stm_keras.inference.scans import read_scans
    from stm_keras.inference.shipped import DEFAULT

    if model is None and (is_model(files[0]) or files[0].suffix in (".keras", ".skops")):
        model, *files = files
        if not files:
            raise UsageError(f"{model}: is a model. Give scans to judge as well.")
    file, _ = find_model(model or DEFAULT)
    if needs_keras(file):
        options.load_keras()
    from stm_keras.inference.model_file import load_predictor
    from stm_keras.inference.verdicts import scan_verdicts

    predictor = load_predictor(file)
    printer = _Printer(predictor.classes, as_csv, as_json)
    code = 0
    for path in files:
        try:
            images = read_scans(path, predictor.facts, channel)
            predictor.check_scans(images.shape, path)
            verdicts = scan_verdicts(
                predictor, images, progress=options.progress_line(path.name)
            )
        except StmKerasError as error:
            code = options.report(error, code)
            continue
        printer.print(path, verdicts)
    if code:
        click.get_current_context().exit(code)


class _Printer:
    """Prints predictions as a table, CSV or JSON Lines."""

    def __init__(self, classes, as_csv, as_json):
        self.classes = classes
        self.as_csv = as_csv
        self.as_json = as_json
        if as_csv:
            flags = ["unsure", "unknown_surface", "change_lines", "lines"]
            self._row(["path", "index", "class", "confidence", *classes, *flags])

    def print(self, path, verdicts):
        if not (self.as_csv or self.as_json):
            click.echo(f"{path}: {len(verdicts)} scan{'s' * (len(verdicts) != 1)}")
        for index, verdict in enumerate(verdicts):
            best = verdict.probabilities.index(verdict.confidence)
            name = self.classes[best]
            if self.as_json:
                pairs = zip(self.classes, verdict.probabilities, strict=True)
                changes = verdict.change_lines
                record = {
                    "path": str(path),
                    "index": index,
                    "class": name,
                    "probabilities": {key: round(float(p), 6) for key, p in pairs},
                    "confidence": round(verdict.confidence, 6),
                    "change_lines": None if changes is None else list(changes),
                    "unsure": verdict.unsure,
                    "unknown_surface": verdict.unknown_surface,
                    "lines": verdict.lines,
                }
                click.echo(json.dumps(record))
            elif self.as_csv:
                flags = [verdict.unsure, verdict.unknown_surface]
                cells = ["" if flag is None else str(flag).lower() for flag in flags]
                cells.append(" ".join(map(str, verdict.change_lines or ())))
                self._row(
                    [path, index, name, f"{verdict.confidence:.6f}"]
                    + [f"{p:.6f}" for p in verdict.probabilities]
                    + [*cells, verdict.lines]
                )
            else:
                text = (
                    f"{index:6d}  {name:<20} {verdict.confidence:6.1%}{_remarks(verdict)}"
                )
                click.echo(text)

    def _row(self, cells):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(cells)
        click.echo(text.getvalue())


def _remarks(verdict):
    """What a person should know besides: unsure, unknown, begun, changed."""
    remarks = []
    if verdict.unknown_surface:
        remarks.append("unknown surface")
    if verdict.unsure:
        remarks.append("unsure")
    if verdict.change_lines:
        remarks.append("tip change at line " + ", ".join(map(str, verdict.change_lines)))
    return "".join(f"  {remark}" for remark in remarks)
