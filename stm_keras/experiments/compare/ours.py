"""A side that is a backend of Keras: the network compiled and fitted as `stm-keras train` does."""

import contextlib
import time

import keras
import numpy as np

from stm_keras.backend import feed, predict
from stm_keras.data.dataset import read_images
from stm_keras.data.load import load_dataset
from stm_keras.data.preprocess import INPUTS
from stm_keras.data.split import Split
from stm_keras.errors import MismatchError
from stm_keras.experiments.compare import machine
from stm_keras.experiments.compare.folder import KEPT, digest
from stm_keras.experiments.compare.sides import EAGER
from stm_keras.models import build_model
from stm_keras.training.network_trees import without_trees
from stm_keras.training.optimizer import make_optimizer
from stm_keras.training.run_data import split_run_data
from stm_keras.training.train import compile_model, set_seed
from stm_keras.training.warm_start import (
    freeze,
    line_heads,
    load_initial_weights,
    make_batches,
)

SCANS = 16  # whose logits are compared


class Ours:
    """Train and predict with one backend, as one side of a comparison.

    Args:
        folder: A `Folder` that is prepared.
        plan: Its `Plan`.
        side: The `Side`; its backend is in use.
    """

    def __init__(self, folder, plan, side):
        self.folder, self.plan, self.side = folder, plan, side
        self.material = folder.material()
        self.initial = list(folder.weights().values())
        jit = {"auto": "auto", "true": True}.get(side.jit, False)
        settings = {"precision": side.precision, "jit_compile": jit}
        settings = plan.config.train.model_copy(update=settings)
        self.config = plan.config.model_copy(update={"train": settings})
        self.model = self.build(without_trees(plan.config.model))
        kept = min(plan.steps_per_round, KEPT)
        self.held = [folder.batch(number) for number in range(kept)]
        self.inputs = np.concatenate([batch[0] for batch in self.held])

    def build(self, network):
        """Build a network with the initial weights and compile it as training does."""
        set_seed(self.config.seed)
        keras.config.set_dtype_policy(self.side.precision)
        facts = self.material
        model = build_model(network, len(facts["classes"]), facts["pixels"], facts["lines"])
        model.set_weights(self.initial)
        freeze(model, self.config.train.frozen)
        compile_model(model, self.config.train, facts["steps_per_epoch"])
        model.run_eagerly = self.side.jit == EAGER
        return model

    def facts(self):
        """Tell what the arrays themselves say: weights, dtypes and device."""
        model, batch = self.model, self.held[0][0][:1]
        first = next(layer for layer in model.layers if layer.weights)
        inner = keras.tree.flatten(first.output)[0]
        both = keras.Model(model.inputs, [inner, *keras.tree.flatten(model.output)])
        computed, *answers = machine.answer(both, batch)
        dtype = keras.backend.standardize_dtype
        weights = [variable.value for variable in model.weights]
        found = {machine.place(array) for array in (*weights, *answers, computed)}
        return {
            "parameters": model.count_params(),
            "weights": digest(model.get_weights()),
            "dtypes": {
                "input": str(batch.dtype),
                "weights": sorted({dtype(weight.dtype) for weight in weights}),
                "computed": dtype(computed.dtype),
                "logits": sorted({dtype(answer.dtype) for answer in answers}),
            },
            "devices": sorted(found),
            "versions": machine.versions(self.side.library),
        }

    def train(self, count):
        """Fit `count` batches, and return the last loss."""
        history = self.model.fit(feed(Repeated(self.held, count)), shuffle=False, verbose=0)
        return history.history["loss"][-1]

    def predict(self):
        """Predict the scans of the batches at hand, and return how many they are."""
        size = len(self.held[0][0])
        predict(self.model, self.inputs, size)
        return len(self.inputs)

    def load(self, count):
        """Fit `count` batches as they are made, and see how long training waits for them."""
        config = self.plan.config
        dataset = load_dataset(config.data.path)
        split = Split.from_json(self.folder.split(), len(dataset))
        heads = line_heads(self.model)
        batches = make_batches(config, dataset, split, heads)
        with contextlib.closing(batches):
            begin = time.perf_counter()
            self.model.fit(feed(First(batches, count)), shuffle=False, verbose=0)
            seconds = time.perf_counter() - begin
        return {"seconds": seconds, "waited": batches.waited, "batches": count}

    def agree(self):
        """Compute logits, losses of the first steps and logits after them, without dropout."""
        network = without_trees(self.plan.config.model)
        network = network.model_copy(update={"dropout": 0.0})
        model = self.build(network)
        scans = self.folder.scans()
        before = _logits(model, scans)
        losses = []
        for number in range(self.plan.steps):
            logs = model.train_on_batch(*self.folder.batch(number), return_dict=True)
            losses.append(float(logs["loss"]))
        return {"logits": before, "losses": losses, "logits_after": _logits(model, scans)}


class Repeated(keras.utils.PyDataset):
    """Batches at hand, one after the other and again, without any work to make them."""

    def __init__(self, held, count):
        super().__init__()
        self.held, self.count = held, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return self.held[number % len(self.held)]


class First(Repeated):
    """The first batches of an epoch."""

    def __getitem__(self, number):
        return self.held[number]


def _logits(model, scans):
    answers = model.predict(scans, batch_size=len(scans), verbose=0)
    heads = answers if isinstance(answers, dict) else {"": answers}
    return np.concatenate([heads[name].ravel() for name in sorted(heads)]).tolist()


def prepare(folder, plan, weights=None):
    """Make the material of a comparison; batches that were removed are made again.

    The batches are those of `stm-keras train`, a function of seed, epoch and number.

    Args:
        folder: A `Folder`.
        plan: Its `Plan`.
        weights: `Path` of the weights.npz of another comparison to begin with, or None.

    Raises:
        MismatchError: The weights are of another network.
    """
    config = plan.config
    dataset = load_dataset(config.data.path)
    split = split_run_data(config, dataset)
    model = initial_model(config, dataset, folder, weights)
    batches = make_batches(config, dataset, split, line_heads(model))
    sums = []
    with contextlib.closing(batches):
        length = len(batches)
        for number in range(max(plan.steps, min(plan.steps_per_round, KEPT), 1)):
            made = batches.make(*batches.locate(number))
            folder.save_batch(number, *made)
            sums.append(digest([made[0]]))
    inputs = _whole_scans(config, dataset, split)
    np.savez(folder.file("scans.npz"), inputs=inputs)
    machine = model.get_weights()
    folder.save_weights([weight.path for weight in model.weights], machine)
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
            "weights": digest(machine),
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
        load_initial_weights(model, config.train, classes)
        return model
    given = list(folder.weights(weights).values())
    if [w.shape for w in given] != [tuple(w.shape) for w in model.weights]:
        raise MismatchError(
            f"{weights}: is of another network than {config.model.name} of {config.name}. "
            "Give the weights.npz of a comparison of the same config."
        )
    model.set_weights(given)
    return model
