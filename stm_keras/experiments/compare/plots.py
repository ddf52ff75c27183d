"""Figures of a comparison: step times, losses and their differences, memory, rates, scores."""

import numpy as np
from matplotlib.figure import Figure

from stm_keras.evaluation.style import COLOURS, GREY, class_colour, escape, style_axes
from stm_keras.experiments.compare.sides import REFERENCES

LIBRARIES = ("tensorflow", "jax", "torch", *REFERENCES)
FLOOR = 1e-9  # of differences on a logarithmic axis


def plot_times(rows):
    """Draw the time of a training step: each round, quartiles as a box, median as a line.

    Args:
        rows: list of dict, as of `summarise`, all of them done.

    Returns:
        `Figure`.
    """
    figure, axes = _bars(rows, "time of a training step", "ms")
    for place, row in enumerate(rows):
        times = {k: 1e3 * np.asarray(v) for k, v in row["step_wall"].items()}
        colour = _colour(row)
        axes.barh(
            place, times["q3"] - times["q1"], 0.5, times["q1"], color=colour, alpha=0.35
        )
        axes.plot([times["min"], times["max"]], [place] * 2, color=colour, lw=1)
        axes.plot([times["median"]] * 2, [place - 0.3, place + 0.3], color=colour, lw=2.5)
        axes.plot(times["values"], [place] * len(times["values"]), ".", color=colour, ms=6)
    axes.set_xlim(left=0)
    return figure


def plot_losses(rows):
    """Draw the loss of each step, and how far it is from that of the side compared with.

    Args:
        rows: As of `plot_times`.

    Returns:
        `Figure`.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    style_axes(left, "loss, no dropout", "step", "")
    style_axes(right, "difference of the loss; none: 1e-9", "step", "")
    known = {row["side"]: row["losses"] for row in rows}
    for row in rows:
        style = {"color": _colour(row), "ls": _dashes(row), "label": escape(row["side"])}
        steps = np.arange(1, len(row["losses"]) + 1)
        left.plot(steps, row["losses"], lw=1.6, **style)
        if row["agrees_with"] in known:
            apart = np.abs(np.subtract(row["losses"], known[row["agrees_with"]]))
            right.plot(steps, np.maximum(apart, FLOOR), lw=1.4, **style)
    right.set_yscale("log")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(rows), 5), frameon=False
    )
    return figure


def plot_rates(rows):
    """Draw scans a second, trained (solid) and predicted (pale).

    Args:
        rows: As of `plot_times`.

    Returns:
        `Figure`.
    """
    figure, axes = _bars(rows, "scans a second: trained, and predicted (pale)", "1/s")
    for place, row in enumerate(rows):
        rates = row["scans_per_second"]
        axes.barh(place - 0.18, rates["train"], 0.34, color=_colour(row))
        axes.barh(place + 0.18, rates["predict"], 0.34, color=_colour(row), alpha=0.4)
    return figure


def plot_memory(rows):
    """Draw peak memory of the host (solid) and, where it is told, of the device (pale).

    Args:
        rows: As of `plot_times`.

    Returns:
        `Figure`.
    """
    told = any(row["memory_gb"]["device"] is not None for row in rows)
    title = "peak memory" + (": host, and device (pale)" if told else " of the host")
    figure, axes = _bars(rows, title, "GB")
    for place, row in enumerate(rows):
        memory, shift = row["memory_gb"], 0.18 * told
        axes.barh(place - shift, memory["host"], 0.5 - shift, color=_colour(row))
        if memory["device"] is not None:
            axes.barh(place + shift, memory["device"], 0.32, color=_colour(row), alpha=0.4)
    return figure


def plot_scores(rows, name, title):
    """Draw a score of each seed, their mean and its interval.

    Args:
        rows: As of `plot_times`, all of them with that score.
        name: str. "auroc" or "balanced_accuracy".
        title: str.

    Returns:
        `Figure`.
    """
    figure, axes = _bars(rows, f"{title}: seeds, mean and 95 % interval", "")
    for place, row in enumerate(rows):
        score = row["scores"][name]
        if score["interval"] is not None:
            axes.plot(score["interval"], [place] * 2, color=_colour(row), lw=2.2)
        values = score["values"]
        axes.plot(values, [place] * len(values), "o", color=_colour(row), ms=4, alpha=0.5)
        axes.plot(score["mean"], place, "D", color=_colour(row), ms=7)
    return figure


def _bars(rows, title, unit):
    figure = Figure(figsize=(6.4, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    style_axes(axes, title, unit, "")
    axes.set_yticks(range(len(rows)), [escape(_label(rows, row)) for row in rows])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return figure, axes


def _label(rows, row):
    """Name a side, with its machine where there are several."""
    several = len({other["machine"] for other in rows}) > 1
    return f"{row['side']}, {row['machine']}" if several else row["side"]


def _colour(row):
    if row["library"] in LIBRARIES[:3]:
        return class_colour(LIBRARIES.index(row["library"]))
    return {"native": GREY, "native-unmasked": COLOURS[3]}.get(row["library"], COLOURS[5])


def _dashes(row):
    half = row["precision"] != "float32"
    return {(False, False): "-", (False, True): "--", (True, False): ":"}.get(
        (half, row["jit"] != "auto"), "-."
    )
