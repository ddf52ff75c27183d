"""`stm-keras predict`: tables, CSV and JSON for datasets, arrays and pictures."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import ONCE, check_error, lattice_scans, stm, write_dataset
from PIL import Image

from stm_keras.data.dataset import CLASSES
from stm_keras.inference.scan_result import KEYS

pytestmark = ONCE  # a run judges what trained it, under every backend: test_train.py

FLAGS = ["unsure", "unknown_surface", "unknown_size"]
FLAGS += ["change_lines", "lines", "error", "tile"]
SMALL = Path(__file__).parents[2] / "models" / "h_si100_small.onnx"
SCAN = lattice_scans([1])[0]


def judge(model, *arguments):
    """Run `predict --json` and return its records."""
    result = stm("predict", model, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def brown(scan):
    value = scan.astype(int)
    channels = (np.minimum(2 * value, 255), value, np.maximum(2 * value - 256, 0))
    return np.stack(channels, axis=2).astype(np.uint8)


def test_records_begin_with_what_a_program_acts_on():
    first = ["schema", "path", "index", "verdict", "class", "probabilities", "confidence"]
    first += ["change_lines", "unsure", "unknown_surface", "unknown_size", "lines", "error"]
    assert list(KEYS[: len(first)]) == first


@pytest.mark.smoke
def test_a_dataset_gives_one_line_for_each_scan_in_its_order(trained_run, dataset_file):
    records = judge(trained_run, dataset_file)
    assert [record["index"] for record in records] == list(range(96))
    for record in records:
        assert list(record) == list(KEYS)
        assert record["schema"] == 2
        assert record["path"] == str(dataset_file)
        assert record["verdict"] == ("unsure" if record["unsure"] else record["class"])
        assert list(record["probabilities"]) == list(CLASSES)
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=5e-6)
        assert record["confidence"] == max(record["probabilities"].values())
        assert record["probabilities"][record["class"]] == record["confidence"]


def test_one_scan_is_judged_alike_from_every_kind_of_file(model_file, tmp_path):
    np.save(tmp_path / "two.npy", SCAN)
    np.save(tmp_path / "three.npy", SCAN[None].astype("f8") * 1e-12)
    np.savez(tmp_path / "plain.npz", images=SCAN[None])
    Image.fromarray(SCAN).save(tmp_path / "grey.png")
    Image.fromarray(SCAN.astype("u2") * 257).save(tmp_path / "deep.png")
    Image.fromarray(SCAN.astype("u2") * 257).save(tmp_path / "deep.tiff")
    Image.fromarray(SCAN.astype("f4")).save(tmp_path / "real.tif")
    Image.fromarray(brown(SCAN)).save(tmp_path / "brown.png")
    Image.fromarray(brown(SCAN)).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(SCAN).save(tmp_path / "grey.bmp")
    files = sorted(path for path in tmp_path.iterdir())
    records = judge(model_file, *files)
    assert [record["path"] for record in records] == list(map(str, files))
    assert {record["index"] for record in records} == {0}
    first = np.array(list(records[0]["probabilities"].values()))
    for record in records:
        given = np.array(list(record["probabilities"].values()))
        np.testing.assert_allclose(given, first, atol=2e-4, err_msg=record["path"])


def test_unlabelled_data_are_judged(model_file, tmp_path, dataset_file):
    np.savez(tmp_path / "no labels.npz", images=lattice_scans([0, 1, 2]))
    assert len(judge(model_file, tmp_path / "no labels.npz")) == 3


def test_the_suffix_does_not_matter(model_file, tmp_path):
    Image.fromarray(SCAN).save(tmp_path / "scan.png")
    (tmp_path / "scan.png").rename(tmp_path / "scan.dat")
    assert judge(model_file, tmp_path / "scan.dat")


def test_csv_has_a_header_and_a_row_for_each_scan(model_file, tmp_path):
    path = tmp_path / 'odd, "name" ü.npy'
    np.save(path, lattice_scans([0, 3]))
    result = stm("predict", model_file, path, "--csv")
    rows = list(csv.reader(io.StringIO(result.stdout)))
    start = ["path", "index", "verdict", "class", "confidence"]
    assert rows[0] == [*start, *CLASSES, *FLAGS]
    assert [row[:2] for row in rows[1:]] == [[str(path), "0"], [str(path), "1"]]
    for row in rows[1:]:
        assert sum(map(float, row[5:9])) == pytest.approx(1, abs=5e-6)
        assert float(row[4]) == max(map(float, row[5:9]))
        assert row[9] in ("true", "false")
        assert row[2] == ("unsure" if row[9] == "true" else row[3])
        assert row[10:] == ["", "", "", "128", "", ""]


def test_the_table_names_class_and_confidence(model_file, tmp_path):
    np.save(tmp_path / "scans.npy", lattice_scans([0, 3]))
    result = stm("predict", model_file, tmp_path / "scans.npy")
    head, first, second, summary = result.stdout.splitlines()
    assert head.split() == ["file", "verdict", "sure", "lines"]
    assert "scans.npy  " in first
    assert "scans.npy [1]  " in second
    for row in (first, second):
        assert any(name in row for name in CLASSES)
        sure = re.search(r"  (\w.*)  +\d+%    128$", row)
        unsure = re.search(r"  unsure  +128  perhaps (.*) \(\d+%\)$", row)
        assert (sure or unsure)[1].strip() in CLASSES
    assert summary.startswith("2 scans: ")


def test_json_and_csv_at_once_are_refused(model_file, tmp_path):
    np.save(tmp_path / "scans.npy", SCAN)
    result = stm("predict", model_file, tmp_path / "scans.npy", "--csv", "--json")
    check_error(result, 2, "`--csv` and `--json`: choose one.")


def test_bad_files_among_good_ones_are_told_and_the_others_judged(model_file, tmp_path):
    good = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in good:
        np.save(path, SCAN)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    missing = tmp_path / "none.h5"
    result = stm("predict", model_file, good[0], bad, missing, good[1], "--json")
    assert result.exit_code == 3
    records = [json.loads(line) for line in result.stdout.splitlines()]
    given = [good[0], bad, missing, good[1]]
    assert [record["path"] for record in records] == list(map(str, given))
    assert [record["error"] is None for record in records] == [True, False, False, True]
    for record in records[1:3]:
        assert list(record) == list(KEYS)
        assert (record["schema"], record["verdict"]) == (2, "not judged")
        told = {"schema", "path", "verdict", "error"}
        assert {record[key] for key in set(KEYS) - told} == {None}
    first, second = result.stderr.splitlines()
    assert first == f"Error: {records[1]['error']}"
    assert first.startswith(f"Error: {bad}: is a damaged picture (")
    assert second == f"Error: {missing}: does not exist. Look at the path."


def test_a_begun_scan_is_judged_from_its_lines(model_file, tmp_path):
    np.save(tmp_path / "begun.npy", SCAN[:21])
    Image.fromarray(SCAN[:64]).save(tmp_path / "half.png")
    assert len(judge(model_file, tmp_path / "begun.npy", tmp_path / "half.png")) == 2


def test_a_larger_picture_is_brought_to_the_models_size(model_file, tmp_path):
    large = np.kron(SCAN, np.ones((4, 4), np.uint8))
    Image.fromarray(large).save(tmp_path / "large.png")
    assert len(judge(model_file, tmp_path / "large.png")) == 1


BAD_SCANS = {  # name: how to write it, exit code, what the line says
    "one number.npy": (lambda p: np.save(p, 5.0), 3, "needs numbers of shape"),
    "text.npy": (lambda p: np.save(p, np.array(["a"])), 3, "needs numbers of shape"),
    "pickle.npy": (lambda p: np.save(p, np.array([{}])), 3, "holds Python objects"),
    "none.npy": (
        lambda p: np.save(p, np.zeros((0, 128, 128))),
        3,
        "of shape (0, 128, 128)",
    ),
    "nan.npy": (
        lambda p: np.save(p, np.full((128, 128), np.nan)),
        3,
        "no line was recorded: it holds NaN alone",
    ),
    "cut.npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00"), 3, "is a damaged array"),
    "high.npy": (lambda p: np.save(p, np.ones((300, 128))), 3, "is higher than wide"),
    "high.png": (
        lambda p: Image.fromarray(SCAN[:, :64]).save(p),
        3,
        "is higher than wide (64 x 128 pixels)",
    ),
    "dot.png": (
        lambda p: Image.fromarray(SCAN[:1, :1]).save(p),
        3,
        "is not a scan, but a picture",
    ),
    "few pixels.png": (
        lambda p: Image.fromarray(SCAN[:9, :9]).save(p),
        3,
        "is not a scan, but a picture of 9 x 9 pixels",
    ),
    "three.tif": (
        lambda p: Image.fromarray(SCAN).save(
            p, save_all=True, append_images=[Image.fromarray(SCAN)] * 2
        ),
        3,
        "holds several pictures. Save one scan per file.",
    ),
    "empty.h5": (lambda p: p.write_bytes(b""), 3, "is empty"),
    "words.txt": (lambda p: p.write_text("hello"), 3, "is of an unknown format"),
    "folder": (lambda p: p.mkdir(), 3, "holds no scan"),
    "none*.sxm": (lambda p: None, 3, "fits no file"),
    "narrow.npz": (
        lambda p: np.savez(p, images=SCAN[None, :, :64]),
        4,
        "the model judges lines of 128 pixels. Received: scans of 128 lines x 64 pixels.",
    ),
    "long.npz": (
        lambda p: np.savez(p, images=np.ones((1, 200, 128), "f4")),
        4,
        "the model judges up to 128 lines. Received: scans of 200 lines.",
    ),
}


@pytest.mark.parametrize("name", BAD_SCANS)
def test_what_holds_no_scan_is_one_line(name, model_file, tmp_path):
    write, code, phrase = BAD_SCANS[name]
    write(tmp_path / name)
    result = stm("predict", model_file, tmp_path / name, "--json")
    line = check_error(result, code, f"{tmp_path / name}: ", phrase)
    assert f"Error: {json.loads(result.stdout)['error']}" == line


@pytest.mark.parametrize("command", ["info", "predict"])
def test_a_memory_that_is_no_size_is_a_wrong_use(command, tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", SCAN)
    monkeypatch.setenv("STM_KERAS_MEMORY", "much")
    result = stm(command, tmp_path / "a.npy")
    check_error(result, 2, "STM_KERAS_MEMORY must be a size", "Received: 'much'")


@pytest.mark.filterwarnings("always:.*unknown colours")
def test_unknown_colours_are_judged_with_a_warning(model_file, tmp_path):
    rainbow = np.stack([SCAN, SCAN // 2, 255 - SCAN], axis=2)
    Image.fromarray(rainbow).save(tmp_path / "rainbow.png")
    result = stm("predict", model_file, tmp_path / "rainbow.png", "--json")
    assert result.exit_code == 0
    assert result.stderr == (
        f"Warning: {tmp_path / 'rainbow.png'}: unknown colours. Heights are a guess, taken "
        "from the green channel. Export the scan in grey.\n"
    )


def test_a_run_that_is_not_trained_yet_is_named(tmp_path, dataset_file):
    (tmp_path / "config.toml").write_text("")
    result = stm("predict", tmp_path, dataset_file)
    check_error(result, 3, f"{tmp_path}: the run has no best.keras yet. Train it first.")


def test_no_file_at_all_is_a_usage_error(model_file):
    assert stm("predict", model_file).exit_code == 2


def test_an_empty_name_does_not_mean_this_folder(model_file):
    result = stm("predict", model_file, "")
    assert result.exit_code == 2
    assert "The path is empty." in result.stderr


def test_heights_of_any_size_are_judged_alike(model_file, tmp_path):
    for name, factor in (("a", 1), ("b", 1e-60), ("c", 1e16)):
        np.save(tmp_path / f"{name}.npy", SCAN * factor)
    files = [tmp_path / f"{name}.npy" for name in "abc"]
    given = [list(record["probabilities"].values()) for record in judge(model_file, *files)]
    np.testing.assert_allclose(given[1:], given[:1] * 2, atol=2e-6)


def test_one_scan_of_heights_that_cannot_be_costs_no_other(tmp_path):
    np.savez(tmp_path / "b.npz", images=[SCAN * 1e200, SCAN])
    for name in "ac":
        np.save(tmp_path / f"{name}.npy", SCAN)
    files = [tmp_path / name for name in ("a.npy", "b.npz", "c.npy")]
    given = ["--report", tmp_path / "r.html", "--json"]
    result = stm("predict", "--model", SMALL, *files, *given)
    assert result.exit_code == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: {files[1]}: scan 0 is damaged")
    told = [json.loads(line)["error"] is None for line in result.stdout.splitlines()]
    assert told == [True, False, True, True]
    assert (tmp_path / "r.html").exists()


def test_a_model_with_unmerged_data_still_judges(trained_run, tmp_path):
    data = write_dataset(tmp_path / "scans.h5", count=8, sessions=2)
    assert len(judge(trained_run, data, data)) == 16
