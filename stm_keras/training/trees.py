"""One run of trees, told from top to bottom; keras is not needed.

stm-keras train trees --data scans.h5 --output runs/trees
"""

import time

import numpy as np

from stm_keras.errors import InputError, UsageError
from stm_keras.evaluation.metrics import auroc, balanced_accuracy
from stm_keras.inference.evaluate import judge
from stm_keras.inference.trees import TreesPredictor, load_trees_predictor
from stm_keras.runs import STATE
from stm_keras.training.calibrate import trust_facts
from stm_keras.training.report import VALIDATION, save_predictions
from stm_keras.training.run_data import describe_environment, load_material, split_once
from stm_keras.training.targets import few_labels
from stm_keras.trees.file import save_trees
from stm_keras.trees.model import fit_trees, whole_and_begun


def train_trees(config, run, say=None):
    """Fit trees and leave them and their scores in a run, as `train` does a network.

    Args:
        config: A `stm_keras.config.Config` whose model is `trees`.
        run: A `stm_keras.runs.Run`, locked by the caller.
        say: callable of str that tells the user what happens, or None.

    Returns:
        Tuple of a `TreesPredictor`, the `Dataset` and its `Split`.

    Raises:
        StmKerasError: The data does not allow it, or the config asks for what only
            networks can do.
    """
    say = say or (lambda text: None)
    _check(config)
    dataset = load_material(config, say)
    split = split_once(run, config, dataset, say)
    path = run.file("best.skops")
    if run.read_json("checkpoints/state.json", STATE) is None:
        environment = describe_environment(config, dataset)
        run.write_json("environment.json", environment)
        _fit(config, run, dataset, split, environment, say)
    if not path.exists():
        raise InputError(f"{run.path}: the best model is lost. Train into a new folder.")
    return load_trees_predictor(path), dataset, split


def _check(config):
    """Raise a `UsageError` where a setting would change nothing that trees do."""
    for asked, name in (
        (config.data.soft_labels, "data.soft_labels"),
        (config.data.soft_labels_trees, "data.soft_labels_trees"),
        (config.simulate.share and config.data.path is not None, "simulate.share"),
        (config.train.init, "train.init"),
    ):
        if asked:
            raise UsageError(
                f"`{name}` is for networks. Leave it out with model.name=trees."
            )


def _fit(config, run, dataset, split, environment, say):
    begin = time.perf_counter()
    settings = config.model
    train, validation = split.parts["train"], split.parts["validation"]
    if config.data.labels is not None:
        train = few_labels(dataset, train, config.data.labels, config.seed)
    say(
        f"Describing {len(train) + len(validation)} scans, each {1 + settings.begun} times."
    )
    known, held = (
        whole_and_begun(dataset.images, part, settings.begun, config.seed)
        for part in (train, validation)
    )
    say("Fitting trees.")
    trees = _fit_on(config, dataset, [(train, known)])
    facts = {
        "classes": list(dataset.classes),
        "pixels": int(dataset.images.shape[2]),
        "max_lines": int(dataset.images.shape[1]),
        "training": {
            "config": config.model_dump(),
            "environment": environment,
            "counts": {
                **{name: len(indices) for name, indices in split.parts.items()},
                "taught": len(train) + settings.refit * len(validation),
            },
        },
    }
    row = {
        "epoch": 1,
        **_scores(trees, known[:, 0], dataset.labels[train]),
        **_scores(trees, held[:, 0], dataset.labels[validation], "val_"),
    }
    if len(validation):
        facts |= trust_facts([TreesPredictor(trees, facts)], [dataset.take(validation)])
        if settings.refit:
            said = judge(TreesPredictor(trees, facts), dataset, validation)
            save_predictions(run, validation, said, VALIDATION)
            say("Fitting trees again, on the validation scans too.")
            trees = _fit_on(config, dataset, [(train, known), (validation, held)])
    facts["parameters"] = trees.count_params()
    save_trees(trees, run.file("best.skops"), facts, overwrite=True)
    row["seconds"] = time.perf_counter() - begin
    run.write_history([row])
    run.file("checkpoints").mkdir(exist_ok=True)
    run.write_json("checkpoints/state.json", {"weights": None, "rows": [row]})
    say(f"Fitted in {row['seconds']:.0f} s.")


def _fit_on(config, dataset, parts):
    """Fit on scans and their features, a list of int array and `whole_and_begun`.

    A whole scan counts as much as its beginnings together.
    """
    begun = config.model.begun
    weights = [np.tile([max(begun, 1), *[1] * begun], len(i)) for i, _ in parts]
    labels = [np.repeat(dataset.labels[i], f.shape[1]) for i, f in parts]
    features = [found.reshape(-1, found.shape[-1]) for _, found in parts]
    settings = config.model
    return fit_trees(
        np.concatenate(features),
        np.concatenate(labels),
        np.concatenate(weights).astype(float),
        seed=config.seed,
        iterations=settings.iterations,
        learning_rate=settings.learning_rate,
        leaves=settings.leaves,
        regularisation=settings.regularisation,
        share=settings.features,
        logistic=settings.logistic,
    )


def _scores(trees, features, labels, prefix=""):
    if not len(labels):
        return {}
    found = trees.probabilities(features)
    right = np.maximum(found[np.arange(len(labels)), labels], 1e-12)
    return {
        f"{prefix}loss": float(-np.log(right).mean()),
        f"{prefix}auroc": float(auroc(labels, found)[0]),
        f"{prefix}balanced_accuracy": float(
            balanced_accuracy(labels, found.argmax(1), found.shape[1])
        ),
    }
