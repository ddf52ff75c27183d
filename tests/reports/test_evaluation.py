import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from stm_keras.data.dataset import CLASSES
from stm_keras.errors import OutputError
from stm_keras.evaluation.scores import score_predictions, worst_mistakes
from stm_keras.reports.evaluation import write_report

ODD = ('<b>"rows" & more', "a$b$", "x\x00y", "generic defects")
FACTS = {
    "model": "runs/<mine> & 'yours'/best.keras",
    "data": "scans.h5",
    "protocol": "p2",
    "command": "stm-keras evaluate --set a=<1>",
    "versions": {"keras": "3.15.1", "numpy": "2.4"},
    "seed": 0,
}


def draw(scans=40):
    random = np.random.default_rng(0)
    labels = np.r_[np.arange(4), random.integers(4, size=scans - 4)]
    scores = random.random((scans, 4)) + 0.5 * np.eye(4)[labels]
    return labels, scores / scores.sum(1, keepdims=True)


def write(path, classes=CLASSES, facts=FACTS, **more):
    labels, probabilities = draw()
    scores = score_predictions(
        labels,
        probabilities,
        classes,
        by_lines={1: probabilities[:, ::-1], 128: probabilities},
        groups=np.arange(40) % 6,
        consensus=np.arange(40) % 3 == 0,
        resamples=20,
    )
    write_report(path, title="A <model> & its scores", scores=scores, facts=facts, **more)
    return scores, path.read_text(encoding="utf-8")


def whole(path, classes=CLASSES, **more):
    labels, probabilities = draw()
    return write(
        path,
        classes,
        predictions={
            "labels": labels,
            "probabilities": probabilities,
            "names": [f"scan<{i}>" for i in range(40)],
        },
        images=np.random.default_rng(1).integers(0, 255, (40, 12, 14), dtype=np.uint8),
        history={"epoch": np.arange(1, 4), "val_auroc": np.array([0.5, 0.7, 0.6])},
        **more,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Scores and text of a whole report, with the classes of the paper."""
    return whole(tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Text of a whole report, with odd names of classes."""
    return whole(tmp_path_factory.mktemp("odd") / "report.html", ODD)[1]


def parse(text):
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def test_the_page_is_well_formed_and_escaped(odd):
    page = parse(odd)
    shown = "".join(page.itertext())
    assert page.find("head/title").text == "A <model> & its scores"
    for part in (ODD[0], ODD[1], r"x\x00y", FACTS["model"], FACTS["command"], "scan<"):
        assert part in shown
    assert page.find(".//b[.='rows']") is None


def test_the_page_loads_nothing_from_elsewhere(written):
    _, text = written
    assert not re.search(r"https?:|//cdn|url\(|@import|<script |<link|<iframe", text)
    page = parse(text)
    sources = [image.get("src") for image in page.iter("img")]
    assert len(sources) > 5
    for source in sources:
        kind, data = source.split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert all(image.get("alt") for image in page.iter("img"))
    assert all(link.get("href").startswith("#") for link in page.iter("a"))


def test_links_lead_to_sections(written):
    _, text = written
    page = parse(text)
    sections = [section.get("id") for section in page.iter("section")]
    targets = [link.get("href")[1:] for link in page.find(".//nav").iter("a")]
    assert targets == sections
    assert (sections[0], sections[-1]) == ("scores", "facts")
    assert len(set(targets)) == 9
    ids = {part.get("id") for part in page.iter()}
    assert {link.get("href")[1:] for link in page.iter("a")} <= ids


@pytest.mark.smoke
def test_the_page_holds_the_numbers(written):
    scores, text = written
    shown = "".join(parse(text).itertext())
    for part in (scores, scores["consensus"], *scores["by_lines"]):
        for name in ("auroc", "balanced_accuracy", "accuracy"):
            low, high = part["intervals"][name]
            assert f"{part[name]:.3f} [{low:.3f}, {high:.3f}]" in shown
    for name, row in scores["per_class"].items():
        assert name in shown
        assert f"{row['auroc']:.3f}" in shown
    assert "split by session" in shown
    assert "Only 6 test sessions" in shown
    assert "keras 3.15.1, numpy 2.4" in shown
    assert "prefers-color-scheme: dark" in text


def test_worst_mistakes_are_named(written):
    _, text = written
    labels, probabilities = draw()
    tiles = parse(text).findall(".//figure")
    worst = worst_mistakes(labels, probabilities, 24)
    assert len(tiles) == len(worst) > 0
    first = "".join(tiles[0].itertext())
    assert f"scan<{worst[0]}>" in first
    assert f"{probabilities[worst[0]].max():.2f}" in first


def test_without_mistakes_the_page_says_so(tmp_path):
    labels, _ = draw()
    _, text = write(
        tmp_path / "report.html",
        predictions={"labels": labels, "probabilities": np.eye(4)[labels]},
        images=np.zeros((40, 3, 5)),
    )
    assert "No scan was judged wrong." in text


def test_scores_alone_make_a_page(tmp_path):
    _, text = write(tmp_path / "report.html", facts={})
    page = parse(text)
    assert "Worst mistakes" not in text
    assert page.find(".//table[@class='facts']") is not None


def test_undefined_scores_make_a_page(tmp_path):
    scores = score_predictions([1, 1], np.eye(4)[:2], CLASSES, resamples=0)
    path = tmp_path / "report.html"
    write_report(path, title="t", scores=scores, facts={"protocol": "p3", "git": None})
    shown = "".join(parse(path.read_text(encoding="utf-8")).itertext())
    assert "–" in shown
    assert "No test scan is of: individual atoms, rows, generic defects." in shown
    assert "There are no intervals" in shown
    assert "The sessions of the scans were not given" in shown
    assert "gitunknown" in shown


def test_the_paper_is_beside_its_own_classes_only(odd, written):
    assert "2020 LRCN: 0.960" in written[1]
    assert "Mach. Learn." in written[1]
    assert "LRCN" not in odd
    assert "Mach. Learn." not in odd


@pytest.mark.parametrize(
    "told", [{"data": "simulated, seed 1"}, {"source": "simulated, seed 1"}]
)
def test_scores_of_simulated_scans_are_not_beside_the_papers(tmp_path, told, written):
    scores, path = {**written[0], "data": "scans.h5", **told}, tmp_path / "report.html"
    write_report(path, title="t", scores=scores, facts=FACTS)
    text = path.read_text(encoding="utf-8")
    assert "LRCN" not in text
    assert "Mach. Learn." not in text


def test_an_existing_report_is_kept(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already. Add --overwrite"):
        write(path)
    assert path.read_text() == "mine"
    write(path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
