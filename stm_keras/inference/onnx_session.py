"""Load and run anybody's .onnx file: bounded in memory and time, one line if it fails."""

import base64
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from math import prod
from pathlib import Path
from threading import Timer
from typing import Any

from stm_keras.data.model_metadata import check_metadata
from stm_keras.errors import InputError, MismatchError, require
from stm_keras.inference.onnx_file import MOST_BYTES, MOST_VALUES, Network, Refused
from stm_keras.memory import budget
from stm_keras.untrusted import ordinary_file, parse_json

METADATA = "stm_keras"  # key of the metadata
WHOLE = "stm_keras_scans"  # key of the graph of whole scans beside a step, in base64
MEMORY = 4 << 30  # bytes at most, of all networks of a process together
LEAST = 1 << 28  # bytes, however few one file may take: some hundred lines at a time
SECONDS = 120.0  # of a computation; a whole scan takes less than one
WHAT = "an .onnx file of `stm-keras export`"


class GuardedSession:
    """An `onnxruntime.InferenceSession` whose failures are one line of text.

    Args:
        load: callable that returns it; called when it is first asked for.
        path: `Path` of the file.
        network: `Network`, what was read of it before.
        whole: callable that opens the graph of whole scans in the file, or None.
    """

    def __init__(
        self,
        load: Callable,
        path: Path,
        network: Network,
        whole: "Callable[[], GuardedSession] | None" = None,
    ):
        self._load, self.path, self.whole = load, path, whole
        self.input_names, self.output_names = network.inputs, network.outputs
        self._was_in_time = False

    @property
    def is_step(self) -> bool:
        """Whether it takes one line. Its time then cannot depend on what the line is."""
        return self.input_names[:1] == ["line"]

    @cached_property
    def session(self) -> Any:
        """The `onnxruntime.InferenceSession`."""
        return self._load()

    @cached_property
    def _shapes(self):
        return [(each.name, each.shape) for each in self.get_outputs()]

    def get_inputs(self) -> list:
        """Return what goes in, as `onnxruntime.InferenceSession` does."""
        return self.session.get_inputs()

    def get_outputs(self) -> list:
        """Return what comes out, as `onnxruntime.InferenceSession` does."""
        return self.session.get_outputs()

    def run(self, names: list | None, inputs: dict) -> list:
        """Compute all outputs, of the shapes that the file declares.

        `names` is None, for all of them, in the order of the file, as of `InferenceSession`.

        Raises:
            MismatchError: It cannot be computed, takes too long or too much memory, or gives
                something else than was declared.
        """
        checked = self.is_step and self._was_in_time  # which is then enough
        try:
            run = self.session.run if checked else self._run_with_limit
            outputs = run(names or self.output_names, inputs)
        except Exception as error:  # onnxruntime raises a class for each of its reasons
            raise MismatchError(
                f"{self.path}: the network cannot be computed ({_reason(error)}). Export the "
                "model anew."
            ) from None
        if not checked:
            self._check_shapes(outputs)
            self._was_in_time = True
        return outputs

    def _check_shapes(self, outputs):
        for (name, shape), values in zip(self._shapes, outputs, strict=True):
            if not _fits(values.shape, shape):
                raise MismatchError(
                    f"{self.path}: the network does not give what the file says ({name!r} of "
                    f"shape {values.shape}). Export the model anew."
                )

    def _run_with_limit(self, names, inputs):
        from onnxruntime import RunOptions

        options = RunOptions()
        options.log_severity_level = 4  # the error is raised, and not logged as well
        timer = Timer(SECONDS, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            return self.session.run(names, inputs, options)
        finally:
            timer.cancel()


def open_session(path: str | Path, threads: int = 1) -> tuple[GuardedSession, dict]:
    """Open an .onnx file of `stm-keras export`, of whichever kind: session and metadata.

    Raises:
        InputError: The file is missing, damaged, not of stm-keras, or holds what no network
            of stm-keras has.
        MissingExtraError: onnxruntime is not installed.
    """
    data, network, metadata = read_network(path)
    path = Path(path)
    whole = None
    if WHOLE in network.metadata:
        whole = partial(_open_whole, network.metadata[WHOLE], path, threads)
    return _open(data, network, path, threads, whole), metadata


def _open_whole(text, path, threads):
    """Open the graph of whole scans, base64, that the file of a step holds."""
    try:
        data = base64.b64decode(text, validate=True)
        network = Network(data)
    except (ValueError, Refused) as error:
        raise InputError(
            f"{path}: its graph of whole scans is damaged ({error})."
        ) from None
    return _open(data, network, path, threads)


def _open(data, network, path, threads, whole=None):
    require("onnxruntime", "onnx")
    load = partial(_load, data, network.foldable, path, threads)
    return GuardedSession(load, path, network, whole)


def _load(data, foldable, path, threads):
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    _bound_memory(runtime, options)
    idle = [] if foldable else ["ConstantFolding"]
    try:
        session = runtime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=idle
        )
    except Exception as error:  # onnxruntime raises a class for each of its reasons
        raise InputError(
            f"{path}: onnxruntime cannot load it ({_reason(error)})."
        ) from None
    if not session.get_inputs():
        raise InputError(f"{path}: the network takes nothing, so it cannot judge scans.")
    total = 0
    for each in (*session.get_inputs(), *session.get_outputs()):
        sizes = [size if isinstance(size, int) else 1 for size in each.shape]
        total += prod(sizes)
        if each.type != "tensor(float)" or min(sizes, default=1) < 1 or total > MOST_VALUES:
            raise InputError(
                f"{path}: the network does not fit the metadata of its file "
                f"({each.name[:40]!r} is a {each.type} of shape {each.shape})."
            )
    return session


def read_network(path: str | Path) -> tuple[bytes, Network, dict]:
    """Read an .onnx file of `stm-keras export`, without onnxruntime: bytes, network, metadata."""
    path = ordinary_file(path, WHAT)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        network = Network(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except Refused as error:
        raise InputError(f"{path}: is not a model that is run here ({error}).") from None
    if METADATA not in network.metadata:
        raise InputError(f"{path}: is not of `stm-keras export`.")
    metadata = parse_json(network.metadata[METADATA], f"{path}, metadata `{METADATA}`")
    metadata = check_metadata(metadata, path, "its metadata are damaged")
    return data, network, metadata


def _bound_memory(runtime, options):
    """Have onnxruntime take the memory of all sessions from one arena of limited size."""
    kind = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = runtime.OrtMemoryInfo("Cpu", kind, 0, runtime.OrtMemType.DEFAULT)
    limits = runtime.OrtArenaCfg({"max_mem": _most()})
    with suppress(Exception):  # there is one: ours, or that of the program we are part of
        runtime.create_and_register_allocator(memory, limits)
    options.add_session_config_entry("session.use_env_allocators", "1")


def _most():
    return max(budget(MEMORY), LEAST)


def _fits(shape, declared):
    """Tell whether a shape is that of a file, where sizes may be names or missing."""
    return len(shape) == len(declared) and all(
        size == wanted or not isinstance(wanted, int)
        for size, wanted in zip(shape, declared, strict=True)
    )


def _reason(error):
    """Say in few words why onnxruntime failed, without where in its source."""
    text = str(error).strip().split("\n")[0]
    if "terminate flag" in text:
        return f"it takes more than {SECONDS:.0f} s"
    if "Available memory of" in text or isinstance(error, MemoryError):
        return f"it needs more than {_most() / 1e9:.1f} GB of memory"
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    return text.split(" Status Message:")[0][:200]
