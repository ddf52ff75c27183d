"""`stm-keras train` given what it cannot use: one line, an exit code, nothing left."""

import h5py
import numpy as np
import pytest
from helpers import (
    ONCE,
    TINY,
    check_error,
    lattice_scans,
    made_up_dataset,
    stm,
    write_dataset,
)

from stm_keras.data.dataset import CLASSES
from stm_keras.data.load import save_dataset

pytestmark = ONCE  # no backend changes what is tested here

IMAGES = lattice_scans(np.arange(12) % 4)
LABELS = np.arange(12) % 4


def write_arrays(path, **arrays):
    with h5py.File(path, "w") as file:
        for key, value in {"images": IMAGES, "labels": LABELS, **arrays}.items():
            if value is not None:
                file[key] = value


def with_nan():
    images = IMAGES.astype("f4")
    images[3, 5, 7] = np.nan
    return images


def write_pickle(path):
    np.savez(path.with_suffix(".npz"), images=np.array([{}, None]), labels=LABELS)
    path.with_suffix(".npz").rename(path)


BAD_FILES = {  # name: how to write the file, what the line says
    "not HDF5": (
        lambda p: p.write_bytes(b"scans, as a letter\n" * 9),
        "of an unknown format",
    ),
    "empty file": (lambda p: p.write_bytes(b""), "is empty"),
    "cut short": (None, "is damaged"),
    "wrong keys": (
        lambda p: write_arrays(p, images=None, pictures=IMAGES),
        "has no `images`. Found: `labels`, `pictures`.",
    ),
    "no labels": (lambda p: write_arrays(p, labels=None), "neither `labels` nor `votes`"),
    "wrong shape": (
        lambda p: write_arrays(p, images=IMAGES[:, :, :64]),
        "must have shape (scans, 128, 128)",
    ),
    "no scans": (
        lambda p: write_arrays(p, images=IMAGES[:0], labels=LABELS[:0]),
        "`images` is empty",
    ),
    "NaN": (
        lambda p: write_arrays(p, images=with_nan()),
        "1 of 12 scans hold NaN or inf in recorded lines; the first is scan 3.",
    ),
    "labels out of range": (
        lambda p: write_arrays(p, labels=LABELS + 5),
        "`labels` without `classes` must be 0 to 3 or 0 to 5, each",
    ),
    "one class only": (
        lambda p: write_arrays(p, labels=0 * LABELS, classes=list(CLASSES)),
        "all complete scans are of one class, 'individual atoms'.",
    ),
    "too few sessions": (
        lambda p: save_dataset(made_up_dataset(count=24, sessions=2, source=str(p)), p),
        "under protocol p2",
    ),
    "pickle": (write_pickle, "`images` holds Python objects."),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_data_is_one_line_and_leaves_no_run(name, tmp_path, dataset_file):
    write, phrase = BAD_FILES[name]
    data, folder = tmp_path / "bad.h5", tmp_path / "run"
    if write is None:
        whole = dataset_file.read_bytes()
        data.write_bytes(whole[: len(whole) // 2])
    else:
        write(data)
    result = stm("train", "--data", data, *TINY, "-o", folder)
    check_error(result, 3, str(data), phrase)
    assert not folder.exists()


@pytest.mark.smoke
def test_missing_data_is_one_line_and_leaves_no_run(tmp_path):
    data, folder = tmp_path / "no.h5", tmp_path / "deep" / "run"
    result = stm("train", "--data", data, "-o", folder)
    check_error(result, 3, f"{data}: does not exist. Look at the path.")
    assert not folder.exists()


def test_the_corrected_command_runs_in_the_same_folder(tmp_path):
    """Few sessions are refused under P2; under P1 the same folder must take them."""
    data = write_dataset(tmp_path / "few.h5", count=32, sessions=2)
    command = ["train", "--data", data, "--epochs", 1, *TINY, "-o", tmp_path / "run"]
    check_error(stm(*command), 3, "Use another seed or protocol")
    result = stm(*command, "--protocol", "p1")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "run" / "best.keras").exists()


def test_a_loss_that_explodes_at_once_leaves_the_folder_free(tmp_path, dataset_file):
    given = ["--data", dataset_file, "--epochs", 1, *TINY, "-o", tmp_path / "run"]
    wild = ["--learning-rate", "1e38", "--set", "train.clip_norm=none"]
    result = stm("train", *given, *wild, "--set", "train.warmup_epochs=0")
    check_error(result, 1, "lower `train.learning_rate`")
    assert not (tmp_path / "run").exists()


BAD_SETTINGS = {
    "train.epoch=5": "`train.epoch` is not a setting. Did you mean `train.epochs`?",
    "trian.epochs=5": "`trian` is not a setting.",
    "train.epochs=many": "`train.epochs`: Input should be a valid integer",
    "train.epochs=0": "`train.epochs`: Input should be greater than 0. Received: 0.",
    "train.epochs=1.5": "`train.epochs`: Input should be a valid integer",
    "train.precision=half": "`train.precision`: Input should be 'float32',",
    "data.protocol=p4": "`data.protocol`: Input should be 'p1', 'p2' or 'p3'",
    "model.name=resnet": "`model.name` must be one of cnn, cnn_small, lrcn,",
    "model.heads=3": "`model.heads` is a setting of sequential, vit only. Add --set model.name=",
    "seed": "`--set` takes section.key=value. Received: seed.",
    "seed.x=1": "`seed.x` is not a setting: `seed` is not a section.",
    "=1": "`--set` takes section.key=value. Received: =1.",
    "name=a/b": "`name`: String should match pattern",
}


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_a_wrong_setting_is_refused_with_a_hint(setting, tmp_path):
    given = ["--set", "seed=1"] if setting == "seed.x=1" else []
    result = stm("train", *given, "--set", setting, "-o", tmp_path / "run")
    check_error(result, 2, BAD_SETTINGS[setting])
    assert not (tmp_path / "run").exists()


BAD_CONFIGS = {
    "[train]\nepoch = 5\n": (
        2,
        "`train.epoch` is not a setting. Did you mean `train.epochs`?",
    ),
    "[train\n": (2, "is not TOML"),
    "train = 5\n": (2, "`train`: Input should be"),
    "model = 5\n": (2, "`model`: Input should be"),
    "[model]\nname = 5\n": (
        2,
        "`model.name` must be one of cnn, cnn_small, lrcn,",
    ),
}


@pytest.mark.parametrize("text", BAD_CONFIGS)
def test_a_wrong_config_file_is_named(text, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    code, phrase = BAD_CONFIGS[text]
    check_error(stm("train", file, "-o", tmp_path / "run"), code, f"{file}: ", phrase)
    assert not (tmp_path / "run").exists()


def test_a_config_that_is_missing_or_no_text_is_named(tmp_path):
    file = tmp_path / "mine.toml"
    check_error(stm("train", file), 3, f"{file}: no such file. These configs come with")
    file.write_bytes(b"\x89HDF\xff\xfe")
    check_error(
        stm("train", file), 3, f"{file}: is not in UTF-8 (byte 0). Give a TOML config"
    )
    check_error(stm("train", tmp_path), 3, f"{tmp_path}: is a folder. Give a TOML config.")


def test_an_option_of_the_wrong_type_is_a_usage_error(tmp_path):
    result = stm("train", "--epochs", "ten", "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert "'ten' is not a valid integer" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_fold_that_does_not_exist_is_refused(tmp_path, dataset_file):
    result = stm("train", "--data", dataset_file, "--fold", 7, "-o", tmp_path / "run")
    check_error(result, 2, "`fold` must be 0 to 4 under p2. Received: 7.")
    assert not (tmp_path / "run").exists()


def test_p3_without_campaigns_is_refused(tmp_path, dataset_file):
    given = ["--data", dataset_file, "--protocol", "p3", "-o", tmp_path / "run"]
    check_error(stm("train", *given), 3, "campaigns are unknown", "use protocol p1 or p2")
    assert not (tmp_path / "run").exists()
