"""Model files: open one of any kind as a `Predictor`, and write one of Keras.

The `.keras` file we ship holds Keras' own entries and `stm_keras.json`: class names, size of
the scans, how heights become input, and how the model was trained. A file from elsewhere is
looked through before Keras opens it.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from stm_keras.backend import cheap_draws
from stm_keras.data.dataset import CLASSES
from stm_keras.data.model_metadata import FORMAT, check_metadata, complete_metadata
from stm_keras.errors import InputError, MismatchError
from stm_keras.files import atomic
from stm_keras.inference.find_model import (
    CONFIG,
    METADATA,
    WEIGHTS,
    open_keras_file,
    read_metadata,
)
from stm_keras.inference.keras_parts import (
    TRUSTED,
    check_parts,
    check_sizes,
    count_weights,
    strange_parts,
)
from stm_keras.inference.onnx_model import load_onnx
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.trees_model import load_trees_predictor
from stm_keras.untrusted import parse_json

SPARE = 1 << 16  # weights that a model may have and its file not: seeds


def load_predictor(path: str | Path) -> Predictor:
    """Load a `.keras` file, ours or another's, `.onnx` or trees, without running code from it.

    Args:
        path: str or `Path`. A file; no folder and no address.

    Raises:
        InputError: The file is missing, damaged, or asks for code.
        MismatchError: The model does not judge scan lines.
    """
    path = Path(path)
    if path.suffix == ".skops":
        return load_trees_predictor(path)
    if path.suffix == ".onnx":
        return load_onnx(path)
    from stm_keras.inference.keras_predictor import KerasPredictor

    metadata = read_metadata(path)
    model = load_model(path)
    lines, pixels, classes = _size_of(model, path)
    if not metadata:
        if classes != len(CLASSES):
            raise MismatchError(
                f"{path}: does not name its {classes} classes and is not of stm-keras."
            )
        metadata = {"classes": list(CLASSES), "pixels": pixels, "max_lines": lines or 128}
        check_metadata({**metadata, "format": FORMAT}, path, "it does not judge scans")
    if len(metadata["classes"]) != classes or metadata["pixels"] != pixels:
        raise MismatchError(f"{path}: the network does not fit the metadata of its file.")
    return KerasPredictor(model, metadata)


def load_model(path: str | Path, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Load the network of a `.keras` file without running code from it: `keras.Model`.

    It is an ordinary Keras model, not compiled: it takes model input `(scans, lines, pixels)`,
    see docs/export.md, and gives logits.

    Args:
        path: A file; no folder and no address.
        custom_objects: Layers of your own, by their names, which you trust.

    Raises:
        InputError: The file is missing, damaged, or asks for code.
    """
    path = Path(path)
    if custom_objects:
        trust(custom_objects.values())
    with open_keras_file(path) as archive:
        check_parts(parse_json(archive.read(CONFIG), f"{path}: {CONFIG}"), path)
        count = count_weights(archive.read(WEIGHTS), path)
    import keras

    import stm_keras.layers  # noqa: F401  Keras finds our layers by their names

    try:
        with cheap_draws(), bounded_weights(count):
            return keras.saving.load_model(
                path, custom_objects, compile=False, safe_mode=True
            )
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(f"{path}: keras cannot load it ({reason}).") from error


def has_own_layers(path: str | Path) -> bool:
    """Tell whether a `.keras` file has layers that are neither Keras' nor ours.

    Raises:
        InputError: The file is missing or damaged.
    """
    path = Path(path)
    with open_keras_file(path) as archive:
        config = parse_json(archive.read(CONFIG), f"{path}: {CONFIG}")
    return isinstance(config, dict) and bool(strange_parts(config, trusted=()))


def trust(parts: Iterable[type]) -> None:
    """Let networks have layers of a user's own, given as classes, in this process.

    Those that are not registered are registered here, so that files name them alike wherever
    they are defined.
    """
    import keras

    for part in parts:
        if ">" not in keras.saving.get_registered_name(part):
            keras.saving.register_keras_serializable("own")(part)
        TRUSTED.add(keras.saving.get_registered_name(part))


def _size_of(model, path):
    """Return lines (None for any number), pixels and classes of a network.

    Raises:
        MismatchError: It does not map scans to classes.
        InputError: A layer of it gives more than can be computed.
    """
    try:
        shape, outputs, heads = model.input_shape, model.output_shape, model.output
    except (AttributeError, ValueError):
        raise MismatchError(
            f"{path}: does not judge scan lines: its network was never built. Build it, "
            "train it and save it again."
        ) from None
    check_sizes(model, path)
    if isinstance(heads, dict):  # after every line
        state = heads.get("state")
        outputs = () if state is None or len(state.shape) != 3 else (None, state.shape[2])
    if not isinstance(shape, tuple) or len(shape) != 3 or len(outputs) != 2:
        raise MismatchError(
            f"{path}: does not judge scan lines: it maps {shape} to {outputs}, not "
            "(scans, lines, pixels) to (scans, classes)."
        )
    return shape[1], shape[2], outputs[1]


@contextmanager
def bounded_weights(limit: int) -> Iterator[None]:
    """Have Keras stop before layers make more weights than the numbers in a file.

    Raises:
        InputError: Inside, where a layer asks for more.
    """
    import keras

    add, left = keras.layers.Layer.add_weight, limit + SPARE

    def counted(layer, shape=None, *arguments, **options):
        nonlocal left
        left -= prod(shape or ())
        if left < 0:
            raise InputError(
                f"the layer {layer.name[:40]!r} asks for weights of shape {tuple(shape)}, "
                f"and the file holds {limit} in all"
            )
        return add(layer, shape, *arguments, **options)

    keras.layers.Layer.add_weight = counted
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add


def save_model(
    model: Any, path: str | Path, metadata: dict, overwrite: bool = False
) -> None:
    """Write a model and its metadata as one `.keras` file, whole or not at all.

    Only the network is written, in float32 and without optimizer: a compiled model
    saved under torch cannot be loaded where torch is missing.

    Args:
        model: `keras.Model` from `(batch, lines, pixels)` to logits.
        path: str or `Path`, ending in `.keras`.
        metadata: dict, JSON-ready, with at least `classes`, `pixels` and `max_lines`.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    metadata = complete_metadata(metadata)
    with atomic(path, overwrite) as temporary:
        bare_model(model).save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA, json.dumps(metadata, indent=1, allow_nan=False))


def bare_model(model: Any) -> Any:
    """Return the network alone: uncompiled, computing in float32."""
    import keras

    config = model.get_config()
    if "mixed_" not in json.dumps(config):
        return keras.Model(model.inputs, model.output, name=model.name)
    text = re.sub(r'"(mixed_)?b?float16"', '"float32"', json.dumps(config))
    bare = type(model).from_config(json.loads(text))
    bare.set_weights(model.get_weights())
    return bare
