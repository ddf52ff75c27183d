"""Rows of a comparison as text: cells for the screen, Markdown and the page."""

COLUMNS = {  # title of a column: what stands in it
    "side": lambda row: row["side"],
    "machine": lambda row: row["machine"] or "–",
    "device": lambda row: ", ".join(row["devices"]),
    "weights": lambda row: f"{row['parameters']:,}",
    "logits differ": lambda row: _difference(row, "logits_difference"),
    "loss differs": lambda row: _difference(row, "loss_difference"),
    "first step s": lambda row: f"{row['first_step']['wall']:.1f}",
    "step ms": lambda row: _ms(row["step_wall"]["median"]),
    "quartiles": lambda row: _range(row["step_wall"], "q1", "q3"),
    "range": lambda row: _range(row["step_wall"], "min", "max"),
    "CPU ms": lambda row: _ms(row["step_cpu"]["median"]),
    "speed": lambda row: f"{row['speed']['wall']:.2f}",
    "by CPU": lambda row: f"{row['speed']['cpu']:.2f}",
    "scans/s": lambda row: _rate(row["scans_per_second"]["train"]),
    "predicted/s": lambda row: _rate(row["scans_per_second"]["predict"]),
    "host GB": lambda row: f"{row['memory_gb']['host']:.2f}",
    "device GB": lambda row: _gb(row["memory_gb"]["device"]),
    "waits": lambda row: _share(row["waiting_share"]),
    "AUROC": lambda row: _score(row, "auroc"),
    "balanced accuracy": lambda row: _score(row, "balanced_accuracy"),
}
OPTIONAL = ("device GB", "waits", "AUROC", "balanced accuracy")
EMPTY = "–"
UNMASKED = ("timm", "native-unmasked")


def cells(rows):
    """Lay out rows as text.

    Args:
        rows: list of dict, as of `summarise`.

    Returns:
        Tuple of a list of str, the titles, and a list of lists of str. A column that says
        nothing in any row is left out; a side that did not run has only a name.
    """
    body = []
    for row in rows:
        if row["status"] == "done":
            body.append([str(write(row)) for write in COLUMNS.values()])
        else:
            name = [row["side"], row["machine"] or EMPTY]
            body.append([*name, *[EMPTY] * (len(COLUMNS) - 2)])
    titles = list(COLUMNS)
    dropped = {
        n
        for n, title in enumerate(titles)
        if title in OPTIONAL and all(line[n] == EMPTY for line in body)
    }
    if len({line[1] for line in body} - {EMPTY}) < 2:
        dropped.add(1)
    keep = [n for n in range(len(titles)) if n not in dropped]
    return [titles[n] for n in keep], [[line[n] for n in keep] for line in body]


def failures(rows):
    """List what did not run, a str for each side."""
    told = [f"{r['side']}: {r['reason']}" for r in rows if r["status"] != "done"]
    for row in rows:
        scores = row.get("scores") or {}
        told += [
            f"{row['side']}, seed {seed}: {why}"
            for seed, why in scores.get("failed", {}).items()
        ]
    return told


def markdown(comparison):
    """Write a comparison as Markdown: the table, and under what conditions it came about."""
    titles, body = cells(comparison["rows"])
    lines = ["| " + " | ".join(line) + " |" for line in [titles, ["---"] * len(titles)]]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    lines += ["", *(f"Did not run: {each}\n" for each in failures(comparison["rows"]))]
    lines += [f"`{comparison['command']}`", "", *conditions(comparison)]
    return "\n".join(lines) + "\n"


def conditions(comparison):
    """Say how a comparison was made: list of str, a paragraph each."""
    settings = comparison["settings"]
    machines = [
        f"{m['name']}: {m['processor']}, {settings['cores'] or m['cores_allowed']} of "
        f"{m['cores']} cores, load average {m['load'][0]:.1f} at the start and "
        f"{m['load'][-1]:.1f} at the end, {m['date'][:10]}"
        for m in comparison["machines"]
    ]
    versions = {}
    for row in comparison["rows"]:
        for name, number in row.get("versions", {}).items():
            versions.setdefault(name, set()).add(number)
    told = [
        f"{name} {'/'.join(sorted(numbers))}" for name, numbers in sorted(versions.items())
    ]
    done = [row for row in comparison["rows"] if row["status"] == "done"]
    based = sorted({row["compared_with"] for row in done})
    return [
        f"{'; '.join(machines)}. {settings['name']}, batch {settings['batch_size']}, "
        f"{settings['scans']} scans (sha256 {settings['data'][:12]}); {settings['repeats']} "
        f"rounds of {settings['steps_per_round']} steps. {', '.join(told)}.",
        f"Differences are the largest, from the first side of the same precision: of logits "
        f"before training, and of the loss over {settings['steps']} steps, with the same "
        "weights and batches and without dropout, which each backend draws otherwise. Speed "
        f"is the time of {' or '.join(based) or 'none'} over that of a side, round by round: "
        "above 1 is faster.",
        *_notes(done),
    ]


def _notes(rows):
    """Say what keeps rows from being compared as the others are."""
    alone = [row["side"] for row in rows if not row["same_rounds"]]
    if alone:
        yield f"Measured at another time than what speed compares with: {', '.join(alone)}."
    unmasked = [row["side"] for row in rows if row["library"] in UNMASKED]
    if unmasked:
        yield (
            f"{', '.join(unmasked)}: looks at lines of zeros too, which the others hide, so its "
            "loss differs where augmentation cuts or loses lines."
        )


def _difference(row, key):
    if row["agrees_with"] is None:
        return "first"
    return "not finite" if row[key] is None else f"{row[key]:.1e}"


def _ms(seconds):
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _range(times, low, high):
    return f"{_ms(times[low])}–{_ms(times[high])}"


def _rate(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _gb(value):
    return EMPTY if value is None else f"{value:.2f}"


def _share(value):
    return EMPTY if value is None else f"{value:.1%}"


def _score(row, name):
    score = (row["scores"] or {}).get(name)
    if score is None:
        return EMPTY
    if score["interval"] is None:
        return f"{score['mean']:.3f}"
    low, high = score["interval"]
    return f"{score['mean']:.3f} [{low:.3f}, {high:.3f}]"
