"""Bring together what a run is trained on: scans, their split, and what one needs to repeat it."""

import logging
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

import stm_keras
from stm_keras.data.load import load_dataset
from stm_keras.data.split import Split, split_dataset
from stm_keras.errors import DatasetError, UsageError
from stm_keras.inference.context import fit_context
from stm_keras.training.finished import OTHER_DATA, data_stamp

MANY_SCANS = 50_000  # for validation; more take long and make scores no more certain
COMPUTE = re.compile(  # variables that change numbers, or how many threads round them
    r"(JAX|XLA|TORCH|TORCHDYNAMO|TORCHINDUCTOR|PYTORCH|ATEN|TRITON|CUBLAS|CUBLASLT|CUDNN|NCCL|"
    r"MIOPEN|ROCBLAS|HIPBLASLT|DNNL|ONEDNN|MKL|OMP|GOMP|KMP|OPENBLAS|BLIS|VECLIB|NPY|"
    r"TF_(DETERMINISTIC|CUDNN|ENABLE|DISABLE|XLA|NUM|GPU|CPU|USE|OVERRIDE))_\w+"
    r"|NVIDIA_TF32_OVERRIDE|PYTHONHASHSEED"
)
PRIVATE = re.compile(r"(DIR|HOME|PATH|FILE|CACHE|ADDRESS|HOST|PORT|TOKEN|KEY|SECRET)$")
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "h5py", "scikit-learn", "skops")

logger = logging.getLogger(__name__)


def load_run_data(config):
    """Load the `Dataset` of a run, or simulate it where no data is given."""
    if config.data.path is not None:
        return load_dataset(config.data.path)
    logger.info("No --data given: the scans are simulated.")
    return simulated_scans(config)


def simulated_scans(config, size=None):
    """Simulate the `Dataset` that a config asks for, with a label for each line.

    `size` is that of the scans that they lie beside; None for `simulate.size`.
    """
    from stm_keras.simulate import SimulationConfig, simulate

    settings = config.simulate
    logger.info(f"Simulating {settings.count} scans, seed {settings.seed}.")
    names = ("p_tip_change", "p_partial", "p_medium", "p_large")
    drawn = {name: getattr(settings, name) for name in names}
    ranges = SimulationConfig(size=size or settings.size, **drawn)
    workers = min(os.cpu_count() or 1, 8)
    return simulate(settings.count, settings.seed, ranges, workers=workers)


def split_once(run, config, dataset):
    """Split the scans, or read how they were split when the run started."""
    digest = dataset.digest()
    saved = run.read_json("split.json")
    if saved is not None:
        if saved["dataset"] != digest:
            raise UsageError(OTHER_DATA.format(run.path))
        return Split.from_json(saved, len(dataset))
    split = split_run_data(config, dataset)
    stamp = None if config.data.path is None else data_stamp(config.data.path)
    about = {"dataset": digest, "stamp": stamp}
    run.write_json("split.json", {**split.to_json(), **about})
    return split


def split_run_data(config, dataset):
    """Split a dataset under the protocol asked for, or the one that fits it.

    By default: P2 where sessions are known; P1 for simulated scans, which are all
    independent; else P2 over groups of duplicates, with a message. Shards without
    sessions, too many to look for duplicates in, are split by P1.
    """
    protocol, groups = config.data.protocol, None
    sharded = hasattr(dataset.images, "select")
    if protocol is None and sharded and dataset.session is None:
        protocol = "p1"
        logger.info("The shards name no sessions, so scans are split one by one (p1).")
    if protocol is None:
        protocol = "p1" if config.data.path is None else "p2"
    if protocol == "p2" and dataset.session is None and not sharded:
        logger.info(
            "The data names no sessions, so scans are grouped by likeness: duplicates stay "
            "in one part. Scores may still be optimistic; add a `session` array."
        )
        from stm_keras.data.duplicates import find_duplicates

        groups = find_duplicates(dataset.images, dataset.lines).groups
    try:
        names = ("fold", "num_folds", "fractions")
        settings = {name: getattr(config.data, name) for name in names}
        settings |= {"protocol": protocol, "seed": config.seed, "groups": groups}
        split = split_dataset(dataset, **settings)
    except DatasetError as error:
        if config.data.path is not None:
            raise
        raise DatasetError(
            f"{config.simulate.count} simulated scans cannot be split ({error}) Raise "
            "`simulate.count`."
        ) from None
    logger.info(f"Split: {split.note}.")
    if len(split.parts["validation"]) > MANY_SCANS:
        logger.info(
            f"{len(split.parts['validation'])} validation scans are scored after every epoch. "
            "Fewer will do: --set data.fractions=[0.98,0.01,0.01]."
        )
    return split


def describe_environment(config, dataset):
    """Collect what one needs to repeat a run: versions, devices, git state, data, seed.

    Variables that change what libraries compute are listed too, whether or not they matter
    to the backend in use: its config names none of them. The dict is JSON-ready.
    """
    if config.model.name == "trees":
        backend, devices, precision = "scikit-learn", ["cpu"], "float64"
    else:
        import keras

        from stm_keras.backend import devices as list_devices

        backend, devices = keras.config.backend(), list_devices()
        precision = config.train.precision
    sessions = None if dataset.session is None else len(np.unique(dataset.session))
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "stm_keras": stm_keras.__version__,
        "git": git_state(),
        "backend": backend,
        "devices": devices,
        "precision": precision,
        "host": platform.node(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": {name: text for name in PACKAGES if (text := _version(name))},
        "variables": {
            name: value
            for name, value in sorted(os.environ.items())
            if COMPUTE.fullmatch(name) and not PRIVATE.search(name)
        },
        "seed": config.seed,
        "dataset": {
            "source": dataset.source,
            "scans": len(dataset),
            "sha256": dataset.digest(),
            "sessions": sessions,
        },
    }


def training_metadata(config, dataset, split, environment, trained):
    """Collect what a model file says of how it was trained, on how many scans: a dict."""
    counts = {name: len(indices) for name, indices in split.parts.items()}
    context = None
    if dataset.session is not None:
        context = fit_context(dataset, np.unique(dataset.session[split.parts["train"]]))
    return {
        "classes": list(dataset.classes),
        "pixels": int(dataset.images.shape[2]),
        "max_lines": int(dataset.images.shape[1]),
        "training": {
            "config": config.model_dump(),
            "environment": environment,
            "counts": {**counts, "taught": trained},
        },
        **({} if context is None else {"context": context}),
    }


def git_state():
    """Return commit and "+changes" of the checkout this package runs from, or None.

    An installed package may lie in an environment inside somebody's own repository:
    that commit is not ours, so git must know this very file.
    """
    file = Path(__file__)
    try:
        _git(file.parent, "ls-files", "--error-unmatch", file.name)
        text = _git(file.parent, "describe", "--always", "--abbrev=12", "--dirty=+changes")
    except (OSError, subprocess.SubprocessError):
        return None
    return text or None


def _git(folder, *words):
    return subprocess.run(
        ["git", *words],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=10,
        check=True,
    ).stdout.strip()


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
