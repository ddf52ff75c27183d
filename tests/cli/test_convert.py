"""`stm-keras convert` of the files of microscopes: labels, what is kept, what is refused."""

import json
import os
import tracemalloc
from datetime import UTC, datetime

import numpy as np
import pytest
from frames import frame
from fuzz import seeds
from helpers import ONCE, SHARED, TINY, check_error, lattice_scans, stm
from PIL import Image
from scan_files import sxm

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.load import load_dataset
from stm_keras.inference.find_files import InputFile
from stm_keras.inference.find_model import shipped_path
from stm_keras.inference.model_file import load_predictor
from stm_keras.inference.predict_files import predict_files
from stm_keras.readers import read_scan
from stm_keras.scan import scan_hash

pytestmark = ONCE  # no backend changes what is tested here

OWN = ("sharp", "double", "blunt")


@pytest.fixture
def folder(tmp_path):
    """Three scans of two days, one of them scanned upwards."""
    for number, name in enumerate(("day1/a.sxm", "day1/b.sxm", "day2/c.sxm")):
        write(tmp_path / "scans" / name, number)
    return tmp_path / "scans"


def write(path, seed=0, lines=150, recorded=None, slow=None, **entries):
    heights = lattice_scans([1], seed=seed, lines=lines, pixels=150)[0] * 1e-12 + 3e-7
    heights[recorded:] = np.nan if recorded else heights[recorded:]
    path.parent.mkdir(parents=True, exist_ok=True)
    slow = slow or ("up" if seed == 1 else "down")
    heights = heights[::-1] if slow == "up" else heights
    entries = {"size": (8e-9, 8e-9 * lines / 150), "slow": slow, **entries}
    path.write_bytes(sxm({"Z": ("m", heights, heights)}, **entries))
    return path


def table(folder, text, name="labels.csv"):
    (folder / name).write_text(text, encoding="utf-8")


def convert(source, *more, code=0):
    output = source.parent / "own.h5"
    result = stm("convert", source, "-o", output, "--overwrite", *more)
    assert result.exit_code == code, result.stderr
    return load_dataset(output, merge=False), result


def record(path, rater="anna", marks=(), change=None, minute=0, **more):
    segments = [{"from": 0, "marks": list(marks)}]
    segments += [] if change is None else [{"from": change, "marks": []}]
    record = {
        "schema": 1,
        "t": datetime(2026, 11, 29, 10, minute, tzinfo=UTC).isoformat(),
        "rater": rater,
        "scan": scan_hash(read_scan(path).lines()),
        "path": str(path),
        "index": 0,
        "marks": list(marks),
        "segments": segments,
        "unsure": False,
        "seconds": 1.5,
        "model_shown": False,
    }
    return json.dumps({**record, **more}) + "\n"


# what is kept


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("real", [False, True], ids=["made up", "real"])
def test_a_file_of_any_format_and_its_dataset_get_the_same_probabilities(tmp_path, real):
    if real and not SHARED.is_dir():
        pytest.skip("no real files here")
    folder, rows = tmp_path / "scans", ["path,label"]
    for number, (name, seed) in enumerate(
        {**seeds.scans(tmp_path), **seeds.converted(tmp_path)}.items()
    ):
        shared = name.startswith("shared ")
        if shared != real or (real and not (SHARED / "spm" / seed.start).is_file()):
            continue
        for file, data in seed.files.items():
            path = folder / str(number) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        rows.append(f"{number}/{seed.start},{OWN[number % 2]}")
    table(folder, "\n".join(rows) + "\n")
    predictor = load_predictor(shipped_path("h_si100_small").with_suffix(".onnx"))
    files = [InputFile(folder / row.split(",")[0]) for row in rows[1:]]
    judged = [each for each in predict_files(predictor, files) if each.error is None]
    judged = [each for each in judged if len(each.scan_input.bounds) > 1]
    assert len(judged) > 15
    dataset, result = convert(folder, code=3 if real else 0)
    assert len(dataset) == len(judged)
    again = list(predict_files(predictor, [InputFile(tmp_path / "own.h5")]))
    for file, kept in zip(judged, again, strict=True):
        assert file.verdict.probabilities is not None, file.path
        np.testing.assert_allclose(
            kept.verdict.probabilities, file.verdict.probabilities, atol=1e-9, rtol=0
        )


