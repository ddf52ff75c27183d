"""The `.skops` file of fitted trees: it holds arrays and names, and runs no code.

Python's own way to store scikit-learn models runs whatever the file says. skops writes
plain data, and names the types it would make before it makes one. Beside its own entries
the archive holds `stm_keras.json`, as a `.keras` file does.

scikit-learn walks through trees in C and trusts their arrays. So only arrays are taken from
a file, each looked at, and put into models that scikit-learn made here.
"""

import json
import re
import zipfile
from pathlib import Path

import numpy as np

from stm_keras.data.model_metadata import FORMAT, check_metadata
from stm_keras.errors import InputError, StmKerasError, require
from stm_keras.files import atomic
from stm_keras.trees.features import scan_features
from stm_keras.trees.model import Trees, fit_trees
from stm_keras.untrusted import open_archive, parse_json

METADATA, SCHEMA = "stm_keras.json", "schema.json"
PREPROCESSING = (
    "per line: least-squares straight line removed; then spectra and statistics of the "
    "scan in units of its robust standard deviation"
)
TRUSTED = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
GROWING = r"sklearn\.ensemble\._hist_gradient_boosting\."
PARTS = {  # what trees and a regression are made of: modules and classes, by skops' loaders
    "DictNode|JsonNode|ListNode|TupleNode|TypeNode": r"builtins\.[a-zA-Z]+",
    "NdArrayNode": r"numpy\.(ndarray|bool_?|u?int\d+|float\d+)",
    "RandomGeneratorNode": r"numpy\.random\._generator\.Generator",
    "LossNode": r"sklearn\._loss\._loss\.CyHalf(Binomial|Multinomial)Loss",
    "ObjectNode": r"sklearn\._loss\.(link\.(Interval|LogitLink|MultinomialLogit)"
    r"|loss\.Half(Binomial|Multinomial)Loss)"
    rf"|{GROWING}(binning\._BinMapper|gradient_boosting\.HistGradientBoostingClassifier)"
    rf"|{GROWING}predictor\.TreePredictor"
    r"|sklearn\.(linear_model\._logistic\.LogisticRegression|pipeline\.Pipeline)"
    r"|sklearn\.preprocessing\.(_data\.StandardScaler|_label\.LabelEncoder)",
}
WHAT = "a .skops file of `stm-keras train`"
MAX_SIZE = 512 * 2**20  # of all entries unpacked
LARGEST = 1e12  # of a number that is computed with
DUMMY = {  # how models are fitted whose arrays are then replaced
    "seed": 0,
    "iterations": 1,
    "learning_rate": 0.1,
    "leaves": 2,
    "regularisation": 1.0,
    "share": 1.0,
    "logistic": 1.0,
}


def save_trees(
    trees: Trees, path: str | Path, metadata: dict, overwrite: bool = False
) -> None:
    """Write trees and their metadata as one `.skops` file, whole or not at all.

    The metadata hold at least `classes`, `pixels` and `max_lines`.
    """
    skops = require("skops.io", "training")
    metadata = {"format": FORMAT, "preprocessing": PREPROCESSING, **metadata}
    parts = {"boosted": trees.boosted, "logistic": trees.logistic}
    with atomic(path, overwrite) as temporary:
        skops.dump(parts, temporary, compression=zipfile.ZIP_DEFLATED)
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(METADATA, json.dumps(metadata, indent=1, allow_nan=False))


def read_tree_metadata(path: str | Path) -> dict:
    """Read the metadata of a `.skops` file, without scikit-learn."""
    path = Path(path)
    with open_archive(path, WHAT, limit=MAX_SIZE) as archive:
        if not {METADATA, SCHEMA} <= set(archive.namelist()):
            raise InputError(f"{path}: is not a .skops file of stm-keras.")
        metadata = parse_json(archive.read(METADATA), f"{path}: {METADATA}")
    return check_metadata(metadata, path, f"{METADATA} is damaged")


def load_trees(path: str | Path) -> tuple[Trees, dict]:
    """Load the trees and metadata of a `.skops` file without running code from it.

    Raises:
        InputError: The file is missing, damaged, or asks for other types than trees
            are made of.
        MissingExtraError: skops is not installed.
    """
    path = Path(path)
    metadata = read_tree_metadata(path)
    skops = require("skops.io", "training")
    with open_archive(path, WHAT, limit=MAX_SIZE) as archive:
        schema = parse_json(archive.read(SCHEMA), f"{path}: {SCHEMA}", limit=64 << 20)
    unexpected = _unexpected_part(schema)
    if unexpected is not None:
        raise InputError(
            f"{path}: holds code, or a part that trees are not made of "
            f"({unexpected[:80]}). It was not loaded."
        )
    try:
        parts = skops.load(path, trusted=list(TRUSTED))
    except Exception as error:
        raise InputError(
            f"{path}: skops cannot load it ({_reason(error, metadata)})."
        ) from error
    try:
        return _rebuild(path, parts, metadata), metadata
    except StmKerasError:
        raise
    except Exception as error:  # a part of a part is missing, or of another shape
        raise InputError(
            f"{path}: the trees are damaged ({type(error).__name__}: "
            f"{_reason(error, metadata)})."
        ) from error


