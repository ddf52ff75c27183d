"""The report on a batch of scans: counts, a timeline and a list with pictures, one HTML file.

    stm-keras predict session/ --report session.html

Rows are written while scans are judged, so a folder of any size fits into memory.
"""

import io
import tempfile
from datetime import datetime
from itertools import groupby
from pathlib import Path

import numpy as np
from markupsafe import Markup

from stm_keras.data.draw import draw_scan
from stm_keras.evaluation.style import CHANGE, NO_CLASS, class_colour, verdict_colour
from stm_keras.files import check_file, check_folder
from stm_keras.reports import page

NANO = 1e9
LONGEST = 60  # letters of a file's name
PICTURE = 128, 480  # pixels along a line, at least and at most
POINTS = 64  # of the probabilities after each line
SINGLE = 1500  # scans; of more, neighbours alike share a mark in the timeline
TICKS = 6


class ScanReport:
    """Writes the rows of a report while scans are judged, and the page at the end.

    Args:
        path: str or `Path` of the HTML file.
        overwrite: bool. Whether an existing file may be replaced.

    Raises:
        OutputError: The file exists, or cannot be written.
    """

    def __init__(self, path, classes, overwrite=False):
        self.path = check_file(path, overwrite)
        self.classes, self.overwrite = classes, overwrite
        self.kinds = [*classes, *NO_CLASS]
        # of each scan: kind, whether the tip changed, whether it could be read, name, start
        self._marks = []
        check_folder(self.path.parent)

    def __enter__(self):
        self._rows = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        return self

    def __exit__(self, kind, error, trace):
        with self._rows:
            if kind is None:
                self._write()

    def add(self, judged):
        """Add one `stm_keras.inference.scan_result.ScanResult`."""
        kind, read = judged.outcome, judged.error is None
        changed = read and bool(judged.verdict.change_lines)
        scan = judged.scan_input and judged.scan_input.scan
        self._marks.append((kind, changed, read, name_of(judged), scan and scan.started))
        row = {
            "number": len(self._marks),
            "kind": self.kinds.index(kind) + 1,
            "outcome": kind,
            "colour": verdict_colour(kind, self.classes),
            "path": f"{judged.path}{f' [{judged.index}]' if judged.index else ''}",
            "name": name_of(judged),
            "folder": "" if judged.path.parent == Path() else str(judged.path.parent),
        }
        if read:
            row |= {"error": None, **_row(judged)}
        else:
            blank = {"picture": None, "before": None, "size": "", "changes": ()}
            row |= {"error": judged.reason, **blank}
        self._rows.write(page.render("scan_row.html", **row))

    def _write(self):
        self._rows.seek(0)
        number = len(self._marks)
        kinds = [kind for kind, *_ in self._marks]
        order, marks = _in_order(self._marks)
        page.write(
            self.path,
            "scans.html",
            self.overwrite,
            title=f"{number:,} scan{'' if number == 1 else 's'}",
            number=number,
            kinds=[
                (name, verdict_colour(name, self.classes), kinds.count(name))
                for name in self.kinds
            ],
            changed=sum(changed for _, changed, *_ in self._marks),
            change_colour=CHANGE,
            lanes=self._lanes(marks) if number > 1 else (),
            ticks=_ticks(marks),
            order=order,
            rows=map(Markup, self._rows),
            date=f"{datetime.now():%Y-%m-%d %H:%M}",
        )

    def _lanes(self, marks):
        """Lay the scans out in time: a lane for each verdict, and one for tip changes.

        Returns:
            list of tuples: name, colour, number of scans, and marks as of `_runs`.
        """
        lanes = {kind: [] for kind in (*self.kinds, None)}  # None: the tip changed
        for place, (_, (kind, changed, *_)) in enumerate(marks):
            lanes[kind].append(place)
            if changed:
                lanes[None].append(place)
        return [
            (
                kind or "tip change",
                verdict_colour(kind, self.classes) if kind else CHANGE,
                len(places),
                _runs(marks, places),
            )
            for kind, places in lanes.items()
            if places
        ]


def _in_order(marks):
    """Sort scans by the time they began if all tell it; return which order it is, and pairs of
    number and mark. A file that cannot be read stays behind the one before it.
    """
    numbered = list(enumerate(marks, start=1))
    starts = [start for _, _, read, _, start in marks if read]
    if not all(starts) or not starts:
        return (
            "In the order of the files: not all of them record when a scan began.",
            numbered,
        )
    latest, keys = min(starts), {}
    for number, (*_, start) in numbered:
        latest = keys[number] = start or latest
    text = (
        "In the order in which the scans began, as their files record it; all of one width."
    )
    return text, sorted(numbered, key=lambda pair: keys[pair[0]])


def _runs(marks, places):
    """Join neighbours of a lane where there are too many scans for a mark each."""
    many = len(marks) > SINGLE
    runs = []
    for _, run in groupby(
        enumerate(places), lambda pair: pair[1] - pair[0] if many else pair
    ):
        run = [place for _, place in run]
        number, (kind, _, _, name, start) = marks[run[0]]
        about = [name, kind, *([f"{start:%Y-%m-%d %H:%M}"] if start else [])]
        if len(run) > 1:
            about.append(f"and {len(run) - 1} more")
        mark = {"first": run[0], "width": len(run), "id": f"scan-{number}"}
        runs.append({**mark, "title": ", ".join(about)})
    return runs


