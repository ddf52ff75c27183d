"""Which scans raters are shown, in which order, and what is kept of what they say."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import ONCE, REPOSITORY, check_error, stm

from stm_keras.cli.label import _words
from stm_keras.data.dataset import SIX_CLASSES
from stm_keras.data.label_records import latest_records, read_records
from stm_keras.errors import ConfigError, InputError, OutputError, UsageError
from stm_keras.inference.find_files import find_files
from stm_keras.inference.scan_input import read_scan_inputs
from stm_keras.labelling.desk import Desk
from stm_keras.labelling.logs import scans_of_logs
from stm_keras.labelling.marks import read_marks
from stm_keras.labelling.pile import AGAIN, Pile, sitting
from stm_keras.labelling.rater_file import RaterFile
from stm_keras.scan import scan_hash

pytestmark = ONCE


def write_scans(folder, count, sessions=1):
    """Write made-up scans as arrays, in so many folders; return their paths."""
    rng, paths = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"day{number % sessions}" / f"scan{number:03}.npy"
        path.parent.mkdir(exist_ok=True, parents=True)
        np.save(path, rng.normal(0, 1e-10, (20, 24)) + 1e-7)
        paths.append(path)
    return paths


@pytest.fixture
def pile(tmp_path):
    write_scans(tmp_path / "scans", 45, sessions=3)
    pile = Pile(find_files([tmp_path / "scans"]), tmp_path)
    yield pile
    pile.close()


def desk(pile, folder, rater="Ada", classes="sharp,blunt"):
    return Desk(
        pile, RaterFile(folder, rater), read_marks(classes), sitting(pile.cards, rater)
    )


def say(*marks, **more):
    return {"marks": list(marks), "segments": [], "unsure": False, "seconds": 1.25, **more}


def test_each_scan_is_on_the_pile_once_with_its_heights(tmp_path):
    (path,) = write_scans(tmp_path, 1)
    np.save(tmp_path / "copy.npy", np.load(path))
    pile = Pile(find_files([tmp_path]), tmp_path)
    (card,) = pile.cards
    heights = pile.heights(card)
    raw = np.load(path)
    assert heights.dtype == np.float32
    np.testing.assert_allclose(heights[:20], raw - np.median(raw), atol=1e-16)
    assert np.isnan(heights[20:]).all()  # a picture that is wider than high ended early
    assert card.lines == 20
    pile.close()


def test_a_scan_has_the_name_by_which_convert_finds_its_labels(tmp_path):
    (path,) = write_scans(tmp_path, 1)
    pile = Pile(find_files([path]), tmp_path)
    (read,) = read_scan_inputs(path, {"max_lines": 128, "pixels": 128, "classes": []})
    assert pile.cards[0].scan == scan_hash(read.lines)
    pile.close()


def test_what_cannot_be_read_is_told_and_the_rest_is_there(tmp_path):
    write_scans(tmp_path, 2)
    (tmp_path / "broken.sxm").write_bytes(b":NANONIS_VERSION:\nnonsense")
    pile = Pile(find_files([tmp_path]), tmp_path)
    assert len(pile.cards) == 2
    (error,) = pile.errors
    assert "broken.sxm" in str(error)
    pile.close()


def test_the_order_is_a_raters_own_and_the_same_again(pile):
    ada, ben = (sitting(pile.cards, name) for name in ("Ada", "Ben"))
    assert ada == sitting(pile.cards, "Ada") != ben
    assert set(ada) == set(ben) == set(range(45))


def test_every_twentieth_picture_is_one_that_came_before(pile):
    order = sitting(pile.cards, "Ada")
    again = [place for place, number in enumerate(order) if number in order[:place]]
    assert again == [AGAIN - 1, 2 * AGAIN - 1]
    assert len(order) == 45 + 2


@pytest.mark.parametrize("rater", ["Ada", "Ben", "Cem"])
def test_no_picture_comes_more_than_twice(rater):
    assert max(Counter(sitting(range(400), rater)).values()) == 2


def test_least_certain_first_is_half_of_the_order_and_no_session_fills_it(pile):
    certainty = np.linspace(1, 0, 45)
    certainty[[card.session.endswith("day0") for card in pile.cards]] /= 100
    order = list(dict.fromkeys(sitting(pile.cards, "Ada", certainty)))
    assert sorted(order) == list(range(45))
    counts = Counter(pile.cards[number].session for number in order[:15])
    assert max(counts.values()) <= 5 + 1
    least = np.mean(certainty[order[:12:2]])
    assert least < np.mean(certainty[order[1:12:2]])


def test_what_is_saved_is_a_record_and_the_next_picture_waits(pile, tmp_path):
    table = desk(pile, tmp_path / "labels")
    table.save(0, say("blunt"))
    assert table.position == 1
    segments = [{"from": 0, "marks": ["sharp"]}, {"from": 7, "marks": ["blunt"]}]
    table.save(1, say("sharp", "blunt", segments=segments))
    records, skipped = read_records(tmp_path / "labels")
    assert skipped == 0
    first, second = records
    assert first.choices == [mark.name for mark in table.marks]
    assert (first.rater, first.marks, first.seconds) == ("Ada", ["blunt"], 1.25)
    assert first.scan == pile.cards[table.order[0]].scan
    assert (second.change_line, first.change_line) == (7, -1)
    assert first.model_shown is False
    assert table.progress()["counts"] == {"sharp": 1, "blunt": 2}


def test_a_rater_who_comes_back_goes_on_where_they_were(pile, tmp_path):
    table = desk(pile, tmp_path / "labels")
    for place in range(AGAIN + 3):
        table.save(place, say("sharp"))
    table.file.close()
    again = desk(pile, tmp_path / "labels")
    assert again.position == AGAIN + 3
    assert again.show(2)["said"]["marks"] == ["sharp"]
    assert again.show(AGAIN + 3)["said"] is None


def test_a_second_evening_with_more_files_shows_what_is_new(tmp_path):
    paths = write_scans(tmp_path / "scans", 45, sessions=3)
    few = Pile(find_files(paths[::3]), tmp_path)
    table = desk(few, tmp_path / "labels")
    for place in range(len(table.order)):
        table.save(place, say("sharp"))
    table.file.close()
    pile = Pile(find_files(paths), tmp_path)
    table = desk(pile, tmp_path / "labels")
    old = {card.scan for card in few.cards}
    new, shown = 45 - len(old), []
    ahead = [table.position]
    while table.position < len(table.order):
        assert table.position == ahead[0]
        assert table.show(table.position)["said"] is None
        ahead = table.progress()["ahead"]
        shown.append(table.position)
        table.save(table.position, say("blunt"))
    again = [place for place in shown if table.order[place] in table.order[:place]]
    fresh = [pile.cards[table.order[place]].scan for place in shown if place not in again]
    assert len(fresh) == len(set(fresh)) == new
    assert not old & set(fresh)
    progress = table.progress()
    assert progress["done"] == progress["total"] == progress["position"] == 47
    assert progress["ahead"] == []
    few.close()
    pile.close()


def test_after_a_correction_the_next_picture_is_one_of_which_nothing_was_said(
    pile, tmp_path
):
    table = desk(pile, tmp_path / "labels")
    for place in (0, 1, 2, 4, 46):
        table.save(place, say("sharp"))
    assert table.position == 3  # after the end, from the start
    table.save(1, say("blunt"))
    assert (table.position, table.progress()["ahead"]) == (3, [5, 6])


def test_what_has_marks_of_before_comes_again(pile, tmp_path):
    table = desk(pile, tmp_path / "labels")
    segments = [{"from": 0, "marks": ["sharp"]}, {"from": 7, "marks": ["blunt"]}]
    table.save(0, say("sharp"))
    table.save(1, say("blunt"))
    table.save(2, say("sharp", segments=segments))  # says "blunt" of a part alone
    table.file.close()
    table = desk(pile, tmp_path / "labels", classes="keen,sharp")
    assert (table.renewed, table.other_marks) == (2, ["blunt"])
    assert (table.position, table.progress()["done"]) == (1, 1)
    assert table.show(1)["said"] is table.show(2)["said"] is None
    table.save(1, say("keen"))
    assert table.position == 2
    table.file.close()
    assert desk(pile, tmp_path / "labels").other_marks == ["keen"]


def test_what_is_said_of_a_picture_that_comes_again_corrects_nothing(pile, tmp_path):
    table = desk(pile, tmp_path / "labels")
    for place in range(AGAIN):
        table.save(place, say("blunt" if place == AGAIN - 1 else "sharp"))
    records, _ = read_records(tmp_path / "labels")
    assert [record.again for record in records] == [False] * (AGAIN - 1) + [True]
    latest = latest_records(records)
    assert {rating.marks[0] for ratings in latest.values() for rating in ratings} == {
        "sharp"
    }
    place = table.order.index(table.order[AGAIN - 1])
    table.save(place, say("blunt"))  # back, and corrected
    latest = latest_records(read_records(tmp_path / "labels")[0])
    assert latest[records[-1].scan][0].marks == ["blunt"]


@pytest.mark.parametrize(
    ("said", "phrase"),
    [
        (say(), "not sure"),
        (say("keen"), "blunt, sharp"),
        (say("sharp", "sharp"), "`marks`"),
        ({"marks": "sharp", "seconds": 1}, "`marks`"),
        (say("sharp", unsure=1), "`marks`"),
        (say("sharp", seconds=-1), "`seconds`"),
        (say("sharp", seconds=None), "`seconds`"),
        (say("sharp", segments=[{"from": 3, "marks": []}]), "begin at line 0"),
        (
            say("sharp", segments=[{"from": 0, "marks": []}, {"from": 20, "marks": []}]),
            "lines",
        ),
        (say("sharp", segments=[{"from": 0, "marks": ["x"]}]), "marks"),
        (say("sharp", segments="x"), "segments"),
    ],
)
def test_a_label_that_makes_no_sense_is_refused_and_not_kept(pile, tmp_path, said, phrase):
    table = desk(pile, tmp_path / "labels")
    with pytest.raises(InputError, match=phrase):
        table.save(0, said)
    assert table.position == 0
    assert not list((tmp_path / "labels").glob("*.jsonl"))
    with pytest.raises(UsageError, match="no picture 99"):
        table.show(99)


def test_one_rater_labels_once_at_a_time(pile, tmp_path):
    with RaterFile(tmp_path, "Ada"):
        with pytest.raises(OutputError, match="labels as Ada at present"):
            RaterFile(tmp_path, "Ada")
        RaterFile(tmp_path, "Ben").close()


@pytest.mark.parametrize(
    "rater", ["", "  ", "x" * 61, "a\nb", "../Ada", "a/b", "..", ".Ada", "Ada."]
)
def test_a_rater_has_a_name_that_a_file_can_have(tmp_path, rater):
    with pytest.raises(UsageError, match="--rater"):
        RaterFile(tmp_path / "labels", rater)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_the_labelling(tmp_path):
    with RaterFile(tmp_path, "Ada L.-B") as file:
        file.append(scan="x", marks=["sharp"], seconds=1)
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [tmp_path / "Ada L.-B.jsonl"]
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(InputError):
        RaterFile(tmp_path, "Ada L.-B")
    assert list(tmp_path.iterdir()) == [file.path]


def test_a_kill_loses_nothing_that_was_saved(pile, tmp_path):
    script = (
        "import sys; from stm_keras.labelling.rater_file import RaterFile\n"
        "file = RaterFile(sys.argv[1], 'Ada')\n"
        "for number in range(10**6):\n"
        "    file.append(scan=f'{number:064}', marks=['sharp'], seconds=1)\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "labels"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    for _ in range(60):
        last = process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    last = ([last] + process.stdout.readlines())[-1]
    process.wait()
    process.stdout.close()
    records, _ = read_records(tmp_path / "labels")
    assert len(records) >= int(last) + 1
    with RaterFile(tmp_path / "labels", "Ada") as file:
        file.append(scan="x", marks=["sharp"], seconds=1)
    assert len(read_records(tmp_path / "labels")[0]) == len(records) + 1


def test_marks_are_those_of_the_paper_or_ones_own(tmp_path):
    assert [mark.name for mark in read_marks()] == list(SIX_CLASSES)
    assert [mark.key for mark in read_marks("a, b ,c")] == ["1", "2", "3"]
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "marks.toml").write_text(
        '[[mark]]\nname = "sharp"\nkey = "2"\nhelp = "Seen."\nexamples = ["a.png"]\n'
        '[[mark]]\nname = "blunt"\n',
        encoding="utf-8",
    )
    sharp, blunt = read_marks(str(tmp_path / "marks.toml"))
    assert (sharp.key, sharp.help, sharp.examples) == ("2", "Seen.", [tmp_path / "a.png"])
    assert blunt.key == "1"


@pytest.mark.parametrize(
    ("text", "error", "phrase"),
    [
        ("a", UsageError, "2 to 30"),
        ("a,A", UsageError, "one name"),
        ("none.toml", InputError, "none.toml"),
        ("[[mark]", ConfigError, "TOML"),
        ("mark = 3", ConfigError, "name"),
        ('[[mark]]\nname = 3\n[[mark]]\nname = "b"', ConfigError, "has a name"),
        ('[[mark]]\nname = "a"\nnmae = "b"', ConfigError, "nmae"),
        (
            '[[mark]]\nname = "a"\nkey = "c"\n[[mark]]\nname = "b"',
            ConfigError,
            "'c' is no key",
        ),
        ('[[mark]]\nname = "a"\nexamples = ["no.png"]', InputError, "no.png"),
    ],
)
def test_marks_that_make_no_sense_are_refused(tmp_path, monkeypatch, text, error, phrase):
    monkeypatch.chdir(tmp_path)
    if "mark" in text:
        Path("marks.toml").write_text(text, encoding="utf-8")
        text = "marks.toml"
    with pytest.raises(error, match=phrase.replace("[", r"\[")):
        read_marks(text)


def test_a_log_gives_the_scans_that_somebody_disagreed_with(tmp_path):
    events = [
        {"event": "end", "scan": 1, "path": "one.sxm"},
        {"event": "end", "scan": 2, "path": "two.sxm"},
        {"event": "label", "scan": 2, "class": "rows"},
        {"event": "label", "scan": 3, "class": "rows"},
    ]
    head = {"schema": 1, "t": "2026-11-29T10:00:00+00:00", "mono": 1.0}
    lines = [json.dumps({**head, "seq": n, **event}) for n, event in enumerate(events)]
    log = tmp_path / "day.jsonl"
    log.write_text("\n".join(lines), encoding="utf-8")
    folder = Path("scans")
    assert list(scans_of_logs([folder, log])) == [folder, Path("two.sxm")]
    log.write_text("\n".join(lines[:2]), encoding="utf-8")
    with pytest.raises(InputError, match="nobody disagreed"):
        list(scans_of_logs([log]))


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("nicegui")
    monkeypatch.chdir(tmp_path)
    write_scans(tmp_path / "scans", 1)
    (tmp_path / "empty").mkdir()
    page = ("--port", 0, "--no-browser")
    check_error(stm("label", "none.sxm", *page), 3, "none.sxm")
    check_error(stm("label", "empty", *page), 3, "empty")
    check_error(stm("label", "scans", "--classes", "a", *page), 2, "--classes")
    check_error(stm("label", "scans", "--model", "h_si100", *page), 2, "--model")
    check_error(stm("label", "scans", "--rater", "", *page), 2, "--rater")
    assert stm("label", "--help").exit_code == 0


@pytest.fixture
def sat_down(tmp_path, monkeypatch):
    """Have `stm-keras label` served to a rater who says "sharp" of so many pictures."""
    page = pytest.importorskip("stm_keras.web.label_page")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stm_keras.cli.label._wait", lambda: None)

    def label(*words, pictures):
        def serve(server, desk):
            for _ in range(pictures):
                desk.save(desk.position, say("sharp"))

        monkeypatch.setattr(page, "serve", serve)
        told = stm("label", *words, "--rater", "Ada", "--port", 0, "--no-browser")
        assert told.exit_code == 0, told.stderr
        return told.stderr

    return label


def test_the_command_that_comes_next_works_as_it_stands(sat_down, tmp_path):
    heights = np.random.default_rng(0).normal(0, 1e-10, (130, 132))
    for name in ("my scans/a", "my scans/b", "other/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(f"{name}.npy", heights)
        heights = heights[::-1] + heights
    (tmp_path / "own.h5").touch()
    more = ("--records", "said here", "--classes", "sharp,very blunt")
    told = sat_down("my scans", *more, pictures=0)
    assert "2 scans, Ada has labelled 0 of 2 pictures. " in told
    assert "Next" not in told
    told = sat_down("my scans", *more, pictures=1)
    _, _, command = told.partition("Next: ")
    assert told.endswith(f"Ada has labelled 1 of 2 pictures. Next: {command}")
    words = shlex.split(command)
    assert words[:4] == ["stm-keras", "label", "export", "my scans"]
    made = stm(*words[1:])
    assert made.exit_code == 0, made.stderr
    assert made.stdout == "own2.h5: 1 scan, sharp 1, very blunt 0\n"
    told = sat_down("my scans/a.npy", "other", *more, pictures=1)
    assert shlex.split(told.partition("Next: ")[2])[3] == str(tmp_path)
    told = sat_down("other", "--classes", "sharp,blunt", pictures=1)
    assert told.startswith("1 scan, Ada has labelled 1 of 1 picture. ")


def test_other_marks_and_files_that_are_left_out_are_told_at_the_start(sat_down, tmp_path):
    write_scans(tmp_path / "scans", 3)
    (tmp_path / "scans" / "notes.txt").write_text("nothing", encoding="utf-8")
    sat_down("scans", "--classes", "sharp,blunt", pictures=2)
    told = sat_down("scans", "--classes", "keen,blunt", pictures=0)
    assert "2 labels of Ada with marks that are not among those of now (sharp)" in told
    assert "Ada has labelled 0 of 3 pictures" in told
    assert "1 file is not a scan and was left out." in told


def test_before_scans_are_judged_somebody_is_told(tmp_path, monkeypatch):
    pytest.importorskip("nicegui")
    write_scans(tmp_path, 2)
    monkeypatch.chdir(tmp_path)

    def load(model):
        raise InputError("no model")

    monkeypatch.setattr("stm_keras.cli.label.load_any", load)
    told = stm("label", "day0", "--show-model", "--port", 0).stderr
    assert (
        told == "Scans of 2 files are being judged. Then the page comes.\nError: no model\n"
    )


def test_a_verdict_that_is_not_a_class_has_no_probability():
    assert _words({"verdict": "rows", "class": "rows", "confidence": 0.93}) == "rows 93 %"
    for verdict in ("unknown size", "unsure", "not judged"):
        said = {"verdict": verdict, "class": "rows", "confidence": 0.37}
        assert _words(said) == verdict


def test_without_nicegui_one_line_names_no_option_that_there_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    told = check_error(stm("label", "scans"), 1, "nicegui is not installed", '".[live]"')
    assert "--no-page" not in told
