"""The rows of a benchmark as a page of Markdown: scores, lines seen, and how to repeat them."""

from stm_keras.evaluation.paper import LRCN_BY_LINES, lrcn_after
from stm_keras.evaluation.scores import HEADLINES
from stm_keras.evaluation.text import PROTOCOLS, TITLES
from stm_keras.records import HUMAN
from stm_keras.reports.human import human_part, merge_human, without_human
from stm_keras.reports.page import macro, render

SUBSETS = (  # of a row, and what they are called
    ("all", "all single-class"),
    ("full agreement", "full agreement"),
    ("consensus", "consensus"),
)
BESIDE = ("splices", "context")  # what a benchmark measures only if asked for
WAYS = ("", ", with", ", gain")
KINDS = {"changed": "class changed", "same": "class as before"}
SHOWN = (1, 8, 20, 48)  # lines after which scores with the scans before are shown
TITLES_SHORT = {**{key: TITLES[key] for key in HEADLINES}, "ece": "ECE"}


def merge_rows(old, new):
    """Put new rows of a benchmark in the place of old ones of the same config and protocol.

    Configs that were not part of a benchmark keep what an earlier one, or another machine,
    found; other data are another matter.

    Rows are as of `pool_folds`. Each stays where it was, and what is new comes after.
    """
    before = {(row["config"], row["protocol"]): row for row in old}
    made = {}
    for row in new:
        key = row["config"], row["protocol"]
        if row["config"] == HUMAN:
            made[key] = merge_human(before.get(key), row)
            continue
        former = before.get(key, row)
        more = {name: row.get(name) or former.get(name) for name in BESIDE}
        if former["folds_done"] > row["folds_done"] and any(map(row.get, BESIDE)):
            row = former  # measured on the folds that are still here
        made[key] = row | {name: told for name, told in more.items() if told}
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
    """
    rows, human = without_human(rows)
    protocols = []
    for protocol, (title, meaning) in PROTOCOLS.items():
        chosen = [row for row in rows if row["protocol"] == protocol]
        if chosen:
            part = {"title": title, "meaning": meaning, "rows": chosen}
            names = dict.fromkeys(name for row in chosen for name in row.get("trust") or ())
            part |= {"reliability": names, "variants": _variants(chosen)}
            splices = [_splices(row) for row in chosen if row.get("splices")]
            context = [_context(row) for row in chosen if row.get("context")]
            protocols.append(part | {"splices": splices, "context": context})
    return render(
        "benchmark.md",
        data=data_name,
        protocols=protocols,
        rows=rows,
        subsets=SUBSETS,
        titles=TITLES_SHORT,
        paper=LRCN_BY_LINES,
        lrcn_after=lrcn_after,
        human=human and human_part(human),
        models=surfaces(models),
    )


def surfaces(models) -> list[tuple[list[str], str]]:
    """Write what models measured on real scans of other surfaces, as Markdown.

    Returns:
        list of names of models and a text. A smaller file of a model measured the same.
    """
    names = {}
    for name, facts in models:
        unknown = facts.get("unknown") or {}
        if unknown.get("measured"):
            text = macro("macros.md", "surfaces", unknown).strip()
            names.setdefault(text, []).append(name)
    return [(each, text) for text, each in names.items()]


def _splices(row):
    """Return what is said of splices: shares as texts, and a table."""
    told = row["splices"]
    shares = {
        name: f"{100 * value:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
        for name in ("called", "named", "named_by_scan")
        for value, low, high in [told[name]]
    }
    names = {"end": "the last", "any": "at any line"}
    cells = [
        [names.get(lines, lines), *(f"{100 * each:.0f} %" for each in both)]
        for lines, both in told["at"].items()
    ]
    only = [f"{row['config']}:{row['protocol']}:{fold}" for fold in told["folds"]]
    table = ["lines since the change", "tip of now", "whole scan"], cells
    return {**told, **shares, "config": row["config"], "only": only, "table": table}


def _context(row):
    """Return what is said of the scans before: tables of scores, and of changed scans."""
    told = row["context"]
    points = [point for point in told["lines"] if point["lines"] in SHOWN]
    scores, shares = [], []
    for point in points:
        alone, both = point["alone"], point["context"]
        cells = [point["lines"]]
        for key in ("auroc", "balanced_accuracy"):
            cells += [_bounded(part[key]) for part in (alone, both)]
            cells.append(_gain(point["gain"][key]))
        scores.append([*cells, *(f"{part['ece']:.3f}" for part in (alone, both))])
        cells = [point["lines"]]
        for part in filter(None, (point["changed"], point["same"])):
            cells += [_bounded(part["alone"]), _bounded(part["context"])]
            cells.append(_gain(part["gain"]))
        shares.append(cells)
    heads = [f"{title}{way}" for title in ("AUROC", "balanced accuracy") for way in WAYS]
    kinds = [name for name in ("changed", "same") if points and points[0][name]]
    early = [
        (
            point["lines"],
            *(_gain(point["gain"][key]) for key in ("auroc", "balanced_accuracy")),
        )
        for point in told.get("early", ())
    ]
    return {
        **told,
        "config": row["config"],
        "early": early,
        "counts": {name: points[0][name]["scans"] for name in kinds},
        "numbers": [tuple(each.values()) for each in told["numbers"]],
        "scores": (["lines", *heads, "ECE", "ECE, with"], scores),
        "shares": (
            ["lines", *(f"{KINDS[k]}{way}" for k in kinds for way in WAYS)],
            shares,
        ),
    }


def _bounded(values):
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def _gain(values):
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*values)


def _variants(rows):
    """Compare each variant with its config on the folds that both have: list of cells."""
    bases = {row["config"]: row for row in rows}
    table = []
    for row in rows:
        base = bases.get(row.get("base"))
        if row["config"] == row.get("base") or base is None or not row.get("fold_numbers"):
            continue
        both = [k for k in row["fold_numbers"] if k in (base.get("fold_numbers") or ())]
        if not both:
            continue
        cells = [row["config"], len(both)]
        for key in ("auroc_by_fold", "balanced_accuracy_by_fold"):
            own, other = (
                dict(zip(r["fold_numbers"], r[key], strict=True)) for r in (row, base)
            )
            change = [own[k] - other[k] for k in both]
            mean = sum(change) / len(change)
            cells.append(f"{mean:+.3f} ({min(change):+.3f} to {max(change):+.3f})")
        table.append(cells)
    return table
