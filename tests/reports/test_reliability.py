import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from stm_keras.data.dataset import CLASSES
from stm_keras.evaluation import plots
from stm_keras.evaluation.abstention import score_rejection, score_unknown
from stm_keras.evaluation.change_scores import score_changes, score_votes
from stm_keras.evaluation.scores import score_predictions
from stm_keras.evaluation.style import figure_png
from stm_keras.reports.evaluation import write_report


def draw(scans=80, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=scans)
    scores = random.random((scans, 4)) + 0.9 * np.eye(4)[labels]
    return labels, scores / scores.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def rejection():
    labels, probabilities = draw()
    return score_rejection(labels, probabilities, draw(seed=1)[1], resamples=20)


@pytest.fixture(scope="module")
def unknown():
    random = np.random.default_rng(2)
    return score_unknown(
        random.normal(size=60),
        random.normal(2, 1, 40),
        1.5,
        kinds=np.repeat(["<gold>", "graphite"], 20),
        resamples=20,
    )


@pytest.fixture(scope="module")
def changes():
    random = np.random.default_rng(3)
    scores = random.uniform(0, 0.5, (30, 20))
    change = np.where(np.arange(30) % 3, 9, -1)
    scores[change > 0, 11] = 0.9
    result = score_changes(scores, change, 0.6)
    return {**result, "votes": score_votes(scores, random.integers(0, 2, 30) * 1.0)}


def check(figure):
    assert Image.open(io.BytesIO(figure_png(figure, dpi=40))).format == "PNG"
    return figure.axes


def test_risk_is_drawn_to_full_coverage_with_a_dot_for_each_threshold(rejection):
    axes = check(plots.plot_risk_coverage(rejection))[0]
    curve = axes.lines[1].get_xydata()
    assert curve[-1] == pytest.approx([1, 1 - rejection["accuracy"]])
    dots = [line.get_xydata()[0] for line in axes.lines[2:]]
    for dot, point in zip(dots, rejection["points"], strict=True):
        assert dot == pytest.approx([point["coverage"], 1 - point["accuracy"]])
    assert [text.get_text() for text in axes.texts[1:]] == ["95 %", "90 %", "80 %"]
    assert axes.get_title(loc="left") == f"area {rejection['aurc']:.3f}"


def test_a_threshold_without_verdicts_and_no_mistakes_are_drawn(rejection):
    point = {**rejection["points"][0], "accuracy": None}
    axes = check(plots.plot_risk_coverage({**rejection, "points": [point]}))[0]
    assert len(axes.lines) == 2
    labels, _ = draw()
    right = score_rejection(labels, np.eye(4)[labels], np.eye(4)[labels], resamples=0)
    check(plots.plot_risk_coverage(right))


def test_known_and_other_scans_are_drawn_as_shares(unknown):
    figure = plots.plot_unknown(unknown)
    axes = check(figure)[0]
    heights = np.array([bar.get_height() for bar in axes.patches])
    assert heights[:40].sum() == pytest.approx(1)
    assert heights[40:].sum() == pytest.approx(1)
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert set(shown) == {"known surface", "other surfaces", "threshold"}
    assert not check(plots.plot_unknown({**unknown, "histogram": None}))[0].patches


def test_changes_are_drawn_with_the_threshold_and_the_offsets(changes):
    left, right = check(plots.plot_changes(changes))
    assert left.lines[1].get_xydata()[0] == pytest.approx([0, 1])
    bars = {round(bar.get_x() + 0.45): bar for bar in right.patches}
    assert bars[2].get_height() == 20
    assert bars[3].get_facecolor() == bars[-3].get_facecolor() != bars[4].get_facecolor()


def test_undefined_changes_are_drawn():
    check(plots.plot_changes(score_changes(np.zeros((3, 9)), np.full(3, -1), 0.5)))


def test_sections_are_written_for_what_the_scores_have(tmp_path, changes):
    labels, probabilities = draw()
    scores = score_predictions(labels, probabilities, CLASSES, resamples=0)
    path = tmp_path / "report.html"
    write_report(path, title="t", scores=scores | {"changes": changes}, facts={})
    text = path.read_text(encoding="utf-8")
    assert "<h2>Tip changes</h2>" in text
    assert "<h2>Unsure verdicts</h2>" not in text
    assert "<h2>Unknown surfaces</h2>" not in text


def test_the_report_tells_what_the_model_does_not_know(
    tmp_path, rejection, unknown, changes
):
    labels, probabilities = draw()
    scores = score_predictions(labels, probabilities, CLASSES, resamples=0)
    trust = {"rejection": rejection, "unknown": unknown, "changes": changes}
    path = tmp_path / "report.html"
    write_report(path, title="t", scores={**scores, **trust}, facts={})
    page = path.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>")
    shown = " ".join("".join(ElementTree.fromstring(page).itertext()).split())
    for point in rejection["points"]:
        low, high = point["intervals"]["accuracy"]
        assert f"{point['accuracy']:.3f} [{low:.3f}, {high:.3f}]" in shown
        assert f"{100 * point['coverage']:.1f} %" in shown
        assert f"{point['n']} of 80" in shown
    assert "80 validation scans" in shown
    assert "<gold>" in shown
    assert f"{unknown['auroc']:.3f} [{unknown['interval'][0]:.3f}" in shown
    assert f"{100 * unknown['false_alarms']:.1f} %" in shown
    assert "A change counts as detected within 3 lines" in shown
    assert f"{100 * changes['found']:.1f} %" in shown
    assert f"{changes['votes']['auroc']:.3f}" in shown
    assert "30 real scans ticked" in shown
