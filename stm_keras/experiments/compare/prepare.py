"""What all setups start from: the split, initial weights, and the first batches of training."""

import contextlib

import keras
import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.load import load_dataset
from stm_keras.data.preprocess import INPUTS
from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.folder import MATERIAL, TIMED_BATCHES, digest
from stm_keras.models import build_model
from stm_keras.training.network_trees import without_trees
from stm_keras.training.optimizer import make_optimizer
from stm_keras.training.run_data import split_run_data
from stm_keras.training.train import set_seed
from stm_keras.training.warm_start import line_heads, load_initial_weights, make_batches

COMPARED_SCANS = 16  # whose logits are compared


def prepare(folder, plan, weights=None):
    """Write the material of a comparison; batches that were removed are made again.

    The batches are those of `stm-keras train`, a function of seed, epoch and number.

    Raises:
        MismatchError: The weights are of another network.
    """
    config = plan.config
    dataset = load_dataset(config.data.path)
    split = split_run_data(config, dataset)
    model = _initial_model(config, dataset, folder, weights)
    batches = make_batches(config, dataset, split, line_heads(model))
    digests = []
    with contextlib.closing(batches):
        steps_per_epoch = len(batches)
        for number in range(max(plan.steps, min(plan.steps_per_round, TIMED_BATCHES))):
            batch = batches.make(*batches.locate(number))
            folder.save_batch(number, *batch)
            digests.append(digest([batch[0]]))
    folder.save_arrays("scans.npz", {"inputs": _whole_scans(config, dataset, split)})
    initial = model.get_weights()
    folder.save_weights([weight.path for weight in model.weights], initial)
    saved_split = split.to_json()
    folder.write_json("split.json", saved_split)
    optimizer = make_optimizer(config.train, steps_per_epoch)
    rates = []
    for step in range(plan.steps):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    folder.write_json(
        MATERIAL,
        {
            "data": dataset.digest(),
            "scans": len(dataset),
            "source": dataset.source,
            "split": digest([np.array(part) for part in saved_split["parts"].values()]),
            "split_note": split.note,
            "weights": digest(initial),
            "parameters": model.count_params(),
            "batches": digests,
            "steps_per_epoch": steps_per_epoch,
            "learning_rates": rates,
            "classes": list(dataset.classes),
            "lines": int(dataset.images.shape[1]),
            "pixels": int(dataset.images.shape[2]),
            "made_with": keras.config.backend(),
        },
    )


def _initial_model(config, dataset, folder, weights):
    """Build the network of a config with the weights that training would start from."""
    set_seed(config.seed)
    network = without_trees(config.model)
    model = build_model(network, len(dataset.classes), *dataset.images.shape[:0:-1])
    if weights is None:
        load_initial_weights(model, config.train, dataset.classes)
        return model
    arrays = list(folder.weights(weights).values())
    if [array.shape for array in arrays] != [tuple(w.shape) for w in model.weights]:
        raise MismatchError(
            f"{weights}: is of another network than {config.model.name} of {config.name}. "
            "Give the weights.npz of a comparison of the same config."
        )
    model.set_weights(arrays)
    return model


def _whole_scans(config, dataset, split):
    """Return some scans as model input, if possible without a line that a mask would hide."""
    parts = split.parts
    part = parts["validation"] if len(parts["validation"]) else parts["train"]
    heights = read_images(dataset.images, part[: 20 * COMPARED_SCANS])
    inputs = INPUTS[config.model.input](heights)
    whole = np.flatnonzero((inputs != 0).any(axis=2).all(axis=1))
    return inputs[whole[:COMPARED_SCANS]] if len(whole) else inputs[:COMPARED_SCANS]
