"""Turn the times of several sides into medians, ratios and a Markdown page."""

from statistics import median

HEADER = (
    ("side", "weights")
    + ("CPU s/step", "range", "wall s/step", "range", "scans/s")
    + ("speed by CPU", "by wall", "first step s (CPU)", "waits for data", "GB")
)


def summarise(results, reference, batch):
    """Reduce rounds to medians, and compare each round with the reference's of that round.

    Args:
        results: dict of side to dict with `parameters`, `versions`, `first`, `rounds` (each
            with `wall`, `cpu` and `memory_gb`) and maybe `epoch`.
        reference: str. The side that the others are compared with.
        batch: int. Scans in a step.

    Returns:
        dict of side to dict, JSON-ready. `speed` above 1 is faster than the reference.
    """
    known = results[reference]["rounds"]
    sides = {}
    for name, found in results.items():
        rounds, row = found["rounds"], {"speed": {}}
        for clock in ("cpu", "wall"):
            times = [each[clock] for each in rounds]
            row[clock] = {"median": median(times), "min": min(times), "max": max(times)}
            pairs = zip(known, rounds, strict=True)
            row["speed"][clock] = median(a[clock] / b[clock] for a, b in pairs)
        epoch = found.get("epoch")
        sides[name] = {
            **row,
            "parameters": found["parameters"],
            "versions": found["versions"],
            "scans_per_second": batch / row["wall"]["median"],
            "first_step": {"wall": found["first"], "cpu": found["first_cpu"]},
            "waiting_share": epoch["waited"] / epoch["seconds"] if epoch else None,
            "memory_gb": max(each["memory_gb"] for each in rounds),
            "rounds": rounds,
            "epoch": epoch,
        }
    return sides


def table(report):
    """Format the sides of a report as a Markdown table, the fastest first."""
    rows = [HEADER, ["---"] * len(HEADER)]
    ordered = sorted(report["sides"].items(), key=lambda item: item[1]["cpu"]["median"])
    for name, side in ordered:
        row = [name, f"{side['parameters']:,}"]
        first, share = side["first_step"], side["waiting_share"]
        for clock in ("cpu", "wall"):
            times = side[clock]
            row += [f"{times['median']:.2f}", f"{times['min']:.2f}–{times['max']:.2f}"]
        row += [
            f"{side['scans_per_second']:.1f}",
            f"**{side['speed']['cpu']:.2f}**",
            f"{side['speed']['wall']:.2f}",
            f"{first['wall']:.1f} ({first['cpu']:.1f})",
            "–" if share is None else f"{share:.1%}",
            f"{side['memory_gb']:.1f}",
        ]
        rows.append(row)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def page(report):
    """Write a report as Markdown: the table, and under what conditions it came about."""
    versions = {}
    for side in report["sides"].values():
        versions |= side["versions"]
    before, after = report["load"]
    lines = [
        table(report),
        "",
        f"`{report['command']}`",
        "",
        f"{report['date']}, {report['processor']}, {report['cores_used']} of "
        f"{report['cores']} cores; load average {before:.1f} at the start and {after:.1f} at "
        f"the end. {report['precision']}, batch {report['batch']}; {report['repeats']} rounds "
        f"of {report['steps']} steps, and an epoch of {report['epoch']} batches. "
        + ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
        + ".",
    ]
    return "\n".join(lines + [f"\nDid not run: {each}" for each in report["failures"]])


def put_section(text, title, body):
    """Put a section into a Markdown page, in the place of one of the same title if any."""
    heading = f"## {title}\n"
    section = f"{heading}\n{body}\n"
    begin = f"\n{text}".find(f"\n{heading}")
    if begin < 0:
        return f"{text.rstrip()}\n\n{section}".lstrip()
    following = text.find("\n## ", begin + len(heading))
    rest = "" if following < 0 else text[following:]
    return text[:begin] + section + rest
