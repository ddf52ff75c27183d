"""Look through a `.keras` file before Keras builds what it asks for.

Keras' safe mode keeps code out, but builds any number of layers of any size, reads files that
layers such as lookups name, and takes what other programs registered. Here a network is made
of plain layers of Keras and of ours, and has no more weights than the file holds.
"""

import io
import re
from collections.abc import Collection
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from stm_keras.errors import InputError

TRUSTED: set[str] = (
    set()
)  # registered names of a user's own layers, of which he gave the code
MOST_LAYERS = 600  # where Keras itself gives up at some more
MOST = 1 << 17  # of a number in the config of a layer: units, a padding, a repetition
MOST_OF_OURS = 1 << 12  # and in that of one of ours, whose tables grow with it
MOST_VALUES = 1 << 26  # of what a layer gives, for one scan: 256 MiB
NOT_SIZES = ("seed", "shared_object_id")  # numbers that may be large
DATA = ("__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__")
MODELS = "Functional|Model|Sequential"
LAYERS = (
    "Activation|ActivityRegularization|Add|AdditiveAttention|AlphaDropout|Attention|Average|"
    "BatchNormalization|Bidirectional|CenterCrop|Concatenate|Dense|Dot|Dropout|ELU|"
    "EinsumDense|Embedding|Flatten|Gaussian(Dropout|Noise)|GroupNormalization|"
    "GroupQueryAttention|Identity|InputLayer|LayerNormalization|LeakyReLU|Masking|Maximum|"
    "Minimum|MultiHeadAttention|Multiply|Normalization|PReLU|Permute|RMSNormalization|RNN|"
    "(GRU|LSTM|SimpleRNN)(Cell)?|Random(Brightness|Contrast|Crop|Flip|Rotation|Translation|"
    "Zoom)|ReLU|RepeatVector|Rescaling|Reshape|Resizing|Softmax|SpectralNormalization|"
    "StackedRNNCells|Subtract|TimeDistributed|UnitNormalization|((Average|Max|GlobalAverage|"
    "GlobalMax)Pooling|Conv|ConvLSTM|Cropping|DepthwiseConv|SeparableConv|SpatialDropout|"
    "UpSampling|ZeroPadding)[123]D|Conv[123]DTranspose"
)
ANY = "[A-Z][A-Za-z0-9]*"  # a class: functions of these modules begin with small letters
PLAIN = {  # modules, and what of them holds data alone
    r"keras|keras\.models|keras\.src\.models\.(functional|sequential)": f"{MODELS}|DTypePolicy",
    r"keras\.layers": LAYERS,
    r"keras\.(constraints|dtype_policies|initializers|regularizers)": ANY,
    r"keras\.src\.ops\.(image|linalg|math|nn|numpy)": ANY,  # core has loops
    r"keras\.src\.ops\.core": "Cast|SaturateCast|Slice|StopGradient|Unstack",
}
FUNCTIONS = (
    "celu|elu|exponential|gelu|glu|(hard|log|sparse|soft)_[a-z]+|leaky_relu|linear|mish|"
    "relu6?|selu|sigmoid|silu|softmax|softplus|softsign|sparsemax|squareplus|swish|tanh|"
    "tanh_shrink|threshold"
)


def strange_parts(config: dict, trusted: Collection[str] = TRUSTED) -> list[str]:
    """List what of a network is neither Keras' nor ours nor trusted: `["Lambda of keras.layers"]`.

    `config` is the content of `config.json`, of a bounded depth.
    """
    strange = []
    for item, _ in _objects(_network(config), MOST):
        name, module = item.get("class_name"), item.get("module")
        own = item.get("registered_name")
        if not (isinstance(own, str) and own in trusted or _is_plain(item, name, module)):
            if name == "function":
                name = f"function {item.get('config')}"
            strange.append(f"{str(name)[:40]} of {str(module or 'nowhere')[:80]}")
    return strange


