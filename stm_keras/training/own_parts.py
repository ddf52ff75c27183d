"""Parts of a training that a user brings: a network, an augmentation, callbacks, metrics.

From the command line a part is a function of a Python file, `model.name = "my_file.py:build"`,
and the file is run only where `--trust-code` says so. It never comes from a model file: that of
a run is opened by the file that the run's own config names, if it is still the same.
"""

import copy
import hashlib
import sys
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any

import keras
import numpy as np

from stm_keras.config import Config
from stm_keras.errors import ConfigError, InputError, TrainingError, UsageError
from stm_keras.inference.keras_parts import strange_parts
from stm_keras.inference.model_file import trust
from stm_keras.runs import Run
from stm_keras.settings.section import GIVEN
from stm_keras.untrusted import ordinary_file

SET_RATE = (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)
OURS = "stm_keras"  # and keras: parts of these are loaded anyhow


@dataclass(frozen=True)
class OwnParts:
    """What a user brings to a training; nothing by default.

    Args:
        build: Takes `num_classes`, `pixels` and `max_lines` by keyword, and the settings of
            `[model]`; returns a `keras.Model` from float32 `(batch, lines, pixels)` to logits
            `(batch, classes)`, or to a dict of them, see `docs/network.md`.
        augment: Takes the heights of one scan, float32 array `(lines, pixels)`, 0 where nothing
            was recorded, and a `numpy.random.Generator`; returns heights of the same shape.
        callbacks: Of Keras. They are called after ours, so that the logs of an epoch have
            AUROC and balanced accuracy.
        metrics: Of Keras, by name or as objects, on the class of a scan.
        tensorboard: Whether to write logs into `tensorboard` of the run.
        files: Of the code, with its SHA-256.
    """

    build: Callable[..., Any] | None = None
    augment: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    callbacks: Sequence[Any] = ()
    metrics: Sequence[Any] = ()
    tensorboard: bool = False
    files: tuple[tuple[str, str], ...] = ()

    def __post_init__(self):
        for each in self.callbacks:
            if not isinstance(each, keras.callbacks.Callback):
                raise UsageError(
                    f"`callbacks` must be of Keras. Received: {type(each).__name__}."
                )
            if isinstance(each, SET_RATE):  # which Keras would refuse only when they do
                raise UsageError(
                    f"`callbacks`: {type(each).__name__} cannot set the learning rate, which "
                    "follows `train.schedule`. Choose settings=['train.schedule=plateau'], "
                    "which lowers it when val_auroc stops rising, or another schedule."
                )

    def fresh_metrics(self) -> list:
        """Return metrics of their own for another training: list."""
        return [
            each.from_config(copy.deepcopy(each.get_config()))
            if isinstance(each, keras.metrics.Metric)
            else each
            for each in self.metrics
        ]


NOTHING = OwnParts()


def load_own_parts(config: Config, trusted: bool, given: Container[str] = ()) -> OwnParts:
    """Load the functions that a config names, by running their files.

    `given` are the fields that came from Python, and are not looked for.

    Raises:
        UsageError: There are some, and nobody trusts them.
        InputError: A file is missing or fails, or has no such function.
    """
    named = {"build": config.model.name, "augment": config.augment.own}
    named = {
        part: name
        for part, name in named.items()
        if name and ":" in name and part not in given
    }
    if not named:
        return NOTHING
    keys = {"build": "model.name", "augment": "augment.own"}
    for part, name in named.items():
        if name.startswith(f"{GIVEN}:"):
            raise UsageError(
                f"`{keys[part]}`: {name.partition(':')[2]} was given in Python, so it can be "
                "trained only there: stm_keras.train(...)."
            )
        if not trusted:
            raise UsageError(
                f"`{keys[part]}` is a function of your own, and {name.rpartition(':')[0]} would "
                "be run. Add --trust-code if you know what is in it."
            )
    functions, files = {}, {}
    for part, name in named.items():
        path, _, function = name.rpartition(":")
        module, files[path] = _run_file(Path(path))
        functions[part] = getattr(module, function, None)
        if not callable(functions[part]):
            raise InputError(f"{path}: has no function `{function}` (`{keys[part]}`).")
    return OwnParts(**functions, files=tuple(files.items()))


def trust_run(run: Run, metadata: dict) -> None:
    """Let the model of a run have its own layers, by running the file that it was trained with.

    `metadata` of the model say for what sizes the network is built, which trusts its layers.

    Raises:
        UsageError: The network was given in Python.
        InputError: The file is missing or fails, or is another than in training.
    """
    config = run.config()
    path, _, function = config.model.name.rpartition(":")
    by_hand = "Open its model by stm_keras.load_model(path, {name: class})."
    if not path or path == GIVEN:
        raise UsageError(
            f"`--trust-code`: {run.path} names no Python file of its network. {by_hand}"
        )
    noted = (run.read_json("environment.json") or {}).get("own_code") or {}
    module, _ = _run_file(Path(path), noted.get(path, ""), f"{run.path}. {by_hand}")
    build = getattr(module, function, None)
    build_own(build, config.model, *_sizes(metadata))