@pytest.mark.smoke
def test_a_table_tells_classes_of_ones_own_and_all_else_is_kept(folder):
    table(
        folder,
        "path,label,session,change_line,weight\n"
        "day2/c.sxm,sharp,,75,2\nday1/a.sxm,double,first,,1\nday1/b.sxm,sharp,,-1,\n",
    )
    dataset, result = convert(folder)
    assert result.stdout == f"{folder.parent / 'own.h5'}: 3 scans, sharp 2, double 1\n"
    assert dataset.classes == ("sharp", "double")
    assert dataset.labels.tolist() == [0, 1, 0]
    assert dataset.votes is None
    assert dataset.name.tolist() == ["day2/c.sxm", "day1/a.sxm", "day1/b.sxm"]
    assert dataset.session.tolist() == ["day2", "first", "day1"]
    assert dataset.change_line.tolist() == [64, -1, -1]  # 75 of 150 lines
    assert dataset.weight.tolist() == [2, 1, 1]
    assert dataset.lines.tolist() == [128, 128, 128]
    np.testing.assert_allclose(dataset.size_nm, [[8, 8]] * 3)
    assert dataset.bias.tolist() == [-1.5] * 3
    assert dataset.channel.tolist() == ["Z"] * 3
    assert dataset.direction.tolist() == ["forward"] * 3
    assert dataset.slow.tolist() == ["down", "down", "up"]
    assert dataset.unit.tolist() == ["m"] * 3
    assert dataset.source == f"scans of {folder}"


def test_scans_come_in_the_size_that_is_asked_for(folder):
    table(folder, "path,label\nday1/a.sxm,sharp\nday1/b.sxm,double\n")
    write(folder / "day1" / "b.sxm", 1, recorded=75, slow="down")
    dataset, _ = convert(folder, "--size", 150)
    lines = read_scan(folder / "day1" / "a.sxm").lines()
    assert dataset.images.shape == (2, 150, 150)
    np.testing.assert_allclose(dataset.images[0], lines - np.median(lines), atol=1e-15)
    assert dataset.lines.tolist() == [150, 75]


def test_a_dataset_is_not_brought_to_another_size(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.ones((4, 40, 40)), labels=np.arange(4))
    assert stm("convert", tmp_path / "a.npz", "-o", tmp_path / "a.h5").exit_code == 0
    result = stm("convert", tmp_path / "a.npz", "-o", tmp_path / "b.h5", "--size", 48)
    assert check_error(result, 3, "must have shape (scans, 48, 48)", "(4, 40, 40)")


def test_heights_are_metres_from_the_median_in_the_order_of_acquisition(folder):
    table(folder, "path,label\nday1/a.sxm,sharp\nday1/b.sxm,double\n")
    heights = write(folder / "day1" / "a.sxm", 1, slow="down").read_bytes()
    assert heights != write(folder / "day1" / "b.sxm", 1, slow="up").read_bytes()
    down, up = convert(folder)[0].images[:]
    assert down.dtype == np.float32
    np.testing.assert_array_equal(down, up)
    assert abs(np.median(down)) < 1e-12
    lines = read_scan(folder / "day1" / "a.sxm").lines()
    assert np.ptp(down) == pytest.approx(np.ptp(lines), rel=0.2)
    first = np.interp(np.linspace(0, 149, 128), range(150), lines[0])
    assert np.corrcoef(down[0], first)[0, 1] > 0.9


def test_the_image_asked_for_is_taken(folder):
    table(folder, "path,label\nday1/a.sxm,sharp\nday2/c.sxm,double\n")
    dataset, _ = convert(folder, "--channel", "Z backward")
    assert dataset.direction.tolist() == ["backward", "backward"]


