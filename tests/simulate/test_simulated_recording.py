import numpy as np
import pytest

from stm_keras.data.preprocess import remove_line_trend
from stm_keras.simulate import SimulationConfig, simulate
from stm_keras.simulate.lattice import DIMER, HALF_ROW, HARMONICS, ROW
from stm_keras.simulate.scanner import draw_scene, record, resolved_class, visible_class

ATOMS, DIMERS, ROWS, GENERIC = range(4)


def lattice(row, half, dimer):
    amplitudes = np.zeros(len(HARMONICS))
    amplitudes[[ROW, HALF_ROW, DIMER]] = row, half, dimer
    return amplitudes


def test_recorded_scans_are_levelled_by_line_and_scaled_over_the_scan():
    config = SimulationConfig()
    scene = draw_scene(1, 0, config)
    recorded = scene.states.recorded
    images, span = record(scene.heights, recorded)
    assert images.dtype == np.uint8
    for image, heights, lines, height in zip(
        images, scene.heights, recorded, span, strict=True
    ):
        level = remove_line_trend(heights[:lines])
        level = (level - level.min()) / np.ptp(level) * 254
        assert np.abs(level - image[:lines]).max() <= 0.5 + 1e-9
        assert image[:lines].min() == 0
        assert image.max() == 254
        assert (image[lines:] == 0).all()
        assert height == pytest.approx(np.ptp(remove_line_trend(heights[:lines])))


def test_recorded_lines_have_no_mean_and_no_slope():
    dataset = simulate(40, 3)
    pixels = np.arange(128) - 63.5
    for image, lines in zip(dataset.images, dataset.lines, strict=True):
        heights = image[:lines].astype(float)
        means = heights.mean(1)
        slopes = heights @ pixels / (pixels @ pixels)
        assert np.ptp(means) < 0.5  # what rounding to grey levels leaves
        assert np.abs(slopes).max() < 0.02


def test_a_slope_does_not_change_a_recorded_scan():
    scene = draw_scene(2, 0, SimulationConfig())
    tilted = scene.heights + np.linspace(-900, 400, 128) + np.arange(128)[:, None] * 31.0
    images, _ = record(scene.heights, scene.states.recorded)
    again, _ = record(tilted, scene.states.recorded)
    assert np.abs(images.astype(int) - again).max() <= 1


def test_heights_beyond_the_abort_do_not_scale_the_scan():
    heights = np.random.default_rng(0).normal(size=(2, 9, 7))
    images, span = record(heights, np.array([9, 5]))
    heights[1, 5:] *= 100
    again, span_again = record(heights, np.array([9, 5]))
    assert np.array_equal(images, again)
    assert np.array_equal(span, span_again)


def test_a_flat_scan_is_recorded_as_zeros():
    images, span = record(np.zeros((1, 4, 6)), np.array([4]))
    assert (images == 0).all()
    assert span == [0]


@pytest.mark.parametrize(
    ("amplitudes", "asym", "expected"),
    [
        (lattice(10, 6, 10), 0.0, ATOMS),
        (lattice(10, 5, 10), 0.0, DIMERS),
        (lattice(10, 6, 10), -0.4, DIMERS),
        (lattice(10, 1, 3.1), 0.0, DIMERS),
        (lattice(10, 1, 2.8), 0.0, ROWS),
        (lattice(10, 6, 2.8), 0.0, ROWS),
        (lattice(2, 1, 10), 0.0, ROWS),
    ],
)
def test_the_class_is_what_the_harmonics_resolve(amplitudes, asym, expected):
    assert resolved_class(amplitudes, asym) == expected


@pytest.mark.parametrize(
    ("tip", "span_pm", "noise_pm", "expected"),
    [
        (ATOMS, 254, 0.1, ATOMS),
        (ROWS, 254, 0.1, ATOMS),
        (ATOMS, 254 * 10 / 3.4, 0.1, GENERIC),
        (ATOMS, 254 * 10 / 3.6, 0.1, ATOMS),
        (ATOMS, 254, 8.5, GENERIC),
        (ATOMS, 254, 8.2, ATOMS),
        (GENERIC, 254, 0.1, GENERIC),
    ],
)
def test_a_lattice_within_few_grey_levels_or_in_the_noise_is_generic(
    tip, span_pm, noise_pm, expected
):
    seen, grey, signal_to_noise = visible_class(
        np.array([[tip, tip]]),
        np.array([[lattice(10, 8, 6), lattice(10, 8, 6)]]),
        np.zeros((1, 2)),
        np.array([span_pm]),
        np.array([[noise_pm, noise_pm]]),
    )
    assert seen.tolist() == [[expected, expected]]
    assert grey[0, 0] == pytest.approx(2540 / span_pm)
    assert signal_to_noise[0, 1] == pytest.approx(10 / noise_pm, rel=0.02)


