import numpy as np
import pytest

from stm_keras.simulate import EFFECTS, SimulationConfig
from stm_keras.simulate.noise import loop_response, smoothing
from stm_keras.simulate.scanner import draw_scene

ROWS = {"class_prior": (0, 0, 1, 0), "p_tip_change": 0, "p_partial": 0}
GENERIC = {"class_prior": (0, 0, 0, 1), "p_tip_change": 0, "p_partial": 0}


def difference(effects, without=(), seed=3, **settings):
    """Scene with `effects`, and what these add to the heights."""
    scene = draw_scene(seed, 0, SimulationConfig(**settings, effects=effects))
    before = draw_scene(seed, 0, SimulationConfig(**settings, effects=without))
    return scene, scene.heights - before.heights


def correlation(noise, lines, pixels):
    here = noise[:, : 128 - lines, : 128 - pixels]
    there = noise[:, lines:, pixels:]
    return (here * there).mean() / (noise**2).mean()


@pytest.mark.parametrize("effect", EFFECTS)
def test_every_effect_changes_scans_and_can_be_left_out(effect):
    settings = {"p_tip_change": 0.5, "p_medium": 0.2, "p_large": 0.2}
    scenes = [
        draw_scene(1, 0, SimulationConfig(**settings, effects=effects))
        for effects in (EFFECTS, EFFECTS.keys() - {effect})
    ]
    heights = [scene.heights for scene in scenes]
    assert np.isfinite(heights).all()
    assert not np.array_equal(*heights)
    assert np.array_equal(*[scene.states.slot for scene in scenes])
    assert np.array_equal(*[scene.frame.size_nm for scene in scenes])


def test_noise_is_smooth_along_a_line_and_white_from_line_to_line():
    scene, noise = difference({"noise"}, **ROWS)
    assert correlation(noise, 0, 1) > 0.9
    assert 0.4 < correlation(noise, 0, 4) < 0.75
    assert correlation(noise, 0, 30) < 0.15
    for lines in (1, 2, 5):
        assert abs(correlation(noise, lines, 0)) < 0.02
    relative = noise.std((1, 2)) / scene.noise_pm[:, 0]
    assert 0.9 < np.median(relative) < 1.5


def test_noise_has_little_power_above_a_fifth_of_a_cycle_per_pixel():
    _, noise = difference({"noise"}, **ROWS)
    power = (np.abs(np.fft.rfft(noise * np.hanning(128), axis=2)) ** 2).mean((0, 1))
    frequency = np.fft.rfftfreq(128)
    assert power[frequency > 0.2].max() < 0.05 * power[frequency < 0.04].min()
    assert (power[1:20:4][:-1] > power[1:20:4][1:]).all()


def test_resampling_mixes_neighbouring_lines_only():
    _, noise = difference({"noise", "resampling"}, **ROWS)
    assert 0.2 < correlation(noise, 1, 0) < 0.45
    assert abs(correlation(noise, 3, 0)) < 0.02


def test_smoothing_keeps_the_variance_of_white_noise():
    white = np.random.default_rng(0).normal(size=(2, 400, 96))
    smooth = white @ smoothing(np.array([1.5, 3.0]), 96)
    assert smooth[:, :, 20:-20].std((1, 2)) == pytest.approx([1, 1], abs=0.03)
    lag_three = (smooth[:, :, 20:-23] * smooth[:, :, 23:-20]).mean((1, 2))
    assert lag_three == pytest.approx(
        np.exp(-9 / (4 * np.array([1.5, 3.0]) ** 2)), abs=0.04
    )


def test_the_loop_lags_behind_a_step_by_its_time_constant():
    lag, none = np.array([1.5, 8.0]), np.zeros(2)
    response = loop_response(lag, none, none + 0.1, none + 10, 100)
    assert response.sum(1) == pytest.approx([1, 1], abs=1e-5)
    assert (response > 0).all()
    reached = np.cumsum(response, 1)
    for scan, constant in enumerate(lag):
        crossing = np.interp(1 - np.exp(-1), reached[scan], np.arange(1, 101))
        assert crossing == pytest.approx(constant, abs=0.01 + 0.1 * constant)


def test_a_ringing_loop_overshoots_and_settles():
    one = np.ones(1)
    response = loop_response(one, 0.3 * one, 0.1 * one, 15 * one, 128)
    reached = np.cumsum(response, 1)[0]
    assert reached.max() > 1.02
    assert abs(reached[-10:] - 1).max() < 0.02


