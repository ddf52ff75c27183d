"""Text, JSON, TOML, zip and arrays that anybody may have written: plain values, or one line."""

import io
import json
import os
import socket
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import SHARED

from stm_keras.config import load_config, parse_value
from stm_keras.data.load import load_dataset
from stm_keras.errors import ConfigError, DatasetError, InputError, StmKerasError
from stm_keras.readers import read_scans
from stm_keras.untrusted import (
    MAX_DEPTH,
    open_archive,
    ordinary_file,
    parse_json,
    parse_toml,
    read_arrays,
    read_json,
    read_text,
)

HOSTILE = SHARED.parent / "cases" / "hostile"


def fails(call, *arguments, error=InputError, **more):
    """Return the one line that is said."""
    with pytest.raises(error) as caught:
        call(*arguments, **more)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000, text
    return text


@pytest.fixture(params=["fifo", "socket", "folder", "/dev/zero", "missing", "NUL", "long"])
def no_file(request, tmp_path, monkeypatch):
    """The path of what is no ordinary file."""
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    path = tmp_path / "it"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("it")
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "/dev/zero":
        path.symlink_to("/dev/zero")
    elif request.param == "NUL":
        path = Path("a\0b")
    elif request.param == "long":
        path = tmp_path / ("n" * 300)
    return path


@pytest.mark.parametrize("call", [ordinary_file, read_text, read_json, read_arrays])
def test_only_ordinary_files_are_opened(no_file, call):
    assert "Give a config." in fails(call, no_file, "a config")


def test_a_file_without_permission_is_told(tmp_path, monkeypatch):
    path = tmp_path / "a.toml"
    path.write_text("seed = 1")

    def refuse(*words):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "a.toml: cannot be read (Permission denied)" in fails(read_text, path)


def test_a_text_is_utf8_with_a_mark_or_without_and_not_too_long(tmp_path):
    path = tmp_path / "a.txt"
    for data in ("größe\n".encode(), b"\xef\xbb\xbf" + "größe\r\n".encode()):
        path.write_bytes(data)
        assert read_text(path) == "größe\n"
    path.write_bytes("größe".encode("latin-1"))
    told = fails(read_text, path, "a list", DatasetError, error=DatasetError)
    assert "is not in UTF-8 (byte 2). Give a list, saved in UTF-8." in told
    path.write_bytes(bytes(5))
    assert "too much for a list" in fails(read_text, path, "a list", limit=4)
    assert len(read_text(path, limit=5)) == 5


@pytest.mark.smoke
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"a": 1,}',
        "NaN",
        "[Infinity]",
        "[1e999]",
        "[-1e999]",
        "1" * 5000,
        "1" * 30,
        f"[{2**64}]",
        "0." + "1" * 5000,
        '"\x00"',
        b"\xff\xfe",
        '"half',
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[" * (MAX_DEPTH + 1) + "1" + "]" * (MAX_DEPTH + 1),
        " " * (17 << 20),
    ],
    ids=range(19),
)
def test_json_that_is_damaged_deep_or_endless_is_one_line(text):
    begin = time.monotonic()
    assert fails(parse_json, text, "a.json").startswith("a.json: is damaged (")
    assert time.monotonic() - begin < 5


def test_json_that_is_sound_is_read(tmp_path):
    value = {"a": [1, -2.5, None, True, "ü", 2**63], "b": {"c": []}}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(value))
    assert read_json(path) == value
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_json(deep, "deep") is not None


@pytest.mark.parametrize(
    "text",
    [
        "a = ",
        "a: 1",
        "a = 1\na = 2",
        'a = "\x00"',
        "a = " + "1" * 5000,
        "a = 1" + "_1" * 5000,
        "a = 0x" + "f" * 5000,
        f"a = {2**64}",
        "a = 1." + "1" * 5000,
        "a = " + "[" * 100_000,
        "a = " + "[" * 100_000 + "]" * 100_000,
        "a = " + "{a=" * 100_000,
        ".".join("a" * 100_000) + " = 1",
        " . ".join("a" * 100_000) + " = 1",
        "[" + ".".join('"a"' for _ in range(100_000)) + "]",
        "a" * (2 << 20),
    ],
    ids=range(16),
)
def test_toml_that_is_damaged_deep_or_endless_is_one_line(text):
    begin = time.monotonic()
    told = fails(parse_toml, text, "a.toml", ConfigError, error=ConfigError)
    assert told.startswith("a.toml: is not TOML (")
    assert time.monotonic() - begin < 5


def test_toml_that_is_sound_is_read():
    floats = ", ".join(["0.5"] * 500)
    text = f'a.b = 1\n[c]\nd = ["x.y.z", 0xff]\ne = [{floats}]\nf = nan\n'
    table = parse_toml(text, "a.toml")
    assert table["a"] == {"b": 1}
    assert table["c"]["d"] == ["x.y.z", 255]
    assert len(table["c"]["e"]) == 500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("[1, 2]", [1, 2]),
        ("vit", "vit"),
        ("1" * 5000, "1" * 5000),
        ("1\nother = 2", "1\nother = 2"),
        ("[" * 50_000, "[" * 50_000),
    ],
    ids=range(6),
)
def test_a_setting_that_is_no_toml_is_a_text(text, value):
    assert parse_value(text) == value


