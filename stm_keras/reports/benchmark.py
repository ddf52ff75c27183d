"""Benchmark rows as a page of Markdown: scores, lines seen, and how to repeat them."""

from stm_keras import __version__
from stm_keras.evaluation.text import surface_section

PAPER = {  # Gordon et al., 2020, LRCN W=20, read off the figures, +-0.003
    "auroc": {21: 0.933, 32: 0.937, 48: 0.942, 64: 0.946, 96: 0.954, 126: 0.960},
    "balanced_accuracy": {
        21: 0.793,
        32: 0.800,
        48: 0.809,
        64: 0.820,
        96: 0.841,
        126: 0.851,
    },
}
SURFACES = "## Unknown surfaces: real scans"
PROTOCOLS = {
    "p1": "P1, by scan: as the paper; siblings of test scans are in training",
    "p2": "P2, by session: scans of days the model never saw",
    "p3": "P3, by campaign: leave one of three campaigns out",
}


def merge_rows(old, new):
    """Put new rows of a benchmark in the place of old ones of the same config and protocol.

    Configs that were not part of a benchmark keep what an earlier one, or another machine,
    found; other data are another matter.

    Args:
        old, new: list of dict, as of `pool_folds`.

    Returns:
        list of dict: each where it was, and after those what is new.
    """
    made = {(row["config"], row["protocol"]): row for row in new}
    data = {row["data"] for row in new}
    rows = [made.pop((row["config"], row["protocol"]), row) for row in old]
    return [*(row for row in rows if row["data"] in data), *made.values()]


