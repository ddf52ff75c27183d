import numpy as np
import pytest

from stm_keras.data.dataset import CLASSES
from stm_keras.errors import OutputError
from stm_keras.evaluation import plots as subject
from stm_keras.evaluation.plots import NAMES, write_figures
from stm_keras.evaluation.scores import score_predictions

LABELS = np.arange(40) % 3
PROBABILITIES = np.random.default_rng(0).dirichlet(np.ones(3), 40)
HISTORY = {"epoch": np.array([1, 2]), "loss": np.array([2.0, 1.0])}


def scores():
    by_lines = {1: PROBABILITIES, 8: PROBABILITIES}
    return score_predictions(
        LABELS, PROBABILITIES, ["a", "b", "c"], by_lines=by_lines, resamples=20
    )


def test_every_figure_is_a_png(tmp_path):
    predictions = {"labels": LABELS, "probabilities": PROBABILITIES}
    paths = write_figures(tmp_path / "album", scores(), predictions, HISTORY)
    assert sorted(path.name for path in paths) == sorted(NAMES)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize(
    ("source", "classes", "expected"),
    [
        ("scans.h5", CLASSES, True),
        ("simulated, seed 1", CLASSES, False),
        ("scans.h5", "abcd", False),
    ],
)
def test_the_papers_curve_is_beside_real_scans_of_its_classes_alone(
    source, classes, expected, tmp_path, monkeypatch
):
    asked, draw = [], subject.plot_lines
    monkeypatch.setattr(
        subject, "plot_lines", lambda lines, beside, n: asked.append(beside) or draw(lines)
    )
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 40)
    found = score_predictions(
        np.arange(40) % 4, shares, classes, by_lines={1: shares}, resamples=9
    )
    write_figures(tmp_path, {**found, "source": source})
    assert asked == [expected]


def test_an_album_is_not_overwritten_unasked(tmp_path):
    write_figures(tmp_path, scores())
    with pytest.raises(
        OutputError, match=r"confusion.png: exists already. Add --overwrite"
    ):
        write_figures(tmp_path, scores())
    write_figures(tmp_path, scores(), overwrite=True)
