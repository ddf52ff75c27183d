"""What a model that judges scans can do, whoever computes it: Keras, onnxruntime or trees."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import INPUTS, pack_lines, unpack_lines, usable_lines
from stm_keras.errors import MismatchError
from stm_keras.inference.verdict import HEADS, calibrated, sigmoid

CHUNK = 1024  # scans computed at a time, 64 MiB of float32


class Predictor(ABC):
    """A model with the names of its classes and the size of its scans.

    `KerasPredictor` runs a `.keras` file, `OnnxPredictor` and `OnnxScanPredictor` an `.onnx`
    file, `TreesPredictor` a `.skops` file; `load_predictor` chooses. A model has `outputs`;
    one that goes from line to line has `start_scan` and `step` as well.

    Attributes:
        metadata: dict. The metadata of the model file: names of the classes, size of the
            scans, calibration and thresholds, how the model was trained.
        parallel: bool. Whether threads may share the model and gain by it.
        without_steps: str. Why `start_scan` and `step` fail, where they do.
    """

    metadata: dict
    parallel: ClassVar[bool] = False
    without_steps: ClassVar[str] = (
        "Only networks go line by line. Take one, such as `sequential`."
    )

    def __new__(cls, *arguments: object, **options: object) -> "Predictor":
        """Say what is wrapped instead: 0.1.0 called a `KerasPredictor` so."""
        if cls is Predictor:
            raise TypeError(
                "`Predictor` is what all models have in common. Wrap a Keras model with "
                "`stm_keras.KerasPredictor(model, metadata)`."
            )
        return super().__new__(cls)

    @property
    @abstractmethod
    def every_line(self) -> bool:
        """Whether the model answers after every line; else it judges a scan as a whole."""

    @abstractmethod
    def outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute the logits of every head.

        Args:
            images: array-like of shape `(scans, lines, pixels)`. Heights in any unit; lines
                that were not recorded are 0.
            batch_size: int. Scans that go side by side, where the model leaves a choice.
            progress: callable of (scans done, scans in all), or None.
            lines: int. Lines seen, None for all.

        Returns:
            dict of head to float32 array. A model of whole scans has "state" of shape
            `(scans, classes)`. One that answers after every line has "state" of shape
            `(scans, lines, classes)` and maybe "change" and "unknown" of shape
            `(scans, lines, 1)`, where a line without a signal repeats the line before it;
            then "recorded", int array `(scans,)`, counts lines up to the last with a signal,
            and "seen", int array `(scans, lines)`, those with a signal up to each line.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """

    def last_outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute the logits of every head where scans end, which may take less.

        Args:
            images, batch_size, progress, lines: As for `outputs`.

        Returns:
            dict as of `outputs`, but "state" `(scans, classes)` and "unknown" `(scans, 1)` are
            the answers after the last line with a signal.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """
        return at_last(self.outputs(images, batch_size, progress, lines))

    @property
    def side_by_side(self) -> int:
        """Scans that are best judged at once, by a thread of its own."""
        return 1

    def start_scan(self) -> Any:
        """Return the cache before the first line of a scan.

        Raises:
            MismatchError: The model does not go from line to line.
        """
        raise MismatchError(self.without_steps)

    def step(self, line: np.ndarray, cache: Any) -> tuple[dict, Any]:
        """Take the next line of a scan.

        Args:
            line: float32 array of shape `(1, 1, pixels)`, prepared as `prepare` does.
            cache: What `start_scan` or the step before returned.

        Returns:
            Tuple of a dict of head to logits of shape `(1, outputs)`, and the next cache.

        Raises:
            MismatchError: The model does not go from line to line.
        """
        raise MismatchError(self.without_steps)

    @property
    def facts(self) -> dict:
        """The former name of `metadata`."""
        warnings.warn("`facts` is now called `metadata`.", DeprecationWarning, stacklevel=2)
        return self.metadata

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the outputs."""
        return tuple(self.metadata["classes"])

    @property
    def architecture(self) -> str | None:
        """Name of the network, such as "sequential"; None where the file lost it."""
        return None

    @property
    def prepare(self) -> Callable:
        """The function that turns heights into the model's input."""
        return INPUTS[self.metadata.get("input", "standardised")]

    def logits(
        self,
        images: Any,
        lines: int | None = None,
        batch_size: int = 64,
        progress: Callable | None = None,
    ) -> np.ndarray:
        """Compute logits for scans, or for their first lines.

        A model of whole scans gets lines that are not there yet as 0, as training cut
        them: a scan that has begun looks like one that was aborted.

        Args:
            images, lines, batch_size, progress: As for `outputs`.

        Returns:
            float32 array of shape `(scans, classes)`: the last answer on each scan.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """
        return self.last_outputs(images, batch_size, progress, lines)["state"]

    def probabilities(
        self,
        images: Any,
        lines: int | None = None,
        batch_size: int = 64,
        progress: Callable | None = None,
    ) -> np.ndarray:
        """Compute class probabilities, see `logits`. float64 `(scans, classes)`.

        A scan that ended early is calibrated as one of the lines that it has.
        """
        logits = self.logits(images, lines, batch_size, progress)
        return calibrated(logits, self.metadata, usable_lines(images, lines))

    def after_every_line(
        self, images: Any, batch_size: int = 64, progress: Callable | None = None
    ) -> np.ndarray:
        """Compute class probabilities after every line of scans, in one pass.

        Returns:
            float32 array of shape `(scans, lines, classes)`.

        Raises:
            MismatchError: The scans are of another size, or the model answers only once a
                scan.
        """
        if not self.every_line:
            raise MismatchError(
                "The model judges whole scans, not every line. Take one that answers after "
                "every line, such as `sequential`."
            )
        out = self.outputs(images, batch_size, progress)
        lines = np.maximum(out["seen"], 1)
        return calibrated(out["state"], self.metadata, lines).astype(np.float32)

    def heads(
        self, images: Any, batch_size: int = 64, progress: Callable | None = None
    ) -> dict:
        """Compute what the other heads say after every line.

        Returns:
            dict of float32 arrays `(scans, lines)` of probabilities, of those that the
            model has: "change", that the tip changed at this line or just before;
            "unknown", that the model does not know the surface. Empty for a model that
            answers once a scan.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """
        if not self.every_line:
            return {}
        out = self.outputs(images, batch_size, progress)
        return {name: sigmoid(out[name][..., 0]) for name in HEADS if name in out}

    def by_lines(
        self, images: Any, seen: Iterable[int], progress: Callable | None = None
    ) -> dict:
        """Compute class probabilities after some numbers of lines.

        Args:
            images: As for `outputs`.
            seen: sequence of int. Numbers of lines.
            progress: callable of (passes done, passes in all), or None.

        Returns:
            dict of int to float array `(scans, classes)`.
        """
        if self.every_line:
            state = self.after_every_line(images, progress=progress)
            return {lines: state[:, lines - 1].astype(float) for lines in seen}
        by_lines, seen = {}, list(seen)
        for done, lines in enumerate(seen):
            by_lines[lines] = self.probabilities(images, lines)
            if progress:
                progress(done + 1, len(seen))
        return by_lines

    def line_attention(self, images: Any) -> np.ndarray | None:
        """Return how much the last answer looks at each line; None without attention.

        Returns:
            float array of shape `(scans, lines)` that sums to 1 over the lines, or None.
        """
        return None

    def check_scans(self, shape: tuple, source: str | Path | None = None) -> None:
        """Raise a `MismatchError` that names the source if scans do not fit the model."""
        check_size(self.metadata, shape, source)

    def check_classes(
        self, classes: Iterable[str], source: str | Path | None = None
    ) -> None:
        """Raise a `MismatchError` that names the source if classes are not the model's."""
        check_classes(self.metadata, classes, source)


