"""Figures of reliability: unsure verdicts, unknown surfaces, tip changes."""

import numpy as np
from matplotlib.figure import Figure

from stm_keras.evaluation.style import COLOURS, GREY, INK, apart, style_axes
from stm_keras.evaluation.text import number


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
    """Draw how scans of the known surface and of others spread over the score.

    Returns:
        `Figure`, empty where all scores are alike.
    """
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
