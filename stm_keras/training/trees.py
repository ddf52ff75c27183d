"""One run of trees, told from top to bottom; keras is not needed.

stm-keras train trees --data scans.h5 --output runs/trees
"""

import time

import keras
import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import INPUTS, recorded_lines
from stm_keras.errors import InputError, UsageError
from stm_keras.evaluation.metrics import auroc, balanced_accuracy
from stm_keras.inference.evaluate import judge
from stm_keras.inference.keras_free import TreesPredictor, load_trees_predictor
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.models import build_model
from stm_keras.models.sequential import DESCRIBED, TREES
from stm_keras.runs import STATE
from stm_keras.training.calibrate import trust_facts
from stm_keras.training.report import VALIDATION, save_predictions
from stm_keras.training.run_data import describe_environment, load_material, split_once
from stm_keras.training.targets import few_labels
from stm_keras.training.warm_start import taught_scans
from stm_keras.trees.file import save_trees
from stm_keras.trees.model import fit_trees, whole_and_begun
from stm_keras.trees.stages import LINES, fit_stages

CHUNK = 64  # scans described at a time
WINDOWS = 4  # beginnings of a scan that teach
FEWEST = 100  # scans; trees learn nothing from fewer


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


def without_trees(settings):
    """Return a `ModelConfig` of the network that gradients teach."""
    taught_later = {name: 0 for name in ("trees", "surface") if getattr(settings, name, 0)}
    return settings.model_copy(update=taught_later) if taught_later else settings


def add_trees(config, run, dataset, split, say=None, fewest=None):
    """Fit the trees of a run's model on its training scans, once, and store both.

    The network is trained without them: where the trees know a training scan by heart,
    it would learn nothing. Logits are summed, which is the geometric mean of both answers;
    the temperature, fitted later, makes up for the factor two. Trees may learn from votes
    where the network learns classes (`data.soft_labels_trees`; docs/notebook/experiments.md), if
    there are any.

    Args:
        config: A `stm_keras.config.Config`.
        run: A `stm_keras.runs.Run` with `best.keras`.
        dataset: The `Dataset` of the run.
        split: Its `Split`.
        say: callable of str that tells the user what happens, or None.
        fewest: int. Scans below which there are no trees, or None for `FEWEST`.

    Returns:
        bool. Whether the model has trees.
    """
    say = say or (lambda text: None)
    rounds = getattr(config.model, "trees", 0)
    path = run.file("best.keras")
    predictor = load_predictor(path)
    if not rounds or any(layer.name == TREES for layer in predictor.model.layers):
        return bool(rounds)
    soft = config.data.soft_labels_trees
    if soft and dataset.votes is None:
        say("The data has no votes, so trees learn classes as the network does.")
        soft = None
    lessons = taught_scans(config, dataset, split, lambda text: None, soft)
    fewest = FEWEST if fewest is None else fewest
    if len(lessons) < fewest:
        say(f"No trees: {len(lessons)} scans teach, and they need {fewest}.")
        return False
    say(f"Fitting trees on {len(lessons)} scans.")
    classes = predictor.classes
    settings = config.model.model_copy(update={"surface": 0})  # taught last
    model = build_model(settings, len(classes), *dataset.images.shape[:0:-1])
    trained = {layer.name: layer for layer in predictor.model.layers}
    for layer in model.layers:
        if layer.weights and layer.name in trained:
            layer.set_weights(trained[layer.name].get_weights())
    trees = model.get_layer(TREES)
    rows = describe_lessons(model, lessons, INPUTS[config.model.input])
    trees.set_trees(fit_stages(*rows, trees.stages, rounds, config.seed))
    facts = {**predictor.facts, "parameters": model.count_params()}
    save_model(model, path, facts, overwrite=True)
    return True


def describe_lessons(model, lessons, prepare):
    """Compute what trees see of scans after some numbers of lines, and what they must say.

    Each scan comes again as if it had been recorded from its end, and as if it had begun
    later, either way: the first lines are then others, and no less true.

    Args:
        model: `keras.Model` with a layer that describes lines so far.
        lessons: `Lessons`.
        prepare: callable that turns heights into model input.

    Returns:
        Tuple of arrays, a row for each scan and number of lines recorded: features
        `(rows, features)`, shares of the classes `(rows, classes)`, weights `(rows,)`, and
        lines seen `(rows,)`.
    """
    describe = keras.Model(model.inputs[0], model.get_layer(DESCRIBED).output)
    seen = np.array([lines for lines in LINES if lines <= lessons.images.shape[1]])
    parts = []
    for start in range(0, len(lessons), CHUNK):
        chosen = np.arange(start, min(start + CHUNK, len(lessons)))
        heights = read_images(lessons.images, lessons.indices[chosen])
        given, weights = lessons.line_targets(chosen, prepare(heights))
        count = recorded_lines(heights)
        for order in orders(count, heights.shape[1]):
            inputs = prepare(reordered(heights, order))
            filled = np.zeros((CHUNK, *inputs.shape[1:]), np.float32)  # compiled once
            filled[: len(chosen)] = inputs
            features = np.asarray(describe.predict_on_batch(filled))[: len(chosen)]
            targets, weight = (
                reordered(each["state"], order)[:, seen - 1] for each in (given, weights)
            )
            there = weight > 0
            parts.append(
                (
                    features[:, seen - 1][there],
                    targets[there],
                    weight[there],
                    np.broadcast_to(seen, there.shape)[there],
                )
            )
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def orders(count, lines):
    """Yield the orders in which the lines of scans teach.

    Args:
        count: int array `(scans,)`. Recorded lines, which come first.
        lines: int. Lines of a complete scan.

    Yields:
        int array of shape `(scans, lines)`: places of the lines, -1 for none. From the
        first line on, then from quarters of the scan on; and all of these from its end.
    """
    place, count = np.arange(lines), np.asarray(count)[:, None]
    for begin in range(0, lines, -(-lines // WINDOWS)):
        there = place + begin < count
        yield np.where(there, place + begin, -1)
        yield np.where(there, count - 1 - place - begin, -1)


def reordered(values, order):
    """Put `(scans, lines, ...)` in an order of lines, as of `orders`; 0 where none is."""
    order = order.reshape(*order.shape, *[1] * (values.ndim - 2))
    return np.where(order < 0, 0, np.take_along_axis(values, np.maximum(order, 0), axis=1))
