"""The human beside the models of a benchmark, in words and tables of Markdown."""

from stm_keras.evaluation.text import TITLES, gain, score, scores_of
from stm_keras.records import HUMAN

ALIKE = "at a human rater; neither above nor below can be shown"
UNKNOWN = "not comparable with a human rater: there are too few sessions for an interval"
ROWS = {  # of what is compared, in words
    "pairs": "two raters, one class each",
    "mixed": "a decided rater, labels as under P2",
}
SCORES = ("balanced_accuracy", "accuracy")
CEILING = ("auroc", *SCORES)
RULES = {  # sets of scans that a rule gives one class
    "kept": "as they are, by the larger share",
    "sure": "and those on which nothing but one class is ticked",
    "sums": "and all that have one by sums",
}


def without_human(rows: list[dict]) -> tuple[list[dict], dict | None]:
    """Take the results of a benchmark apart: rows of configs, and that of raters, or None."""
    others = [row for row in rows if row["config"] != HUMAN]
    return others, next((row for row in rows if row["config"] == HUMAN), None)


def merge_human(former: dict | None, row: dict) -> dict:
    """Keep the models of an earlier measurement of the same raters that a new one lacks."""
    if former is None or former["data"] != row["data"]:
        return row
    return {**row, "models": {**former["models"], **row["models"]}}


def verdict(beside: dict) -> str:
    """Say where a model stands beside a human rater, as far as the intervals show it.

    Args:
        beside: dict, as of `score_human` with answers.
    """
    differences = {
        f"{TITLES[name]} ({title})": beside[row]["difference"][name]
        for row, title in ROWS.items()
        for name in SCORES
    }
    if None in differences.values():
        return UNKNOWN
    above = [what for what, (_, low, _) in differences.items() if low > 0]
    below = [what for what, (_, _, high) in differences.items() if high < 0]
    if not above and not below:
        return ALIKE
    for word, shown in (("above", above), ("below", below)):
        if len(shown) == len(differences):
            return f"{word} a human rater"
    parts = (("above", above), ("below", below))
    said = [f"{word} a human rater in {' and '.join(what)}" for word, what in parts if what]
    if len(above) + len(below) < len(differences):
        said.append("no difference can be shown in the rest")
    return "; ".join(said)


def of_models(human: dict, configs: list[str]) -> dict:
    """Return the row of raters with some models alone beside them."""
    return {**human, "models": {config: human["models"][config] for config in configs}}


def human_part(human: dict) -> dict:
    """Return what a page says of raters, and of the models beside them.

    Args:
        human: dict, as of `pool_human`.

    Returns:
        dict of `table`, `ceiling_table` and `rules`, each heads and rows of cells, `rules` None
        where nothing is known; `verdicts`, dict of config to text; and all of `human`.
    """
    names = [TITLES[name] for name in SCORES]
    cells = []
    for row, title in ROWS.items():
        part = human["raters"][row]
        values = _values(part["human"], SCORES)
        cells.append([title, "a human rater", round(part["n"]), *values])
        for config, model in human["models"].items():
            part = model["beside"][row]
            n, less = round(part["n"]), part["difference"]
            cells.append([title, config, n, *_values(part["model"], SCORES)])
            paired = [gain(less[name] or [None]) for name in SCORES]
            cells.append([title, f"{config} less human, paired", n, *paired])
    kinds = human["ceiling"]["scores"].items()
    part = {
        **human,
        "table": (["", "who", "compared", *names], cells),
        "ceiling_table": (
            ["scans", *(TITLES[name] for name in CEILING)],
            [[kind, *_values(scores, CEILING)] for kind, scores in kinds],
        ),
        "verdicts": {
            config: verdict(model["beside"]) for config, model in human["models"].items()
        },
        "rules": None,
    }
    if human["label_rule"]:
        cells = [
            [config, RULES[rule], scores["n"], *scores_of(scores, CEILING)]
            for config, model in human["models"].items()
            for rule, scores in model["label_rule"].items()
        ]
        part["rules"] = ["config", "scans", "n", *(TITLES[name] for name in CEILING)], cells
    return part


def _values(scores, names):
    """Write values with their intervals, dashes where undefined."""
    return [
        score(each[0], each[1:]) if (each := scores[k]) else score(None, None)
        for k in names
    ]
