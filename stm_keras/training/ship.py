"""Say in a model file and its card what the model is worth, from a benchmark's results."""

import re
from pathlib import Path

from stm_keras.errors import InputError
from stm_keras.evaluation.fewest_lines import with_min_lines
from stm_keras.records import Rows, Scores, check_record
from stm_keras.reports.card import write_card
from stm_keras.training.report import model_facts
from stm_keras.untrusted import read_json, read_text

SUBSETS = {"all": "unseen sessions", "full agreement": "unseen sessions, full agreement"}


def read_scores(path, name, protocol="p2"):
    """Find a config's row in the results of `stm-keras benchmark`.

    The evaluation of the very model by `stm-keras evaluate -o` will do as well: for one
    that learnt from simulated scans alone every real scan is a test.

    Args:
        path: str or `Path` of the JSON file.
        name: str. Of the config.
        protocol: str.

    Returns:
        dict, as of `pool_folds`.

    Raises:
        InputError: The file cannot be read, or has no such row.
    """
    rows = read_json(path, "the results of `stm-keras benchmark`")
    if isinstance(rows, dict):
        check_record(Scores, rows, path)
        return {"protocol": rows["protocol"], "all": rows, "of": rows.get("data", "")}
    check_record(Rows, rows, path)
    found = [r for r in rows if (r["config"], r["protocol"]) == (name, protocol)]
    if not found:
        raise InputError(
            f"{path}: has no scores of {name} under {protocol.upper()}. Run stm-keras "
            f"benchmark {name} first."
        )
    return found[0]


def with_scores(predictor, row):
    """Return the facts of a model with the scores that its recipe reached.

    Args:
        predictor: A `Predictor`.
        row: dict, as of `read_scores`.

    Returns:
        dict.
    """
    scores = {}
    for subset, title in SUBSETS.items():
        if subset in row:
            part = row[subset]
            scores[f"{row['protocol'].upper()}, {title}"] = ", ".join(
                f"{name} {part[key]:.3f} [{part['intervals'][key][0]:.3f}, "
                f"{part['intervals'][key][1]:.3f}]"
                for key, name in (
                    ("auroc", "AUROC"),
                    ("balanced_accuracy", "balanced accuracy"),
                )
            )
    facts = predictor.facts
    for told in row["all"].get("sources", {}).values():  # of this very model
        facts = {**facts, "unknown": {**facts["unknown"], "measured": told["lines"]}}
    facts = with_min_lines(facts, row["all"]["by_lines"])
    return {**facts, "scores": scores}


def write_shipped_card(
    path,
    predictor,
    row,
    run,
    data_licence=None,
    cost=None,
    overwrite=False,
    before=None,
    after="",
):
    """Write the card of a model that was trained on all sessions.

    Args:
        path: `Path` of the Markdown file.
        predictor: A `Predictor`.
        row: dict, as of `read_scores`: scores of the same recipe on sessions that each
            fold's model never saw.
        run: The `Run` of the model, or None.
        data_licence: str. Of the training data, None where it is not known.
        cost: dict, as of `stm_keras.export.variants.write`, or None: what it lost where it
            was made smaller.
        overwrite: bool.
        before: `Path` of the card of the file that was exported, which may not be there:
            it says how the model was trained where its run is not at hand.
        after: str. What was done to the model since, a command.
    """
    source = predictor.facts["training"]["environment"]["dataset"]["source"]
    facts = model_facts(predictor, source, run)
    facts["model"] = Path(path).stem
    commands = [facts.get("command") or _command_on(before), after]
    if any(commands):
        facts["command"] = "\n".join(filter(None, commands))
    facts["protocol"] = row["protocol"]
    if data_licence is not None:
        facts["data_licence"] = data_licence
    if "of" in row:
        told = (
            f"this very model on all complete single-class scans of {Path(row['of']).name}"
        )
    else:
        refit = "refit" in predictor.facts["training"]
        told = (
            f"{row['folds_done']} of {row['folds']} folds of the same recipe, each judged by "
            "a model that did not see its sessions; this model learnt from all sessions"
            f"{'' if refit else ' but those that set its temperature'}. {row['command']}"
        )
    facts["scores are of"] = told
    if cost is not None:
        facts["made smaller"] = (
            f"weights in {cost['name']}. The scores are those in float32, over which it loses "
            f"{cost['loss']:.4f} AUROC on {cost['scans']} scans of {cost['data']}."
        )
    scores = {**row["all"], "protocol": row["protocol"]}
    if "full agreement" in row:
        scores["full_agreement"] = row["full agreement"]
    if "trust" in row:
        scores["trust"] = row["trust"]
    write_card(path, facts, scores, overwrite, predictor.facts)


def _command_on(card):
    """Return the command on a card, "" where there is none."""
    if card is None or not Path(card).is_file():
        return ""
    text = read_text(card, "a model card")
    found = re.search(r"## Make it again\n\n(`{3,})sh\n(.*?)\n\1\n", text, re.DOTALL)
    return found.group(2) if found else ""