def _unexpected_part(node):
    """Return the name of a part of a schema that trees have not, or None."""
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if not {"__loader__", "__class__", "__module__"}.isdisjoint(each):
                name = f"{each.get('__module__')}.{each.get('__class__')}"
                loader = str(each.get("__loader__"))
                if not any(
                    re.fullmatch(loaders, loader) and re.fullmatch(names, name)
                    for loaders, names in PARTS.items()
                ):
                    return name
            each = list(each.values())
        if isinstance(each, list):
            waiting += [inner for inner in each if isinstance(inner, dict | list)]
    return None


def _rebuild(path, parts, metadata):
    """Fit two classifiers on dummy data, and give them the arrays of a file that fit."""
    from threadpoolctl import threadpool_limits

    ensemble = require("sklearn.ensemble", "training")
    pipeline = require("sklearn.pipeline", "training")
    kinds = {
        "boosted": ensemble.HistGradientBoostingClassifier,
        "logistic": pipeline.Pipeline,
    }
    if not isinstance(parts, dict) or {k: type(v) for k, v in parts.items()} != kinds:
        raise InputError(f"{path}: holds no trees and regression of stm-keras.")
    classes = len(metadata["classes"])
    labels = [np.asarray(each.classes_).tolist() for each in parts.values()]
    if labels != [list(range(classes))] * 2:
        raise InputError(f"{path}: the trees do not fit the metadata of the file.")
    count = scan_features(np.zeros((0, 2, metadata["pixels"]))).shape[1]
    dummy = np.zeros((2 * classes, count))
    labels = np.arange(len(dummy)) % classes
    with threadpool_limits(1):  # too little work to share
        made = fit_trees(dummy, labels, np.ones(len(dummy)), **DUMMY)
    each_round = len(made.boosted._predictors[0])
    boosted, ((_, scaler), (_, regression)) = parts["boosted"], parts["logistic"].steps
    if not all(len(stage) == each_round for stage in boosted._predictors):
        raise InputError(f"{path}: the trees do not fit the metadata of the file.")
    made.boosted._predictors = [
        [_checked_tree(path, tree, count) for tree in stage]
        for stage in boosted._predictors
    ]
    _copy(path, made.boosted, boosted, "_baseline_prediction")
    _copy(path, made.logistic[0], scaler, "mean_")
    _copy(path, made.logistic[0], scaler, "scale_", least=1 / LARGEST)
    made.logistic[0].var_ = made.logistic[0].scale_ ** 2
    for name in ("coef_", "intercept_"):
        _copy(path, made.logistic[-1], regression, name)
    return made


def _copy(path, target, source, name, least=-LARGEST):
    """Copy an array of numbers where one of its shape was."""
    values, wanted = getattr(source, name), getattr(target, name)
    fits = isinstance(values, np.ndarray) and values.dtype in ("f4", "f8")
    fits = fits and values.shape == wanted.shape
    if not fits or not ((values >= least) & (values <= LARGEST)).all():
        raise InputError(f"{path}: the trees are damaged (`{name}`).")
    setattr(target, name, values)


def _checked_tree(path, tree, features):
    """Return a tree whose nodes lead from the root to a leaf, by features that there are."""
    growing = require("sklearn.ensemble._hist_gradient_boosting.predictor", "training")
    nodes, wanted = tree.nodes, growing.PREDICTOR_RECORD_DTYPE
    if not isinstance(nodes, np.ndarray) or nodes.dtype != wanted or nodes.ndim != 1:
        raise InputError(f"{path}: the trees are damaged (other nodes).")
    leaf, indices = nodes["is_leaf"], np.arange(len(nodes))
    splits, own = nodes[leaf == 0], indices[leaf == 0]
    sides = [splits[name].astype(np.int64) for name in ("left", "right")]
    fits = len(nodes) > 0 and (leaf <= 1).all() and not nodes["is_categorical"].any()
    # each node but the first is the child of one before it
    fits = fits and np.array_equal(np.sort(np.concatenate(sides)), indices[1:])
    fits = fits and all((side > own).all() for side in sides)
    fits = (
        fits and ((splits["feature_idx"] >= 0) & (splits["feature_idx"] < features)).all()
    )
    numbers = [splits["num_threshold"], nodes["value"]]
    if not fits or not all((np.abs(each) <= LARGEST).all() for each in numbers):
        raise InputError(f"{path}: the trees are damaged (nodes that lead nowhere).")
    none = np.zeros((0, 8), np.uint32)  # of categories
    return growing.TreePredictor(np.ascontiguousarray(nodes), none, none)


def _reason(error, metadata):
    text = str(error).strip().split("\n")[0][:200]
    packages = ((metadata.get("training") or {}).get("environment") or {}).get("packages")
    version = (packages or {}).get("scikit-learn")
    return f"{text}; made with scikit-learn {version}" if version else text
