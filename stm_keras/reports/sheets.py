"""One picture of each scan that was judged: the scan, and what every line said."""

import os
import textwrap
from pathlib import Path

import numpy as np

from stm_keras.data.draw import draw_scan
from stm_keras.errors import OutputError, require
from stm_keras.evaluation.style import (
    CHANGE,
    COLOURS,
    FAINT,
    GREY,
    INK,
    apart,
    broken,
    class_colour,
    dark,
    escape,
    figure_png,
    style_axes,
    verdict_colour,
)
from stm_keras.files import atomic, check_folder
from stm_keras.reports.scans import (
    is_class,
    name_of,
    short,
    shows_classes,
    size_text,
    verdict_words,
)

PIXELS = 512  # of a scan in its picture, along a line
HEIGHT = 3.7  # inches, of the panels where the scan is about as high as wide
WIDTHS, HEIGHTS = (1.6, 7.5), (1.2, 11)  # inches, what others are fitted into
LINE = 0.19  # inches, of text
WARN = COLOURS[5]
LONGEST = 200  # bytes of a name: file systems take 255, with a number and what is temporary


class ScanSheets:
    """Writes a PNG for each scan into a folder.

    Args:
        folder: str or `Path`. Made where it is missing.
        overwrite: bool. Whether pictures that are there may be replaced.

    Raises:
        OutputError: The folder holds pictures already, or cannot be written.
        MissingExtraError: matplotlib is not installed.
    """

    def __init__(self, folder, overwrite=False):
        require("matplotlib", "pictures")
        self.folder = check_folder(folder)
        self.overwrite = overwrite
        self._names = set()
        if not overwrite and any(self.folder.glob("[!.]*.png")):
            raise OutputError(
                f"{folder}: holds pictures already. Add --overwrite, or name another folder."
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def add(self, judged):
        """Draw one `stm_keras.inference.scan_result.ScanResult`; return the `Path`, or None."""
        if judged.error is not None:
            return None
        path = self.folder / self._name(judged)
        with atomic(path, self.overwrite) as temporary:
            temporary.write_bytes(figure_png(plot_judged(judged), dpi=120))
        return path

    def _name(self, judged):
        """Return a name of its own: that of the file, with its folders where needed."""
        path = Path(judged.path)
        index = f"-{judged.index}" if judged.index else ""
        parts = [part for part in path.parts if part not in (path.anchor, "..")]
        for first in range(len(parts) - 1, -1, -1):
            name = f"{_short('-'.join(parts[first:]))}{index}.png"
            if name not in self._names:
                break
        stem, number = name.removesuffix(".png"), 2
        while name in self._names:
            name, number = f"{stem} ({number}).png", number + 1
        self._names.add(name)
        return name


def _short(name):
    """Return the beginning of a name, with which a file can still be called."""
    while len(os.fsencode(name)) > LONGEST:
        name = name[:-1]
    return name


def plot_judged(judged):
    """Draw a scan beside the class probabilities after each of its lines.

    The panels share the rows of the frame, so that what a line shows lies beside what was
    said after it, also where the scan ran upwards. A change of the tip is marked across
    all of them. The last panel is what preprocessing removed: the step in height from
    one line to the next.
    """
    from matplotlib.figure import Figure

    scan_input = judged.scan_input
    frame, aspect = scan_input.frame()
    picture = draw_scan(frame, len(frame), width=PIXELS, aspect=aspect)
    wide, high = panel_size(len(frame) * aspect / frame.shape[1])
    width = wide + 2.1 + 1.0 + 1.1  # the other panels, and the margins
    remarks = textwrap.wrap(_remarks(judged), max(int((width - 0.8) / 0.075), 20))
    top = 0.6 + LINE * len(remarks)
    height = top + high + 0.62
    figure = Figure(figsize=(width, height))
    cells = figure.add_gridspec(
        1,
        3,
        width_ratios=[wide, 2.1, 1.0],
        left=0.55 / width,
        right=1 - 0.25 / width,
        bottom=0.62 / height,
        top=1 - top / height,
        wspace=0.09,
    )
    panels = [figure.add_subplot(cell) for cell in cells]
    rows = len(frame)
    edges = [scan_input.row_of(int(bound)) for bound in scan_input.bounds]
    _draw_scan(panels[0], judged, picture, frame.shape, wide)
    _draw_state(panels[1], judged, edges)
    _draw_steps(panels[2], judged)
    for axes in panels:
        axes.set_ylim(rows, 0)
    for axes in panels[1:]:
        axes.set_yticks([])
    _mark_changes(panels, judged, rows, LINE / high * rows)
    _write_words(figure, judged, remarks)
    return figure


def panel_size(shape):
    """Return width and height in inches for a scan that is `shape` times as high as wide.

    They are in that proportion unless it is beyond 1 to 12 or so.
    """
    wide = np.clip(HEIGHT / shape, *WIDTHS)
    high = np.clip(wide * shape, *HEIGHTS)
    return min(high / shape, 14), high


def _mark_changes(panels, judged, rows, gap):
    """Draw a line across all panels at each tip change, and labels that do not overlap."""
    lines = judged.change_lines or ()
    marks = [judged.scan_input.row_of(line) for line in lines]
    up = judged.scan_input.scan is not None and judged.scan_input.scan.slow == "up"
    shift = -gap / 2 if up else gap / 2
    labels = apart([mark + shift for mark in marks], gap, gap / 2, rows - gap / 2)
    for line, mark, label in zip(lines, marks, labels, strict=True):
        for axes in panels:
            axes.axhline(mark, color=CHANGE, lw=1.4, ls=(0, (4, 2)))
        words = f"tip change, line {line}"
        _label(panels[1], 0.97, label, words, INK, ha="right", va="center")


def _draw_scan(axes, judged, picture, shape, wide):
    rows, pixels = shape
    axes.imshow(
        picture, extent=(0, pixels, rows, 0), aspect="auto", interpolation="lanczos"
    )
    scan_input = judged.scan_input
    slow = None if scan_input.scan is None else scan_input.scan.slow
    axes.set_xticks([])
    axes.set_ylabel("row  (scanned upwards)" if slow == "up" else "row", size=9, color=INK)
    axes.tick_params(labelsize=8, color=GREY, labelcolor=INK)
    axes.spines[:].set_visible(False)
    size = None if scan_input.scan is None else scan_input.scan.size
    if size is not None:
        _draw_bar(axes, size[0] * 1e9, rows, pixels)
    for tile, verdict in zip(scan_input.tiles, judged.tiles, strict=True):
        _draw_tile(axes, judged, tile, verdict, shape, wide)


def _draw_bar(axes, width, rows, pixels):
    """Draw how long a round number of nanometres is."""
    power = 10.0 ** np.floor(np.log10(width / 4))
    length = max(n * power for n in (1, 2, 5) if n * power <= width / 4 * 1.0001)
    start, end = 0.04 * pixels, (0.04 + length / width) * pixels
    for colour, thick in (("black", 5), ("white", 2.5)):
        line = {"color": colour, "lw": thick, "solid_capstyle": "butt"}
        axes.plot([start, end], [0.955 * rows] * 2, **line)
    _label(axes, start, 0.935 * rows, f"{length:g} nm", "black", va="bottom")


def _label(axes, x, y, words, colour, **where):
    """Write white words on a patch of a colour."""
    patch = {"boxstyle": "round,pad=0.15", "fc": colour, "ec": "none", "alpha": 0.8}
    axes.text(x, y, words, color="white", size=7.5, bbox=patch, **where)


def _draw_tile(axes, judged, tile, verdict, shape, wide):
    from matplotlib.patches import Rectangle

    width, height = (length * 1e9 for length in judged.scan_input.scan.size)
    rows, pixels = shape
    left, top, wide, high = tile.nm
    colour = verdict_colour(verdict.verdict, judged.classes)
    x, y = left / width * pixels, top / height * rows
    w, h = wide / width * pixels, high / height * rows
    inset = 0.03 * w
    corner, size = (x + inset, y + inset), (w - 2 * inset, h - 2 * inset)
    dashes = "-" if is_class(verdict) else ":"
    axes.add_patch(Rectangle(corner, *size, fill=False, ec=colour, lw=1.8, ls=dashes))
    name = f"{100 * verdict.confidence:.0f} %" if is_class(verdict) else verdict.verdict
    if w / pixels * wide < 0.06 * len(name):  # inches
        name = broken(name)
    _label(axes, x + w / 2, y + 2 * inset, name, dark(colour), ha="center", va="top")


def _draw_state(axes, judged, edges):
    if not shows_classes(judged.verdict):
        style_axes(axes, "", judged.outcome, "")
        axes.grid(False)
        axes.set_xticks([])
        axes.set_facecolor(FAINT)
        return
    state = judged.verdict.state
    whole = state is None or not len(state)
    if whole:
        state, edges = np.array([judged.verdict.probabilities]), [edges[0], edges[-1]]
    style_axes(axes, "", "whole scan" if whole else "after each line", "")
    axes.grid(False)
    rows = np.repeat(edges[: len(state) + 1], 2)[
        1:-1
    ]  # each line from its top to its bottom
    ends = np.cumsum(np.pad(state, ((0, 0), (1, 0))), axis=1)  # (lines, classes + 1)
    for number in range(state.shape[1]):
        low, high = (np.repeat(ends[:, number + more], 2) for more in (0, 1))
        axes.fill_betweenx(rows, low, high, color=class_colour(number), lw=0)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.xaxis.label.set_size(9)
    axes.tick_params(labelsize=8)


def _draw_steps(axes, judged):
    steps, _ = judged.line_trends
    scan_input = judged.scan_input
    known = np.abs(steps[np.isfinite(steps)])
    widest = 1.5 * np.percentile(known, 99) if known.size else 0
    factor, unit = _prefix(widest / 1.5, scan_input.unit)
    style_axes(axes, "", f"step ({unit})" if unit else "step", "")
    rows = np.array([scan_input.row_of(line) for line in range(len(steps) + 1)])
    middle = (rows[:-1] + rows[1:]) / 2
    values = factor * steps
    axes.axvline(0, color=GREY, lw=0.8)
    axes.plot(values, middle, color=INK, lw=0.8)
    widest = factor * widest or 1.0
    axes.set_xlim(-widest, widest)
    axes.set_xticks([-widest / 1.5, widest / 1.5])
    axes.xaxis.set_major_formatter(lambda value, _: short(value, 2))
    axes.xaxis.label.set_size(9)
    axes.tick_params(labelsize=8)


def _prefix(value, unit):
    """Return what to multiply by for numbers that can be read, and their unit."""
    if unit not in ("m", "A"):
        return 1.0, unit
    for factor, prefix in ((1e6, "µ"), (1e9, "n"), (1e12, "p")):
        if value * factor >= 1:
            return factor, prefix + unit
    return (1e12, "p" + unit) if value * 1e12 >= 0.1 else (1e15, "f" + unit)


def _remarks(judged):
    return escape(", ".join(words for words, doubt in verdict_words(judged) if doubt))


def _write_words(figure, judged, remarks):
    width, height = figure.get_size_inches()
    verdict = judged.verdict
    title = judged.outcome
    if is_class(verdict):
        title += f"  {100 * verdict.confidence:.0f} %"
    colour = dark(verdict_colour(judged.outcome, judged.classes))
    left, top = 0.55 / width, 1 - 0.26 / height
    figure.text(left, top, escape(title), color=colour, size=13, weight="bold")
    about = [name_of(judged), size_text(judged)]
    about = "   ".join(words for words in about if words)
    figure.text(left, 1 - 0.47 / height, escape(about), color=GREY, size=8.5)
    for number, line in enumerate(remarks, start=1):
        figure.text(left, 1 - (0.47 + LINE * number) / height, line, color=WARN, size=9)
    shown = [judged.verdict, *judged.tiles]
    if not any(map(shows_classes, shown)):
        return
    x = left
    bottom = {"y": 0.1 / height, "va": "baseline"}
    for number, name in enumerate(judged.classes):
        figure.text(x, s="■", color=class_colour(number), size=10, **bottom)
        figure.text(x + 0.15 / width, s=escape(name), color=INK, size=8, **bottom)
        x += (0.36 + 0.068 * len(name)) / width
        if x > 1 - 1.6 / width and number < len(judged.classes) - 1:
            figure.text(x, s="…", color=INK, size=8, **bottom)
            break
