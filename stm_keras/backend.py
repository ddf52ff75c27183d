"""Choose the Keras backend before keras is imported, and what differs between backends.

Keras reads `KERAS_BACKEND` once, on import. Its file keras.json in the home folder and some
variables are ignored: the config alone decides what a run does.
"""

import os
import shutil
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec

from stm_keras.errors import BackendError, UsageError, how_to_install
from stm_keras.signals import importing
from stm_keras.terminal import captured

BACKENDS = ("tensorflow", "jax", "torch")
IGNORED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_NNX_ENABLED")
UNUSED = ("jax", "matplotlib", "sklearn")  # by what this package uses of Keras
GENERATOR = "JAX_DEFAULT_PRNG_IMPL"
GENERATORS = ("threefry2x32", "philox4x32")  # whose keys are as long as Keras makes them


def installed_backends() -> list[str]:
    """List the backends that can be imported, the default first."""
    return [name for name in BACKENDS if find_spec(name) is not None]


def use_backend(name: str | None = None, device: str | None = None) -> str:
    """Set the backend of this process: `name`, else KERAS_BACKEND, else the first installed.

    Args:
        name: "tensorflow", "jax" or "torch".
        device: "cpu", "gpu" or "gpu:<number>". Default: what the backend finds.

    Returns:
        The backend.

    Raises:
        BackendError: It is unknown, not installed, or another one is loaded already.
        UsageError: The device makes no sense.
    """
    installed = installed_backends()
    name = name or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if name is None:
        raise BackendError(
            f"No backend is installed. {how_to_install(BACKENDS[0])} (or "
            f"{' or '.join(BACKENDS[1:])} in its place)."
        )
    if name not in BACKENDS:
        raise BackendError(
            f"Unknown backend. Received: {name}. Known: {', '.join(BACKENDS)}."
        )
    if name not in installed:
        raise BackendError(
            f"Backend {name} is not installed. {how_to_install(name)} "
            f"(installed here: {', '.join(installed) or 'none'})."
        )
    if find_spec("keras") is None:
        raise BackendError(f"keras is not installed. {how_to_install(name)}")
    keras = sys.modules.get("keras")
    if keras is not None and keras.config.backend() != name:
        raise BackendError(
            f"keras runs on {keras.config.backend()} in this process already. "
            f"Received: {name}."
        )
    os.environ["KERAS_BACKEND"] = name
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # `doctor` says what matters
    # TensorFlow turns it on for some processors only; on the rest a step takes twice the time
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    _use_device(name, device)
    return name


def _use_device(name, device):
    if device is None:
        return
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "gpu") or (number and (kind == "cpu" or not number.isdigit())):
        raise UsageError(f"`--device` is cpu, gpu or gpu:0, gpu:1 ... Received: {device}.")
    if kind == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["KERAS_TORCH_DEVICE"] = "cpu"
    elif number:
        os.environ["CUDA_VISIBLE_DEVICES"] = number


def import_keras(tensorflow=False):
    """Import keras and what it will import later, without what they print on stderr.

    On another backend Keras imports an installed TensorFlow when it saves a model, only to
    ask whether a value is one of its: 5 s of a core and 460 MB. Unless it was imported before
    or `tensorflow` says that it is needed, it is kept out of this process to its end.
    TensorFlow prints lines about the processor that no setting turns off, so it is imported
    here. Packages that Keras wraps or draws with may be imported later.
    """
    backend = use_backend()
    if backend != "tensorflow" and not tensorflow:
        sys.modules.setdefault("tensorflow", None)  # an import then fails
    fresh = "keras" not in sys.modules
    with (
        _without_user_settings() if fresh else nullcontext(),
        captured(2, tell=True),
        importing(),
        _hidden(*(name for name in UNUSED if name != backend)),  # half of the time
    ):
        import keras

        if find_spec("tensorflow") is not None:  # not where it is kept out
            import_module("tensorflow")
    settle()
    return keras


