import numpy as np
import pytest

from stm_keras.errors import InputError
from stm_keras.evaluation.history import best_epochs, compare_runs, read_history

HEAD = "epoch,loss,val_loss,val_auroc,learning_rate,seconds\n"


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_a_history_is_read_from_the_file_or_its_folder(tmp_path):
    text = HEAD + "1,1.5,1.4,0.6,1e-4,10\n2,1.2,1.3,,2e-4,12\n"
    path = write(tmp_path / "history.csv", text)
    for source in (path, tmp_path, str(path)):
        history = read_history(source)
        np.testing.assert_array_equal(history["epoch"], [1, 2])
        assert history["epoch"].dtype.kind == "i"
        np.testing.assert_array_equal(history["val_auroc"], [0.6, np.nan])
        assert "val_balanced_accuracy" not in history


@pytest.mark.parametrize("rest", ["3,1.1", "3,1.1,1.2,0.7,1e-4,1", "\0\0\0", "3,\x001"])
def test_a_line_cut_by_a_kill_is_left_out(tmp_path, rest):
    text = HEAD + "1,1.5,1.4,0.6,1e-4,10\n2,1.2,1.3,0.7,2e-4,12\n" + rest
    np.testing.assert_array_equal(
        read_history(write(tmp_path / "h.csv", text))["epoch"], [1, 2]
    )


def test_windows_line_ends_blank_lines_and_a_byte_order_mark_are_fine(tmp_path):
    text = "\ufeff" + HEAD + "1,1.5,1.4,0.6,1e-4,10\n\n"
    path = write(tmp_path / "h.csv", text.replace("\n", "\r\n"))
    assert read_history(path)["loss"] == [1.5]


def test_an_epoch_written_twice_counts_once(tmp_path):
    text = "epoch,loss\n1,1.5\n2,1.2\n3,1.1\n2,1.0\n"
    history = read_history(write(tmp_path / "h.csv", text))
    np.testing.assert_array_equal(history["epoch"], [1, 2, 3])
    np.testing.assert_array_equal(history["loss"], [1.5, 1.0, 1.1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist. Give the folder of a run"),
        ("", "holds no epoch. Train for one epoch at least"),
        (HEAD, "holds no epoch"),
        ("epoch,lo", "holds no epoch"),
        ("loss,auroc\n1,2\n", "has no column `epoch`. Columns: loss, auroc."),
        ("epoch,loss\n1\n2,3\n", "line 2 has 1 cells, the header 2. Correct or delete"),
        ("epoch,loss\n1,2\n2,good\n", "line 3, `loss` is not a number. Received: 'good'."),
        ("epoch,loss\n1.5,2\n", "line 2, `epoch` is not a whole number. Received: '1.5'."),
        ("epoch,loss\n,2\n", "line 2, `epoch` is not a whole number. Received: ''."),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, text, message):
    path = tmp_path / "history.csv"
    if text is not None:
        write(path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_history(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_binary_file_is_no_history(tmp_path):
    path = tmp_path / "history.csv"
    path.write_bytes(b"\x89HDF\r\n\xff\xfe")
    with pytest.raises(InputError, match="is not in UTF-8"):
        read_history(path)


def make(**columns):
    columns = {name: np.array(values, float) for name, values in columns.items()}
    epochs = len(next(iter(columns.values())))
    return {"epoch": np.arange(1, epochs + 1), **columns}


def test_losses_fall_and_scores_rise():
    history = make(
        loss=[3, 1, 2],
        val_auroc=[0.6, np.nan, 0.9],
        auroc=[0.8, 0.8, np.nan],
        ece=[2, 1, 3],
    )
    best = best_epochs(history)
    assert best["loss"] == {"best_epoch": 2, "best": 1, "latest_epoch": 3, "latest": 2}
    assert best["val_auroc"]["best_epoch"] == 3
    assert best["auroc"] == {
        "best_epoch": 1,
        "best": 0.8,
        "latest_epoch": 3,
        "latest": None,
    }
    assert best["ece"]["best_epoch"] == 2


def test_columns_that_are_no_scores_have_no_best_epoch():
    history = make(learning_rate=[1, 2], seconds=[3, 4], val_auroc=[np.nan, np.nan])
    assert best_epochs(history) == {}


def test_runs_are_compared_at_their_best_epoch():
    rows = compare_runs(
        {
            "plain": make(loss=[3, 2]),
            "weak": make(loss=[3, 2], val_auroc=[0.8, 0.7], seconds=[5, 7]),
            "good": make(loss=[3, 2, 1], val_auroc=[0.7, 0.9, 0.8]),
            "broken": make(loss=[np.nan]),
        }
    )
    assert [row["run"] for row in rows] == ["good", "weak", "plain", "broken"]
    assert all(row.keys() == rows[0].keys() for row in rows)
    good, weak, plain, broken = rows
    assert (good["best_epoch"], good["loss"], good["val_auroc"]) == (2, 2, 0.9)
    assert (good["epochs"], good["latest_epoch"], good["seconds"]) == (3, 3, None)
    assert (weak["best_epoch"], weak["seconds"], weak["seconds_per_epoch"]) == (1, 12, 6)
    assert (plain["judged_by"], plain["best_epoch"], plain["val_auroc"]) == (
        "loss",
        2,
        None,
    )
    assert (broken["judged_by"], broken["best_epoch"], broken["loss"]) == (None, None, None)
