"""A few labels: a new last layer on a frozen network, the same in the file as in the folds."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import lattice_scans, made_up_dataset
from streaming import shaken

from stm_keras.errors import DatasetError, MismatchError
from stm_keras.evaluation import repeated
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.models import sequential
from stm_keras.training import adapt_head
from stm_keras.training.adapt import adapt, usable_scans
from stm_keras.training.adapt_features import StartModel, describe_scans
from stm_keras.training.adapt_head import fit_head

pytest.importorskip("sklearn")

LINES, PIXELS = 64, 32
CONFIG = {"width": 4, "units": 8, "spectra": 8, "lattice": 0, "trees": 2}
CLASSES = ("individual atoms", "asymmetries/dimers", "rows", "generic defects")


def facts(config):
    """Metadata of a tiny model that was trained on simulated scans."""
    training = {"name": "tiny", "model": {"name": "sequential", **config}, "data": {}}
    return {
        "classes": list(CLASSES),
        "pixels": PIXELS,
        "max_lines": LINES,
        "input": "scaled",
        "change": {"threshold": 0.9},
        "training": {"config": training},
    }


def start_model(**changes):
    config = {**CONFIG, **changes}
    return KerasPredictor(shaken(sequential(4, PIXELS, LINES, **config)), facts(config))


def scans(count=24, sessions=6, seed=0, **changes):
    images = lattice_scans(np.arange(count) % 4, seed, LINES, PIXELS)
    fields = {"images": images, "lines": np.full(count, LINES), **changes}
    return made_up_dataset(count, sessions, voted=False, **fields)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(repeated, "RESAMPLES", 40)
    monkeypatch.setattr(adapt_head, "ROUNDS", 3)


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize("classes", [CLASSES, ("sharp", "double", "blunt", "none")])
def test_the_network_says_what_the_head_said(trees, classes):
    start, dataset = start_model(), scans(classes=classes)
    model = StartModel.of(start, dataset.classes, "tiny")
    rows, _ = describe_scans(model, dataset, np.arange(24) % 6)
    head = fit_head(rows, trees=trees)
    assert (head.trees is not None) == trees
    if classes == CLASSES:
        head = replace(head, share=0.7)  # whatever a first network of chance is worth
    network = KerasPredictor(model.with_head(head), start.metadata)
    logits = network.outputs(dataset.images)["state"][:, rows.lines - 1]
    assert np.abs(logits - head.logits(rows)).max() < 1e-4


def test_the_first_network_stays_as_it_is():
    start, dataset = start_model(), scans()
    before = start.outputs(dataset.images)
    model = StartModel.of(start, dataset.classes, "tiny")
    rows, _ = describe_scans(model, dataset, np.arange(24) % 6)
    after = KerasPredictor(model.with_head(fit_head(rows)), start.metadata)
    assert np.array_equal(start.outputs(dataset.images)["state"], before["state"])
    for name in ("change", "unknown"):
        assert np.allclose(after.outputs(dataset.images)[name], before[name], atol=1e-5)


def test_a_network_without_a_description_gets_one():
    start, dataset = start_model(trees=0), scans()
    model = StartModel.of(start, dataset.classes, "tiny")
    rows, _ = describe_scans(model, dataset, np.arange(24) % 6)
    state = start.outputs(dataset.images)["state"][:, rows.lines - 1]
    assert np.abs(rows.start - state).max() < 1e-4
    assert rows.described > 50


def test_adapting_learns_classes_of_ones_own():
    dataset = scans(48, 6, classes=("sharp", "double", "blunt", "none"))
    adapted = adapt(dataset, start_model(), "tiny", repeats=2)
    assert adapted.scores["auroc"] > 0.85
    assert adapted.predictor.classes == ("sharp", "double", "blunt", "none")
    metadata = adapted.predictor.metadata
    assert {"temperature", "confidence", "unsure", "unknown", "change"} <= set(metadata)
    assert adapted.scores["adapted"]["against_start"] is None
    points = adapted.scores["adapted"]["curve"]["points"]
    assert [point["labels"] for point in points] == [15, 38]
    assert points[-1]["auroc"] == pytest.approx(adapted.scores["auroc"])


def test_no_scan_is_judged_by_a_head_that_saw_its_session(monkeypatch):
    dataset, seen = scans(), []

    def spy(rows, *arguments):
        seen.append(set(rows.groups.tolist()))
        return fit_head(rows, *arguments)

    monkeypatch.setattr("stm_keras.training.adapt.fit_head", spy)
    adapt(dataset, start_model(), "tiny", repeats=1)
    *folds, last = seen
    assert all(len(groups) < 6 for groups in folds)
    assert len(last) == 6


def test_a_second_evening_is_compared_on_the_same_folds():
    more = scans(48, 6)
    first = more.take(np.arange(24))
    notes = {"classes": list(first.classes), "hashes": first.scan_hashes(), "start": "tiny"}
    adapted = adapt(more, start_model(), "tiny", repeats=1, before=notes)
    against = adapted.scores["adapted"]["against_before"]
    assert against["labels"] == 24
    assert against["auroc"]["interval"] is not None
    same = {**notes, "hashes": more.scan_hashes()}
    against = adapt(more, start_model(), "tiny", repeats=1, before=same).scores["adapted"]
    assert against["against_before"]["auroc"]["difference"] == 0


def test_a_second_evening_of_other_scans_or_classes_is_refused():
    notes = {"classes": list(CLASSES), "hashes": ["0"], "start": "tiny"}
    with pytest.raises(MismatchError, match="none of the scans"):
        adapt(scans(), start_model(), "tiny", before=notes)
    with pytest.raises(MismatchError, match="the earlier model knows a, b"):
        adapt(scans(), start_model(), "tiny", before={**notes, "classes": ["a", "b"]})


def test_one_session_is_marked():
    adapted = adapt(scans(24, 1), start_model(), "tiny", repeats=1)
    assert adapted.scores["adapted"]["optimistic"] == "optimistic: one session"


def test_a_start_on_real_scans_of_these_classes_is_told():
    start = start_model()
    assert adapt(scans(), start, "tiny", repeats=1).scores["adapted"]["seen_before"] == ""
    metadata = facts(CONFIG)
    metadata["training"]["config"]["data"] = {"path": "real.h5"}
    told = adapt(scans(), replace(start, metadata=metadata), "tiny", repeats=1)
    assert "are optimistic" in told.scores["adapted"]["seen_before"]


def test_a_class_with_one_scan_is_refused():
    labels = np.array([0] * 12 + [1] * 11 + [2])
    with pytest.raises(DatasetError, match="1 complete scan of class 'rows'"):
        usable_scans(scans(labels=labels, classes=CLASSES[:3]))
    with pytest.raises(DatasetError, match="two classes or more"):
        usable_scans(scans(labels=np.zeros(24, int)))


def test_other_networks_are_refused():
    start = start_model()
    metadata = {**start.metadata, "training": {"config": {"model": {"name": "vit"}}}}
    with pytest.raises(MismatchError, match="only a `sequential` network"):
        StartModel.of(replace(start, metadata=metadata), CLASSES, "tiny")
