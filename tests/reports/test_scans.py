"""What a report and a picture of scans show, and where they name no class."""

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest

from stm_keras.data.draw import draw_scan
from stm_keras.errors import InputError
from stm_keras.evaluation.style import COLOURS, NO_CLASS, verdict_colour
from stm_keras.inference.scan_result import ScanResult
from stm_keras.inference.verdict import FADED, ScanContext, ScanVerdict
from stm_keras.reports.scans import ScanReport, short
from stm_keras.scan import Scan

CLASSES = ("fine", "poor")
KINDS = {
    "poor": {},
    "unsure": {"unsure": True},
    "unknown surface": {"unsure": True, "unknown_surface": True},
    "unknown size": {"unknown_surface": True, "unknown_size": True},
    "not judged": {"probabilities": None, "reason": "nothing is there"},
}


def judged(kind):
    """Make up a scan with a verdict of this kind."""
    heights = np.random.default_rng(0).normal(size=(8, 16)) * 1e-10
    scan_input = SimpleNamespace(
        scan=None,
        index=0,
        heights=heights,
        size=None,
        lines=heights,
        bounds=np.arange(9),
        planned=8,
        unit="m",
        tiles=[],
        remarks=(),
        frame=lambda: (heights, 1.0),
        row_of=float,
    )
    state = np.full((8, 2), [0.3, 0.7])
    about = {"probabilities": (0.3, 0.7), "lines": 8, **KINDS[kind]}
    verdict = ScanVerdict(classes=CLASSES, state=state, change_lines=(), **about)
    return ScanResult(Path(f"{kind}.sxm"), CLASSES, scan_input, verdict)


def test_each_verdict_has_a_colour_of_its_own():
    assert len({*COLOURS, *NO_CLASS.values()}) == len(COLOURS) + len(NO_CLASS)
    assert [verdict_colour(name, CLASSES) for name in CLASSES] == list(COLOURS[:2])
    assert [judged(kind).outcome for kind in KINDS] == list(KINDS)
    assert set(NO_CLASS) == {*KINDS} - {"poor"}


def test_names_of_forty_classes_end_in_the_picture():
    pytest.importorskip("matplotlib")
    from stm_keras.reports.sheets import plot_judged

    scan, names = judged("poor"), tuple(f"class number {number}" for number in range(40))
    verdict = replace(
        scan.verdict,
        classes=names,
        probabilities=(1 / 40,) * 40,
        state=np.full((8, 40), 1 / 40),
    )
    figure = plot_judged(replace(scan, classes=names, verdict=verdict))
    figure.draw_without_rendering()
    words = [text for text in figure.texts if text.get_text()]
    assert max(text.get_window_extent().x1 for text in words) <= figure.bbox.x1
    assert "…" in [text.get_text() for text in words]


def write(path, scans):
    with ScanReport(path, CLASSES) as report:
        for scan in scans:
            report.add(scan)
    text = path.read_text(encoding="utf-8")
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def shown(part):
    return " ".join("".join(part.itertext()).split())


def test_a_page_counts_each_verdict_and_names_a_class_where_it_is_one(tmp_path):
    broken = ScanResult(Path("cut.sxm"), CLASSES, error=InputError("cut.sxm: <cut>."))
    page = write(tmp_path / "a.html", [*map(judged, KINDS), broken])
    assert page.find(".//h1").text == "6 scans"
    cards = {shown(card) for card in page.iter("label")}
    kinds = [*KINDS, "not judged"]  # a file that cannot be read is not judged either
    counts = {f"{kind}{kinds.count(kind)}" for kind in kinds}
    assert cards == {"all6", "fine0", "with a tip change0", *counts}
    rows = page.findall(".//tbody/tr")
    assert len(rows) == 6
    for kind, row in zip(kinds, rows, strict=True):
        text = shown(row)
        assert row.find("td[3]").get("data-sort") == kind
        named = kind in ("poor", "unsure")
        assert ("70" in text and row.find(".//polygon") is not None) == named
        assert ("poor 70 %" in text or "perhaps poor" in text) == named
    assert "nothing is there" in shown(rows[4])
    assert "cut.sxm: <cut>." in shown(rows[5])