def _ticks(marks):
    """Name some scans along the timeline, so far apart that names do not overlap."""
    places = np.unique(np.linspace(0, len(marks) - 1, min(TICKS, len(marks))).round())
    ticks, day = [], None
    for place in places.astype(int):
        number, (*_, start) = marks[place]
        name = str(number)
        if start is not None:
            name = f"{start:%H:%M}" + (f"\n{start:%Y-%m-%d}" if start.date() != day else "")
            day = start.date()
        ticks.append({"at": 100 * (place + 0.5) / len(marks), "name": name})
    return ticks


def _row(judged):
    verdict, scan_input = judged.verdict, judged.scan_input
    frame, aspect = scan_input.frame()
    share = verdict.confidence if is_class(verdict) else None
    words = verdict_words(judged)
    rows = len(frame)
    return {
        "picture": _picture(frame, aspect),
        "ratio": frame.shape[1] / (rows * aspect),
        "rows": rows,
        "trace": _trace(judged),
        "change_rows": [scan_input.row_of(line) for line in judged.change_lines or ()],
        "changes": judged.change_lines or (),
        "share": "" if share is None else share,
        "confidence": "" if share is None else f"{100 * share:.0f} %",
        "lines": judged.lines,
        "width": short(scan_input.size[0] * NANO) if scan_input.size else "",
        "size": size_text(judged),
        "before": judged.context and judged.context.words,
        "words": [text for text, _ in words],
        "doubts": [text for text, doubt in words if doubt],
        "tiles": _tiles(judged) if judged.tiles else None,
    }


def _picture(frame, aspect):
    """Draw a scan as JPEG, in bytes; the page gives it its true shape."""
    from PIL import Image

    width = int(np.clip(frame.shape[1], *PICTURE))
    picture = draw_scan(frame, len(frame), width=width, aspect=aspect)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=82, optimize=True)
    return stream.getvalue()


def _trace(judged):
    """Lay out class probabilities after each line, in the rows of the frame.

    Returns:
        list of pairs of str, the colour of a class and the points of its polygon, across from
        0 to 1; empty where no class may be shown.
    """
    if not shows_classes(judged.verdict):
        return []
    scan_input, state = judged.scan_input, judged.verdict.state
    if state is None or not len(state):  # a verdict on the whole scan
        state = np.array([judged.verdict.probabilities])
        bounds = scan_input.bounds[[0, -1]]
    else:
        bounds = scan_input.bounds[: len(state) + 1]
    chosen = np.unique(np.linspace(0, len(bounds) - 1, POINTS).round().astype(int))
    rows = [scan_input.row_of(int(bound)) for bound in bounds[chosen]]
    values = state[np.maximum(chosen - 1, 0)]  # (points, classes), each after its line
    ends = np.cumsum(np.pad(values, ((0, 0), (1, 0))), axis=1)
    polygons = []
    for number in range(values.shape[1]):
        there = zip(ends[:, number + 1], rows, strict=True)
        back = zip(ends[::-1, number], rows[::-1], strict=True)
        points = " ".join(f"{x:.3f},{y:g}" for x, y in (*there, *back))
        polygons.append((class_colour(number), points))
    return polygons


def _tiles(judged):
    """Lay out the verdicts of tiles as a small map."""
    cells, tiles = [], judged.scan_input.tiles
    for tile, verdict in zip(tiles, judged.tiles, strict=True):
        name = verdict.verdict
        if is_class(verdict):
            name += f", {100 * verdict.confidence:.0f} %"
        colour = verdict_colour(verdict.verdict, judged.classes)
        cells.append((tile.column, tile.row, colour, name))
    rows = 1 + max(tile.row for tile in tiles)
    columns = 1 + max(tile.column for tile in tiles)
    return {"rows": rows, "columns": columns, "cells": cells}


def name_of(judged):
    """Return the name of the file, and which of its scans it is."""
    name = Path(judged.path).name
    name = name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
    return f"{name} [{judged.index}]" if judged.index else name


def size_text(judged):
    """Say how large a scan is and how it was recorded, as far as that is known."""
    scan_input, scan = judged.scan_input, judged.scan_input.scan
    parts = []
    if scan is not None and scan.size is not None:
        parts.append(" x ".join(short(length * NANO) for length in scan.size) + " nm")
    parts.append(
        f"{judged.lines} of {scan_input.planned} lines x {scan_input.lines.shape[1]} px"
    )
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

    Returns:
        list of tuples (str, bool): words, and whether they speak against trusting it.
    """
    verdict, words = judged.verdict, []
    if verdict.reason:
        words.append((verdict.reason, True))
    if verdict.verdict == "unsure":
        words.append((f"perhaps {verdict.name} ({100 * verdict.confidence:.0f} %)", True))
    words += [(remark, True) for remark in judged.scan_input.remarks]
    if judged.change_lines:
        lines = ", ".join(map(str, judged.change_lines))
        words.append((f"tip change at line {lines}", False))
    return words
