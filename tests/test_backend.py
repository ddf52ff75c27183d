"""The backend is chosen before keras loads, and what is missing is said."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, check_error, stm, stm_process

from stm_keras import backend as subject
from stm_keras.backend import (
    BACKENDS,
    cheap_draws,
    check_device,
    devices,
    installed_backends,
    use_backend,
)
from stm_keras.errors import BackendError, UsageError

IN_USE = keras.config.backend()
OTHER = next(name for name in BACKENDS if name != IN_USE)


@pytest.fixture
def installed(monkeypatch):
    """Set of what is installed, which a test may change; keras is not loaded."""
    names = {"keras", *BACKENDS}
    monkeypatch.setattr(subject, "find_spec", lambda name: name if name in names else None)
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setenv("KERAS_BACKEND", "")
    return names


@pytest.mark.smoke
def test_the_backend_in_use_is_the_one_asked_for():
    assert os.environ["KERAS_BACKEND"] == IN_USE
    assert use_backend() == IN_USE


def test_a_name_wins_over_the_environment_and_that_over_what_is_there(
    installed, monkeypatch
):
    assert use_backend() == "tensorflow"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    assert use_backend() == "torch"
    assert use_backend("jax") == "jax"
    assert os.environ["KERAS_BACKEND"] == "jax"


def test_the_first_backend_installed_is_the_default(installed):
    installed.discard("tensorflow")
    assert installed_backends() == ["jax", "torch"]
    assert use_backend() == "jax"


def test_a_missing_backend_gives_the_line_to_type(installed):
    installed.discard("jax")
    expected = (
        r'Backend jax is not installed\. Run.*: pip install "\.\[jax\]" '
        r"\(installed here: tensorflow, torch\)\."
    )
    with pytest.raises(BackendError, match=expected):
        use_backend("jax")


def test_no_backend_at_all_gives_a_line_and_all_names(installed):
    installed.clear()
    with pytest.raises(
        BackendError, match=r'No backend.*"\.\[tensorflow\]" \(or jax or torch in its'
    ):
        use_backend()


def test_a_missing_keras_gives_the_line_to_type(installed):
    installed.discard("keras")
    with pytest.raises(BackendError, match=r'keras is not installed.*"\.\[torch\]"'):
        use_backend("torch")


def test_an_unknown_backend_lists_the_known(installed, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(
        BackendError, match="Received: theano. Known: tensorflow, jax, torch"
    ):
        use_backend()


def test_another_backend_than_the_loaded_one_is_refused():
    with pytest.raises(BackendError, match=f"keras runs on {IN_USE} .* Received: {OTHER}"):
        use_backend(OTHER)
    assert os.environ["KERAS_BACKEND"] == IN_USE


@pytest.mark.parametrize("device", ["tpu", "gpu:x", "cpu:1", "", "cuda", "GPU"])
def test_a_device_that_makes_no_sense_is_refused(device):
    with pytest.raises(
        UsageError, match=rf"`--device` is cpu, gpu or .* Received: {device}\."
    ):
        use_backend(device=device)


def test_a_device_is_told_to_every_backend(installed, monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "KERAS_TORCH_DEVICE"):
        monkeypatch.setenv(name, "before")
    use_backend(device="gpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "before"
    use_backend(device="gpu:1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    use_backend(device="cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert os.environ["JAX_PLATFORMS"] == os.environ["KERAS_TORCH_DEVICE"] == "cpu"


def test_devices_are_named():
    found = devices()
    assert found
    assert all(name == "cpu" or name.startswith("gpu: ") for name in found)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(subject, "devices", lambda: ["cpu"])
    check_device("cpu")
    with pytest.raises(UsageError, match=r"`--device gpu:0`: the backend sees no GPU\."):
        check_device("gpu:0")


# The same through the command line


def test_a_missing_backend_is_exit_code_2(dataset_file, tmp_path, monkeypatch):
    real = subject.find_spec
    monkeypatch.setattr(subject, "find_spec", lambda n: None if n == OTHER else real(n))
    given = ["--data", dataset_file, "-o", tmp_path / "run", "--backend", OTHER]
    check_error(stm("train", *given), 2, f'pip install ".[{OTHER}]"')
    assert not (tmp_path / "run").exists()


def test_an_unknown_backend_option_is_exit_code_2(dataset_file, tmp_path):
    result = stm(
        "train", "--data", dataset_file, "-o", tmp_path / "run", "--backend", "mxnet"
    )
    assert result.exit_code == 2
    assert "'mxnet' is not one of 'tensorflow', 'jax', 'torch'" in result.stderr


def test_an_unknown_backend_in_the_environment_is_exit_code_2(tmp_path, dataset_file):
    given = ["train", "--data", dataset_file, "-o", tmp_path / "run"]
    done = stm_process(*given, env={"KERAS_BACKEND": "theano"})
    check_error(
        done, 2, "Unknown backend. Received: theano. Known: tensorflow, jax, torch."
    )
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_device_that_makes_no_sense_is_exit_code_2(tmp_path, dataset_file):
    given = ["train", "--data", dataset_file, "-o", tmp_path / "run", "--device", "toaster"]
    check_error(stm(*given), 2, "`--device` is cpu, gpu or gpu:0", "Received: toaster.")
    assert not (tmp_path / "run").exists()


@ONCE
def test_the_option_wins_over_the_environment_in_a_real_process(model_file, tmp_path):
    code = (
        "import sys; from stm_keras.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sys.modules['keras'].config.backend(), *("
        "name for name in ('tensorflow', 'jax', 'matplotlib', 'sklearn') "
        "if sys.modules.get(name)))"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "predict",
            model_file,
            "none.npy",
            "--backend",
            IN_USE,
        ],
        env={**os.environ, "KERAS_BACKEND": OTHER, "PYTHONPATH": str(REPOSITORY)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, done.stderr
    # each takes seconds to load, and no other backend needs it
    needed = [IN_USE] if IN_USE != "torch" else []
    assert done.stdout.split("\n")[-2].split() == [IN_USE, *needed]
    assert done.stderr.startswith("Error: none.npy: does not exist")
    assert done.stderr.count("\n") == 1


SETTINGS = """
import os
from stm_keras.backend import import_keras
config = import_keras().config
print(config.floatx(), config.epsilon(), config.image_data_format(), config.backend())
print(config.max_epochs(), config.max_steps_per_epoch(), config.is_nnx_enabled())
print(os.environ["KERAS_MAX_EPOCHS"], os.environ.get("KERAS_HOME"))
import keras, numpy as np
keras.random.uniform((2,), seed=1)
print(keras.layers.Dense(2)(np.ones((1, 2))).dtype)
"""


@pytest.mark.parametrize("floatx", ["float16", pytest.param("bfloat16", marks=ONCE)])
def test_what_the_user_told_keras_elsewhere_has_no_effect(floatx, tmp_path):
    home = tmp_path / ".keras"
    home.mkdir()
    told = {"floatx": floatx, "epsilon": 0.1, "backend": OTHER, "nnx_enabled": True}
    text = json.dumps({**told, "image_data_format": "channels_first"})
    (home / "keras.json").write_text(text)
    variables = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "no number"}
    variables |= {"JAX_DEFAULT_PRNG_IMPL": "rbg", "HOME": str(tmp_path)}
    environment = {**os.environ, **variables, "PYTHONPATH": str(REPOSITORY)}
    environment.pop("KERAS_HOME", None)
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    first, second, third, dtype = done.stdout.splitlines()
    assert first == f"float32 1e-07 channels_last {IN_USE}"
    assert (second, third) == ("None None False", "1 None")
    assert "float32" in dtype
    assert "KERAS_MAX_EPOCHS=1 is ignored" in done.stderr
    assert (home / "keras.json").read_text() == text


def drawn():
    return keras.ops.convert_to_numpy(keras.random.uniform((4,), seed=3))


def test_draws_that_a_file_replaces_change_no_other_draw():
    before = drawn()
    with cheap_draws():
        inside = drawn()
    np.testing.assert_array_equal(drawn(), before)
    assert np.ptp(inside) > 0


@pytest.mark.skipif(IN_USE != "jax", reason="only JAX compiles what it draws with")
def test_draws_that_a_file_replaces_are_cheap_under_jax(monkeypatch):
    import jax

    with jax.default_prng_impl("threefry2x32"):  # whatever the environment says
        before = drawn()
        with cheap_draws():
            assert (drawn() != before).all()

    def older(name):
        raise ValueError(name)

    monkeypatch.setattr(jax, "default_prng_impl", older)
    before = drawn()
    with cheap_draws():
        np.testing.assert_array_equal(drawn(), before)
