"""Where a run begins: weights of another model, layers that stay, and what it is taught with."""

import os
import re

import numpy as np

from stm_keras.data.preprocess import INPUTS
from stm_keras.errors import ConfigError, MismatchError
from stm_keras.inference.find_model import find_model
from stm_keras.inference.model_file import load_predictor
from stm_keras.training.batches import Batches
from stm_keras.training.run_data import simulated_scans
from stm_keras.training.targets import (
    few_labels,
    make_lessons,
    unknown_lessons,
    voted_extra,
)
from stm_keras.training.team import ALONE

MAKERS = 8  # threads that make batches: a GPU waits where two do (docs/data.md)
HEADS = ("state", "change", "unknown", "logits")
BESIDE = re.compile(r"change_.*|(norm_)?lattice.*")  # branches of their own
PARTS = {  # names of the layers that `train.frozen` can keep
    "none": re.compile(r"$."),
    "stem": re.compile(r"(conv|norm)_\d+|tokenizer"),
    "change": re.compile(r"change(_.*)?"),
    "all but change": re.compile(r"(?!change).*"),
}


def begin_with(model, settings, classes):
    """Give a new model the weights of a trained one, layer by layer of the same name.

    A layer of another shape keeps its fresh weights: a head for other classes, say.

    Args:
        model: `keras.Model`.
        settings: A `stm_keras.settings.TrainConfig`; `init` names a model file or run.
        classes: sequence of str. What the new model tells apart.

    Raises:
        MismatchError: No layer fits.
    """
    if settings.init is None:
        return
    path, _ = find_model(settings.init)
    other = load_predictor(path)
    there = {layer.name: layer for layer in other.model.layers if layer.weights}
    taken = 0
    for layer in model.layers:
        source = there.get(layer.name)
        if source is None or not layer.weights:
            continue
        if layer.name in ("state", "logits") and other.classes != tuple(classes):
            continue
        weights = source.get_weights()
        if [w.shape for w in weights] == [tuple(w.shape) for w in layer.weights]:
            layer.set_weights(weights)
            taken += 1
    if not taken:
        raise MismatchError(
            f"{path}: no layer fits. `train.init` needs a model of the same kind; this one "
            f"is {other.model.name}, and {model.name} is trained."
        )


def freeze(model, frozen):
    """Keep some layers as they are, statistics of their norms included.

    Args:
        model: `keras.Model`.
        frozen: str. A key of `PARTS`: "stem", "change" for what finds tip changes, or "all
            but change" for the rest.
    """
    for layer in model.layers:
        if PARTS[frozen].fullmatch(layer.name):
            layer.trainable = False


def frozen_heads(model, frozen):
    """Return the names of the heads of a model that `train.frozen` keeps: list of str."""
    return [name for name in model.output if PARTS[frozen].fullmatch(name)]


def layer_factors(model, settings):
    """Return the factor on the learning rate of each variable, by its path.

    The heads, and what finds tip changes or the lattice, learn at the full rate, and each
    layer below at `layer_decay` times that of the next: what a stem learnt on thousands of
    simulated scans is kept longer.

    Args:
        model: `keras.Model`.
        settings: A `stm_keras.settings.TrainConfig`.

    Returns:
        dict of str to float, empty where all learn alike.

    Reference:
        Howard & Ruder, 2018, https://arxiv.org/abs/1801.06146, section 3.2.
    """
    if settings.layer_decay == 1:
        return {}
    groups, heads = [], []
    for layer in model.layers:
        if layer.name in HEADS or BESIDE.fullmatch(layer.name):
            heads += layer.trainable_variables
        elif layer.trainable_variables:
            if not (groups and layer.name.startswith("norm_")):  # with what it norms
                groups.append([])
            groups[-1] += layer.trainable_variables
    groups.append(heads)
    return {
        variable.path: settings.layer_decay ** (len(groups) - 1 - depth)
        for depth, group in enumerate(groups)
        for variable in group
    }


def answers(model):
    """Name what a network answers after every line: tuple of str, empty if only once."""
    return tuple(model.output) if isinstance(model.output, dict) else ()


def make_batches(config, dataset, split, heads, say, team=ALONE, kept=None):
    """Make the batches of a run.

    Args:
        config: A `stm_keras.config.Config`.
        dataset: The `Dataset` of the run.
        split: Its `Split`.
        heads: tuple of str, as of `answers`.
        say: callable of str.
        team: `Team` of those who share every batch.
        kept: dict that keeps simulated scans for the next training of a run, or None.

    Returns:
        `Batches` of what this process computes.
    """
    kept = {} if kept is None else kept
    if "beside" not in kept:
        kept["beside"] = _beside(config, heads, dataset.classes, say)
    return Batches(
        taught_scans(config, dataset, split, say),
        config.train.batch_size,
        config.seed,
        config.augment,
        INPUTS[config.model.input],
        heads,
        config.train.late_lines,
        kept["beside"],
        threads=min(os.cpu_count() or 1, MAKERS),
        steps=config.train.steps_per_epoch,
        rank=team.rank,
        world=team.world,
        devices=team.replicas,
    )


def taught_scans(config, dataset, split, say, soft=None):
    """Choose the scans of the dataset that teach, and what each teaches.

    Args:
        config, dataset, split, say: As for `make_batches`.
        soft: float. Share of the votes in a target, or None for `data.soft_labels`.

    Returns:
        `Lessons`.
    """
    train, settings = split.parts["train"], config.data
    soft = settings.soft_labels if soft is None else soft
    if settings.labels is not None:
        train = few_labels(dataset, train, settings.labels, config.seed)
    extra = None
    if soft and settings.labels is None:
        extra = voted_extra(dataset, split)
        say(f"Votes teach: {len(train)} scans of one class and {len(extra)} others.")
    return make_lessons(
        dataset,
        train,
        soft=soft,
        balanced=config.train.class_weight,
        extra=extra,
    )


def _beside(config, heads, classes, say):
    """Simulate what fills a share of every batch: labelled scans, and other surfaces."""
    beside, settings = [], config.simulate
    if settings.share and config.data.path is not None:
        scans = simulated_scans(config, say)
        if scans.classes != tuple(classes):
            raise ConfigError(
                f"`simulate.share`: simulated scans are of the classes "
                f"{', '.join(scans.classes)}. Received: {', '.join(classes)}."
            )
        beside.append((make_lessons(scans, np.arange(len(scans))), settings.share))
    if settings.unknown:
        if "unknown" not in heads:
            raise ConfigError(
                "`simulate.unknown` needs a model with a head for unknown surfaces, such as "
                f"`sequential`. Received: model.name={config.model.name}."
            )
        from stm_keras.simulate import simulate_unknown

        count = max(settings.count // 4, 1)
        say(f"Simulating {count} scans of other surfaces, seed {settings.seed}.")
        others = simulate_unknown(count, settings.seed)
        beside.append((unknown_lessons(others, len(classes)), settings.unknown))
    return beside
