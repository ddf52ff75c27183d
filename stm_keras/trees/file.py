"""The `.skops` file of fitted trees: it holds arrays and names, and runs no code.

Python's own way to store scikit-learn models runs whatever the file says. skops writes
plain data, and names the types it would make before it makes one. Beside its own entries
the archive holds `stm_keras.json`, as a `.keras` file does.
"""

import json
import zipfile
from pathlib import Path

from stm_keras.data.model_facts import FORMAT, check_facts
from stm_keras.errors import InputError, require
from stm_keras.files import atomic
from stm_keras.trees.model import Trees

FACTS = "stm_keras.json"
PREPROCESSING = (
    "per line: least-squares straight line removed; then spectra and statistics of the "
    "scan in units of its robust standard deviation"
)
TRUSTED = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
MAX_JSON = 16 * 2**20
MAX_SIZE = 512 * 2**20  # of all entries unpacked


def save_trees(trees, path, facts, overwrite=False):
    """Write trees and their facts as one `.skops` file, whole or not at all.

    Args:
        trees: `Trees`.
        path: str or `Path`, ending in `.skops`.
        facts: dict, JSON-ready, with at least `classes`, `pixels` and `max_lines`.
        overwrite: bool.

    Raises:
        OutputError: The file exists, or cannot be written.
        MissingExtraError: skops is not installed.
    """
    skops = require("skops.io", "training")
    facts = {"format": FORMAT, "preprocessing": PREPROCESSING, **facts}
    parts = {"boosted": trees.boosted, "logistic": trees.logistic}
    with atomic(path, overwrite) as temporary:
        skops.dump(parts, temporary, compression=zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(FACTS, json.dumps(facts, indent=1, allow_nan=False))


def read_tree_facts(path):
    """Read what a `.skops` file says of itself, without scikit-learn.

    Raises:
        InputError: The file is missing, damaged or not of stm-keras.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {item.filename: item.file_size for item in archive.infolist()}
            if FACTS not in entries or "schema.json" not in entries:
                raise InputError(f"{path}: is no .skops file of stm-keras.")
            if entries[FACTS] > MAX_JSON or sum(entries.values()) > MAX_SIZE:
                raise InputError(f"{path}: is too large to be true.")
            facts = json.loads(archive.read(FACTS))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Give a .skops file.") from None
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "not a .skops file, or cut short"
        raise InputError(f"{path}: cannot be read ({reason}).") from None
    except ValueError as error:
        raise InputError(f"{path}: {FACTS} is damaged ({error}).") from None
    return check_facts(facts, path, f"{FACTS} is damaged")


def load_trees(path):
    """Load a `.skops` file without running code from it.

    Args:
        path: str or `Path`.

    Returns:
        Tuple of `Trees` and dict of facts.

    Raises:
        InputError: The file is missing, damaged, or asks for other types than trees
            are made of.
        MissingExtraError: skops is not installed.
    """
    facts = read_tree_facts(path)
    skops = require("skops.io", "training")
    try:
        strange = sorted(set(skops.get_untrusted_types(file=path)) - set(TRUSTED))
        if strange:
            raise InputError(
                f"{path}: holds code, or a part that trees are not made of "
                f"({strange[0]}). It was not loaded."
            )
        parts = skops.load(path, trusted=list(TRUSTED))
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: skops cannot load it ({_reason(error, facts)})."
        ) from error
    _check_parts(path, parts, facts)
    return Trees(**parts), facts


def _check_parts(path, parts, facts):
    """Raise an `InputError` unless the file holds two classifiers of its classes."""
    ensemble = require("sklearn.ensemble", "training")
    pipeline = require("sklearn.pipeline", "training")
    kinds = {
        "boosted": ensemble.HistGradientBoostingClassifier,
        "logistic": pipeline.Pipeline,
    }
    if not isinstance(parts, dict) or {k: type(v) for k, v in parts.items()} != kinds:
        raise InputError(f"{path}: holds no trees and regression of stm-keras.")
    wanted = list(range(len(facts["classes"])))
    if any(list(each.classes_) != wanted for each in parts.values()):
        raise InputError(f"{path}: the trees do not fit what the file says of them.")


def _reason(error, facts):
    text = str(error).strip().split("\n")[0][:200]
    packages = facts.get("training", {}).get("environment", {}).get("packages", {})
    made = packages.get("scikit-learn")
    return f"{text}; made with scikit-learn {made}" if made else text
