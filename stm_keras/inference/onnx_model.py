"""Exported models in ONNX, run without Keras: line by line, or whole scans."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Self

import numpy as np

from stm_keras.errors import InputError, MismatchError
from stm_keras.inference.onnx_session import GuardedSession, open_session
from stm_keras.inference.predictor import Predictor, in_chunks
from stm_keras.inference.stream import LineStream

CACHE, NEXT = "cache_", "next_cache_"  # how inputs and outputs of a step begin
BATCH = 8  # scans computed side by side, where the file takes any number
FEWER = 4  # where every line is asked for: trees then take 14 MB a scan


@dataclass(frozen=True)
class OnnxModel(Predictor):
    """What exported models have in common, whether they go line by line or not.

    Args:
        metadata: dict. The metadata of the file.
    """

    session: GuardedSession
    metadata: dict

    parallel: ClassVar[bool] = True  # onnxruntime leaves Python to others while it computes

    @classmethod
    def load(cls, path: str | Path, threads: int = 1) -> Self:
        """Open an .onnx file of `stm-keras export` of the kind that this class runs.

        Args:
            threads: int. Processor cores that a computation may use; a line is too little
                work for more than one.

        Raises:
            InputError: The file is missing, damaged, not of stm-keras, or of the other kind.
            MissingExtraError: onnxruntime is not installed.
        """
        return cls.of(*open_session(path, threads))

    @classmethod
    def of(cls, session: GuardedSession, metadata: dict) -> Self:
        """Return the model of a file that is open, as of `load`."""
        raise NotImplementedError

    def outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute the logits of every head, see `Predictor.outputs`; `batch_size` is not used."""
        return self._in_chunks(self._compute, FEWER, images, progress, lines)

    def _in_chunks(self, compute, most, images, progress, lines):
        self.check_scans(images.shape)
        size = min(self.side_by_side, most)
        about = size, self.every_line, self.prepare, lines
        return in_chunks(compute, images, *about, progress=progress)

    def _compute(self, prepared, usable):
        """Compute prepared scans, as `in_chunks` asks for."""
        raise NotImplementedError


