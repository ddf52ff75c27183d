import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from stm_keras.evaluation import paper, plots
from stm_keras.evaluation.scores import score_predictions
from stm_keras.evaluation.style import COLOURS, apart, broken, class_colour, dark, escape

ODD = ("<rows> & $x$", "a$b", "原子", "generic defects")


def draw(scans=40, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(4, size=scans)
    scores = random.random((scans, 4)) + 0.6 * np.eye(4)[labels]
    return labels, scores / scores.sum(1, keepdims=True)


def history(epochs, *names):
    random = np.random.default_rng(epochs)
    columns = {name: random.random(epochs) for name in names}
    return {"epoch": np.arange(1, epochs + 1), **columns}


def texts(figure):
    found = []
    for axes in figure.axes:
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts]
        found += [text.get_text() for text in labels]
        found += [axes.get_title(loc=place) for place in ("left", "right")]
        if axes.get_legend():
            found += [text.get_text() for text in axes.get_legend().get_texts()]
    found += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join(found)


def check(figure):
    png = plots.figure_png(figure, dpi=40)
    assert Image.open(io.BytesIO(png)).format == "PNG"
    return texts(figure)


def test_confusion_shows_counts_and_shares():
    shown = check(plots.plot_confusion([[6, 2, 0], [0, 0, 0], [1, 1, 1234]], "abc"))
    for text in ("75 %", "25 %", "1,234", "100 %", "–", "balanced accuracy 0.874"):
        assert text in shown


def test_names_are_shown_as_they_are():
    labels, probabilities = draw()
    shown = check(plots.plot_confusion(np.eye(4, dtype=int), ODD))
    assert r"\$x\$" in shown
    check(plots.plot_roc(labels, probabilities, ODD))


def test_roc_names_the_area_of_each_class():
    labels, probabilities = draw()
    scores = score_predictions(labels, probabilities, "abcd", resamples=0)
    shown = check(plots.plot_roc(labels, probabilities, "abcd"))
    for name, row in scores["per_class"].items():
        assert f"{name}  {row['auroc']:.3f}" in shown
    assert f"AUROC {scores['auroc']:.3f}" in shown


def test_forty_classes_fit_into_a_figure():
    names = [f"class {number}" for number in range(40)]
    confusion = plots.plot_confusion(np.eye(40, dtype=int), names)
    assert max(confusion.get_size_inches()) < 16
    assert "100 %" not in check(confusion)
    rng = np.random.default_rng(0)
    roc = plots.plot_roc(np.arange(80) % 40, rng.dirichlet(np.ones(40), 80), names)
    (axes,) = roc.axes
    legend = axes.get_legend()
    assert legend.get_title().get_text() == "the 12 worst of 40"
    assert len(legend.get_texts()) == 12
    roc.draw_without_rendering()
    box, panel = legend.get_window_extent(), axes.get_window_extent()
    assert panel.y0 <= box.y0
    assert box.y1 <= panel.y1


@pytest.mark.parametrize("lowest", [0.1, 0.6])
def test_no_legend_hides_the_word_chance(lowest):
    row = {"auroc": lowest, "balanced_accuracy": lowest, "intervals": {}}
    by_lines = [{**row, "lines": lines} for lines in (1, 20, 100)]
    figure = plots.plot_lines(dict.fromkeys("abcdefg", by_lines))
    figure.draw_without_rendering()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    boxes = [each.get_window_extent() for each in legends if each]
    for axes in figure.axes:
        (word,) = (each for each in axes.texts if each.get_text() == "chance")
        assert not any(word.get_window_extent().overlaps(box) for box in boxes)


def test_roc_of_one_class_alone_is_empty():
    assert "AUROC –" in check(plots.plot_roc([1, 1], np.eye(4)[:2], "abcd"))


def test_reliability_shows_the_error():
    labels, probabilities = draw()
    scores = score_predictions(labels, probabilities, "abcd", resamples=0)
    assert f"ECE {scores['ece']:.3f}" in check(
        plots.plot_reliability(labels, probabilities)
    )


