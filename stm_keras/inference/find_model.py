"""Find the model file that is meant, and read its metadata, without Keras."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from stm_keras.data.model_metadata import check_metadata
from stm_keras.errors import InputError, UsageError, require
from stm_keras.inference.onnx_session import read_network
from stm_keras.resources import resource_folder
from stm_keras.trees.file import read_tree_metadata
from stm_keras.untrusted import open_archive, ordinary_file, parse_json

if TYPE_CHECKING:
    from stm_keras.runs import Run  # pydantic takes long to import

DEFAULT = "h_si100"
FOLDER = resource_folder("shipped")
GIVE_MODEL = "Give a .keras, .onnx or .skops file, or the folder of a run."
BEST = ("best.keras", "best.skops")  # of a run: a network, or trees
METADATA = (
    "stm_keras.json"  # the entry of a `.keras` file that is ours; the others are Keras'
)
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
ENTRIES = {METADATA, CONFIG, WEIGHTS, "metadata.json"}
WHAT = "a .keras file, or a run's best.keras"
EXPANDS = 16  # times at most, unpacked: weights hardly pack at all


def find_model(path: str | Path) -> "tuple[Path, Run | None]":
    """Return the model file meant by a path, and its run if it lies in one.

    Args:
        path: str or `Path`. A model file, the folder of a run, or the name of a shipped model.

    Raises:
        InputError: There is no such file.
    """
    path = Path(path)
    if path.is_dir():
        from stm_keras.runs import Run

        run = Run.open(path)
        files = [run.file(name) for name in BEST if run.file(name).exists()]
        if not files:
            raise InputError(f"{path}: the run has no best.keras yet. Train it first.")
        return files[0], run
    if not path.exists() and path.name == str(path) and not path.suffix:
        return shipped_path(str(path)), None
    if not path.exists():
        raise InputError(f"{path}: no such file. {GIVE_MODEL}")
    if path.name not in BEST or not (path.parent / "config.toml").exists():
        return path, None
    from stm_keras.runs import Run

    return path, Run(path.parent)


def runs_in(path: str | Path) -> list[Path]:
    """Return the finished runs of a folder of runs, such as folds; of any other path itself.

    Raises:
        InputError: The folder holds runs, and none of them has a model yet.
    """
    path = Path(path)
    if not path.is_dir() or (path / "config.toml").exists():
        return [path]
    runs = sorted(each.parent for each in path.glob("*/config.toml"))
    done = [run for run in runs if any((run / name).exists() for name in BEST)]
    if runs and not done:
        raise InputError(f"{path}: none of its {len(runs)} runs has a model yet.")
    return done or [path]


def is_model(path: Path) -> bool:
    """Tell whether a path is meant as a model: the folder of a run, or a model file."""
    path = Path(path)
    return (path / "config.toml").exists() or (
        path.is_file() and path.suffix.lower() in (".keras", ".onnx", ".skops")
    )


def is_shipped(path: str | Path) -> bool:
    """Tell whether a path is the name of a model that comes with stm-keras, and of no file."""
    path = Path(path)
    return (
        path.name == str(path) and not path.exists() and (FOLDER / f"{path}.keras").exists()
    )


def needs_keras(path: str | Path) -> bool:
    """Tell whether a model file is a network that Keras runs; trees and ONNX are not."""
    return Path(path).suffix not in (".onnx", ".skops")


def choose_model_file(model: str | Path, keras_wanted: bool = False) -> Path:
    """Return the model file to run, the one without Keras where a shipped model has two.

    Raises:
        InputError: There is no such file.
        UsageError: A backend or device was asked for, and the model runs without.
        MissingExtraError: The model is a shipped one, and neither onnxruntime nor Keras
            is installed.
    """
    file, run = find_model(model)
    if keras_wanted and not needs_keras(file):
        raise UsageError(
            f"{file}: runs without Keras, so without backend or device. Leave "
            "`--backend` and `--device` out, or give a .keras file."
        )
    exported = file.with_suffix(".onnx")
    is_shipped = run is None and str(model) == file.stem
    if keras_wanted or not is_shipped or not exported.exists():
        return file
    if find_spec("onnxruntime") is None and find_spec("keras") is not None:
        return file
    require("onnxruntime", "onnx")
    return exported


def read_metadata(path: str | Path) -> dict:
    """Read the metadata of a `.keras`, `.onnx` or `.skops` file.

    Returns:
        dict, empty for a file of another program.

    Raises:
        InputError: The file is missing, damaged or not a model file.
    """
    path = Path(path)
    if path.suffix == ".skops":
        return read_tree_metadata(path)
    if path.suffix == ".onnx":
        return read_network(path)[2]
    with open_keras_file(path) as archive:
        if METADATA not in archive.namelist():
            return {}
        metadata = parse_json(archive.read(METADATA), f"{path}: {METADATA}")
    return check_metadata(metadata, path, f"{METADATA} is damaged")


def model_text(path: Path, metadata: dict) -> str:
    """Write what matters of the metadata of a model file as lines of text."""
    if not metadata:
        return f"{path}: a network of another program, which says nothing of itself"
    training = metadata.get("training", {})
    name = training.get("config", {}).get("model", {}).get("name", "a network")
    weights = metadata.get("parameters")
    rows = {
        "classes": ", ".join(metadata["classes"]),
        "scans": f"up to {metadata['max_lines']} lines of {metadata['pixels']} pixels",
    }
    counts = training.get("counts", {})
    if counts:
        source = training.get("environment", {}).get("dataset", {}).get("source")
        numbers = ", ".join(f"{part} {count}" for part, count in counts.items())
        rows["trained on"] = f"{source or 'scans'} ({numbers})"
    best = training.get("best")
    if isinstance(best, dict):
        rows["best epoch"] = ", ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{value}"
            for key, value in best.items()
        )
    rows |= {
        f"scores, {kind}": f"{text}" for kind, text in metadata.get("scores", {}).items()
    }
    told = {"temperature": "confidence", "unsure": "unsure", "unknown": "unknown surfaces"}
    told |= {"change": "tip changes"}
    rows["tells"] = (
        ", ".join(text for key, text in told.items() if metadata.get(key)) or "-"
    )
    if metadata.get("min_lines"):
        rows["judges from"] = f"line {metadata['min_lines']} on"
    width = max(map(len, rows))
    lines = [f"{path}: {name}" + (f", {weights:,} weights" if weights else "")]
    return "\n".join([*lines, *(f"  {key:<{width}}  {text}" for key, text in rows.items())])


def answers_every_line(path: str | Path) -> bool:
    """Tell whether the network of a `.keras` file answers after every line.

    Raises:
        InputError: The file is missing, damaged or not a `.keras` file.
    """
    path = Path(path)
    with open_keras_file(path) as archive:
        config = parse_json(archive.read(CONFIG), f"{path}: {CONFIG}")
    inner = config.get("config") if isinstance(config, dict) else None
    outputs = inner.get("output_layers") if isinstance(inner, dict) else None
    return isinstance(outputs, dict) and "state" in outputs


@contextmanager
def open_keras_file(path: Path) -> Iterator[ZipFile]:
    """Open a `.keras` file that holds what one must, and nothing else."""
    packed = ordinary_file(path, WHAT).stat().st_size
    limit = EXPANDS * (packed + 2**20)
    with open_archive(path, WHAT, limit=limit) as archive:
        names = set(archive.namelist())
        missing = {CONFIG, WEIGHTS} - names
        if missing:
            raise InputError(f"{path}: is not a .keras file (no {min(missing)}).")
        if names - ENTRIES:
            strange = min(names - ENTRIES)[:80]
            raise InputError(f"{path}: is not a model of scans (it holds {strange!r}).")
        yield archive


@dataclass(frozen=True)
class Shipped:
    """A model that comes with stm-keras.

    Args:
        name: str. What `--model` takes.
        files: tuple of `Path`. The same network as `.keras` and `.onnx`.
        metadata: dict. The metadata of the `.keras` file.
        card: `Path` of the model card, or None.
    """

    name: str
    files: tuple
    metadata: dict
    card: Path | None

    def to_json(self) -> dict:
        """Return a dict as `stm-keras models --json` prints it."""
        training = self.metadata.get("training", {})
        return {
            "name": self.name,
            "files": {path.suffix[1:]: path.stat().st_size for path in self.files},
            "classes": self.metadata["classes"],
            "parameters": self.metadata.get("parameters"),
            "scans": training.get("counts", {}).get("train"),
            "scores": self.metadata.get("scores", {}),
            "card": None if self.card is None else str(self.card),
        }


def shipped_models(folder: Path | None = None) -> list[Shipped]:
    """List the models that lie in a folder, or come with stm-keras, the default first."""
    models = []
    for path in (folder or FOLDER).glob("*.keras"):
        files = (path, path.with_suffix(".onnx"))
        card = path.with_suffix(".md")
        models.append(
            Shipped(
                path.stem,
                tuple(file for file in files if file.exists()),
                read_metadata(path),
                card if card.exists() else None,
            )
        )
    return sorted(models, key=lambda model: (model.name != DEFAULT, model.name))


def shipped_path(name: str = DEFAULT, folder: Path | None = None) -> Path:
    """Return the `.keras` file of a shipped model.

    Args:
        name: str.
        folder: `Path`, None for where this package has them.

    Raises:
        InputError: There is no such model.
    """
    path = Path(folder or FOLDER) / f"{name}.keras"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.keras")))
        raise InputError(
            f"{name}: no model of this name comes with stm-keras (there are: "
            f"{known or 'none in this installation'}). {GIVE_MODEL}"
        )
    return path
