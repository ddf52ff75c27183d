import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from stm_keras.data.dataset import CLASSES
from stm_keras.data.preprocess import remove_line_trend
from stm_keras.errors import UsageError
from stm_keras.simulate import UNKNOWN_KINDS, SimulationConfig, simulate, simulate_unknown

SMALL = SimulationConfig(size=48)
CLEAN = SimulationConfig(effects=(), p_partial=0)


def assert_same(first, second):
    assert first.images.tobytes() == second.images.tobytes()
    assert first.lines.tobytes() == second.lines.tobytes()
    assert first.parameters.keys() == second.parameters.keys()
    for name, values in first.parameters.items():
        assert values.tobytes() == second.parameters[name].tobytes(), name


def spectrum(image):
    """Power of the waves of a scan, frequency 0 in the middle."""
    heights = remove_line_trend(image.astype(float))
    window = np.hanning(len(image))
    return np.fft.fftshift(np.abs(np.fft.fft2(heights * window * window[:, None])) ** 2)


def peaks(image, count):
    """Strongest waves of a scan: float array `(count, 2)`, in periods per scan."""
    power = spectrum(image)
    middle = len(image) // 2
    found = []
    while len(found) < count:
        row, column = np.unravel_index(power.argmax(), power.shape)
        around = power[row - 1 : row + 2, column - 1 : column + 2]
        grid = np.mgrid[-1:2, -1:2]
        shift = (around * grid).sum((1, 2)) / around.sum()
        found.append((row - middle + shift[0], column - middle + shift[1]))
        power[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = 0
    return np.array(found)


def test_other_surfaces_are_scans_without_class_or_change():
    dataset = simulate_unknown(7, 0)
    assert dataset.images.shape == (7, 128, 128)
    assert dataset.images.dtype == np.uint8
    assert dataset.classes == CLASSES
    assert (dataset.labels == -1).all()
    assert (dataset.change_line == -1).all()
    assert not dataset.single_class().any()
    assert dataset.source == "simulated, other surfaces, seed 0"
    for values in dataset.parameters.values():
        assert values.shape == (7,)
        assert values.dtype.kind in "iuf"


def test_all_kinds_occur_and_are_named_by_their_index():
    kind = simulate_unknown(40 * len(UNKNOWN_KINDS), 1, config=SMALL).parameters["kind"]
    counts = np.bincount(kind, minlength=len(UNKNOWN_KINDS))
    assert len(counts) == len(UNKNOWN_KINDS)
    assert counts.min() > 15


def test_chosen_kinds_alone_are_drawn():
    wanted = ("grains", "Si(111)-7x7")
    kind = simulate_unknown(64, 2, wanted, SMALL).parameters["kind"]
    assert {UNKNOWN_KINDS[index] for index in kind} == set(wanted)
    alone = simulate_unknown(3, 2, "hum", SMALL).parameters["kind"]
    assert (alone == UNKNOWN_KINDS.index("hum")).all()


def test_the_first_scans_do_not_depend_on_how_many_are_asked_for():
    few, many = simulate_unknown(3, 4, config=SMALL), simulate_unknown(130, 4, config=SMALL)
    assert_same(few, many.take(np.arange(3)))
    later = simulate_unknown(67, 4, config=SMALL, start=62)
    assert_same(later, many.take(np.arange(62, 129)))
    assert later.source == "simulated, other surfaces, seed 4 from scan 62"


def test_blas_threads_give_the_same_bytes():
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(simulate_unknown(64, 9))
    assert_same(*results)


def test_seeds_and_chunks_differ_and_no_scan_is_of_the_known_stream():
    whole = simulate_unknown(128, 6, config=SMALL)
    assert not np.array_equal(
        whole.images[0], simulate_unknown(1, 7, config=SMALL).images[0]
    )
    assert not np.array_equal(whole.images[:64], whole.images[64:])
    known = simulate(64, 6, SMALL)
    assert not (known.images == whole.images[:64]).all((1, 2)).any()


@pytest.mark.parametrize("kind", UNKNOWN_KINDS)
def test_a_kind_is_recorded_as_real_scans_are(kind):
    dataset = simulate_unknown(32, 3, kind, SimulationConfig(size=64, p_partial=0.5))
    assert (dataset.lines < 64).any()
    blank = 0
    pixels = np.arange(64) - 31.5
    for image, lines in zip(dataset.images, dataset.lines, strict=True):
        assert (image[lines:] == 0).all()
        blank += image.max() == 0
        if image.max():
            assert image[:lines].min() == 0
            assert image.max() == 254
            heights = image[:lines].astype(float)
            assert np.ptp(heights.mean(1)) < 1.01
            assert np.abs(heights @ pixels / (pixels @ pixels)).max() < 0.03
    assert blank == 0 if kind != "blank" else 0 < blank < 16


@pytest.mark.parametrize("kind", UNKNOWN_KINDS)
def test_scans_of_a_kind_differ(kind):
    images = simulate_unknown(32, 5, kind, SMALL).images
    different = np.unique(images.reshape(32, -1), axis=0)
    assert len(different) >= (32 if kind != "blank" else 16)


@pytest.mark.parametrize("kind", ["graphite", "metal (111)"])
def test_close_packed_lattices_have_six_waves_at_sixty_degrees(kind):
    config = SimulationConfig(effects=(), p_partial=0)
    dataset = simulate_unknown(12, 8, kind, config)
    hexagonal = 0
    for image, size in zip(dataset.images, dataset.parameters["scan_size_nm"], strict=True):
        waves = peaks(image, 6)
        angles = np.sort(np.rad2deg(np.arctan2(*waves.T)))
        number = np.hypot(*waves.T)
        period = size / number.mean() * 2 / np.sqrt(3)
        six = np.allclose(np.diff(angles), 60, atol=8) and np.ptp(number) < 0.1 * number[0]
        hexagonal += six and 0.22 < period < 0.37
    assert hexagonal >= 9  # in the others a harmonic is stronger than a wave


def test_a_square_lattice_is_never_near_the_period_of_hydrogen_atoms():
    dataset = simulate_unknown(24, 8, "square lattice", CLEAN)
    periods = []
    for image in dataset.images:
        waves = peaks(image, 4)
        number = np.hypot(*waves.T)
        if np.ptp(number) < 0.2 * number.mean():
            periods.append(128 / number.mean())
    periods = np.array(periods)
    assert len(periods) > 15
    assert ((periods < 6.5) | (periods > 17)).all()


def test_the_cell_of_7x7_is_2_7_nm_wide():
    dataset = simulate_unknown(16, 8, "Si(111)-7x7", CLEAN)
    fitting = 0
    for image, size in zip(dataset.images, dataset.parameters["scan_size_nm"], strict=True):
        power = spectrum(image)
        row, column = np.mgrid[-64:64, -64:64]
        number = np.hypot(row, column) / size  # waves per nm
        first = (abs(number - 2 / (np.sqrt(3) * 2.69)) < 0.08).nonzero()
        below = number < 0.3
        fitting += power[first].max() > 3 * power[below].max()
    assert fitting >= 9  # the others show a step


def test_white_noise_has_no_structure_across_lines():
    images = simulate_unknown(20, 10, "white noise", CLEAN).images.astype(float)
    images -= images.mean((1, 2), keepdims=True)
    across = (images[:, 1:] * images[:, :-1]).mean((1, 2)) / images.var((1, 2))
    assert np.abs(across).max() < 0.1


def test_hum_is_periodic_along_a_line_and_not_in_step_between_lines():
    images = simulate_unknown(20, 10, "hum", CLEAN).images
    for image in images:
        heights = remove_line_trend(image.astype(float))
        along = np.abs(np.fft.rfft(heights * np.hanning(128), axis=1)) ** 2
        assert along.mean(0).max() > 5 * np.median(along)
        power = spectrum(image)
        assert power.max() < 0.2 * power.sum()  # a grating holds 0.3 in one point


def test_grains_and_molecules_stand_out_on_the_right_side():
    molecules = simulate_unknown(20, 11, "molecules", CLEAN).images.astype(float)
    assert (np.median(molecules, (1, 2)) < molecules.mean((1, 2))).mean() > 0.8
    grains = simulate_unknown(20, 11, "grains", CLEAN).images.astype(float)
    assert (np.median(grains, (1, 2)) > grains.mean((1, 2))).mean() > 0.7


def test_noise_follows_the_config():
    calm = simulate_unknown(64, 12, "metal (111)", CLEAN)
    loud = SimulationConfig(effects=("noise",), p_partial=0, noise_to_lattice=(3, 3))
    noisy = simulate_unknown(64, 12, "metal (111)", loud)
    assert (calm.parameters["noise_to_surface"] == 0).all()
    assert np.allclose(noisy.parameters["noise_to_surface"], 3)
    difference = np.abs(np.diff(calm.images.astype(float), axis=1)).mean()
    assert np.abs(np.diff(noisy.images.astype(float), axis=1)).mean() > difference


def test_others_are_quick():
    simulate_unknown(1, 0)
    start = time.process_time()
    simulate_unknown(128, 13)
    assert 128 / (time.process_time() - start) > 100  # 390 on an idle core


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "`count` must be a whole number of 1 or more. Received: count=0."),
        ({"seed": -1}, "`seed` must be a whole number of 0 or more"),
        ({"start": 1.5}, "`start` must be a whole number of 0 or more"),
        ({"kinds": ["gold"]}, "`kinds` must name surfaces. Received: 'gold'. Known: graph"),
        ({"kinds": ()}, "`kinds` must name surfaces. Received: none."),
        ({"config": {}}, "`config` must be a SimulationConfig. Received: dict."),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UsageError) as error:
        simulate_unknown(**{"count": 1, "seed": 0, **arguments})
    assert str(error.value).startswith(message)
