"""Measure what 256 pixels a line bring on simulated scans, and what they cost.

    python benchmarks/pixels.py --work runs/pixels --page docs/results.md

The same scans are simulated with 256 lines of 256 pixels, and brought to 128 as a scan file is
brought to the pixels of a model. Trees and a network are trained on both, with the same split and
seeds, and judge the same other scans, half of them large. A network that is trained already, in the
folder `--work`, is not trained again; `--only page` writes the page from benchmarks/pixels.json.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from adapt import write_page

from stm_keras.backend import import_keras, use_backend
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.data.resample import fit_heights
from stm_keras.evaluation import repeated
from stm_keras.evaluation.text import difference, score
from stm_keras.files import atomic
from stm_keras.scan import ROW_NM
from stm_keras.settings.models import TreesConfig
from stm_keras.simulate import SimulationConfig, simulate
from stm_keras.trees.features import scan_features
from stm_keras.trees.model import fit_trees

RESULTS = Path(__file__).with_suffix(".json")
SIZES = (128, 256)
SEEDS = (0, 1)
COUNTS = {"train": (1200, 61), "test": (1000, 62)}  # scans, and seed of the simulator
RANGES = {"p_tip_change": 0.1, "p_partial": 0.0, "p_large": 0.5}
LARGE_NM = ROW_NM * 128 / 9  # wider scans have rows of less than 9 pixels at 128 a line
TRAINED = 0.94  # of the scans; the rest calibrates
SPLIT = ("data.protocol=p1", f"data.fractions=[{TRAINED},{1 - TRAINED:.2f},0]")
NETWORKS = {  # config: what is set of it
    "quickstart": (
        *("model.width=8", "train.epochs=6"),
        *("train.batch_size=16", "train.learning_rate=2e-3"),
    ),
    "sequential": (
        *("train.init=none", "train.frozen=none", "simulate.share=0", "simulate.unknown=0"),
        *("train.refit=false", "train.calibration_folds=1", "train.epochs=8"),
    ),
}
REPEATS = 10  # passes that are timed
STEPS = 6
BEGIN, END = "<!-- pixels: written by benchmarks/pixels.py -->", "<!-- end of pixels -->"


def make_scans(folder):
    """Simulate scans of 256 pixels a line, bring them to 128, and write both as datasets."""
    for name, (count, seed) in COUNTS.items():
        if scans_of(folder, name, SIZES[0]).exists():
            continue
        config = SimulationConfig(size=max(SIZES), **RANGES)
        fine = replace(simulate(count, seed, config), line_labels=None, change_line=None)
        size = {"max_lines": SIZES[0], "pixels": SIZES[0]}
        coarse = np.stack([fit_heights(image, size).heights for image in fine.images])
        lines = np.full(count, SIZES[0])
        save_dataset(fine, scans_of(folder, name, SIZES[1]), overwrite=True)
        coarse = replace(fine, images=coarse, lines=lines)
        save_dataset(coarse, scans_of(folder, name, SIZES[0]), overwrite=True)


def scans_of(folder, name, size):
    return folder / f"{name}-{size}.h5"


def judged_by_trees(folder):
    """Fit the trees of `stm-keras train trees` on whole scans: answers and costs by pixels."""
    answers, costs = {}, {}
    for size in SIZES:
        train, test = (load_dataset(scans_of(folder, name, size)) for name in COUNTS)
        start = time.process_time()
        described = scan_features(train.images[:])
        models = [fit(described, train.labels, seed) for seed in SEEDS]
        spent = time.process_time() - start
        start = time.process_time()
        features = scan_features(test.images[:])
        answers[size] = np.stack([each.probabilities(features) for each in models])
        scan = (time.process_time() - start) / len(test)
        half = np.where(np.arange(size)[:, None] < size // 2, test.images[:1], 0)
        verdict = seconds(lambda: models[0].probabilities(scan_features(half)), REPEATS)  # noqa: B023
        costs[size] = {"training": spent, "verdict": verdict, "scan": scan}
    return answers, costs


def fit(described, labels, seed):
    names = ("iterations", "learning_rate", "leaves", "regularisation", "logistic")
    settings = TreesConfig()
    chosen = {name: getattr(settings, name) for name in names}
    weights = np.ones(len(labels))
    return fit_trees(described, labels, weights, seed, share=settings.features, **chosen)


def judged_by_network(name, folder):
    """Train a network, where that is not done yet: answers and costs by pixels."""

    def run_of(size, seed):
        return folder / f"{name}-{size}-{seed}"

    for seed in SEEDS:
        for size in SIZES:
            command = [sys.executable, "-m", "stm_keras", "train", name]
            command += ["--data", scans_of(folder, "train", size), "-o", run_of(size, seed)]
            settings = (*SPLIT, *NETWORKS[name], f"seed={seed}")
            command += [word for each in settings for word in ("--set", each)]
            subprocess.run([str(word) for word in command], check=True)
    import_keras()
    answers, costs = {}, {}
    for size in SIZES:
        images = load_dataset(scans_of(folder, "test", size)).images[:]
        models = [load_model(run_of(size, seed)) for seed in SEEDS]
        answers[size] = np.stack([each.probabilities(images) for each in models])
        costs[size] = network_cost(models[0], images[:32])
        costs[size]["bytes"] = (run_of(size, SEEDS[0]) / "best.keras").stat().st_size
    return answers, costs


def load_model(run):
    from stm_keras.inference.find_model import find_model
    from stm_keras.inference.model_file import load_predictor

    return load_predictor(find_model(run)[0])


def network_cost(predictor, images):
    """Return what a network takes, in seconds of processor time."""
    import keras

    predictor.model.compile(keras.optimizers.AdamW(0.0), "mse")  # of every output
    batch = predictor.prepare(images[:16])
    targets = predictor.model.predict_on_batch(batch)
    step = seconds(lambda: predictor.model.train_on_batch(batch, targets), STEPS)
    lines = images.shape[1] // 2
    return {
        "training": step / len(batch) * COUNTS["train"][0] * TRAINED,
        "verdict": seconds(lambda: predictor.logits(images[:1], lines), REPEATS),
        "scan": seconds(lambda: predictor.logits(images), 2) / len(images),
    }


def seconds(work, repeats):
    work()  # what is compiled, or read once
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def compare(folder, answers):
    """Score all scans, large ones and the others, with both numbers of pixels: dict."""
    test, compared = load_dataset(scans_of(folder, "test", SIZES[0])), {}
    width = test.parameters["scan_size_nm"]
    parts = {"all": width > 0, "large": width > LARGE_NM, "small": width <= LARGE_NM}
    for name, chosen in parts.items():
        labels, groups = test.labels[chosen], np.arange(chosen.sum())
        own = {size: each[:, chosen] for size, each in answers.items()}
        folds = repeated.Folds(np.zeros((len(SEEDS), len(labels)), int), groups, "")
        compared[name] = {
            "scans": len(labels),
            "scores": {
                size: scored(repeated.score_folds(labels, each, folds, test.classes))
                for size, each in own.items()
            },
            "difference": repeated.paired_difference(
                labels, own[SIZES[1]], own[SIZES[0]], groups
            ),
        }
    return compared


def scored(scores):
    keys = ("auroc", "balanced_accuracy")
    intervals = {key: scores["intervals"][key] for key in keys}
    return {key: scores[key] for key in keys} | {"intervals": intervals}


def page(measured):
    """Write what was measured as Markdown: str."""
    keys, rows, costs = ("auroc", "balanced_accuracy"), [], []
    for model, found in measured.items():
        for part, of in found["parts"].items():
            for size, scores in of["scores"].items():
                better = [difference(of["difference"][key]) for key in keys]
                better = better if int(size) == SIZES[1] else ["", ""]
                shown = [score(scores[key], scores["intervals"][key]) for key in keys]
                rows.append([model, f"{part}, {of['scans']}", size, *shown, *better])
        for size, of in found["costs"].items():
            times = [f"{1000 * of[key]:.1f}" for key in ("verdict", "scan")]
            file = f"{of['bytes'] / 1e6:.2f}" if "bytes" in of else "-"
            costs.append([model, size, f"{of['training']:.0f}", *times, file])
    heads = ["model", "scans", "pixels a line", "AUROC", "balanced accuracy"]
    heads += ["256 better by, AUROC", "by, balanced accuracy"]
    cost_heads = ["model", "pixels a line", "training, s", "verdict after half a scan, ms"]
    cost_heads += ["a scan of many, ms", "file, MB"]
    (train, _), (test, _) = COUNTS.values()
    text = [
        BEGIN,
        "## 256 pixels a line",
        "Simulated scans of 256 x 256, half of them 10 to 30 nm wide, against the same scans "
        f"brought to 128 x 128 as `predict` brings a file to a model: {train} to train on, the "
        f"same split and seeds for both, and {test} others that are judged. Large are those "
        f"whose rows are less than 9 pixels apart at 128 ({LARGE_NM:.1f} nm and wider). `trees` "
        "are those of `stm-keras train trees` on whole scans, which read spatial frequencies up "
        "to 48 periods over the width at 128 and 96 at 256, as do lattice, spectra and trees of "
        "`sequential`. Networks are those of `stm-keras train`: "
        + ", and ".join(
            f"`{name}` with {', '.join(settings)}"
            for name, settings in NETWORKS.items()
            if name in measured
        )
        + f". Means of {len(SEEDS)} seeds. Brackets: "
        "95 % intervals over resampled scans; differences are paired, on the same scans. Repeat "
        "with `python benchmarks/pixels.py --work runs/pixels --page docs/results.md`.",
        table(heads, rows),
        "What it costs, in processor time. Training is all of it for trees, that with another "
        "seed too, and the steps of one epoch for networks:",
        table(cost_heads, costs),
        END,
    ]
    return "\n\n".join(text) + "\n"


def table(heads, rows):
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


MODELS = {
    "trees": judged_by_trees,
    **{name: partial(judged_by_network, name) for name in NETWORKS},
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("runs/pixels"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--only", default=",".join(MODELS), help="models, or page")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    measured = {}
    if given.results.exists():
        measured = json.loads(given.results.read_text(encoding="utf-8"))
    if given.only != "page":
        use_backend()
        given.work.mkdir(parents=True, exist_ok=True)
        make_scans(given.work)
    for model in given.only.split(",") if given.only != "page" else ():
        answers, costs = MODELS[model](given.work)
        found = {"parts": compare(given.work, answers), "costs": costs}
        measured[model] = json.loads(json.dumps(found))  # keys as of a file: text
        with atomic(given.results, overwrite=True) as temporary:
            text = json.dumps(measured, indent=1, allow_nan=False) + "\n"
            temporary.write_text(text, encoding="utf-8")
    print(page(measured))
    if given.page:
        write_page(given.page, page(measured))
