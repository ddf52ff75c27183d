"""`stm-keras simulate`, `convert` of datasets, `info` and `audit`."""

import json

import h5py
import numpy as np
import pytest
from helpers import (
    ONCE,
    REPOSITORY,
    SHARED,
    check_error,
    lattice_scans,
    made_up_dataset,
    stm,
    write_dataset,
)
from PIL import Image

from stm_keras.data.dataset import CLASSES, SIX_CLASSES, SIZES
from stm_keras.data.load import load_dataset, save_dataset

pytestmark = ONCE  # no backend changes what is tested here

# simulate


def test_simulate_writes_a_dataset_that_says_what_was_drawn(tmp_path):
    output = tmp_path / "new" / "scans.h5"
    result = stm("simulate", "--count", 24, "--seed", 3, "--workers", 1, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{output}: 24 scans in ")
    assert all(name in result.stdout for name in CLASSES)
    dataset = load_dataset(output)
    assert dataset.images.shape == (24, 128, 128)
    assert dataset.line_labels.shape == (24, 128)
    assert dataset.change_line.shape == (24,)
    assert dataset.parameters
    assert dataset.source == "simulated, seed 3"


def test_simulated_scans_have_the_size_that_is_asked_for(tmp_path):
    given = ["simulate", "--count", 3, "--workers", 1, "-o", tmp_path / "a.h5"]
    assert stm(*given, "--size", 48).exit_code == 0
    assert load_dataset(tmp_path / "a.h5").images.shape == (3, 48, 48)
    low, high = SIZES
    for size in (low - 1, high + 1):
        result = stm(*given, "--size", size, "--overwrite")
        assert check_error(
            result, 2, "--size", f"{size} is not in the range {low}<=x<={high}"
        )


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("a.h5", "b.h5"):
        stm("simulate", "--count", 8, "--seed", 3, "--workers", 1, "-o", tmp_path / name)
    stm("simulate", "--count", 8, "--seed", 4, "--workers", 1, "-o", tmp_path / "c.h5")
    a, b, c = (load_dataset(tmp_path / f"{name}.h5").digest() for name in "abc")
    assert a == b != c


def test_shares_of_tip_changes_and_aborted_scans_are_taken(tmp_path):
    given = ["--count", 8, "--workers", 1, "--tip-change", 1, "--partial", 1]
    assert stm("simulate", *given, "-o", tmp_path / "a.h5").exit_code == 0
    dataset = load_dataset(tmp_path / "a.h5")
    assert (dataset.lines < 128).all()


def test_simulate_refuses_before_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr("stm_keras.simulate.simulate", None)
    (tmp_path / "a.h5").write_text("mine")
    given = ["simulate", "--count", 8, "-o", tmp_path / "a.h5"]
    check_error(stm(*given), 1, "a.h5: exists already. Add --overwrite to replace it.")
    assert (tmp_path / "a.h5").read_text() == "mine"
    result = stm("simulate", "--count", 8, "-o", tmp_path / "a.h5" / "b.h5")
    check_error(result, 1, "a.h5: cannot be written (not a folder)")
    check_error(stm("simulate", "--count", 8, "-o", tmp_path), 1, "is a folder")


@pytest.mark.parametrize("count", ["0", "-1", "many", "1.5"])
def test_a_count_that_makes_no_sense_is_a_usage_error(count, tmp_path):
    result = stm("simulate", "--count", count, "-o", tmp_path / "a.h5")
    assert result.exit_code == 2
    assert "--count" in result.stderr
    assert list(tmp_path.iterdir()) == []


# convert


def test_convert_turns_npz_into_hdf5(tmp_path):
    images = lattice_scans([0, 1, 2, 3])
    np.savez(
        tmp_path / "old.npz", images=images.astype("f8"), labels=np.arange(4, dtype="i4")
    )
    result = stm("convert", tmp_path / "old.npz", "-o", tmp_path / "new.h5")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        f"{tmp_path / 'new.h5'}: 4 scans, individual atoms 1, asymmetries/dimers 1, rows 1, "
        "generic defects 1\n"
    )
    dataset = load_dataset(tmp_path / "new.h5")
    np.testing.assert_array_equal(dataset.images, images)
    assert dataset.labels.tolist() == [0, 1, 2, 3]


