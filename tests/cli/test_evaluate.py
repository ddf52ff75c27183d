"""`stm-keras evaluate`: what it prints and writes, and what it refuses to score."""

import json
import shutil

import numpy as np
import pytest
from helpers import (
    FEW_LINES,
    ONCE,
    check_error,
    lattice_scans,
    made_up_dataset,
    stm,
    write_dataset,
)

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.load import save_dataset
from stm_keras.evaluation.plots import NAMES
from stm_keras.evaluation.scores import HEADLINES
from stm_keras.inference.find_model import shipped_path

pytestmark = ONCE  # no backend changes what is tested here

KEYS = (  # of the issue
    "auroc balanced_accuracy accuracy ece per_class confusion by_lines intervals consensus n "
    "protocol model data"
)


@pytest.fixture(scope="module")
def scores(trained_run, dataset_file):
    """What `evaluate --json` says of a run and its own data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stm_keras.inference.evaluate.LINES_SEEN", FEW_LINES)
        result = stm("evaluate", trained_run, "--data", dataset_file, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def test_json_has_every_key(scores, trained_run, dataset_file):
    assert set(KEYS.split()) <= set(scores)
    assert scores["model"] == str(trained_run / "best.keras")
    assert scores["data"] == str(dataset_file)
    assert scores["protocol"] == "p2"
    assert list(scores["per_class"]) == list(CLASSES)
    assert np.shape(scores["confusion"]) == (4, 4)
    assert np.sum(scores["confusion"]) == scores["n"]
    assert set(scores["intervals"]) == {
        *HEADLINES,
        "per_class",
    }
    assert [entry["lines"] for entry in scores["by_lines"]][-1] == 128
    assert 0 < scores["consensus"]["n"] < scores["n"]


@pytest.mark.smoke
def test_in_a_run_the_test_part_is_scored_and_gives_what_training_said(scores, trained_run):
    said = json.loads((trained_run / "evaluation.json").read_text())
    assert scores["split"] == "test"
    for key in ("n", "auroc", "balanced_accuracy", "confusion", "by_lines", "intervals"):
        assert scores[key] == said[key], key


def test_the_best_model_of_a_run_is_known_as_such(scores, model_file, dataset_file):
    result = stm(
        "evaluate", model_file, "--data", dataset_file, "--split", "test", "--json"
    )
    assert json.loads(result.stdout) == scores


def test_a_model_out_of_its_run_scores_all_scans(model_file, dataset_file, tmp_path):
    shutil.copy(model_file, tmp_path / "alone.keras")
    given = [tmp_path / "alone.keras", "--data", dataset_file]
    whole = json.loads(stm("evaluate", *given, "--json").stdout)
    assert (whole["split"], whole["n"], whole["protocol"]) == ("all", 96, "p2")
    assert whole["resampled"] == {"unit": "session", "units": 12, "resamples": 1000}
    by_scan = json.loads(stm("evaluate", *given, "--protocol", "p1", "--json").stdout)
    assert by_scan["resampled"]["unit"] == "scan"
    assert by_scan["auroc"] == whole["auroc"]
    assert by_scan["intervals"] != whole["intervals"]
    check_error(
        stm("evaluate", *given, "--split", "test"), 2, "`--split test` needs the run of"
    )


def test_text_shows_every_score_with_its_interval(scores, trained_run, dataset_file):
    text = stm("evaluate", trained_run, "--data", dataset_file).stdout
    assert text.startswith(f"{scores['n']} scans, protocol P2, test\n")
    low, high = scores["intervals"]["auroc"]
    assert f"{scores['auroc']:.3f}  [{low:.3f}, {high:.3f}]" in text
    for name in CLASSES:
        assert f"  {name} " in text
    assert "lines seen" in text


def test_output_gets_scores_and_report_and_is_not_replaced_unasked(
    scores, trained_run, dataset_file, tmp_path
):
    folder = tmp_path / "deep" / "scored"
    given = ["evaluate", trained_run, "--data", dataset_file, "-o", folder]
    assert stm(*given).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {
        "evaluation.json",
        "report.html",
        *NAMES,
    }
    assert json.loads((folder / "evaluation.json").read_text()) == scores
    page = (folder / "report.html").read_text()
    assert "best.keras on scans.h5" in page
    assert "Training" in page
    check_error(
        stm(*given), 1, f"{folder / 'evaluation.json'}: exists already. Add --overwrite"
    )
    (folder / "report.html").write_text("old")
    assert stm(*given, "--overwrite").exit_code == 0
    assert (folder / "report.html").read_text() == page


def test_an_output_that_cannot_be_written_is_told_before_any_work(
    trained_run, dataset_file, tmp_path
):
    (tmp_path / "file").write_text("")
    given = ["evaluate", trained_run, "--data", dataset_file, "-o", tmp_path / "file"]
    check_error(stm(*given), 1, "file: cannot be written (not a folder).")


def test_another_protocol_than_that_of_the_run_is_refused(trained_run, dataset_file):
    given = ["evaluate", trained_run, "--data", dataset_file, "--protocol", "p1"]
    check_error(stm(*given), 2, "`--protocol p1`: the run was split under p2")
    assert stm(*given, "--split", "all", "--json").exit_code == 0


def test_the_test_part_needs_the_data_of_the_run(trained_run, tmp_path):
    other = write_dataset(tmp_path / "other.h5", count=16, sessions=4, seed=3)
    given = ["evaluate", trained_run, "--data", other]
    check_error(
        stm(*given, "--split", "test"), 2, "the data is not what the run was split on"
    )
    assert json.loads(stm(*given, "--json").stdout)["split"] == "all"


def test_other_classes_than_the_models_are_refused(trained_run, tmp_path):
    labels = np.arange(12) % 6
    data = tmp_path / "six.h5"
    save_dataset(
        made_up_dataset(
            12, 3, False, labels=labels, classes=tuple("abcdef"), source=str(data)
        ),
        data,
    )
    check_error(
        stm("evaluate", trained_run, "--data", data),
        4,
        f"{data}: the model knows individual atoms,",
        "Received: scans labelled a, b, c, d, e, f.",
    )


def test_six_known_classes_are_merged_into_the_models_four(trained_run, tmp_path):
    labels = np.arange(12) % 6
    dataset = made_up_dataset(12, 3, False, labels=labels, classes=SIX_CLASSES)
    save_dataset(dataset, tmp_path / "six.h5")
    result = stm("evaluate", trained_run, "--data", tmp_path / "six.h5", "--json")
    assert json.loads(result.stdout)["n"] == 12


def test_scans_of_another_size_are_refused(trained_run, tmp_path):
    images = lattice_scans(np.arange(8) % 4, pixels=64)
    save_dataset(made_up_dataset(8, 2, False, images=images), tmp_path / "narrow.h5")
    result = stm("evaluate", trained_run, "--data", tmp_path / "narrow.h5")
    assert check_error(result, 3, "must have shape (scans, 128, 128)", "(8, 128, 64)")


def test_no_single_class_scan_is_refused(trained_run, tmp_path):
    torn = {"votes": np.full((8, 4), 0.5, np.float32), "labels": np.full(8, -1)}
    dataset = made_up_dataset(8, 2, **torn, source="torn.h5")
    save_dataset(dataset, tmp_path / "torn.h5")
    result = stm("evaluate", trained_run, "--data", tmp_path / "torn.h5")
    check_error(result, 3, "torn.h5: no complete scan has a single class")


def test_p2_without_sessions_is_refused_with_what_to_do(trained_run, tmp_path):
    data = write_dataset(tmp_path / "plain.h5", count=8, sessions=0)
    given = ["evaluate", trained_run, "--data", data]
    check_error(
        stm(*given, "--protocol", "p2"), 3, "Add a `session` array", "--protocol p1"
    )
    assert json.loads(stm(*given, "--json").stdout)["protocol"] == "p1"


def test_a_missing_model_or_dataset_is_named(trained_run, dataset_file, tmp_path):
    missing = tmp_path / "no.keras"
    result = stm("evaluate", missing, "--data", dataset_file)
    check_error(result, 3, f"{missing}: no such file.")
    result = stm("evaluate", trained_run, "--data", tmp_path / "no.h5")
    check_error(result, 3, "no.h5: does not exist.")
    check_error(stm("evaluate", tmp_path, "--data", dataset_file), 3, "is not a run")
    assert stm("evaluate", trained_run).exit_code == 2


@pytest.mark.parametrize("name", ["evaluation.json", "report.html", "confusion.png"])
def test_nothing_in_the_output_is_replaced_unasked(
    name, trained_run, dataset_file, tmp_path
):
    (tmp_path / name).write_text("mine")
    result = stm("evaluate", trained_run, "--data", dataset_file, "-o", tmp_path)
    check_error(result, 1, f"{name}: exists already. Add --overwrite")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_seed_below_zero_is_a_usage_error(trained_run, dataset_file):
    result = stm("evaluate", trained_run, "--data", dataset_file, "--seed", -5)
    assert result.exit_code == 2
    assert "-5 is not in the range x>=0" in result.stderr


def test_other_surfaces_are_told_from_the_known_one(tmp_path):
    pytest.importorskip("onnxruntime")
    known = write_dataset(tmp_path / "known.h5", count=20, sessions=5)
    model = shipped_path("h_si100_small").with_suffix(".onnx")
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).random((3, 128, 128)))
    given = ["evaluate", model, "--data", known, "--others", tmp_path / "noise.npy"]
    result = stm(*given, "-o", tmp_path / "scored")
    assert result.exit_code == 0, result.stderr
    assert "  other surfaces        AUROC  called unknown  scans\n" in result.stdout
    assert " of 20 scans of the known surface\n" in result.stdout
    assert "found" not in result.stdout
    unknown = json.loads((tmp_path / "scored" / "evaluation.json").read_text())["unknown"]
    assert list(unknown["kinds"]) == ["noise.npy"]
    assert unknown["kinds"]["noise.npy"]["n"] == 3
    assert unknown["n_known"] == 20
    assert unknown["found"] == 1
    assert unknown["interval"][0] <= unknown["auroc"] <= unknown["interval"][1]
    page = (tmp_path / "scored" / "report.html").read_text()
    assert "<h2>Unknown surfaces</h2>" in page
    assert "noise.npy" in page


def test_a_model_that_knows_no_strangers_is_not_asked_for_them(
    trained_run, dataset_file, tmp_path
):
    np.save(tmp_path / "noise.npy", np.zeros((1, 128, 128)))
    given = ["evaluate", trained_run, "--data", dataset_file]
    result = stm(*given, "--others", tmp_path / "noise.npy")
    check_error(result, 4, "does not say whether it knows a surface. Leave `--others` out")
