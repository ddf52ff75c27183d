"""`stm-keras label agreement` and `label export`: what is read, measured, shown and refused."""

import json

import numpy as np
import pytest
from helpers import ONCE, check_error, lattice_scans, stm

from stm_keras.data.dataset import CLASSES, SIX_CLASSES
from stm_keras.data.load import load_dataset
from stm_keras.data.ratings import read_ratings
from stm_keras.errors import DatasetError
from stm_keras.evaluation.agreement_scores import score_agreement
from stm_keras.evaluation.text import number
from stm_keras.reports.agreement import agreement_text, write_agreement
from stm_keras.scan import scan_hash

pytestmark = ONCE

VOTES = "path,rater,sharp,blunt\na,Ada,1,0\na,Ben,1,1\nb,Ada,0,1\nb,Ben,0,1\nc,Ada,1,\n"


def record(scan, rater, *marks, change=None, minute=0, **more):
    segments = [{"from": each, "marks": []} for each in (0, change) if change is not None]
    said = {
        "schema": 1,
        "t": f"2026-11-29T10:{minute:02}:00+00:00",
        "rater": rater,
        "scan": scan,
        "path": f"{scan}.sxm",
        "index": 0,
        "marks": list(marks),
        "segments": segments,
        "unsure": not marks,
        "seconds": 2,
    }
    return json.dumps({**said, **more}) + "\n"


