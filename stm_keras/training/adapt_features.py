"""Compute once what a trained network says of labelled scans, and give it a new last layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import keras
import numpy as np

from stm_keras.backend import rows_to_compute
from stm_keras.data.dataset import Dataset, read_images
from stm_keras.data.preprocess import pack_lines
from stm_keras.errors import MismatchError
from stm_keras.inference.evaluate import LINES_SEEN
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.verdict import sigmoid
from stm_keras.layers.boosted import BoostedTrees
from stm_keras.models import build_model
from stm_keras.models.sequential import DESCRIBED, HEAD_INPUT, TREES
from stm_keras.settings.models import SequentialConfig
from stm_keras.training.adapt_head import (
    STAGES,
    Head,
    LabelledFeatures,
    add_trees,
    tree_logits,
    tree_rounds,
)
from stm_keras.training.warm_start import copy_weights

CHUNK = 64  # scans at a time
HEAD = "state"  # layer


@dataclass(frozen=True)
class StartModel:
    """A network to start from, and the classes that it shall tell apart."""

    predictor: Predictor
    config: SequentialConfig
    classes: tuple[str, ...]

    @classmethod
    def of(cls, predictor: Predictor, classes: tuple[str, ...], name: str) -> "StartModel":
        """Take a `sequential` network of stm-keras.

        Raises:
            MismatchError: The model, called `name`, is of another kind.
        """
        training = predictor.metadata.get("training") or {}
        config = dict((training.get("config") or {}).get("model") or {})
        network = predictor.model if isinstance(predictor, KerasPredictor) else None
        if config.pop("name", None) != "sequential" or network is None:
            raise MismatchError(
                f"{name}: only a `sequential` network in a .keras file can be adapted. Take one "
                "that `stm-keras models` lists."
            )
        if TREES not in {layer.name for layer in network.layers}:
            config["trees"] = 0  # they were not fitted: too few scans
        return cls(predictor, SequentialConfig(**config), tuple(classes))

    @property
    def same_classes(self) -> bool:
        """Whether the network was trained on these very classes."""
        return self.classes == self.predictor.classes

    def trees(self) -> dict | None:
        """Return the weights of its trees if they are of these classes, else None."""
        if not self.config.trees or not self.same_classes:
            return None
        layer = self.predictor.model.get_layer(TREES)
        names = ("scale", "feature", "threshold", "leaves", "start")
        return {each: keras.ops.convert_to_numpy(getattr(layer, each)) for each in names}

    def settings(self, rounds: int) -> SequentialConfig:
        """Return the config of the network with another last layer and `rounds` of trees."""
        return self.config.model_copy(update={"wide_head": True, "trees": rounds})

    @cached_property
    def layers(self) -> dict[str, keras.layers.Layer]:
        """The layers of the network by name, with those that describe scans."""
        network = self.predictor.model
        if DESCRIBED not in {layer.name for layer in network.layers}:
            metadata = self.predictor.metadata
            size = len(self.classes), metadata["pixels"], metadata["max_lines"]
            described = build_model(self.settings(0), *size)
            copy_weights(network, described, (HEAD,))
            network = described
        return {layer.name: layer for layer in network.layers}

    def head_input(self) -> keras.KerasTensor:
        """Return what the new last layer reads: tokens, what they are mixed of, description."""
        parts = [self.layers[name] for name in ("dropout", "mix", DESCRIBED)]
        parts = [parts[0].output, parts[1].input, parts[2].output]
        return keras.layers.Concatenate(name=HEAD_INPUT)(parts)

    def last_layer(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return kernel `(width, classes)` and bias of its last layer, read as a wide head."""
        kernel, bias = self.predictor.model.get_layer(HEAD).get_weights()
        return np.concatenate([kernel, np.zeros((width - len(kernel), len(bias)))]), bias

    def with_head(self, head: Head) -> keras.Model:
        """Build the network with a fitted head as its last layer."""
        kernel, bias, trees, own = head.kernel, head.bias, head.trees, self.trees()
        if self.same_classes:
            first = self.last_layer(len(kernel))
            kernel, bias = kernel + head.share * first[0], bias + head.share * first[1]
        if own is not None:
            trees = add_trees(own, head.share, trees)
        classes = len(self.classes)
        layer = keras.layers.Dense(classes, dtype="float32", name=HEAD)
        state = layer(self.head_input())
        layer.set_weights([kernel, bias])
        if trees is not None:
            answer = BoostedTrees(classes, tree_rounds(trees), STAGES, name=TREES)
            added = answer(self.layers[DESCRIBED].output)
            answer.set_trees(trees)
            state = keras.layers.Add(dtype="float32", name="state_and_trees")(
                [state, added]
            )
        others = {name: self.layers[name].output for name in ("change", "unknown")}
        lines = self.layers["lines"].output
        return keras.Model(lines, {HEAD: state, **others}, name="sequential")


def trees_of(network: keras.Model) -> int:
    """Return the rounds of trees of a network, 0 without any."""
    there = {layer.name: layer for layer in network.layers}
    return there[TREES].rounds if TREES in there else 0


def describe_scans(
    start: StartModel,
    dataset: Dataset,
    groups: np.ndarray,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[LabelledFeatures, np.ndarray]:
    """Compute the features of all scans of a dataset.

    Returns:
        Tuple of `LabelledFeatures`, and of the probabilities that the surface is unknown after
        numbers of lines: float array `(scans, numbers of lines)`.
    """
    lines = dataset.images.shape[1]
    seen = np.array(sorted({min(n, lines) for n in (*LINES_SEEN, lines)}))
    read = keras.Model(
        start.layers["lines"].output, [start.head_input(), start.layers["unknown"].output]
    )
    features, unknown = [], []
    for first in range(0, len(dataset), CHUNK):
        heights = read_images(
            dataset.images, np.arange(first, min(first + CHUNK, len(dataset)))
        )
        part, logits = _compute(read, start.predictor.prepare, heights, seen)
        features.append(part)
        unknown.append(sigmoid(logits[..., 0]))
        if progress:
            progress(first + len(heights), len(dataset))
    described = start.layers[DESCRIBED].output.shape[-1]
    trees = start.trees()
    rows = LabelledFeatures(
        np.concatenate(features),
        None,
        seen,
        dataset.labels,
        groups,
        len(start.classes),
        described,
        None if trees is None else trees["scale"],
    )
    if start.same_classes:
        kernel, bias = start.last_layer(rows.features.shape[-1])
        logits = rows.features @ kernel.astype("f4") + bias
        if trees is not None:
            logits = logits + tree_logits(trees, rows.features[..., -described:])
        rows = replace(rows, start=logits.astype(np.float32))
    return rows, np.concatenate(unknown)


def _compute(read, prepare, heights, seen):
    """Return features and unknown-surface logits of up to `CHUNK` scans after lines `seen`."""
    packed, count = pack_lines(heights)
    rows = rows_to_compute(len(heights), CHUNK)
    filled = np.zeros((rows, *heights.shape[1:]), np.float32)
    filled[: len(heights)] = prepare(packed)
    out = [np.asarray(each)[: len(heights)] for each in read.predict_on_batch(filled)]
    latest = np.maximum(
        count[:, seen - 1] - 1, 0
    )  # lines with a signal, for others tell nothing
    return [np.take_along_axis(each, latest[..., None], 1) for each in out]