def results_page(rows, data_name, models=()):
    """Write the results of a benchmark as Markdown.

    Args:
        rows: list of dict, as of `pool_folds`.
        data_name: str. Name of the dataset.
        models: iterable of pairs of str, the name of a model, and dict, its facts: those
            that measured real scans of other surfaces say so.

    Returns:
        str.
    """
    parts = [
        "# Results",
        "Written by `stm-keras benchmark`; do not edit. Each scan is judged by the one model "
        "whose training and validation did not hold its fold (P1: its scan, P2: its session, "
        "P3: its campaign), and the answers of all folds are scored together. The best epoch "
        "is chosen on validation scans inside the training folds, or the last is kept, as the "
        "config says. Brackets: 95 % bootstrap intervals, 1000 resamples of scans (P1) or "
        "sessions (P2, P3).",
        f"Data: {data_name} (`scans.h5` below). stm-keras {__version__}. Where not all folds are "
        "done, scores are of the test scans of those that are.",
    ]
    for protocol, title in PROTOCOLS.items():
        chosen = [row for row in rows if row["protocol"] == protocol]
        if chosen:
            parts += [f"## {title}", _scores(chosen), _classes(chosen), _by_lines(chosen)]
            parts += [_trust(chosen), _variants(chosen)]
    parts += surfaces(models)
    commands = "\n".join(row["command"] for row in rows)
    parts += ["## How they were trained", _training(rows), _reading(rows)]
    parts += ["Repeat with", f"```\n{commands}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def surfaces(models) -> list[str]:
    """Say what models measured of real scans of other surfaces: list of Markdown parts."""
    told = {}  # a smaller file of a model says the same
    for name, facts in models:
        unknown = facts.get("unknown") or {}
        if unknown.get("measured"):
            text = "\n\n".join(surface_section(unknown))
            told.setdefault(text, []).append(name)
    parts = [f"### {', '.join(names)}\n\n{text}" for text, names in told.items()]
    return [SURFACES, *parts] if parts else []


def _scores(rows):
    lines = [
        "| config | folds | scans | n | AUROC | balanced accuracy | accuracy | ECE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for subset in ("all", "full agreement", "consensus"):
            if subset in row:
                scores = row[subset]
                cells = [
                    _with_interval(scores, key)
                    for key in ("auroc", "balanced_accuracy", "accuracy", "ece")
                ]
                name = "all single-class" if subset == "all" else subset
                cells = [row["config"], _folds(row), name, str(scores["n"]), *cells]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _classes(rows):
    classes = list(rows[0]["all"]["per_class"])
    lines = [
        "AUROC and recall of each class, all single-class scans:",
        "",
        f"| config | {' | '.join(classes)} |",
        "|---" * (len(classes) + 1) + "|",
    ]
    for row in rows:
        values = [row["all"]["per_class"][name] for name in classes]
        cells = [f"{_number(v['auroc'])}, {_number(v['recall'])}" for v in values]
        lines.append(f"| {row['config']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_lines(rows):
    seen = [point["lines"] for point in rows[0]["all"]["by_lines"]]
    lines = [
        "Score against lines seen, all single-class scans. Paper: LRCN W=20 under P1, where "
        "it gives a value within two lines:",
        "",
        f"| | {' | '.join(map(str, seen))} |",
        "|---" * (len(seen) + 1) + "|",
    ]
    kinds = (("auroc", "AUROC"), ("balanced_accuracy", "balanced accuracy"), ("ece", "ECE"))
    for key, name in kinds:
        for row in rows:
            cells = [_number(point.get(key)) for point in row["all"]["by_lines"]]
            lines.append(f"| {row['config']}, {name} | {' | '.join(cells)} |")
        if key in PAPER:
            paper = [_paper(key, count) for count in seen]
            lines.append(f"| paper, {name} | {' | '.join(paper)} |")
    return "\n".join(lines)


def _trust(rows):
    rows = [row for row in rows if row.get("trust")]
    names = dict.fromkeys(name for row in rows for name in row["trust"])
    if not names:
        return ""
    lines = [
        "What it knows of itself, mean over folds; thresholds are of the validation scans, "
        "other surfaces and changes are simulated, real ones are below:",
        "",
        f"| | {' | '.join(row['config'] for row in rows)} |",
        "|---" * (len(rows) + 1) + "|",
    ]
    for name in names:
        cells = [_number(row["trust"].get(name)) for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _variants(rows):
    """Compare each variant with its config on the folds that both have."""
    bases = {row["config"]: row for row in rows}
    lines = [
        "What a setting brings: variant less config, mean over the folds that both have "
        "(least to most), all single-class scans, all lines:",
        "",
        "| variant | folds | AUROC | balanced accuracy |",
        "|---|---|---|---|",
    ]
    for row in rows:
        base = bases.get(row.get("base"))
        told = base is not None and row.get("fold_numbers")
        if row["config"] == row.get("base") or not told:
            continue
        both = [k for k in row["fold_numbers"] if k in (base.get("fold_numbers") or ())]
        if not both:
            continue
        cells = [row["config"], str(len(both))]
        for key in ("auroc_by_fold", "balanced_accuracy_by_fold"):
            own, other = (
                dict(zip(r["fold_numbers"], r[key], strict=True)) for r in (row, base)
            )
            change = [own[k] - other[k] for k in both]
            mean = sum(change) / len(change)
            cells.append(f"{mean:+.3f} ({min(change):+.3f} to {max(change):+.3f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 4 else ""


def _training(rows):
    lines = [
        "| config | weights | protocol | folds | epochs | seconds a fold | backend | device "
        "| precision | seed | git |",
        "|---" * 11 + "|",
    ]
    for row in rows:
        seconds = row["seconds"]
        cells = [
            row["config"],
            f"{row['parameters']:,}" if row.get("parameters") else "-",
            row["protocol"].upper(),
            _folds(row),
            _range(row["epochs"]),
            f"{min(seconds):.0f}-{max(seconds):.0f}",
            ", ".join(row["backend"]),
            "; ".join(row["devices"]),
            ", ".join(row["precision"]),
            str(row["seed"]),
            ", ".join(row["git"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _reading(rows):
    spread = [
        f"{row['config']} {row['protocol'].upper()} "
        + ", ".join(f"{value:.3f}" for value in row["balanced_accuracy_by_fold"])
        for row in rows
    ]
    return "Balanced accuracy fold by fold: " + "; ".join(spread) + "."


def _with_interval(scores, key):
    interval = scores["intervals"].get(key)
    if not interval:
        return _number(scores[key])
    return f"{_number(scores[key])} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _number(value):
    return "-" if value is None else f"{value:.3f}"


def _paper(key, lines):
    known = [count for count in PAPER[key] if abs(count - lines) <= 2]
    return f"{PAPER[key][known[0]]:.3f}" if known else "-"


def _folds(row):
    return f"{row['folds_done']} of {row['folds']}"


def _range(values):
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}-{high}"