def test_convert_merges_six_classes_unless_told_not_to(tmp_path):
    labels = np.arange(12) % 6
    dataset = made_up_dataset(12, 3, False, labels=labels, classes=SIX_CLASSES)
    save_dataset(dataset, tmp_path / "six.h5")
    assert stm("convert", tmp_path / "six.h5", "-o", tmp_path / "four.h5").exit_code == 0
    assert load_dataset(tmp_path / "four.h5").classes == CLASSES
    given = ["convert", tmp_path / "six.h5", "-o", tmp_path / "same.h5", "--no-merge"]
    assert stm(*given).exit_code == 0
    assert load_dataset(tmp_path / "same.h5", merge=False).classes == SIX_CLASSES


def test_soft_labels_keep_the_votes_and_hard_ones_do_not(tmp_path, dataset_file):
    for kind in ("soft", "hard"):
        given = ["convert", dataset_file, "-o", tmp_path / f"{kind}.h5", "--labels", kind]
        assert stm(*given).exit_code == 0
    assert load_dataset(tmp_path / "soft.h5").votes.shape == (96, 4)
    assert load_dataset(tmp_path / "hard.h5").votes is None


def test_hard_labels_still_know_which_scans_all_raters_agree_on(tmp_path, dataset_file):
    stm("convert", dataset_file, "-o", tmp_path / "hard.h5")
    expected = load_dataset(dataset_file).consensus()
    assert load_dataset(tmp_path / "hard.h5").consensus().tolist() == expected.tolist()


def test_soft_labels_without_votes_are_refused(tmp_path):
    data = write_dataset(tmp_path / "hard.h5", count=4, sessions=1, voted=False)
    result = stm("convert", data, "-o", tmp_path / "new.h5", "--labels", "soft")
    check_error(result, 2, "`--labels soft`: ", "holds labels but no votes. Use hard.")
    assert not (tmp_path / "new.h5").exists()


def test_convert_reads_a_folder_of_pictures_with_odd_names(tmp_path):
    folder = tmp_path / "Bilder vom 3. März"
    folder.mkdir()
    for number, scan in enumerate(lattice_scans([0, 1])):
        Image.fromarray(scan).save(folder / f"scan {number} é.png")
    table = "file;label\nscan 0 é.png;rows\nscan 1 é.png;individual atoms\n"
    (folder / "labels.csv").write_text(table, encoding="utf-8")
    result = stm("convert", folder, "-o", tmp_path / "ü b.h5")
    assert result.exit_code == 0, result.stderr
    assert load_dataset(tmp_path / "ü b.h5").labels.tolist() == [2, 0]


def test_convert_refuses_what_is_there_and_what_is_no_dataset(tmp_path, dataset_file):
    new = tmp_path / "new.h5"
    (tmp_path / "text.h5").write_text("hello")
    check_error(
        stm("convert", tmp_path / "text.h5", "-o", new), 3, "is of an unknown format"
    )
    check_error(stm("convert", tmp_path / "no.npz", "-o", new), 3, "no.npz: does not exist")
    assert not new.exists()
    new.write_text("mine")
    check_error(stm("convert", dataset_file, "-o", new), 1, "new.h5: exists already")
    assert new.read_text() == "mine"
    assert stm("convert", dataset_file, "-o", new, "--overwrite").exit_code == 0
    assert len(load_dataset(new)) == 96


@pytest.mark.skipif(not SHARED.exists(), reason="the shared real scans are not here")
def test_real_scans_from_matlab_and_npz_are_the_same_dataset(tmp_path):
    for name in ("raw_sample.mat", "processed_sample.npz"):
        result = stm("convert", SHARED / name, "-o", tmp_path / f"{name}.h5")
        assert result.exit_code == 0, result.stderr
    digests = {load_dataset(path).digest() for path in tmp_path.glob("*.h5")}
    assert len(digests) == 1


# info


def test_info_counts_classes_and_writes_nothing_unless_asked(tmp_path):
    data = write_dataset(tmp_path / "scans.h5", count=16, sessions=4)
    result = stm("info", data)
    assert result.exit_code == 0, result.stderr
    assert "scans        16 of 128 lines x 128 pixels, 0 aborted\n" in result.stdout
    assert all(f"\n{name} " in result.stdout for name in CLASSES)
    assert [path.name for path in tmp_path.iterdir()] == ["scans.h5"]
    result = stm("info", data, "-o", tmp_path / "sheets")
    sheets = sorted((tmp_path / "sheets").iterdir())
    assert len(sheets) == 4
    for sheet in sheets:
        assert sheet.read_bytes().startswith(b"\x89PNG")
        assert f"wrote {sheet}\n" in result.stdout