def test_the_verdict_with_the_scans_before_stands_beside_the_first(tmp_path):
    shares = {"classes": CLASSES, "probabilities": (0.6, 0.4), "scans": 2}
    both = ScanContext(**shares, name="fine", confidence=0.6, verdict="fine")
    told = [
        both,
        ScanContext(absent="the <tip> was lifted"),
        ScanContext(absent=FADED),
        None,
    ]
    scans = [replace(judged("poor"), context=each) for each in told]
    rows = write(tmp_path / "a.html", scans).findall(".//tbody/tr")
    words = [
        "With the 2 scans before: fine 0.60.",
        "Not judged with the scans before: the <tip> was lifted.",
    ]
    for row, expected in zip(rows, [*words, None, None], strict=True):
        cell = row.find("td[3]")
        assert cell.get("data-sort") == "poor"
        assert shown(cell) == "poor" + (expected or "")
        assert [small.text for small in cell.iter("small")] == [expected] * bool(expected)
        caption = shown(row.find(".//figcaption"))
        assert ("before" in caption) == bool(expected)
        assert (expected or "poor") in caption


def test_cards_choose_rows_without_a_script(tmp_path):
    page = write(tmp_path / "a.html", map(judged, KINDS))
    style = page.find(".//style").text
    for row in page.findall(".//tbody/tr"):
        (number,) = re.findall(r"kind-(\d+)", row.get("class"))
        (rule,) = (line for line in style.splitlines() if f"#only-{number}:checked" in line)
        assert f"tr:not(.kind-{number})" in rule
    assert page.find(".//input[@id='only-1']").get("disabled")  # no scan is fine


def test_every_link_leads_to_a_picture_or_back_to_its_row(tmp_path):
    broken = ScanResult(Path("cut.sxm"), CLASSES, error=InputError("cut.sxm: cut."))
    page = write(tmp_path / "a.html", [judged("poor"), broken, judged("unsure")])
    ids = {part.get("id") for part in page.iter()}
    links = [link.get("href") for link in page.iter("a")]
    assert {link[1:] for link in links} <= ids
    assert {"#scan-1", "#scan-2", "#scan-3", "#at-scan-1"} <= set(links)


def test_a_picture_has_the_shape_of_the_scan(tmp_path):
    scan = judged("poor")
    heights = scan.scan_input.heights
    scan.scan_input.frame = lambda: (
        heights,
        3.0,
    )  # (8, 16) pixels, 3 times as high as wide
    page = write(tmp_path / "a.html", [scan])
    (figure,) = page.iter("figure")
    assert figure.get("style") == "--ratio:0.6667"


def test_a_timeline_is_in_the_order_of_files_and_marks_tip_changes(tmp_path):
    changed = judged("poor")
    changed = replace(changed, verdict=replace(changed.verdict, change_lines=(3,)))
    page = write(tmp_path / "a.html", [judged("unsure"), changed, judged("unsure")])
    lanes = {svg.get("aria-label"): svg for svg in page.find(".//section").iter("svg")}
    assert list(lanes) == ["poor: 1", "unsure: 2", "tip change: 1"]
    places = [rect.get("x") for rect in lanes["unsure: 2"].iter("rect")]
    assert places == ["0", "2"]
    assert [rect.get("x") for rect in lanes["tip change: 1"].iter("rect")] == ["1"]
    assert "In the order of the files" in shown(page.find(".//section"))
    assert page.find(".//tbody/tr[2]").get("class") == "kind-2 changed"


