"""Whole files that fuzzing begins with: made-up ones of every kind, real ones where they are."""

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from helpers import REPOSITORY, SHARED, lattice_scans, made_up_dataset
from PIL import Image
from scan_files import (
    createc,
    gxsm4,
    ibw,
    jpk,
    matrix_counts,
    matrix_index,
    matrix_result,
    mul,
    nanoscope,
    netcdf3,
    nexus,
    nid,
    park,
    rhkpy_netcdf3,
    scala,
    spym_netcdf4,
    surface,
    sxm,
    tiff,
    wsxm,
)
from scipy.io import savemat

from stm_keras.config import config_names, dump_config, load_config
from stm_keras.data.dataset import CLASSES
from stm_keras.data.load import save_dataset
from stm_keras.data.shard_writer import save_shards
from stm_keras.data.split import split_dataset
from stm_keras.evaluation.scores import score_predictions
from stm_keras.resources import resource_folder

HEIGHTS = surface(16, 16)
COUNTS = np.round(HEIGHTS * 1e12).astype(int)
GREY = (COUNTS - COUNTS.min()).astype("u1")
MATRIX = "session--3_1.Z_mtrx"
MODELS = REPOSITORY / "models"
CASES = SHARED.parent / "cases"
LARGE = 2 << 20  # bytes
TABLE = "\n".join("\t".join(f"{value:.3g}" for value in row) for row in HEIGHTS)
POINTS = "\n".join(f"{x} {y} {HEIGHTS[y, x]:.3g}" for y in range(16) for x in range(16))


@dataclass(frozen=True)
class Seed:
    """A file, or files that belong together.

    Args:
        files: dict of path to bytes.
        start: str. What a command is given; "" for the folder.
        damaged: tuple of str. The files that are damaged, one a case; () for all.
    """

    files: dict
    start: str = ""
    damaged: tuple = ()


def written(name: str, write, folder: Path) -> Seed:
    """Return the seed of one file that a function of its path writes."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    return Seed({name: path.read_bytes()}, name)


def scans(folder: Path) -> dict:
    """Make up a scan file of each format that is read here; real ones where there are."""
    made = {name: write() for name, write in BYTES.items()}
    for name, write in WRITTEN.items():
        write(folder / "made")
        made[name] = (folder / "made").read_bytes()
    seeds = {name: Seed({"made": data}, "made") for name, data in made.items()}
    counted = scala(folder, "made", [(".tf0", "Z", "Forward", "nm", COUNTS)])
    numbers = counted.with_suffix(".tf0").read_bytes()
    both = {"made.par": counted.read_bytes(), "made.tf0": numbers}
    seeds["scala"] = Seed(both, "made.par")
    index = {MATRIX: matrix_result(matrix_counts([(COUNTS, COUNTS)] * 2), 4 * 256)}
    index["session_0001.mtrx"] = matrix_index(MATRIX, 16, 16)
    seeds["matrix"] = Seed(index, MATRIX)
    return seeds | _shared(
        lambda path: path.parent != SHARED and path.suffix not in CONVERTED_ONLY + NO_SCANS
    )


def converted(folder: Path) -> dict:
    """Make up a scan file of each format that Gwyddion's converter reads for us."""
    made = {
        ".mul": mul([(COUNTS, (100, 100), 1, 0.1, hour) for hour in range(3)]),
        ".tiff": park(COUNTS),
        ".jpk": jpk(COUNTS + 999, COUNTS + 999),
        ".stp": wsxm(COUNTS, {"Topography Bias": "1 V"}, {"Y scanning direction": "Up"}),
        ".000": nanoscope([("Height", ["Line Direction: Trace"], COUNTS)]),
    }
    seeds = {
        name: Seed({f"made{name}": data}, f"made{name}") for name, data in made.items()
    }
    return seeds | _shared(lambda path: path.suffix in CONVERTED_ONLY)


