"""One run of trees, from its scans to `best.skops`; keras is not needed.

stm-keras train trees --data scans.h5 --output runs/trees
"""

import logging
import time

import numpy as np

from stm_keras.errors import InputError, UsageError
from stm_keras.evaluation.metrics import epoch_scores
from stm_keras.inference.evaluate import predict_by_lines
from stm_keras.inference.trees_model import TreesPredictor, load_trees_predictor
from stm_keras.training.calibrate import fit_reliability
from stm_keras.training.report import VALIDATION, save_predictions
from stm_keras.training.run_data import (
    describe_environment,
    load_run_data,
    split_once,
    training_metadata,
)
from stm_keras.training.targets import draw_few
from stm_keras.trees.file import save_trees
from stm_keras.trees.model import fit_trees, whole_and_partial

logger = logging.getLogger(__name__)


def train_trees(config, run):
    """Fit trees and leave them and their scores in a run, as `train` does a network.

    Raises:
        StmKerasError: The data does not allow it, or the config asks for what only
            networks can do.
    """
    _refuse_network_settings(config)
    dataset = load_run_data(config)
    split = split_once(run, config, dataset)
    path = run.file("best.skops")
    if run.read_json("checkpoints/state.json") is None:
        environment = describe_environment(config, dataset)
        run.write_json("environment.json", environment)
        _fit(config, run, dataset, split, environment)
    if not path.exists():
        raise InputError(f"{run.path}: the best model is lost. Train into a new folder.")
    return load_trees_predictor(path), dataset, split


def _refuse_network_settings(config):
    for value, name in (
        (config.data.soft_labels, "data.soft_labels"),
        (config.data.soft_labels_trees, "data.soft_labels_trees"),
        (config.simulate.share and config.data.path is not None, "simulate.share"),
        (config.train.init, "train.init"),
    ):
        if value:
            raise UsageError(
                f"`{name}` is for networks. Leave it out with model.name=trees."
            )


def _fit(config, run, dataset, split, environment):
    start = time.perf_counter()
    settings = config.model
    train, validation = split.parts["train"], split.parts["validation"]
    if config.data.labels is not None:
        train = draw_few(dataset, train, config.data.labels, config.seed)
    logger.info(
        f"Describing {len(train) + len(validation)} scans, each {1 + settings.begun} times."
    )
    train_features, validation_features = (
        whole_and_partial(dataset.images, part, settings.begun, config.seed)
        for part in (train, validation)
    )
    logger.info("Fitting trees.")
    trees = _fit_on(config, dataset, [(train, train_features)])
    trained = len(train) + settings.refit * len(validation)
    metadata = training_metadata(config, dataset, split, environment, trained)
    row = {"epoch": 1}
    parts = (("", train, train_features), ("val_", validation, validation_features))
    for prefix, indices, features in parts:
        if len(indices):
            probabilities = trees.probabilities(features[:, 0])
            row |= epoch_scores(dataset.labels[indices], probabilities, prefix)
    if len(validation):
        predictor = TreesPredictor(trees, metadata)
        metadata |= fit_reliability([predictor], [dataset.take(validation)])
        if settings.refit:
            predictor = TreesPredictor(trees, metadata)  # now calibrated
            by_lines = predict_by_lines(predictor, dataset, validation)
            save_predictions(run, validation, by_lines, VALIDATION)
            logger.info("Fitting trees again, on the validation scans too.")
            parts = [(train, train_features), (validation, validation_features)]
            trees = _fit_on(config, dataset, parts)
    metadata["parameters"] = trees.count_params()
    save_trees(trees, run.file("best.skops"), metadata, overwrite=True)
    row["seconds"] = time.perf_counter() - start
    run.write_history([row])
    run.file("checkpoints").mkdir(exist_ok=True)
    run.write_json("checkpoints/state.json", {"weights": None, "rows": [row]})
    logger.info(f"Fitted in {row['seconds']:.0f} s.")


def _fit_on(config, dataset, parts):
    """Fit on pairs of scans and their features `(scans, 1 + begun, features)`.

    A whole scan counts as much as its beginnings together.
    """
    settings = config.model
    begun = settings.begun
    weights = [np.tile([max(begun, 1.0), *[1.0] * begun], len(p)) for p, _ in parts]
    if dataset.weight is not None:
        for each, (indices, _) in zip(weights, parts, strict=True):
            each *= np.repeat(dataset.weight[indices], 1 + begun)
    labels = [np.repeat(dataset.labels[indices], 1 + begun) for indices, _ in parts]
    features = [each.reshape(-1, each.shape[-1]) for _, each in parts]
    return fit_trees(
        np.concatenate(features),
        np.concatenate(labels),
        np.concatenate(weights),
        seed=config.seed,
        iterations=settings.iterations,
        learning_rate=settings.learning_rate,
        leaves=settings.leaves,
        regularisation=settings.regularisation,
        share=settings.features,
        logistic=settings.logistic,
    )
