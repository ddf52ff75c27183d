"""An exported model of whole scans in ONNX, run without keras."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.preprocess import pack_lines
from stm_keras.errors import InputError, MismatchError
from stm_keras.inference.onnx_model import OnnxModel, OnnxPredictor, unpack_outputs
from stm_keras.inference.onnx_session import GuardedSession, open_session

BATCH = 16  # scans computed side by side, where the file takes any number


def load_onnx(path, threads=1):
    """Open an .onnx file of `stm-keras export`: a step, or a model of whole scans.

    Args:
        path: str or `Path`.
        threads: int. Processor cores that a whole scan may use.

    Returns:
        An `OnnxPredictor` or an `OnnxScanPredictor`.

    Raises:
        InputError: The file is missing, damaged, or not of stm-keras.
        MissingExtraError: onnxruntime is not installed.
    """
    session, facts = open_session(path, threads)
    kind = OnnxPredictor if session.get_inputs()[0].name == "line" else OnnxScanPredictor
    return kind.of(session, facts)


@dataclass(frozen=True)
class OnnxScanPredictor(OnnxModel):
    """An exported model that judges whole scans, or such that have begun.

        model = OnnxScanPredictor.load("h_si100.onnx")
        model.probabilities(scans)

    Args:
        session: `GuardedSession` from "lines" `(batch, max_lines, pixels)`
            to logits: "state" `(batch, classes)`, or of a model that answers after every
            line "state" `(batch, max_lines, classes)` and maybe "change" and "unknown".
        facts: dict. What the file says of itself.
    """

    @classmethod
    def load(cls, path, threads=1):
        """Open an .onnx file that `stm-keras export --format onnx-scan` wrote.

        Args:
            path: str or `Path`.
            threads: int. Processor cores that one batch may use.

        Returns:
            An `OnnxScanPredictor`.

        Raises:
            InputError: The file is missing, damaged, not of stm-keras, or a step.
            MissingExtraError: onnxruntime is not installed.
        """
        return cls.of(*open_session(path, threads))

    @classmethod
    def of(cls, session: GuardedSession, facts: dict) -> "OnnxScanPredictor":
        """Return the model of a file that is open, as of `load`."""
        path, entries = session.path, session.get_inputs()
        if entries[0].name == "line":
            raise InputError(f"{path}: is the step of a model. Use OnnxPredictor.")
        shapes = {each.name: each.shape[1:] for each in session.get_outputs()}
        lines, classes = facts["max_lines"], len(facts["classes"])
        each_line = {name: [lines, classes if name == "state" else 1] for name in shapes}
        fits = len(entries) == 1 and entries[0].shape[1:] == [lines, facts["pixels"]]
        if (
            not fits
            or "state" not in shapes
            or shapes not in (each_line, {"state": [classes]})
        ):
            raise InputError(f"{path}: the network does not fit what the file says of it.")
        return cls(session, facts)

    @property
    def every_line(self):
        """Whether the model answers after every line, a bool."""
        return len(self.session.get_outputs()[0].shape) == 3

    def outputs(self, images, progress=None):
        """Compute the logits of every head.

        Args:
            images: array-like of shape `(scans, lines, pixels)`. Heights in any unit;
                lines that were not recorded are 0.
            progress: callable of (scans done, scans in all), or None.

        Returns:
            dict of head to float32 array, `(scans, classes)`, or of a model that answers
            after every line `(scans, lines, outputs)`; then also "recorded" and "seen", as of
            `OnnxPredictor.outputs`.

        Raises:
            MismatchError: The scans are of another size than the model's.
        """
        count, lines, pixels = _size(images, self.facts)
        frame = (self.facts["max_lines"], pixels)
        entry = self.session.get_inputs()[0].name
        fixed = self.session.get_inputs()[0].shape[0] == 1
        heads = [each.name for each in self.session.get_outputs()]
        found, counts = {name: [] for name in heads}, []
        step = 1 if fixed else BATCH
        for start in range(0, max(count, 1), step):
            some = np.asarray(images[start : start + step])
            if self.every_line:
                some, count_of = pack_lines(some)
                counts.append(count_of)
            seen = self.prepare(some)
            given = np.zeros((max(len(seen), 1), *frame), np.float32)
            given[: len(seen), :lines] = seen
            values = self.session.run(None, {entry: given})
            for name, each in zip(heads, values, strict=True):
                if len(each) != len(given):
                    raise MismatchError(
                        f"{self.session.path}: the network gives {len(each)} answers to "
                        f"{len(given)} scans. Export the model anew."
                    )
                each = each[: len(seen)]
                found[name].append(each[:, :lines] if self.every_line else each)
            if progress:
                progress(start + len(seen), count)
        found = {name: np.concatenate(values) for name, values in found.items()}
        return unpack_outputs(found, np.concatenate(counts)) if self.every_line else found


def _size(images, facts):
    shape, most, pixels = images.shape, facts["max_lines"], facts["pixels"]
    if len(shape) != 3 or shape[2] != pixels or shape[1] > most:
        raise MismatchError(
            f"The model judges scans of up to {most} lines of {pixels} pixels. Received: "
            f"shape {tuple(shape)}. Resample the scans."
        )
    return shape
