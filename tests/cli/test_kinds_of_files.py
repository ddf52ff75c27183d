"""A scan, a curve, an unknown file, a folder of all: each command says one right sentence."""

import json
import warnings

import h5py
import numpy as np
import pytest
from helpers import ONCE, TINY, check_error, lattice_scans, stm
from scan_files import sxm

pytestmark = ONCE  # no backend changes what is tested here

SCAN = lattice_scans([1])[0] * 1e-12
SCANS = "Scans: Nanonis (.sxm), "


def write_scan(path):
    path.write_bytes(sxm({"Z": ("m", SCAN, None)}, size=(1e-8, 1e-8)))


def write_grid(path):
    path.write_bytes(
        b'Grid dim="8 x 8"\r\nGrid settings=0;0;1E-8;1E-8\r\n:HEADER_END:\r\n\0'
    )


def write_spectrum(path):
    path.write_text("Experiment\tbias spectroscopy\t\nBias (V)\tCurrent (A)\n")


def write_curves(path):
    with h5py.File(path, "w") as file:
        file["entry/bias"], file["entry/current"] = np.arange(50.0), np.arange(50.0)


def write_text(path):
    path.write_text("hello, a letter\n")


def write_binary(path):
    path.write_bytes(bytes(range(256)) * 9)


def write_array(path):
    with path.open("wb") as file:
        np.save(file, SCAN)


KINDS = {  # name: how to write it, what a command for scans says, what one for datasets says
    "scan.sxm": (
        write_scan,
        None,
        "is a microscope's file, Nanonis (.sxm), not a dataset. `stm-keras predict` judges",
    ),
    "grid.3ds": (
        write_grid,
        "is a Nanonis grid of spectra (.3ds). Give a scan (.sxm).",
        "is a Nanonis grid of spectra (.3ds). Give a dataset: HDF5, NPZ, MATLAB",
    ),
    "curve.dat": (
        write_spectrum,
        "is a Nanonis spectrum (.dat). Give a scan (.sxm).",
        "is a Nanonis spectrum (.dat). Give a dataset: HDF5",
    ),
    "curves.nxs": (
        write_curves,
        "is an HDF5 file without an image: no array of numbers has two axes of 16 or more.",
        "has no `images`. Found: `entry`. A dataset has `images` with `labels`",
    ),
    "odd.sxm": (
        write_text,
        f"is of an unknown format. {SCANS}",
        "Datasets: HDF5, NPZ, MATLAB",
    ),
    "notes": (
        write_text,
        f"is of an unknown format. {SCANS}",
        "Datasets: HDF5, NPZ, MATLAB",
    ),
    "program": (write_binary, "of an unknown format", "Datasets: HDF5, NPZ, MATLAB"),
    "array.npy": (write_array, None, "is one bare array. Save images and labels with"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_command_for_scans_says_what_it_was_given(tmp_path, model_file, name):
    write, phrase, _ = KINDS[name]
    write(tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = stm("info", tmp_path / name)
        judged = stm("predict", model_file, tmp_path / name)
    for result in (shown, judged):
        if phrase is None:
            assert result.exit_code == 0, result.stderr
        else:
            check_error(result, 3, f"{name}: ", phrase)


@pytest.mark.parametrize("command", ["convert", "audit", "train"])
@pytest.mark.parametrize("name", KINDS)
def test_a_command_for_datasets_says_what_it_was_given(tmp_path, command, name):
    write, _, phrase = KINDS[name]
    write(tmp_path / name)
    arguments = {
        "convert": ["convert", tmp_path / name, "-o", tmp_path / "new.h5"],
        "audit": ["audit", tmp_path / name],
        "train": ["train", "--data", tmp_path / name, *TINY, "-o", tmp_path / "run"],
    }[command]
    check_error(stm(*arguments), 3, f"{name}: ", phrase)


def test_a_table_of_scans_is_to_be_converted_first(tmp_path):
    write_scan(tmp_path / "a.sxm")
    (tmp_path / "labels.csv").write_text("file,label\na.sxm,rows\n")
    phrases = ("a.sxm: is a microscope's file, Nanonis (.sxm), not a picture", "convert /")
    check_error(stm("audit", tmp_path), 3, *phrases)


@pytest.fixture
def session(tmp_path):
    folder = tmp_path / "session"
    folder.mkdir()
    for name in KINDS:
        KINDS[name][0](folder / name)
    (folder / "odd.sxm").unlink()
    (folder / "program").unlink()
    (folder / "b.sxm").write_bytes((folder / "scan.sxm").read_bytes())
    return folder


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", ["info", "predict"])
def test_a_folder_says_how_many_files_were_left_out(session, model_file, command):
    model = [model_file] if command == "predict" else []
    result = stm(command, *model, session, "--json")
    assert result.exit_code == 0, result.stderr
    names = [
        json.loads(line)["path"].rpartition("/")[2] for line in result.stdout.splitlines()
    ]
    assert names == ["array.npy", "b.sxm", "scan.sxm"]
    told = result.stderr.splitlines()[-1]
    assert told == "4 files are not scans and were left out (--verbose lists them)."
    listed = stm(command, *model, session, "--verbose").stderr.splitlines()
    assert listed[-5] == "4 files are not scans and were left out."
    for name in ("grid.3ds", "curve.dat", "curves.nxs", "notes"):
        assert any(name in line for line in listed[-4:])
    assert "without an image" in "".join(listed[-4:])


@pytest.mark.filterwarnings("ignore")
def test_info_of_a_folder_goes_on_after_a_damaged_file(session):
    (session / "a.sxm").write_bytes((session / "scan.sxm").read_bytes()[:-9])
    result = stm("info", session)
    assert result.exit_code == 3
    assert f"{session / 'scan.sxm'}\nscan " in result.stdout
    assert "a.sxm: is cut short" in result.stderr
    check_error(stm("info", session, "-o", "a.png"), 2, "`-o` draws the scans of one file.")


def test_the_folder_of_a_run_is_not_data_and_not_a_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.toml").write_text('[model]\nname = "sequential"\n')
    told = stm("audit", "run")
    check_error(told, 3, "run: is a run or a model, not a dataset", "audit DATA --run RUN")
    for given in (
        ["convert", "run", "-o", "new.h5"],
        ["train", "--data", "run", "-o", "b"],
    ):
        check_error(
            stm(*given), 3, "run: is a run, not a dataset. Give the data that it was"
        )
    for given in (["submit", "run"], ["submit", "run", "-o", "sweep", "--dry-run"]):
        check_error(
            stm(*given), 2, "run: is a run or a model, neither a config nor a sweep"
        )
