"""A side that is a backend of Keras: the network compiled and fitted as `stm-keras train` does."""

import contextlib
import time

import keras
import numpy as np

from stm_keras.backend import feed, predict
from stm_keras.data.load import load_dataset
from stm_keras.data.split import Split
from stm_keras.experiments.compare import arrays
from stm_keras.experiments.compare.folder import KEPT, digest
from stm_keras.experiments.compare.sides import EAGER
from stm_keras.models import build_model
from stm_keras.training.boost import without_trees
from stm_keras.training.train import compile_model, set_seed
from stm_keras.training.warm_start import answers, freeze, make_batches


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
        computed, *answers = arrays.answer(both, batch)
        dtype = keras.backend.standardize_dtype
        weights = [variable.value for variable in model.weights]
        found = {arrays.place(array) for array in (*weights, *answers, computed)}
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
            "versions": arrays.versions(self.side.library),
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
        heads = answers(self.model)
        batches = make_batches(config, dataset, split, heads, lambda text: None)
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
