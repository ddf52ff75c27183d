"""Where a run starts: weights of another model, frozen layers, and the batches it trains on."""

import logging
import os
import re

import numpy as np

from stm_keras.data.dataset import CLASSES
from stm_keras.errors import ConfigError, MismatchError
from stm_keras.inference.find_model import find_model
from stm_keras.inference.model_file import load_predictor
from stm_keras.training.batches import Batches
from stm_keras.training.parallel import SINGLE
from stm_keras.training.residence import ResidentBatches, lives_on_device
from stm_keras.training.run_data import simulated_scans
from stm_keras.training.targets import (
    draw_few,
    extra_voted_scans,
    make_training_set,
    unknown_surface_set,
)

MAX_THREADS = 8  # that make batches: a GPU waits where two do (docs/data.md)
HEADS = ("state", "change", "unknown", "logits")
FULL_RATE = re.compile(r"change_.*|(norm_)?lattice.*")  # branches beside the stem
FROZEN = {  # names of the layers that `train.frozen` keeps
    "none": re.compile(r"$."),
    "stem": re.compile(r"(conv|norm)_\d+|tokenizer"),
    "change": re.compile(r"change(_.*)?"),  # what finds tip changes
    "all but change": re.compile(r"(?!change).*"),
}

logger = logging.getLogger(__name__)


def load_initial_weights(model, settings, classes):
    """Give a new model the weights of the one `train.init` names, layer by layer by name.

    A layer of another shape keeps its fresh weights: a head for other classes, say.
    """
    if settings.init is None:
        return
    path, _ = find_model(settings.init)
    initial = load_predictor(path)
    skip = () if initial.classes == tuple(classes) else ("state", "logits")
    if not copy_weights(initial.model, model, skip):
        raise MismatchError(
            f"{path}: no layer fits. `train.init` needs a model of the same kind; this one "
            f"is {initial.model.name}, and {model.name} is trained."
        )


def copy_weights(source, model, skip=()):
    """Copy the weights of layers of the same name and shapes; return the names copied."""
    trained = {layer.name: layer for layer in source.layers if layer.weights}
    copied = []
    for layer in model.layers:
        if layer.name not in trained or layer.name in skip or not layer.weights:
            continue
        weights = trained[layer.name].get_weights()
        shapes = [tuple(each.shape) for each in layer.weights]
        if [each.shape for each in weights] == shapes:
            layer.set_weights(weights)
            copied.append(layer.name)
    return copied


def freeze(model, frozen):
    """Keep the layers of a key of `FROZEN` as they are, statistics of norms included."""
    for layer in model.layers:
        if FROZEN[frozen].fullmatch(layer.name):
            layer.trainable = False


def frozen_heads(model, frozen):
    """Return the names of the heads of a model that `train.frozen` keeps: list of str."""
    return [name for name in model.output if FROZEN[frozen].fullmatch(name)]


def learning_rate_factors(model, settings):
    """Return the factor on the learning rate of each variable, by its path.

    The heads, and what finds tip changes or the lattice, are trained at the full rate, and
    each layer below at `layer_decay` times that of the next: what a stem got from thousands
    of simulated scans is kept longer. The dict is empty where all have the same rate.

    Reference:
        Howard & Ruder, 2018, https://arxiv.org/abs/1801.06146, section 3.2.
    """
    if settings.layer_decay == 1:
        return {}
    groups, heads = [], []
    for layer in model.layers:
        if layer.name in HEADS or FULL_RATE.fullmatch(layer.name):
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


def line_heads(model):
    """Name the heads that answer after every line: tuple of str, empty if only once."""
    return tuple(model.output) if isinstance(model.output, dict) else ()


def make_batches(config, dataset, split, heads, strategy=SINGLE, cache=None, own=None):
    """Make the `Batches` of a run, of which this process computes its own rows.

    `heads` are those of `line_heads`; `cache` is a dict that keeps simulated scans for the
    next training of a run, or None. `own` is a user's augmentation, of scans on the host.
    """
    cache = {} if cache is None else cache
    if "auxiliary" not in cache:
        cache["auxiliary"] = _simulated_sets(config, heads, dataset)
    scans, auxiliary = select_scans(config, dataset, split), cache["auxiliary"]
    sets = [scans, *(each for each, _ in auxiliary)]
    if own is not None and config.data.residence == "device":
        raise ConfigError(
            "`augment.own` varies scans on the host, and `data.residence` asks for them on the "
            "device. Leave one of the two out."
        )
    on_device = own is None and lives_on_device(config.data.residence, sets)
    return (ResidentBatches if on_device else Batches)(
        scans,
        config.train.batch_size,
        config.seed,
        config.augment,
        config.model.input,
        heads,
        config.train.late_lines,
        auxiliary,
        threads=min(os.cpu_count() or 1, MAX_THREADS),
        steps=config.train.steps_per_epoch,
        rank=strategy.rank,
        world=strategy.world,
        devices=strategy.replicas,
        own=own,
    )


def select_scans(config, dataset, split, soft=None):
    """Choose the `TrainingSet` of a run; `soft` replaces `data.soft_labels`."""
    train, settings = split.parts["train"], config.data
    soft = settings.soft_labels if soft is None else soft
    if settings.labels is not None:
        train = draw_few(dataset, train, settings.labels, config.seed)
    extra = None
    if soft and settings.labels is None:
        extra = extra_voted_scans(dataset, split)
        logger.info(
            f"Targets from votes: {len(train)} scans of one class and {len(extra)} others."
        )
    balanced = config.train.class_weight
    return make_training_set(dataset, train, soft=soft, balanced=balanced, extra=extra)


def _simulated_sets(config, heads, dataset):
    """Simulate what fills a share of every batch: labelled scans, and other surfaces.

    They have the lines and pixels of the scans of the dataset.
    """
    sets, settings = [], config.simulate
    size, classes = dataset.images.shape[-1], dataset.classes
    if settings.share and config.data.path is not None and tuple(classes) != CLASSES:
        logger.info(
            "Simulated scans are of other classes than the data, so none is among the scans that "
            "the network is trained on (`simulate.share`)."
        )
    elif settings.share and config.data.path is not None:
        scans = simulated_scans(config, size)
        sets.append((make_training_set(scans, np.arange(len(scans))), settings.share))
    if settings.unknown:
        if "unknown" not in heads:
            raise ConfigError(
                "`simulate.unknown` needs a model with a head for unknown surfaces, such as "
                f"`sequential`. Received: model.name={config.model.name}."
            )
        from stm_keras.simulate import SimulationConfig, simulate_unknown

        count = max(settings.count // 4, 1)
        logger.info(f"Simulating {count} scans of other surfaces, seed {settings.seed}.")
        ranges = SimulationConfig(size=size)
        others = simulate_unknown(count, settings.seed, config=ranges)
        sets.append((unknown_surface_set(others, len(classes)), settings.unknown))
    return sets
