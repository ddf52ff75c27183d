"""Give a trained network trees beside it: two that err differently are right more often."""

import logging

import keras
import numpy as np

from stm_keras.backend import rows_to_compute
from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import INPUTS, recorded_lines
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.models import build_model
from stm_keras.models.sequential import DESCRIBED, TREES
from stm_keras.training.warm_start import copy_weights, select_scans
from stm_keras.trees.stages import LINES, fit_stages

CHUNK = 64  # scans described at a time
STARTS = 4  # lines at which a scan is taken to start
FEWEST_SCANS = 100  # trees fitted on fewer add nothing

logger = logging.getLogger(__name__)


def without_trees(settings):
    """Return a `ModelConfig` of the network that is trained by gradients."""
    fitted_later = {name: 0 for name in ("trees", "surface") if getattr(settings, name, 0)}
    return settings.model_copy(update=fitted_later) if fitted_later else settings


def add_trees(config, run, dataset, split, fewest=None):
    """Fit the trees of a run's model on its training scans, once; tell whether it has any.

    The network is trained without them: where the trees know a training scan by heart,
    it would get no gradient. Logits are summed, which is the geometric mean of both answers;
    the temperature, fitted later, makes up for the factor two. Trees may be fitted to votes
    where the network is trained on classes (`data.soft_labels_trees`, see docs/notebook),
    if there are any. Below `fewest` scans (None: `FEWEST_SCANS`) there are no trees.
    """
    rounds = getattr(config.model, "trees", 0)
    path = run.file("best.keras")
    predictor = load_predictor(path)
    if not rounds or any(layer.name == TREES for layer in predictor.model.layers):
        return bool(rounds)
    soft = config.data.soft_labels_trees
    if soft and dataset.votes is None:
        logger.info(
            "The data has no votes, so trees are fitted to classes, as the network."
        )
        soft = None
    scans = select_scans(config, dataset, split, soft)
    fewest = FEWEST_SCANS if fewest is None else fewest
    if len(scans) < fewest:
        logger.info(
            f"No trees: there are {len(scans)} training scans, and they need {fewest}."
        )
        return False
    logger.info(f"Fitting trees on {len(scans)} scans.")
    settings = config.model.model_copy(update={"surface": 0})  # fitted last
    shape = dataset.images.shape[:0:-1]  # pixels, lines
    model = build_model(settings, len(predictor.classes), *shape)
    copy_weights(predictor.model, model)
    trees = model.get_layer(TREES)
    rows = tree_rows(model, scans, INPUTS[config.model.input])
    trees.set_trees(fit_stages(*rows, trees.stages, rounds, config.seed))
    metadata = {**predictor.metadata, "parameters": model.count_params()}
    save_model(model, path, metadata, overwrite=True)
    return True


def tree_rows(model, scans, prepare):
    """Compute what trees are fitted to: a row for each scan and number of recorded lines.

    Each scan comes again as if it had been recorded from its end, and as if it had started
    later, either way: the first lines are then others, and no less true. `prepare` turns
    heights into model input.

    Returns:
        Tuple of arrays: features `(rows, features)`, shares of the classes
        `(rows, classes)`, weights `(rows,)`, and lines seen `(rows,)`.
    """
    describe = describer(model)
    seen = np.array([lines for lines in LINES if lines <= scans.images.shape[1]])
    parts = []
    for start in range(0, len(scans), CHUNK):
        chosen = np.arange(start, min(start + CHUNK, len(scans)))
        heights = read_images(scans.images, scans.indices[chosen])
        targets, weights = scans.line_targets(chosen, prepare(heights))
        for order in line_orders(recorded_lines(heights), heights.shape[1]):
            features = describe(prepare(reorder_lines(heights, order)))
            state, weight = (
                reorder_lines(each["state"], order)[:, seen - 1]
                for each in (targets, weights)
            )
            recorded = weight > 0  # (scans, numbers of lines)
            lines = np.broadcast_to(seen, recorded.shape)
            rows = features[:, seen - 1], state, weight, lines
            parts.append([each[recorded] for each in rows])
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def describer(model):
    """Return a function from up to `CHUNK` model inputs to features of the lines so far.

    The features `(scans, lines, features)` are those that trees and the unknown-surface
    layer read.
    """
    layers = keras.Model(model.inputs[0], model.get_layer(DESCRIBED).output)

    def describe(inputs):
        rows = rows_to_compute(len(inputs), CHUNK)
        filled = np.zeros((rows, *inputs.shape[1:]), np.float32)
        filled[: len(inputs)] = inputs
        return np.asarray(layers.predict_on_batch(filled))[: len(inputs)]

    return describe


def line_orders(count, lines):
    """Yield orders in which the lines of scans could have been recorded.

    From the first line on, then from quarters of the scan on; and all of these from its end.
    `count` is how many of the `lines` of each scan were recorded, which come first. An order
    is an int array `(scans, lines)` of indices of lines, -1 for none.
    """
    line, count = np.arange(lines), np.asarray(count)[:, None]
    for start in range(0, lines, -(-lines // STARTS)):
        recorded = line + start < count
        yield np.where(recorded, line + start, -1)
        yield np.where(recorded, count - 1 - line - start, -1)


def reorder_lines(values, order):
    """Put `(scans, lines, ...)` in an order of `line_orders`; 0 where there is no line."""
    order = order.reshape(*order.shape, *[1] * (values.ndim - 2))
    return np.where(order < 0, 0, np.take_along_axis(values, np.maximum(order, 0), axis=1))
