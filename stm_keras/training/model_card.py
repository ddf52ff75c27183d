"""The card of a model for others, with the scores that its recipe reached."""

import re
from pathlib import Path

from stm_keras.benchmark_records import Rows
from stm_keras.errors import InputError
from stm_keras.evaluation.calibration import with_min_lines
from stm_keras.records import Scores, check_record
from stm_keras.reports.card import write_card
from stm_keras.reports.human import of_models, without_human
from stm_keras.training.report import model_details
from stm_keras.untrusted import read_json, read_text

PROTOCOL = "p2"  # of the scores on a card
SUBSETS = {"all": "unseen sessions", "full agreement": "unseen sessions, full agreement"}
SCORES = {"auroc": "AUROC", "balanced_accuracy": "balanced accuracy"}


def read_scores(path, name):
    """Find the row of a config under `PROTOCOL` in the results of a benchmark.

    The evaluation of the very model by `stm-keras evaluate -o` will do as well: for one
    that was trained on simulated scans alone every real scan is a test.
    """
    rows = read_json(path, "the results of `stm-keras benchmark`")
    if isinstance(rows, dict):
        check_record(Scores, rows, path)
        return {"protocol": rows["protocol"], "all": rows, "of": rows.get("data", "")}
    check_record(Rows, rows, path)
    rows, human = without_human(rows)
    for row in rows:
        if (row["config"], row["protocol"]) == (name, PROTOCOL):
            return {**row, **_beside_raters(human, row, rows)}
    raise InputError(
        f"{path}: has no scores of {name} under {PROTOCOL.upper()}. Run stm-keras "
        f"benchmark {name} first."
    )


def _beside_raters(human, row, rows):
    """Return "human" of a config, as of `pool_human`, or of its variants, and what these are."""
    name, models = row["config"], human["models"] if human else {}
    beside = [each for each in models if each == name or each.startswith(f"{name}+")]
    if name in beside:
        beside = [name]
    if not beside or human["data"] != row["data"]:
        return {}
    commands = [
        other["command"]
        for other in rows
        if other["config"] in beside and other["protocol"] == PROTOCOL
    ]
    own = {} if name in beside else {"variants": "; ".join(commands)}
    return {"human": of_models(human, beside), **own}


def with_scores(predictor, row):
    """Return the metadata of a model with the scores of a row of `read_scores`."""
    scores = {}
    for subset, title in SUBSETS.items():
        if subset in row:
            part = row[subset]
            scores[f"{row['protocol'].upper()}, {title}"] = ", ".join(
                f"{name} {part[key]:.3f} [{low:.3f}, {high:.3f}]"
                for key, name in SCORES.items()
                for low, high in [part["intervals"][key]]
            )
    metadata = predictor.metadata
    for source in row["all"].get("sources", {}).values():  # of this very model
        unknown = {**metadata["unknown"], "measured": source["lines"]}
        metadata = {**metadata, "unknown": unknown}
    metadata = with_min_lines(metadata, row["all"]["by_lines"])
    return {**metadata, "scores": scores}


def write_model_card(
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
        row: As of `read_scores`: scores of the same recipe on sessions that each fold's
            model never saw.
        run: The `Run` of the model, or None.
        data_licence: Of the training data, None where it is not known.
        cost: As of `stm_keras.export.variants.write`, or None: what the model lost where it
            was made smaller.
        before: `Path` of the card of the file that was exported, which may not be there:
            it names the training command where the run is not at hand.
        after: The command by which the model was changed since.
    """
    training = predictor.metadata["training"]
    details = model_details(predictor, training["environment"]["dataset"]["source"], run)
    details["model"] = Path(path).stem
    commands = [details.get("command") or _command_on(before), after]
    if any(commands):
        details["command"] = "\n".join(filter(None, commands))
    details["protocol"] = row["protocol"]
    if data_licence is not None:
        details["data_licence"] = data_licence
    if "of" in row:
        data = Path(row["of"]).name
        scored = f"this very model on all complete single-class scans of {data}"
    else:
        but = "" if "refit" in training else " but those that set its temperature"
        scored = (
            f"{row['folds_done']} of {row['folds']} folds of the same recipe, each judged by "
            "a model that did not see its sessions; this model was trained on all sessions"
            f"{but}. {row['command']}"
        )
    details["scores are of"] = scored
    if "variants" in row:
        details["beside raters"] = f"this recipe with other settings: {row['variants']}"
    if cost is not None:
        details["made smaller"] = (
            f"weights in {cost['name']}. The scores are those in float32, over which it loses "
            f"{cost['loss']:.4f} AUROC on {cost['scans']} scans of {cost['data']}."
        )
    scores = {**row["all"], "protocol": row["protocol"]}
    for key, subset in (("full_agreement", "full agreement"), ("trust", "trust")):
        if subset in row:
            scores[key] = row[subset]
    write_card(path, details, scores, overwrite, predictor.metadata, row.get("human"))


def _command_on(card):
    """Return the command on a card, "" where there is none."""
    if card is None or not Path(card).is_file():
        return ""
    text = read_text(card, "a model card")
    found = re.search(r"## Make it again\n\n(`{3,})sh\n(.*?)\n\1\n", text, re.DOTALL)
    return found.group(2) if found else ""
