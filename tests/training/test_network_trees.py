"""Trees beside a trained network: fitted once, on what taught it, and kept in its file."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import ONCE, logged, made_up_dataset

from stm_keras.config import load_config
from stm_keras.data.load import save_dataset
from stm_keras.runs import Run
from stm_keras.training import calibrate
from stm_keras.training import network_trees as subject
from stm_keras.training.network_trees import add_trees
from stm_keras.training.run_data import split_once
from stm_keras.training.train import train

pytestmark = ONCE  # what a backend computes of trees: tests/layers and tests/models

SIZES = ["width=2", "units=8", "spectra=4", "lattice=4"]
SETTINGS = [f"model.{size}" for size in SIZES]
SETTINGS += ["train.epochs=1", "train.batch_size=8", "train.learning_rate=0.01"]
SETTINGS += ["augment.cut=0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "scans.h5"
    save_dataset(made_up_dataset(48), path)
    return path


def trained(folder, data, trees, *settings):
    """Train a tiny network, and return its run, its model and what was said."""
    pairs = [("model.name", "sequential"), ("data.path", str(data))]
    pairs += [tuple(each.split("=")) for each in (*SETTINGS, *settings)]
    config = load_config(None, [*pairs, ("model.trees", str(trees))])
    run = Run.start(folder, config)
    with run.locked(), logged() as said:
        predictor, _, _ = train(config, run)
    return run, predictor, said


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data):
    """The same network trained with trees and without: run, model, and what was said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "CHANGE_SCANS", 24)
        patch.setattr(subject, "FEWEST_SCANS", 20)
        folder = tmp_path_factory.mktemp("runs")
        yield trained(folder / "boosted", data, 4), trained(folder / "alone", data, 0)


def test_the_network_learns_as_if_there_were_no_trees(runs):
    (_, predictor, _), (_, alone, _) = runs
    for layer in alone.model.layers:
        for one, two in zip(
            layer.get_weights(),
            predictor.model.get_layer(layer.name).get_weights(),
            strict=True,
        ):
            np.testing.assert_allclose(one, two, atol=1e-5, err_msg=layer.name)
    assert predictor.metadata["parameters"] == predictor.model.count_params()
    assert predictor.metadata["parameters"] > alone.metadata["parameters"]


def test_trees_are_fitted_once_and_calibrated(runs, data):
    (run, predictor, said), _ = runs
    assert sum("Fitting trees" in text for text in said) == 1
    assert "temperature" in predictor.metadata
    before = run.file("best.keras").read_bytes()
    _, again, told = trained(run.path, data, 4)
    assert run.file("best.keras").read_bytes() == before
    assert not any("trees" in text for text in told)
    np.testing.assert_array_equal(
        predictor.model.get_layer("trees").leaves, again.model.get_layer("trees").leaves
    )


def test_trees_answer_beside_the_network(runs):
    (_, predictor, _), _ = runs
    scans = np.asarray(made_up_dataset(48).images[:16])
    both = predictor.outputs(scans)["state"]
    layer = predictor.model.get_layer("trees")
    kept = {name: np.asarray(getattr(layer, name)) for name in ("leaves", "start")}
    layer.set_trees({name: 0 * array for name, array in kept.items()})
    alone = predictor.outputs(scans)["state"]
    layer.set_trees(kept)
    assert np.abs(both - alone).max() > 0.05


def test_scans_teach_from_later_lines_and_from_their_end_too(monkeypatch):
    monkeypatch.setattr(subject, "STARTS", 2)
    heights = np.arange(2 * 5 * 3).reshape(2, 5, 3) ** 2.0
    heights[1, 4:] = 0
    found = list(subject.line_orders([5, 4], 5))
    assert [order[0].tolist() for order in found] == [
        [0, 1, 2, 3, 4],
        [4, 3, 2, 1, 0],
        [3, 4, -1, -1, -1],
        [1, 0, -1, -1, -1],
    ]
    assert [order[1].tolist() for order in found][2:] == [[3, *[-1] * 4], [0, *[-1] * 4]]
    np.testing.assert_array_equal(subject.reorder_lines(heights, found[0]), heights)
    later = subject.reorder_lines(heights, found[2])
    np.testing.assert_array_equal(later[0, :2], heights[0, 3:])
    assert not later[:, 2:].any()


def test_too_few_scans_get_no_trees(runs, monkeypatch):
    (boosted, _, _), (run, _, _) = runs
    monkeypatch.setattr(subject, "FEWEST_SCANS", 1000)
    dataset = made_up_dataset(48)
    config = boosted.config()
    before = run.file("best.keras").read_bytes()
    split = split_once(run, config, dataset)
    with logged() as said:
        add_trees(config, run, dataset, split)
    assert said[-1].startswith("No trees: there are ")
    assert said[-1].endswith(" training scans, and they need 1000.")
    assert run.file("best.keras").read_bytes() == before


class Found(Exception):
    """What was to be caught has been."""


@pytest.mark.parametrize(
    ("share", "voted", "of_votes"),
    [(None, True, False), (0.5, True, True), (0.5, False, False)],
)
def test_trees_may_learn_from_votes_where_the_network_learns_classes(
    runs, monkeypatch, share, voted, of_votes
):
    (boosted, _, _), (run, _, _) = runs
    dataset = made_up_dataset(48)
    rng = np.random.default_rng(0)
    dataset.votes[:, :4] += rng.integers(0, 2, (len(dataset), 4))
    if not voted:
        dataset = replace(dataset, votes=None)
    seen = []

    def describe(model, scans, prepare):
        seen.append(scans.state)
        raise Found

    monkeypatch.setattr(subject, "FEWEST_SCANS", 20)
    monkeypatch.setattr(subject, "tree_rows", describe)
    config = boosted.config()
    settings = config.data.model_copy(update={"soft_labels_trees": share})
    config = config.model_copy(update={"data": settings})
    split = split_once(boosted, config, made_up_dataset(48))
    with pytest.raises(Found), logged() as said:
        add_trees(config, run, dataset, split)
    assert any("no votes" in text for text in said) != voted
    assert (seen[0].max(1) < 0.999).any() == of_votes
