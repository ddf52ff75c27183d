"""An exported model: the step of a streaming network in ONNX, run without keras."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stm_keras.data.preprocess import INPUTS, pack_lines, unpack_lines, usable_lines
from stm_keras.errors import InputError, MismatchError
from stm_keras.inference.onnx_session import GuardedSession, open_session
from stm_keras.inference.stream import Stream
from stm_keras.inference.verdict import HEADS, calibrated, sigmoid

CACHE, NEXT = "cache_", "next_cache_"


class OnnxStream(Stream):
    """A scan that is being recorded, judged line by line by an exported model.

        stream = OnnxStream("h_si100.onnx")
        for line in lines:
            verdict = stream.push(line)

    Args:
        path: str or `Path` of an .onnx file of `stm-keras export`, or an `OnnxPredictor`.
        lines, pixels, size: What is known of the scan, as of `Stream`.

    Raises:
        InputError: The file is missing, damaged, or not of stm-keras.
        MissingExtraError: onnxruntime is not installed.
        UsageError: `lines`, `pixels` or `size` is not what it must be.
    """

    def __init__(
        self,
        path: "str | Path | OnnxPredictor",
        lines: int | None = None,
        pixels: int | None = None,
        size: tuple | None = None,
    ):
        model = path if isinstance(path, OnnxPredictor) else OnnxPredictor.load(path)
        super().__init__(model.facts, model.step, model.first_cache, lines, pixels, size)


@dataclass(frozen=True)
class OnnxModel:
    """What exported models have in common, whether they go line by line or not.

    Args:
        session: `GuardedSession`.
        facts: dict. What the file says of itself.
    """

    session: GuardedSession
    facts: dict

    @property
    def classes(self):
        """Names of the classes, a tuple of str."""
        return tuple(self.facts["classes"])

    @property
    def prepare(self):
        """The function that turns heights into the model's input."""
        return INPUTS[self.facts.get("input", "standardised")]

    def probabilities(self, images, progress=None):
        """Compute class probabilities after the last line of each scan.

        Args:
            images, progress: As for `outputs`.

        Returns:
            float64 array of shape `(scans, classes)`.
        """
        out = self.outputs(images, progress)
        logits = last_word(out) if self.every_line else out["state"]
        return calibrated(logits, self.facts, usable_lines(images))

    def after_every_line(self, images, progress=None):
        """Compute class probabilities after every line of scans.

        Args:
            images, progress: As for `outputs`.

        Returns:
            float32 array of shape `(scans, lines, classes)`.

        Raises:
            MismatchError: The model answers only once a scan.
        """
        if not self.every_line:
            raise MismatchError("The model judges whole scans, not every line.")
        out = self.outputs(images, progress)
        lines = np.maximum(out["seen"], 1)
        return calibrated(out["state"], self.facts, lines).astype(np.float32)

    def heads(self, images, progress=None):
        """Compute what the model says beside the classes, after every line.

        Args:
            images, progress: As for `outputs`.

        Returns:
            dict of head to float32 array of shape `(scans, lines)`: probabilities. It is
            empty for a model that answers once a scan.
        """
        if not self.every_line:
            return {}
        out = self.outputs(images, progress)
        return {name: sigmoid(out[name][..., 0]) for name in HEADS if name in out}


def last_word(out):
    """Return the logits after the last line of each scan that is not empty.

    Args:
        out: dict with "state" `(scans, lines, classes)` and "recorded" `(scans,)`.

    Returns:
        array of shape `(scans, classes)`.
    """
    last = np.maximum(out["recorded"], 1) - 1
    return out["state"][np.arange(len(last)), last]


