"""A model card: what a shipped model is, what it is worth and what it is not for."""

import re

from stm_keras.evaluation import text
from stm_keras.evaluation.calibration import LINES
from stm_keras.evaluation.scores import (
    HEADLINES,
    SUBSETS,
    UNKNOWN_AUROC,
    UNKNOWN_FALSE,
    UNKNOWN_FOUND,
    trust_numbers,
)
from stm_keras.evaluation.text import TITLES, bounds, licence_text, number, surface_section
from stm_keras.files import atomic

PREPROCESSING = "per line: mean and slope removed, standard deviation 1"
FRAMED = (
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
        scores: dict, as of `score_predictions`; may hold what `trust_numbers` reads.
        overwrite: bool. Whether an existing file may be replaced.
        model: dict, the facts of the model file, or None. What it measured of other
            surfaces, and from how many lines on it judges, is told.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    protocol = facts.get("protocol", scores.get("protocol"))
    unknown = (model or {}).get("unknown") or {}
    taught = unknown if unknown.get("measured") else None
    surface = " on H:Si(100)" if text.is_paper(scores["per_class"]) else ""
    parts = [
        f"# {_text(facts.get('model', 'Tip-state classifier'))}",
        (
            f"Judges the state of an STM tip{surface} from scan lines: "
            f"{', '.join(_text(name) for name in scores['per_class'])}. "
            f"Preprocessing {_text(facts.get('preprocessing', PREPROCESSING))}."
        ),
        "## Data",
        (
            f"{_text(facts.get('data'))}\n\n"
            f"Licence of the data: {_text(facts.get('data_licence'))}. It binds what you "
            "do with the data; ask before you pass them on."
        ),
        *([_text(licence_text(taught))] if taught and taught.get("taught_by") else []),
        "## Protocol",
        _text(": ".join(filter(None, text.protocol(protocol)))),
        "## Scores",
        _headlines(scores),
        _per_class(scores),
    ]
    if scores.get("by_lines"):
        parts += ["## Score against lines seen", _by_lines(scores)]
    if trust_numbers(scores):
        parts += ["## What it knows of itself", _trust(scores, taught)]
    if taught:
        parts += ["## Unknown surfaces: real scans", *surface_section(taught)]
    if (model or {}).get("min_lines_measured"):
        parts += ["## From which line on", _fewest(model)]
    parts += ["## Limits", _limits(scores, protocol, taught)]
    if facts.get("command"):
        fence = _fence(str(facts["command"]))
        parts += ["## Make it again", f"{fence}sh\n{facts['command']}\n{fence}"]
    others = {k: v for k, v in facts.items() if k not in FRAMED}
    if "licence" in facts:
        others = {"licence": facts["licence"], **others}
    if others:
        listed = [f"- {_text(k.replace('_', ' '))}: {_text(v)}" for k, v in others.items()]
        parts += ["## Facts", "\n".join(listed)]
    with atomic(path, overwrite) as temporary:
        temporary.write_text(
            "\n\n".join(parts) + "\n", encoding="utf-8", errors="backslashreplace"
        )


def _headlines(scores):
    subsets = [("all single-class scans", scores)]
    subsets += [(name, scores[key]) for key, name in SUBSETS.items() if scores.get(key)]
    rows = [
        [name, part["n"], *(_cell(part[k], part["intervals"][k]) for k in HEADLINES)]
        for name, part in subsets
    ]
    return _table(["scans", "number", *(TITLES[k] for k in HEADLINES)], rows)


def _per_class(scores):
    rows = []
    for name, row in scores["per_class"].items():
        limits = scores["intervals"]["per_class"][name]
        measured = [_cell(row[key], limits[key]) for key in ("auroc", "recall")]
        rows.append([name, row["count"], *measured, number(row["precision"])])
    return _table(["class", "scans", "AUROC", TITLES["recall"], TITLES["precision"]], rows)


def _by_lines(scores):
    names = ("auroc", "balanced_accuracy", "accuracy")
    rows = [
        [entry["lines"], *(_cell(entry[name], entry["intervals"][name]) for name in names)]
        for entry in scores["by_lines"]
    ]
    return _table(["lines", *(TITLES[name] for name in names)], rows)


def _trust(scores, taught=None):
    told = trust_numbers(scores)
    simulated = "Other surfaces and tip changes are simulated."
    if taught and taught.get("taught_by"):  # those were another head's
        told = {k: v for k, v in told.items() if not k.startswith("unknown surfaces")}
        simulated = "Tip changes are simulated."
    rows = [[name, number(value)] for name, value in told.items()]
    note = (
        "Thresholds are of validation scans; a share of scans is judged where it is surest. "
        f"{simulated}"
    )
    return f"{note}\n\n{_table(['', 'share or score'], rows)}"


def _fewest(model):
    """Say from how many lines on the model judges, and how that was measured."""
    rows = []
    for lines, row in model["min_lines_measured"].items():
        cells = [_cell(row["balanced_accuracy"], row["interval"])]
        told = "found" in row
        cells.append(_cell(row["found"], row["found_interval"]) if told else "-")
        rows.append([lines, *cells])
    heads = ["lines", TITLES["balanced_accuracy"], "other surfaces called unknown"]
    return (
        f"Verdicts from line {model['min_lines']} on: the fewest of {', '.join(map(str, LINES))} "
        "after which the state is judged better than by chance, by the lower end of its interval, "
        "and, where it was measured, more than half of other surfaces are called unknown. Before, "
        f"there is no verdict.\n\n{_table(heads, rows)}"
    )


def _limits(scores, protocol, taught=None):
    known = _surfaces(trust_numbers(scores)) if taught is None else _real(taught)
    texts = [*text.caveats(scores, protocol), known]
    return "\n".join(f"- {_text(text)}" for text in texts)


def _surfaces(trust):
    text = "It knows the surfaces it was trained on and no other."
    if UNKNOWN_AUROC not in trust:
        return f"{text} Of anything else it still names a class, and may be sure of it."
    return (
        f"{text} Of simulated others it called {trust[UNKNOWN_FOUND]:.0%} unknown (and "
        f"{trust[UNKNOWN_FALSE]:.0%} of those it knows; AUROC {trust[UNKNOWN_AUROC]:.3f}); "
        "of the rest it names a class, and may be sure of it."
    )


def _real(unknown):
    """Say what the model does on surfaces that it does not know, from real scans."""
    last = unknown["measured"][max(unknown["measured"], key=int)]
    return (
        "It knows the surfaces it was trained on and no other. Of real scans of others, from "
        f"sources that it had not seen, it called {last['found']:.0%} unknown (and "
        f"{last['false_alarms']:.0%} of those it knows; AUROC {last['auroc']:.3f}); of the rest "
        "it names a class, and may be sure of it. A session unlike all that taught may be called "
        "unknown for the most part, though it is of the known surface."
    )


def _cell(value, limits):
    return f"{number(value)} {bounds(limits)}".rstrip()


def _table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_text(cell) for cell in line)} |" for line in lines)


def _text(value):
    """Write a fact so that Markdown shows it as it is, on one line."""
    shown = " ".join(text.fact(value).split())
    return re.sub(r"([\\`*<>|#$]|\[(?=[^\]]*\]\()|(?<!\w)_|_(?!\w))", r"\\\1", shown)


def _fence(text):
    runs = re.findall("`{3,}", text)
    return "`" * (max(map(len, runs), default=2) + 1)