def check_classes(
    metadata: dict, classes: Iterable[str], source: str | Path | None = None
) -> None:
    """Raise a `MismatchError` that names the source if classes are not those of a model."""
    if tuple(classes) != tuple(metadata["classes"]):
        raise MismatchError(
            f"{_named(source)}the model knows {', '.join(metadata['classes'])}. Received: "
            f"scans labelled {', '.join(classes)}. Merge or rename the classes, or train on "
            "them."
        )


def check_size(metadata: dict, shape: tuple, source: str | Path | None = None) -> None:
    """Raise a `MismatchError` that names the source if scans do not fit a model.

    Args:
        metadata: dict of the model: `pixels` and `max_lines`.
        shape: tuple (scans, lines, pixels).
    """
    pixels, max_lines = metadata["pixels"], metadata["max_lines"]
    if len(shape) != 3:
        raise MismatchError(
            f"{_named(source)}scans have the shape (scans, lines, pixels). Received: shape "
            f"{tuple(shape)}."
        )
    if shape[2] != pixels:
        raise MismatchError(
            f"{_named(source)}the model judges lines of {pixels} pixels. Received: scans of "
            f"{shape[1]} lines x {shape[2]} pixels. Resample the scans, or train on "
            "them."
        )
    if shape[1] > max_lines:
        raise MismatchError(
            f"{_named(source)}the model judges up to {max_lines} lines. Received: scans of "
            f"{shape[1]} lines. Resample the scans, or train on them."
        )


