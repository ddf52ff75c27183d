"""Folders of runs, benchmarks, sweeps and comparisons that were damaged, or made to harm.

Each file that stm-keras writes there and reads back becomes each of the things below, and each
command that reads it must answer, with one line where it cannot go on.
"""

import contextlib
import copy
import json
import os
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from compare_parts import made_up_folder, part
from helpers import ONCE, TINY, check_error, stm

from stm_keras.cli.main import main
from stm_keras.config import load_config
from stm_keras.data.load import load_dataset
from stm_keras.errors import InputError
from stm_keras.experiments.plan import make_sweep
from stm_keras.experiments.sweep import SweepFolder
from stm_keras.inference import evaluate
from stm_keras.runs import Run

pytestmark = ONCE
CODES = (0, 1, 2, 3, 4)
WRONG = (None, -1, "x", [], {})  # in the place of values, in turn
LOST = object()
DEEP = "[" * 100_000
TEXTS = (
    "",
    "[]",
    "5",
    "null",
    "{",
    '{"a": 1e999}',
    DEEP,
    '{"a":' * 100_000,
    "\x00",
    "\x1b[2J",
)
KINDS = ("fifo", "folder", "/dev/zero", "latin-1", *TEXTS)


def become(path, kind):
    """Put something else in the place of a file."""
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "/dev/zero":
        path.symlink_to(kind)
    elif kind == "latin-1":
        path.write_bytes("größe".encode("latin-1"))
    else:
        path.write_text(kind)


def values(table, place=()):
    """Yield the place of every value, of long lists and tables those of the first few."""
    yield place
    inner = table.items() if isinstance(table, dict) else ()
    inner = enumerate(table[:1]) if isinstance(table, list) else list(inner)[:7]
    for key, value in inner:
        yield from values(value, (*place, key))


def changed(table, place, value):
    """Return a copy with another value, or without it."""
    if not place:
        return value
    table = copy.deepcopy(table)
    inner = table
    for key in place[:-1]:
        inner = inner[key]
    if value is LOST:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return table


def mutants(path, inside=True):
    """Damage a file in many ways, and mend it again; yields what was done."""
    whole = path.read_bytes()
    try:
        for kind in KINDS:
            become(path, kind)
            yield kind[:20]
            shutil.rmtree(path) if kind == "folder" else path.unlink()
            path.write_bytes(whole)
        if inside and path.suffix == ".json":
            table = json.loads(whole)
            for number, place in enumerate(values(table)):
                for value in (WRONG[number % len(WRONG)], *([LOST] if place else ())):
                    path.write_text(json.dumps(changed(table, place, value)))
                    yield place, value
    finally:
        path.write_bytes(whole)


def offences(folder, names, commands, inside=True):
    """Return what commands did wrong over all mutants of files of a folder."""
    found = []
    for name in names:
        for mutant in mutants(folder / name, inside):
            for command in commands:
                result = CliRunner().invoke(main, list(map(str, command)))
                said = result.stderr.splitlines()
                errors = [line for line in said if line.startswith("Error: ")]
                fine = isinstance(result.exception, SystemExit | None)
                fine = fine and result.exit_code in CODES
                fine = fine and len(errors) == (result.exit_code != 0)
                fine = fine and all(len(line) < 1000 for line in said)
                if not fine:
                    told = result.exception if result.exit_code else said[-1:]
                    found.append((name, mutant, command[0], result.exit_code, repr(told)))
    return found


@pytest.fixture
def run(trained_run, tmp_path):
    return shutil.copytree(trained_run, tmp_path / "run")


def test_a_run(run, dataset_file):
    train = ["train", "--data", dataset_file, "--epochs", 2, *TINY, "-o", run]
    look = [["analyze", run], ["info", run, "--json"]]
    assert stm(*train).exit_code == 0
    assert not offences(run, ["evaluation.json", "config.toml"], look)
    names = ["evaluation.json", "split.json", "config.toml"]
    assert not offences(run, names, [train], inside=False)
    assert not offences(run, ["history.csv"], look)
    assert not offences(run, ["split.json"], [["audit", dataset_file, "--run", run]])


def test_a_run_that_training_goes_on_with(run, dataset_file):
    for name in ("evaluation.json", "report.html", "predictions.npz"):
        (run / name).unlink()
    path = run / "checkpoints" / "state.json"
    state = json.loads(path.read_text())
    passed = []
    for mutant in mutants(path):
        with contextlib.suppress(InputError):
            read = Run(run).read_json("checkpoints/state.json")
            same = read["weights"] in (None, state["weights"])
            if (
                not same
                or [row["epoch"] for row in read["rows"]] != [1, 2][: len(read["rows"])]
            ):
                passed.append(mutant)
    assert not passed
    (run / "config.toml").write_text(
        (run / "config.toml").read_text().replace("epochs = 2", "epochs = 3")
    )
    train = ["train", "--data", dataset_file, "--epochs", 3, *TINY, "-o", run]
    for kind in ("fifo", "\x89HDF\r\n"):
        become(run / "checkpoints" / state["weights"], kind)
        check_error(stm(*train), 3, f"{state['weights']}: ")


