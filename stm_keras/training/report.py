"""Close a run: judge the test part with its best model, score it, write report and card."""

import re
from pathlib import Path

import numpy as np

from stm_keras.errors import InputError
from stm_keras.evaluation.calibration import with_min_lines
from stm_keras.files import atomic
from stm_keras.inference.evaluate import judge, score, trust_scores
from stm_keras.inference.find_model import find_model
from stm_keras.records import Rows, Scores, check_record
from stm_keras.reports.card import write_card
from stm_keras.runs import legs
from stm_keras.untrusted import read_arrays, read_json, read_text

SUBSETS = {"all": "unseen sessions", "full agreement": "unseen sessions, full agreement"}

PREDICTIONS, VALIDATION = "predictions.npz", "validation.npz"


def finish(run, predictor, dataset, split, say=None):
    """Judge and score the test part of a run with its best model, once.

    A run that kept nothing for a test is scored on its validation part, and says so: on
    what the model before `train.refit` said of it.

    Args:
        run: A `stm_keras.runs.Run`.
        predictor: A `Predictor` with the best model.
        dataset: The `Dataset` of the run.
        split: Its `Split`.
        say: callable of str that tells the user what happens, or None.

    Returns:
        dict, JSON-ready: what evaluation.json holds.
    """
    scores = run.scores()
    if scores is not None and run.file("report.html").exists():
        return scores
    part = "test" if len(split.parts["test"]) else "validation"
    test = split.parts[part]
    taught = part == "validation" and run.file(VALIDATION).exists()  # by `refit`
    if taught:
        test, by_lines = load_predictions(run, VALIDATION)
    if say:
        say(f"Judging {len(test)} {part} scans.")
    if not taught:
        by_lines = judge(predictor, dataset, test)
    save_predictions(run, test, by_lines)
    scores = score(dataset, test, by_lines, split.protocol, split.groups)
    groups = None if split.groups is None else np.asarray(split.groups)[test]
    # what set the thresholds cannot score them
    setting = None
    if part == "test":
        setting = _sets_thresholds(run, predictor, dataset, split)
    scores |= trust_scores(predictor, dataset.take(test), setting, groups, taught=taught)
    scores |= {
        "protocol": split.protocol,
        "fold": split.fold,
        "split": part,
        "model": str(find_model(run.path)[0]),
        "data": dataset.source,
        "parameters": predictor.facts.get("parameters"),
    }
    _write_report(run, predictor, dataset, test, by_lines, scores)
    run.write_json("evaluation.json", scores)
    return scores


def _sets_thresholds(run, predictor, dataset, split):
    """Return what a model that did not learn from the validation scans says of them.

    A refit model knows them: what the one before said is in the run.
    """
    if run.file(VALIDATION).exists():
        _, by_lines = load_predictions(run, VALIDATION)
        return by_lines[max(by_lines)]
    chosen = split.parts["validation"]
    return predictor.probabilities(dataset.take(chosen).images) if len(chosen) else None


def save_predictions(run, indices, by_lines, name=PREDICTIONS):
    """Keep what the model said: `predictions.npz` with indices, lines, probabilities.

    Args:
        run: A `stm_keras.runs.Run`.
        indices: int array. Scans of the dataset.
        by_lines: dict of lines seen to float array `(scans, classes)`.
        name: str. Of the file.
    """
    with atomic(run.file(name), overwrite=True) as temporary:
        np.savez_compressed(
            temporary,
            indices=indices,
            lines=np.array(sorted(by_lines)),
            probabilities=np.stack([by_lines[n] for n in sorted(by_lines)]).astype("f4"),
        )


def load_predictions(run, name=PREDICTIONS):
    """Read `predictions.npz`: int array of scans, and dict of lines to probabilities."""
    path = run.file(name)
    file = read_arrays(path, "the predictions of a run")
    names = ("indices", "lines", "probabilities")
    indices, lines, said = (file.get(each, np.zeros(0)) for each in names)
    fits = indices.ndim == lines.ndim == 1 and indices.dtype.kind == lines.dtype.kind == "i"
    fits = fits and said.ndim == 3 and said.shape[:2] == (len(lines), len(indices))
    if not fits or not said.size or said.dtype.kind != "f" or not np.isfinite(said).all():
        raise InputError(f"{path}: is damaged (no probabilities). Train into a new folder.")
    return indices, dict(zip(lines.tolist(), said, strict=True))