def _named(source):
    return "" if source is None else f"{source}: "


def in_chunks(
    compute: Callable,
    images: Any,
    size: int,
    every_line: bool,
    prepare: Callable,
    lines: int | None = None,
    indices: np.ndarray | None = None,
    progress: Callable | None = None,
) -> dict:
    """Compute the logits of scans, some at a time, as `Predictor.outputs` returns them.

    Args:
        compute: callable of prepared scans, `(scans, lines, pixels)`, and of the number of
            lines with a signal of each, or None for a model of whole scans. It returns a
            dict of head to logits, `(scans, outputs)` of a whole scan or `(scans, lines,
            outputs)`, and takes none at all as well.
        images: array-like of shape `(scans, lines, pixels)`. Heights.
        size: int. Scans at a time.
        every_line: bool. Whether the model answers after every line: it then gets the lines
            with a signal alone, for a lost line changes nothing.
        prepare: callable that turns heights into the model's input.
        lines: int. Lines seen, None for all.
        indices: int array. Scans to take, None for all.
        progress: callable of (scans done, scans in all), or None.
    """
    indices = np.arange(len(images)) if indices is None else indices
    chunks, seen = [], None
    for start in range(0, max(len(indices), 1), size):
        chosen = indices[start : start + size]
        heights = read_images(images, chosen)[:, :lines]
        if every_line:
            heights, seen = pack_lines(heights)
        out = compute(prepare(heights), None if seen is None else seen[:, -1])
        chunks.append(out if seen is None else unpack_outputs(out, seen))
        if progress:
            progress(start + len(chosen), len(indices))
    return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}


def unpack_outputs(out: dict, seen: np.ndarray) -> dict:
    """Give every line of scans the answer after the lines with a signal up to it.

    Args:
        out: dict of head to array `(scans, lines, outputs)`, of lines packed by `pack_lines`;
            what is of whole scans, `(scans, outputs)`, stays as it is.
        seen: int array `(scans, lines)`, as of `pack_lines`.

    Returns:
        dict, as of `Predictor.outputs`.
    """
    heads = {
        name: unpack_lines(values, seen) if values.ndim > 2 else values
        for name, values in out.items()
    }
    return {**heads, "recorded": np.argmax(seen, 1) + (seen[:, -1] > 0), "seen": seen}


def at_last(out: dict) -> dict:
    """Return outputs of `Predictor.outputs` as `Predictor.last_outputs` gives them."""
    if "recorded" not in out:
        return out
    last = np.maximum(out["recorded"], 1) - 1
    ends = {
        name: out[name][np.arange(len(last)), last]
        for name in ("state", "unknown")
        if name in out and out[name].ndim > 2
    }
    return {**out, **ends}
