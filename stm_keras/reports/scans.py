"""One self-contained HTML file about a batch of scans: a table to sort, with pictures."""

import io
import shutil
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np

from stm_keras import __version__
from stm_keras.data.draw import draw_scan
from stm_keras.errors import OutputError
from stm_keras.evaluation.style import (
    COLOURS,
    INK,
    NO_CLASS,
    class_colour,
    verdict_colour,
)
from stm_keras.files import atomic, check_folder
from stm_keras.reports.page import CSS, SCRIPT, STYLE, data_url, spot, text

NANO = 1e9
LONGEST = 60  # letters of a file's name

NOT_JUDGED = "not judged"
THUMBNAIL = 144  # pixels
TRACE = 110, 72  # of the curve of probabilities
MOST_POINTS = 64  # of it
HEADS = (
    ("scan", "num"),
    ("after each line", None),
    ("file", "text"),
    ("verdict", "text"),
    ("sure", "num"),
    ("tip changes", "num"),
    ("lines", "num"),
    ("size, nm", "num"),
    ("remarks", "num"),
)


class ScanReport:
    """Writes the rows of a report while scans are judged, and the page at the end.

    Rows go to a temporary file, so a folder of any size fits; the page gets its name
    when it is whole.

    Args:
        path: str or `Path` of the HTML file.
        classes: tuple of str.
        overwrite: bool. Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists, or cannot be written.
    """

    def __init__(self, path, classes, overwrite=False):
        self.path, self.classes, self.overwrite = Path(path), classes, overwrite
        self.counts, self.changed, self._number = Counter(), 0, 0
        if self.path.is_dir():
            raise OutputError(f"{path}: is a folder. Give the name of a file.")
        if self.path.exists() and not overwrite:
            raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")
        check_folder(self.path.parent)

    def __enter__(self):
        self._rows = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        return self

    def __exit__(self, kind, error, trace):
        with self._rows:
            if kind is None:
                self._write()

    def add(self, judged):
        """Add one `stm_keras.inference.scan_result.Judged`."""
        self._number += 1
        self.counts[judged.outcome] += 1
        if judged.error is not None:
            self._rows.write(self._error_row(judged))
            return
        self.changed += bool(judged.verdict.change_lines)
        self._rows.write(self._row(judged))

    def _write(self):
        self._rows.seek(0)
        with (
            atomic(self.path, self.overwrite) as temporary,
            temporary.open("w", encoding="utf-8") as page,
        ):
            page.write(self._head())
            shutil.copyfileobj(self._rows, page)
            page.write(f"</tbody></table></div>\n</main>\n<footer>{_written()}</footer>\n")
            page.write(f"<script>\n{SCRIPT}</script>\n</body>\n</html>\n")

    def _head(self):
        title = f"{self._number} scan{'' if self._number == 1 else 's'}"
        shown = [*self.classes, *(name for name in NO_CLASS if self.counts[name])]
        cards = "".join(
            f'<button class="card" data-verdict="{text(name)}">'
            f"{spot(verdict_colour(name, self.classes))}{text(name)}"
            f"<strong>{self.counts[name]}</strong></button>"
            for name in shown
        )
        told = f"{self.changed} with a tip change" if self.changed else ""
        heads = "".join(
            f"<th{'' if kind is None else f' data-kind={kind}'}>{text(name)}</th>"
            for name, kind in HEADS
        )
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
            f"<title>{title}</title>\n<style>\n{CSS}{STYLE}</style>\n</head>\n<body>\n"
            f"<header><h1>{title}</h1><p>{text(told)}</p></header>\n<main>\n"
            f'<div class="cards">{cards}</div>\n<p class="hint">Click a verdict to see it '
            "alone, a heading to sort.</p>\n"
            f'<div class="scroll"><table id="scans"><thead><tr>{heads}</tr></thead>\n<tbody>\n'
        )

    def _row(self, judged):
        verdict, scan = judged.verdict, judged.candidate.scan
        changes = judged.change_lines or ()
        colour = verdict_colour(judged.outcome, self.classes)
        share = verdict.confidence if is_class(verdict) else None
        width = scan.size[0] * 1e9 if scan is not None and scan.size else None
        remarks = [
            f'<span class="doubt">{text(words)}</span>'
            for words, doubt in verdict_words(judged)
            if doubt
        ]
        if judged.tiles:
            remarks.append(_tiles(judged))
        index = f" [{judged.index}]" if judged.index else ""
        cells = [
            (self._number, f'<img src="{_thumbnail(judged)}" alt=""/>'),
            (None, _trace(judged)),
            (f"{judged.path}{index}", _file(judged, index)),
            (judged.outcome, spot(colour) + text(judged.outcome)),
            (share, "" if share is None else f"{100 * share:.0f} %"),
            (len(changes), "<br/>".join(f"line {line}" for line in changes)),
            (judged.lines, str(judged.lines)),
            (width, "" if width is None else short(width)),
            (len(remarks), "<br/>".join(remarks)),
        ]
        row = "".join(map(_cell, cells))
        return f'<tr data-verdict="{text(judged.outcome)}">{row}</tr>\n'

    def _error_row(self, judged):
        colour = spot(verdict_colour(NOT_JUDGED, self.classes))
        return (
            f'<tr class="error" data-verdict="{NOT_JUDGED}">'
            f'<td data-sort="{self._number}"></td><td></td>'
            f'<td data-sort="{text(judged.path)}">{text(judged.path)}</td>'
            f'<td data-sort="{NOT_JUDGED}">{colour}{NOT_JUDGED}</td>'
            f'<td colspan="5" data-sort="">{text(judged.reason)}</td></tr>\n'
        )


