"""A model card: the scores of a shipped model, its limits, and how it was made."""

import re

from stm_keras.evaluation import scores as names
from stm_keras.evaluation import text
from stm_keras.evaluation.calibration import LINES
from stm_keras.evaluation.paper import is_paper
from stm_keras.evaluation.scores import HEADLINES, LINE_SCORES, SUBSETS, reliability_numbers
from stm_keras.evaluation.text import TITLES
from stm_keras.reports import page
from stm_keras.reports.human import human_part

FRAMED = (  # facts with a place of their own in the card
    "command",
    "preprocessing",
    "licence",
    "data_licence",
    "data",
    "protocol",
    "model",
)


def write_card(path, facts, scores, overwrite=False, model=None, human=None):
    """Write a model card in Markdown: scores first, facts last.

    Args:
        facts: dict of str to text, number, list or dict. `model`, `data`,
            `data_licence`, `licence` (of the model), `protocol` and `command` have
            their place in the card; all others are listed in their order.
        scores: dict, as of `score_predictions`; may hold what `reliability_numbers` reads.
        overwrite: bool. Whether an existing file may be replaced.
        model: dict, the facts of the model file, or None. What it measured of other
            surfaces, and from how many lines on it judges, is stated.
        human: dict, as of `pool_human`, with this recipe's model alone, or None.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    protocol = facts.get("protocol", scores.get("protocol"))
    model = model or {}
    unknown = model.get("unknown") or {}
    unknown = unknown if unknown.get("measured") else {}
    others = {key: value for key, value in facts.items() if key not in FRAMED}
    if "licence" in facts:
        others = {"licence": facts["licence"], **others}
    page.write(
        path,
        "card.md",
        overwrite,
        facts=facts,
        scores=scores,
        is_paper=is_paper(scores["per_class"]),
        headlines=[(name, TITLES[name]) for name in HEADLINES],
        line_scores=[(name, TITLES[name]) for name in LINE_SCORES],
        subsets=[
            ("all single-class scans", scores),
            *((name, scores[key]) for key, name in SUBSETS.items() if scores.get(key)),
        ],
        reliability=reliability_numbers(scores),
        UNKNOWN_AUROC=names.UNKNOWN_AUROC,
        UNKNOWN_FOUND=names.UNKNOWN_FOUND,
        UNKNOWN_FALSE=names.UNKNOWN_FALSE,
        unknown=unknown,
        human=human and human_part(human),
        licences=unknown.get("taught_by") or {},
        model=model,
        lines_tried=LINES,
        caveats=page.caveats(scores, protocol),
        protocol=": ".join(filter(None, text.protocol(protocol))),
        fence=_fence(str(facts.get("command"))),
        others=others,
    )


def _fence(command):
    """Return a fence longer than any in the command."""
    runs = re.findall("`{3,}", command)
    return "`" * (max(map(len, runs), default=2) + 1)