def test_labels_follow_the_visible_lattice_and_not_the_tip():
    dataset = simulate(256, 4)
    parameters = dataset.parameters
    grey, noise = parameters["visible_grey"], parameters["signal_to_noise"]
    hidden = (grey < 3.5) | (noise < 1.2)
    good = parameters["tip_class"] < GENERIC
    first = dataset.line_labels[:, 0]
    assert (good & hidden)[:, 0].sum() > 2
    assert (first[hidden[:, 0]] == GENERIC).all()
    assert (first[(good & ~hidden)[:, 0]] < GENERIC).all()
    assert (first[~good[:, 0]] == GENERIC).all()


def test_labels_can_follow_the_tip():
    dataset = simulate(96, 4, SimulationConfig(label_by_visibility=False))
    tip = dataset.parameters["tip_class"]
    assert np.array_equal(dataset.line_labels[:, 0], tip[:, 0])
    full = dataset.lines == 128
    unstable = dataset.parameters["generic_kind"] == 7
    chosen = full & ~unstable
    assert np.array_equal(dataset.line_labels[chosen, -1], tip[chosen, 1])


def test_lines_before_and_after_a_change_have_different_classes():
    dataset = simulate(192, 5, SimulationConfig(p_tip_change=1, p_partial=0.5))
    changes = 0
    for labels, change, lines in zip(
        dataset.line_labels, dataset.change_line, dataset.lines, strict=True
    ):
        classes = labels[:lines]
        expected = np.flatnonzero(np.diff(classes)) + 1
        assert expected.tolist() == ([change] if change >= 0 else [])
        assert (classes >= 0).all()
        assert (labels[lines:] == -1).all()
        changes += change >= 0
    assert changes > 60


def test_a_change_beyond_the_abort_did_not_happen():
    dataset = simulate(256, 6, SimulationConfig(p_tip_change=1, p_partial=1))
    apex, lines = dataset.parameters["apex_line"], dataset.lines
    tip = dataset.parameters["tip_class"]
    unstable = dataset.parameters["generic_kind"] == 7
    assert (apex < lines).all()
    assert (dataset.change_line < lines).all()
    assert 0.2 < (apex < 0).mean() < 0.8
    unchanged = (apex < 0) & ~unstable
    assert (tip[unchanged, 0] == tip[unchanged, 1]).all()
    distance = dataset.parameters["distance_nm"]
    assert (distance[unchanged, 0] == distance[unchanged, 1]).all()
    assert (distance[apex >= 0, 0] != distance[apex >= 0, 1]).all()


def test_a_change_of_apex_within_a_class_is_no_change_of_state():
    config = SimulationConfig(p_tip_change=1, p_partial=0)
    dataset = simulate(192, 7, config)
    kept = (dataset.parameters["apex_line"] >= 0) & (dataset.change_line < 0)
    assert 10 < kept.sum() < 100
    labels = dataset.line_labels[kept]
    assert (labels == labels[:, :1]).all()


def test_lines_look_different_after_a_change():
    config = SimulationConfig(p_tip_change=1, p_partial=0, effects={"log"}, p_large=0)
    scene = draw_scene(8, 0, config)
    for scan in np.flatnonzero(scene.states.changed):
        line = scene.states.apex_line[scan]
        spectra = [
            np.abs(np.fft.rfft(part, axis=1)).mean(0)
            for part in (scene.heights[scan, :line], scene.heights[scan, line:])
        ]
        assert np.abs(spectra[0] - spectra[1]).sum() > 0.05 * np.sum(spectra) / 2


def test_the_label_of_a_scan_is_that_of_most_of_its_lines():
    dataset = simulate(128, 9, SimulationConfig(p_tip_change=1, p_partial=0.5))
    for label, lines in zip(dataset.labels, dataset.line_labels, strict=True):
        counts = np.bincount(lines[lines >= 0], minlength=4)
        assert counts[label] == counts.max()
        assert label == counts.argmax()


def test_aborted_scans_are_as_frequent_as_asked_and_recorded_in_part():
    none = simulate(64, 1, SimulationConfig(p_partial=0))
    some = simulate(512, 1, SimulationConfig(p_partial=0.3))
    assert (none.lines == 128).all()
    assert 0.22 < (some.lines < 128).mean() < 0.38
    assert some.lines.min() >= 16


def test_the_default_has_enough_of_every_class():
    dataset = simulate(640, 10)
    share = np.bincount(dataset.labels, minlength=4) / 640
    assert share.min() > 0.15
    lines = np.bincount(dataset.line_labels[dataset.line_labels >= 0], minlength=4)
    assert (lines / lines.sum()).min() > 0.15