def datasets(folder: Path) -> dict:
    """Make up a small dataset in each way of keeping one."""
    data = made_up_dataset(8, sessions=2)
    plain = {"images": data.images, "labels": data.labels, "classes": np.array(CLASSES)}
    votes = np.repeat(np.eye(4)[data.labels], 128, axis=0)  # one of each line
    raw = {"x_raw": data.images.reshape(-1, 128).astype("f4"), "y": votes}
    seeds = {
        "hdf5": written("a.h5", lambda path: save_dataset(data, path), folder),
        "npz": written("a.npz", lambda path: np.savez_compressed(path, **plain), folder),
        "npz stored": written("b.npz", lambda path: np.savez(path, **plain), folder),
        "mat": written(
            "a.mat", lambda path: savemat(path, raw, do_compression=True), folder
        ),
        "mat stored": written("b.mat", lambda path: savemat(path, raw), folder),
        "matlab": written("c.mat", lambda path: _matlab(path, raw), folder),
    }
    rows = ["file,label,session"]
    for number, image in enumerate(data.images[:4]):
        (folder / "p").mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / "p" / f"{number}.png")
        rows.append(f"{number}.png,{CLASSES[data.labels[number]]},day {number % 2}")
    (folder / "p" / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    seeds["pictures"] = Seed(_tree(folder / "p"))
    seeds["table"] = Seed(_tree(folder / "p"), "labels.csv", ("labels.csv",))
    save_shards(data, folder / "shards", shard_size=4)
    seeds["shards"] = Seed(_tree(folder / "shards"))
    return seeds | _shared(
        lambda path: path.parent in (SHARED, CASES / "hostile") and path.suffix in DATASETS
    )


def indexes(folder: Path) -> dict:
    """Make up the JSON of a folder of shards."""
    save_shards(made_up_dataset(4, sessions=0), folder / "json", shard_size=2)
    return {"shards": Seed(_tree(folder / "json"), "", ("shards.json",))}


def configs(folder: Path) -> dict:
    """Take the configs that come with stm-keras, short and written out."""
    made = {}
    for name in config_names():
        short = (resource_folder("configs") / f"{name}.toml").read_bytes()
        made |= {name: short, f"{name} whole": dump_config(load_config(name)).encode()}
    return {name: Seed({"a.toml": data}, "a.toml") for name, data in made.items()}


def settings(folder: Path) -> dict:
    """Take a setting of each kind, as `--set`, `--grid` and `--space` get them."""
    text = dump_config(load_config("vit"))
    pairs, section = [], ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif line:
            pairs.append(section + line.replace(" = ", "=", 1))
    return {"settings": Seed({"a": "\n".join(pairs).encode()}, "a")}


def plans(folder: Path) -> dict:
    """Make up the plan of a grid and that of a search."""
    grid = 'config = "vit"\ndata = "scans.h5"\nseeds = 2\nsettings = ["seed=1"]\n[grid]\n'
    grid += '"train.epochs" = [1, 2]\nbackend = ["jax", "torch"]\n'
    space = 'trials = 3\nsampler = "tpe"\nconcurrent = 2\nsbatch = ["--gres=gpu:1"]\n'
    space += '[space."train.learning_rate"]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n'
    made = {"grid": grid.encode(), "space": space.encode()}
    return {name: Seed({"a.toml": data}, "a.toml") for name, data in made.items()}


def facts(folder: Path) -> dict:
    """Take what the shipped models say of themselves."""
    made = {}
    for path in sorted(MODELS.glob("*.keras")):
        with zipfile.ZipFile(path) as archive:
            made[path.stem] = archive.read("stm_keras.json")
    return {name: Seed({"facts.json": data}, "facts.json") for name, data in made.items()}


def runs(folder: Path) -> dict:
    """Make up the folder of a run that is finished."""
    data = made_up_dataset(96, sessions=12)
    draw = np.random.default_rng(0)
    guessed = draw.dirichlet(np.ones(4), 96)
    guessed = {"by_lines": {16: guessed}, "groups": data.session, "resamples": 20}
    scores = score_predictions(data.labels, guessed["by_lines"][16], CLASSES, **guessed)
    scores |= {"protocol": "p2", "split": "test"}
    split = {"dataset": data.digest(), **split_dataset(data, "p2").to_json()}
    rows = ["epoch,loss,auroc,val_loss,val_auroc,learning_rate,seconds"]
    rows += [f"{n},{1 / n:.3g},0.{n},{2 / n:.3g},0.{n},0.001,1.5" for n in range(1, 9)]
    files = {
        "config.toml": dump_config(load_config("cnn_small")),
        "split.json": json.dumps(split),
        "evaluation.json": json.dumps(scores),
        "history.csv": "\n".join(rows) + "\n",
    }
    files = {name: text.encode() for name, text in files.items()}
    files["best.keras"] = _bare_keras()
    return {"run": Seed(files)}


def keras(folder: Path) -> dict:
    """Take the smallest network that comes with stm-keras."""
    return _model("h_si100_small.keras")


def onnx(folder: Path) -> dict:
    """Take the smallest network that comes with stm-keras, for ONNX Runtime."""
    return _model("h_si100_small.onnx")


def skops(folder: Path) -> dict:
    """Fit trees to noise."""
    from stm_keras.trees.features import scan_features
    from stm_keras.trees.file import save_trees
    from stm_keras.trees.model import fit_trees

    labels = np.arange(40) % 4
    features = scan_features(lattice_scans(labels))
    names = ("seed", "iterations", "learning_rate", "leaves", "regularisation", "share")
    made = dict(zip((*names, "logistic"), (0, 3, 0.3, 4, 1.0, 0.5, 0.1), strict=True))
    trees = fit_trees(features, labels, np.ones(40), **made)
    known = {"classes": list(CLASSES), "pixels": 128, "max_lines": 128}
    return {"trees": written("a.skops", lambda p: save_trees(trees, p, known), folder)}


def _model(name):
    return {Path(name).stem: Seed({name: (MODELS / name).read_bytes()}, name)}


def _bare_keras():
    """Return a .keras file without its weights: of a run, its facts are looked at."""
    out = io.BytesIO()
    whole = zipfile.ZipFile(MODELS / "h_si100_small.keras")
    with whole as archive, zipfile.ZipFile(out, "w") as bare:
        for name in ("config.json", "stm_keras.json"):
            bare.writestr(name, archive.read(name))
        bare.writestr("model.weights.h5", b"")
    return out.getvalue()


def _tree(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _shared(wanted):
    """Take real files, and such that were faults, where they are here."""
    folders = (SHARED, SHARED / "spm", CASES / "scan_files", CASES / "hostile")
    paths = [path for folder in folders for path in sorted(folder.glob("*"))]
    return {
        f"shared {path.name}": Seed({path.name: path.read_bytes()}, path.name)
        for path in paths
        if path.is_file() and path.stat().st_size < LARGE and wanted(path)
    }


def _stream(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _gwyddion(path):
    import gwyfile.objects as gwy

    field = gwy.GwyDataField(HEIGHTS, 1e-9, 1e-9, si_unit_xy="m", si_unit_z="m")
    mask = gwy.GwyDataField(HEIGHTS * 0)
    meta = gwy.GwyContainer({"Bias": "1.5 V"})
    content = {"/0/data": field, "/0/mask": mask, "/0/meta": meta, "/0/data/title": "Z up"}
    gwy.GwyContainer(content).tofile(str(path))


def _hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("FW_Z", data=HEIGHTS, compression="gzip", chunks=(8, 8))
        file["group/BW_Z"] = HEIGHTS
        file.attrs["bias"] = "1.5 V"


def _matlab(path, arrays):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = array.T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")


DATASETS = (".h5", ".npz", ".mat")
NO_SCANS = (".md", ".keras", ".onnx", ".skops", ".toml", ".json")
CONVERTED_ONLY = (".sm4", ".top", ".stp", ".mul", ".jpk", ".tiff", ".000")
WRITTEN = {
    "gxsm": lambda path: netcdf3(path, COUNTS),
    "gxsm 4": lambda path: gxsm4(path, COUNTS),
    "gwyddion": _gwyddion,
    "hdf5": _hdf5,
    "nexus": lambda path: nexus(path, HEIGHTS, HEIGHTS),
    "netcdf": lambda path: rhkpy_netcdf3(path, HEIGHTS, HEIGHTS),
    "netcdf 4": lambda path: spym_netcdf4(path, HEIGHTS, HEIGHTS),
}
BYTES = {
    "nanonis": lambda: sxm({"Z": ("m", HEIGHTS, HEIGHTS), "Current": ("A", HEIGHTS, None)}),
    "createc": lambda: createc([HEIGHTS * 1e14] * 4, Channelselectval=3),
    "createc 16": lambda: createc([COUNTS] * 2, version="eter", Channelselectval="0x3"),
    "nanosurf": lambda: nid(COUNTS, COUNTS),
    "gsf": lambda: (
        b"Gwyddion Simple Field 1.0\nXRes = 16\nYRes = 16\nXReal = 1e-9\nYReal = 1e-9\n"
        b"XYUnits = m\nZUnits = m\n\0" + HEIGHTS.astype("<f4").tobytes()
    ),
    "igor": lambda: ibw(np.stack([HEIGHTS, HEIGHTS], 2), labels=("ZTrace", "ZRetrace")),
    "npy": lambda: _stream(lambda file: np.save(file, HEIGHTS)),
    "npz": lambda: _stream(lambda file: np.savez_compressed(file, Z=HEIGHTS, bias_V=1.0)),
    "mat": lambda: _stream(lambda file: savemat(file, {"Z": HEIGHTS, "slow": "up"})),
    "packed mat": lambda: _stream(
        lambda file: savemat(file, {"Z": HEIGHTS}, do_compression=True)
    ),
    "png": lambda: _stream(lambda file: Image.fromarray(GREY).save(file, "PNG")),
    "tiff": lambda: _stream(
        lambda file: Image.fromarray(HEIGHTS.astype("f4")).save(file, "TIFF")
    ),
    "deep tiff": lambda: tiff([{273: HEIGHTS}]),
    "jpeg": lambda: _stream(lambda file: Image.fromarray(GREY).save(file, "JPEG")),
    "text": lambda: (
        "# Channel: Z\n# Width: 1 nm\n# Height: 1 nm\n# Value units: m\n" + TABLE
    ).encode(),
    "points": lambda: POINTS.encode(),
}
