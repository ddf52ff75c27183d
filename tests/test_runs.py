"""A run is a folder that only the same config may open again."""

import json
import shlex
import sys
from datetime import date

import pytest
from helpers import ONCE

from stm_keras.config import load_config
from stm_keras.errors import InputError, OutputError, UsageError
from stm_keras.runs import COLUMNS, Run, default_path, legs, with_legs

pytestmark = ONCE  # no backend changes what is tested here

CONFIG = load_config(settings=["train.epochs=3"])


@pytest.fixture
def run(tmp_path):
    return Run.start(tmp_path / "deep" / "run", CONFIG)


def test_a_new_run_holds_what_was_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "train", "--data", "a b.h5"])
    run = Run.start(str(tmp_path / "run"), CONFIG)
    assert run.config() == CONFIG
    assert shlex.split(run.file("command.txt").read_text())[1:] == [
        "train",
        "--data",
        "a b.h5",
    ]
    assert {path.name for path in run.path.iterdir()} == {"config.toml", "command.txt"}


@pytest.mark.smoke
def test_the_same_config_opens_it_again_whatever_its_data_is_called(run):
    again = load_config(settings=["train.epochs=3", "data.path=elsewhere.h5"])
    assert Run.start(run.path, again) == run
    assert Run.open(str(run.path)) == run


def test_the_path_of_a_run_may_be_text(run):
    assert Run(str(run.path)).config() == run.config()


def test_another_config_is_refused_and_named(run):
    other = load_config(settings=["train.epochs=4", "seed=1"])
    with pytest.raises(
        UsageError, match=r"another config, different in seed, train\.epochs\."
    ):
        Run.start(run.path, other)
    assert run.config() == CONFIG


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("")
    with pytest.raises(
        OutputError, match=r"is not empty and is not a run\. Choose another --output"
    ):
        Run.start(tmp_path, CONFIG)


def test_an_empty_folder_is_taken(tmp_path):
    assert Run.start(tmp_path, CONFIG).config() == CONFIG


def test_a_file_or_a_place_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(OutputError, match=f"{path}: cannot be written"):
            Run.start(path, CONFIG)


def test_a_run_that_is_not_there_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"is not a run \(no config\.toml\)"):
        Run.open(tmp_path)


def test_json_is_written_whole_and_read_back(run):
    run.write_json("a.json", {"x": [1, None]})
    assert run.read_json("a.json") == {"x": [1, None]}
    assert run.read_json("b.json") is None
    with pytest.raises(ValueError, match="JSON compliant"):
        run.write_json("a.json", {"x": float("nan")})
    assert run.read_json("a.json") == {"x": [1, None]}


@pytest.mark.parametrize("text", ["{}", "[]", "3"])
def test_json_without_what_is_needed_is_damaged(run, text):
    run.file("a.json").write_text(text)
    with pytest.raises(InputError, match=r"a\.json: is damaged \(no rows\)"):
        run.read_json("a.json", ("rows",))


def test_damaged_json_is_named(run):
    run.file("a.json").write_text('{"x": ')
    with pytest.raises(InputError, match=r"a\.json: is damaged \("):
        run.read_json("a.json")
    run.file("a.json").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"a\.json: is not in UTF-8"):
        run.read_json("a.json")


def test_the_history_has_every_column_six_digits_and_metrics_of_ones_own(run):
    row = dict.fromkeys(COLUMNS, 1 / 3) | {"epoch": 1, "learning_rate": 1e-7}
    del row["val_auroc"]
    run.write_history([row, {**row, "epoch": 2, "top_two": 5, "state_loss": 6}])
    head, first, second = run.file("history.csv").read_text().splitlines()
    assert head == ",".join(COLUMNS) + ",top_two"
    assert first == "1,0.333333,0.333333,0.333333,0.333333,,0.333333,1e-07,0.333333,"
    assert second.startswith("2,")
    assert second.endswith(",5")


def test_only_one_process_may_hold_a_run(run):
    with run.locked():  # noqa: SIM117  the second must fail
        with pytest.raises(OutputError, match=r"another process trains here\. Wait for it"):
            with run.locked():
                pass
    with run.locked():
        pass


def test_the_default_folder_is_date_and_name():
    assert (
        str(default_path(CONFIG, today=date(2026, 11, 23))) == "runs/2026-11-23-quickstart"
    )
    assert default_path(CONFIG).name.startswith(date.today().isoformat())


def test_a_config_that_was_damaged_since_is_named(run):
    run.file("config.toml").write_text(json.dumps({}))
    with pytest.raises(UsageError, match=r"config\.toml: is not TOML"):
        Run.start(run.path, CONFIG)


HERE = {"started": "1", "backend": "torch", "host": "n1", "seed": 3, "dataset": {}}
THERE = {**HERE, "started": "2", "backend": "jax"}


def told(environment):
    return [(leg["started"], leg["backend"]) for leg in legs(environment)]


def test_a_run_that_goes_on_elsewhere_names_both_places():
    first = with_legs(HERE, None, 0)
    both = with_legs(THERE, first, 2)
    assert told(both) == [("1", "torch"), ("2", "jax")]
    assert [leg["epochs_before"] for leg in both["legs"]] == [0, 2]
    assert both["backend"] == "jax"
    assert "dataset" not in both["legs"][0]
    again = with_legs({**THERE, "started": "3"}, both, 4)
    assert told(again) == told(both)  # the same place
    assert told(with_legs(HERE, again, 5)) == [*told(both), ("1", "torch")]


def test_a_place_where_no_epoch_was_done_is_not_named():
    first = with_legs(HERE, None, 0)
    assert told(with_legs(THERE, first, 0)) == [("2", "jax")]
    nothing = with_legs(THERE, first, 2)
    assert told(with_legs({**HERE, "started": "3"}, nothing, 2)) == [("1", "torch")]


def test_a_run_of_before_tells_where_it_was_last():
    assert told(HERE) == [("1", "torch")]
    assert told(with_legs(THERE, HERE, 1)) == [("1", "torch"), ("2", "jax")]