def test_feedback_moves_features_along_the_scan_direction():
    scene, _ = difference({"features", "feedback"}, **ROWS)
    sharp, _ = difference({"features"}, **ROWS)
    chosen = scene.lag_px > 1.2
    assert chosen.sum() > 5
    before, after = sharp.heights[chosen], scene.heights[chosen]
    forward = (before[:, :, :-1] * after[:, :, 1:]).sum((1, 2))
    backward = (before[:, :, 1:] * after[:, :, :-1]).sum((1, 2))
    assert (forward > backward).all()
    assert (
        np.abs(np.diff(after, axis=2)).mean((1, 2)) < np.abs(np.diff(before)).mean((1, 2))
    ).all()


def test_feedback_rests_on_the_first_pixel_before_a_line():
    scene, change = difference({"background", "feedback"}, {"background"}, **GENERIC)
    assert np.abs(change[:, :, 0]).max() < 0.9 * np.abs(scene.heights).max()
    quiet = scene.lag_px < 0.4
    assert np.abs(change[quiet, :, 0]).mean() < 0.2 * np.abs(scene.heights[quiet]).mean()


def test_hum_has_one_frequency_along_every_line():
    _, hum = difference({"hum"}, **GENERIC)
    loud = np.flatnonzero(hum.std((1, 2)) > 0)
    assert 0 < len(loud) < 40
    for scan in loud:
        power = np.abs(np.fft.rfft(hum[scan] * np.hanning(128), axis=1)) ** 2
        peaks = power[:, 1:].argmax(1)
        assert np.ptp(peaks) <= 2


def test_scars_are_short_and_rare():
    _, scars = difference({"scars"}, **ROWS)
    scarred = (scars != 0).any((1, 2))
    lines = (scars != 0).any(2).sum(1)[scarred]
    assert 0.1 < scarred.mean() < 0.5
    assert lines.max() <= 20
    assert (scars != 0).sum(2).max() < 128


def test_wild_lines_take_the_grey_scale_of_a_flat_scan():
    scene, wild = difference({"wild_lines"}, **GENERIC)
    flat = scene.states.is_kind("flat")
    assert flat.sum() >= 4
    assert (np.ptp(wild[flat], axis=(1, 2)) > 29 * scene.amplitudes[flat, 0].max(1)).all()
    assert ((wild[flat] != 0).any(2).sum(1) <= 3).all()


def test_a_crash_leaves_the_z_range_and_wraps():
    scene, crash = difference({"crashes"}, **GENERIC)
    crashed = scene.states.is_kind("crash")
    assert crashed.sum() >= 5
    assert (crash[~crashed] == 0).all()
    jumps = np.abs(np.diff(crash[crashed], axis=2)).max((1, 2))
    assert (jumps > 0.2 * np.ptp(crash[crashed], axis=(1, 2))).mean() > 0.6


def test_an_unstable_apex_switches_back_and_forth():
    config = SimulationConfig(**GENERIC)
    found = 0
    for chunk in range(4):
        scene = draw_scene(2, chunk, config)
        unstable = scene.states.is_kind("unstable")
        switches = np.abs(np.diff(scene.states.slot[unstable], axis=1)).sum(1)
        assert (switches >= 1).all()
        assert (scene.states.apex_line[unstable] == -1).all()
        found += (switches > 3).sum()
    assert found > 3


def test_a_dragged_adsorbate_is_cut_along_a_line():
    _, cut = difference({"features", "dragging"}, {"features"}, **ROWS)
    changed = (np.abs(cut) > 1e-3).any(2)
    assert 0 < changed.any(1).sum() < 40
    lost = np.abs(cut[changed.any(1)]).max(2)
    steps = np.abs(np.diff(lost, axis=1)).max(1)
    assert (steps > 0.2 * lost.max(1)).mean() > 0.5


def test_noise_and_hum_of_a_passing_state_spare_the_other_lines():
    config = SimulationConfig(p_tip_change=1)
    seen = 0
    for chunk in range(4):
        scene = draw_scene(6, chunk, config)
        good = scene.states.classes < 3
        passing = scene.states.is_kind("noisy") & good.any(1)
        for noise, clean in zip(scene.noise_pm[passing], good[passing], strict=True):
            assert noise[~clean] > 2 * noise[clean]
            seen += 1
    assert seen > 5