def model_facts(predictor, source, run=None):
    """Collect what a report says of a model, a flat dict of str to str."""
    training = predictor.facts.get("training")
    name = getattr(predictor.model, "name", None)  # which an exported model lost
    if name is None:
        name = "exported" if training is None else training["config"]["model"]["name"]
    facts = {"data": source, "model": name}
    if run is not None and run.file("command.txt").exists():
        facts["command"] = read_text(run.file("command.txt")).strip()
    if training is None:
        return facts | {"origin": "not trained by stm-keras"}
    environment = training["environment"]
    if training["config"]["data"]["path"] is None:
        facts["data_licence"] = "simulated scans, none needed"
    return facts | {
        "parameters": f"{predictor.facts['parameters']:,}",
        "training data": environment["dataset"]["source"],
        "training data sha256": environment["dataset"]["sha256"],
        **_refit(training),
        "seed": str(training["config"]["seed"]),
        **_best_epoch(training),
        **_legs(environment),
        "preprocessing": predictor.facts["preprocessing"],
    }


def _legs(environment):
    """What a report says of where a model was trained: of each leg, where they differ."""
    told = {
        "date": lambda leg: leg.get("started"),
        "backend": lambda leg: leg["backend"],
        "devices": lambda leg: ", ".join(leg["devices"]),
        "machine": lambda leg: ", ".join(_hosts(leg)),
        "precision": lambda leg: leg["precision"],
        "stm-keras": lambda leg: leg.get("stm_keras"),
        "git": lambda leg: leg["git"] or "not a checkout",
        "versions": lambda leg: ", ".join(
            f"{k} {v}" for k, v in leg.get("packages", {}).items()
        ),
        "variables": lambda leg: ", ".join(
            f"{k}={v}" for k, v in leg.get("variables", {}).items()
        ),
    }
    found = {
        key: dict.fromkeys(filter(None, map(tell, legs(environment))))
        for key, tell in told.items()
    }
    return {key: ", then ".join(texts) for key, texts in found.items() if texts}


def _hosts(leg):
    """Name the machines of a leg, which version 0.1.0 did not tell."""
    found = leg.get("parallel", {}).get("hosts") or [leg.get("host")]
    return dict.fromkeys(filter(None, found))


def _best_epoch(training):
    """What a report says of the epoch that was kept; trees are fitted at once."""
    if "best" not in training:
        return {}
    epochs = training["config"]["train"]["epochs"]
    return {"best epoch": f"{training['best']['epoch']} of {epochs}"}


def _refit(training):
    """What a report says of a model that learnt from the validation scans at last."""
    if "refit" not in training:
        return {}
    known = training.get("calibration", {"folds": 1, "scans": training["refit"]})
    models = "a model" if known["folds"] == 1 else f"{known['folds']} models"
    told = (
        f"on {training['refit']} validation scans too; how sure it is, and thresholds, are of "
        f"what {models} said of {known['scans']} scans that had not taught"
    )
    return {"trained once more": told}


def _write_report(run, predictor, dataset, test, by_lines, scores):
    from stm_keras.evaluation.history import read_history
    from stm_keras.reports.card import write_card
    from stm_keras.reports.evaluation import write_report

    facts = model_facts(predictor, dataset.source, run)
    part = dataset.take(test)
    predictions = {"labels": part.labels, "probabilities": by_lines[max(by_lines)]}
    if part.name is not None:
        predictions["names"] = part.name
    write_report(
        run.file("report.html"),
        title=f"{run.config().name}: tip state on {len(test)} {scores['split']} scans",
        scores=scores,
        facts=facts,
        history=read_history(run.file("history.csv")),
        predictions=predictions,
        images=part.images,
        traces=_traces(predictor, part, by_lines[max(by_lines)]),
        overwrite=True,
    )
    write_card(run.file("card.md"), facts, scores, True, predictor.facts)


def _traces(predictor, part, final):
    """Collect what the report draws of a few scans: evidence, or attention, by line."""
    from stm_keras.evaluation.scan_figures import choose_examples

    def shown(chosen):
        return {
            "scans": part.images[chosen],
            "labels": part.labels[chosen],
            "classes": predictor.classes,
            "names": None if part.name is None else part.name[chosen],
        }

    if predictor.every_line:
        state = predictor.after_every_line(part.images)
        chosen = choose_examples(part.labels, state)
        change = predictor.heads(part.images[chosen]).get("change")
        return {**shown(chosen), "state": state[chosen], "change": change}
    if not hasattr(predictor.model, "layers"):  # trees
        return None
    from stm_keras.inference.attention import line_attention

    chosen = choose_examples(part.labels, final[:, None])
    attention = line_attention(predictor, part.images[chosen])
    return None if attention is None else {**shown(chosen), "attention": attention}


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