def test_a_lost_line_is_not_the_end_of_a_scan(tmp_path):
    for name, recorded, lost in (("whole", 150, 7), ("stopped", 90, 7)):
        heights, *_, size = frame("150x150")
        heights = heights[:recorded].copy()
        heights[lost] = 0
        full = np.full((150, 150), np.nan)
        full[:recorded] = heights
        (tmp_path / "scans").mkdir(exist_ok=True)
        data = sxm({"Z": ("m", full, full)}, size=size)
        (tmp_path / "scans" / f"{name}.sxm").write_bytes(data)
    table(tmp_path / "scans", "path,label\nwhole.sxm,sharp\nstopped.sxm,double\n")
    dataset, result = convert(tmp_path / "scans")
    assert dataset.lines.tolist() == [128, 75]
    assert not dataset.images[0][-1].any()
    assert dataset.images[0][-3].any()
    assert "neither training nor scores: 1." in result.stderr


def test_sub_folders_are_classes_and_their_folders_sessions(folder):
    for name in ("day1", "day2"):
        (folder / "bad_blurry").mkdir(exist_ok=True)
        (folder / name).rename(folder / "bad_blurry" / name)
    write(folder / "Individual atoms" / "d.sxm", REC_DATE="24.12.2025", REC_TIME="10:00:00")
    write(folder / "e.sxm")
    dataset, result = convert(folder, "--no-merge")
    assert dataset.classes == SIX_CLASSES
    assert dataset.labels.tolist() == [0, 5, 5, 5]
    assert dataset.session.tolist() == ["2025-12-24", "day1", "day1", "day2"]
    assert "Scans without a label, which were left out: 1." in result.stderr
    assert stm("convert", folder, "-o", folder.parent / "four.h5").exit_code == 0
    assert load_dataset(folder.parent / "four.h5").classes == CLASSES


def test_the_date_of_a_file_is_the_last_resort_for_a_session(tmp_path):
    for name in ("sharp", "double"):
        path = write(tmp_path / "scans" / name / "a.sxm")
        os.utime(path, (1.7e9, 1.7e9))
    dataset, result = convert(tmp_path / "scans")
    assert (
        dataset.session.tolist() == [datetime.fromtimestamp(1.7e9).date().isoformat()] * 2
    )
    assert "Scans whose session is the date of their file" in result.stderr


def test_pictures_and_arrays_in_folders_are_scans_too(tmp_path):
    for number, name in enumerate(OWN):
        (tmp_path / "scans" / name).mkdir(parents=True)
        scan = lattice_scans([number], seed=number)[0]
        Image.fromarray(scan).save(tmp_path / "scans" / name / "a.png")
    dataset, _ = convert(tmp_path / "scans", "--classes", "sharp,double,blunt,other")
    assert dataset.classes == (*OWN, "other")
    assert dataset.size_nm.shape == (3, 2)
    assert np.isnan(dataset.size_nm).all()


# records of raters


