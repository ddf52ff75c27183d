"""What every side begins with: split, initial weights and training batches, made once."""

import contextlib

import keras
import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.load import load_dataset
from stm_keras.data.preprocess import INPUTS
from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.folder import KEPT, digest
from stm_keras.models import build_model
from stm_keras.training.boost import without_trees
from stm_keras.training.optimizer import make_optimizer
from stm_keras.training.run_data import split_material
from stm_keras.training.train import set_seed
from stm_keras.training.warm_start import answers, begin_with, make_batches

SCANS = 16  # whose logits are compared


def prepare(folder, plan, weights=None, say=print):
    """Make the material of a comparison; batches that were removed are made again.

    The batches are those of `stm-keras train`, a function of seed, epoch and number.

    Args:
        folder: A `Folder`.
        plan: Its `Plan`.
        weights: `Path` of the weights.npz of another comparison to begin with, or None.
        say: callable of str.

    Raises:
        MismatchError: The weights are of another network.
    """
    config = plan.config
    dataset = load_dataset(config.data.path)
    split = split_material(config, dataset, say)
    model = initial_model(config, dataset, folder, weights)
    batches = make_batches(config, dataset, split, answers(model), say)
    sums = []
    with contextlib.closing(batches):
        length = len(batches)
        for number in range(max(plan.steps, min(plan.steps_per_round, KEPT), 1)):
            made = batches.make(*batches.place(number))
            folder.save_batch(number, *made)
            sums.append(digest([made[0]]))
    inputs = _whole_scans(config, dataset, split)
    np.savez(folder.file("scans.npz"), inputs=inputs)
    arrays = model.get_weights()
    folder.save_weights([weight.path for weight in model.weights], arrays)
    saved = split.to_json()
    folder.write_json("split.json", saved)
    optimizer = make_optimizer(config.train, length)
    rates = []
    for step in range(max(plan.steps, 1)):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    folder.write_json(
        "material.json",
        {
            "data": dataset.digest(),
            "scans": len(dataset),
            "source": dataset.source,
            "split": digest([np.array(part) for part in saved["parts"].values()]),
            "split_note": split.note,
            "weights": digest(arrays),
            "parameters": model.count_params(),
            "batches": sums,
            "steps_per_epoch": length,
            "learning_rates": rates,
            "classes": list(dataset.classes),
            "lines": int(dataset.images.shape[1]),
            "pixels": int(dataset.images.shape[2]),
            "made_with": keras.config.backend(),
        },
    )


def _whole_scans(config, dataset, split):
    """Return some scans as model input, if possible without a line that a mask would hide."""
    part = (
        split.parts["validation"]
        if len(split.parts["validation"])
        else split.parts["train"]
    )
    heights = read_images(dataset.images, part[: 20 * SCANS])
    inputs = INPUTS[config.model.input](heights)
    whole = np.flatnonzero((inputs != 0).any(axis=2).all(axis=1))
    return inputs[whole[:SCANS]] if len(whole) else inputs[:SCANS]


def initial_model(config, dataset, folder, weights=None):
    """Build the network of a config with the weights that training would begin with."""
    set_seed(config.seed)
    classes = dataset.classes
    network = without_trees(config.model)
    model = build_model(network, len(classes), *dataset.images.shape[:0:-1])
    if weights is None:
        begin_with(model, config.train, classes)
        return model
    given = list(folder.weights(weights).values())
    if [w.shape for w in given] != [tuple(w.shape) for w in model.weights]:
        raise MismatchError(
            f"{weights}: is of another network than {config.model.name} of {config.name}. "
            "Give the weights.npz of a comparison of the same config."
        )
    model.set_weights(given)
    return model
