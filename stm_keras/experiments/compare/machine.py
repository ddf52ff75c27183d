"""Facts of the machine that a comparison ran on."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import stm_keras


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
