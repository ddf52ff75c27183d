"""Facts of the machine that a comparison ran on."""

import os
import platform
import resource
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import stm_keras

PACKAGES = {
    "tensorflow": ("keras", "tensorflow"),
    "jax": ("keras", "jax", "jaxlib"),
    "torch": ("keras", "torch"),
    "native": ("torch",),
    "native-unmasked": ("torch",),
    "timm": ("timm", "torch"),
}


def describe_machine():
    """Collect name, processor, cores, memory, system and load: dict, JSON-ready."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        allowed = os.cpu_count()
    return {
        "name": platform.node(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "cores_allowed": allowed,
        "memory_gb": round(
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1
        ),
        "load": [round(os.getloadavg()[0], 2)],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "stm_keras": stm_keras.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def processor():
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    names = [
        line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
    ]
    return names[0] if names else "unknown processor"


def place(array):
    """Tell on which device an array of TensorFlow, JAX or torch lies.

    Args:
        array: tensor, variable or array of a backend.

    Returns:
        str. "cpu", or "gpu: " and the name of the card.
    """
    kind = type(array).__module__.partition(".")[0]
    if kind == "torch":
        import torch

        if array.device.type == "cpu":
            return "cpu"
        return f"gpu: {torch.cuda.get_device_name(array.device)}"
    if kind == "tensorflow":
        import tensorflow as tf

        device = tf.DeviceSpec.from_string(array.device)
        if device.device_type == "CPU":
            return "cpu"
        found = tf.config.list_physical_devices(device.device_type)[device.device_index]
        name = tf.config.experimental.get_device_details(found).get(
            "device_name", found.name
        )
        return f"{device.device_type.lower()}: {name}"
    devices = sorted(array.devices(), key=lambda device: device.id)
    if devices[0].platform == "cpu":
        return "cpu"
    return f"{devices[0].platform}: {devices[0].device_kind}"


def answer(model, batch):
    """Run a `keras.Model` and return what it answers as the backend's own arrays.

    Under JAX compiled as a whole: operation by operation it takes long to begin.
    """
    import keras

    if keras.config.backend() != "jax":
        return model(batch, training=False)
    import jax

    kinds = (model.trainable_variables, model.non_trainable_variables)
    state = [[variable.value for variable in kind] for kind in kinds]
    run = jax.jit(lambda *given: model.stateless_call(*given, training=False)[0])
    return run(*state, batch)


def peak_memory(library):
    """Return the most memory that this process held so far.

    Args:
        library: str. As of a `Side`.

    Returns:
        dict of "host" and "device" to GB (2^30 bytes); no device where it cannot be asked.
    """
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = held / (2**30 if sys.platform == "darwin" else 2**20)
    device = _device_bytes(library)
    return {"host": host, "device": None if device is None else device / 2**30}


def _device_bytes(library):
    if library == "tensorflow":
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            return None
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if library == "jax":
        import jax

        return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    import torch

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def versions(library):
    """Return the versions of the packages that a side runs on: dict of str to str."""
    return {name: metadata.version(name) for name in PACKAGES[library]}