def _cell(cell):
    value, content = cell
    value = "" if value is None else value
    return f'<td data-sort="{text(value)}">{content}</td>'


def _file(judged, index):
    place = text(f"{judged.path.name}{index}")
    folder = str(judged.path.parent)
    folder = "" if folder == "." else f"<small>{text(folder)}</small>"
    return f"<b>{place}</b>{folder}<small>{text(size_text(judged))}</small>"


def _thumbnail(judged):
    from PIL import Image

    frame, aspect = judged.candidate.frame()
    picture = draw_scan(frame, len(frame), width=THUMBNAIL, aspect=aspect)
    stream = io.BytesIO()
    Image.fromarray(picture).quantize(64).save(stream, "PNG", optimize=True)
    return data_url(stream.getvalue())


def _trace(judged):
    """Draw probabilities after each line, the first line left: SVG; none without a class."""
    if not shows_classes(judged.verdict):
        return ""
    state = judged.verdict.state
    if state is None or not len(state):
        state = np.array([judged.verdict.probabilities] * 2)
    lines, (width, height) = len(state), TRACE
    chosen = np.unique(np.linspace(0, lines - 1, MOST_POINTS).round().astype(int))
    places = width * (chosen + 1) / lines
    places[0] = 0
    ends = height * np.cumsum(np.hstack([np.zeros((lines, 1)), state]), axis=1)[chosen]
    shapes = []
    for number in range(state.shape[1]):
        there = zip(places, ends[:, number + 1], strict=True)
        back = zip(places[::-1], ends[::-1, number], strict=True)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (*there, *back))
        shapes.append(f'<polygon fill="{class_colour(number)}" points="{points}"/>')
    for change in judged.verdict.change_lines or ():
        x = width * change / lines
        shapes.append(
            f'<path d="M{x:.1f} 0V{height}" stroke="{INK}" stroke-width="3"/>'
            f'<path d="M{x:.1f} 0V{height}" stroke="{COLOURS[4]}" stroke-width="1.5"/>'
        )
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="probabilities after each line">{"".join(shapes)}</svg>'
    )


def _tiles(judged):
    """Draw the verdicts of tiles as a small map."""
    spots = {(tile.row, tile.column): v for tile, v in _pairs(judged)}
    rows = 1 + max(row for row, _ in spots)
    columns = 1 + max(column for _, column in spots)
    cells = []
    for (row, column), verdict in spots.items():
        name = verdict.verdict
        if is_class(verdict):
            name += f", {100 * verdict.confidence:.0f} %"
        colour = verdict_colour(verdict.verdict, judged.classes)
        cells.append(
            f'<rect x="{column * 12}" y="{row * 12}" width="11" height="11" '
            f'fill="{colour}"><title>{text(name)}</title></rect>'
        )
    return (
        f'<span class="tiles">tiles <svg width="{12 * columns}" height="{12 * rows}">'
        f"{''.join(cells)}</svg></span>"
    )


def _pairs(judged):
    return zip(judged.candidate.tiles, judged.tiles, strict=True)


def _written():
    return f"Written by stm-keras {__version__}, {datetime.now():%Y-%m-%d %H:%M}."


def name_of(judged):
    """Return the name of the file, and which of its scans it is."""
    name = Path(judged.path).name
    name = name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
    return f"{name} [{judged.index}]" if judged.index else name


def size_text(judged):
    """Say how large a scan is and how it was recorded, as far as that is known."""
    candidate, scan = judged.candidate, judged.candidate.scan
    parts = []
    if scan is not None and scan.size is not None:
        parts.append(" x ".join(short(length * NANO) for length in scan.size) + " nm")
    told = f"{judged.lines} of {candidate.planned} lines x {candidate.lines.shape[1]} px"
    parts.append(told)
    if scan is not None and scan.bias is not None:
        parts.append(f"{scan.bias:.3g} V")
    if scan is not None and scan.channel != "Z":
        parts.append(" ".join(filter(None, (scan.channel, scan.direction))))
    return ", ".join(parts)


def short(value: float, digits: int = 4) -> str:
    """Write a number with so many digits and without an exponent."""
    return f"{float(f'{value:.{digits}g}'):.10g}"


def is_class(verdict: object) -> bool:
    """Tell whether a `ScanVerdict` is one of its classes, so that a percentage may be shown."""
    return verdict.verdict == verdict.name


def shows_classes(verdict: object) -> bool:
    """Tell whether class probabilities may be drawn: the surface and its size are known."""
    return verdict.name is not None and verdict.verdict in (verdict.name, "unsure")


def verdict_words(judged):
    """Return what a person should know beside the verdict.

    Args:
        judged: `stm_keras.inference.scan_result.Judged` of a scan.

    Returns:
        list of tuples (str, bool): words, and whether they speak against trusting it.
    """
    verdict, words = judged.verdict, []
    if verdict.reason:
        words.append((verdict.reason, True))
    if verdict.verdict == "unsure":
        words.append((f"perhaps {verdict.name} ({100 * verdict.confidence:.0f} %)", True))
    words += [(remark, True) for remark in judged.candidate.remarks]
    if judged.change_lines:
        places = ", ".join(map(str, judged.change_lines))
        words.append((f"tip change at line {places}", False))
    return words