def test_a_timeline_is_in_the_order_of_recording_where_files_tell_it(tmp_path):
    def began(kind, hour):
        scan = judged(kind)
        valid = np.ones((8, 16), bool)
        start = datetime(2015, 10, 3, hour)
        scan.scan_input.scan = Scan(scan.scan_input.heights, valid, started=start)
        return scan

    broken = ScanResult(Path("cut.sxm"), CLASSES, error=InputError("cut.sxm: cut."))
    scans = [began("poor", 15), broken, began("unsure", 9)]
    timeline = write(tmp_path / "a.html", scans).find(".//section")
    links = {
        rect.get("x"): link.get("href") for link in timeline.iter("a") for rect in link
    }
    assert links == {"0": "#scan-3", "1": "#scan-1", "2": "#scan-2"}
    assert "In the order in which the scans began" in shown(timeline)
    assert "09:00 2015-10-03" in shown(timeline)


def test_a_scan_alone_has_no_timeline(tmp_path):
    page = write(tmp_path / "a.html", [judged("poor")])
    assert page.find(".//h1").text == "1 scan"
    assert page.find(".//*[@id='timeline']") is None


def test_many_scans_share_marks(tmp_path, monkeypatch):
    monkeypatch.setattr("stm_keras.reports.scans.SINGLE", 3)
    scans = [judged(kind) for kind in ("poor", "poor", "unsure", "poor")]
    page = write(tmp_path / "a.html", scans)
    marks = list(page.find(".//section").iter("rect"))
    assert [(rect.get("x"), rect.get("width")) for rect in marks] == [
        ("0", "2"),
        ("3", "1"),
        ("2", "1"),
    ]
    assert "and 1 more" in shown(marks[0])


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_explains_colours_where_there_are_any(kind):
    pytest.importorskip("matplotlib")
    from stm_keras.reports.sheets import plot_judged

    figure = plot_judged(judged(kind))
    words = [text.get_text() for text in figure.texts]
    shown = kind in ("poor", "unsure")
    assert words[0] == ("poor  70 %" if kind == "poor" else kind)
    assert ("fine" in words) == shown
    assert bool(figure.axes[1].collections) == shown
    assert any("nothing is there" in each for each in words) == (kind == "not judged")


@pytest.mark.parametrize("scale", [1, 1e-10])
def test_a_plane_in_float32_is_drawn_flat_and_a_faint_wave_is_not(scale):
    row, column = np.mgrid[:64, :64]
    plane = ((row + 3.1 * column) * scale).astype("f4").astype("f8")
    assert len(np.unique(draw_scan(plane, 64).reshape(-1, 3), axis=0)) == 1
    wave = plane + 1e-4 * scale * np.sin(column * row / 9)
    assert len(np.unique(draw_scan(wave, 64).reshape(-1, 3), axis=0)) > 50


def test_numbers_have_no_exponent():
    assert [short(value, 2) for value in (-130.2, 5.64, 0)] == ["-130", "5.6", "0"]
    assert short(12.3456) == "12.35"


@pytest.mark.parametrize("shape", [0.2, 0.5, 1, 2, 5])
def test_a_sheet_has_the_shape_of_the_scan(shape):
    pytest.importorskip("matplotlib")
    from stm_keras.reports.sheets import plot_judged

    scan = judged("poor")
    heights = scan.scan_input.heights
    scan.scan_input.frame = lambda: (heights, 2 * shape)
    figure = plot_judged(scan)
    figure.draw_without_rendering()
    box = figure.axes[0].get_window_extent()
    assert box.height / box.width == pytest.approx(shape, rel=0.05)


def test_labels_of_near_tip_changes_and_long_remarks_do_not_overlap():
    pytest.importorskip("matplotlib")
    from stm_keras.reports.sheets import plot_judged

    scan = judged("unsure")
    scan.scan_input.remarks = ("a remark that fills the line",) * 5
    verdict = replace(scan.verdict, change_lines=(3, 4, 5))
    figure = plot_judged(replace(scan, verdict=verdict))
    figure.draw_without_rendering()
    texts = [*figure.texts, *figure.axes[1].texts]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