def test_records_are_merged_over_raters(folder):
    a, b, c = (folder / name for name in ("day1/a.sxm", "day1/b.sxm", "day2/c.sxm"))
    (folder / "labels").mkdir()
    texts = {
        "anna": record(a, marks=["rows"], minute=5)
        + record(b, marks=["rows"], change=30)
        + record(b, marks=["rows", "tip change"], change=76, minute=1)
        + record(c, unsure=True),
        "ben": record(a, "ben", ["dimers"])
        + record(b, "ben", ["rows"], change=74)
        + record(c, "ben", ["bad/blurry"])
        + '{"schema":1,"t":"2026',
    }
    texts["anna"] = record(a, marks=["dimers"]) + texts["anna"]  # corrected later
    for rater, text in texts.items():
        table(folder / "labels", text, f"{rater}.jsonl")
    b.rename(folder / "moved.sxm")
    dataset, result = convert(folder, "--no-merge")
    assert dataset.classes == SIX_CLASSES
    by_name = dict(zip(dataset.name.tolist(), range(3), strict=True))
    order = [by_name[n] for n in ("day1/a.sxm", "moved.sxm", "day2/c.sxm")]
    assert dataset.votes[order].tolist() == [
        [0, 0, 0.5, 0.5, 0, 0],
        [0, 0, 0, 1, 0.5, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert dataset.raters[order].tolist() == [2, 2, 1]
    assert dataset.labels[order].tolist() == [-1, 3, 5]
    assert dataset.change_line[order].tolist() == [-1, 64, -1]
    assert "Lines of" in result.stderr
    hard = stm("convert", folder, "-o", folder.parent / "hard.h5", "--labels", "hard")
    assert hard.exit_code == 0
    assert load_dataset(folder.parent / "hard.h5").votes is None


def test_records_are_found_where_label_writes_them(folder, monkeypatch):
    a, b = folder / "day1/a.sxm", folder / "day2/c.sxm"
    monkeypatch.chdir(folder.parent)
    (folder.parent / "labels").mkdir()
    offered = {"choices": ["sharp", "asymmetric"]}  # nearly one of ours, but chosen
    text = record(a, marks=["asymmetric"], **offered) + record(
        b, marks=["sharp"], **offered
    )
    table(folder.parent / "labels", text, "anna.jsonl")
    dataset, result = convert(folder)
    assert dataset.classes == ("sharp", "asymmetric")
    assert dataset.name.tolist() == ["day1/a.sxm", "day2/c.sxm"]
    assert "Labels are those of labels.\n" in result.stderr
    other = folder.parent / "other"
    other.mkdir()
    for name in ("sharp", "blunt"):  # folders, of which the records say nothing
        (other / name).mkdir()
        write(other / name / "d.sxm", 9)
    dataset, result = convert(other)
    assert dataset.classes == ("blunt", "sharp")
    assert "Labels are" not in result.stderr


def test_records_that_fit_no_scan_are_listed(folder):
    (folder.parent / "elsewhere").mkdir()
    gone = write(folder.parent / "gone.sxm", 9)
    text = record(folder / "day1/a.sxm", marks=["sharp"]) + record(gone, marks=["double"])
    table(folder.parent / "elsewhere", text, "anna.jsonl")
    dataset, result = convert(folder, "--records", folder.parent / "elsewhere", code=3)
    assert dataset.classes == ("sharp", "double")
    assert dataset.name.tolist() == ["day1/a.sxm"]
    assert f"anna.jsonl: line 2: {gone} [0]: there is no such scan in" in result.stderr
    assert "Scans without a label, which were left out: 2." in result.stderr


# what is refused


def test_what_cannot_be_converted_is_listed_and_the_rest_is_done(folder):
    (folder / "curve.dat").write_text("Experiment\tbias spectroscopy\n")
    (folder / "cut.sxm").write_bytes((folder / "day1/a.sxm").read_bytes()[:-9])
    table(
        folder,
        "path,label,rater\nday1/a.sxm,sharp,anna\nday1/b.sxm,double,anna\nday2/c.sxm,sharp,anna\n"
        "./day2/c.sxm,double,anna\nday1/a.sxm,double,ben\ngone.sxm,sharp,anna\n"
        "curve.dat,sharp,anna\ncut.sxm,sharp,anna\n",
    )
    dataset, result = convert(folder, "--json", code=3)
    assert dataset.name.tolist() == ["day1/a.sxm", "day1/b.sxm"]
    assert dataset.votes.tolist() == [[0.5, 0.5], [0, 1]]
    assert dataset.raters.tolist() == [2, 1]
    told = json.loads(result.stdout)
    assert told["classes"] == {"sharp": 0, "double": 1}
    assert told["scans"] == 2
    assert len(told["errors"]) == 4
    for each, phrase in zip(
        told["errors"],
        (
            "lines 4 and 5 label",
            "line 7: there is no file",
            "curve.dat: is a Nanonis spectrum (.dat). Give a scan (.sxm).",
            "cut.sxm: is cut short",
        ),
        strict=True,
    ):
        assert phrase in each
        assert f"Error: {each}\n" in result.stderr
    assert "Only one scan is of class 'double'" in result.stderr


@pytest.mark.parametrize("how", ["table", "folders", "records"])
def test_classes_of_another_dataset_are_listed(folder, how):
    if how == "table":
        table(folder, "path,label\nday1/a.sxm,rows\nday1/b.sxm,sharp\nday2/c.sxm,double\n")
        place = "labels.csv: line 2"
    elif how == "folders":
        for name in ("rows", "sharp", "double"):
            write(folder.parent / "more" / name / "a.sxm", len(name))
        folder, place = folder.parent / "more", "more/rows"
    else:
        (folder / "labels").mkdir()
        marks = {"day1/a.sxm": "rows", "day1/b.sxm": "sharp", "day2/c.sxm": "double"}
        text = "".join(record(folder / name, marks=[mark]) for name, mark in marks.items())
        table(folder / "labels", text, "anna.jsonl")
        place = "anna.jsonl: line 1"
    dataset, result = convert(folder, "--classes", ",".join(OWN), code=3)
    assert dataset.classes == OWN
    assert sorted(dataset.labels.tolist()) == [0, 1]
    message = f"{place}: 'rows' is not a class. The classes are sharp, double, blunt.\n"
    assert message in result.stderr
    assert result.stderr.count("Error: ") == 1


def test_a_slip_in_the_name_of_a_class_is_no_class_of_its_own(folder):
    table(folder, "path,label\nday1/a.sxm,rows\nday1/b.sxm,row\nday2/c.sxm,double\n")
    result = stm("convert", folder, "-o", folder / "own.h5")
    check_error(
        result, 3, "labels.csv: line 3: 'row' may be a slip for 'rows'.", "--classes"
    )
    assert not (folder / "own.h5").exists()
    dataset, _ = convert(folder, "--classes", "rows,row,double")
    assert dataset.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("labelled", [False, True])
def test_a_folder_of_spectra_is_one_line(tmp_path, labelled):
    spectra = tmp_path / "spectra"
    (spectra / "sharp").mkdir(parents=True)
    for name in ("a.dat", "b.dat"):
        (spectra / "sharp" / name).write_text("Experiment\tbias spectroscopy\n")
    output = tmp_path / "own.h5"
    if labelled:
        (spectra / "labels").mkdir()
        scan = write(tmp_path / "a.sxm")
        table(spectra / "labels", record(scan, marks=["rows"]), "anna.jsonl")
        result = stm("convert", spectra, "-o", output)
        assert result.exit_code == 3
        assert "spectra: holds no scan. Known formats: docs/formats.md." in result.stderr
    else:
        result = stm("convert", spectra, "-o", output)
        check_error(result, 3, "spectra: holds no scan. Known formats: docs/formats.md.")
    assert not output.exists()


def test_options_that_make_no_sense_are_refused(folder, dataset_file):
    output = folder.parent / "own.h5"
    for classes in ("sharp", "sharp,sharp", "sharp,,double"):
        result = stm("convert", folder, "-o", output, "--classes", classes)
        check_error(result, 2, "`--classes`: two or more different names.", classes)
    result = stm("convert", dataset_file, "-o", output, "--channel", "Z")
    check_error(result, 2, "`--channel` is for the files of microscopes")
    result = stm("convert", dataset_file, "-o", output, "--classes", "a,b")
    check_error(result, 2, "`--classes` is for")
    table(folder, "path,label\nday1/a.sxm,sharp\nday1/b.sxm,double\n")
    result = stm("convert", folder, "-o", output, "--labels", "soft")
    check_error(result, 2, "holds labels but no votes")
    (folder / "labels").mkdir()
    table(folder / "labels", record(folder / "day1/a.sxm"), "anna.jsonl")
    result = stm("convert", folder, "-o", output)
    check_error(result, 2, "has a table of labels and records of raters")
    assert not output.exists()


def test_a_flat_folder_of_scans_says_how_to_label_them(tmp_path):
    write(tmp_path / "scans" / "a.sxm")
    result = stm("convert", tmp_path / "scans", "-o", tmp_path / "own.h5")
    check_error(result, 3, "without a CSV file of labels", "one sub-folder per class")


# what comes after


def test_few_scans_are_in_memory_at_a_time(tmp_path):
    heights = lattice_scans([1], lines=24, pixels=24)[0] * 1e-12
    data = sxm({"Z": ("m", heights, heights)})

    def peak(count):
        for number in range(count):
            path = tmp_path / "scans" / OWN[number % 2] / f"{number}.sxm"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        tracemalloc.start()
        result = stm("convert", tmp_path / "scans", "-o", tmp_path / f"{count}.h5")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert f"h5: {count} scans" in result.stdout
        return most

    few, many = peak(80), peak(240)
    assert many - few < 160 * 128 * 128 * 4 / 2


def test_scans_become_shards_and_the_same_command_goes_on(folder):
    table(folder, "path,label\nday1/a.sxm,sharp\nday1/b.sxm,double\nday2/c.sxm,double\n")
    given = ["convert", folder, "--shards", folder.parent / "shards", "--shard-size", 2]
    assert stm(*given).exit_code == 0
    dataset = load_dataset(folder.parent / "shards")
    assert dataset.labels.tolist() == [0, 1, 1]
    assert dataset.slow.tolist() == ["down", "up", "down"]
    assert "3 of them there already" in stm(*given).stdout


def test_a_folder_with_a_table_of_scans_is_judged_scan_by_scan(folder):
    table(folder, "path,label\nday1/a.sxm,sharp\nday1/b.sxm,double\n")
    result = stm("predict", folder, "--json")
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_info_and_audit_know_what_is_kept(folder):
    table(folder, "path,label\nday1/a.sxm,sharp\nday1/b.sxm,double\n")
    convert(folder)
    result = stm("info", folder.parent / "own.h5", "--json")
    facts = json.loads(result.stdout)
    assert facts["size_nm"] == [8, 8]
    assert facts["channels"] == {"Z forward": 2}
    assert "size         8 nm wide" in stm("info", folder.parent / "own.h5").stdout
    assert stm("audit", folder.parent / "own.h5").exit_code == 0


@pytest.mark.filterwarnings("ignore:.*is outside what the model was trained on")
def test_a_dataset_knows_that_its_scans_are_of_an_unknown_size(folder):
    write(folder / "day1/a.sxm", size=(9e-7, 9e-7))
    table(folder, "path,label\nday1/a.sxm,sharp\nday1/b.sxm,double\n")
    convert(folder)
    lines = stm("predict", folder.parent / "own.h5", "--json").stdout.splitlines()
    assert [json.loads(line)["unknown_size"] for line in lines] == [True, False]


def test_classes_of_ones_own_are_trained_on_and_judged(tmp_path):
    for number in range(36):
        name, day = OWN[number % 3], number // 3 % 4
        path = tmp_path / "scans" / name / f"day{day}" / f"{number}.sxm"
        path.parent.mkdir(parents=True, exist_ok=True)
        heights = lattice_scans([number % 3], number)[0] * 1e-12
        path.write_bytes(sxm({"Z": ("m", heights, heights)}, size=(8e-9, 8e-9)))
    convert(tmp_path / "scans")
    given = ["train", "cnn_small", "--data", tmp_path / "own.h5", "-o", tmp_path / "run"]
    result = stm(*given, *TINY, "--set", "train.epochs=1", "--set", "train.warmup_epochs=0")
    assert result.exit_code == 0, result.stderr
    scan = next(tmp_path.glob("scans/sharp/day0/*"))
    result = stm("predict", scan, "--model", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.stderr
    assert set(json.loads(result.stdout)["probabilities"]) == set(OWN)
