"""Measure `stm-keras adapt`, and write its tables into docs/results.md.

    python benchmarks/adapt.py --data scans.h5 --others others.h5 --page docs/results.md

(a) H:Si(100): few labels of sessions that the start model never saw, against trees alone, and
against networks that `stm-keras benchmark` trained on the same labels, from scratch and by the full
recipe, where their runs are in the folder `--runs` (docs/results.md has the command). (b) Kinds of
other surfaces. (c) Good or bad tip. What was measured is kept in benchmarks/adapt.json, so that the
page can be written anew without measuring: `--only page`.
"""

import argparse
import json
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from stm_keras.backend import import_keras, use_backend
from stm_keras.data.dataset import Dataset
from stm_keras.data.hdf5_arrays import open_file, values
from stm_keras.data.load import load_dataset
from stm_keras.data.split import split_dataset
from stm_keras.data.unknown_surfaces import read_unknown_surfaces
from stm_keras.evaluation import repeated
from stm_keras.evaluation.text import difference, score
from stm_keras.files import atomic
from stm_keras.inference.find_model import shipped_path
from stm_keras.inference.verdict import softmax
from stm_keras.settings.models import TreesConfig
from stm_keras.trees.features import scan_features
from stm_keras.trees.model import fit_trees, whole_and_partial

RESULTS = Path(__file__).with_suffix(".json")
START = "h_si100_simulated"  # no real scan trained it
SEEDS = (0, 1, 2)
FEW = 100  # labels: more are drawn once, for a draw of many says more and costs more
FOLDS = 5
KINDS = (
    "metal terrace",
    "molecules",
    "constant-height current",
    "graphite/HOPG",
    "AFM topography",
)
GOOD = ("individual atoms", "asymmetries/dimers")
BEGIN, END = "<!-- adapt: written by benchmarks/adapt.py -->", "<!-- end of adapt -->"
RIVALS = {  # of (a): name to the run of a size and fold, of `stm-keras benchmark`
    "from scratch": "sequential+scratch{size}-p2-fold{fold}",
    "the full recipe": "sequential+n{size}-p2-fold{fold}",
}
COMMAND = """\
stm-keras benchmark sequential --data scans.h5 --protocols p2 --backend jax \\
    --runs runs/few --only sequential+ --set train.refit=false \\
    --set train.epochs=2 --set train.steps_per_epoch=100 --set simulate.count=600"""
for few in (30, 100, 300):
    COMMAND += f""" \\
    --vary n{few}:data.labels={few},train.learning_rate=3e-4 \\
    --vary 'scratch{few}:data.labels={few},train.init=none,train.frozen=none,\
simulate.share=0,simulate.unknown=0,model.trees=0,data.soft_labels_trees="none"'"""


def cached_rows(cache, model, scans, groups):
    """Describe all scans by the start model, or read what an earlier measurement kept."""
    from stm_keras.training.adapt_features import describe_scans

    if cache is not None and cache.exists():
        with cache.open("rb") as file:
            return pickle.load(file)  # noqa: S301  our own file, of this very measurement
    told = lambda done, count: print(f"{done} of {count} described", flush=True)  # noqa: E731
    rows = describe_scans(model, scans, groups, told)[0]
    if cache is not None:
        cache.write_bytes(pickle.dumps(rows))
    return rows


def few_labels(dataset, rows, runs, sizes):
    """Measure (a): scores after all lines on the test folds of P2, by number of labels."""
    from stm_keras.training.adapt_head import fit_head
    from stm_keras.training.targets import draw_few

    settings = TreesConfig()
    described = scan_features(dataset.images)
    splits = [split_dataset(dataset, "p2", 0, fold, FOLDS) for fold in range(FOLDS)]
    groups = np.unique(dataset.session, return_inverse=True)[1]
    start = softmax(rows.start[:, -1])
    measured = {"start": scored(dataset, start[None], groups)}
    for size in sizes:
        seeds = SEEDS if size <= FEW else SEEDS[:1]
        answers = {
            name: np.full((len(seeds), len(dataset), rows.classes), np.nan)
            for name in ("adapt", "trees alone")
        }
        taken = time.process_time()
        for number, seed in enumerate(seeds):
            for split in splits:
                train, test = split.parts["train"], split.parts["test"]
                few = draw_few(dataset, train, size, seed)
                head = fit_head(rows.take(few), seed)
                answers["adapt"][number, test] = softmax(
                    head.logits(rows.take(test))[:, -1]
                )
                begun = whole_and_partial(dataset.images, few, settings.begun, seed)
                trees = trees_alone(begun, dataset.labels[few], settings)
                answers["trees alone"][number, test] = trees.probabilities(described[test])
        own = answers["adapt"]
        print(f"{size} labels: {time.process_time() - taken:.0f} s", flush=True)
        table = {name: scored(dataset, each, groups) for name, each in answers.items()}
        table["trees alone"] |= compared(dataset, own, answers["trees alone"], groups)
        repeats = np.repeat(start[None], len(seeds), 0)
        table["start as it is"] = measured["start"] | compared(
            dataset, own, repeats, groups
        )
        for name, form in RIVALS.items():
            found = rival(dataset, splits, own[:1], groups, runs, form, size)
            if found is not None:
                table[name] = found
        measured[str(size)] = table
    return measured