def test_lines_show_the_paper_only_when_asked():
    labels, probabilities = draw()
    by_lines = dict.fromkeys((1, 20, 100), probabilities)
    scores = score_predictions(
        labels, probabilities, "abcd", by_lines=by_lines, resamples=20
    )
    shown = check(plots.plot_lines(scores["by_lines"]))
    assert "LRCN (W=20), 2020" in shown
    assert "this model" in shown
    assert "LRCN" not in check(plots.plot_lines(scores["by_lines"], reference=False))


def test_lines_without_interval_or_score_are_drawn():
    row = {
        "lines": 1,
        "auroc": None,
        "balanced_accuracy": 0.5,
        "intervals": {"auroc": None},
    }
    check(plots.plot_lines([row], reference=False, num_classes=2))


def test_paper_values_are_those_of_the_table():
    assert [len(values) for values in paper.LRCN_BY_LINES.values()] == [8, 8]
    assert paper.LRCN_BY_LINES["balanced_accuracy"][21] == 0.793
    assert list(paper.PADDED_BY_LINES["balanced_accuracy"].values()) == [
        0.657,
        0.667,
        0.678,
    ]
    assert paper.lrcn_after("auroc", 128) == paper.LRCN["auroc"] == 0.960
    assert paper.lrcn_after("auroc", 16) is None


def test_one_run_shows_training_validation_and_the_best_epoch():
    run = history(5, "loss", "val_loss", "auroc", "val_auroc", "learning_rate")
    run["val_auroc"] = np.array([0.5, 0.6, 0.9, 0.8, np.nan])
    shown = check(plots.plot_history({"run": run}))
    for text in ("validation", "training", "best 0.900 at epoch 3", "learning rate"):
        assert text in shown


def test_several_runs_are_told_apart():
    names = ("loss", "val_loss", "val_auroc", "learning_rate")
    runs = {f"run_{i}$": history(i + 1, *names) for i in range(9)}
    figure = plots.plot_history(runs)
    shown = check(figure)
    assert all(escape(name) in shown for name in runs)
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[3].lines}
    assert len(looks) == 9


@pytest.mark.parametrize("names", [(), ("loss",), ("learning_rate",)])
def test_a_short_history_is_drawn(names):
    check(plots.plot_history({"run": history(1, *names)}))


def test_no_screen_and_no_global_state_is_used():
    code = (
        "import sys; from stm_keras.evaluation import plots;"
        "plots.figure_png(plots.plot_confusion([[1, 0], [0, 1]], 'ab'), dpi=30);"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


def test_class_colours_differ():
    assert len({class_colour(i) for i in range(4)}) == 4
    assert class_colour(len(COLOURS)) == class_colour(0)
    assert dark("#FF8000") == "#b75c00"


def test_long_names_are_broken_in_the_middle():
    assert broken("individual atoms") == "individual\natoms"
    assert broken("asymmetries/dimers") == "asymmetries/\ndimers"
    assert broken("rows") == "rows"


def test_labels_that_would_overlap_are_moved_apart():
    assert apart([], 1, 0, 9) == []
    assert apart([4], 1, 0, 9) == [4]
    assert apart([1, 8, 3], 1, 0, 9) == [1, 8, 3]
    assert apart([5, 5, 5.5], 1, 0, 9) == [5, 6, 7]
    assert apart([8.8, 9], 1, 0, 9) == [8, 9]
    assert apart([9, 9, 0, 1, 2], 3, 0, 9) == [6.75, 9, 0, 2.25, 4.5]
    assert apart([0, 5, 5], 3, 0, 9) == [0, 5, 8]


@pytest.mark.parametrize("count", [4, 9])
def test_long_class_names_do_not_overlap_in_a_confusion_matrix(count):
    names = [f"a surface reconstruction of kind {number}" for number in range(count)]
    figure = plots.plot_confusion(np.eye(count, dtype=int), names)
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_xticklabels()]
    assert all(a.x1 <= b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
