"""Bring together what sides measured, here or elsewhere, and write the result."""

import json
import shutil
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from stm_keras.config import differences
from stm_keras.errors import MismatchError
from stm_keras.evaluation.style import COLOURS, GREY, class_colour, escape, style_axes
from stm_keras.experiments.compare.sides import REFERENCES
from stm_keras.experiments.compare.summary import (
    cells,
    conditions,
    failures,
    markdown,
    summarise,
)
from stm_keras.files import atomic
from stm_keras.reports import page

LIBRARIES = ("tensorflow", "jax", "torch", *REFERENCES)
FLOOR = 1e-9  # of differences on a logarithmic axis

NO_PART = "there is no result: its job did not end, or never began. Its log is in logs/."


def collect(folder):
    """Sum up the parts of a folder.

    Args:
        folder: A `Folder`.

    Returns:
        dict, JSON-ready: "rows" as of `summarise`, "machines", "settings" and "command".

    Raises:
        MismatchError: The parts cannot be compared.
    """
    plan, parts = folder.plan(), folder.parts()
    material = folder.material()
    machines = {}
    for part in parts:
        part["place"] = f"{folder.path} ({part['name']}, {part['machine']['name']})"
        part["batch_size"] = plan.config.train.batch_size
        known = machines.setdefault(part["machine"]["name"], part["machine"])
        known["load"] = [known["load"][0], part["machine"]["load"][-1]]
    there = {part["name"] for part in parts}
    missing = [(side.name, NO_PART) for side in plan.sides if side.name not in there]
    return {
        "command": plan.command,
        "settings": {
            "name": plan.config.name,
            "batch_size": plan.config.train.batch_size,
            "steps": plan.steps,
            "repeats": plan.repeats,
            "steps_per_round": plan.steps_per_round,
            "cores": plan.cores,
            "epochs": plan.epochs,
            "seeds": plan.seeds,
            "scans": material["scans"],
            "data": material["data"],
            "split": material["split"],
            "split_note": material["split_note"],
            "weights": material["weights"],
            "config": plan.config.model_dump(exclude={"data": {"path"}}),
        },
        "machines": list(machines.values()),
        "rows": summarise(parts, missing),
    }


def write(folder, comparison):
    """Write comparison.json, comparison.html and comparison.md into a folder."""

    folder.write_json("comparison.json", comparison)
    for suffix, text in (
        ("html", comparison_page(comparison)),
        ("md", markdown(comparison)),
    ):
        with atomic(folder.file(f"comparison.{suffix}"), overwrite=True) as temporary:
            temporary.write_text(text, encoding="utf-8")


def merge(sources, output, command="", overwrite=False):
    """Copy the parts of several comparisons into one folder, where they can be compared.

    Args:
        sources: sequence of `Folder`, of the same config and settings.
        output: `Folder`: new, or the only source, which is then as it was.
        command: str. What was typed.
        overwrite: bool. Whether the output may replace a comparison.

    Raises:
        MismatchError: They compare other things.
    """
    first = sources[0]
    plan = first.plan()
    sides, parts = [], []
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
        one, two = ({side.precision for side in p.sides} for p in (plan, other))
        if not one & two:
            raise MismatchError(
                f"{source.path}: computed in {', '.join(sorted(two))}, and {first.path} in "
                f"{', '.join(sorted(one))}: cannot be compared."
            )
        found = source.parts()
        for part in found:
            part["place"] = f"{source.path} ({part['name']})"
            part["batch_size"] = plan.config.train.batch_size
        sides += other.sides
        parts += found
    summarise(parts)  # refuses what cannot be compared before anything is written
    names = {}
    if [source.path.resolve() for source in sources] != [output.path.resolve()]:
        sides = tuple(dict.fromkeys(sides))
        output.start(replace(plan, sides=sides, command=command), overwrite)
        for name in ("material.json", "split.json", "weights.npz"):
            shutil.copyfile(first.file(name), output.file(name))
        for part in parts:
            del part["place"], part["batch_size"]
            slug = f"{part['name']}-{part['machine']['name']}".replace(" ", "-")
            count = names[slug] = names.get(slug, 0) + 1
            slug += f"-{count}" if count > 1 else ""
            output.write_json(f"parts/{slug}.json", part)


def comparison_page(comparison):
    """Write a comparison as HTML.

    Args:
        comparison: dict, as of `collect`.

    Returns:
        str.
    """
    rows = comparison["rows"]
    done = [row for row in rows if row["status"] == "done"]
    sections = [("Table", _table(comparison))]
    if done:
        pair = page.picture(plot_times(done), "Time of a training step")
        pair += page.picture(plot_rates(done), "Scans a second")
        sections.append(("Speed", f'<div class="pair">{pair}</div>'))
        if done[0]["losses"]:
            curves = page.picture(plot_losses(done), "Losses and differences")
            sections.append(("Agreement", _agreement(done) + curves))
        memory = page.picture(plot_memory(done), "Peak memory", "medium")
        sections.append(("Memory", memory))
    scored = [row for row in done if (row["scores"] or {}).get("auroc")]
    if scored:
        sections.append(("Scores", _scores(scored)))
    sections += [("Machines", _machines(comparison)), ("What was run", _run(comparison))]
    title = f"{comparison['settings']['name']}: backends compared"
    return page.page(title, sections)


def _table(comparison):
    notes = "".join(f"<p>{page.text(text)}</p>" for text in conditions(comparison))
    failed = "".join(
        f"<p><b>Did not run.</b> {page.text(text)}</p>"
        for text in failures(comparison["rows"])
    )
    return page.table(*cells(comparison["rows"])) + failed + notes


def _agreement(rows):
    heads = ["side", "agrees with", "logits before", "loss, largest", "logits after"]
    keys = ("logits_difference", "loss_difference", "logits_difference_after")
    body = [
        [
            row["side"],
            row["agrees_with"] or "is the first",
            *("not finite" if row[key] is None else f"{row[key]:.1e}" for key in keys),
        ]
        for row in rows
    ]
    return page.table(heads, body)


def _scores(rows):
    figures = [
        plot_scores(rows, "auroc", "AUROC"),
        plot_scores(rows, "balanced_accuracy", "balanced accuracy"),
    ]
    pictures = "".join(page.picture(figure, "Scores of the seeds") for figure in figures)
    epochs = rows[0]["scores"]["epochs"]
    return (
        f"<p>{epochs} epoch{'s' * (epochs > 1)} of each seed on the same split, judged on its "
        f'test scans.</p><div class="pair">{pictures}</div>'
    )


def _machines(comparison):
    keys = ("name", "processor", "cores", "cores_allowed", "memory_gb", "system", "python")
    heads = [*(key.replace("_", " ") for key in keys), "load", "SLURM job"]
    body = [
        [
            *(str(machine[key]) for key in keys),
            " to ".join(map(str, machine["load"])),
            str(machine["slurm_job"] or "–"),
        ]
        for machine in comparison["machines"]
    ]
    return page.table(heads, body)


def _run(comparison):
    settings = json.dumps(comparison["settings"], indent=1, allow_nan=False)
    return (
        f"<pre>{page.text(comparison['command'])}</pre>"
        "<details><summary>Settings</summary>"
        f"<pre>{page.text(settings)}</pre></details>"
    )


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
