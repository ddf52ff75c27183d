"""Which model file is meant, and which scans of a dataset may score it."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from stm_keras.data.split import Split
from stm_keras.errors import InputError, UsageError, require
from stm_keras.inference.model_file import read_facts
from stm_keras.resources import resource_folder

DEFAULT = "h_si100"
FOLDER = resource_folder("shipped")

BEST = ("best.keras", "best.skops")  # of a run: a network, or trees


@dataclass(frozen=True)
class Choice:
    """Scans to score a model on.

    Args:
        indices: int array. Scans of the dataset.
        part: str. "test" or "all".
        protocol: str. "p1", "p2" or "p3".
        groups: int array of shape `(scans of the dataset,)`, or None.
    """

    indices: np.ndarray
    part: str
    protocol: str
    groups: np.ndarray | None = None


def find_model(path):
    """Return the model file meant by a path, and its run if it lies in one.

    Args:
        path: str or `Path`. A `.keras` or `.skops` file, the folder of a run, or the name
            of a shipped model.

    Returns:
        Tuple of `Path` and a `Run` or None.

    Raises:
        InputError: There is no such file.
    """
    path = Path(path)
    if path.is_dir():
        from stm_keras.runs import Run  # pydantic takes long to import

        run = Run.open(path)
        there = [run.file(name) for name in BEST if run.file(name).exists()]
        if not there:
            raise InputError(f"{path}: the run has no best.keras yet. Train it first.")
        return there[0], run
    if not path.exists() and path.name == str(path) and not path.suffix:
        return shipped_path(str(path)), None
    if not path.exists():
        raise InputError(
            f"{path}: no such file. Give a .keras file or the folder of a run."
        )
    if path.name not in BEST or not (path.parent / "config.toml").exists():
        return path, None
    from stm_keras.runs import Run

    return path, Run(path.parent)


def is_model(path):
    """Tell whether a path is meant as a model: the folder of a run, or a model file."""
    path = Path(path)
    return (path / "config.toml").exists() or (
        path.is_file() and path.suffix.lower() in (".keras", ".onnx", ".skops")
    )


def needs_keras(path):
    """Tell whether a model file is a network that Keras runs; trees and ONNX are not."""
    return Path(path).suffix not in (".onnx", ".skops")


def find_judge(model, keras_wanted=False):
    """Return the model file that judges scans, the one without Keras where there are two.

    Args:
        model: str or `Path`, as `find_model` takes it.
        keras_wanted: bool. Whether a backend or a device was asked for.

    Returns:
        `Path`.

    Raises:
        InputError: There is no such file.
        UsageError: A backend was asked for, and the model runs without.
        MissingExtraError: The model is a shipped one, and neither onnxruntime nor Keras
            is installed.
    """
    file, run = find_model(model)
    if keras_wanted and not needs_keras(file):
        raise UsageError(
            f"{file}: runs without Keras, so without backend or device. Leave "
            "`--backend` and `--device` out, or give a .keras file."
        )
    light = file.with_suffix(".onnx")
    named = run is None and str(model) == file.stem
    if keras_wanted or not named or not light.exists():
        return file
    if find_spec("onnxruntime") is None and find_spec("keras") is not None:
        return file
    require("onnxruntime", "onnx")
    return light


def choose_scans(dataset, run=None, part=None, protocol=None):
    """Choose the scans that may score a model.

    Args:
        dataset: A `Dataset`.
        run: The `Run` of the model, or None.
        part: str. "test" takes the test part of the run, "all" every complete scan
            with a single class. None takes the test part where there is one.
        protocol: str, or None for that of the run, else P2 where sessions are known.

    Returns:
        A `Choice`.

    Raises:
        UsageError: There is no test part, or it was made under another protocol.
    """
    from stm_keras.runs import SPLIT

    saved = run.read_json("split.json", SPLIT) if run else None
    same = saved is not None and saved.get("dataset") == dataset.digest()
    if part is None:
        part = "test" if same else "all"
    if part == "test":
        if saved is None:
            raise UsageError(
                "`--split test` needs the run of the model. Give the folder of the run, "
                "or --split all."
            )
        if not same:
            raise UsageError(
                "`--split test`: the data is not what the run was split on. Give that "
                "data, or --split all."
            )
        split = Split.from_json(saved, len(dataset))
        if protocol not in (None, split.protocol):
            raise UsageError(
                f"`--protocol {protocol}`: the run was split under {split.protocol}, and "
                "its model has seen scans of any other test part. Train under "
                f"--protocol {protocol}, or leave the option out."
            )
        return Choice(split.parts["test"], "test", split.protocol, split.groups)
    if protocol is None:
        protocol = "p1" if dataset.session is None else "p2"
    return Choice(np.flatnonzero(dataset.single_class()), "all", protocol)


@dataclass(frozen=True)
class Shipped:
    """A model that comes with stm-keras.

    Args:
        name: str. What `--model` takes.
        files: tuple of `Path`. The same network as `.keras` and for runtimes.
        facts: dict. What the `.keras` file says of itself.
        card: `Path` of the model card, or None.
    """

    name: str
    files: tuple
    facts: dict
    card: Path | None

    def to_json(self):
        """Return a dict of what `stm-keras models --json` prints."""
        training = self.facts.get("training", {})
        return {
            "name": self.name,
            "files": {path.suffix[1:]: path.stat().st_size for path in self.files},
            "classes": self.facts["classes"],
            "parameters": self.facts.get("parameters"),
            "scans": training.get("counts", {}).get("train"),
            "scores": self.facts.get("scores", {}),
            "card": None if self.card is None else str(self.card),
        }


def shipped_models(folder=None):
    """List the models that come with stm-keras, the default first.

    Args:
        folder: `Path`. Where they lie, None for where this package has them.

    Returns:
        list of `Shipped`.
    """
    found = []
    for path in sorted(Path(folder or FOLDER).glob("*.keras")):
        files = tuple(sorted(path.parent.glob(f"{path.stem}.*")))
        card = path.with_suffix(".md")
        files = tuple(file for file in files if file.suffix in (".keras", ".onnx"))
        found.append(
            Shipped(path.stem, files, read_facts(path), card if card.exists() else None)
        )
    return sorted(found, key=lambda model: (model.name != DEFAULT, model.name))


def shipped_path(name=DEFAULT, folder=None):
    """Return the `.keras` file of a shipped model.

    Args:
        name: str.
        folder: `Path`, None for where this package has them.

    Returns:
        `Path`.

    Raises:
        InputError: There is no such model.
    """
    path = Path(folder or FOLDER) / f"{name}.keras"
    if not path.exists():
        known = ", ".join(
            file.stem for file in sorted(Path(folder or FOLDER).glob("*.keras"))
        )
        raise InputError(
            f"{name}: no model of this name comes with stm-keras (there are: "
            f"{known or 'none in this installation'}). Give a .keras file or the folder of a "
            "run."
        )
    return path