def settle():
    """Set Keras' own settings to its defaults, also where other code changed them."""
    from keras import config

    config.set_floatx("float32")
    config.set_epsilon(1e-7)
    config.set_image_data_format("channels_last")
    config.set_max_epochs(None)
    config.set_max_steps_per_epoch(None)


@contextmanager
def _hidden(*names):
    """Let imports of packages fail that were not imported before."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _without_user_settings():
    """Hide from Keras, as it is imported, what the user set for other programs."""
    ignored = [name for name in IGNORED if name in os.environ]
    if os.environ.get(GENERATOR, GENERATORS[0]) not in GENERATORS:
        ignored.append(GENERATOR)
    given = {name: os.environ.pop(name) for name in ignored}
    for name, value in given.items():
        warnings.warn(
            f"{name}={value} is ignored: the config alone decides what a run does."
        )
    home = os.environ.get("KERAS_HOME")
    with tempfile.TemporaryDirectory() as empty:
        os.environ["KERAS_HOME"] = empty  # it reads keras.json there, or writes one
        try:
            yield
        finally:
            del os.environ["KERAS_HOME"]
            os.environ.update(given if home is None else {**given, "KERAS_HOME": home})


def feed(batches):
    """Return what `fit` takes batches from: a `PyDataset` as it is, or one of TensorFlow's own.

    Where Keras makes a `tf.data.Dataset` of them, a thread tunes it and looks after 10 ms,
    20, 40 and so on whether it should end, and every epoch waits for that: 19 s after one of
    107 (TensorFlow 2.21). There is nothing to tune, so that is turned off here. `batches` are
    of one size, and are asked once for the first batch to see its shapes.
    """
    import keras

    if keras.config.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def make():
        for number in range(len(batches)):
            yield batches[number]

    like = keras.tree.map_structure(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), batches[0]
    )
    dataset = tf.data.Dataset.from_generator(make, output_signature=like).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False
    cardinality = tf.data.experimental.assert_cardinality(len(batches))
    return dataset.apply(cardinality).with_options(options)


def rows_to_compute(count, batch_size):
    """Return how many rows a network gets for `count` inputs: whole batches, at least one.

    With batches of one size it is compiled once. torch compiles nothing: it gets no row more.
    """
    import keras

    if keras.config.backend() == "torch":
        return max(count, 1)
    return max(-(-count // batch_size), 1) * batch_size


def predict(model, inputs, batch_size):
    """Return `model.predict(inputs)`; under TensorFlow without the wait of `feed`."""
    import keras
    import numpy as np

    if keras.config.backend() != "tensorflow":
        return model.predict(inputs, batch_size=batch_size, verbose=0)
    starts = range(0, len(inputs), batch_size)
    parts = [model.predict_on_batch(inputs[start : start + batch_size]) for start in starts]
    return keras.tree.map_structure(lambda *each: np.concatenate(each), *parts)


def matmul_speed(dtype="float32"):
    """Multiply two matrices on the first device: the most operations a second, in 1e9."""
    from keras import ops, random

    size = 1024 if devices() == ["cpu"] else 8192
    matrix, seconds = ops.cast(random.normal((size, size), seed=0), dtype), []
    for _ in range(6):  # the first compiles
        start = time.perf_counter()
        product = ops.matmul(matrix, matrix)
        ops.convert_to_numpy(ops.cast(product[0, 0], "float32"))  # waits for it
        seconds.append(time.perf_counter() - start)
    return 2e-9 * size**3 / min(seconds)


def global_norm(arrays):
    """Return the root of the sum of squares of all numbers of some arrays of torch."""
    import torch

    return torch.nn.utils.get_total_norm(arrays)


def device_memory():
    """Return the memory of the first device in bytes; None where the backend does not say."""
    import keras

    name = keras.config.backend()
    if name == "jax":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if name == "torch" and devices() != ["cpu"]:
        import torch

        return torch.cuda.mem_get_info()[1]
    return None


def devices():
    """List the devices of the backend in use, such as "cpu" or "gpu: NVIDIA H200".

    This file and `export/` are the only ones that name a backend's own functions.
    """
    import keras

    name = keras.config.backend()
    if name == "tensorflow":
        import tensorflow

        gpus = tensorflow.config.list_physical_devices("GPU")
        details = [tensorflow.config.experimental.get_device_details(gpu) for gpu in gpus]
        return [f"gpu: {each.get('device_name', '?')}" for each in details] or ["cpu"]
    if name == "jax":
        import jax

        if jax.default_backend() == "cpu":
            return ["cpu"]
        return [f"gpu: {each.device_kind}" for each in jax.devices()]
    import torch

    if os.environ.get("KERAS_TORCH_DEVICE") == "cpu" or not torch.cuda.is_available():
        return ["cpu"]
    return [
        f"gpu: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())
    ]


def cheap_draws():
    """Return a context manager to draw weights that a file replaces at once.

    JAX compiles its generator for every new shape: the default, Threefry, for half a
    second each on one core, Philox for a tenth. The numbers differ, so this is for those
    that nobody sees. Under other backends, and an older JAX, it does nothing.
    """
    import keras

    if keras.config.backend() != "jax":
        return nullcontext()
    import jax

    try:  # a generator whose keys are as long as Keras makes them
        return jax.default_prng_impl(GENERATORS[1])
    except ValueError:
        return nullcontext()


def compiled(model):
    """Return a function that runs a model as it is now, without Keras around it.

    `model.predict` takes longer to start than one line of a scan takes to compute; so do
    Keras' layers where the backend is torch. The function takes a list of the backend's arrays,
    as `model.inputs` with a batch of 1, and returns what the model does. It is slow the first
    few times.
    """
    import keras

    name = keras.config.backend()
    if name == "tensorflow":
        import tensorflow

        return tensorflow.function(lambda inputs: model(inputs, training=False))
    if name == "jax":
        import jax

        weights = [
            [jax.numpy.array(variable.value) for variable in kind]  # Keras may free its own
            for kind in (model.trainable_variables, model.non_trainable_variables)
        ]
        run = jax.jit(lambda *state: model.stateless_call(*state, training=False)[0])
        return lambda inputs: run(*weights, inputs)
    return _traced(model)


def _traced(model):
    """Trace a model under torch, without its warnings about the shapes that Keras reads."""
    import keras
    import torch

    class Flat(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            return tuple(keras.tree.flatten(self.model(list(inputs), training=False)))

    blank = [
        keras.ops.zeros((1, *entry.shape[1:]), dtype=entry.dtype) for entry in model.inputs
    ]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = torch.jit.trace(Flat().eval(), tuple(blank), check_trace=False)

    def traced(inputs):
        with torch.inference_mode():
            return keras.tree.pack_sequence_as(model.output, run(*inputs))

    return traced


def check_device(device=None):
    """Check that there is a device to compute on, before anything slow is done.

    Raises:
        BackendError: JAX finds none of the platforms in JAX_PLATFORMS.
        UsageError: `device` asks for a GPU, and the backend sees none.
    """
    import keras

    gpu = device is not None and device.startswith("gpu")
    if not gpu and keras.config.backend() != "jax":
        return
    try:
        available = devices()
    except (RuntimeError, AssertionError) as error:
        platforms = os.environ.get("JAX_PLATFORMS", "")
        why = f" ({first})" if (first := str(error).partition("\n")[0]) else ""
        raise BackendError(
            f"JAX finds no device for JAX_PLATFORMS={platforms}{why}. Unset JAX_PLATFORMS, or "
            "use `--device cpu`."
        ) from None
    if gpu and available == ["cpu"]:
        raise UsageError(
            f"`--device {device}`: the backend sees no GPU. `stm-keras doctor` says why."
        )


def check_compiler(jit_compile):
    """Raise a `BackendError` if torch shall compile and there is no C++ compiler."""
    import keras

    if jit_compile is not True or keras.config.backend() != "torch" or os.name == "nt":
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise BackendError(
            f"`train.jit_compile`: torch compiles with {compiler}, which is missing. Install a "
            "C++ compiler, name one in CXX, or leave that setting out."
        )
