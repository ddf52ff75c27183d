"""The `.keras` file we ship: a Keras model and what one must know to use it.

Beside Keras' own entries the archive holds `stm_keras.json`: class names, size of the
scans, how heights become input, and how the model was trained. It can be read without
keras, and a file from elsewhere is looked through before keras opens it.
"""

import json
import re
import zipfile
from contextlib import contextmanager
from pathlib import Path

from stm_keras.backend import cheap_draws
from stm_keras.data.dataset import CLASSES
from stm_keras.data.model_metadata import FORMAT, check_metadata, complete_metadata
from stm_keras.errors import InputError, MismatchError
from stm_keras.files import atomic
from stm_keras.trees.file import read_tree_facts
from stm_keras.untrusted import open_archive, ordinary_file, parse_json

FACTS = "stm_keras.json"
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MEMBERS = {FACTS, CONFIG, WEIGHTS, "metadata.json"}
WHAT = "a .keras file, or a run's best.keras"
EXPANDS = 16  # times at most, unpacked: weights hardly pack at all


def save_model(model, path, facts, overwrite=False):
    """Write a model and its facts as one `.keras` file, whole or not at all.

    Only the network is written, in float32 and without optimizer: a compiled model
    saved under torch cannot be loaded where torch is missing.

    Args:
        model: `keras.Model` from `(batch, lines, pixels)` to logits.
        path: str or `Path`, ending in `.keras`.
        facts: dict, JSON-ready, with at least `classes`, `pixels` and `max_lines`.
        overwrite: bool.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    facts = complete_metadata(facts)
    with atomic(path, overwrite) as temporary:
        bare_model(model).save(temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(FACTS, json.dumps(facts, indent=1, allow_nan=False))


def bare_model(model):
    """Return the network alone: uncompiled, computing in float32."""
    import keras

    config = model.get_config()
    if "mixed_" not in json.dumps(config):
        return keras.Model(model.inputs, model.output, name=model.name)
    text = re.sub(r'"(mixed_)?b?float16"', '"float32"', json.dumps(config))
    bare = type(model).from_config(json.loads(text))
    bare.set_weights(model.get_weights())
    return bare


def read_facts(path):
    """Read what a `.keras`, `.onnx` or `.skops` file says of itself, without keras.

    Args:
        path: str or `Path`.

    Returns:
        dict, empty for a file of another program.

    Raises:
        InputError: The file is missing, damaged or no `.keras` file.
    """
    path = Path(path)
    if path.suffix == ".skops":
        return read_tree_facts(path)
    if path.suffix == ".onnx":
        from stm_keras.inference.onnx_session import read_network

        return read_network(path)[2]
    with _open(path) as archive:
        if FACTS not in archive.namelist():
            return {}
        facts = parse_json(archive.read(FACTS), f"{path}: {FACTS}")
    return check_metadata(facts, path, f"{FACTS} is damaged")


def answers_every_line(path):
    """Tell whether a `.keras` file answers after every line, without keras.

    Args:
        path: str or `Path`.

    Returns:
        bool.

    Raises:
        InputError: The file is missing, damaged or no `.keras` file.
    """
    path = Path(path)
    with _open(path) as archive:
        config = parse_json(archive.read(CONFIG), f"{path}: {CONFIG}")
    inner = config.get("config") if isinstance(config, dict) else None
    outputs = inner.get("output_layers") if isinstance(inner, dict) else None
    return isinstance(outputs, dict) and "state" in outputs


def load_predictor(path):
    """Load a `.keras` file, ours or another's, `.onnx` or trees, without running code from it.

    Args:
        path: str or `Path`. A file; no folder and no address.

    Returns:
        A `stm_keras.inference.predictor.Predictor`.

    Raises:
        InputError: The file is missing, damaged, or asks for code.
        MismatchError: The model does not judge scan lines.
    """
    path = Path(path)
    if path.suffix == ".skops":
        from stm_keras.inference.keras_free import load_trees_predictor

        return load_trees_predictor(path)
    if path.suffix == ".onnx":
        from stm_keras.inference.keras_free import load_onnx_predictor

        return load_onnx_predictor(path)
    from stm_keras.inference.keras_parts import (
        bounded_weights,
        check_parts,
        check_sizes,
        count_weights,
    )

    facts = read_facts(path)
    with _open(path) as archive:
        check_parts(parse_json(archive.read(CONFIG), f"{path}: {CONFIG}"), path)
        count = count_weights(archive.read(WEIGHTS), path)
    import keras

    import stm_keras.layers  # noqa: F401  Keras finds our layers by their names
    from stm_keras.inference.predictor import Predictor

    try:
        with cheap_draws(), bounded_weights(count):
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(f"{path}: keras cannot load it ({reason}).") from error
    try:
        shape, outputs, answers = model.input_shape, model.output_shape, model.output
    except (AttributeError, ValueError):
        raise MismatchError(
            f"{path}: does not judge scan lines: its network was never built. Build it, "
            "train it and save it again."
        ) from None
    check_sizes(model, path)
    if isinstance(answers, dict):  # after every line
        state = answers.get("state")
        outputs = () if state is None or len(state.shape) != 3 else (None, state.shape[2])
    if not isinstance(shape, tuple) or len(shape) != 3 or len(outputs) != 2:
        raise MismatchError(
            f"{path}: does not judge scan lines: it maps {shape} to {outputs}, not "
            "(scans, lines, pixels) to (scans, classes)."
        )
    if not facts:
        if outputs[-1] != len(CLASSES):
            raise MismatchError(
                f"{path}: does not name its {outputs[-1]} classes and is not of stm-keras."
            )
        facts = {"classes": list(CLASSES), "pixels": shape[2], "max_lines": shape[1] or 128}
        check_metadata({**facts, "format": FORMAT}, path, "it does not judge scans")
    if len(facts["classes"]) != outputs[-1] or facts["pixels"] != shape[2]:
        raise MismatchError(f"{path}: the network does not fit what the file says of it.")
    return Predictor(model, facts)


@contextmanager
def _open(path):
    packed = ordinary_file(path, WHAT).stat().st_size
    limit = EXPANDS * (packed + 2**20)
    with open_archive(path, WHAT, limit=limit) as archive:
        names = set(archive.namelist())
        missing = {CONFIG, WEIGHTS} - names
        if missing:
            raise InputError(f"{path}: is no .keras file (no {min(missing)}).")
        if names - MEMBERS:
            strange = min(names - MEMBERS)[:80]
            raise InputError(f"{path}: is no model of scans (it holds {strange!r}).")
        yield archive
