"""Names as files have them: of every script, in any locale, and bytes that are no UTF-8."""

import csv
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import (
    ONCE,
    REPOSITORY,
    TINY,
    check_error,
    lattice_scans,
    made_up_dataset,
    other_locale,
    stm,
)
from PIL import Image
from scan_files import sxm

from stm_keras.data.load import save_dataset

pytestmark = [
    ONCE,
    pytest.mark.skipif(sys.platform != "linux", reason="names of files are bytes on Linux"),
]

CLASSES = ("µ-Atome", "Ångström", "Lücken", "Spuren")
FILTER = """
import warnings

warnings.filterwarnings("error", category=EncodingWarning, module="stm_keras")
"""
COMMANDS = """
import json, sys
from stm_keras.terminal import use_utf8
use_utf8()
import stm_keras.export.common, stm_keras.inference.evaluate
stm_keras.export.common.NUM_SCANS = 4
stm_keras.inference.evaluate.LINES_SEEN = (16, 64)
from stm_keras.cli.main import main
for command in json.load(open(sys.argv[1], encoding="utf-8")):
    try:
        main(command)
    except SystemExit as end:
        if end.code:
            sys.exit(f"{command}: {end.code}")
"""


def run_all(commands, folder, locale):
    """Run commands in one process; what opens a text without an encoding is an error."""
    (folder / "sitecustomize.py").write_text(FILTER)
    (folder / "commands.json").write_text(json.dumps([list(map(str, c)) for c in commands]))
    removed = ("LANG", "LC_ALL", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING")
    environment = {k: v for k, v in os.environ.items() if k not in removed}
    environment |= {"PYTHONPATH": f"{folder}:{REPOSITORY}"}
    environment |= {"PYTHONWARNDEFAULTENCODING": "1", **locale}
    return subprocess.run(
        [sys.executable, "-c", COMMANDS, folder / "commands.json"],
        env=environment,
        cwd=folder,
        capture_output=True,
    )


def test_names_of_every_script_live_through_a_locale_that_is_not_utf8(tmp_path):
    locale = other_locale(tmp_path)
    session = np.array([f"Sitzung Ä{i // 4 % 12}" for i in range(96)])
    made = made_up_dataset(classes=CLASSES, session=session, source="Müller µ", voted=False)
    save_dataset(made, tmp_path / "Daten-µ.h5")
    heights = lattice_scans([0])[0] * 1e-12
    (tmp_path / "Bild-Å.sxm").write_bytes(sxm({"Z": ("m", heights, heights)}))
    tiny = ["--data", "Daten-µ.h5", "--epochs", 1, *TINY]
    done = run_all(
        [
            ["train", *tiny, "-o", "Läufe/µ"],
            ["train", *tiny, "-o", "Läufe/µ"],  # a finished one tells its scores again
            ["analyze", "Läufe/µ", "--curves", "Kurven-µ.png"],
            ["evaluate", "Läufe/µ", "--data", "Daten-µ.h5", "-o", "Güte"],
            ["predict", "Läufe/µ", "Bild-Å.sxm", "--report", "Bericht-ü.html"],
            ["predict", "Läufe/µ", "Bild-Å.sxm", "--pictures", "Bilder-ü", "--csv"],
            ["info", "Läufe/µ", "--json"],
            ["info", "Bild-Å.sxm"],
            ["info", "Daten-µ.h5"],
            ["audit", "Daten-µ.h5"],
            ["convert", "Daten-µ.h5", "--shards", "Teile-µ"],
            ["simulate", "--count", 2, "-o", "Übung.h5"],
            ["export", "Läufe/µ", "-o", "Modell-µ.onnx", "--format", "onnx-scan"],
            [
                "submit",
                "cnn",
                "--data",
                "Daten-µ.h5",
                "-o",
                "Reihe",
                "--local",
                1,
                "--dry-run",
            ],
            ["models"],
        ],
        tmp_path,
        locale,
    )
    told = done.stdout.decode()  # a file or a pipe gets UTF-8
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    for name in (*CLASSES, "Daten-µ.h5", "Läufe/µ", "Bild-Å.sxm", "Müller µ", "Sitzung Ä3"):
        assert name in told, name
    texts = {".toml", ".json", ".csv", ".txt", ".md", ".html", ".tsv"}
    written = [path for path in tmp_path.rglob("*") if path.suffix in texts]
    assert len(written) > 10
    for path in written:
        path.read_bytes().decode()  # raises where it is not UTF-8
    run = tmp_path / "Läufe" / "µ"
    assert 'path = "Daten-µ.h5"' in (run / "config.toml").read_text(encoding="utf-8")
    assert "Lücken" in (run / "report.html").read_text(encoding="utf-8")
    scores = json.loads((tmp_path / "Güte" / "evaluation.json").read_bytes())
    assert tuple(scores["per_class"]) == CLASSES
    assert (tmp_path / "Bilder-ü" / "Bild-Å.sxm.png").exists()


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_a_terminal_cannot_show_is_replaced(encoding, tmp_path):
    heights = lattice_scans([0])[0] * 1e-12
    (tmp_path / "Å-Ω.sxm").write_bytes(sxm({"Z": ("m", heights, heights)}))
    done = run_all(
        [["predict", "Å-Ω.sxm"], ["predict", "Å-Ω.sxm", "--csv"]],
        tmp_path,
        {"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    shown = r"Å-\u03a9.sxm" if encoding == "latin-1" else r"\xc5-\u03a9.sxm"
    assert done.stdout.decode(encoding).count(shown) == 2


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A folder whose name is not UTF-8, of such files."""
    folder = tmp_path_factory.mktemp("names") / os.fsdecode(b"b\xb5")
    folder.mkdir()
    heights = lattice_scans([0])[0] * 1e-12
    whole = sxm({"Z": ("m", heights, heights)})
    (folder / os.fsdecode(b"scan_\xb5.sxm")).write_bytes(whole)
    (folder / os.fsdecode(b"short_\xe5.sxm")).write_bytes(whole[:-5])
    (folder / "plain.sxm").write_bytes(whole)
    return folder


def named(text):
    """The name as it is shown."""
    return r"b\udcb5/scan_\udcb5.sxm" in text


def test_scans_whose_names_are_not_utf8_are_judged_with_all_outputs(strange, tmp_path):
    page, pictures = tmp_path / os.fsdecode(b"r\xb5.html"), tmp_path / os.fsdecode(b"p\xb5")
    result = stm("predict", strange, "--report", page, "--pictures", pictures)
    check_error(result, 3, r"short_\udce5.sxm: is cut short")
    assert len(result.stdout.splitlines()) == 5, "a head, three scans, a summary"
    assert r"scan_\udcb5.sxm" in page.read_text(encoding="utf-8")
    assert {os.fsencode(path.name) for path in pictures.iterdir()} == {
        b"plain.sxm.png",
        b"scan_\xb5.sxm.png",
    }
    for path in pictures.iterdir():
        Image.open(path).verify()
    rows = list(csv.reader(io.StringIO(stm("predict", strange, "--csv").stdout)))
    assert [named(row[0]) for row in rows].count(True) == 1
    listed = "".join(f"{path}\n" for path in sorted(strange.iterdir()))
    told = subprocess.run(
        [sys.executable, "-m", "stm_keras", "predict", "-", "--json"],
        input=os.fsencode(listed),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert told.returncode == 3
    paths = [json.loads(row)["path"] for row in told.stdout.decode().splitlines()]
    assert sorted(map(os.fsencode, paths)) == sorted(map(os.fsencode, strange.iterdir()))


def test_info_shows_and_draws_what_is_not_utf8(strange, tmp_path):
    result = stm("info", strange)
    check_error(result, 3, "is cut short")
    assert named(result.stdout)
    rows = [json.loads(row) for row in stm("info", strange, "--json").stdout.splitlines()]
    assert os.fsdecode(b"scan_\xb5.sxm") in {row["path"].split("/")[-1] for row in rows}
    picture = tmp_path / os.fsdecode(b"a\xb5.png")
    assert stm("info", strange / "plain.sxm", "-o", picture).exit_code == 0
    Image.open(picture).verify()


def test_datasets_whose_names_are_not_utf8_are_written_and_read(tmp_path):
    data, shards = (tmp_path / os.fsdecode(name) for name in (b"d\xb5.h5", b"s\xb5"))
    copy = tmp_path / os.fsdecode(b"c\xe5.npz")
    for words in (
        ["simulate", "--count", 8, "-o", data],
        ["simulate", "--count", 8, "--shards", shards],
        ["convert", data, "-o", copy],
        ["info", copy],
        ["info", shards, "--json"],
        ["audit", copy, "--json"],
        ["predict", data, "--json"],
    ):
        result = stm(*words)
        assert result.exit_code == 0, result.stderr
        result.output.encode()


def test_a_run_whose_name_is_not_utf8_is_one_like_any_other(train_command, tmp_path):
    folder = tmp_path / os.fsdecode(b"run_\xb5")
    result = stm(*train_command, "-o", folder)
    assert result.exit_code == 0, result.stderr
    assert r"run_\udcb5" in result.stdout
    for path in folder.iterdir():
        if path.suffix in (".toml", ".json", ".md", ".html", ".txt", ".csv"):
            path.read_bytes().decode()
    typed = (folder / "command.txt").read_text(encoding="utf-8")
    assert re.match("stm-keras", typed)
    for words in (
        ["analyze", folder],
        ["analyze", folder, folder, "--json"],
        ["info", folder],
        ["info", folder, "--json"],
        [
            "evaluate",
            folder,
            "--data",
            train_command[2],
            "-o",
            tmp_path / os.fsdecode(b"\xb5"),
        ],
        [*train_command, "-o", folder],
    ):
        result = stm(*words)
        assert result.exit_code == 0, (words, result.stderr)


def test_data_that_no_config_can_name_are_refused_before_anything(dataset_file, tmp_path):
    data = tmp_path / os.fsdecode(b"\xb5.h5")
    data.symlink_to(dataset_file)
    result = stm("train", "--data", data, "-o", tmp_path / "run")
    check_error(result, 2, "`path` must be in UTF-8", r"\udcb5.h5")
    assert not (tmp_path / "run").exists()


def test_a_table_of_excel_and_folders_of_windows(tmp_path):
    (tmp_path / "sub").mkdir()
    scans = lattice_scans(np.arange(8) % 4)
    for number, scan in enumerate(scans):
        Image.fromarray(scan).save(tmp_path / "sub" / f"{number}.png")
    rows = [f"sub/{n}.png\t{('rows', 'generic defects')[n % 2]}" for n in range(8)]
    table = "\r\n".join(["file\tlabel", *rows])
    (tmp_path / "labels.csv").write_bytes(table.encode("utf-16"))
    result = stm("convert", tmp_path, "-o", tmp_path / "a.h5")
    assert result.exit_code == 0, result.stderr
    assert "rows 4, generic defects 4" in result.stdout
    (tmp_path / "labels.csv").write_text(table.replace("/", "\\"))
    result = stm("convert", tmp_path, "-o", tmp_path / "b.h5")
    check_error(result, 3, r"there is no picture", r"sub\0.png", "Write / between folders")


def test_a_config_with_a_byte_order_mark_is_read(tmp_path):
    text = "[train]\nepochs = 0\n"
    (tmp_path / "a.toml").write_text(text, encoding="utf-8-sig")
    result = stm("train", tmp_path / "a.toml", "-o", tmp_path / "run")
    check_error(result, 2, "a.toml: `train.epochs`: Input should be greater than 0")
