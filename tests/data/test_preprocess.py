import numpy as np
import pytest

from stm_keras.data.preprocess import (
    has_signal,
    level_lines,
    line_shapes,
    line_trend,
    pack_lines,
    remove_line_trend,
    resample_pixels,
    resample_scan,
    scale_lines,
    standardise_lines,
    triangle_weights,
    unpack_lines,
)
from stm_keras.readers.pictures import picture_heights


@pytest.fixture
def heights():
    return np.random.default_rng(0).normal(size=(2, 5, 33))


def test_a_levelled_line_has_no_mean_and_no_slope(heights):
    ramp = np.arange(33)
    tilted = heights + 7 - 0.3 * ramp
    levelled = remove_line_trend(tilted)
    np.testing.assert_allclose(levelled.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose(levelled @ (ramp - 16), 0, atol=1e-10)
    np.testing.assert_allclose(levelled, remove_line_trend(heights), atol=1e-12)


def test_what_is_taken_out_of_a_line_is_told(heights):
    levelled = remove_line_trend(heights)
    ramp = np.linspace(-0.5, 0.5, 33)
    offsets, slopes = np.array([3.0, 3, -1, 7, 0]), np.array([0.0, 2, -5, 1, 4])
    steps, rises = line_trend(levelled + offsets[:, None] + slopes[:, None] * ramp)
    assert np.isnan(steps[:, 0]).all()
    np.testing.assert_allclose(steps[0, 1:], np.diff(offsets), atol=1e-12)
    np.testing.assert_allclose(rises[1], slopes, atol=1e-12)
    gap = levelled[0] + offsets[:, None]
    gap[2] = np.nan
    steps, rises = line_trend(gap)
    assert np.isfinite(steps).tolist() == [False, True, False, False, True]
    assert np.isfinite(rises).tolist() == [True, True, False, True, True]


def test_every_line_is_treated_alone(heights):
    whole = standardise_lines(heights)
    np.testing.assert_array_equal(whole[1, 3], standardise_lines(heights[1, 3]))


@pytest.mark.smoke
def test_standardised_lines_have_deviation_1_whatever_the_unit(heights):
    out = standardise_lines(heights)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.std(-1), 1, atol=1e-5)
    np.testing.assert_allclose(standardise_lines(heights * 1e-12 + 3e-9), out, atol=1e-5)
    np.testing.assert_allclose(standardise_lines(heights * 5 + 100), out, atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
@pytest.mark.parametrize("value", [0, 1, 77])
def test_constant_lines_become_0(dtype, value):
    lines = np.full((3, 128), value, dtype)
    assert (standardise_lines(lines) == 0).all()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("scale", [1e-10, 1, 1e6])
def test_mere_slopes_become_0(dtype, scale):
    line = (np.linspace(0.1, 0.9, 128) * scale).astype(dtype)
    assert (standardise_lines(line) == 0).all()


@pytest.mark.smoke
def test_8_bit_pictures_and_heights_in_metres_give_the_same_input():
    picture = np.random.default_rng(1).integers(0, 255, (4, 128)).astype("u1")
    metres = picture * 3.7e-12 + 1e-9
    np.testing.assert_allclose(
        standardise_lines(picture), standardise_lines(metres), atol=1e-5
    )


def test_more_than_the_steps_of_an_8_bit_picture_is_structure():
    line = np.zeros(128, "u1")
    line[40] = 1
    assert not standardise_lines(line).any()  # rounding of a slope looks alike
    line[40:45] = 1, 5, 9, 6, 3
    assert standardise_lines(line).std() == pytest.approx(1, abs=1e-5)


ROW, COLUMN = np.mgrid[:40, :200]
BLANK = {  # what a microscope writes where it saw nothing, in some unit
    "zeros": np.zeros((40, 200)),
    "constant": np.full((40, 200), 0.3),
    "plane": 0.2 + (0.7 * ROW - 3 * COLUMN) / 1000,
    "plane through 0": (0.7 * ROW - 3 * (COLUMN - 99.7)) / 1000,
    "hardly tilted": 0.1 + (0.003 * ROW + 0.011 * COLUMN) / 1000,
}
KINDS = {  # how numbers come
    "float64": lambda plane: plane,
    "float32": lambda plane: plane.astype("f4"),
    "float32 read as float64": lambda plane: plane.astype("f4").astype("f8"),
    "metres": lambda plane: (plane * 1e-9).astype("f4").astype("f8"),
    "uint8": lambda plane: np.round(plane * 120 + 80).clip(0, 255).astype("u1"),
    "int16": lambda plane: np.round(plane * 30000).astype("i2"),
    "int16 with a factor": lambda plane: np.round(plane * 30000) * 3.71e-13 + 2e-8,
    "20 bits": lambda plane: np.round(plane * 2**19) * 1.9e-14 - 4e-7,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blank", BLANK)
def test_a_blank_scan_has_no_signal_however_it_is_stored(blank, kind):
    heights = KINDS[kind](BLANK[blank])
    assert not has_signal(heights).any()
    assert not standardise_lines(heights).any()
    assert not scale_lines(heights).any()


@pytest.mark.parametrize("kind", KINDS)
def test_a_faint_surface_has_a_signal_however_it_is_stored(kind):
    faint = 0.05 * np.sin(COLUMN / 3 + ROW / 5)
    assert has_signal(KINDS[kind](faint)).all()


@pytest.mark.parametrize("slope", [0.1, 1, 10, 100])
@pytest.mark.parametrize("period", [6, 20, 100])
def test_a_slope_hides_no_signal_however_steep(period, slope):
    wave = np.sin(2 * np.pi * (COLUMN / period + ROW / 7.3))
    tilted = (wave + slope * COLUMN) * 1e-12 + 1e-7
    assert has_signal(tilted).all()
    assert has_signal(np.round(5 * wave + slope * COLUMN).astype("i2")).all()


def test_a_step_of_two_values_is_no_signal_and_more_values_are():
    step = (COLUMN > 90).astype("u1") * 50
    assert not has_signal(step).any()
    assert has_signal(step + (COLUMN % 3).astype("u1")).all()


def test_float32_heights_far_from_zero_keep_their_signal_and_a_slope_there_has_none():
    slope = 5e-6 + COLUMN * np.linspace(1e-12, 1e-10, 40)[:, None]  # 5 micrometres
    wave = 2e-11 * np.sin(COLUMN * 0.5)
    for number in (np.float32, np.float64):  # as measured, and as readers give it
        assert not has_signal(slope.astype(np.float32).astype(number)).any()
        assert has_signal((slope + wave).astype(np.float32).astype(number)).all()


def test_lines_with_a_signal_are_packed_and_what_is_said_of_them_unpacked():
    scans = np.random.default_rng(0).normal(size=(3, 6, 16))
    scans[1, [0, 3]] = 5
    scans[2] = 0
    packed, seen = pack_lines(scans)
    np.testing.assert_array_equal(packed[0], scans[0])
    np.testing.assert_array_equal(packed[1, :4], scans[1, [1, 2, 4, 5]])
    assert not packed[1, 4:].any()
    assert not packed[2].any()
    assert seen.tolist() == [[1, 2, 3, 4, 5, 6], [0, 1, 2, 2, 3, 4], [0] * 6]
    said = unpack_lines(np.arange(1.0, 7) + np.zeros((3, 1)), seen)
    np.testing.assert_array_equal(said, seen)
    heads = unpack_lines(packed.astype("f4"), seen)
    assert heads.dtype == np.float32
    np.testing.assert_allclose(heads[1, 3], scans[1, 2], rtol=1e-6)  # held
    assert not heads[1, 0].any()


def test_packing_ends_with_the_last_line_that_has_a_signal():
    scans = np.random.default_rng(0).normal(size=(1, 6, 16))
    scans[0, 4:] = np.linspace(3, 9, 16)
    packed, seen = pack_lines(scans)
    np.testing.assert_array_equal(packed[0, :4], scans[0, :4])
    assert not packed[0, 4:].any()
    assert seen.tolist() == [[1, 2, 3, 4, 4, 4]]
    again, _ = pack_lines(packed)
    np.testing.assert_array_equal(again, packed)


def test_short_lines_do_not_fail():
    assert standardise_lines(np.ones((3, 1))).tolist() == [[0], [0], [0]]
    assert standardise_lines(np.empty((0, 128))).shape == (0, 128)


def test_resampling_keeps_constants_and_slopes():
    assert resample_pixels(np.full((2, 300), 5.0), 128) == pytest.approx(5)
    slope = resample_pixels(np.arange(300.0), 128)
    np.testing.assert_allclose(np.diff(slope)[2:-2], 300 / 128, rtol=0.04)


@pytest.mark.parametrize(("old", "new"), [(300, 128), (512, 128), (64, 128), (5, 3)])
def test_every_new_pixel_is_a_mean_of_old_ones(old, new):
    weights = triangle_weights(old, new)
    assert weights.shape == (old, new)
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-6)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-6)


