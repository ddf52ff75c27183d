"""What the validation scans teach a trained model: how sure it may be."""

import numpy as np
import pytest
from helpers import ONCE, lattice_scans, logged, made_up_dataset
from streaming import shaken

from stm_keras.data.split import split_dataset
from stm_keras.inference.find_model import read_metadata
from stm_keras.inference.keras_predictor import KerasPredictor
from stm_keras.inference.model_file import save_model
from stm_keras.models import sequential, vit
from stm_keras.runs import Run
from stm_keras.training import calibrate as subject
from stm_keras.training.calibrate import calibrate, fit_reliability, smooth
from stm_keras.training.train import set_seed

pytestmark = ONCE  # no backend changes what is tested here

CLASSES = ("individual atoms", "asymmetries/dimers", "rows", "generic defects")
FACTS = {"classes": list(CLASSES), "pixels": 128, "max_lines": 128}


class Sure(KerasPredictor):
    """Wrong once, or as often as is said, in four times, and always sure of it."""

    every_line = False
    wrong = 1

    def by_lines(self, images, seen, progress=None):
        right = np.arange(len(images)) % 4
        missed = np.arange(len(images)) // 4 % 4 < self.wrong
        said = np.where(missed, (right + 1) % 4, right)
        return {lines: np.eye(4)[said] * 0.96 + 0.01 for lines in seen}


def test_a_model_that_is_too_sure_is_made_softer():
    part = made_up_dataset(64)
    facts = fit_reliability([Sure(None, FACTS)], [part])
    assert facts["temperature"]["lines"][-1] == 128
    for value in facts["temperature"]["values"]:
        # log(.97 / .01) / T must be log(.75 / (.25 / 3))
        assert value == pytest.approx(np.log(97) / np.log(9), rel=1e-3)
    assert facts["confidence"]["slopes"] == pytest.approx([1] * 10, abs=1e-2)
    assert facts["confidence"]["shifts"] == pytest.approx([0] * 10, abs=1e-2)
    assert facts["unsure"]["coverage"] == 0.9
    assert facts["unsure"]["thresholds"] == pytest.approx([0.75] * 10, abs=1e-3)
    assert "unknown" not in facts
    assert facts["min_lines"] == 1  # right three times in four, from the first line on
    assert facts["min_lines_measured"]["1"]["balanced_accuracy"] == 0.75


def test_what_models_say_of_scans_of_their_own_counts_together():
    often = Sure(None, FACTS)
    often.wrong = 2
    parts = [made_up_dataset(64), made_up_dataset(192)]
    facts = fit_reliability([Sure(None, FACTS), often], parts)
    right = 64 / 256 * 3 / 4 + 192 / 256 / 2
    for value in facts["temperature"]["values"]:
        expected = np.log(97) / np.log(right / ((1 - right) / 3))
        assert value == pytest.approx(expected, rel=1e-3)
    assert facts["unsure"]["thresholds"] == pytest.approx([right] * 10, abs=2e-3)


def test_a_streaming_model_gets_thresholds_for_its_heads(tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "CHANGE_SCANS", 24)
    dataset = made_up_dataset(48, sessions=12)
    split = split_dataset(dataset, "p2", seed=0, fold=0, num_folds=3)
    set_seed(0)  # else the weights depend on which tests ran before
    model = shaken(sequential(4, width=3, units=8, spectra=4, lattice=4))
    run = Run(tmp_path)
    save_model(model, run.file("best.keras"), {**FACTS, "input": "scaled"})
    with logged() as said:
        predictor = calibrate([(run, split)], dataset)
    facts = read_metadata(run.file("best.keras"))
    assert predictor.metadata == facts
    assert len(facts["unknown"]["thresholds"]) == len(facts["unknown"]["lines"]) == 10
    assert 0 < facts["change"]["threshold"] < 1
    assert said[0].startswith(f"Calibrated on {len(split.parts['validation'])} scans: ")
    with logged() as said:
        again = calibrate([(run, split)], dataset)
    assert again.metadata == facts
    assert not said


class Rising(Sure):
    """More and more certain that a surface is unknown; of every 20th scan by 1 more."""

    every_line = True

    def heads(self, images):
        lines = np.arange(1, images.shape[1] + 1) / 1000
        return {"unknown": lines + (np.arange(len(images)) % 20 == 0)[:, None]}


def test_a_threshold_for_unknown_surfaces_is_that_after_as_many_lines():
    facts = fit_reliability([Rising(None, FACTS)], [made_up_dataset(200)])["unknown"]
    assert facts["lines"][:3] == [1, 2, 4]
    assert facts["thresholds"] == pytest.approx(np.array(facts["lines"]) / 1000)


class Changing(Rising):
    """Says at the last lines alone that the tip changed."""

    def heads(self, images):
        self.shape = images.shape
        change = np.zeros(images.shape[:2])
        change[:, -3:] = np.linspace(0.1, 0.9, len(images))[:, None]
        return {"change": change}


@pytest.mark.parametrize(("size", "told"), [((32, 32), True), ((40, 32), False)])
def test_changes_are_simulated_in_the_size_of_the_scans(monkeypatch, size, told):
    monkeypatch.setattr(subject, "CHANGE_SCANS", 24)
    images = lattice_scans(np.arange(16) % 4, lines=size[0], pixels=size[1])
    part = made_up_dataset(16, images=images, lines=np.full(16, size[0]))
    model = Changing(None, {**FACTS, "max_lines": size[0], "pixels": size[1]})
    assert ("change" in fit_reliability([model], [part])) is told
    assert model.shape[1:] == size


def test_a_model_of_whole_scans_has_no_other_thresholds():
    model = vit(4, 128, 128, layers=1, heads=1, dim=4, mlp_dim=4)
    facts = fit_reliability([KerasPredictor(model, FACTS)], [made_up_dataset(16)])
    fewest = {"min_lines", "min_lines_measured"}
    assert set(facts) == {"temperature", "confidence", "unsure"} | fewest


def test_temperatures_lie_on_a_parabola_of_the_logarithm():
    place = np.arange(8.0)
    wanted = np.exp(0.3 - 0.2 * place + 0.01 * place**2)
    assert smooth(place, wanted) == pytest.approx(wanted)
    assert smooth([1, 2], [0.5, 3.0]).tolist() == [0.5, 3.0]
