import numpy as np
import pytest

from stm_keras.errors import UsageError
from stm_keras.simulate import EFFECTS, SimulationConfig, simulate


def test_lists_and_names_are_accepted_and_the_prior_is_normalised():
    config = SimulationConfig(class_prior=[2, 1, 1, 0], small_nm=[3, 4], effects=["noise"])
    assert config.class_prior == (0.5, 0.25, 0.25, 0.0)
    assert config.small_nm == (3.0, 4.0)
    assert config.has("noise")
    assert not config.has("hum")
    assert hash(config) == hash(SimulationConfig(**vars(config)))


def test_all_effects_are_on_by_default():
    assert SimulationConfig().effects == set(EFFECTS)


def test_the_prior_is_that_of_the_tip():
    config = SimulationConfig(class_prior=(0, 1, 3, 0), p_tip_change=0)
    tips = simulate(256, 0, config).parameters["tip_class"]
    assert set(np.unique(tips)) == {1, 2}
    assert 0.65 < (tips == 2).mean() < 0.85


@pytest.mark.parametrize("size", [32, 96])
def test_size_sets_lines_and_pixels(size):
    assert simulate(2, 0, SimulationConfig(size=size)).images.shape == (2, size, size)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"size": 16}, "`size` must be a whole number from 32 to 512. Received: size=16."),
        (
            {"p_tip_change": 1.5},
            "`p_tip_change` must be a probability from 0 to 1. Received: p_tip_change=1.5.",
        ),
        (
            {"p_partial": float("nan")},
            "`p_partial` must be a probability from 0 to 1. Received: p_partial=nan.",
        ),
        (
            {"p_medium": 0.6, "p_large": 0.5},
            (
                "`p_medium` and `p_large` must not exceed 1 together. "
                "Received: p_medium=0.6, p_large=0.5."
            ),
        ),
        ({"shear": -0.1}, "`shear` must be a number from 0 to 0.3. Received: shear=-0.1."),
        (
            {"class_prior": (1, 1, 1)},
            (
                "`class_prior` must be 4 entries, one for each of: individual atoms, "
                "asymmetries/dimers, rows, generic defects. "
                "Received: class_prior=(1, 1, 1)."
            ),
        ),
        (
            {"class_prior": (0, 0, 0, 0)},
            (
                "`class_prior` must be weights of 0 or more that are not all 0. "
                "Received: class_prior=(0, 0, 0, 0)."
            ),
        ),
        (
            {"class_prior": (1, 1, -1, 1)},
            (
                "`class_prior` must be weights of 0 or more that are not all 0. "
                "Received: class_prior=(1, 1, -1, 1)."
            ),
        ),
        (
            {"small_nm": (4, 3)},
            (
                "`small_nm` must be (low, high) with low <= high, both above 0. "
                "Received: small_nm=(4, 3)."
            ),
        ),
        (
            {"back": 3},
            "`back` must be (low, high) with low <= high, both above 0. Received: back=3.",
        ),
        (
            {"angle_deg": ("0", 90)},
            (
                "`angle_deg` must be (low, high) with low <= high. "
                "Received: angle_deg=('0', 90)."
            ),
        ),
        (
            {"distance_nm": ((0.3, 0.5),)},
            (
                "`distance_nm` must be 4 entries, one for each of: individual atoms, "
                "asymmetries/dimers, rows, generic defects. "
                "Received: distance_nm=((0.3, 0.5),)."
            ),
        ),
        ({"effects": {"scar"}}, "`effects` has no 'scar'. Did you mean 'scars'?"),
        (
            {"effects": "x"},
            f"`effects` has no 'x'. Known: {', '.join(EFFECTS)}.",
        ),
        ({"effects": 3}, "`effects` must be names of effects. Received: effects=3."),
    ],
)
def test_senseless_settings_are_refused(setting, message):
    with pytest.raises(UsageError) as error:
        SimulationConfig(**setting)
    assert str(error.value) == message
