"""The models that come with stm-keras: which there are, and what they say of themselves."""

from dataclasses import dataclass
from pathlib import Path

from stm_keras.errors import InputError
from stm_keras.inference.model_file import read_facts
from stm_keras.resources import resource_folder

DEFAULT = "h_si100"
FOLDER = resource_folder("shipped")


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
