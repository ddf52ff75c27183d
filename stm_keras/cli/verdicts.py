"""Print verdicts on scans as they come: a table, CSV, or JSON Lines."""

import csv
import io
import json
import os
import sys
from collections import Counter

import click

from stm_keras.inference.verdict import (
    NOT_JUDGED,
    UNKNOWN_SIZE,
    UNKNOWN_SURFACE,
    UNSURE,
)
from stm_keras.terminal import columns, console, one_line

NAME_WIDTH = 38  # of a file in the table, at most
LEAST_WIDTH = 12  # on a narrow terminal
PICO = 1e12
GOOD, MIDDLING, BAD = "green", "yellow", "red"
STYLES = {"rows": MIDDLING, "generic defects": BAD, NOT_JUDGED: BAD}
STYLES |= dict.fromkeys((UNSURE, UNKNOWN_SURFACE, UNKNOWN_SIZE), MIDDLING)


class JsonPrinter:
    """One object a line for each scan, and for each file that could not be judged."""

    def __init__(self, classes, every_line):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def print(self, judged):
        """Print one `Judged`."""
        click.echo(json.dumps(judged.record(), allow_nan=False))


class CsvPrinter(JsonPrinter):
    """A header and a row for each scan, each tile, and each line where they are wanted."""

    def __init__(self, classes, every_line):
        self.classes, self.every_line = classes, every_line
        flags = ["unsure", "unknown_surface", "unknown_size"]
        flags += ["change_lines", "lines", "error", "tile"]
        more = ["line", "offset_step", "slope"] if every_line else []
        self._row(
            ["path", "index", "verdict", "class", "confidence", *classes, *flags, *more]
        )

    def print(self, judged):
        """Print one `Judged`."""
        record = judged.record()
        start = [record["path"], record["index"]]
        self._line(start, record)
        for tile in record.get("tiles", ()):
            place = f"{tile['row']} {tile['column']}"
            lines = "-".join(map(str, tile["lines"]))
            self._line(start, {**record, **tile, "lines": lines}, place)
        for line in record.get("every_line", ()):
            changes = None if line["change"] is None else []
            changes = [line["change_line"]] if line["change"] else changes
            about = {"change_lines": changes, "lines": line["line"] + 1, "error": None}
            self._line(start, {**line, **about})

    def _line(self, start, said, tile=""):
        chances = (said["probabilities"] or {}).get
        cells = [said["verdict"], said["class"], said["confidence"]]
        cells += map(chances, self.classes)
        cells += [said["unsure"], said["unknown_surface"], said["unknown_size"]]
        cells.append(" ".join(map(str, said["change_lines"] or ())))
        cells += [said["lines"], said["error"], tile]
        if self.every_line:
            cells += [said.get(name) for name in ("line", "offset_step", "slope")]
        self._row([*start, *map(_cell, cells)])

    def _row(self, cells):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(
            one_line(cell) if isinstance(cell, str) else cell for cell in cells
        )
        click.echo(text.getvalue())


class TablePrinter(JsonPrinter):
    """Aligned columns for people, in colour on a terminal, and a summary at the end."""

    def __init__(self, classes, every_line):
        self.verdicts = (*classes, UNSURE, UNKNOWN_SURFACE, UNKNOWN_SIZE, NOT_JUDGED)
        self.width = max(map(len, self.verdicts))
        self.counts = Counter()
        self.total = self.changed = 0
        self.console = _console()
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

    def print(self, judged):
        """Print one `Judged`."""
        name = self._shortened(judged)
        self.total += 1
        self.counts[judged.outcome] += 1
        if judged.error is not None:
            self._say([(f"{name:<{self.name}}  ", None), (NOT_JUDGED, BAD)])
            return
        verdict = judged.verdict
        self.changed += bool(verdict.change_lines)
        remarks = remarks_on(verdict, judged.change_lines)
        remarks += judged.candidate.remarks
        self._verdict(name, verdict, judged.lines, remarks)
        for tile, said in zip(judged.candidate.tiles, judged.tiles, strict=True):
            left, top, width, height = tile.nm
            place = f"  {width:.3g} x {height:.3g} nm at ({left:.3g}, {top:.3g}) nm"
            lines = f"{tile.lines[0]}-{tile.lines[1] - 1}"
            self._verdict(place, said, lines, remarks_on(said))
        if judged.live:
            self._live(judged)

    def summary(self):
        """Say in one line what was found."""
        counts = [(self.counts[name], name) for name in self.verdicts]
        counts.append((self.changed, "with a tip change"))
        told = [", ".join(f"{count} {name}" for count, name in counts[:-5] if count)]
        told += [f"{count} {name}" for count, name in counts[-5:] if count]
        some = f"{self.total} scan{'' if self.total == 1 else 's'}"
        return f"{some}: {'; '.join(filter(None, told))}"

    def _shortened(self, judged):
        name = one_line(judged.path)
        if judged.index:
            name += f" [{judged.index}]"
        return name if len(name) <= self.name else "…" + name[1 - self.name :]

    def _verdict(self, place, said, lines, remarks):
        name = said.verdict or "-"  # a line that was lost has none
        share = f"{100 * said.confidence:3.0f}%" if name == said.name else ""
        self._say(
            [
                (f"{place:<{self.name}}  ", None),
                (f"{name:<{self.width}}", STYLES.get(name, GOOD)),
                (f"  {share:>4}  {lines!s:>5}", None),
                ("".join(f"  {remark}" for remark in remarks), MIDDLING),
            ]
        )

    def _live(self, judged):
        steps, slopes = judged.removed()
        metres = judged.candidate.unit == "m"
        for line in judged.live:
            remarks = list(perhaps(line))
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

    Args:
        verdict: `ScanVerdict`.
        changes: tuple of int. First lines with another tip, in the lines of the file.
    """
    remarks = perhaps(verdict)
    if verdict.reason:
        remarks += (verdict.reason,)
    if changes:
        remarks += ("tip change at line " + ", ".join(map(str, changes)),)
    return remarks


def perhaps(verdict):
    """Return what an unsure verdict would have been: tuple of str, empty for others."""
    if verdict.verdict != UNSURE:
        return ()
    return (f"perhaps {verdict.name} ({100 * verdict.confidence:.0f}%)",)


def _console():
    """Return rich's console where colours can be seen, else None: rich is slow to load."""
    if not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        return None
    return console()


def _cell(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
