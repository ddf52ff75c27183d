"""What is no ordinary file, wherever a command takes a path: one line, and no waiting."""

import os
import signal
import socket

import pytest
from helpers import ONCE, TINY, stm

from stm_keras.errors import InputError

pytestmark = ONCE
SECONDS = 20  # until a command hangs; each takes a tenth


@pytest.fixture(params=["fifo", "socket", "/dev/zero", "folder"])
def odd(request, tmp_path, monkeypatch):
    """Name of what is no file, in the working folder."""
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    if request.param == "fifo":
        os.mkfifo("odd")
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("odd")
    elif request.param == "folder":
        (tmp_path / "odd").mkdir()
    else:
        (tmp_path / "odd").symlink_to(request.param)
    return "odd"


def commands(odd, data, run, folder):
    """Return commands in which `odd` stands where a file should be."""
    (folder / "pictures").mkdir()
    (folder / "pictures" / "labels.csv").symlink_to(folder / odd)
    (folder / "more").mkdir()
    (folder / "more" / "labels.csv").write_text("file,label\nscan.png,rows\n")
    (folder / "more" / "scan.png").symlink_to(folder / odd)
    model = run / "best.keras"
    train = ["train", "--data", data, *TINY, "-o", folder / "out"]
    export = ["export", model, "-o", folder / "new.keras"]
    scan = [
        f"{odd}.{suffix}"
        for suffix in ("sxm", "png", "h5", "npz", "keras", "onnx", "skops")
    ]
    for name in scan:
        (folder / name).symlink_to(folder / odd)
    yield from (["train", odd], ["train", "--data", odd, "-o", folder / "out"])
    yield from ([*train, "--others", odd], [*train, "--set", f"train.init={odd}.keras"])
    yield from (
        ["convert", path, "-o", folder / "new.h5"] for path in (odd, "pictures", "more")
    )
    yield from (["info", path] for path in (odd, *scan))
    yield from (["audit", odd], ["audit", data, "--run", odd], ["analyze", odd])
    yield from (["predict", "--model", model, path] for path in (odd, *scan))
    yield from (["predict", "--model", path, data] for path in (odd, *scan[-3:]))
    yield from (["predict", path, data] for path in scan[-3:])
    yield from (["evaluate", path, "--data", data] for path in (odd, *scan[-3:]))
    yield from (["evaluate", model, "--data", odd], ["evaluate", model, "--data", "more"])
    yield ["evaluate", model, "--data", data, "--others", odd]
    yield from (["export", path, "-o", folder / "new.keras"] for path in (odd, *scan[-3:]))
    yield from ([*export, "--scores", odd], [*export, "--data", data, "--others", odd])
    yield [*export, "--variant", "float16", "--data", odd]
    bench = ["benchmark", "--no-train", "--protocols", "p1"]
    yield from ([*bench, odd, "--data", data], [*bench, "vit", "--data", odd])
    yield [*bench, "vit", "--data", data, "-o", odd]
    compare = ["compare", "--backends", "torch", "-o", folder / "compared"]
    yield from ([*compare, odd, "--data", data], [*compare, "vit", "--data", odd])
    yield [*compare, "vit", "--data", data, "--weights", odd]
    yield ["compare", "--join", odd, "-o", folder / "compared"]
    yield from (
        ["submit", odd, "-o", folder / "s"],
        ["submit", "--sweep", odd, "-o", folder / "s"],
    )


def test_no_command_waits_for_what_is_no_file(odd, dataset_file, trained_run, tmp_path):
    def stop(*_):
        raise TimeoutError

    former, wrong = signal.signal(signal.SIGALRM, stop), []
    try:
        for command in commands(odd, dataset_file, trained_run, tmp_path):
            signal.alarm(SECONDS)
            try:
                result = stm(*command)
                told = result.exit_code in (1, 2, 3, 4) and "Error: " in result.stderr
            except Exception as error:  # noqa: BLE001  all offenders at once
                told, result = False, error
            finally:
                signal.alarm(0)
            if not told:
                wrong.append((command, getattr(result, "stderr", repr(result))[-300:]))
    finally:
        signal.signal(signal.SIGALRM, former)
    assert not wrong


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    from stm_keras.config import load_config

    path = tmp_path / "a.toml"
    path.write_text("")
    monkeypatch.setattr(
        type(path),
        "open",
        lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")),
    )
    with pytest.raises(InputError, match=r"a\.toml: cannot be read \(Permission denied\)"):
        load_config(path)
