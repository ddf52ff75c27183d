"""Bring together what sides measured, here or elsewhere, and write the result."""

import shutil
from dataclasses import replace

from stm_keras.config import differences
from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.summary import summarise
from stm_keras.experiments.compare.table import markdown
from stm_keras.files import atomic

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
    from stm_keras.experiments.compare.page import comparison_page

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