@pytest.fixture
def benchmark(tmp_path, dataset_file, monkeypatch):
    """Command that scores two folds, which are made up."""
    from stm_keras.data.split import split_dataset
    from stm_keras.experiments.plan import benchmark_runs
    from stm_keras.training.report import save_predictions

    config = tmp_path / "small.toml"
    config.write_text("")
    dataset = load_dataset(dataset_file)
    for fold in benchmark_runs([config], ["p1"], dataset, tmp_path / "runs", 2):
        run = Run.start(fold.path, load_config())
        split = split_dataset(dataset, "p1", fold=fold.fold, num_folds=2)
        run.write_json("split.json", {**split.to_json(), "dataset": dataset.digest()})
        test = split.parts["test"]
        said = np.eye(4)[dataset.labels[test]] * 0.8 + 0.05
        save_predictions(run, test, {128: said})
        facts = {"backend": "jax", "devices": ["cpu"], "precision": "float32"}
        run.write_json("environment.json", {**facts, "git": None, "seed": 0})
        run.write_json("evaluation.json", {"parameters": 7, "unknown": {"auroc": 0.9}})
        run.file("checkpoints").mkdir()
        rows = [{"epoch": 1, "seconds": 1.0}]
        run.write_json("checkpoints/state.json", {"weights": None, "rows": rows})
    command = [
        "benchmark",
        config,
        "--data",
        dataset_file,
        "--protocols",
        "p1",
        "--folds",
        2,
    ]
    command += ["--no-train", "--runs", tmp_path / "runs", "-o", tmp_path / "r.json"]
    result = stm(*command)
    assert result.exit_code == 0, result.stderr
    scores = json.loads((tmp_path / "r.json").read_text())[0]["all"]
    monkeypatch.setattr(
        evaluate, "score", lambda *words, **more: scores
    )  # which takes long
    return command


def test_a_benchmark(benchmark, tmp_path):
    run = tmp_path / "runs" / "small-p1-fold0"
    names = ["environment.json", "evaluation.json", "split.json", "checkpoints/state.json"]
    assert not offences(run, [*names, "config.toml", "predictions.npz"], [benchmark])


def test_the_results_of_a_benchmark(benchmark, tmp_path):
    path = tmp_path / "r.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([*rows, {**rows[0], "config": "older", "base": "small"}]))
    assert not offences(tmp_path, ["r.json"], [benchmark])


def test_a_sweep(tmp_path):
    folder = tmp_path / "sweep"
    sweep = make_sweep({"grid": {"train.weight_decay": (0.01, 0.05)}})
    SweepFolder(folder).start(sweep)
    names = SweepFolder(folder).write_jobs(sweep)
    (folder / "jobs.json").write_text(
        json.dumps([{"job": "1", "first": 0, "names": names}])
    )
    member = folder / "runs" / names[0]
    member.mkdir()
    (member / "history.csv").write_text("epoch,val_auroc,seconds\n1,0.5,1\n")
    scores = {"auroc": 0.5, "balanced_accuracy": 0.5}
    (member / "evaluation.json").write_text(json.dumps(scores))
    commands = [["analyze", folder], ["submit", folder, "--local", 1, "--dry-run"]]
    assert not offences(folder, ["sweep.json", "jobs.json", "config.toml"], commands)
    assert not offences(member, ["evaluation.json", "history.csv"], commands)


def test_a_search(tmp_path):
    folder = tmp_path / "search"
    space = {"train.weight_decay": {"low": 0.01, "high": 0.1}}
    SweepFolder(folder).start(make_sweep({"space": space, "seeds": 2}))
    (folder / "trials").mkdir()
    (folder / "trials" / "0000.json").write_text('{"train.weight_decay": 0.05}')
    assert not offences(folder, ["trials/0000.json", "sweep.json"], [["analyze", folder]])


@pytest.mark.parametrize(
    "text",
    [
        'seeds = 1000000000\n[grid]\n"seed" = [1]',
        "[grid]\n" + "\n".join(f'"train.a{n}" = [{"1, " * 99}]' for n in range(9)),
        "seeds = -1",
        "config = 5",
        'config = "/dev/zero"',
        "grid = 5",
        "sbatch = [[]]",
        "[space.a]\nlow = nan\nhigh = inf",
        "trials = 99999999999999999999",
    ],
    ids=range(9),
)
def test_a_sweep_file(tmp_path, text):
    path = tmp_path / "sweep.toml"
    path.write_text(text)
    result = CliRunner().invoke(
        main, ["submit", "--sweep", str(path), "-o", str(tmp_path / "s")]
    )
    assert result.exit_code in (2, 3), result.exception
    assert result.stderr.count("Error: ") == 1


def test_a_comparison(tmp_path):
    seeds = {
        "runs": {"0": {"auroc": 0.5, "balanced_accuracy": 0.4}},
        "failed": {},
        "epochs": 2,
    }
    loading = {"seconds": 1.0, "waited": 0.5}
    parts = [part("jax", scores=seeds, loading=loading), part("torch")]
    folder = made_up_folder(tmp_path / "one", parts).path
    names = ["plan.json", "material.json", "parts/jax.json"]
    merge = ["compare", "--join", folder, "-o", folder, "--json"]
    assert not offences(folder, names, [merge])