def check_parts(config: object, path: Path) -> None:
    """Raise an `InputError` unless a network is made of plain layers, and not of too many.

    `config` is the content of `config.json`, of a bounded depth. Parts in `TRUSTED` pass.
    """
    if not isinstance(config, dict):
        raise InputError(f"{path}: config.json is damaged (it is not an object).")
    strange = strange_parts(config)
    if strange:
        raise InputError(
            f"{path}: holds code, or a part that is neither Keras' nor ours ({strange[0]}). It "
            "was not loaded. A layer of your own is loaded from its run by --trust-code of "
            "predict, evaluate and export, or by stm_keras.load_model(path, {name: class})."
        )
    layers = 0
    for item, most in _objects(_network(config), MOST):
        name = item.get("class_name")
        layers += "inbound_nodes" in item or item.get("module") == "keras.layers"
        if layers > MOST_LAYERS:
            raise InputError(f"{path}: has more than {MOST_LAYERS} layers.")
        size = _largest(item, most)
        if size > most:
            raise InputError(
                f"{path}: {str(name)[:40]} asks for {size}, too large to be real."
            )


def _network(config):
    """Leave out what is never looked at: the network alone is loaded."""
    return {name: part for name, part in config.items() if name != "compile_config"}


def _is_plain(item, name, module):
    if not isinstance(name, str):
        return False
    if name in DATA:
        return True
    registered = item.get("registered_name")
    if registered == f"stm_keras>{name}":
        return module in (None, "") or str(module).startswith("stm_keras.layers.")
    if registered not in (None, name) or not isinstance(module, str):
        return False
    if name == "function":
        known = module in ("builtins", "keras.activations")
        return known and re.fullmatch(FUNCTIONS, str(item.get("config"))) is not None
    return any(
        re.fullmatch(modules, module) and re.fullmatch(names, name)
        for modules, names in PLAIN.items()
    )


def _objects(node, most):
    """Yield what is made of a config, each with the largest number that may be in it."""
    if isinstance(node, dict):
        if "class_name" in node:
            if str(node.get("registered_name")).startswith("stm_keras>"):
                most = MOST_OF_OURS
            yield node, most
        node = list(node.values())
    if isinstance(node, list | tuple):  # tuples are lists only once they are in a file
        for each in node:
            yield from _objects(each, most)


def _largest(node, most):
    """Return the largest number of an object, without the objects in it."""
    if node.get("class_name") in ("__numpy__", "__tensor__"):
        return 0
    waiting, largest = [v for k, v in node.items() if k not in NOT_SIZES], 0
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict) and "class_name" not in each:
            waiting += [v for k, v in each.items() if k not in NOT_SIZES]
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, int):
            largest = max(largest, abs(each))
    return largest


def count_weights(data: bytes, path: Path) -> int:
    """Count the numbers in the weights of a `.keras` file, bytes of `model.weights.h5`."""
    import h5py

    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            return _count(file, path, h5py)
    except InputError:
        raise
    except Exception as error:  # h5py raises whatever HDF5 says
        reason = str(error).split("\n")[0][:200]
        raise InputError(f"{path}: its weights are damaged ({reason}).") from None


def _count(file, path, h5py):
    names = []
    file.visit_links(names.append)  # each once, and none is followed out of the file
    for name in names:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{path}: its weights lie elsewhere ({name[:80]}).")
    items = []
    file.visititems(lambda _, item: items.append(item))
    total, left = 0, file.id.get_filesize()
    for item in items:
        if isinstance(item, h5py.Group):
            continue
        left -= item.nbytes
        stored = item.id.get_storage_size() >= item.nbytes and left >= 0
        if item.external or item.is_virtual or not stored or item.dtype.kind not in "fiubV":
            raise InputError(
                f"{path}: its weights are not all in the file ({item.name[:80]})."
            )
        if item.dtype.kind == "f" and not np.isfinite(item[()]).all():
            raise InputError(
                f"{path}: has weights that are not finite ({item.name[:80]}). Train it anew."
            )
        total += item.size
    return total


def check_sizes(model: Any, path: Path) -> None:
    """Raise an `InputError` if a layer of a network gives more than can be computed."""
    values = largest_values(model)
    if values > MOST_VALUES:
        raise InputError(
            f"{path}: a layer gives {values} numbers for one scan, too large to be real."
        )


def largest_values(model: Any) -> int:
    """Return how many numbers the largest array in a network has for one scan."""
    counts = [1]
    for part in getattr(model, "operations", model.layers):
        if hasattr(part, "layers"):
            counts.append(largest_values(part))
        for node in part._inbound_nodes:
            counts += [
                prod(size or 1 for size in tensor.shape) for tensor in node.output_tensors
            ]
    return max(counts)
