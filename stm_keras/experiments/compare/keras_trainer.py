"""A setup that is a backend of Keras: what it starts from, then fitted as by `train`."""

import contextlib
import time

import keras
import numpy as np

from stm_keras.backend import devices, feed, predict
from stm_keras.data.dataset import read_images
from stm_keras.data.load import load_dataset
from stm_keras.data.preprocess import INPUTS
from stm_keras.data.split import Split
from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.folder import MATERIAL, TIMED_BATCHES, digest
from stm_keras.experiments.compare.machine import devices_of
from stm_keras.experiments.compare.records import EAGER
from stm_keras.models import build_model
from stm_keras.training.network_trees import without_trees
from stm_keras.training.optimizer import make_optimizer
from stm_keras.training.run_data import split_run_data
from stm_keras.training.train import compile_model, model_to_fit, set_seed
from stm_keras.training.warm_start import (
    freeze,
    line_heads,
    load_initial_weights,
    make_batches,
)

COMPARED_SCANS = 16  # whose logits are compared


class KerasTrainer:
    """Train and predict with one backend."""

    def __init__(self, folder, plan, setup):
        self.folder, self.plan, self.setup = folder, plan, setup
        self.material = folder.material()
        self.initial = list(folder.weights().values())
        self.settings = plan.config.train.model_copy(update=setup.train_settings)
        self.model = self._build(plan.config.model)
        count = min(plan.steps_per_round, TIMED_BATCHES)
        self.batches = [folder.batch(number) for number in range(count)]
        self.inputs = np.concatenate([batch[0] for batch in self.batches])
        epoch = Repeated(self.batches, self.material["steps_per_epoch"])
        self.fitted = model_to_fit(self.model, epoch, self.settings)
        self.fitted.run_eagerly = self.model.run_eagerly

    def _build(self, network):
        """Build a network with the initial weights and compile it as training does."""
        set_seed(self.plan.config.seed)
        keras.config.set_dtype_policy(self.setup.precision)
        given = self.material
        classes = len(given["classes"])
        model = build_model(
            without_trees(network), classes, given["pixels"], given["lines"]
        )
        model.set_weights(self.initial)
        freeze(model, self.settings.frozen)
        compile_model(model, self.settings, given["steps_per_epoch"])
        model.run_eagerly = self.setup.jit == EAGER
        return model

    def describe(self):
        """Return weights, dtypes and devices, the last asked of the arrays themselves."""
        model, batch = self.model, self.inputs[:1]
        outputs = keras.tree.flatten(model(batch, training=False))
        weights = [variable.value for variable in model.weights]
        first = next(layer for layer in model.layers if layer.weights)
        dtype = keras.backend.standardize_dtype
        return {
            "parameters": model.count_params(),
            "weights": digest(model.get_weights()),
            "dtypes": {
                "input": str(batch.dtype),
                "weights": sorted({dtype(weight.dtype) for weight in weights}),
                "computed": first.compute_dtype,
                "logits": sorted({dtype(output.dtype) for output in outputs}),
            },
            "devices": devices_of([*weights, *outputs], devices()[0]),
        }

    def train(self, count):
        """Fit `count` batches, and return the last loss."""
        batches = Repeated(self.batches, count)
        history = self.fitted.fit(feed(batches), shuffle=False, verbose=0)
        return history.history["loss"][-1]

    def predict(self):
        """Predict the scans of the timed batches, and return how many they are."""
        predict(self.model, self.inputs, len(self.batches[0][0]))
        return len(self.inputs)

    def load(self, count):
        """Fit `count` batches as they are made, and time how long training waits for them."""
        config = self.plan.config
        dataset = load_dataset(config.data.path)
        split = Split.from_json(self.folder.split(), len(dataset))
        heads = line_heads(self.model)
        batches = make_batches(config, dataset, split, heads)
        with contextlib.closing(batches):
            model = model_to_fit(self.model, batches, config.train)
            start = time.perf_counter()
            model.fit(feed(Repeated(batches, count)), shuffle=False, verbose=0)
            seconds = time.perf_counter() - start
        return {"seconds": seconds, "waited": batches.waited, "batches": count}

    def agree(self):
        """Compute logits, losses of the first steps and logits after them, without dropout."""
        model = self._build(self.plan.config.model.model_copy(update={"dropout": 0.0}))
        scans = self.folder.scans()
        before, losses = _logits(model, scans), []
        for number in range(self.plan.steps):
            logs = model.train_on_batch(*self.folder.batch(number), return_dict=True)
            losses.append(float(logs["loss"]))
        return {"logits": before, "losses": losses, "logits_after": _logits(model, scans)}


class Repeated(keras.utils.PyDataset):
    """So many batches, one after the other and again where there are fewer."""

    def __init__(self, batches, count):
        super().__init__()
        self.batches, self.count = batches, count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return self.batches[number % len(self.batches)]


def _logits(model, scans):
    outputs = model.predict(scans, batch_size=len(scans), verbose=0)
    heads = outputs if isinstance(outputs, dict) else {"": outputs}
    return np.concatenate([heads[name].ravel() for name in sorted(heads)]).tolist()


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
    on_host = config.data.model_copy(update={"residence": "host"})
    batches = make_batches(
        config.model_copy(update={"data": on_host}), dataset, split, line_heads(model)
    )
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
