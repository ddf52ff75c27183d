"""Collect what setups measured, here or elsewhere, and write the result and its pages."""

import json
import shutil

import numpy as np
from matplotlib.figure import Figure

from stm_keras.config import differences
from stm_keras.errors import MismatchError
from stm_keras.evaluation.style import (
    COLOURS,
    GREY,
    class_colour,
    escape,
    figure_png,
    style_axes,
)
from stm_keras.experiments.compare.summary import cells, conditions, failures, summarise
from stm_keras.reports.page import render

NO_PART = (
    "there is no result: its job did not end, or never started. Its log is in slurm/logs/."
)
SETTINGS = ("steps", "repeats", "steps_per_round", "cores", "epochs", "seeds")
SMALLEST = 1e-9  # difference on a logarithmic axis
COLOUR = {
    **{name: class_colour(n) for n, name in enumerate(("tensorflow", "jax", "torch"))},
    "native": GREY,
    "native-unmasked": COLOURS[3],
    "timm": COLOURS[5],
}


def collect(folder):
    """Sum up the parts of a `ComparisonFolder`: rows, machines, settings and command.

    Raises:
        MismatchError: The parts cannot be compared.
    """
    plan, parts, material = folder.plan(), folder.parts(), folder.material()
    machines = {}
    for part in parts:
        part["label"] = f"{folder.path} ({part['name']}, {part['machine']['name']})"
        part["batch_size"] = plan.config.train.batch_size
        known = machines.setdefault(part["machine"]["name"], part["machine"])
        known["load"] = [known["load"][0], part["machine"]["load"][-1]]
    present = {part["name"] for part in parts}
    missing = [(s.name, NO_PART) for s in plan.setups if s.name not in present]
    same = ("scans", "data", "split", "split_note", "weights")
    return {
        "command": plan.command,
        "settings": {
            "name": plan.config.name,
            "batch_size": plan.config.train.batch_size,
            **{key: getattr(plan, key) for key in SETTINGS},
            **{key: material[key] for key in same},
            "config": plan.config.model_dump(exclude={"data": {"path"}}),
        },
        "machines": list(machines.values()),
        "rows": summarise(parts, missing),
    }


def write(folder, comparison):
    """Write comparison.json, comparison.html and comparison.md into a folder."""
    rows = comparison["rows"]
    done = [row for row in rows if row["status"] == "done"]
    columns, body = cells(rows)
    losses = done and done[0]["losses"]
    context = {
        "title": f"{comparison['settings']['name']}: backends compared",
        "comparison": comparison,
        "settings": json.dumps(comparison["settings"], indent=1, allow_nan=False),
        "columns": columns,
        "cells": body,
        "failures": failures(rows),
        "conditions": conditions(comparison),
        "times": figure_png(plot_times(done)) if done else None,
        "losses": figure_png(plot_losses(done)) if losses else None,
        "agreement": [_agreement(row) for row in done],
        "machines": [_machine(machine) for machine in comparison["machines"]],
    }
    folder.write_json("comparison.json", comparison)
    for name in ("comparison.html", "comparison.md"):
        folder.write_text(name, render(name, **context))


def _agreement(row):
    keys = ("logits_difference", "loss_difference", "logits_difference_after")
    values = ["not finite" if row[key] is None else f"{row[key]:.1e}" for key in keys]
    return [row["side"], row["agrees_with"] or "is the first", *values]


def _machine(machine):
    keys = ("name", "processor", "cores", "cores_allowed", "memory_gb", "system", "python")
    load = " to ".join(map(str, machine["load"]))
    return [*(str(machine[key]) for key in keys), load, machine["slurm_job"] or "–"]


def merge(sources, output, command="", overwrite=False):
    """Copy the parts of several comparisons into one folder, or check those of one folder."""
    first = sources[0]
    plan = first.plan()
    setups, parts = [], []
    for source in sources:
        other = source.plan()
        changed = differences(plan.config, other.config)
        same = ("steps", "epochs")
        changed += [key for key in same if getattr(plan, key) != getattr(other, key)]
        if changed:
            raise MismatchError(
                f"{source.path}: another comparison than {first.path}, different in "
                f"{', '.join(changed)}: cannot be compared."
            )
        own, those = ({setup.precision for setup in p.setups} for p in (plan, other))
        if not own & those:
            raise MismatchError(
                f"{source.path}: computed in {', '.join(sorted(those))}, and {first.path} in "
                f"{', '.join(sorted(own))}: cannot be compared."
            )
        setups += other.setups
        parts += [(f"{source.path} ({p['name']})", p) for p in source.parts()]
    batch = {"batch_size": plan.config.train.batch_size}
    # refuses what cannot be compared before anything is written
    summarise([{**part, "label": label, **batch} for label, part in parts])
    if [source.path.resolve() for source in sources] == [output.path.resolve()]:
        return
    changes = {"setups": tuple(dict.fromkeys(setups)), "command": command}
    output.start(plan.model_copy(update=changes), overwrite)
    for name in ("material.json", "split.json", "weights.npz"):
        shutil.copyfile(first.file(name), output.file(name))
    counts = {}
    for _, part in parts:
        slug = f"{part['name']}-{part['machine']['name']}".replace(" ", "-")
        count = counts[slug] = counts.get(slug, 0) + 1
        output.write_json(f"parts/{slug}{f'-{count}' * (count > 1)}.json", part)


def plot_times(rows):
    """Draw the time of a training step: each round, quartiles as a box, median as a line."""
    figure = Figure(figsize=(6.4, 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    style_axes(axes, "time of a training step", "ms", "")
    several = len({row["machine"] for row in rows}) > 1
    names = [f"{row['side']}, {row['machine']}" if several else row["side"] for row in rows]
    axes.set_yticks(range(len(rows)), map(escape, names))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    for y, row in enumerate(rows):
        times = {key: 1e3 * np.asarray(value) for key, value in row["step_wall"].items()}
        colour, width = COLOUR[row["library"]], times["q3"] - times["q1"]
        axes.barh(y, width, 0.5, times["q1"], color=colour, alpha=0.35)
        axes.plot([times["min"], times["max"]], [y, y], color=colour, lw=1)
        axes.plot([times["median"]] * 2, [y - 0.3, y + 0.3], color=colour, lw=2.5)
        axes.plot(times["values"], [y] * len(times["values"]), ".", color=colour, ms=6)
    axes.set_xlim(left=0)
    return figure


def plot_losses(rows):
    """Draw the loss of each step, and its difference from that of the first of its precision."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    style_axes(left, "loss, no dropout", "step", "")
    style_axes(right, "difference of the loss; none: 1e-9", "step", "")
    losses = {row["side"]: row["losses"] for row in rows}
    for row in rows:
        half, compiled = row["precision"] != "float32", row["jit"] != "auto"
        dashes = ("-", "--", ":", "-.")[2 * half + compiled]
        style = {"color": COLOUR[row["library"]], "ls": dashes}
        steps = np.arange(1, len(row["losses"]) + 1)
        left.plot(steps, row["losses"], lw=1.6, label=escape(row["side"]), **style)
        if row["agrees_with"] in losses:
            apart = np.abs(np.subtract(row["losses"], losses[row["agrees_with"]]))
            right.plot(steps, np.maximum(apart, SMALLEST), lw=1.4, **style)
    right.set_yscale("log")
    columns = min(len(rows), 5)
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
    )
    return figure