def _sizes(metadata):
    return len(metadata["classes"]), metadata["pixels"], metadata["max_lines"]


def _run_file(path, expected=None, trained=""):
    """Run a Python file once: the module, and the SHA-256 of the file, maybe as expected."""
    if not path.is_file():
        raise InputError(f"{path}: no such file. It is looked for from the current folder.")
    ordinary_file(path, "a Python file")
    code = path.read_bytes()
    digest = hashlib.sha256(code).hexdigest()
    if expected is not None and digest != expected:
        raise InputError(f"{path}: is not, or no longer, the file that trained {trained}")
    place = hashlib.sha256(bytes(path.resolve()) + code).hexdigest()  # another when edited
    name = f"stm_keras_own_{place[:12]}"
    if name in sys.modules:
        return sys.modules[name], digest
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # its classes name it
    try:
        exec(compile(code, str(path), "exec"), vars(module))  # nothing else, such as a .pyc
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{path}: {_failure(error, str(path))}.") from error
    return module, digest


def _failure(error, code):
    """Say what an error in a user's code was, and in which line of it: of a function, or a file."""
    file = code if isinstance(code, str) else getattr(code, "__code__", None)
    file = getattr(file, "co_filename", file)
    lines = [
        each.lineno for each in extract_tb(error.__traceback__) if each.filename == file
    ]
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return f"{text} (line {lines[-1]} of {file})" if lines else text


def build_own(build, settings, num_classes, pixels, max_lines):
    """Build a user's network, and check that it judges scans: `keras.Model`.

    Raises:
        ConfigError: It does not, or cannot be built.
    """
    keywords = settings.model_dump(exclude={"name", "input"})
    keywords |= {"num_classes": num_classes, "pixels": pixels, "max_lines": max_lines}
    try:
        model = build(**keywords)
    except Exception as error:
        raise ConfigError(
            f"`model.name`: {settings.name} cannot be built: {_failure(error, build)}."
        ) from error
    problem = _problem(model, num_classes, pixels)
    if problem:
        raise ConfigError(f"`model.name`: {settings.name} {problem}.")
    own = {type(layer) for layer in model._flatten_layers(include_self=False)}
    trust(each for each in own if each.__module__.partition(".")[0] not in ("keras", OURS))
    strange = strange_parts(keras.saving.serialize_keras_object(model))
    if strange:  # which would be noticed only after the training
        raise ConfigError(
            f"`model.name`: {settings.name} has a part that no model file may hold, "
            f"{strange[0]}. Write it as a keras.layers.Layer of your own."
        )
    return model


def _problem(model, num_classes, pixels):
    """Say why a network does not judge scans; None where it does."""
    if not isinstance(model, keras.Model):
        return f"must return a keras.Model. Received: {type(model).__name__}"
    if not getattr(model, "outputs", None) or len(model.inputs) != 1:
        return (
            "must have one input, such as keras.Input((None, pixels)), and know its outputs"
        )
    shape = model.input_shape
    if len(shape) != 3 or shape[2] not in (pixels, None):
        return f"must take (scans, lines, {pixels}). It takes {shape}"
    heads = model.output
    logits = heads.get("state") if isinstance(heads, dict) else heads
    dimensions = 3 if isinstance(heads, dict) else 2
    if logits is None or len(logits.shape) != dimensions or logits.shape[-1] != num_classes:
        given = model.output_shape
        return f"must give logits (scans, {num_classes}), or a dict with `state`. It gives {given}"
    last = model.layers[-1]
    if getattr(last, "activation", None) is keras.activations.softmax:
        return "ends in a softmax. It must give logits: leave the softmax out"
    return None


def builder_of(model: Any) -> Callable[..., Any]:
    """Return what builds a network that was given from Python: a model, or a function.

    Of a model each training gets a copy with the weights that it has now.
    """
    if not isinstance(model, keras.Model):
        return model
    weights = model.get_weights()

    def build(**sizes):
        copied = keras.models.clone_model(model)
        copied.set_weights(weights)
        return copied

    return build


def vary(heights, augment, rng):
    """Vary scans by a user's function, each with random numbers of its own.

    Args:
        heights: array `(scans, lines, pixels)`.
        rng: What draws for a whole batch, see `stm_keras.training.batches`.

    Returns:
        float32 array of the same shape.
    """
    seeds = (rng.random(len(heights)) * 2**53).astype(np.int64)
    varied = np.empty(heights.shape, np.float32)
    for scan, seed in enumerate(seeds):
        given = np.array(heights[scan], np.float32)
        try:
            new = np.asarray(augment(given, np.random.default_rng(seed)), np.float32)
        except Exception as error:
            raise TrainingError(f"`augment.own`: {_failure(error, augment)}.") from error
        finite = np.isfinite(new).all()
        if new.shape != given.shape or not finite:
            raise TrainingError(
                f"`augment.own` must return finite heights {given.shape}. Received: {new.shape}"
                f"{'' if finite else ', not all finite'}."
            )
        varied[scan] = np.where(given.any(1, keepdims=True), new, 0)  # none is made up
    return varied