def test_downsampling_draws_no_stripes():
    noise = np.random.default_rng(2).normal(size=(4000, 300))
    spread = resample_pixels(noise, 128).std(0)
    assert spread[2:-2].max() / spread[2:-2].min() < 1.35  # a box filter gives 1.7


def test_a_line_of_the_right_length_is_left_alone():
    line = np.random.default_rng(3).random((2, 128))
    np.testing.assert_array_equal(resample_pixels(line, 128), line.astype("f4"))


def test_scans_are_resampled_along_both_axes():
    scan = np.arange(6.0)[:, None] + 10 * np.arange(8.0)
    out = resample_scan(scan, 3, 4)
    assert out.shape == (3, 4)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[1, 1:3], [2.5 + 25, 2.5 + 45], rtol=1e-5)


def test_heights_of_grey_pictures():
    grey = np.arange(12, dtype="u1").reshape(3, 4)
    for pixels in (grey, grey[:, :, None], np.stack([grey, grey * 0 + 255], 2)):
        heights, linear = picture_heights(pixels)
        np.testing.assert_array_equal(heights, grey)
        assert linear
    heights, linear = picture_heights(np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(heights, grey)
    assert linear


def test_heights_behind_the_brown_map_and_behind_others():
    v = np.arange(256).reshape(16, 16)
    brown = np.stack([np.minimum(2 * v, 255), v, np.maximum(2 * v - 256, 0)], 2)
    heights, linear = picture_heights(brown.astype("u1"))
    np.testing.assert_array_equal(heights, v)
    assert linear
    assert picture_heights(brown[:, :, ::-1].astype("u1"))[1] is False


@pytest.mark.smoke
def test_lines_are_scaled_by_those_so_far():
    rng = np.random.default_rng(0)
    heights = rng.normal(size=(2, 9, 40)) * rng.uniform(0.1, 9, (2, 9, 1))
    scaled = scale_lines(heights)
    deviation = remove_line_trend(heights).std(-1)
    for line in range(9):
        running = np.exp(np.log(deviation[:, : line + 1]).mean(1))
        assert scaled[:, line].std(-1) == pytest.approx(
            deviation[:, line] / running, rel=1e-5
        )
    np.testing.assert_allclose(scale_lines(heights * 1e-9 + 3e-8), scaled, atol=1e-5)
    np.testing.assert_allclose(scale_lines(heights[:, :4]), scaled[:, :4], atol=1e-6)


def test_a_line_without_structure_does_not_count():
    heights = np.random.default_rng(0).normal(size=(5, 40))
    broken = np.insert(heights, 2, 3.0, axis=0)
    scaled = scale_lines(broken)
    assert not scaled[2].any()
    np.testing.assert_allclose(
        np.delete(scaled, 2, axis=0), scale_lines(heights), atol=1e-6
    )


def test_scaling_goes_on_where_it_stopped():
    heights = np.random.default_rng(0).normal(size=(9, 40))
    total, found = (np.zeros(1), np.zeros(1)), []
    for line in heights:
        scaled, total = scale_lines(line[None], total)
        found.append(scaled[0])
    np.testing.assert_allclose(found, scale_lines(heights), atol=1e-6)


@pytest.mark.parametrize(
    ("unit", "offset", "slope", "number"),
    [
        (1e-11, 1e-6, 0, "f8"),  # metres, far from 0
        (1e-11, 0, 1e-9, "f8"),  # a tilt of 100 times what is seen
        (1e-11, 0, 1e-9, "f4"),
        (1, 1e3, 0, "f4"),
        (1e-25, 1e-20, 0, "f8"),  # squares that float32 does not hold
        (1e25, 1e30, 0, "f8"),
        (20, 100, 0, "u1"),
        (20, 3e4, 0, "i2"),
        (1e5, 4e9, 0, "u4"),
    ],
)
def test_what_is_standardised_in_float32_is_that_of_float64(unit, offset, slope, number):
    waves = np.random.default_rng(4).normal(size=(7, 90)).clip(-3, 3)
    heights = (waves * unit + offset + slope * np.linspace(-1, 1, 90)).astype(number)
    levelled = remove_line_trend(heights.astype("f8") / unit)
    wanted = levelled / levelled.std(-1, keepdims=True)
    np.testing.assert_allclose(standardise_lines(heights), wanted, rtol=0, atol=3e-6)
    together = np.exp(np.log(levelled.std(-1)).mean())
    np.testing.assert_allclose(
        scale_lines(heights)[-1], levelled[-1] / together, rtol=0, atol=5e-6
    )


def test_many_lines_are_treated_as_few():
    lines = np.random.default_rng(5).normal(size=(2100, 12)).cumsum(1).astype("f4")
    lines[1500:] += 1e3 * np.arange(12)  # steep
    lines[30:40] = lines[2000:2050] = 7  # lost
    whole = standardise_lines(lines)
    parts = [standardise_lines(lines[at : at + 7]) for at in range(0, 2100, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(has_signal(lines), whole.any(-1))
    np.testing.assert_allclose(
        level_lines(lines), remove_line_trend(lines), rtol=0, atol=2e-3
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_by_itself_is_treated_as_among_others(kind):
    waves = np.sin(COLUMN / 3 + ROW / 5) * np.exp(-ROW / 3) + (ROW % 3) * COLUMN / 20
    heights = np.concatenate([KINDS[kind](each) for each in (*BLANK.values(), waves)])
    shapes, deviation = line_shapes(heights)
    for line, shape, size in zip(heights, shapes, deviation, strict=True):
        alone, its_size = line_shapes(line)
        np.testing.assert_allclose(alone, shape, rtol=0, atol=3e-7)
        assert its_size == pytest.approx(size, rel=1e-9)
        assert has_signal(line) == (size > 0)
    assert deviation.any()
    assert not deviation.all()