@dataclass(frozen=True)
class OnnxPredictor(OnnxModel):
    """An exported model that judges whole scans by going through their lines.

    Args:
        session: `GuardedSession` of a step.
        facts: dict. What the file says of itself.
        entries: tuple of str. Names of the inputs: the line, then the cache.
        answers: tuple of str. Names of the outputs that are logits.
        first_cache: list of float32 arrays. The cache before the first line.
    """

    entries: tuple
    answers: tuple
    first_cache: list

    every_line = True

    @classmethod
    def load(cls, path, threads=1):
        """Open an .onnx file of `stm-keras export`.

        Args:
            path: str or `Path`.
            threads: int. More than one hardly helps: a line is little work.

        Returns:
            An `OnnxPredictor`.

        Raises:
            InputError: The file is missing, damaged, or not of stm-keras.
            MissingExtraError: onnxruntime is not installed.
        """
        return cls.of(*open_session(path, threads))

    @classmethod
    def of(cls, session: GuardedSession, facts: dict) -> "OnnxPredictor":
        """Return the model of a file that is open, as of `load`."""
        path, entries = session.path, session.get_inputs()
        caches = [each for each in entries if each.name.startswith(CACHE)]
        heads = [each.name for each in session.get_outputs()]
        heads = tuple(name for name in heads if not name.startswith(NEXT))
        shape = [1, facts["pixels"]]
        if entries[0].name == "lines":
            raise InputError(
                f"{path}: judges whole scans, not line by line. Use OnnxScanPredictor, or "
                "export --format onnx-step."
            )
        if entries[0].name != "line" or entries[0].shape != shape or "state" not in heads:
            raise InputError(f"{path}: the network does not fit what the file says of it.")
        if not all(isinstance(size, int) for each in caches for size in each.shape):
            raise InputError(f"{path}: the network does not fit what the file says of it.")
        first = [np.zeros(each.shape, np.float32) for each in caches]
        names = ("line", *(each.name for each in caches))
        model = cls(session, facts, names, heads, first)
        model.check()
        return model

    def check(self) -> None:
        """Take one line without a signal, to see that the network is what it must be.

        Raises:
            InputError: It is not.
        """
        blank = np.zeros((1, 1, self.facts["pixels"]), np.float32)
        logits, cache = self.step(blank, self.first_cache)
        shapes = dict.fromkeys(self.answers, (1, 1))
        shapes["state"] = (1, len(self.facts["classes"]))
        fits = {name: values.shape for name, values in logits.items()} == shapes
        fits = fits and [c.shape for c in cache] == [c.shape for c in self.first_cache]
        if not fits or not all(np.isfinite(v).all() for v in (*logits.values(), *cache)):
            raise InputError(
                f"{self.session.path}: the network does not fit what the file says of it, or "
                "gives numbers "
                "that are not finite."
            )

    def step(self, line, cache):
        """Take one line.

        Args:
            line: float32 array of shape `(1, 1, pixels)`, prepared.
            cache: list of float32 arrays.

        Returns:
            Tuple of a dict of logits of each head, `(1, outputs)`, and the next cache.
        """
        given = dict(zip(self.entries, [line[0], *cache], strict=True))
        out = self.session.run(None, given)
        count = len(self.answers)
        return dict(zip(self.answers, out, strict=False)), out[count:]

    def outputs(self, images, progress=None):
        """Compute the logits of every head after every line of scans.

        Args:
            images: array-like of shape `(scans, lines, pixels)`. Heights in any unit;
                lines that were not recorded are 0.
            progress: callable of (scans done, scans in all), or None.

        Returns:
            dict of head to float32 array of shape `(scans, lines, outputs)`, of a line without
            a signal what was said before it; of "recorded", int array `(scans,)`: number of
            lines up to the last with a signal; and of "seen", int array `(scans, lines)`: how
            many of these there are up to each line.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """
        pixels = self.facts["pixels"]
        if len(images.shape) != 3 or images.shape[2] != pixels:
            raise MismatchError(
                f"The model judges scans of lines of {pixels} pixels. Received: shape "
                f"{tuple(images.shape)}. Resample the scans."
            )
        widths = {each.name: each.shape[-1] for each in self.session.get_outputs()}
        shape = images.shape[:2]
        found = {
            name: np.zeros((*shape, widths[name]), np.float32) for name in self.answers
        }
        seen = np.zeros(shape, int)
        for number in range(len(images)):
            packed, seen[number] = pack_lines(np.asarray(images[number : number + 1]))
            lines = self.prepare(packed)
            cache = self.first_cache
            for place in range(seen[number, -1]):
                logits, cache = self.step(lines[:, place : place + 1], cache)
                for name, values in logits.items():
                    found[name][number, place] = values[0]
            if progress:
                progress(number + 1, len(images))
        return unpack_outputs(found, seen)


def unpack_outputs(out: dict, seen: np.ndarray) -> dict:
    """Give every line of scans what was said of the lines with a signal up to it.

    Args:
        out: dict of head to array `(scans, lines, outputs)`, of packed lines.
        seen: int array `(scans, lines)`, as of `pack_lines`.

    Returns:
        dict of head to array of the same shape, and of "recorded" and "seen", as of
        `OnnxPredictor.outputs`.
    """
    found = {name: unpack_lines(values, seen) for name, values in out.items()}
    return {**found, "recorded": np.argmax(seen, 1) + (seen[:, -1] > 0), "seen": seen}
