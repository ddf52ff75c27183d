"""Config files, settings that win over them, and what is said of wrong ones."""

import pytest
from helpers import ONCE, REPOSITORY

from stm_keras.config import (
    Config,
    config_word,
    differences,
    dump_config,
    find_config,
    load_config,
)
from stm_keras.errors import ConfigError, InputError
from stm_keras.settings.models import MODEL_CONFIGS, VitConfig
from stm_keras.settings.section import Section

pytestmark = ONCE  # no backend changes what is tested here


def write(path, text):
    path.write_text(text)
    return path


def test_without_a_file_it_is_the_quickstart():
    config = load_config()
    assert config == Config() == load_config(REPOSITORY / "configs" / "quickstart.toml")
    assert config.data.path is None


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.toml")), ids=str)
def test_every_config_of_the_repository_loads_and_says_its_command(path):
    config = load_config(path)
    assert config.name == path.stem
    first, second = path.read_text().split("\n")[:2]
    assert first.startswith("# ")
    assert second.startswith("#   stm-keras train")


def test_the_vit_is_the_predecessors():
    model = load_config(REPOSITORY / "configs" / "vit.toml").model
    assert model == VitConfig()
    assert (model.layers, model.heads, model.dim, model.mlp_dim) == (6, 8, 256, 1024)


@pytest.mark.smoke
def test_a_file_holds_only_what_differs(tmp_path):
    config = load_config(write(tmp_path / "a.toml", "seed = 3\n[train]\nepochs = 5\n"))
    assert (config.seed, config.train.epochs) == (3, 5)
    assert config.train.batch_size == Config().train.batch_size


def test_every_setting_says_what_it_is():
    sections = [item.annotation for item in Config.model_fields.values()]
    tables = {
        kind for kind in sections if isinstance(kind, type) and issubclass(kind, Section)
    }
    for kind in (Config, *tables, *MODEL_CONFIGS.values()):
        assert kind.__doc__.strip()
        for name, item in kind.model_fields.items():
            if kind is Config and item.annotation not in (str, int):
                continue  # a section, which has its own docstring
            assert item.description, f"{kind.__name__}.{name}"
            assert item.description.endswith("."), f"{kind.__name__}.{name}"


def test_later_settings_win_over_earlier_ones_and_over_the_file(tmp_path):
    path = write(tmp_path / "a.toml", "[train]\nepochs = 5\n")
    config = load_config(path, ["train.epochs=6", "train.epochs=7", ("seed", 4)])
    assert (config.train.epochs, config.seed) == (7, 4)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("name=vit_2", "vit_2"),
        ('name="vit_2"', "vit_2"),
        ("seed = 7 ", 7),
        ("train.learning_rate=3e-4", 3e-4),
        ("train.class_weight=false", False),
        ("train.early_stopping=none", None),
        ("data.path=C:\\scans = new.h5", "C:\\scans = new.h5"),
        ("data.path=größe 1.h5", "größe 1.h5"),
        ("data.fractions=[0.6, 0.2, 0.2]", (0.6, 0.2, 0.2)),
        ("train.jit_compile=true", True),
        ("train.jit_compile=auto", "auto"),
    ],
)
def test_a_setting_is_read_as_toml_or_as_text(setting, expected):
    value = load_config(settings=[setting])
    for key in setting.partition("=")[0].strip().split("."):
        value = getattr(value, key)
    assert value == expected


def test_none_takes_back_what_the_file_says(tmp_path):
    path = write(tmp_path / "a.toml", "[train]\nearly_stopping = 5\nclip_norm = 2.0\n")
    settings = load_config(
        path, ["train.early_stopping=none", ("train.clip_norm", None)]
    ).train
    assert (settings.early_stopping, settings.clip_norm) == (None, None)


@pytest.mark.smoke
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["model.name=vit", "model.heads=4", "train.clip_norm=none"],
        ["data.path=C:\\a \"b\" 'c' größe\u4e2d.h5", "data.fold=2"],
        ["train.clip_norm=none", "train.ema=0.5", "train.jit_compile=false", "seed=9"],
        ["train.learning_rate=1e-7", "data.fractions=[0.5, 0.25, 0.25]"],
        [("data.path", "two\nlines\tand a tab")],
    ],
)
def test_a_config_that_is_written_reads_back_to_the_same(settings, tmp_path):
    config = load_config(settings=settings)
    assert load_config(write(tmp_path / "a.toml", dump_config(config))) == config