def rival(dataset, splits, own, groups, runs, form, size):
    """Compare with networks that were trained on the same labels; None without any run."""
    answers, done = np.full(own.shape, np.nan), []
    for fold, split in enumerate(splits):
        path = Path(runs) / form.format(size=size, fold=fold) / "predictions.npz"
        if path.is_file():
            with np.load(path) as file:
                assert np.array_equal(file["indices"], usable[split.parts["test"]])
                answers[0, split.parts["test"]] = file["probabilities"][-1]
            done.append(fold)
    if not done:
        return None
    there = np.flatnonzero(np.isfinite(answers[0, :, 0]))
    part = dataset.take(there)
    found = scored(part, answers[:, there], groups[there])
    return (
        found
        | compared(part, own[:, there], answers[:, there], groups[there])
        | {"folds": done}
    )


def trees_alone(described, labels, settings):
    """Fit the baseline as `stm-keras train trees` does, on few scans."""
    begun = described.shape[1] - 1
    return fit_trees(
        described.reshape(-1, described.shape[-1]),
        np.repeat(labels, 1 + begun),
        np.tile([max(begun, 1.0), *[1.0] * begun], len(labels)),
        seed=0,
        iterations=settings.iterations,
        learning_rate=settings.learning_rate,
        leaves=settings.leaves,
        regularisation=settings.regularisation,
        share=settings.features,
        logistic=settings.logistic,
    )


def scored(dataset, answers, groups):
    folds = repeated.Folds(np.zeros((len(answers), len(dataset)), int), groups, "")
    scores = repeated.score_folds(dataset.labels, answers, folds, dataset.classes)
    keys = ("auroc", "balanced_accuracy", "n")
    intervals = {key: scores["intervals"][key] for key in keys[:2]}
    return {key: scores[key] for key in keys} | {"intervals": intervals}


def compared(dataset, own, other, groups):
    found = repeated.paired_difference(dataset.labels, own, other, groups)
    return {"adapt is better by": found}


def adapted(dataset, start):
    """Adapt as a user would, and add trees alone on the same folds."""
    from stm_keras.training.adapt import adapt

    taken = time.process_time()
    result = adapt(dataset, start, START)
    seconds = time.process_time() - taken
    notes, scores = result.scores["adapted"], result.scores
    classes, settings = len(dataset.classes), TreesConfig()
    folds = repeated.repeated_folds(dataset.labels, dataset.session, classes)
    described = whole_and_partial(
        dataset.images, np.arange(len(dataset)), settings.begun, 0
    )
    answers = np.zeros((len(folds.number), len(dataset), classes))
    for repeat, train, judged in folds.parts():
        there = np.unique(dataset.labels[train], return_inverse=True)
        trees = trees_alone(described[train], there[1], settings)
        part = np.zeros((judged.sum(), classes))
        part[:, there[0]] = trees.probabilities(described[judged][:, 0])
        answers[repeat, judged] = part
    keys = ("auroc", "balanced_accuracy", "n")
    return {
        **{key: scores[key] for key in keys},
        "intervals": {key: scores["intervals"][key] for key in keys[:2]},
        "per_class": scores["per_class"],
        "class_intervals": scores["intervals"]["per_class"],
        "trees alone": scored(dataset, answers, folds.groups),
        "curve": notes["curve"],
        "doubts": notes["doubts"],
        "groups": notes["groups"],
        "seconds": seconds,
    }


def surfaces(path):
    """Return kinds of other surfaces as a dataset whose sessions are its groups."""
    surfaces_ = read_unknown_surfaces(path)
    with open_file(Path(path)) as file:
        group = values(Path(path), file, "group").astype(str)
    whole = surfaces_.part_of < 0
    kind, lines = surfaces_.kind[whole], surfaces_.lines[whole]
    used = np.flatnonzero(np.isin(kind, KINDS) & (lines == surfaces_.images.shape[1]))
    return Dataset(
        images=surfaces_.images[used],
        labels=np.array([KINDS.index(each) for each in kind[used]]),
        classes=KINDS,
        lines=lines[used],
        session=group[used],
        source=Path(path).name,
    )


def good_or_bad(dataset, count, seed):
    """Return scans with new labels: whether the tip resolves more than rows."""
    good = np.isin(dataset.labels, [dataset.classes.index(name) for name in GOOD])
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(dataset))[:count])
    part = dataset.take(chosen)
    labels = np.where(good[chosen], 0, 1)
    return replace(part, labels=labels, classes=("good tip", "bad tip"), votes=None)