def test_a_config_that_is_hostile_is_one_line_and_short(tmp_path):
    path = tmp_path / "a.toml"
    key = "k" * 100_000
    for text in (f"{key} = 1", f'name = "{key}"', f"[train]\nepochs = '{key}'"):
        path.write_text(text)
        assert "a.toml: " in fails(load_config, path, error=ConfigError)
    for setting in (f"{key}=1", f"train.epochs={key}", key, f"seed.{key}=1", "train=[[]]"):
        told = fails(load_config, None, ["seed=1", setting], error=ConfigError)
        assert "Traceback" not in told


def test_a_setting_that_is_wrong_does_not_blame_the_file(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[train]\nepochs = 5\n[model]\nname = 'vit'\n")
    for setting in ("train.epochs=x", "train.epoch=5", "model.heads=3", "model={name='x'}"):
        assert "a.toml" not in fails(load_config, path, [setting], error=ConfigError)
    path.write_text("[train]\nepochs = 'x'\n")
    for settings in ([], ["seed=1"], ["train.batch_size=4"]):
        told = fails(load_config, path, settings, error=ConfigError)
        assert told.startswith(f"{path}: `train.epochs`")


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="needs ../shared/cases")
def test_the_hostile_toml_that_was_seen_is_one_line():
    assert "int.toml: is not TOML (" in fails(
        load_config, HOSTILE / "int.toml", error=ConfigError
    )


def archive(path, members=(("a.npy", b"x"),), **changes):
    """Write a zip archive, and change bits of its directory."""
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members:
            file.writestr(name, data)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    for offset, value in changes.get("directory", ()):
        data[entry + offset] = value
    path.write_bytes(bytes(data))
    return path


def read(path, **more):
    with open_archive(path, "a model", **more) as file:
        return [file.read(name) for name in file.namelist()]


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        (
            {"directory": [(8, 1)]},
            "cannot be read (it is encrypted). Give a model that is whole.",
        ),
        ({"directory": [(10, 93)]}, "packed by zip method 93, not stored or deflated)"),
        ({"directory": [(10, 12)]}, "packed by zip method 12,"),
        ({"directory": [(16, 9)]}, "cannot be read (Bad CRC-32"),
        ({"directory": [(42, 99)]}, "cannot be read ("),
        ({"directory": [(6, 99)]}, "cannot be read (zip file version"),
    ],
)
def test_an_archive_that_is_odd_is_one_line(tmp_path, changes, phrase):
    path = archive(tmp_path / "a.zip", **changes)
    assert phrase in fails(read, path)


def test_an_archive_holds_a_name_once_not_too_much_and_is_one(tmp_path):
    path = tmp_path / "a.zip"
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(path, [("a", b"1"), ("a", b"2")])
    assert "two members have one name" in fails(read, path)
    archive(path, [("a", bytes(1 << 20)), ("b", bytes(1 << 20))])
    assert "unpacks to more than 1 MiB, too much for a model" in fails(
        read, path, limit=1 << 20
    )
    assert len(read(path, limit=1 << 21)) == 2
    path.write_bytes(path.read_bytes()[:-30])
    assert "cannot be read (File is not a zip file)" in fails(read, path)
    archive(path, [(str(n), b"") for n in range(10_001)])
    assert "cannot be read (10001 members)" in fails(read, path)


def test_an_error_of_ours_passes_through(tmp_path):
    class Own(StmKerasError):
        pass

    def use():
        with open_archive(archive(tmp_path / "a.zip"), "a model"):
            raise Own("mine")

    assert fails(use, error=Own) == "mine"


def npy(array=None, header=None):
    stream = io.BytesIO()
    if header is not None:
        text = header.encode().ljust(117) + b"\n"
        return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_arrays_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "a.npz"
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.array(["x", "größe"]),
        "d": np.array(5),
        "e": np.zeros((0, 3), "f4"),
    }
    np.savez_compressed(path, **arrays)
    found = read_arrays(path, "arrays")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


@pytest.mark.parametrize(
    "data",
    [
        npy(np.array([{}], object)),
        npy(header="{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"),
        npy(header="{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
        npy(header="{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -4)}"),
        npy(header="{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
        npy(header="{'descr': 5, 'fortran_order': False, 'shape': (1,)}"),
        npy(header="{'descr': [[[]]], 'fortran_order': False, 'shape': (1,)}"),
        npy(header="{'descr': '<f8', 'fortran_order': False, 'shape': 5}"),
        npy(header="((((("),
        npy(header="__import__('os')"),
        b"no array",
        b"\x93NUMPY\x09\x09",
        b"",
    ],
    ids=range(13),
)
def test_what_is_no_plain_array_is_one_line(tmp_path, data):
    path = archive(tmp_path / "a.npz", [("a.npy", data)])
    assert "a.npz: cannot be read (" in fails(read_arrays, path, "arrays")


@pytest.mark.parametrize("names", [["scan"], ["images", "labels"]])
@pytest.mark.parametrize("change", [(8, 1), (10, 93), (10, 14), (10, 12), (6, 99)])
def test_an_odd_archive_of_scans_or_of_a_dataset_is_one_line(tmp_path, names, change):
    arrays = {"labels": np.arange(4)}
    scans = np.ones((4, 16, 16), "u1")
    members = [(f"{name}.npy", npy(arrays.get(name, scans))) for name in names]
    path = archive(tmp_path / "a.npz", members, directory=[change])
    call = load_dataset if "images" in names else read_scans
    assert "a.npz: " in fails(call, path)
