"""Results are never written over what is read, over one another, or over what came meanwhile."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers import ONCE, REPOSITORY, check_error, stm, write_dataset

from stm_keras import files
from stm_keras.cli.main import main
from stm_keras.errors import OutputError, UsageError
from stm_keras.files import atomic, atomic_folder, check_folder, check_outputs, sweep

pytestmark = ONCE  # no backend changes what is tested here


def write(path, text, overwrite=False, meanwhile=lambda: None):
    with atomic(path, overwrite) as temporary:
        temporary.write_text(text)
        meanwhile()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def no_links(*names):
    raise PermissionError(1, "Operation not permitted")


# what came meanwhile


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "a.txt"
    with pytest.raises(OutputError, match=r"a\.txt: exists already\. Add --overwrite"):
        write(path, "mine", meanwhile=lambda: path.write_text("another's"))
    assert path.read_text() == "another's"
    write(path, "mine", overwrite=True, meanwhile=lambda: path.write_text("newer"))
    assert path.read_text() == "mine"
    path.unlink()
    write(path, "again")
    assert path.read_text() == "again"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_write_at_once_one_does(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    path, ready, told = tmp_path / "a.txt", threading.Barrier(8), []

    def work(number):
        try:
            write(path, str(number), meanwhile=ready.wait)
            told.append(number)
        except OutputError:
            pass

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [int(path.read_text())] == told
    assert names(tmp_path) == ["a.txt"]


def test_a_dangling_link_is_a_name_that_is_taken(tmp_path):
    path = tmp_path / "a.txt"
    path.symlink_to("nowhere")
    with pytest.raises(OutputError, match="exists already"):
        write(path, "mine")
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_ordinary_file_is_not_replaced(overwrite, tmp_path):
    path = tmp_path / "a.txt"
    os.mkfifo(path)
    with pytest.raises(OutputError, match="is not an ordinary file"):
        write(path, "mine", overwrite)
    assert stat.S_ISFIFO(path.stat().st_mode)
    with pytest.raises(OutputError, match="not a folder"):
        check_folder(path)


def make_folder(path, text, overwrite=False, meanwhile=lambda: None):
    with atomic_folder(path, "mark", overwrite) as temporary:
        (temporary / "mark").write_text(text)
        meanwhile()


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(OutputError, match="model: exists already"):
        make_folder(path, "mine", meanwhile=lambda: make_folder(path, "another's"))
    assert (path / "mark").read_text() == "another's"
    make_folder(path, "mine", overwrite=True)
    assert (path / "mark").read_text() == "mine"
    assert names(tmp_path) == ["model"]


def test_of_three_converts_to_one_name_one_succeeds(tmp_path):
    source = write_dataset(tmp_path / "scans.h5", count=8, sessions=0)
    command = [
        sys.executable,
        "-m",
        "stm_keras",
        "convert",
        source,
        "-o",
        tmp_path / "same",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    running = [
        subprocess.Popen(
            command, stdout=-3, stderr=subprocess.PIPE, env=environment, text=True
        )
        for _ in range(3)
    ]
    told = sorted(
        (process.communicate()[1], process.returncode)[::-1] for process in running
    )
    assert [code for code, _ in told] == [0, 1, 1]
    assert all("same: exists already" in text for _, text in told[1:])
    assert names(tmp_path) == ["same", "scans.h5"]


# what is read


def test_an_output_is_no_input_by_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    read = tmp_path / "in.h5"
    read.write_text("data")
    (tmp_path / "hard.h5").hardlink_to(read)
    (tmp_path / "soft.h5").symlink_to(read)
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "sub").mkdir()
    (tmp_path / "copy.h5").write_text("data")
    for name in ("in.h5", "./in.h5", "loop/in.h5", "sub/../in.h5", "hard.h5", "soft.h5"):
        with pytest.raises(UsageError, match=r"`-o .*`: would replace what is read from"):
            check_outputs({"-o": Path(name)}, [read])
    check_outputs({"-o": Path("copy.h5"), "--more": None}, [read, None])
    check_outputs({"-o": Path("new.h5")}, [Path("missing.h5")])
    with pytest.raises(UsageError, match="would replace"):
        check_outputs({"-o": Path("missing.h5")}, [tmp_path / "missing.h5"])


def test_outputs_are_not_one_another(tmp_path):
    one, other = tmp_path / "a", tmp_path / "." / "a"
    with pytest.raises(UsageError, match=r"`--report .*`: is where `--output` writes"):
        check_outputs({"--output": one, "--report": other})
    check_outputs({"--output": [one, other], "--report": tmp_path / "b"})


def test_an_output_is_no_file_of_a_folder_that_is_read(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_text("scan")
    (folder / "page.html").write_text("page")
    (tmp_path / "b.png").hardlink_to(folder / "a.png")
    for path in (folder / "a.png", tmp_path / "b.png", folder):
        with pytest.raises(UsageError, match="would replace what is read from"):
            check_outputs({"-o": path}, [folder])
    check_outputs({"-o": folder / "page.html", "--new": folder / "new.h5"}, [folder])
    with pytest.raises(UsageError, match="would replace what is read from"):
        check_outputs({"--shards": folder}, [folder / "a.png"], whole=["--shards"])
    check_outputs({"-o": folder}, [folder / "a.png"])


def refused(*arguments):
    """See that a command is refused, before anything is done."""
    return check_error(stm(*arguments), 2, "would replace what is read from")


@pytest.fixture
def scans(tmp_path):
    return write_dataset(tmp_path / "scans.h5", count=8, sessions=0)


def test_convert_and_info_do_not_replace_their_input(scans, tmp_path):
    before = scans.read_bytes()
    link = tmp_path / "link.h5"
    link.symlink_to(scans)
    for output in (scans, link):
        refused("convert", scans, "-o", output, "--overwrite")
        refused("convert", output, "-o", scans, "--overwrite")
        refused("info", scans, "-o", output, "--overwrite")
    refused("convert", scans, "--shards", tmp_path, "--overwrite")
    assert scans.read_bytes() == before


def test_shards_are_not_replaced_by_themselves_or_one_of_them(scans, tmp_path):
    shards = tmp_path / "shards"
    assert stm("convert", scans, "--shards", shards).exit_code == 0
    before = names(shards)
    refused("convert", shards, "--shards", shards, "--overwrite")
    refused("convert", shards / "shard-000000.h5", "--shards", shards, "--overwrite")
    refused("convert", shards, "-o", shards / "shards.json", "--overwrite")
    refused("convert", shards, "-o", shards / "shard-000000.h5", "--overwrite")
    assert names(shards) == before


def test_predict_does_not_replace_scans_models_or_runs(tmp_path, model_file, trained_run):
    from PIL import Image

    folder = tmp_path / "session"
    folder.mkdir()
    scan = folder / "scan.png"
    Image.new("L", (16, 16), 3).save(scan)
    (tmp_path / "other.html").hardlink_to(scan)
    before = scan.read_bytes()
    for given in (scan, folder, tmp_path / "*" / "*.png"):
        for report in (scan, tmp_path / "other.html"):
            refused("predict", given, "--report", report, "--overwrite")
        refused("predict", given, "--pictures", folder, "--overwrite")
    copy = tmp_path / "model.keras"
    copy.write_bytes(model_file.read_bytes())
    refused("predict", copy, scan, "--report", copy, "--overwrite")
    refused("predict", scan, "--model", copy, "--report", copy, "--overwrite")
    report = trained_run / "report.html"
    refused("predict", trained_run, scan, "--report", report, "--overwrite")
    assert scan.read_bytes() == before


def test_predict_does_not_replace_scans_of_a_list(tmp_path, model_file):
    from PIL import Image

    scan = tmp_path / "scan.png"
    Image.new("L", (16, 16), 3).save(scan)
    given = ["predict", "--model", model_file, "-", "--report", scan, "--overwrite"]
    before = scan.read_bytes()
    result = CliRunner().invoke(main, list(map(str, given)), input=f"{scan}\n")
    check_error(result, 2, "would replace what is read from")
    assert scan.read_bytes() == before


def test_commands_of_runs_do_not_replace_what_they_read(
    trained_run, dataset_file, tmp_path
):
    model, common = trained_run / "best.keras", ["--data", dataset_file]
    for output in (dataset_file, model, trained_run):
        refused("evaluate", trained_run, *common, "-o", output, "--overwrite")
    for output in (model, trained_run / "evaluation.json"):
        refused("export", trained_run, "-o", output, "--overwrite")
    scores = tmp_path / "m.md"
    scores.write_text("[]")
    refused("export", model, "-o", tmp_path / "m.keras", "--scores", scores, "--overwrite")
    refused("train", *common, "-o", dataset_file)
    config = tmp_path / "small.toml"
    config.write_text("")
    for option in ("--output", "--report"):
        for path in (config, dataset_file):
            refused("benchmark", config, *common, option, path)
    refused("submit", config, "--data", dataset_file, "-o", dataset_file)
    refused("compare", "vit", *common, "-o", dataset_file)
    same = [tmp_path / "x", tmp_path / "x"]
    told = stm("benchmark", config, *common, "-o", same[0], "--report", same[1])
    check_error(told, 2, "is where `--output` writes")


def test_compare_does_not_forget_what_it_is_to_begin_with(tmp_path, dataset_file):
    from compare_parts import made_up_folder, part

    one = made_up_folder(tmp_path / "one", [part("jax")]).path
    other = made_up_folder(tmp_path / "other", [part("torch")]).path
    given = ["vit", "--data", dataset_file, "-o", one, "--overwrite"]
    refused("compare", *given, "--weights", one / "weights.npz")
    refused("compare", "--join", one, other, "-o", one, "--overwrite")
    assert (one / "parts" / "jax.json").exists()


def test_a_sweep_is_not_replaced_by_its_table(tmp_path):
    folder = tmp_path / "sweep"
    (folder / "logs").mkdir(parents=True)
    (folder / "sweep.json").write_text("{}")
    (folder / "config.toml").write_text("")
    for name in ("sweep.json", "config.toml"):
        refused("analyze", folder, "-o", folder / name, "--overwrite")


def test_a_card_is_replaced_only_when_told(trained_run, tmp_path):
    card = tmp_path / "m.md"
    card.write_text("mine")
    scores = trained_run / "evaluation.json"
    told = stm("export", trained_run, "-o", tmp_path / "m.keras", "--scores", scores)
    check_error(told, 1, "m.md: exists already. Add --overwrite")
    assert card.read_text() == "mine"


# what was left


def leftover(folder, name="scans", place=None, process=None, suffix=".h5", age=0):
    """Make up the temporary file of a process that is no more."""
    if process is None:
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            process = ended.pid
    path = folder / f".{name}-stm{place or files._machine()}-{process}-abcd_123{suffix}"
    path.write_text("half")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path):
    gone = [leftover(tmp_path), leftover(tmp_path, "any", suffix="")]
    gone.append(leftover(tmp_path, place="0" * 8, age=2 * files.DAY))
    folder = tmp_path / gone[0].name.replace("scans", "folder")
    folder.mkdir()
    (folder / "weights").write_text("half")
    kept = [
        leftover(tmp_path, "mine", process=os.getpid()),
        leftover(tmp_path, "init", process=1),
        leftover(tmp_path, place="0" * 8, age=files.DAY / 2),
    ]
    for name in (".scans-original.h5", ".a-stmx-1-abcdefgh.h5", "a-stm01234567-1-abcdefgh"):
        (tmp_path / name).write_text("another's")
        kept.append(tmp_path / name)
    sweep(tmp_path)
    assert names(tmp_path) == sorted(path.name for path in kept)
    assert not any(path.exists() for path in gone)


def test_a_folder_that_was_set_aside_comes_back(tmp_path):
    old = leftover(tmp_path, "model", suffix="-old")
    old.unlink()
    old.mkdir()
    (old / "mark").write_text("old")
    sweep(tmp_path)
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "mark").read_text() == "old"


KILLED = """
import sys
from stm_keras.data import load
from stm_keras.reports import sheets

def half(*words, **more):
    if hasattr(words[-1], "write_bytes"):
        words[-1].write_bytes(b"half")
    print("begun", flush=True)
    sys.stdin.read()

load.write_hdf5 = sheets.figure_png = half
from stm_keras.cli.main import main
main(sys.argv[1:])
"""


def killed(*arguments):
    """Run a command and kill it in the middle of writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    with process:
        for line in process.stdout:
            if line == "begun\n":
                break
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_what_a_killed_convert_left_is_swept_by_the_next(scans, tmp_path):
    output = tmp_path / "out" / "scans.h5"
    killed("convert", scans, "-o", output)
    assert len(names(output.parent)) == 1
    assert stm("convert", scans, "-o", output).exit_code == 0
    assert names(output.parent) == ["scans.h5"]


def test_pictures_that_a_killed_predict_left_are_swept_by_the_next(tmp_path):
    pytest.importorskip("onnxruntime")
    from PIL import Image

    scan, output = tmp_path / "scan.png", tmp_path / "pictures"
    Image.effect_noise((32, 32), 60).save(scan)
    killed("predict", scan, "--pictures", output)
    assert len(names(output)) == 1
    stm("predict", scan, "--pictures", output)
    assert names(output) == ["scan.png.png"]
