"""Training on shards: as on one file, and exactly resumed within a pass."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import FEW_LINES, ONCE, REPOSITORY, logged, made_up_dataset, stm

from stm_keras.config import load_config
from stm_keras.data.load import save_dataset
from stm_keras.data.shard_writer import save_shards
from stm_keras.data.shards import ShardFiles, load_shards
from stm_keras.data.split import Split
from stm_keras.errors import UsageError
from stm_keras.runs import Run
from stm_keras.settings import AugmentConfig
from stm_keras.simulate import simulate
from stm_keras.training.batches import Batches
from stm_keras.training.run_data import split_once, split_run_data
from stm_keras.training.targets import TrainingSet, make_training_set
from stm_keras.training.train import train

pytestmark = ONCE  # no backend changes what is tested here

SMALL = [
    *("model.width=4", "train.batch_size=8", "train.epochs=5", "train.warmup_epochs=1"),
    *("train.steps_per_epoch=3", "augment.rotate=0.5", "seed=1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """96 scans of twelve sessions in shards of 10."""
    path = tmp_path_factory.mktemp("shards") / "scans"
    save_shards(made_up_dataset(96), path, shard_size=10)
    return path


def run_of(path, data, *settings):
    config = load_config(None, [*SMALL, f"data.path={data}", *settings])
    return config, Run.start(path, config)


def history(path):
    with (path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


# batches


def training_set():
    """Ten scans that noise tells apart."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (10, 6, 12)).astype("uint8")
    state = np.eye(3, dtype="float32")[np.arange(10) % 3]
    return TrainingSet(images, np.arange(10), state, np.ones(10, "float32"))


def read(batches, epoch):
    batches.set_epoch(epoch)
    return [batches[number] for number in range(len(batches))]


def digest(batches):
    return b"".join(array.tobytes() for batch in batches for array in batch)


