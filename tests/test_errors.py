import pytest

from stm_keras import errors
from stm_keras.errors import MissingExtraError, StmKerasError, require

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
    "OutputError": 1,
    "TrainingError": 1,
    "MissingExtraError": 1,
}


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
        MissingExtraError, match=r'no_such_thing is not .*"stm-keras\[onnx\]"'
    ):
        require("no_such_thing.part", "onnx")
    assert require("json.decoder", "onnx").JSONDecoder


def test_a_package_that_fails_for_another_reason_is_not_blamed(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("broken_package", "onnx")