def test_differences_name_keys_and_leave_the_path_of_the_data_out():
    one = load_config(settings=["data.path=a.h5"])
    other = load_config(settings=["data.path=b.h5", "train.epochs=3", "seed=1"])
    assert differences(one, other) == ["seed", "train.epochs"]
    assert differences(one, one) == []
    vit = load_config(settings=["model.name=vit"])
    assert {"model.name", "model.width", "model.heads"} <= set(differences(one, vit))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["train.epoch=5"],
            r"^`train\.epoch` is not a setting\. Did you mean `train\.epochs`\?$",
        ),
        (["epochs=5"], r"^`epochs` is not a setting\. Did you mean `train\.epochs`\?$"),
        (["qwertz=5"], r"^`qwertz` is not a setting\.$"),
        (["train.optimizer=1"], r"^`train\.optimizer` is not a setting\.$"),
        (
            ["data.paths=1"],
            r"^`data\.paths` is not a setting\. Did you mean `data\.path`\?$",
        ),
        (
            ["data.path=a\udcb5.h5"],
            r"^`data`: `path` must be in UTF-8, .*Received: a\\udcb5\.h5",
        ),
        (
            ["model.heads=2"],
            r"^`model\.heads` is a setting of sequential, vit only\. Add --set model\.name",
        ),
        (
            ["model.name=vit", "model.width=2"],
            r"`model\.width` is a setting of cnn, cnn_small, lrcn, sequential only",
        ),
        (
            ["model.nme=vit"],
            r"^`model\.nme` is not a setting\. Did you mean `model\.name`\?",
        ),
        (
            ["model.name=vit", "model.heads=3"],
            r"^`model`: `heads` must divide `dim`\..*heads=3",
        ),
        (["train.epochs=0"], r"^`train\.epochs`: .* greater than 0\. Received: 0\.$"),
        (["train.epochs=nan"], r"^`train\.epochs`: .*Received: nan\.$"),
        (
            ["train.class_weight=perhaps"],
            r"^`train\.class_weight`: .*boolean.*'perhaps'\.$",
        ),
        (["data.fractions=[0.5, 0.5]"], r"^`data\.fractions.*"),
        (
            ["train.learning_rate=inf"],
            r"^`train\.learning_rate`: .*finite.*Received: inf\.$",
        ),
        (["=5"], r"^`--set` takes section\.key=value\. Received: =5\.$"),
        (["train"], r"^`--set` takes section\.key=value\. Received: train\.$"),
        (["train=5"], r"^`train`: .*Received: 5\.$"),
        (
            ["seed=1", "seed.a=5"],
            r"^`seed\.a` is not a setting: `seed` is not a section\.$",
        ),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(settings, message):
    with pytest.raises(ConfigError, match=message):
        load_config(settings=settings)


def test_an_error_in_a_file_names_the_file(tmp_path):
    path = write(tmp_path / "a.toml", "[train]\nepoch = 5\n")
    with pytest.raises(ConfigError, match=r"a\.toml: `train\.epoch` is not a setting"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"a\.toml: is not TOML \("):
        load_config(write(path, "epochs: 5\n"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(
        InputError, match=r"is not in UTF-8 .* Give a TOML config, saved in"
    ):
        load_config(path)
    with pytest.raises(InputError, match=r"no\.toml: no such file\."):
        load_config(tmp_path / "no.toml")
    with pytest.raises(InputError, match=r"is a folder\. Give a TOML config"):
        load_config(tmp_path)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.toml")), ids=str)
def test_a_config_that_comes_with_stm_keras_goes_by_its_name(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / path.stem).mkdir()  # a folder, of runs perhaps, is no config
    assert load_config(path.stem) == load_config(path)
    assert config_word(find_config(path.stem)) == path.stem
    assert config_word(path) == path.stem


def test_a_file_called_like_a_config_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = write(tmp_path / "vit.toml", "seed = 7\n")
    assert load_config("vit").seed == 7
    assert config_word(own) == "configs/vit.toml"
    write(tmp_path / "vit", "seed = 8\n")
    assert load_config("vit").seed == 8
    assert load_config("vit.toml").seed == 7


def test_an_unknown_name_lists_the_known_ones():
    for given in ("sequental", "configs/sequental.toml"):
        with pytest.raises(
            InputError,
            match=r"sequental\S*: no such file. Did you mean `sequential`\? .* vit\b",
        ):
            load_config(given)
    with pytest.raises(InputError, match=r"^xyz: no such file. These configs come with"):
        load_config("xyz")
