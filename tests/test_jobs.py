"""The job scripts and the container: syntax, what they name, and what runs without SLURM."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ONCE, REPOSITORY

pytestmark = ONCE  # no backend changes what is tested here

JOBS = REPOSITORY / "jobs"
SCRIPTS = sorted([*JOBS.glob("*.sbatch"), *JOBS.glob("*.sh")])
IMAGE = JOBS / "stm-keras.def"
FAKE = """
stm_keras=(fake)
fake() {{ echo "asked: $*"; echo "temporary: $TMPDIR $KERAS_HOME"; touch "$TMPDIR/left"; {what}; }}
"""


def sections():
    """Read the sections of the container's definition: dict of name to text."""
    parts = re.split(r"^%(\w+)\n", IMAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def run_job(tmp_path, what, *words, script="train.sbatch", **environment):
    """Run a job as a plain script, with a stand-in for stm-keras."""
    (tmp_path / "site.sh").write_text(FAKE.format(what=what))
    return subprocess.run(
        ["bash", JOBS / script, *words],
        cwd=tmp_path,
        env={
            **os.environ,
            "STM_KERAS_JOBS": str(JOBS),
            "STM_KERAS_SITE": str(tmp_path / "site.sh"),
            "TMPDIR": str(tmp_path),
            **environment,
        },
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash_without_paths_of_one_machine(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert not re.search(
        r"(?<![\w$}])/(home|work|opt|scratch|project/)",
        re.sub(r"^#.*", "", path.read_text(), flags=re.MULTILINE),
    )


def test_the_job_for_speed_compares_all_and_joins_the_tables(tmp_path):
    what = 'mkdir -p "$6"; echo "table of $2" > "$6/comparison.md"'
    words, script = ("scans.h5", "speed", "--cores", "2"), "speed.sbatch"
    done = run_job(tmp_path, what, *words, script=script, STM_KERAS_BATCHES="3 5")
    assert done.returncode == 0, done.stderr
    asked = [line.split() for line in done.stdout.splitlines() if line.startswith("asked")]
    folders = ["speed/vit-3", "speed/vit-5", "speed/sequential-3", "speed/sequential-5"]
    assert [words[words.index("-o") + 1] for words in asked] == folders
    assert all(words[-2:] == ["--cores", "2"] for words in asked)
    table = (tmp_path / "speed" / "speed.md").read_text()
    assert "## vit-5\ntable of vit\n" in table
    assert table.count("table of") == 4


def test_a_job_passes_its_words_on_and_cleans_up(tmp_path):
    done = run_job(tmp_path, "true", "a b", "-o", "run")
    assert done.returncode == 0, done.stderr
    assert "asked: train a b -o run\n" in done.stdout
    (scratch,) = re.findall(r"temporary: (\S+) (?=\1/keras)", done.stdout)
    assert scratch.startswith(str(tmp_path / "stm-keras-local-"))
    assert not Path(scratch).exists()


@pytest.mark.parametrize(
    ("what", "code"), [("exit 3", 3), ("exit 75", 75), ("kill -9 $BASHPID", 137)]
)
def test_a_job_ends_as_its_command_did(what, code, tmp_path):
    done = run_job(tmp_path, what)
    assert done.returncode == code
    assert f"ended with exit code {code}\n" in done.stdout


def test_a_job_that_began_too_often_gives_up(tmp_path):
    done = run_job(
        tmp_path,
        "exit 75",
        SLURM_JOB_ID="7",
        SLURM_RESTART_COUNT="2",
        STM_KERAS_MAX_RESTARTS="2",
    )
    assert done.returncode == 1
    assert "Error: started again 2 times already." in done.stderr


def test_the_container_names_what_is_there():
    config = configparser.ConfigParser()
    config.read(REPOSITORY / "setup.cfg")
    found = sections()
    for name in ("post", "environment", "test", "runscript"):
        text = found[name].replace("{{ BACKEND }}", "jax")
        assert "{{" not in text
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    extras = re.findall(r"extra=([\w-]+)", found["post"])
    extras += re.search(r"\[\$extra,(.*)\]", found["post"])[1].split(",")
    assert set(extras) <= set(config["options.extras_require"])
    for line in found["files"].split("\n"):
        if line.strip():
            assert (REPOSITORY / line.split()[0]).exists()
    assert "NOT BUILT YET" in IMAGE.read_text()


def test_what_the_container_tests_works_outside_of_one(tmp_path):
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "stm-keras"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stm_keras "$@"\n')
    command.chmod(0o755)
    done = subprocess.run(
        ["bash", "-e"],
        input=sections()["test"],
        env={
            **os.environ,
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout
