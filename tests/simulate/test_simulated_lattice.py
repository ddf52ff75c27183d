import numpy as np
import pytest

from stm_keras.data.dataset import CLASSES
from stm_keras.scan import ROW_NM
from stm_keras.simulate import SimulationConfig, simulate
from stm_keras.simulate.geometry import DIMER_NM
from stm_keras.simulate.lattice import (
    DIMER,
    HALF_ROW,
    HYDROGEN_NM,
    ROW,
    STEP_PM,
    tip_coefficients,
)
from stm_keras.simulate.scanner import LEVELS, draw_scene
from stm_keras.simulate.tip import Tips

CLEAN = {"effects": {"log"}, "p_medium": 0, "p_large": 0, "p_tip_change": 0, "p_partial": 0}
ONLY = dict(zip(CLASSES, np.eye(4).tolist(), strict=True))


def make_tips(**changes):
    """One sharp apex with an s wave in the middle of a dimer, twice."""
    values = {
        "kappa_per_nm": 11.0,
        "distance_nm": 0.4,
        "w_c": 0.0,
        "centre_nm": 0.08,
        "asym": 0.0,
        "orbital": 0.0,
        "blur_nm": [0.0, 0.0],
        "back": 1.0,
        "offset_nm": [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        "weight": [1.0, 0.0, 0.0],
        **changes,
    }
    return Tips(**{name: np.array([[value, value]]) for name, value in values.items()})


def amplitudes(**changes):
    return np.abs(tip_coefficients(make_tips(**changes)))[0, 0]


def peak_near(image, pixel_nm, frequency):
    """Frequency (per nm, fast and slow) of the strongest wave near `frequency`."""
    padded = 1024
    window = np.hanning(len(image))
    waves = (image - image.mean()) * window * window[:, None]
    power = np.abs(np.fft.fft2(waves, (padded, padded)))
    axis = np.fft.fftfreq(padded, pixel_nm)
    away = np.hypot(axis - frequency[0], axis[:, None] - frequency[1])
    line, pixel = np.unravel_index(np.argmax(power * (away < 0.4)), power.shape)
    return np.array([axis[pixel], axis[line]])


def test_rows_are_768_pm_apart_and_dimers_384_pm_along_them():
    config = SimulationConfig(
        **CLEAN,
        small_nm=(5.0, 5.0),
        angle_deg=(30, 30),
        class_prior=ONLY["asymmetries/dimers"],
    )
    dataset = simulate(8, 1, config)
    turn = np.deg2rad(30)
    normal, along = np.array([np.cos(turn), np.sin(turn)]), [-np.sin(turn), np.cos(turn)]
    for image in dataset.images:
        row = peak_near(image, 5.0 / 128, normal / ROW_NM)
        dimer = peak_near(image, 5.0 / 128, np.array(along) / DIMER_NM)
        assert abs(1 / np.linalg.norm(row) - 0.768) < 0.01
        assert abs(1 / np.linalg.norm(dimer) - 0.384) < 0.005
        assert abs(row @ dimer) < 0.02 * np.linalg.norm(row) * np.linalg.norm(dimer)


def test_shear_and_creep_move_the_lattice():
    base = {**CLEAN, "small_nm": (4.0, 4.0)}
    straight = draw_scene(3, 0, SimulationConfig(**base))
    base["effects"] = {"log", "shear"}
    sheared = draw_scene(3, 0, SimulationConfig(**base))
    ratio = np.linalg.norm(sheared.frame.per_pixel, axis=2)
    ratio = ratio / np.linalg.norm(straight.frame.per_pixel, axis=2)
    assert 0.01 < ratio.std() < 0.06

    creep = draw_scene(
        3, 0, SimulationConfig(**{**base, "effects": {"creep"}, "p_creep": 1})
    )
    moved = creep.frame.lines - straight.frame.lines
    assert np.abs(moved[:, :, 0]).mean() > 3 * np.abs(moved[:, :, -1]).mean()


def test_classes_differ_in_what_they_resolve():
    ratios = {}
    for name in CLASSES[:3]:
        config = SimulationConfig(class_prior=ONLY[name], p_tip_change=0, p_large=0)
        found = np.concatenate(
            [draw_scene(5, c, config).amplitudes[:, 0] for c in range(4)]
        )
        half = np.median(found[:, HALF_ROW] / found[:, ROW])
        dimer = np.median(found[:, DIMER] / found[:, ROW])
        ratios[name] = half, dimer
    (atoms, atoms_dimer), (dimers, dimers_dimer), (rows, rows_dimer) = ratios.values()
    # medians of voted scans: (2, 0) over (1, 0) 0.81, 0.22, 0.09 and (0, 1) over (1, 0)
    # 1.25, 0.68, 0.12
    assert atoms > 0.52 > dimers > rows
    assert 0.5 < atoms < 1.3
    assert 0.1 < dimers < 0.4
    assert rows < 0.2
    assert atoms_dimer > dimers_dimer > 0.29 > rows_dimer
    assert 0.4 < dimers_dimer < 1.1


def test_detail_decays_with_distance_faster_than_rows():
    near, far = amplitudes(distance_nm=0.3), amplitudes(distance_nm=0.6)
    assert (far < near).all()
    assert far[DIMER] / near[DIMER] < far[ROW] / near[ROW]


def test_a_weak_corrugation_follows_tersoff_and_hamann():
    far = 1.2
    found = amplitudes(distance_nm=far, back=1e-3)
    wave = 2 * np.pi / ROW_NM
    decay = np.exp(-(np.sqrt(4 * 11.0**2 + wave**2) - 2 * 11.0) * far)
    expected = 2000 * decay * np.cos(wave * HYDROGEN_NM / 2) / (2 * 11.0)
    assert found[ROW] == pytest.approx(abs(expected), rel=0.02)


def test_a_second_apex_half_a_row_away_hides_the_rows():
    double = amplitudes(
        distance_nm=0.9,
        offset_nm=[[0.0, 0.0], [ROW_NM / 2, 0.0], [0.0, 0.0]],
        weight=[1.0, 1.0, 0.0],
    )
    assert double[ROW] < 1e-3 * amplitudes(distance_nm=0.9)[ROW]


def test_current_that_resolves_nothing_weakens_the_lattice():
    assert amplitudes(back=5.0)[ROW] < 0.5 * amplitudes(back=0.4)[ROW]


def test_an_asymmetric_tip_adds_rows_out_of_phase_and_keeps_dimers():
    even, odd = amplitudes(w_c=0.3), amplitudes(w_c=0.3, asym=0.8)
    assert odd[ROW] > 1.1 * even[ROW]
    assert odd[DIMER] == pytest.approx(even[DIMER], rel=0.25)


def test_a_tall_feature_leaves_the_lattice_few_grey_levels():
    base = {"p_tip_change": 0, "p_partial": 0, "class_prior": ONLY["rows"]}
    bare = simulate(64, 2, SimulationConfig(**base, effects={"log"}))
    full = simulate(64, 2, SimulationConfig(**base, effects={"log", "features"}))
    tall = full.parameters["tallest_feature_pm"] > 0
    grey = [d.parameters["visible_grey"][:, 0] for d in (bare, full)]
    assert 0.5 < tall.mean() < 1
    assert np.median(grey[1][tall]) < 0.6 * np.median(grey[0][tall])
    assert np.array_equal(bare.images[~tall], full.images[~tall])


def test_a_step_is_136_pm_high_and_turns_the_rows():
    base = {**CLEAN, "p_large": 1, "large_nm": (14, 16), "class_prior": ONLY["rows"]}
    flat = draw_scene(4, 0, SimulationConfig(**base))
    scene = draw_scene(4, 0, SimulationConfig(**{**base, "effects": {"log", "steps"}}))
    assert 0.2 < scene.stepped.mean() < 0.5
    assert np.array_equal(scene.heights[~scene.stepped], flat.heights[~scene.stepped])
    turned = 0
    for scan in np.flatnonzero(scene.stepped):
        heights, angle = scene.heights[scan], np.deg2rad(scene.frame.angle_deg[scan])
        upper = heights > STEP_PM / 2
        if not 0.25 < upper.mean() < 0.75:
            continue
        height = np.median(heights[upper]) - np.median(heights[~upper])
        assert height == pytest.approx(136, abs=6)
        lower_normal = np.array([np.cos(angle), np.sin(angle)]) / ROW_NM
        upper_normal = np.array([-lower_normal[1], lower_normal[0]])
        pixel_nm = scene.frame.pixel_nm[scan]
        level = np.where(upper, heights - height, heights)
        level[np.abs(level) > 20] = 0  # the flank of the step
        if scene.amplitudes[scan, 0, ROW] < 2:
            continue
        for inside, normal in ((upper, upper_normal), (~upper, lower_normal)):
            found = peak_near(level * inside, pixel_nm, normal)
            assert np.linalg.norm(found - normal) < 0.15
        turned += 1
    assert turned >= 5


def test_fine_detail_of_large_scans_is_gone_rather_than_aliased():
    config = {**CLEAN, "p_large": 1, "class_prior": ONLY["individual atoms"]}
    fine = draw_scene(1, 0, SimulationConfig(**{**config, "large_nm": (9, 9)}))
    coarse = draw_scene(1, 0, SimulationConfig(**{**config, "large_nm": (60, 60)}))
    assert (fine.amplitudes[:, 0, DIMER] > 0).all()
    assert (coarse.amplitudes[:, 0, DIMER] == 0).all()
    assert (coarse.amplitudes[:, 0, ROW] > 0).sum() > 10


def test_the_grey_scale_is_as_wide_as_the_parameters_say():
    dataset = simulate(6, 8, SimulationConfig(**CLEAN, angle_deg=(40, 50)))
    visible = dataset.parameters["visible_grey"][:, 0]
    deviation = dataset.images.std((1, 2))
    lattice = dataset.parameters["corrugation_pm"][:, 0]
    scale = LEVELS / dataset.parameters["z_range_pm"]
    assert deviation == pytest.approx(lattice * scale, rel=0.1)
    assert (visible > 40).all()
