"""`stm-keras settings`: what a config may hold, as a table, TOML and JSON."""

import json
import subprocess
import sys

import pytest
from helpers import ONCE, check_error, stm

from stm_keras.cli.settings import settings_table
from stm_keras.config import Config, load_config
from stm_keras.setting_list import list_settings
from stm_keras.settings.models import MODEL_CONFIGS

pytestmark = ONCE  # no backend changes what is tested here


def test_every_setting_has_a_line_with_key_default_type_and_meaning():
    head, *lines = stm("settings").stdout.splitlines()
    assert head.split() == ["key", "default", "type", "meaning"]
    (epochs,) = (line for line in lines if line.startswith("train.epochs "))
    assert " ".join(epochs.split()) == "train.epochs 12 integer, > 0 Number of epochs."
    for section in ("data", "simulate", "augment", "train"):
        assert f"[{section}]" in lines
        for name in type(Config.model_fields[section].default).model_fields:
            assert any(line.startswith(f"{section}.{name} ") for line in lines), name
    assert {f'[model] name = "{model}"' for model in MODEL_CONFIGS} <= {*lines}


@pytest.mark.parametrize("model", [None, *MODEL_CONFIGS])
def test_the_toml_is_a_config_of_the_defaults(tmp_path, model):
    toml = stm("settings", *([model] if model else []), "--toml").stdout
    (tmp_path / "mine.toml").write_text(toml, encoding="utf-8")
    settings = [f"model.name={model}"] if model else []
    assert load_config(tmp_path / "mine.toml") == load_config(None, settings)
    lines = toml.splitlines()
    settings = [at for at, line in enumerate(lines) if line[:1] not in ("", "#", "[")]
    assert all(
        lines[at - 1].startswith("# ") for at in settings if lines[at][:7] != "name = "
    )


def test_json_has_an_object_for_each_setting_of_a_section_a_model_or_a_key():
    (one,) = json.loads(stm("settings", "train.warmup_epochs", "--json").stdout)
    assert one == {
        "key": "train.warmup_epochs",
        "model": None,
        "default": 1,
        "type": "number, ≥ 0",
        "meaning": "Epochs in which the learning rate rises to its peak.",
    }
    vit = json.loads(stm("settings", "vit", "--json").stdout)
    assert {each["model"] for each in vit} == {"vit"}
    assert "model.heads" in {each["key"] for each in vit}
    models = json.loads(stm("settings", "model", "--json").stdout)
    assert {each["model"] for each in models} == {*MODEL_CONFIGS, "file.py:function"}


@pytest.mark.parametrize(
    ("command", "code", "near"),
    [
        (["settings", "trian"], 2, "Did you mean `train`?"),
        (["settings", "train.epocs"], 2, "Did you mean `train.epochs`?"),
        (["settings", "wobble"], 2, None),
        (["setings"], 2, "Did you mean 'settings'?"),
        (["wobble"], 2, None),
        (["train", "--epocs", "3"], 2, "Did you mean '--epochs'?"),
        (["train", "--wobble"], 2, None),
        (["train", "--set", "train.epocs=3"], 2, "Did you mean `train.epochs`?"),
        (["train", "--set", "train.wobble=3"], 2, None),
        (["train", "sequental"], 3, "Did you mean `sequential`?"),
        (["train", "scan"], 3, None),  # is half of `cnn`
    ],
)
def test_a_hint_is_given_only_where_a_name_is_near(command, code, near):
    line = check_error(stm(*command), code)
    assert near in line if near else "Did you mean" not in line


def test_toml_and_json_at_once_are_refused():
    check_error(stm("settings", "--toml", "--json"), 2, "choose one")


def test_a_table_on_a_terminal_keeps_to_its_width_and_loses_no_word():
    (chosen,) = list_settings("train.jit_compile")
    table = settings_table([chosen], 90)
    assert max(map(len, table.splitlines())) <= 90
    assert {*chosen.meaning.split()} <= {*table.split()}


def test_settings_are_listed_without_keras_or_numpy():
    program = (
        "import sys\n"
        "from stm_keras.cli.main import main\n"
        "main(['settings'], standalone_mode=False)\n"
        "assert not {'keras', 'numpy', 'h5py', 'rich'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
