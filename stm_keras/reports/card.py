"""A model card: the scores of a shipped model, its limits, and how it was made."""

import re

from stm_keras.evaluation import text
from stm_keras.evaluation.calibration import LINES
from stm_keras.evaluation.paper import is_paper
from stm_keras.evaluation.scores import (
    HEADLINES,
    LINE_SCORES,
    SUBSETS,
    UNKNOWN_AUROC,
    UNKNOWN_FALSE,
    UNKNOWN_FOUND,
    reliability_numbers,
)
from stm_keras.evaluation.text import TITLES, number, score, scores_of
from stm_keras.reports import page

PREPROCESSING = "per line: mean and slope removed, standard deviation 1"
FRAMED = (  # facts with a place of their own in the card
    "command",
    "preprocessing",
    "licence",
    "data_licence",
    "data",
    "protocol",
    "model",
)


def write_card(path, facts, scores, overwrite=False, model=None):
    """Write a model card in Markdown.

    Args:
        path: str or `Path`.
        facts: dict of str to text, number, list or dict. `model`, `data`,
            `data_licence`, `licence` (of the model), `protocol` and `command` have
            their place in the card; all others are listed in their order.
        scores: dict, as of `score_predictions`; may hold what `reliability_numbers` reads.
        overwrite: bool. Whether an existing file may be replaced.
        model: dict, the facts of the model file, or None. What it measured of other
            surfaces, and from how many lines on it judges, is stated.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    protocol = facts.get("protocol", scores.get("protocol"))
    model = model or {}
    unknown = model.get("unknown") or {}
    measured = unknown if unknown.get("measured") else None
    fitted = bool(measured and measured.get("taught_by"))  # on real scans of others
    others = {key: value for key, value in facts.items() if key not in FRAMED}
    if "licence" in facts:
        others = {"licence": facts["licence"], **others}
    page.write(
        path,
        "card.md",
        overwrite,
        facts=facts,
        preprocessing=PREPROCESSING,
        scores=scores,
        surface=" on H:Si(100)" if is_paper(scores["per_class"]) else "",
        headlines=_headlines(scores),
        per_class=_per_class(scores),
        by_lines=_by_lines(scores),
        reliability=_reliability(scores, fitted),
        simulated=f"{'Tip' if fitted else 'Other surfaces and tip'} changes are simulated.",
        unknown=surface_part(measured) if measured else None,
        model=model,
        lines_tried=LINES,
        min_lines=_min_lines(model),
        limits=[*text.caveats(scores, protocol), _surfaces(scores, measured)],
        protocol=": ".join(filter(None, text.protocol(protocol))),
        licences=licence_text(measured) if fitted else None,
        fence=_fence(str(facts.get("command"))),
        others=others,
    )


def surface_part(unknown: dict) -> dict:
    """Describe how real scans of other surfaces were told from the known one.

    Args:
        unknown: dict, `unknown` of a model file, with `measured`.

    Returns:
        dict of `note`, `tables` (pairs of heads and rows) and `apart`, text or "".
    """
    measured = unknown["measured"]
    last = measured[max(measured, key=int)]
    sources = unknown.get("taught_by") or {}
    by_lines = [
        [lines, *scores_of(scores, ("auroc", "found", "false_alarms"))]
        for lines, scores in sorted(measured.items(), key=lambda row: int(row[0]))
    ]
    by_kind = [
        [kind, row["scans"], row["sources"], number(row["auroc"]), number(row["found"])]
        for kind, row in last["by_kind"].items()
    ]
    by_source = [
        [
            source,
            sources.get(source, {}).get("licence", ""),
            row["scans"],
            number(row["auroc"]),
            number(row["found"]),
        ]
        for source, row in last["by_source"].items()
    ]
    apart = [
        f"{kind} {row['found']:.0%} of {row['scans']}"
        for kind, row in (unknown.get("apart") or {}).items()
    ]
    return {
        "note": (
            f"{last['scans']} real scans of {last['sources']} sources against "
            f"{last['known']} scans of {last['sessions']} sessions, asked for "
            f"{unknown['false_alarms']:.0%} false alarms. "
            f"{text.HELD_OUT if sources else text.NEVER_SEEN} {text.ALIKE}"
        ),
        "tables": [
            (("lines seen", "AUROC", "called unknown", "false alarms"), by_lines),
            (("kind", "scans", "sources", "AUROC", "called unknown"), by_kind),
            (("source", "licence", "scans", "AUROC", "called unknown"), by_source),
        ],
        "apart": ", ".join(apart),
    }


def licence_text(unknown: dict) -> str:
    """Name the sources, and their licences, of the scans that unknown surfaces were fitted on."""
    sources = unknown["taught_by"]
    count = sum(row["scans"] for row in sources.values())
    named = "; ".join(
        f"{name} ({row['licence'] or 'no licence named'}, {row['scans']})"
        for name, row in sources.items()
    )
    return (
        f"The weights that decide whether a surface is unknown were fitted with {count} scans of "
        f"other surfaces from these repositories (licence of the repository, scans): {named}. "
        "The scans are not part of this repository."
    )


def _headlines(scores):
    subsets = [("all single-class scans", scores)]
    subsets += [(name, scores[key]) for key, name in SUBSETS.items() if scores.get(key)]
    rows = [[name, part["n"], *scores_of(part, HEADLINES)] for name, part in subsets]
    return ["scans", "number", *(TITLES[k] for k in HEADLINES)], rows


def _per_class(scores):
    rows = []
    for name, row in scores["per_class"].items():
        limits = scores["intervals"]["per_class"][name]
        measured = [score(row[key], limits[key]) for key in ("auroc", "recall")]
        rows.append([name, row["count"], *measured, number(row["precision"])])
    return ["class", "scans", "AUROC", TITLES["recall"], TITLES["precision"]], rows


def _by_lines(scores):
    rows = [
        [entry["lines"], *scores_of(entry, LINE_SCORES)]
        for entry in scores.get("by_lines") or ()
    ]
    return ["lines", *(TITLES[name] for name in LINE_SCORES)], rows


def _reliability(scores, fitted):
    rows = [
        [name, number(value)]
        for name, value in reliability_numbers(scores).items()
        if not (fitted and name.startswith("unknown surfaces"))  # those were another head's
    ]
    return ["", "share or score"], rows


def _min_lines(model):
    rows = []
    for lines, row in (model.get("min_lines_measured") or {}).items():
        called = score(row["found"], row["found_interval"]) if "found" in row else "-"
        rows.append([lines, score(row["balanced_accuracy"], row["interval"]), called])
    return ["lines", TITLES["balanced_accuracy"], "other surfaces called unknown"], rows


def _surfaces(scores, unknown):
    """Say what the model does on surfaces that it does not know."""
    first = "The model knows the surfaces it was trained on and no other."
    rest = "of the rest it names a class, and may be sure of it"
    if unknown:
        last = unknown["measured"][max(unknown["measured"], key=int)]
        return (
            f"{first} Of real scans of others, from sources that it was not trained on, it called "
            f"{last['found']:.0%} unknown (and {last['false_alarms']:.0%} of those it knows; AUROC "
            f"{last['auroc']:.3f}); {rest}. A session unlike all those in training may be called "
            "unknown for the most part, though it is of the known surface."
        )
    told = reliability_numbers(scores)
    if UNKNOWN_AUROC not in told:
        return f"{first} Of anything else it still names a class, and may be sure of it."
    return (
        f"{first} Of simulated others it called {told[UNKNOWN_FOUND]:.0%} unknown (and "
        f"{told[UNKNOWN_FALSE]:.0%} of those it knows; AUROC {told[UNKNOWN_AUROC]:.3f}); {rest}."
    )


def _fence(command):
    """Return a fence longer than any in the command."""
    runs = re.findall("`{3,}", command)
    return "`" * (max(map(len, runs), default=2) + 1)