@dataclass(frozen=True)
class OnnxPredictor(OnnxModel):
    """An exported model that goes from line to line.

    It judges whole scans in one pass where its file holds the graph for that as well, as those of
    `stm-keras export` do; else by going through their lines.

    Either graph is then opened, and checked, when it is first asked for: most need only one.

    Args:
        session: `GuardedSession` of a step.
        metadata: dict. The metadata of the file.
        whole: `WholeScans`, or None where the file holds the step alone.
    """

    whole: "WholeScans | None" = None

    every_line = True

    @property
    def side_by_side(self) -> int:
        """Scans that are best judged at once."""
        return 1 if self.whole is None else BATCH

    @classmethod
    def of(cls, session: GuardedSession, metadata: dict) -> Self:
        """Return the model of a file that is open, as of `load`."""
        if session.whole is None:
            model = cls(session, metadata)
            model.start_scan()  # fails now if it ever does
            return model
        heads = [name for name in session.output_names if not name.startswith(NEXT)]
        return cls(session, metadata, WholeScans(session.whole, metadata, heads))

    @cached_property
    def _names(self):
        """The inputs, and the outputs that are logits: two tuples of str."""
        path, inputs = self.session.path, self.session.get_inputs()
        caches = [each for each in inputs if each.name.startswith(CACHE)]
        names = [each.name for each in self.session.get_outputs()]
        heads = tuple(name for name in names if not name.startswith(NEXT))
        shape = [1, self.metadata["pixels"]]
        if inputs[0].name == "lines":
            raise InputError(
                f"{path}: judges whole scans, not line by line. Use OnnxScanPredictor, or "
                "export --format onnx-step."
            )
        fits = inputs[0].name == "line" and inputs[0].shape == shape and "state" in heads
        fits = fits and len(caches) == len(inputs) - 1
        if not fits or not all(isinstance(n, int) for each in caches for n in each.shape):
            raise InputError(f"{path}: the network does not fit the metadata of its file.")
        return ("line", *(each.name for each in caches)), heads

    @cached_property
    def _first_cache(self):
        """The cache before the first line, of a network that one line has shown to be right."""
        _, heads = self._names
        first = [np.zeros(each.shape, np.float32) for each in self.session.get_inputs()[1:]]
        blank = np.zeros((1, 1, self.metadata["pixels"]), np.float32)
        logits, cache = self.step(blank, first)
        shapes = dict.fromkeys(heads, (1, 1))
        shapes["state"] = (1, len(self.classes))
        fits = {name: values.shape for name, values in logits.items()} == shapes
        fits = fits and [c.shape for c in cache] == [c.shape for c in first]
        if not fits or not all(np.isfinite(v).all() for v in (*logits.values(), *cache)):
            raise InputError(
                f"{self.session.path}: the network does not fit the metadata of its file, or "
                "gives numbers that are not finite."
            )
        return first

    def start_scan(self) -> list:
        """Return the cache before the first line: list of float32 arrays.

        Raises:
            InputError: The network is not what it must be.
        """
        return self._first_cache

    def step(self, line: np.ndarray, cache: list) -> tuple[dict, list]:
        """Take the next line of a scan, see `Predictor.step`."""
        names, heads = self._names
        out = self.session.run(None, dict(zip(names, [line[0], *cache], strict=True)))
        return dict(zip(heads, out, strict=False)), out[len(heads) :]

    def last_outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute the logits where scans end, see `Predictor.last_outputs`."""
        if self.whole is None:
            return super().last_outputs(images, batch_size, progress, lines)
        return self._in_chunks(self.whole.last_outputs, BATCH, images, progress, lines)

    def _compute(self, prepared, usable):
        if self.whole is not None:
            return self.whole.outputs(prepared, usable)
        return self.by_steps(prepared, usable)

    def by_steps(self, prepared: np.ndarray, usable: np.ndarray) -> dict:
        """Compute the logits of every head line by line: arrays `(scans, lines, outputs)`.

        Args:
            prepared: float32 array `(scans, lines, pixels)`, as `prepare` gives it.
            usable: int array `(scans,)`. Lines of each to go through; what follows is 0.
        """
        widths = {each.name: each.shape[-1] for each in self.session.get_outputs()}
        out = {
            name: np.zeros((*prepared.shape[:2], widths[name]), np.float32)
            for name in self._names[1]
        }
        for scan, count in enumerate(usable):
            cache = self.start_scan()
            for line in range(count):
                logits, cache = self.step(prepared[scan : scan + 1, line : line + 1], cache)
                for name, values in logits.items():
                    out[name][scan, line] = values[0]
        return out


class WholeScans:
    """The graph of whole scans in the file of a step, opened when it is first asked.

    Args:
        open_graph: callable that returns its `GuardedSession`.
        metadata: dict of the file.
        heads: list of str. Outputs of the step that are logits, which are those of this graph.
    """

    def __init__(self, open_graph: Callable, metadata: dict, heads: list):
        self._open_graph, self._lock = open_graph, Lock()
        self._opened: GuardedSession | None = None
        self.metadata, self.heads = metadata, heads

    @property
    def session(self) -> GuardedSession:
        """Its session, which threads share.

        Raises:
            InputError: The graph is not what it must be.
        """
        with self._lock:
            if self._opened is None:
                session = self._open_graph()
                self._check(session)
                self._opened = session
            return self._opened

    def outputs(self, prepared: np.ndarray, usable: np.ndarray) -> dict:
        """Compute the logits of every head at every line: arrays `(scans, lines, outputs)`.

        Args:
            prepared: float32 array `(scans, lines, pixels)`, as `prepare` gives it.
            usable: int array `(scans,)`. Lines with a signal.
        """
        count = prepared.shape[1]
        every = np.arange(1, count + 1, dtype=np.float32)
        return self._run(prepared, np.tile(every, (len(prepared), 1)))

    def last_outputs(self, prepared: np.ndarray, usable: np.ndarray) -> dict:
        """Compute "state" and "unknown", `(scans, outputs)`, where scans end; 0 of no lines."""
        out = self._run(prepared, np.maximum(usable, 1)[:, None])
        judged = (usable > 0)[:, None]
        return {
            name: values if name == "change" else np.where(judged, values[:, 0], 0)
            for name, values in out.items()
        }

    def _run(self, prepared, read):
        count, there = prepared.shape[:2]
        session = self.session
        lines = session.get_inputs()[0].shape[1]
        inputs = np.zeros((max(count, 1), lines, prepared.shape[2]), np.float32)
        inputs[:count, :there] = prepared  # lines that are not there stay 0
        at = np.ones((len(inputs), read.shape[1]), np.float32)
        at[:count] = read
        out = session.run(None, {"lines": inputs, "read": at})
        shapes = {"change": (len(inputs), lines)}
        for name, values in zip(self.heads, out, strict=True):
            if values.shape[:2] != shapes.get(name, at.shape):
                raise MismatchError(
                    f"{session.path}: the network gives {name!r} of shape {values.shape} for "
                    f"{len(inputs)} scans. Export the model anew."
                )
        cut = {"change": there}
        return {
            name: values[:count, : cut.get(name)]
            for name, values in zip(self.heads, out, strict=True)
        }

    def _check(self, session):
        lines, pixels = self.metadata["max_lines"], self.metadata["pixels"]
        inputs = {each.name: each.shape[1:] for each in session.get_inputs()}
        outputs = {each.name: each.shape[2:] for each in session.get_outputs()}
        answers = {name: [1] for name in self.heads}
        answers["state"] = [len(self.metadata["classes"])]
        fits = list(inputs) == ["lines", "read"] and inputs["lines"] == [lines, pixels]
        fits = fits and not {*inputs} & {*self.heads} and outputs == answers
        if not fits or session.output_names != self.heads:
            raise InputError(
                f"{session.path}: its graph of whole scans does not fit the metadata of the "
                "file."
            )


@dataclass(frozen=True)
class OnnxScanPredictor(OnnxModel):
    """An exported model that judges whole scans, or such that have begun.

        model = OnnxScanPredictor.load("h_si100.onnx")
        model.probabilities(scans)

    Args:
        session: `GuardedSession` from "lines" `(batch, max_lines, pixels)`
            to logits: "state" `(batch, classes)`, or of a model that answers after every
            line "state" `(batch, max_lines, classes)` and maybe "change" and "unknown".
        metadata: dict. The metadata of the file.
    """

    without_steps: ClassVar[str] = (
        "The .onnx file judges whole scans. Give one of `stm-keras export --format "
        "onnx-step` for a verdict after every line."
    )

    @classmethod
    def of(cls, session: GuardedSession, metadata: dict) -> Self:
        """Return the model of a file that is open, as of `load`."""
        path, inputs = session.path, session.get_inputs()
        if inputs[0].name == "line":
            raise InputError(f"{path}: is the step of a model. Use OnnxPredictor.")
        shapes = {each.name: each.shape[1:] for each in session.get_outputs()}
        lines, classes = metadata["max_lines"], len(metadata["classes"])
        each_line = {name: [lines, classes if name == "state" else 1] for name in shapes}
        fits = len(inputs) == 1 and inputs[0].shape[1:] == [lines, metadata["pixels"]]
        fits = fits and shapes in (each_line, {"state": [classes]})
        if not fits or "state" not in shapes:
            raise InputError(f"{path}: the network does not fit the metadata of its file.")
        return cls(session, metadata)

    @property
    def side_by_side(self) -> int:
        """Scans that are best judged at once."""
        return 1 if self.session.get_inputs()[0].shape[0] == 1 else BATCH

    @property
    def every_line(self) -> bool:
        """Whether the model answers after every line."""
        return len(self.session.get_outputs()[0].shape) == 3

    def _compute(self, prepared, usable):
        (entry,) = self.session.get_inputs()
        count, there = prepared.shape[:2]
        inputs = np.zeros((max(count, 1), *entry.shape[1:]), np.float32)
        inputs[:count, :there] = prepared  # lines that are not there stay 0
        arrays = self.session.run(None, {entry.name: inputs})
        names = [each.name for each in self.session.get_outputs()]
        out = dict(zip(names, arrays, strict=True))
        for values in out.values():
            if len(values) != len(inputs):
                raise MismatchError(
                    f"{self.session.path}: the network gives {len(values)} answers to "
                    f"{len(inputs)} scans. Export the model anew."
                )
        out = {name: values[:count] for name, values in out.items()}
        if self.every_line:
            return {name: values[:, :there] for name, values in out.items()}
        return out


def load_onnx(path: str | Path, threads: int = 1) -> OnnxPredictor | OnnxScanPredictor:
    """Open an .onnx file of `stm-keras export`: a step, or a model of whole scans.

    Args:
        path: str or `Path`.
        threads: int. Processor cores that a whole scan may use.

    Raises:
        InputError: The file is missing, damaged, or not of stm-keras.
        MissingExtraError: onnxruntime is not installed.
    """
    session, metadata = open_session(path, threads)
    if session.is_step:
        return OnnxPredictor.of(session, metadata)
    return OnnxScanPredictor.of(session, metadata)


class OnnxStream(LineStream):
    """A scan that is being recorded, judged line by line by an exported model.

        stream = OnnxStream("h_si100.onnx")
        for line in lines:
            verdict = stream.push(line)

    Args:
        path: str or `Path` of an .onnx file of `stm-keras export`, or an `OnnxPredictor`.
        lines, pixels, size: What is known of the scan, as of `LineStream`.

    Raises:
        InputError: The file is missing, damaged, or not of stm-keras.
        MissingExtraError: onnxruntime is not installed.
        UsageError: `lines`, `pixels` or `size` is not what it must be.
    """

    def __init__(
        self,
        path: str | Path | OnnxPredictor,
        lines: int | None = None,
        pixels: int | None = None,
        size: tuple | None = None,
    ):
        model = path if isinstance(path, OnnxPredictor) else OnnxPredictor.load(path)
        super().__init__(model, lines, pixels, size)
