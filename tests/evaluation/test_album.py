import numpy as np
import pytest

from stm_keras.errors import OutputError
from stm_keras.evaluation.album import NAMES, write_album
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
    paths = write_album(tmp_path / "album", scores(), predictions, HISTORY)
    assert sorted(path.name for path in paths) == sorted(NAMES)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_an_album_is_not_overwritten_unasked(tmp_path):
    write_album(tmp_path, scores())
    with pytest.raises(
        OutputError, match=r"confusion.png: exists already. Add --overwrite"
    ):
        write_album(tmp_path, scores())
    write_album(tmp_path, scores(), overwrite=True)
