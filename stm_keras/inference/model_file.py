"""The `.keras` file we ship: a Keras model and what one must know to use it.

Beside Keras' own entries the archive holds `stm_keras.json`: class names, size of the
scans, how heights become input, and how the model was trained. It can be read without
keras, and a file from elsewhere is looked through before keras opens it.
"""

import json
import re
import zipfile
from pathlib import Path

from stm_keras.backend import cheap_draws
from stm_keras.data.dataset import CLASSES
from stm_keras.data.model_facts import check_facts, complete_facts
from stm_keras.errors import InputError, MismatchError
from stm_keras.files import atomic
from stm_keras.trees.file import read_tree_facts

FACTS = "stm_keras.json"
KERAS_PARTS = (
    r"keras(\.(activations|constraints|dtype_policies|initializers|layers|losses|metrics|"
    r"models|ops|optimizers(\.schedules)?|quantizers|regularizers))?|"
    r"keras\.src\.(ops\..+|models\.(functional|sequential))"
)
FUNCTIONS = ("builtins", "keras.activations")  # modules of plain functions, found by name
CODE = ("Lambda", "__lambda__", "__typespec__", "TFSMLayer", "TorchModuleWrapper")
CODE += ("JaxLayer", "FlaxLayer")
MAX_JSON = 16 * 2**20


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
    facts = complete_facts(facts)
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
    """Read what a `.keras` or `.skops` file says of itself, without keras.

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
    with _open(path) as archive:
        if FACTS not in archive.namelist():
            return {}
        facts = _json(archive, FACTS, path)
    return check_facts(facts, path, f"{FACTS} is damaged")


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
        config = _json(archive, "config.json", path)
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
        from stm_keras.inference.trees import load_trees_predictor

        return load_trees_predictor(path)
    if path.suffix == ".onnx":
        from stm_keras.inference.onnx import load_onnx_predictor

        return load_onnx_predictor(path)
    facts = read_facts(path)
    _refuse_code(path)
    import keras

    import stm_keras.layers  # noqa: F401  Keras finds our layers by their names
    from stm_keras.inference.predictor import Predictor

    try:
        with cheap_draws():
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise InputError(f"{path}: keras cannot load it ({reason}).") from error
    shape, outputs = model.input_shape, model.output_shape
    if isinstance(model.output, dict):  # answers after every line
        state = model.output.get("state")
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
    if len(facts["classes"]) != outputs[-1] or facts["pixels"] != shape[2]:
        raise MismatchError(f"{path}: the network does not fit what the file says of it.")
    return Predictor(model, facts)


def _open(path):
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Give a .keras file, or a run's best.keras.")
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Give a .keras file.") from None
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or "not a .keras file, or cut short"
        raise InputError(f"{path}: cannot be read ({reason}).") from None
    missing = {"config.json", "model.weights.h5"} - set(archive.namelist())
    if missing:
        archive.close()
        raise InputError(f"{path}: is no .keras file (no {sorted(missing)[0]}).")
    return archive


def _json(archive, name, path):
    try:
        if archive.getinfo(name).file_size > MAX_JSON:
            raise InputError(f"{path}: {name} is too large to be true.")
        return json.loads(archive.read(name))
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path}: {name} is damaged ({error}).") from None


def _refuse_code(path):
    """Look for anything in the network that is not a plain part of Keras or ours."""
    with _open(path) as archive:
        config = _json(archive, "config.json", path)
    if not isinstance(config, dict):
        raise InputError(f"{path}: config.json is damaged (no object).")
    config.pop("compile_config", None)  # never looked at: the network alone is loaded
    for item in _objects(config):
        name, module = str(item["class_name"]), str(item.get("module") or "")
        if not _is_plain(name, module, str(item.get("registered_name") or "")):
            raise InputError(
                f"{path}: holds code, or a part that is neither Keras' nor ours "
                f"({name} of {module or 'nowhere'}). It was not loaded."
            )


def _is_plain(name, module, registered):
    if name in CODE:
        return False
    if name == "function":
        return module in FUNCTIONS
    if registered.startswith("stm_keras>"):
        return module == "" or module.startswith("stm_keras.")
    return module in ("", "builtins") or re.fullmatch(KERAS_PARTS, module) is not None


def _objects(node):
    if isinstance(node, dict):
        if "class_name" in node:
            yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)
