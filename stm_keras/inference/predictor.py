"""Scans in, classes and probabilities out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from stm_keras.backend import predict
from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import INPUTS, pack_lines, standardise_lines, usable_lines
from stm_keras.errors import MismatchError, StmKerasError
from stm_keras.inference.judge import CHUNK
from stm_keras.inference.onnx_model import last_word, unpack_outputs
from stm_keras.inference.stream import Stream
from stm_keras.inference.verdict import HEADS, calibrated, sigmoid

WARM_UP = 4  # lines until backends have compiled all that they ever will

MOST_VALUES = 1 << 28  # of an array inside a network: 1 GiB


@dataclass(frozen=True)
class Predictor:
    """A model with the names of its classes and the size of its scans.

    Args:
        model: `keras.Model` from `(batch, lines, pixels)` to logits
            `(batch, classes)`, or to a dict of what it says after every line: "state"
            `(batch, lines, classes)` and maybe "change" and "unknown"
            `(batch, lines, 1)`.
        facts: dict. What the model file says of itself, see `model_file`.
    """

    model: object
    facts: dict

    @property
    def classes(self):
        """Names of the classes, a tuple of str."""
        return tuple(self.facts["classes"])

    @property
    def every_line(self):
        """Whether the model answers after every line, a bool."""
        return isinstance(self.model.output, dict)

    @property
    def prepare(self):
        """The function that turns heights into the model's input."""
        return INPUTS[self.facts.get("input", "standardised")]

    def logits(self, images, lines=None, batch_size=64, progress=None):
        """Compute logits for scans, or for their first lines.

        A model of whole scans gets lines that are not there yet as 0, as training cut
        them: a scan that has begun looks like one that was aborted.

        Args:
            images: array-like of shape `(scans, lines, pixels)`. Heights in any
                unit; lines that were not recorded are 0.
            lines: int. Lines seen, None for all.
            batch_size: int.
            progress: callable of (scans done, scans in all), or None.

        Returns:
            float32 array of shape `(scans, classes)`.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """
        self.check_scans(images.shape)
        with computing():
            return predict_logits(
                self.model,
                images,
                lines,
                self._batch(batch_size),
                None if self.every_line else self.facts["max_lines"],
                progress=progress,
                prepare=self.prepare,
            )

    def probabilities(self, images, lines=None, batch_size=64, progress=None):
        """Compute class probabilities, see `logits`. float64 `(scans, classes)`.

        A scan that ended early is calibrated as one of the lines that it has.
        """
        logits = self.logits(images, lines, batch_size, progress)
        return calibrated(logits, self.facts, usable_lines(images, lines))

    def after_every_line(self, images, batch_size=64, progress=None):
        """Compute what the model says after every line of scans, in one pass.

        Args:
            images, batch_size, progress: As for `logits`.

        Returns:
            float32 array `(scans, lines, classes)` of class probabilities.

        Raises:
            MismatchError: The scans are of another size, or the model answers only
                once a scan.
        """
        out = self.outputs(images, batch_size, progress)
        lines = np.maximum(out["seen"], 1)
        return calibrated(out["state"], self.facts, lines).astype(np.float32)

    def heads(self, images, batch_size=64, progress=None):
        """Compute what the other heads say after every line.

        Args:
            images, batch_size, progress: As for `logits`.

        Returns:
            dict of float32 arrays `(scans, lines)` of probabilities, of those that the
            model has: "change", that the tip changed at this line or just before;
            "unknown", that the surface is none the model knows.

        Raises:
            MismatchError: As for `after_every_line`.
        """
        out = self.outputs(images, batch_size, progress)
        return {name: sigmoid(out[name][..., 0]) for name in HEADS if name in out}

    def outputs(self, images, batch_size=64, progress=None):
        """Compute logits of every head after every line, as of `predict_outputs`."""
        self.check_scans(images.shape)
        if not self.every_line:
            raise MismatchError(
                f"The model ({self.model.name}) judges whole scans, not every line. Take "
                "one that answers after every line, such as `sequential`."
            )
        with computing():
            return predict_outputs(
                self.model,
                images,
                self._batch(batch_size),
                prepare=self.prepare,
                progress=progress,
            )

    def _batch(self, batch_size):
        """Return how many scans go side by side without arrays of many gigabytes."""
        from stm_keras.inference.keras_parts import largest_values

        return max(1, min(batch_size, MOST_VALUES // largest_values(self.model)))

    def by_lines(self, images, seen, progress=None):
        """Compute class probabilities after some numbers of lines.

        Args:
            images: As for `logits`.
            seen: sequence of int. Numbers of lines.
            progress: callable of (passes done, passes in all), or None.

        Returns:
            dict of int to float array `(scans, classes)`.
        """
        if self.every_line:
            state = self.after_every_line(images, progress=progress)
            return {lines: state[:, lines - 1].astype(float) for lines in seen}
        found = {}
        for done, lines in enumerate(seen):
            found[lines] = self.probabilities(images, lines)
            if progress:
                progress(done + 1, len(seen))
        return found

    def check_scans(self, shape, source=None):
        """Raise a `MismatchError` that names the source if scans do not fit the model."""
        check_size(self.facts, shape, source)

    def check_classes(self, classes, source=None):
        """Raise a `MismatchError` that names the source if classes are not the model's."""
        place = "" if source is None else f"{source}: "
        if tuple(classes) != self.classes:
            raise MismatchError(
                f"{place}the model knows {', '.join(self.classes)}. Received: scans labelled "
                f"{', '.join(classes)}. Merge or rename the classes, or train on them."
            )


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


def check_size(facts, shape, source=None):
    """Raise a `MismatchError` that names the source if scans do not fit a model.

    Args:
        facts: dict of the model: `pixels` and `max_lines`.
        shape: tuple (scans, lines, pixels).
        source: str or `Path`, or None.
    """
    place = "" if source is None else f"{source}: "
    pixels, most = facts["pixels"], facts["max_lines"]
    if shape[2] != pixels:
        raise MismatchError(
            f"{place}the model judges lines of {pixels} pixels. Received: scans of "
            f"{shape[1]} lines x {shape[2]} pixels. Resample the scans, or train on "
            "them."
        )
    if shape[1] > most:
        raise MismatchError(
            f"{place}the model judges up to {most} lines. Received: scans of {shape[1]} "
            "lines. Resample the scans, or train on them."
        )


def predict_logits(
    model,
    images,
    lines=None,
    batch_size=64,
    frame=None,
    indices=None,
    progress=None,
    prepare=standardise_lines,
):
    """Run a Keras model over scans and take its last word on each.

    Args:
        model: `keras.Model`.
        images: array-like of shape `(scans, lines, pixels)`. Heights.
        lines: int. Lines seen, None for all.
        batch_size: int.
        frame: int. Lines of the input, filled up with 0; None for those of the images.
        indices: int array. Scans to take, None for all.
        progress: callable of (scans done, scans in all), or None.
        prepare: callable that turns heights into the model's input.

    Returns:
        float32 array of shape `(scans, classes)`. Of a model that answers after every
        line, what it says after the last line that was recorded.
    """
    out = predict_outputs(
        model, images, batch_size, lines, frame, indices, progress, prepare
    )
    if not isinstance(out, dict):
        return out
    return last_word(out)


def predict_outputs(
    model,
    images,
    batch_size=64,
    lines=None,
    frame=None,
    indices=None,
    progress=None,
    prepare=standardise_lines,
):
    """Run a Keras model over scans, a chunk at a time, in batches of one size.

    Args:
        model, images, batch_size, lines, frame, indices, progress, prepare: As for
            `predict_logits`.

    Returns:
        float32 array of shape `(scans, classes)`; of a model that answers after every
        line a dict of its outputs, and of "recorded" and "seen", as of
        `stm_keras.inference.onnx_model.OnnxPredictor.outputs`.
    """
    indices = np.arange(len(images)) if indices is None else indices
    by_line = isinstance(model.output, dict)
    chunks = []
    for start in range(0, max(len(indices), 1), CHUNK):
        chosen = indices[start : start + CHUNK]
        heights = read_images(images, chosen)[:, :lines]
        if by_line:
            heights, counts = pack_lines(heights)
        seen = prepare(heights)
        count = max(-(-len(seen) // batch_size), 1) * batch_size  # one size: compiled once
        shape = (count, frame or seen.shape[1], images.shape[2])
        inputs = np.zeros(shape, np.float32)
        inputs[: len(seen), : seen.shape[1]] = seen
        out = predict(model, inputs, batch_size)
        if isinstance(out, dict):
            out = {k: np.asarray(v, np.float32)[: len(chosen)] for k, v in out.items()}
            out = unpack_outputs(out, counts)
        else:
            out = np.asarray(out, np.float32)[: len(chosen)]
        chunks.append(out)
        if progress:
            progress(start + len(chosen), len(indices))
    if isinstance(chunks[0], dict):
        return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}
    return np.concatenate(chunks)


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
