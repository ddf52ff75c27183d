"""Exported `.keras` files: the same logits here, elsewhere, and under every backend."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import REPOSITORY, lattice_scans

from stm_keras.backend import installed_backends
from stm_keras.export import export_model
from stm_keras.inference.find_model import read_metadata
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.models import cnn_small, vit

HERE = installed_backends()
NEXT = HERE[(HERE.index(keras.config.backend()) + 1) % len(HERE)]  # a ring of all backends
LOGITS = """
import sys
import numpy as np
from stm_keras.backend import import_keras, use_backend
use_backend(sys.argv[1])
import_keras()
from stm_keras.inference.model_file import load_predictor
scans = np.load(sys.argv[2])
np.savez(sys.argv[3], **{
    name: load_predictor(f"{name}.keras").logits(scans, lines) for name, lines in NAMES
})
"""
NAMES = [("cnn_small", None), ("vit", 5)]


def tiny(build, **arguments):
    model = build(4, pixels=32, max_lines=16, **arguments)
    rng = np.random.default_rng(0)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    facts = {"classes": ["a", "b", "c", "d"], "pixels": 32, "max_lines": 16}
    return KerasPredictor(model, {**facts, "training": {"note": "ü"}})


@pytest.fixture(scope="module")
def predictors():
    """One tiny predictor of each network."""
    return {
        "cnn_small": tiny(cnn_small, width=2),
        "vit": tiny(vit, layers=1, heads=2, dim=8, mlp_dim=12),
    }


@pytest.mark.smoke
@pytest.mark.parametrize("name", ["cnn_small", "vit"])
def test_an_exported_model_gives_the_same_logits_and_keeps_its_facts(
    predictors, name, tmp_path
):
    predictor = predictors[name]
    told = export_model(predictor, tmp_path / "model.keras")
    assert told["format"] == "keras"
    assert told["largest_difference"] < 1e-4
    copy = load_predictor(tmp_path / "model.keras")
    scans = lattice_scans([0, 1, 2, 3], lines=16, pixels=32)
    np.testing.assert_allclose(copy.logits(scans), predictor.logits(scans), atol=1e-4)
    facts = read_metadata(tmp_path / "model.keras")
    assert {key: facts[key] for key in predictor.metadata} == predictor.metadata


@pytest.mark.skipif(len(HERE) < 2, reason="there is no other backend")
def test_a_file_gives_the_same_logits_under_another_backend(predictors, tmp_path):
    scans = lattice_scans([0, 1, 2, 3], lines=16, pixels=32)
    np.save(tmp_path / "scans.npy", scans)
    for name, predictor in predictors.items():
        save_model(predictor.model, tmp_path / f"{name}.keras", predictor.metadata)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"NAMES = {NAMES}\n{LOGITS}",
            NEXT,
            "scans.npy",
            "out.npz",
        ],
        env={**os.environ, "KERAS_BACKEND": NEXT, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as out:
        for name, lines in NAMES:
            np.testing.assert_allclose(
                out[name], predictors[name].logits(scans, lines), atol=1e-4
            )


def test_nothing_of_the_backend_is_in_the_file(predictors, tmp_path):
    export_model(predictors["vit"], tmp_path / "model.keras")
    import zipfile

    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        text = json.dumps(
            [archive.read(n).decode() for n in ("config.json", "metadata.json")]
        )
    assert not [name for name in ("tensorflow", "torch", "jax") if name in text]
