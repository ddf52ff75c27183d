import numpy as np
import pytest
from helpers import lattice_scans

from stm_keras.evaluation.scan_figures import (
    choose_examples,
    line_evidence,
    plot_attention,
    plot_evidence,
)
from stm_keras.evaluation.style import figure_png

CLASSES = ("atoms", "dimers", "rows", "defects")


def sure_from(line, label, lines=20):
    """Probabilities that know nothing before a line and the class from it on."""
    state = np.full((lines, 4), 0.25)
    state[line:] = 0.04
    state[line:, label] = 0.88
    return state


def test_evidence_lies_where_the_verdict_was_made():
    moved = line_evidence(np.stack([sure_from(0, 1), sure_from(7, 2)]))
    assert moved.shape == (2, 20)
    assert moved[0, 0] == pytest.approx(np.log(0.88 / 0.25))
    assert moved[1, 7] == pytest.approx(np.log(0.88 / 0.25))
    assert np.abs(np.delete(moved[1], 7)).max() == 0


def test_evidence_against_the_last_word_is_negative():
    state = sure_from(3, 0)
    state[10] = [0.04, 0.88, 0.04, 0.04]
    moved = line_evidence(state)
    assert moved[10] < -3
    assert moved.sum() == pytest.approx(np.log(0.88 / 0.25))


def test_examples_are_right_and_wrong_ones_of_each_class():
    labels = np.array([0, 0, 0, 1, 1])
    state = np.stack([sure_from(2, said) for said in (0, 0, 3, 1, 1)])
    assert choose_examples(labels, state).tolist() == [1, 2, 4]
    assert len(choose_examples(labels, state, count=2)) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_the_figure_has_three_panels_a_scan(count):
    scans = lattice_scans(np.arange(count), lines=20, pixels=24)
    state = np.stack([sure_from(5, i) for i in range(count)])
    figure = plot_evidence(
        scans, state, np.arange(count), CLASSES, np.zeros((count, 20)), ["a$b"] * count
    )
    assert sum(axes.get_visible() for axes in figure.axes) == 3 * count
    assert figure_png(figure, dpi=40)[:4] == b"\x89PNG"


@pytest.mark.parametrize("count", [1, 5])
def test_attention_is_drawn_beside_each_scan(count):
    scans = lattice_scans(np.arange(count), lines=20, pixels=24)
    attention = np.full((count, 20), 0.05)
    figure = plot_attention(scans, attention, np.arange(count) % 4, CLASSES, ["a"] * count)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 2 * count
    assert len(shown[1].patches) == 20
