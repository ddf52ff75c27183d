import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import stm_keras
from stm_keras.data.dataset import CLASSES
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.simulate import GENERIC_KINDS, SimulationConfig, simulate

SMALL = SimulationConfig(size=48)


def assert_same(first, second):
    assert first.images.tobytes() == second.images.tobytes()
    for name in ("labels", "lines", "line_labels", "change_line"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    assert first.parameters.keys() == second.parameters.keys()
    for name, values in first.parameters.items():
        assert values.tobytes() == second.parameters[name].tobytes(), name


@pytest.mark.smoke
def test_a_data_set_has_images_classes_of_lines_and_parameters():
    dataset = simulate(5, 0)
    assert dataset.images.shape == (5, 128, 128)
    assert dataset.images.dtype == np.uint8
    assert dataset.labels.shape == dataset.lines.shape == dataset.change_line.shape == (5,)
    assert dataset.line_labels.shape == (5, 128)
    assert dataset.line_labels.dtype == np.int8
    assert dataset.classes == CLASSES
    assert dataset.session is None
    assert dataset.source == "simulated, seed 0"


def test_parameters_hold_one_entry_for_each_scan_and_can_be_saved(tmp_path):
    dataset = simulate(70, 1, SMALL)
    shapes = {name: values.shape for name, values in dataset.parameters.items()}
    assert all(shape[0] == 70 for shape in shapes.values())
    for name in ("scan_size_nm", "angle_deg", "generic_kind", "z_range_pm", "apex_line"):
        assert shapes[name] == (70,)
    for name in ("corrugation_pm", "visible_grey", "signal_to_noise", "tip_class", "w_c"):
        assert shapes[name] == (70, 2)
    assert shapes["mini_tip_nm"] == (70, 2, 3, 2)
    with h5py.File(tmp_path / "scans.h5", "w") as file:
        for name, values in dataset.parameters.items():
            assert values.dtype.kind in "iufb"
            file[name] = values
    generic = dataset.parameters["generic_kind"]
    assert generic.min() >= -1
    assert generic.max() < len(GENERIC_KINDS)


def test_parameters_stay_in_the_measured_ranges():
    parameters = simulate(256, 2).parameters
    size, angle = parameters["scan_size_nm"], parameters["angle_deg"]
    assert 0.8 < (size < 4.6).mean() < 0.95
    assert size.min() >= 3.0
    assert size.max() <= 30.0
    assert angle.min() < 10
    assert angle.max() > 170
    lattice = parameters["corrugation_pm"][parameters["tip_class"] < 3]
    low, high = np.percentile(lattice, [5, 95])
    assert 0.5 < low < high < 40


@pytest.mark.smoke
def test_the_first_scans_do_not_depend_on_how_many_are_asked_for():
    few, many = simulate(3, 4, SMALL), simulate(130, 4, SMALL)
    assert_same(few, many.take(np.arange(3)))


def test_start_continues_the_stream_of_a_seed():
    whole = simulate(140, 5, SMALL)
    assert_same(simulate(67, 5, SMALL, start=62), whole.take(np.arange(62, 129)))
    assert_same(simulate(2, 5, SMALL, start=128), whole.take([128, 129]))
    assert simulate(1, 5, SMALL, start=7).source == "simulated, seed 5 from scan 7"


def test_seeds_and_chunks_give_different_scans():
    whole = simulate(128, 6, SMALL)
    assert not np.array_equal(whole.images[0], simulate(1, 7, SMALL).images[0])
    assert len(np.unique(whole.images.reshape(128, -1), axis=0)) == 128


def test_workers_give_the_same_bytes():
    alone = simulate(150, 8, SMALL, start=10)
    assert_same(alone, simulate(150, 8, SMALL, workers=2, start=10))
    assert not multiprocessing.active_children()


def test_blas_threads_give_the_same_bytes():
    results = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            results.append(simulate(64, 9))
            assert {pool["num_threads"] for pool in threadpool_info()} == {threads}
    assert_same(*results)


def test_a_process_with_other_blas_threads_gives_the_same_bytes():
    program = "from stm_keras.simulate import simulate; print(simulate(64, 9).digest())"
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    folder = Path(stm_keras.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **dict.fromkeys(names, "3"), "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == simulate(64, 9).digest()


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_the_scans(workers):
    seen = []
    simulate(
        140, 1, SMALL, workers, lambda done, total: seen.append((done, total)), start=60
    )
    assert seen == [(4, 140), (68, 140), (132, 140), (140, 140)]


def test_an_interrupt_leaves_no_process_behind():
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(1000, 1, SMALL, workers=2, progress=interrupt)
    assert not multiprocessing.active_children()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_script_without_a_guard_runs_once(tmp_path):
    script = tmp_path / "first.py"
    script.write_text(
        "print('begins')\n"
        "from stm_keras.simulate import SimulationConfig, simulate\n"
        "print(len(simulate(140, 1, SimulationConfig(size=32), workers=2).images))\n"
    )
    told = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (told.stdout.split(), told.stderr) == (["begins", "140"], "")


@pytest.mark.parametrize("dead", [1, 2])
def test_a_dead_worker_is_an_error_that_says_so(dead):
    def kill(done, total):
        for child in multiprocessing.active_children()[:dead]:
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(StmKerasError) as error:
        simulate(6400, 1, SMALL, workers=2, progress=kill)
    assert str(error.value) == (
        "A worker process of `simulate` died: memory is short. Use workers=1."
    )
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "`count` must be a whole number of 1 or more. Received: count=0."),
        (
            {"count": 2.5},
            "`count` must be a whole number of 1 or more. Received: count=2.5.",
        ),
        (
            {"count": True},
            "`count` must be a whole number of 1 or more. Received: count=True.",
        ),
        ({"seed": -1}, "`seed` must be a whole number of 0 or more. Received: seed=-1."),
        (
            {"seed": None},
            "`seed` must be a whole number of 0 or more. Received: seed=None.",
        ),
        (
            {"workers": 0},
            "`workers` must be a whole number of 1 or more. Received: workers=0.",
        ),
        ({"start": -3}, "`start` must be a whole number of 0 or more. Received: start=-3."),
        ({"config": {}}, "`config` must be a SimulationConfig. Received: dict."),
        ({"progress": 1}, "`progress` must be a function of (done, total). Received: int."),
        (
            {"count": 10**15},
            (
                "`count` is too large for the memory. Received: count=1000000000000000. "
                "Simulate fewer scans at a time, with `start`."
            ),
        ),
    ],
)
def test_senseless_arguments_are_refused(arguments, message):
    with pytest.raises(UsageError) as error:
        simulate(**{"count": 1, "seed": 0, **arguments})
    assert str(error.value) == message


def test_a_large_seed_and_numpy_integers_are_fine():
    assert len(simulate(np.int64(2), 2**70, SMALL, start=np.int32(1))) == 2
