"""Models, configs and jobs are real files, however stm-keras is installed."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from helpers import ONCE, REPOSITORY

from stm_keras.resources import ORIGINALS, resource_folder

pytestmark = ONCE  # no backend changes what is tested here

LOOK = """
import site, sys
paths, finders = list(sys.path), list(sys.meta_path)
site.addsitedir(sys.argv[1])  # at the end, so behind what the tests may have installed
sys.path.sort(key=paths.__contains__)
sys.meta_path.sort(key=finders.__contains__)
from stm_keras.config import load_config
from stm_keras.inference.find_model import shipped_models
from stm_keras.resources import resource_folder
from stm_keras.experiments.queue import copy_script
load_config("sequential")
copy_script("common.sh", sys.argv[1])
print(*(model.name for model in shipped_models()))
for name in ("shipped", "configs", "jobs"):
    print(resource_folder(name).resolve())
"""


def files_in(folder):
    """Return the files of a folder by their paths in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def resources():
    """Return the files of models, configs and jobs by the name that the package has for them."""
    return {
        f"{name}/{path}": content
        for name, original in ORIGINALS.items()
        for path, content in files_in(REPOSITORY / original).items()
        if path != "site.sh"
    }


def build(kind, source, output):
    """Have setuptools build "sdist", "wheel" or "editable" as pip does; return the file."""
    output.mkdir()
    program = f"import setuptools.build_meta as b; print(b.build_{kind}({str(output)!r}))"
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output / done.stdout.splitlines()[-1]


def look(folder, cwd):
    """Return the names of the models and the folders that an installed stm-keras sees."""
    environment = {key: os.environ[key] for key in os.environ if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, folder],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    models, *folders = done.stdout.splitlines()
    assert models.split() == ["h_si100", "h_si100_simulated", "h_si100_small"]
    return [Path(each) for each in folders]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the files that git has: building leaves some behind."""
    folder = tmp_path_factory.mktemp("packaging") / "checkout"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("git does not know these files, so nobody knows which are ours")
    for name in listed.stdout.rstrip("\0").split("\0"):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    return folder


def test_nothing_is_a_link():
    for name in ("stm_keras", *ORIGINALS.values(), "docs", "examples", "tests"):
        links = [each for each in (REPOSITORY / name).rglob("*") if each.is_symlink()]
        assert not links, f"git on Windows has no links: {links[0]}"


def test_every_package_is_named_in_setup_cfg():
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    named = config["options"]["packages"].split()
    there = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for path in (REPOSITORY / "stm_keras").rglob("__init__.py")
    }
    assert set(named) == there | {f"stm_keras.{name}" for name in ORIGINALS}


def test_a_checkout_has_them_beside_the_package():
    for name, original in ORIGINALS.items():
        assert resource_folder(name) == REPOSITORY / original


def test_where_git_made_a_file_of_an_old_link_the_original_is_taken(tmp_path):
    (tmp_path / "models").mkdir()
    package = tmp_path / "stm_keras"
    package.mkdir()
    (package / "shipped").write_text("../models")
    assert resource_folder("shipped", package) == tmp_path / "models"
    (package / "configs").mkdir()
    assert resource_folder("configs", package) == package / "configs"


@pytest.mark.parametrize("source", ["checkout", "sdist"])
def test_a_wheel_has_them_as_real_files(source, checkout, tmp_path):
    if source == "sdist":
        with tarfile.open(build("sdist", checkout, tmp_path / "sdist")) as archive:
            archive.extractall(tmp_path / "unpacked", filter="data")
        (unpacked,) = (tmp_path / "unpacked").iterdir()
        missing = set(files_in(checkout)) - set(files_in(unpacked))
        missing = {
            name for name in missing if not name.startswith(("build/", "stm_keras.egg"))
        }
        assert not missing, f"the sdist is not whole: {sorted(missing)}"
        checkout = unpacked
    site = tmp_path / "site"
    with zipfile.ZipFile(build("wheel", checkout, tmp_path / "wheel")) as archive:
        archive.extractall(site)
    installed = files_in(site / "stm_keras")
    for name, content in resources().items():
        assert installed.get(name) == content, f"the wheel lacks {name}"
    assert look(site, tmp_path) == [site / "stm_keras" / name for name in ORIGINALS]


def test_an_editable_install_has_those_of_the_checkout(checkout, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(build("editable", checkout, tmp_path / "wheel")) as archive:
        archive.extractall(site)
    assert look(site, tmp_path) == [checkout / each for each in ORIGINALS.values()]
