"""Other surfaces teach what is unknown: nothing else changes, and nothing that scores teaches."""

import numpy as np
import pytest
from helpers import ONCE, lattice_scans, made_up_dataset
from streaming import shaken

from stm_keras.data.unknown_surfaces import UnknownSurfaces
from stm_keras.errors import DatasetError, MismatchError
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.models import sequential
from stm_keras.training import surface_features
from stm_keras.training import unknown_surface as subject
from stm_keras.training.unknown_surface import fit_unknown_surface

pytestmark = ONCE  # no backend changes what is tested here

pytest.importorskip("sklearn")

SIZE = 32
CONFIG = {"width": 4, "units": 16, "spectra": 8, "lattice": 8, "trees": 2}
FACTS = {
    "classes": ["individual atoms", "asymmetries/dimers", "rows", "generic defects"],
    "pixels": SIZE,
    "max_lines": SIZE,
    "input": "scaled",
    "training": {"config": {"name": "tiny", "model": {"name": "sequential", **CONFIG}}},
    "min_lines": 1,
    "min_lines_measured": {"1": {"balanced_accuracy": 0.6, "interval": [0.5, 0.7]}},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(surface_features, "ROWS", 2000)
    monkeypatch.setattr(surface_features, "EPOCHS", 12)
    monkeypatch.setattr(surface_features, "COPIES", {"known": 1, "other": 1})
    monkeypatch.setattr(surface_features, "_simulated", lambda *_: iter(()))
    monkeypatch.setattr(subject, "KNOWN_PARTS", 3)
    monkeypatch.setattr(subject, "OTHER_PARTS", 2)


@pytest.fixture(scope="module")
def predictor():
    return KerasPredictor(shaken(sequential(4, SIZE, SIZE, **CONFIG)), FACTS)


def lattices(count, sessions, seed=0):
    """Known scans, small ones."""
    images = lattice_scans(np.arange(count) % 4, seed, SIZE, SIZE)
    return made_up_dataset(count, sessions, images=images, lines=np.full(count, SIZE))


def blobs(count, seed):
    """Scans of round hills, which no lattice is."""
    rng = np.random.default_rng(seed)
    line, pixel = np.mgrid[:SIZE, :SIZE]
    scans = []
    for _ in range(count):
        heights = rng.normal(0, 0.02, (SIZE, SIZE))
        for row, column in rng.uniform(0, SIZE, (4, 2)):
            distance = (line - row) ** 2 + (pixel - column) ** 2
            heights += np.exp(-distance / 2 / rng.uniform(2, 5) ** 2)
        scans.append(heights)
    return np.array(scans, np.float32)


def others(images, sources=4):
    count = len(images)
    return UnknownSurfaces(
        images=np.asarray(images, np.float32),
        source=np.array([f"lab {i % sources}" for i in range(count)]),
        kind=np.array(["hills", "molecules"])[np.arange(count) % 2],
        licence=np.full(count, "MIT"),
        part_of=np.full(count, -1),
        name="others.h5",
    )


def test_other_surfaces_are_told_and_classes_stay(predictor, tmp_path):
    known, strange = lattices(48, 6), others(blobs(16, 1))
    taught = fit_unknown_surface(predictor, known, strange)
    before, after = (each.outputs(known.images[:8]) for each in (predictor, taught))
    for head in ("state", "change"):
        np.testing.assert_allclose(before[head], after[head], atol=1e-4, rtol=1e-5)
    assert np.abs(before["unknown"] - after["unknown"]).max() > 0.1
    facts = taught.metadata["unknown"]
    last = facts["measured"]["32"]
    assert last["auroc"] > 0.95
    assert last["found"] > 0.8
    assert last["false_alarms"] < 0.2
    assert (last["scans"], last["sources"], last["known"], last["sessions"]) == (
        16,
        4,
        48,
        6,
    )
    assert set(last["by_kind"]) == {"hills", "molecules"}
    assert facts["taught_by"]["lab 0"] == {"licence": "MIT", "scans": 4}
    assert facts["lines"][-1] == SIZE
    row = taught.metadata["min_lines_measured"]["1"]
    assert row["found"] == facts["measured"]["1"]["found"]
    assert (
        taught.metadata["min_lines"] == 1
    )  # the only number of lines that was asked about
    fresh = taught.heads(blobs(4, 9))["unknown"][:, -1]
    assert fresh.min() > facts["thresholds"][-1]
    save_model(taught.model, tmp_path / "taught.keras", taught.metadata)
    copy = load_predictor(tmp_path / "taught.keras")
    np.testing.assert_allclose(copy.heads(blobs(4, 9))["unknown"][:, -1], fresh, atol=1e-6)
    again = fit_unknown_surface(copy, known, strange)  # of a model that was taught before
    for old, new in zip(taught.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_scores_has_not_taught(predictor):
    """Where others are no others, held-out scores must say so: by heart they would be 1."""
    known = lattices(48, 6)
    alike = lattices(32, 0, 7).images
    taught = fit_unknown_surface(predictor, known, others(alike))
    last = taught.metadata["unknown"]["measured"]["32"]
    assert 0.2 < last["auroc"] < 0.8
    assert last["found"] < 0.5


def test_no_part_both_teaches_and_is_scored(predictor, monkeypatch):
    known, strange = lattices(24, 6), others(blobs(8, 1))
    calls, asked = [], []
    fit = subject.fit_readout

    def spied(rows, own, other, seed):
        calls.append((own.copy(), other.copy()))
        return (len(calls) - 1, *fit(rows, own, other, seed))

    def judge(layer, features):
        asked.append(layer[0])
        return surface_features.unknown_logits(layer[1:], features)

    rows = surface_features.describe_surfaces(
        subject.add_surface_layer(predictor), predictor.prepare, known, strange, 0
    )
    parts = np.arange(24) % 3
    other_parts = np.arange(8) % 2
    monkeypatch.setattr(subject, "fit_readout", spied)
    monkeypatch.setattr(subject, "unknown_logits", judge)
    judged = subject.cross_fit(rows, known.single_class(), parts, other_parts, [SIZE], 0)
    # 3 pairs and 3 parts for each half of the others, and 3 parts with all others
    assert len(calls) == 2 * (3 + 3) + 3
    for number, (own, other) in enumerate(calls[:12]):
        half = number // 6
        assert not other[other_parts == half].any()
        assert other[other_parts != half].all()
        left = np.unique(parts[~own])
        assert len(left) == (2 if number % 6 < 3 else 1)
    assert judged.limits[SIZE].shape == (3, 2)


def test_what_cannot_be_taught_is_told(predictor):
    known = lattices(24, 6)
    with pytest.raises(DatasetError, match="two sources at least"):
        fit_unknown_surface(predictor, known, others(blobs(4, 1), sources=1))
    with pytest.raises(MismatchError, match="others.h5: the model judges lines of 32"):
        fit_unknown_surface(predictor, known, others(blobs(4, 1)[:, :, :16]))
    foreign = KerasPredictor(predictor.model, {**FACTS, "training": None})
    with pytest.raises(MismatchError, match="Only a `sequential` network"):
        fit_unknown_surface(foreign, known, others(blobs(4, 1)))
    with pytest.raises(DatasetError, match="two sessions at least"):
        fit_unknown_surface(predictor, lattices(24, 1), others(blobs(4, 1)))
