"""Curves and matrices as figures, each made without a screen or global state."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stm_keras.evaluation.calibration import expected_calibration_error, reliability
from stm_keras.evaluation.history import best_epochs
from stm_keras.evaluation.metrics import auroc, check_pair, recall, roc_points
from stm_keras.evaluation.paper import LRCN_BY_LINES, PADDED_BY_LINES, beside_paper
from stm_keras.evaluation.style import (
    COLOURS,
    GREY,
    INK,
    apart,
    broken,
    class_colour,
    dark,
    escape,
    figure_png,
    style_axes,
)
from stm_keras.evaluation.text import TITLES, number
from stm_keras.files import atomic

NAMES = ("confusion.png", "lines.png", "roc.png", "reliability.png", "history.png")

MANY = 12  # classes; of more a figure names only some, or draws them smaller
LETTERS = 30  # of a name beside many others


def plot_history(histories):
    """Draw loss, AUROC, balanced accuracy and learning rate, of one run or of several.

    Of a single run training is dashed and validation solid; of several only validation
    is drawn, where there is one. A dot marks the best epoch of a score.
    """
    figure = Figure(figsize=(10, 6.2), layout="constrained")
    panels = figure.subplots(2, 2).flat
    alone = len(histories) == 1
    for axes, name in zip(panels, ("loss", "auroc", "balanced_accuracy"), strict=False):
        style_axes(axes, TITLES[name], "epoch", "")
        for index, history in enumerate(histories.values()):
            _plot_score(axes, history, name, *_run_style(index), alone)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style_axes(panels[3], "learning rate", "epoch", "")
    panels[3].xaxis.set_major_locator(MaxNLocator(integer=True))
    for index, history in enumerate(histories.values()):
        rate = history.get("learning_rate", np.zeros(0))
        if (rate > 0).any():
            colour, style = _run_style(index)
            panels[3].plot(history["epoch"], rate, color=colour, ls=style, marker=".")
            panels[3].set_yscale("log")
    lines = [(escape(name), *_run_style(index)) for index, name in enumerate(histories)]
    if alone:
        colour = class_colour(0)
        lines = [("validation", colour, "-"), ("training", colour, "--")]
    handles = [
        panels[0].plot([], [], color=colour, ls=style, lw=1.5 if alone else 2, label=label)[
            0
        ]
        for label, colour, style in lines
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 4),
        frameon=False,
    )
    return figure


def plot_confusion(confusion, classes):
    """Draw a confusion matrix: share of each true class, and the counts."""
    confusion = np.asarray(confusion)
    total = confusion.sum(axis=1, keepdims=True)
    share = confusion / np.maximum(total, 1)
    many = len(classes) > MANY  # then squares without words
    names = [escape(name)[:LETTERS] if many else broken(name) for name in classes]
    upright = many or max(map(_width, names)) > 15  # beside each other they would overlap
    side = max(5.2, (0.3 if many else 1.15) * len(classes) + 1.9)
    figure = Figure(figsize=(side + 0.5, side - 0.5), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in () if many else np.ndenumerate(confusion):
        ink = "white" if share[row, column] > 0.55 else INK
        text = f"{100 * share[row, column]:.0f} %" if total[row, 0] else "–"
        axes.text(column, row - 0.08, text, ha="center", va="center", color=ink, size=13)
        axes.text(
            column, row + 0.24, f"{count:,}", ha="center", va="center", color=ink, size=9
        )
    axes.set_xticks(range(len(classes)), names, size=9, rotation=90 if upright else 0)
    axes.set_yticks(range(len(classes)), names, size=9)
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for index, label in enumerate(labels):
            label.set_color(dark(class_colour(index)))
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    recalls = recall(confusion)
    mean = np.nanmean(recalls) if np.isfinite(recalls).any() else None
    axes.set_title(f"balanced accuracy {number(mean)}", loc="left", color=INK, size=11)
    return figure


def plot_reliability(labels, probabilities, bins=15):
    """Draw accuracy against confidence over a histogram of confidence."""
    confidence, right, count = reliability(labels, probabilities, bins)
    edges = np.linspace(0, 1, bins + 1)
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    error = expected_calibration_error(labels, probabilities, bins)
    style_axes(axes, f"ECE {number(error)}", "", "accuracy")
    axes.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1)
    axes.bar(edges[:-1], np.nan_to_num(right), 1 / bins, align="edge", **_bar())
    for x, y in zip(confidence, right, strict=True):
        axes.plot([x, x], [x, y], color=COLOURS[5], lw=2.2, solid_capstyle="butt")
    axes.plot(confidence, right, "o", color=COLOURS[5], ms=4.5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.text(
        0.03, 0.95, "above the diagonal: underconfident", color=GREY, size=9, va="top"
    )
    axes.text(0.97, 0.05, "below: overconfident", color=GREY, size=9, ha="right")
    style_axes(below, "", "confidence", "scans")
    below.bar(edges[:-1], count, 1 / bins, align="edge", **_bar())
    return figure


def plot_lines(by_lines, reference=True, num_classes=4):
    """Draw score against the number of lines seen, with its interval.

    Args:
        by_lines: list of dict, as in `score_predictions`; or dict of what several are
            called to such a list.
        reference: bool. Whether to draw the curve of Gordon et al. 2020 behind.
        num_classes: int. Sets the chance level.

    Returns:
        `Figure` with AUROC and balanced accuracy.
    """
    figure = Figure(figsize=(10, 4.3), layout="constrained")
    curves = by_lines if isinstance(by_lines, dict) else {"this model": by_lines}
    every = [entry["lines"] for curve in curves.values() for entry in curve]
    last = max([*every, 128 if reference else 1])
    for axes, name, chance in zip(
        figure.subplots(1, 2), LRCN_BY_LINES, (0.5, 1 / num_classes), strict=True
    ):
        style_axes(axes, TITLES[name], "lines seen", "")
        axes.axhline(chance, color=GREY, lw=1, ls=":")
        axes.text(last, chance, "chance", color=GREY, size=9, ha="right", va="bottom")
        if reference:
            for points, style, label in (
                (LRCN_BY_LINES[name], "-", "LRCN (W=20), 2020"),
                (PADDED_BY_LINES[name], "s", "zero-padded, 2020"),
            ):
                lines, values = list(points), list(points.values())
                axes.plot(lines, values, style, color=GREY, lw=2, ms=5, label=label)
        lowest = chance
        for colour, (label, curve) in zip(COLOURS, curves.items(), strict=False):
            seen = [entry["lines"] for entry in curve]
            values = np.array([entry[name] for entry in curve], float)
            low, high = _band(curve, name)
            axes.fill_between(seen, low, high, color=colour, alpha=0.18, lw=0)
            axes.plot(seen, values, "o-", color=colour, ms=4.5, lw=2, label=label)
            lowest = np.nanmin([lowest, *values, *low])
        axes.set_xscale("log", base=2)
        ticks = [2**i for i in range(int(np.log2(last)) + 1)]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(max(0, lowest - 0.03), 1.005)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    return figure


def plot_roc(labels, probabilities, classes):
    """Draw the one-vs-rest ROC curve of every class."""
    labels, probabilities = check_pair(labels, probabilities)
    macro, areas = auroc(labels, probabilities)
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.subplots()
    macro = None if np.isnan(macro) else macro
    style_axes(axes, f"AUROC {number(macro)}", "false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1)
    worst = np.argsort(areas)[:MANY]  # a legend has room for so many; NaN come last
    for index, name in enumerate(classes):
        if np.isfinite(areas[index]):
            short = escape(name)[:LETTERS]
            label = f"{short}  {areas[index]:.3f}" if index in worst else None
            rates = roc_points(labels == index, probabilities[:, index])
            axes.plot(*rates, color=class_colour(index), lw=1.8, label=label)
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), aspect="equal")
    if np.isfinite(areas).any():
        title = f"the {MANY} worst of {len(classes)}" if len(classes) > MANY else None
        axes.legend(frameon=False, fontsize=9, loc="lower right", title=title)
    return figure


def draw_figures(scores, predictions=None, history=None):
    """Draw what there are data for.

    Args:
        scores: dict, as of `score_predictions`.
        predictions: dict of `labels` and `probabilities`, or None: then there are no
            ROC and reliability.
        history: dict of arrays, as of `read_history`, or None.

    Returns:
        dict of name ("confusion", "lines", "roc", "reliability", "history") to `Figure`.
    """
    classes = list(scores["per_class"])
    figures = {"confusion": plot_confusion(scores["confusion"], classes)}
    if scores.get("by_lines"):
        reference = beside_paper(scores)
        figures["lines"] = plot_lines(scores["by_lines"], reference, len(classes))
    if predictions is not None:
        pair = predictions["labels"], predictions["probabilities"]
        figures["roc"] = plot_roc(*pair, classes)
        figures["reliability"] = plot_reliability(*pair)
    if history is not None:
        figures["history"] = plot_history({"run": history})
    return figures


def write_figures(folder, scores, predictions=None, history=None, overwrite=False):
    """Write the figures of `draw_figures` as one PNG each: list of `Path`.

    Raises:
        OutputError: A picture exists, or cannot be written.
    """
    figures = draw_figures(scores, predictions, history)
    paths = [Path(folder) / f"{name}.png" for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        with atomic(path, overwrite) as temporary:
            temporary.write_bytes(figure_png(figure))
    return paths


def _width(name):
    return max(map(len, name.split("\n")))


def _run_style(index):
    """Colour and dashes of a run, different for some thirty of them."""
    dashes = ("-", "--", ":", "-.")
    return class_colour(index), dashes[index // len(COLOURS) % len(dashes)]


def _plot_score(axes, history, name, colour, dashes, alone):
    epochs = history["epoch"]
    best = best_epochs(history)
    judged = f"val_{name}" if f"val_{name}" in best else name
    for column, style in ((name, "--" if alone else dashes), (f"val_{name}", dashes)):
        if column in best and (alone or column == judged):
            axes.plot(epochs, history[column], color=colour, ls=style, lw=1.8)
            if len(epochs) == 1:
                axes.plot(epochs, history[column], ".", color=colour)
    if judged in best:
        at = best[judged]
        axes.plot(
            at["best_epoch"], at["best"], "o", color=colour, ms=7, mec="white", zorder=5
        )
        if alone:
            axes.set_title(
                f"best {at['best']:.3f} at epoch {at['best_epoch']}",
                loc="right",
                size=9,
                color=GREY,
            )


def _band(by_lines, name):
    pairs = [entry["intervals"].get(name) or (np.nan, np.nan) for entry in by_lines]
    return np.array(pairs, float).reshape(-1, 2).T


def _bar():
    return {"color": COLOURS[4], "alpha": 0.55, "edgecolor": "white", "lw": 1}


def plot_risk_coverage(rejection):
    """Draw the share of wrong verdicts against the share of scans that get one.

    Returns:
        `Figure`. A dot marks each coverage that was asked for, where it came out.
    """
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    title = f"area {number(rejection['aurc'])}"
    style_axes(axes, title, "scans that get a verdict", "wrong verdicts")
    curve, all_wrong = rejection["curve"], 1 - rejection["accuracy"]
    axes.axhline(all_wrong, color=GREY, lw=1, ls="--")
    axes.text(0.01, all_wrong, "every scan judged", color=GREY, size=9, va="bottom")
    axes.plot(curve["coverage"], curve["risk"], color=COLOURS[0], lw=2)
    highest = max([all_wrong, *curve["risk"]], default=1)
    axes.set(xlim=(0, 1.01), ylim=(-0.08 * highest, max(1.12 * highest, 0.01)))
    points = [point for point in rejection["points"] if point["accuracy"] is not None]
    labels = apart([point["coverage"] for point in points], 0.11, 0.05, 0.97)
    for point, label in zip(points, labels, strict=True):
        dot = point["coverage"], 1 - point["accuracy"]
        axes.plot(*dot, "o", color=COLOURS[5], ms=6, mec="white", zorder=5)
        axes.annotate(
            f"{100 * point['wanted']:.0f} %",
            dot,
            (label, -0.06 * highest),
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.6},
            color=INK,
            size=9,
            ha="center",
        )
    return figure


def plot_unknown(unknown):
    """Draw how scans of the known surface and of others spread over the score."""
    figure = Figure(figsize=(5.4, 4.6), layout="constrained")
    axes = figure.subplots()
    style_axes(
        axes,
        f"AUROC {number(unknown['auroc'])}",
        "score of an unknown surface",
        "share of scans",
    )
    histogram = unknown["histogram"]
    if histogram is None:
        return figure
    edges = np.array(histogram["edges"])
    names = (("known", "known surface", 0), ("other", "other surfaces", 2))
    for name, label, colour in names:
        share = np.array(histogram[name]) / max(unknown[f"n_{name}"], 1)
        style = {"color": COLOURS[colour], "alpha": 0.55, "lw": 0}
        axes.bar(edges[:-1], share, np.diff(edges), align="edge", label=label, **style)
    if unknown["threshold"] is not None and edges[0] <= unknown["threshold"] <= edges[-1]:
        axes.axvline(unknown["threshold"], color=INK, lw=1.2, ls="--", label="threshold")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def plot_changes(changes):
    """Draw tip changes detected against false alarms, and the delay of the calls."""
    figure = Figure(figsize=(10, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    title = f"detected {number(changes['found'])}"
    style_axes(left, title, "false alarms per scan without a change", "changes detected")
    curve = changes["curve"]
    alarms, detected = (
        np.array([np.nan if value is None else value for value in curve[name]])
        for name in ("false_alarms", "found")
    )
    left.plot(alarms, detected, ".-", color=COLOURS[0], lw=2, ms=5)
    if changes["found"] is not None and changes["false_alarms"] is not None:
        chosen = changes["false_alarms"], changes["found"]
        left.plot(*chosen, "o", color=COLOURS[5], ms=7, mec="white", zorder=5)
    left.axvline(0.05, color=GREY, lw=1, ls="--")
    left.text(0.05, 0.02, " 1 in 20 scans", color=GREY, size=9)
    left.set_xscale("symlog", linthresh=0.05, linscale=1)
    ticks = (0, 0.05, 0.2, 1, 5)
    left.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    left.minorticks_off()
    left.set(xlim=(-0.005, 8), ylim=(0, 1.02))

    offsets = {int(offset): count for offset, count in changes["offsets"].items()}
    style_axes(right, "", "delay of the call (lines)", "changes")
    inside = [abs(offset) <= changes["tolerance"] for offset in offsets]
    colours = [COLOURS[4] if near else COLOURS[6] for near in inside]
    right.bar(list(offsets), list(offsets.values()), 0.9, color=colours)
    right.axvline(0, color=INK, lw=1, ls=":")
    return figure