def test_info_json_is_one_object(tmp_path):
    data = write_dataset(tmp_path / "scans.h5", count=16, sessions=4)
    result = stm("info", data, "--json", "-o", tmp_path / "deep" / "sheets")
    facts = json.loads(result.stdout)
    assert (facts["scans"], facts["lines"], facts["pixels"]) == (16, 128, 128)
    assert list(facts["classes"]) == list(CLASSES)
    assert facts["sheets"] == [
        str(p) for p in sorted((tmp_path / "deep" / "sheets").iterdir())
    ]


def test_info_replaces_sheets_only_when_asked(tmp_path):
    data = write_dataset(tmp_path / "scans.h5", count=16, sessions=4)
    command = ["info", data, "-o", tmp_path / "sheets"]
    first = stm(*command)
    sheet = sorted((tmp_path / "sheets").iterdir())[0]
    sheet.write_text("mine now")
    check_error(stm(*command), 1, "exists already. Add --overwrite to replace it.")
    assert sheet.read_text() == "mine now"
    assert stm(*command, "--overwrite").stdout == first.stdout
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_info_of_a_model_or_a_run_tells_its_facts(trained_run, model_file):
    for path in (trained_run, model_file):
        result = stm("info", path, "--json")
        assert result.stdout.count("\n") == 1
        facts = json.loads(result.stdout)
        assert facts["classes"] == list(CLASSES)
        assert facts["training"]["config"]["train"]["epochs"] == 2
    text = stm("info", trained_run)
    assert f"{trained_run / 'best.keras'}: cnn_small, " in text.stdout
    assert "  tells        confidence, unsure\n" in text.stdout
    assert "(train " in text.stdout
    assert "{" not in text.stdout
    assert text.stderr == f"Next: stm-keras analyze {trained_run}\n"


def test_info_of_a_model_needs_no_keras(model_file, monkeypatch):
    monkeypatch.setattr("stm_keras.cli.options.import_keras", None)
    assert stm("info", model_file).exit_code == 0


def test_info_of_an_onnx_model_is_what_it_says_of_itself():
    result = stm("info", REPOSITORY / "models" / "h_si100.onnx", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["classes"][0] == "individual atoms"


def test_info_takes_the_name_of_a_shipped_model_unless_a_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "h_si100.keras: sequential, " in stm("info", "h_si100").stdout
    (tmp_path / "h_si100").mkdir()
    assert "holds no scan" in stm("info", "h_si100").stderr


def test_info_of_nothing_is_one_line(tmp_path):
    check_error(stm("info", tmp_path / "no.h5"), 3, "no.h5: does not exist")
    check_error(stm("info", tmp_path), 3, "holds no scan. Known formats: docs/formats.md.")
    (tmp_path / "a.keras").write_text("hello")
    check_error(
        stm("info", tmp_path / "a.keras"),
        3,
        "a.keras: cannot be read (File is not a zip file",
    )


# audit


@pytest.fixture
def copies(tmp_path):
    """File of 16 scans, two of which are copies in other sessions, and two of them cut."""
    dataset = made_up_dataset(16, 4)
    images = dataset.images.copy()
    images[13] = images[1]
    images[6, 40] = 7
    with h5py.File(tmp_path / "scans.h5", "w") as file:
        file["images"] = images
        file["labels"] = dataset.labels
        file["session"] = dataset.session.astype(object)
    return tmp_path / "scans.h5"


def test_audit_finds_copies_and_says_so(copies):
    result = stm("audit", copies)
    assert result.exit_code == 0, result.stderr
    assert "exact" in result.stdout
    found = json.loads(stm("audit", copies, "--json").stdout)
    assert found["duplicates"]["exact_across"] == 1
    assert found["duplicates"]["leaks"]["given"] is None
    assert found["labels"]["scans"] == 16


def test_audit_checks_the_split_of_a_run(trained_run, dataset_file):
    result = stm("audit", dataset_file, "--run", trained_run, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["duplicates"]["leaks"]["given"]["protocol"] == "p2"


def test_audit_of_other_data_than_the_runs_is_refused(trained_run, copies):
    result = stm("audit", copies, "--run", trained_run)
    check_error(result, 2, f"{trained_run}: was split on other data than {copies}.")


def test_audit_of_a_run_without_a_split_or_of_nothing_is_one_line(copies, tmp_path):
    (tmp_path / "config.toml").write_text("")
    check_error(
        stm("audit", copies, "--run", tmp_path), 2, f"{tmp_path}: has no split yet."
    )
    check_error(stm("audit", tmp_path / "no.h5"), 3, "no.h5: does not exist")