def page(measured):
    """Write what was measured as Markdown: str."""

    def cells(part):
        return [
            score(part[k], part["intervals"][k]) for k in ("auroc", "balanced_accuracy")
        ]

    def table(heads, rows):
        lines = [heads, ["---"] * len(heads), *rows]
        return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

    rows = []
    for size, part in measured.get("a", {}).items():
        for name, scores in part.items() if size != "start" else ():
            better = scores.get("adapt is better by")
            keys = ("auroc", "balanced_accuracy")
            gains = [difference(better[k]) for k in keys] if better else ["", ""]
            done = scores.get("folds", range(FOLDS))
            shown = name if len(done) == FOLDS else f"{name}, folds {done}"
            rows.append([size, shown, *cells(scores), *gains])
    heads = ["labels", "method", "AUROC", "balanced accuracy"]
    gains = ["adapt better by, AUROC", "by, balanced accuracy"]
    parts = [
        BEGIN,
        "## A few labels of one's own: `stm-keras adapt`",
        f"Start: `{START}`, which no real scan trained. Brackets: 95 % intervals over resampled "
        "sessions (a, c) or groups (b); differences are paired, on the same scans. Repeat with "
        "`python benchmarks/adapt.py --data scans.h5 --others others.h5 --page "
        "docs/results.md`, after",
        f"```\n{COMMAND}\n```",
        f"(a) H:Si(100), test folds of P2, all lines; {len(SEEDS)} draws of the labels (one "
        f"of more than {FEW}), as even over the classes as there are scans. The full recipe is "
        "that of `sequential`, which begins with the same start and fits trees from 100 labels "
        "on, but for the last training (`train.refit`): it draws as many labels once more. From "
        "scratch is its network without start, simulated scans or trees. Both had the first "
        "draw, 200 batches of 16, and whole sessions without any of the labels to calibrate on, "
        "which `adapt` has not. Penalties of the last layer, and whether trees "
        "help, are chosen inside the labels.",
        table([*heads, *gains], rows),
    ]
    for key, title in (
        ("b", "(b) Kinds of other surfaces (`others.h5`, three groups or more each)"),
        (
            "c",
            "(c) Good or bad tip, 100 labels: individual atoms or asymmetries/dimers against "
            "the rest",
        ),
    ):
        if key not in measured:
            continue
        part = measured[key]
        rows = [["adapt", *cells(part)], ["trees alone", *cells(part["trees alone"])]]
        parts.append(
            f"{title}: {part['n']} scans of {part['groups']} groups, 5 x 5 folds, "
            f"{part['seconds']:.0f} s of processor time."
        )
        parts.append(table(["method", "AUROC", "balanced accuracy"], rows))
        limits = part["class_intervals"]
        parts.append(
            table(
                ["class", "scans", "AUROC", "recall"],
                [
                    [
                        name,
                        of["count"],
                        score(of["auroc"], limits[name]["auroc"]),
                        score(of["recall"], limits[name]["recall"]),
                    ]
                    for name, of in part["per_class"].items()
                ],
            )
        )
        parts += part["doubts"]
    return "\n\n".join([*parts, END]) + "\n"


def write_page(path, text):
    """Replace a section in a page, or add it at the end: its first and last line mark it."""
    path, (begin, *_, end) = Path(path), text.rstrip("\n").split("\n")
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    head, _, rest = before.partition(begin)
    tail = rest.partition(end)[2].lstrip("\n")
    with atomic(path, overwrite=True) as temporary:
        parts = head.rstrip("\n"), text.rstrip("\n"), tail.rstrip("\n")
        whole = "\n\n".join(part for part in parts if part) + "\n"
        temporary.write_text(whole, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data")
    parser.add_argument("--others")
    parser.add_argument("--runs", default="runs/few")
    parser.add_argument("--page")
    parser.add_argument("--only", default="abc", help="parts to measure, or page")
    parser.add_argument("--sizes", default="30,100,300", help="numbers of labels of (a)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument(
        "--cache", type=Path, help="keeps the features of (a) for next time"
    )
    given = parser.parse_args()
    measured = {}
    if given.results.exists():
        measured = json.loads(given.results.read_text(encoding="utf-8"))
    if given.only != "page":
        use_backend()
        import_keras()
        from stm_keras.inference.model_file import load_predictor
        from stm_keras.training import adapt_features

        start = load_predictor(shipped_path(START))
        whole = load_dataset(given.data)
        usable = np.flatnonzero(whole.single_class())
        scans = whole.take(usable)
    for part in given.only if given.only != "page" else "":
        if part == "a":
            groups = np.unique(scans.session, return_inverse=True)[1]
            model = adapt_features.StartModel.of(start, scans.classes, START)
            rows = cached_rows(given.cache, model, scans, groups)
            sizes = [int(each) for each in given.sizes.split(",")]
            new = few_labels(scans, rows, given.runs, sizes)
            measured["a"] = {**measured.get("a", {}), **new}
        elif part == "b":
            measured["b"] = adapted(surfaces(given.others), start)
        else:
            measured["c"] = adapted(good_or_bad(scans, 100, 0), start)
        with atomic(given.results, overwrite=True) as temporary:
            text = json.dumps(measured, indent=1, allow_nan=False) + "\n"
            temporary.write_text(text, encoding="utf-8")
    print(page(measured))
    if given.page:
        write_page(given.page, page(measured))
