"""The machine that a comparison runs on, and where a library keeps its arrays."""

import os
import platform
import re
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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "name": platform.node(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "cores_allowed": allowed,
        "memory_gb": round(memory / 2**30, 1),
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
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.*)", text, re.MULTILINE)
    return found[1] if found else platform.processor() or "unknown processor"


def devices_of(arrays, gpu):
    """List where arrays of TensorFlow, JAX or torch lie: "cpu", or the name of the GPU."""
    return sorted({"cpu" if "cpu" in str(a.device).lower() else gpu for a in arrays})


def peak_memory(library):
    """Return the most memory that this process held so far."""
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


def operations(library, work):
    """Count the operations of products and convolutions under torch; None where it is not used.

    Calls `work`, whose backward pass counts too.
    """
    if library in ("tensorflow", "jax"):
        return None
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def versions(library):
    """Return the versions of the packages that a setup runs on: dict of str to str."""
    return {name: metadata.version(name) for name in PACKAGES[library]}
