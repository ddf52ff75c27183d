"""What a sweep is made of."""

import pytest
from helpers import ONCE

from stm_keras.errors import ConfigError, InputError, UsageError
from stm_keras.experiments.plan import (
    jobs,
    make_sweep,
    read_space,
    read_sweep,
    read_values,
    sweep_runs,
)

pytestmark = ONCE  # no backend changes what is tested here


@pytest.mark.smoke
def test_a_grid_has_every_combination_and_goes_through_it_once_before_the_next_seed():
    sweep = make_sweep(
        {"seeds": 2, "grid": {"train.weight_decay": (0.01, 0.05), "train.epochs": (3,)}}
    )
    runs = sweep_runs(sweep)
    assert [run.name for run in runs] == [
        "0000-weight_decay-0.01-epochs-3-seed-0",
        "0001-weight_decay-0.05-epochs-3-seed-0",
        "0002-weight_decay-0.01-epochs-3-seed-1",
        "0003-weight_decay-0.05-epochs-3-seed-1",
    ]
    assert runs[3].values == {"train.weight_decay": 0.05, "train.epochs": 3}
    assert runs[3].seed == 1


@pytest.mark.smoke
def test_a_run_is_a_command_of_train_with_whole_paths(tmp_path):
    sweep = make_sweep(
        {"data": "scans.h5", "grid": {"augment.cut": (0.5,), "backend": ("jax", "torch")}}
    )
    words = jobs(tmp_path, sweep)["0001-cut-0.5-backend-torch-seed-0"]
    assert words[:2] == ["train", str(tmp_path / "config.toml")]
    assert words[words.index("-o") + 1] == str(
        tmp_path / "runs" / "0001-cut-0.5-backend-torch-seed-0"
    )
    assert words[words.index("--data") + 1].endswith("/scans.h5")
    assert words[words.index("--data") + 1].startswith("/")
    assert words[-6:] == ["--set", "augment.cut=0.5", "--seed", "0", "--backend", "torch"]


def test_the_jobs_of_a_search_are_workers_no_more_than_trials(tmp_path):
    space = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    sweep = make_sweep({"space": space, "trials": 3, "concurrent": 8})
    assert jobs(tmp_path, sweep) == {
        f"worker-{n}": ["submit", str(tmp_path), "--worker", str(n)] for n in range(3)
    }


def test_names_hold_nothing_that_a_file_system_refuses():
    sweep = make_sweep({"grid": {"data.fractions": ([0.8, 0.1, 0.1],)}})
    assert sweep_runs(sweep)[0].name == "0000-fractions-_0.8_0.1_0.1_-seed-0"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("train.epochs=1,2", (1, 2)),
        ("model.mixer=gru,attention", ("gru", "attention")),
        ("data.fractions=[0.8,0.1,0.1],[0.6,0.2,0.2]", ([0.8, 0.1, 0.1], [0.6, 0.2, 0.2])),
        ("train.class_weight=true,false", (True, False)),
    ],
)
def test_values_of_a_grid_are_toml_or_words(text, values):
    assert read_values(text) == (text.partition("=")[0], values)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("a.b=1e-4:1e-2:log", {"low": 1e-4, "high": 1e-2, "log": True}),
        ("a.b=2:8", {"low": 2, "high": 8, "log": False}),
        ("a.b=gru,mean", {"values": ["gru", "mean"]}),
    ],
)
def test_the_space_of_a_search_is_a_range_or_values(text, span):
    assert read_space(text) == ("a.b", span)


@pytest.mark.parametrize("text", ["train.epochs", "train.epochs=", "=1,2"])
def test_a_grid_without_key_or_values_is_refused(text):
    with pytest.raises(
        UsageError, match="`--grid` takes section.key=value,value. Received"
    ):
        read_values(text)


@pytest.mark.parametrize("text", ["a.b", "a.b=", "a.b=1:x", "a.b=1:2:lin"])
def test_something_else_than_a_space_is_refused(text):
    with pytest.raises(UsageError, match="`--space` takes section.key=low:high"):
        read_space(text)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"grid": {"train.epoch": (1,)}}, "Did you mean `train.epochs`?"),
        ({"grid": {"train.epochs": ("x",)}}, "`train.epochs`: Input should be a valid int"),
        ({"grid": {"train.epochs": ()}}, "`train.epochs` has no values"),
        ({"grid": {"backend": ("keras",)}}, "`backend` is tensorflow, jax or torch."),
        ({"seed": 5}, "`seed` is not a setting of a sweep. Known: config, data,"),
        ({"seeds": 0}, "`seeds`: Input should be greater than 0. Received: 0."),
        ({"grid": {"a.b": (1,)}, "space": {"a.b": {"values": (1,)}}}, "not both"),
        ({"space": {"train.epochs": {"low": 3, "high": 3}}}, "`high` must be above `low`"),
        ({"space": {"train.epochs": {"low": 3}}}, "`high` must be above `low`"),
        ({"space": {"train.epochs": {}}}, "give `values`, or `low` and `high`"),
        ({"space": {"train.epochs": {"low": 0, "high": 3, "log": True}}}, "above 0"),
        (
            {"space": {"train.nothing": {"low": 1, "high": 3}}},
            "`train.nothing` is not a set",
        ),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_before_anything_is_queued(table, told):
    with pytest.raises(ConfigError) as caught:
        make_sweep(table)
    assert told in str(caught.value)


def test_a_sweep_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"sweep.toml: does not exist\. Give a TOML file of a sweep"
    ):
        read_sweep(tmp_path / "sweep.toml")
    (tmp_path / "sweep.toml").write_text("seeds = ")
    with pytest.raises(ConfigError, match=r"sweep.toml: is not TOML"):
        read_sweep(tmp_path / "sweep.toml")