def write(folder, **raters):
    folder.mkdir(exist_ok=True)
    for rater, lines in raters.items():
        (folder / f"{rater}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def labels(tmp_path):
    """Records of three raters on four scans, of which one came again."""
    return write(
        tmp_path / "labels",
        ada=[
            record("p", "Ada", "dimers"),
            record("p", "Ada", "rows", minute=1),  # corrected
            record("q", "Ada", "rows", "tip change", change=30, minute=2),
            record("r", "Ada", "dimers", minute=3),
            record("p", "Ada", "rows", "dimers", minute=4, again=True),
            record("r", "Ada", "dimers", minute=5, again=True),
            record("s", "Ada", "dimers", minute=6, again=True),  # never seen before
            record("q", "Ada", minute=7, again=True),  # not sure
        ],
        ben=[
            record("p", "Ben", "rows"),
            record("q", "Ben", "tip change", change=44),
            record("r", "Ben", "rows", change=5),
            record("s", "Ben"),  # not sure
        ],
        cem=[record("q", "Cem", "tip change", change=37, model_shown=True)],
    )


def table(folder, text):
    path = folder / "votes.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_ratings_are_the_latest_records_of_each_rater(labels):
    ratings = read_ratings(labels)
    assert ratings.raters == ("Ada", "Ben", "Cem")
    assert ratings.marks == SIX_CLASSES
    assert ratings.said.shape == (3, 3, 6)
    names = [
        [
            None if np.isnan(said).all() else {SIX_CLASSES[i] for i in np.flatnonzero(said)}
            for said in rater
        ]
        for rater in ratings.said
    ]
    assert names == [
        [{"rows"}, {"rows", "tip change"}, {"dimers"}],
        [{"rows"}, {"tip change"}, {"rows"}],
        [None, {"tip change"}, None],
    ]
    nan = np.nan
    expected = [[nan, 30, nan], [nan, 44, 5], [nan, 37, nan]]
    np.testing.assert_array_equal(ratings.change_lines, expected)
    assert ratings.again.keys() == {"Ada"}
    first, later = ratings.again["Ada"]
    assert (first.shape, later.shape) == ((2, 6), (2, 6))
    assert first.sum(1).tolist() == [1, 1]
    assert later.sum(1).tolist() == [2, 1]


def test_what_was_said_when_a_model_was_shown_may_be_left_out(labels):
    (note,) = read_ratings(labels).notes
    assert "shown the verdict of a model: 1" in note
    blind = read_ratings(labels, blind=True)
    assert blind.raters == ("Ada", "Ben")


def test_a_mark_counts_those_who_could_set_it(tmp_path):
    both, more = ["sharp", "blunt"], ["sharp", "blunt", "double"]
    folder = write(
        tmp_path / "labels",
        ada=[
            record("p", "Ada", "sharp", choices=both),
            record("q", "Ada", "blunt", choices=both),
            record("q", "Ada", "blunt", choices=both, again=True),
        ],
        ben=[
            record("p", "Ben", "sharp", "double", choices=more),
            record("q", "Ben", "blunt", choices=more),
        ],
    )
    scores = score_agreement(read_ratings(folder), resamples=5)
    marks = scores["marks"]
    assert [marks[name]["pictures"] for name in more] == [2, 2, 0]
    assert marks["double"]["prevalence"] == 0.5  # of Ben's pictures
    assert scores["raters"]["Ada"]["again"]["same"] == 1
    assert scores["sets"]["pictures"] == 0  # nobody else could choose from the same


def test_raters_who_had_different_marks_are_named(tmp_path):
    both, more = ["sharp", "blunt"], ["blunt", "sharp", "double"]
    ada = [record("p", "Ada", "sharp", choices=both)]
    ben = [record("p", "Ben", "sharp", choices=more)]
    cem = [record("p", "Cem", "blunt", choices=both[::-1])]
    said = "(Ada, Cem: sharp, blunt; Ben: blunt, sharp, double)"
    labels = write(tmp_path / "labels", ada=ada, ben=ben, cem=cem)
    page = tmp_path / "page.html"
    text = stm("label", "agreement", labels, "--report", page).stdout
    (note,) = json.loads(stm("label", "agreement", labels, "--json").stdout)["notes"]
    for each in (text, note, page.read_text(encoding="utf-8")):
        assert f"Raters had different marks to choose from {said}." in each
    labels = write(tmp_path / "same", ada=ada, cem=cem, dan=[record("p", "Dan", "sharp")])
    assert read_ratings(labels).notes == []


def test_scores_of_pairs_marks_and_lines(labels):
    scores = score_agreement(read_ratings(labels), resamples=20)
    assert (scores["pictures"], scores["rated_twice"]) == (3, 3)
    assert scores["kappa_kind"] == "mean of Cohen"
    ada_ben, ada_cem, ben_cem = scores["pairs"]
    assert ada_ben["raters"] == ["Ada", "Ben"]
    assert [pair["pictures"] for pair in scores["pairs"]] == [3, 1, 1]
    assert ada_ben["same"] == pytest.approx(1 / 3)
    assert (ada_cem["same"], ben_cem["same"]) == (0, 1)
    assert ada_ben["kappa"]["tip change"] == pytest.approx(1)
    assert ada_ben["kappa"]["individual atoms"] is None
    assert ada_ben["changes"] == {"both": 1, "one": 1, "median": 14, "largest": 14}
    assert scores["changes"] == {"both": 3, "one": 1, "median": 7, "largest": 14}
    assert scores["sets"]["same"] == pytest.approx(2 / 5)
    rows, change = scores["marks"]["rows"], scores["marks"]["tip change"]
    assert rows["prevalence"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert rows["agreement"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert change["alpha"] == pytest.approx(1)
    assert scores["marks"]["bad/blurry"]["alpha"] is None
    assert scores["raters"]["Ada"]["prevalence"]["dimers"] == pytest.approx(1 / 3)
    again = scores["raters"]["Ada"]["again"]
    assert (again["pictures"], again["same"]) == (2, 0.5)
    assert (again["marks"]["dimers"], again["marks"]["rows"]) == (0.5, 1)


def test_votes_made_elsewhere_are_read_gaps_and_all(tmp_path):
    ratings = read_ratings(table(tmp_path, VOTES))
    assert (ratings.raters, ratings.marks) == (("Ada", "Ben"), ("sharp", "blunt"))
    nan = np.nan
    expected = [[[1, 0], [0, 1], [1, nan]], [[1, 1], [0, 1], [nan, nan]]]
    np.testing.assert_array_equal(ratings.said, expected)
    scores = score_agreement(ratings, resamples=20)
    assert scores["marks"]["sharp"]["alpha"] == pytest.approx(1)
    assert scores["sets"]["pictures"] == 2
    (only,) = read_ratings(table(tmp_path, VOTES), ("blunt",)).marks
    assert only == "blunt"


def test_tip_changes_and_several_scans_of_a_file_are_read_of_a_table(tmp_path):
    rows = ["a,0,Ada,x,0", "a,0,Ben,x,3", "a,1,Ada,x,", "a,1,Ben,x,-1", "a,2,Ada,x,9"]
    path = table(tmp_path, "\n".join(["path,index,rater,label,change_line", *rows]))
    nan = np.nan
    lines = read_ratings(path).change_lines
    np.testing.assert_array_equal(lines, [[0, nan, 9], [3, nan, nan]])


def test_labels_made_elsewhere_are_nominal(tmp_path):
    rows = ["a,Ada,sharp", "a,Ben,sharp", "b,Ada,blunt", "b,Ben,double", "c,Ada,blunt"]
    path = table(tmp_path, "\n".join(["path,rater,label", *rows, "c,Ben,blunt"]))
    scores = score_agreement(read_ratings(path), resamples=20)
    assert scores["single"]
    # by hand: 1 - (n - 1) sum(d) / sum(n_c n_k), of 2 sharp, 3 blunt, 1 double
    assert scores["sets"]["alpha"] == pytest.approx(1 - 5 * 2 / (36 - 4 - 9 - 1))
    assert scores["kappa_kind"] == "Cohen"


def test_three_raters_who_rated_all_have_a_kappa_of_fleiss(tmp_path):
    said = {"a": "110", "b": "001", "c": "111"}
    lines = [
        f"{path},{rater},{mark},{1 - int(mark)}"
        for path, marks in said.items()
        for rater, mark in zip("XYZ", marks, strict=True)
    ]
    path = table(tmp_path, "\n".join(["path,rater,sharp,blunt", *lines]))
    scores = score_agreement(read_ratings(path), resamples=0)
    assert scores["kappa_kind"] == "Fleiss"
    assert scores["marks"]["sharp"]["kappa"] == pytest.approx((5 / 9 - 5 / 9) / (4 / 9))
    assert scores["marks"]["sharp"]["interval"] is None


def test_one_rater_alone_has_prevalence_and_consistency_but_no_agreement(labels):
    result = stm("label", "agreement", labels / "ada.jsonl", "--json")
    scores = json.loads(result.stdout)
    assert scores["sets"]["alpha"] is None
    assert scores["marks"]["rows"]["alpha"] is scores["kappa_kind"] is None
    assert scores["marks"]["rows"]["prevalence"] == pytest.approx(2 / 3)
    assert scores["raters"]["Ada"]["again"]["same"] == 0.5
    text = stm("label", "agreement", labels / "ada.jsonl").stdout
    assert "one rater alone" in text
    assert "50 % of 2" in text


def test_equal_ratings_have_a_dash_and_never_a_one(tmp_path):
    path = table(tmp_path, "path,rater,label\na,Ada,x\na,Ben,x\nb,Ada,x\nb,Ben,x\n")
    text = agreement_text(score_agreement(read_ratings(path), resamples=20))
    (line,) = (line for line in text.split("\n") if line.strip().startswith("labels"))
    assert line.split() == ["labels", "–", "100", "%", "2"]
    assert "1.000" not in text


def test_the_page_has_every_number_and_nothing_from_elsewhere(labels, tmp_path):
    scores = score_agreement(read_ratings(labels), resamples=20)
    scores["raters"]["<b>"] = scores["raters"].pop("Cem")
    for pair in scores["pairs"][1:]:
        pair["raters"][1] = "<b>"
    write_agreement(tmp_path / "page.html", scores)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for title in ("Each mark", "Rater by rater", "Own consistency", "Tip changes"):
        assert f"<h2>{title}</h2>" in page
    assert "&lt;b&gt;" in page
    assert "Ada and <b>" not in page
    assert "http" not in page
    for tick in ("0", "0.667", "0.8", "1"):
        assert f'%">{tick}</small>' in page
    assert f"{scores['sets']['alpha']:.3f}" in page


def test_the_command_writes_text_json_and_page(labels, tmp_path):
    report = tmp_path / "page.html"
    result = stm("label", "agreement", labels, "--json", "--seed", 3, "--report", report)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == score_agreement(read_ratings(labels), seed=3)
    assert report.exists()
    check_error(stm("label", "agreement", labels, "--report", report), 1, "page.html")
    text = stm("label", "agreement", labels).stdout
    alphas = [number(pair["alpha"], 2) for pair in json.loads(result.stdout)["pairs"]]
    rows = [line.split() for line in text.split("\n") if line.startswith("  2  Ben")]
    assert rows == [["2", "Ben", "3", "–", alphas[0], alphas[2]]]
    assert "3 pictures, 3 raters, 3 pictures rated by two or more" in text


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("path,label\na,x\n", "has no column `rater`"),
        ("path,rater\na,Ada\n", "has no column `label`, and none of a mark"),
        ("rater,label\nAda,x\n", "has no column `path`"),
        (
            "path,rater,label\na,Ada,x\n./a,Ada,y\na,Ada,y\n",
            "lines 2 and 3 are both by Ada",
        ),
        ("path,rater,label\na,,x\n", "line 2: names no rater"),
        ("path,rater,label\na,Ada,\n", "line 2: has no `label`"),
        ("path,rater,sharp,comment\na,Ada,1,fine\n", "line 2: `comment` must be 0 or 1"),
        ("path,rater,sharp\na,Ada,0.5\n", "Received: '0.5'"),
    ],
)
def test_votes_that_make_no_sense_are_refused_in_one_line(tmp_path, text, phrase):
    check_error(stm("label", "agreement", table(tmp_path, text)), 3, phrase, "votes.csv")


def test_what_holds_no_labels_is_refused_in_one_line(labels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels.rename("other")
    check_error(stm("label", "agreement"), 3, "labels: does not exist")
    (tmp_path / "empty").mkdir()
    check_error(stm("label", "agreement", "empty"), 3, "holds no records of labels")
    write(tmp_path / "unsure", ben=[record("p", "Ben"), "nonsense"])
    check_error(stm("label", "agreement", "unsure"), 3, "holds no label")
    given = ("--classes", "rows,dimers")
    check_error(stm("label", "agreement", "other", *given), 3, "'tip change' is not a mark")
    check_error(stm("label", "agreement", "other", "--classes", ","), 2, "--classes")


def test_export_is_convert_and_marks_what_was_labelled_with_the_model_shown(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    hashes = []
    for seed, name in enumerate("abc"):
        heights = np.random.default_rng(seed).normal(0, 1e-10, (130, 132))
        np.save(scans / f"{name}.npy", heights)
        hashes.append(scan_hash(heights))
    a, b, c = hashes
    labels = write(
        tmp_path / "labels",
        ada=[record(a, "Ada", "sharp"), record(b, "Ada", "blunt", change=20)],
        ben=[
            record(a, "Ben", "blunt", model_shown=True),
            record(c, "Ben", "sharp", model_shown=True),
        ],
    )
    output = tmp_path / "own.h5"
    given = (scans, "-o", output, "--records", labels)
    result = stm("label", "export", *given)
    assert result.exit_code == 0, result.stderr
    made = load_dataset(output)
    assert made.name.tolist() == ["a.npy", "b.npy", "c.npy"]
    assert made.model_shown.tolist() == [True, False, True]
    assert made.votes.tolist() == [[0.5, 0.5], [0, 1], [1, 0]]
    assert stm("convert", *given, "--overwrite").stderr == result.stderr
    assert load_dataset(output).digest() == made.digest()
    result = stm("label", "export", *given, "--overwrite", "--no-model-shown")
    assert "saw the verdict of a model: 2" in result.stderr
    made = load_dataset(output)
    assert made.name.tolist() == ["a.npy", "b.npy"]
    assert not made.model_shown.any()
    assert made.votes.tolist() == [[1, 0], [0, 1]]
    other = stm("convert", scans, "-o", tmp_path / "x.h5", "--no-model-shown")
    check_error(other, 2, "--no-model-shown")


def test_export_tells_what_it_leaves_out_and_what_is_of_no_class(tmp_path):
    scans, hashes = tmp_path / "scans", []
    scans.mkdir()
    for seed in range(3):
        heights = np.random.default_rng(seed).normal(0, 1e-10, (130, 132))
        np.save(scans / f"{seed}.npy", heights)
        hashes.append(scan_hash(heights))
    a, b, c = hashes
    labels = write(
        tmp_path / "labels",
        ada=[
            record(a, "Ada", "sharp", "blunt"),
            record(b, "Ada", "sharp"),
            record(c, "Ada", "sharp", "keen"),
        ],
        ben=[record(b, "Ben", "double"), record(c, "Ben", "keen")],
    )
    given = (scans, "-o", tmp_path / "own.h5", "--records", labels)
    result = stm("label", "export", *given, "--classes", "sharp,blunt")
    assert "marks that are not classes (keen 2, double 1): 3." in result.stderr
    assert result.stdout.endswith(
        "own.h5: 2 scans, sharp 1, blunt 0, 1 of no single class\n"
    )


def test_a_model_is_a_rater_of_four_classes(labels):
    ratings = read_ratings(labels)
    verdicts = {
        "p": ("rows", ()),
        "q": ("generic defects", (41, 90)),
        "r": ("unsure", (3,)),
        "elsewhere": ("rows", ()),
    }
    both = ratings.with_model("net", CLASSES, verdicts)
    assert (both.raters[-1], both.marks) == ("net", CLASSES)
    assert both.said[0].tolist() == [[0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    nan = np.nan
    expected = [[0, 0, 1, 0], [0, 0, 0, 1], [nan] * 4]
    np.testing.assert_array_equal(both.said[-1], expected)
    assert "net counts as a rater" in both.notes[-1]
    assert "without a class: 1." in both.notes[-1]
    scores = score_agreement(both, resamples=0)
    (pair,) = (pair for pair in scores["pairs"] if pair["raters"] == ["Ben", "net"])
    assert pair["same"] == 1
    assert pair["changes"] == {"both": 1, "one": 0, "median": 3, "largest": 3}
    blind = ratings.with_model("net", CLASSES, {"q": ("generic defects", None)})
    last = score_agreement(blind, resamples=0)["pairs"][-1]["changes"]
    assert last == {"both": 0, "one": 0, "median": None, "largest": None}
    assert scores["raters"]["Ada"]["again"]["marks"].keys() == set(CLASSES)
    own = ratings.with_model("net", ("rows", "dimers"), verdicts)
    assert own.marks == SIX_CLASSES
    with pytest.raises(DatasetError, match="sharp of net are not marks"):
        ratings.with_model("net", ("rows", "sharp"), verdicts)
    with pytest.raises(DatasetError, match="no picture is among"):
        ratings.with_model("net", CLASSES, {"elsewhere": ("rows", ())})


def test_the_shipped_model_is_a_rater_where_asked(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    hashes = []
    for label in range(2):
        heights = lattice_scans([label], seed=label)[0] * 1e-12
        np.save(scans / f"{label}.npy", heights)
        hashes.append(scan_hash(heights))
    labels = write(
        tmp_path / "labels", ada=[record(each, "Ada", "rows") for each in hashes]
    )
    given = ("--with-model", "h_si100", "--scans", scans, "--json")
    result = stm("label", "agreement", labels, *given)
    scores = json.loads(result.stdout)
    assert list(scores["raters"]) == ["Ada", "h_si100 (model)"]
    assert list(scores["marks"]) == list(CLASSES)
    check_error(stm("label", "agreement", labels, "--scans", scans), 2, "give both")
    votes = table(tmp_path, VOTES)
    check_error(stm("label", "agreement", votes, *given), 2, "does not tell which scans")
