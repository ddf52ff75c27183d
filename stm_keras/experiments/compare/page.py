"""A comparison as one HTML page that needs nothing else: tables and figures."""

import json

from stm_keras.evaluation import markup
from stm_keras.experiments.compare import plots
from stm_keras.experiments.compare.table import cells, conditions, failures
from stm_keras.reports import page


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
        pair = markup.picture(plots.plot_times(done), "Time of a training step")
        pair += markup.picture(plots.plot_rates(done), "Scans a second")
        sections.append(("Speed", f'<div class="pair">{pair}</div>'))
        if done[0]["losses"]:
            curves = markup.picture(plots.plot_losses(done), "Losses and differences")
            sections.append(("Agreement", _agreement(done) + curves))
        memory = markup.picture(plots.plot_memory(done), "Peak memory", "medium")
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
    return markup.table(*cells(comparison["rows"])) + failed + notes


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
    return markup.table(heads, body)


def _scores(rows):
    figures = [
        plots.plot_scores(rows, "auroc", "AUROC"),
        plots.plot_scores(rows, "balanced_accuracy", "balanced accuracy"),
    ]
    pictures = "".join(markup.picture(figure, "Scores of the seeds") for figure in figures)
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
    return markup.table(heads, body)


def _run(comparison):
    settings = json.dumps(comparison["settings"], indent=1, allow_nan=False)
    return (
        f"<pre>{page.text(comparison['command'])}</pre>"
        "<details><summary>Settings</summary>"
        f"<pre>{page.text(settings)}</pre></details>"
    )
