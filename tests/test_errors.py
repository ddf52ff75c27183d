import os
import re
from configparser import ConfigParser

import pytest
from helpers import REPOSITORY

from stm_keras import errors
from stm_keras.errors import (
    SOURCE,
    MissingExtraError,
    StmKerasError,
    how_to_install,
    install,
    require,
)

EXIT_CODES = {
    "StmKerasError": 1,
    "UsageError": 2,
    "ConfigError": 2,
    "BackendError": 2,
    "InputError": 3,
    "DatasetError": 3,
    "ScanError": 3,
    "NoImageError": 3,
    "UnclearError": 3,
    "MismatchError": 4,
    "NotFiniteError": 4,
    "OutputError": 1,
    "TrainingError": 1,
    "MissingExtraError": 1,
}


@pytest.mark.smoke
def test_every_error_has_its_exit_code():
    family = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert {name: error.exit_code for name, error in family.items()} == EXIT_CODES
    assert all(issubclass(error, StmKerasError) for error in family.values())


def test_the_tree_in_the_docstring_is_the_family():
    tree = [line for line in errors.__doc__.splitlines() if "Error" in line]
    assert len(tree) == len(EXIT_CODES)
    for name, code in EXIT_CODES.items():
        (line,) = [line for line in tree if name in line.split()]
        assert f" {code} " in line


def test_a_missing_package_says_what_to_install():
    with pytest.raises(
        MissingExtraError, match=r'no_such_thing is not .*pip install "\.\[onnx\]"'
    ):
        require("no_such_thing.part", "onnx")
    assert require("json.decoder", "onnx").JSONDecoder


def test_a_package_that_would_call_its_maker_is_told_not_to(monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    pytest.importorskip("onnxruntime")
    require("onnxruntime", "onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    require("onnxruntime", "onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"  # as the user wishes


def test_a_package_that_fails_for_another_reason_is_not_blamed(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("broken_package", "onnx")


WORDS = [
    *(
        set(REPOSITORY.glob("*.md")) - {REPOSITORY / "DESCRIPTION.md"}
    ),  # shown in a registry
    *(REPOSITORY / "docs").rglob("*.md"),
    *(
        path
        for part in ("examples", "jobs", ".ci")
        for path in (REPOSITORY / part).iterdir()
    ),
    *(REPOSITORY / "stm_keras").rglob("*.py"),
]


def test_extras_are_installed_from_one_place_that_a_release_changes():
    assert install("onnx") == f'pip install "{SOURCE}[onnx]"'
    assert install("onnx") in how_to_install("onnx")
    config = ConfigParser()
    config.read(REPOSITORY / "setup.cfg", encoding="utf-8")
    extras = "|".join(config["options.extras_require"])
    found = []
    for path in WORDS:
        text = path.read_text(encoding="utf-8").partition("\n## 0.1.0")[0]
        sources = re.findall(rf'"([\w.-]+)\[(?:{extras})[\],]', text)
        assert set(sources) <= {SOURCE}, f"{path}: write {install('EXTRA')}"
        assert not re.search("pip install .?stm.keras", text), f"{path}: is on no registry"
        found += sources
    assert len(found) > 10
