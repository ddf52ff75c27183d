"""Networks that Keras computes: whole scans, and line by line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stm_keras.backend import compiled, predict, rows_to_compute
from stm_keras.data.preprocess import standardise_lines
from stm_keras.errors import MismatchError, StmKerasError
from stm_keras.inference.keras_parts import largest_values
from stm_keras.inference.predictor import CHUNK, Predictor, at_last, in_chunks

WARM_UP = 4  # lines until backends have compiled all that they ever will
MOST_VALUES = 1 << 28  # of an array inside a network: 1 GiB
ATTENTION_BLOCKS = ("EncoderBlock", "CausalBlock")


@dataclass(frozen=True)
class KerasPredictor(Predictor):
    """A Keras model with the names of its classes and the size of its scans.

    Args:
        model: `keras.Model` from `(batch, lines, pixels)` to logits
            `(batch, classes)`, or to a dict of its answers after every line: "state"
            `(batch, lines, classes)` and maybe "change" and "unknown"
            `(batch, lines, 1)`.
        metadata: dict. The metadata of the model file: `classes`, `pixels` and
            `max_lines` at least.
    """

    model: Any
    metadata: dict

    @property
    def every_line(self) -> bool:
        """Whether the model answers after every line."""
        return isinstance(self.model.output, dict)

    @property
    def architecture(self) -> str | None:
        """Name of the Keras model, such as "sequential"."""
        return self.model.name

    def outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute the logits of every head, see `Predictor.outputs`."""
        self.check_scans(images.shape)
        # scans that go side by side without arrays of many gigabytes
        fitting = MOST_VALUES // largest_values(self.model)
        with computing():
            return predict_outputs(
                self.model,
                images,
                max(1, min(batch_size, fitting)),
                lines,
                None if self.every_line else self.metadata["max_lines"],
                progress=progress,
                prepare=self.prepare,
            )

    @cached_property
    def _compiled_step(self) -> tuple[Callable, Any]:
        return compiled_step(self.model)

    def start_scan(self) -> Any:
        """Return the cache before the first line.

        The first call takes seconds, in which the network is compiled with the weights that
        it has. Train it further, and it needs a new `KerasPredictor`.
        """
        return self._compiled_step[1]

    def step(self, line: np.ndarray, cache: Any) -> tuple[dict, Any]:
        """Take the next line of a scan, see `Predictor.step`."""
        return self._compiled_step[0](line, cache)

    def line_attention(self, images: Any) -> np.ndarray | None:
        """Follow the attention of a transformer from its last answer down to the lines.

        The attention of each block is averaged over its heads, half of every token is taken
        to stay what it was (the residual), and the blocks are multiplied: attention rollout.

        Args:
            images: array of shape `(scans, lines, pixels)`. Heights.

        Returns:
            float array of shape `(scans, lines)` that sums to 1 over the lines, or None for
            a model without attention.

        Reference:
            Abnar & Zuidema, 2020, https://arxiv.org/abs/2005.00928, section 3.
        """
        import keras

        network = self.model
        blocks = [
            each for each in network.layers if type(each).__name__ in ATTENTION_BLOCKS
        ]
        if not blocks:
            return None
        inputs = self.prepare(images)
        before = keras.Model(network.input, [_tokens_of(block) for block in blocks])
        tokens = predict(before, inputs, 16)
        tokens = tokens if isinstance(tokens, list) else [tokens]
        rollout = np.eye(tokens[0].shape[1])[None]  # (scans, tokens, tokens)
        mask = _recorded_tokens(inputs, tokens[0].shape[1])
        for block, each in zip(blocks, tokens, strict=True):
            weights = block.attention_weights(each, mask)  # (scans, heads, tokens, tokens)
            weights = keras.ops.convert_to_numpy(weights).mean(1)
            rollout = (0.5 * weights + 0.5 * np.eye(weights.shape[1])) @ rollout
        # the last line, or what the class token, which comes first, gathered
        last = rollout[:, -1] if self.every_line else rollout[:, 0, 1:]
        return last / last.sum(1, keepdims=True)


def _tokens_of(block):
    """Return the symbolic tokens that go into a block; a mask may be its second input."""
    inputs = block.input
    return inputs[0] if isinstance(inputs, list | tuple) else inputs


def _recorded_tokens(inputs, tokens):
    """Tell which tokens stand for recorded lines: bool `(scans, 1, tokens)`."""
    recorded = inputs.any(-1)
    class_token = np.ones((len(inputs), tokens - recorded.shape[1]), bool)
    return np.concatenate([class_token, recorded], axis=1)[:, None]


def predict_logits(model: Any, images: Any, *arguments: Any, **options: Any) -> np.ndarray:
    """Return the last answer of `predict_outputs` on each scan: `(scans, classes)`."""
    return at_last(predict_outputs(model, images, *arguments, **options))["state"]


def predict_outputs(
    model: Any,
    images: Any,
    batch_size: int = 64,
    lines: int | None = None,
    frame: int | None = None,
    indices: np.ndarray | None = None,
    progress: Callable | None = None,
    prepare: Callable = standardise_lines,
) -> dict:
    """Run a Keras model over scans, a chunk at a time, in batches of one size.

    Args:
        model: `keras.Model`, as of `KerasPredictor`.
        images, lines, indices, progress, prepare: As for `in_chunks`.
        frame: int. Lines of the input, filled up with 0; None for those of the images.
    """
    every_line = isinstance(model.output, dict)

    def compute(prepared, usable):
        count = rows_to_compute(len(prepared), batch_size)
        inputs = np.zeros(
            (count, frame or prepared.shape[1], prepared.shape[2]), np.float32
        )
        inputs[: len(prepared), : prepared.shape[1]] = prepared
        out = predict(model, inputs, batch_size)
        out = out if every_line else {"state": out}
        return {k: np.asarray(v, np.float32)[: len(prepared)] for k, v in out.items()}

    return in_chunks(compute, images, CHUNK, every_line, prepare, lines, indices, progress)


@contextmanager
def computing() -> Iterator[None]:
    """Turn what a backend says of a network that it cannot compute into one line.

    Raises:
        MismatchError: Inside, where the network fails.
    """
    try:
        yield
    except (StmKerasError, OSError):  # a scan, or a file of scans
        raise
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise MismatchError(
            f"The network cannot be computed ({reason}). Export or train the model anew."
        ) from error


def compiled_step(model: Any) -> tuple[Callable, Any]:
    """Build the step of a model and make it fast: it is compiled before this returns.

    Returns:
        Tuple of a callable as `Predictor.step`, and the cache of the first line.

    Raises:
        MismatchError: The model cannot go line by line.
    """
    from keras import ops

    from stm_keras.models.step import first_cache, make_step

    network = make_step(model)
    run = compiled(network)

    def step(line, cache):
        out = dict(run([ops.convert_to_tensor(line), *cache]))
        cache = out.pop("cache")
        return {name: ops.convert_to_numpy(logits) for name, logits in out.items()}, cache

    first = cache = first_cache(network)
    line = np.zeros((1, *network.inputs[0].shape[1:]), np.float32)
    with computing():
        for _ in range(WARM_UP):
            _, cache = step(line, cache)
    return step, first