def numbers(batches, epochs):
    """Read the places in the scans that epochs show, batch by batch."""
    shown = []
    batches.make = lambda number, order, batch: order[batch * 4 : batch * 4 + 4]
    for epoch in epochs:
        shown += read(batches, epoch)
    return shown


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7])
def test_epochs_of_some_batches_are_the_passes_cut_into_pieces(steps):
    whole = numbers(Batches(training_set(), 4, 0), range(8))
    pieces = numbers(Batches(training_set(), 4, 0, steps=steps), range(24 // steps))
    assert len(pieces) >= 21
    for one, other in zip(pieces, whole, strict=False):
        np.testing.assert_array_equal(one, other)
    for first in range(0, 24, 3):  # three batches of four are a pass over ten scans
        shown = np.concatenate(whole[first : first + 3])
        assert sorted(shown[:10].tolist()) == list(range(10))
        assert shown[10:].tolist() == shown[:2].tolist()
    assert not np.array_equal(np.concatenate(whole[:3]), np.concatenate(whole[3:6]))


def test_pixels_follow_from_pass_and_number_wherever_an_epoch_begins():
    augment = AugmentConfig(min_lines=2, noise=0.1)
    whole = Batches(training_set(), 4, 0, augment)
    flat = [pair for epoch in range(4) for pair in read(whole, epoch)]
    pieces = Batches(training_set(), 4, 0, augment, steps=5)
    assert len(pieces) == 5
    assert digest(read(pieces, 1)) == digest(flat[5:10])
    alone = Batches(training_set(), 4, 0, augment, steps=5)
    alone.set_epoch(1)
    np.testing.assert_array_equal(alone[3][0], flat[8][0])


def test_few_orders_of_passes_are_kept():
    batches = Batches(training_set(), 4, 0, steps=2)
    for epoch in range(30):
        read(batches, epoch)
        assert len(batches._orders) <= 2


def test_shards_give_the_batches_that_one_file_gives(folder):
    scans = simulate(40, 0)
    path = folder.parent / "simulated"
    save_shards(scans, path, shard_size=7)
    indices = np.flatnonzero(scans.single_class())
    for dataset in (scans, load_shards(path)):
        training_set = make_training_set(dataset, indices)
        heads = ("state", "change", "unknown")
        batches = Batches(training_set, 8, 0, AugmentConfig(), heads=heads)
        found = read(batches, 1)
        parts = [
            np.ascontiguousarray(a)
            for x, y, w in found
            for a in (x, *y.values(), *w.values())
        ]
        if dataset is scans:
            wanted = parts
    for one, other in zip(parts, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_batch_reads_its_own_scans_alone(folder, monkeypatch):
    dataset = load_shards(folder)
    read_bytes = []
    original = ShardFiles.read

    def spy(self, shard, place, size):
        read_bytes.append(size)
        return original(self, shard, place, size)

    scans = make_training_set(dataset, np.arange(96))
    monkeypatch.setattr(ShardFiles, "read", spy)
    batches = Batches(scans, 6, 0, threads=1)
    batches.make(0, batches.order(0), 0)
    assert len(read_bytes) == 6


# splits


def test_shards_without_sessions_are_split_one_by_one(tmp_path):
    save_shards(made_up_dataset(96, sessions=0), tmp_path / "scans", shard_size=50)
    config = load_config(None, [f"data.path={tmp_path / 'scans'}"])
    with logged() as said:
        split = split_run_data(config, load_shards(tmp_path / "scans"))
    assert split.protocol == "p1"
    assert said[0] == "The shards name no sessions, so scans are split one by one (p1)."


def test_p2_on_shards_without_sessions_is_refused(tmp_path, folder):
    save_shards(made_up_dataset(24, sessions=0), tmp_path / "scans", shard_size=50)
    given = [
        "train",
        "--data",
        tmp_path / "scans",
        "-o",
        tmp_path / "run",
        "--protocol",
        "p2",
    ]
    result = stm(*given)
    assert result.exit_code == 3
    assert "sessions are unknown" in result.stderr.splitlines()[-1]
    assert "use protocol p1" in result.stderr.splitlines()[-1]


def test_many_validation_scans_are_remarked(folder, monkeypatch):
    monkeypatch.setattr("stm_keras.training.run_data.MANY_SCANS", 10)
    with logged() as said:
        split_run_data(load_config(None, ["data.path=a"]), load_shards(folder))
    assert "validation scans are scored after every epoch. Fewer will do" in said[-1]


@pytest.mark.parametrize("listed", [0, 5])
def test_a_large_split_is_written_small_and_read_back(listed, monkeypatch):
    monkeypatch.setattr("stm_keras.data.split.LISTED", listed)
    parts = {
        "train": np.arange(3, 40, 3),
        "validation": np.array([0, 41]),
        "test": np.zeros(0, int),
    }
    saved = Split("p1", 0, None, parts, None, "note").to_json()
    assert isinstance(saved["parts"]["train"], str)
    for name, indices in Split.from_json(saved).parts.items():
        np.testing.assert_array_equal(indices, parts[name])


# whole runs


@pytest.fixture(scope="module")
def calm(tmp_path_factory, folder):
    """Folder of an undisturbed run on the shards, without report. Read only."""
    path = tmp_path_factory.mktemp("runs") / "calm"
    train(*run_of(path, folder))
    return path


def test_a_run_on_shards_is_that_on_one_file(tmp_path, calm):
    save_dataset(made_up_dataset(96), tmp_path / "scans.h5")
    train(*run_of(tmp_path / "one", tmp_path / "scans.h5"))
    assert history(calm) == history(tmp_path / "one")
    assert len(history(calm)) == 5


def test_a_run_judges_the_scans_of_its_shards(calm, folder, monkeypatch):
    monkeypatch.setattr("stm_keras.inference.evaluate.LINES_SEEN", FEW_LINES)
    result = stm("evaluate", calm, "--data", folder, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["split"] == "test"


def test_a_run_killed_within_a_pass_gives_the_same_history(
    tmp_path, folder, calm, monkeypatch
):
    words = [word for setting in SMALL for word in ("--set", setting)]
    command = ["train", "--data", str(folder), "-o", str(tmp_path / "killed"), *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "stm_keras", *command],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    rows = tmp_path / "killed" / "history.csv"
    deadline = time.monotonic() + 120
    while not rows.exists() or len(rows.read_text().splitlines()) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(history(tmp_path / "killed"))
    assert done < 5  # 3 of the 9 batches of a pass each: within the first or second
    monkeypatch.setattr("stm_keras.inference.evaluate.LINES_SEEN", FEW_LINES)
    result = stm(*command)
    assert result.exit_code == 0, result.stderr
    assert f"goes on after epoch {done}" in result.stderr
    assert history(tmp_path / "killed") == history(calm)


def test_other_shards_cannot_go_on_with_a_run(tmp_path, folder):
    config, run = run_of(tmp_path / "run", folder, "train.epochs=1")
    split_once(run, config, load_shards(folder))
    save_shards(made_up_dataset(96, seed=1), tmp_path / "other", shard_size=10)
    with pytest.raises(UsageError, match="the data is not what this run began with"):
        split_once(run, config, load_shards(tmp_path / "other"))
