"""`stm-keras doctor`."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from stm_keras import __version__
from stm_keras.backend import BACKENDS, installed_backends
from stm_keras.cli import options
from stm_keras.errors import install
from stm_keras.untrusted import parse_json

PACKAGES = {
    "numpy": None,
    "h5py": None,
    "click": None,
    "pydantic": None,
    "rich": None,
    "Pillow": None,
    "threadpoolctl": None,
    "keras": "training",
    "scikit-learn": "training",
    "scipy": "training",
    "matplotlib": "training",
    "tensorflow": "tensorflow",
    "jax": "jax",
    "torch": "torch",
    "access2theMatrix": "spm",
    "igor2": "spm",
    "gwyddionpy": "gwyddion",
    "onnxruntime": "onnx",
    "nicegui": "live",
    "onnx": "export",
}
PROBE = (
    "import json, sys; from stm_keras.backend import *; use_backend(sys.argv[1]); "
    "keras = import_keras(); check_device(); "
    "print('probe ' + json.dumps([keras.config.backend(), devices(), matmul_speed()]))"
)


@click.command()
@options.as_json
def doctor(as_json):
    """Show versions, backends and devices, and what is missing.

    It also says what to install. Each backend is started in a process of its own, to see
    which devices it finds, and multiplies two matrices there: GFLOP/s are a bound to what a
    training can reach.

    \b
        stm-keras doctor
    """
    report = {
        "stm_keras": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "backends": {name: _probe(name) for name in BACKENDS},
        "default_backend": os.environ.get("KERAS_BACKEND")
        or next(iter(installed_backends()), None),
        "folders": _folders(),
        "advice": [],
    }
    report["advice"] = _advice(report)
    click.echo(json.dumps(report) if as_json else "\n".join(_lines(report)))


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _probe(name):
    """Start a backend; return dict of `installed`, `works`, `devices`, `gflops` and `error`."""
    state = {"installed": False, "works": False, "devices": [], "gflops": None}
    state["error"] = None
    if name not in installed_backends() or _version("keras") is None:
        return state
    state["installed"] = True
    done = subprocess.run(
        [sys.executable, "-c", PROBE, name],
        capture_output=True,
        env={**os.environ, "KERAS_BACKEND": name},
        encoding="utf-8",
        errors="replace",
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("probe ")]
    if done.returncode == 0 and lines:
        backend, devices, speed = parse_json(lines[0].removeprefix("probe "), name)
        return {**state, "works": backend == name, "devices": devices, "gflops": speed}
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    last = last.removeprefix("stm_keras.errors.BackendError: ")
    return {**state, "error": last[:300]}


def _folders():
    keras_home = os.environ.get("KERAS_HOME") or str(Path.home() / ".keras")
    return {
        "keras": keras_home,
        "keras_writable": _writable(Path(keras_home)),
        "jax_compilation_cache": os.environ.get("JAX_COMPILATION_CACHE_DIR"),
        "matplotlib": os.environ.get("MPLCONFIGDIR"),
    }


def _ratios(works, best):
    others = sorted((works[best] / speed, n) for n, speed in works.items() if n != best)
    return ", ".join(f"{ratio:.2f} times {name}" for ratio, name in others)


def _writable(folder):
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _advice(report):
    advice = []
    backends = report["backends"]
    if not any(state["works"] for state in backends.values()):
        judges = report["packages"]["onnxruntime"] is not None
        still = " (scans can be judged, by onnxruntime)" if judges else ""
        advice.append(
            f"No backend works, so nothing can be trained{still}: {install('tensorflow')}"
        )
    for name, state in backends.items():
        if not state["installed"]:
            advice.append(f"For the {name} backend: {install(name)}")
        elif not state["works"]:
            advice.append(f"{name} is installed but does not start: {state['error']}")
        elif state["devices"] == ["cpu"] and Path("/proc/driver/nvidia/version").exists():
            extra = {"tensorflow": "cuda", "jax": "jax-cuda"}.get(name)
            hint = f": {install(extra)}" if extra else ""
            advice.append(f"{name} does not see the GPU of this machine{hint}")
    for name, extra in PACKAGES.items():
        if report["packages"][name] is None and extra == "training":
            advice.append(f"{name} is missing; it comes with every backend extra.")
    if not report["folders"]["keras_writable"]:
        advice.append("Keras cannot write its folder: set KERAS_HOME to one it can.")
    return advice


def _lines(report):
    yield f"stm-keras {report['stm_keras']}, Python {report['python']}, {report['system']}"
    yield f"cores     {report['cores']}"
    yield "packages  " + ", ".join(
        f"{name} {number}" if number else f"{name} missing"
        for name, number in report["packages"].items()
    )
    for name, state in report["backends"].items():
        default = " (default)" if name == report["default_backend"] else ""
        if state["works"]:
            text = f"{', '.join(state['devices'])}, {state['gflops']:.3g} GFLOP/s"
        else:
            text = "does not start" if state["installed"] else "not installed"
        yield f"backend   {name}{default}: {text}"
    works = {
        name: state["gflops"]
        for name, state in report["backends"].items()
        if state["works"]
    }
    if len(works) > 1:
        best = max(works, key=works.__getitem__)
        yield f"fastest   {best} multiplies matrices fastest here: {_ratios(works, best)}"
    for name, value in report["folders"].items():
        if not name.endswith("_writable"):
            yield f"folder    {name}: {value or 'not set'}"
    if report["advice"]:
        yield "What to do:"
        yield from (f"  - {text}" for text in report["advice"])
    else:
        yield "Nothing is missing."
