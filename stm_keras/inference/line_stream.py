"""A verdict after every line, by a Keras model."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.inference.predictor import Predictor, computing
from stm_keras.inference.stream import Stream

WARM_UP = 4  # lines until backends have compiled all that they ever will


class LineStream(Stream):
    """A scan that is being recorded, judged line by line.

        stream = LineStream(load_predictor("h_si100.keras"))
        for line in lines:
            verdict = stream.push(line)

    To make one takes seconds, in which the network is compiled with the weights that it
    has: one stream serves many scans of any size, with `reset` between them.

    Args:
        predictor: A `stm_keras.inference.predictor.Predictor` of a model that answers
            after every line.
        lines, pixels, size: What is known of the scan, as of
            `stm_keras.inference.stream.Stream`.

    Raises:
        MismatchError: The model cannot go line by line.
        UsageError: `lines`, `pixels` or `size` is not what it must be.
    """

    def __init__(
        self,
        predictor: Predictor,
        lines: int | None = None,
        pixels: int | None = None,
        size: tuple | None = None,
    ):
        step, cache = compiled_step(predictor.model)
        super().__init__(predictor.facts, step, cache, lines, pixels, size)


def compiled_step(model):
    """Build the step of a model and make it fast: it is compiled before this returns.

    Args:
        model: `keras.Model` that answers after every line.

    Returns:
        Tuple of a callable of line, float32 `(1, 1, pixels)`, and cache that returns a
        dict of NumPy logits of each head, `(1, outputs)`, and the next cache; and the
        cache of the first line.

    Raises:
        MismatchError: The model cannot go line by line.
    """
    if not hasattr(model, "inputs"):
        raise MismatchError(
            "Only networks go line by line. Take one, such as `sequential`."
        )
    from keras import ops

    from stm_keras.backend import compiled
    from stm_keras.models.step import first_cache, make_step

    network = make_step(model)
    run = compiled(network)

    def step(line, cache):
        out = dict(run([ops.convert_to_tensor(line), *cache]))
        cache = out.pop("cache")
        return {name: ops.convert_to_numpy(logits) for name, logits in out.items()}, cache

    cache = first_cache(network)
    line = np.zeros((1, *network.inputs[0].shape[1:]), np.float32)
    following = cache
    with computing():
        for _ in range(WARM_UP):
            _, following = step(line, following)
    return step, cache
