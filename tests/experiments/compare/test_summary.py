"""Results that cannot be compared are refused, others are compared as they should be."""

import pytest
from compare_parts import part
from helpers import ONCE

from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.summary import cells, failures, spread, summarise

pytestmark = ONCE  # no backend changes what is tested here


@pytest.mark.smoke
def test_a_setup_is_compared_with_the_first_and_timed_against_the_reference():
    losses = {"logits": [0.0, 1.5], "losses": [1.0, 0.75], "logits_after": [0.0, 2.0]}
    rows = summarise(
        [
            part("tensorflow", (2.0, 4.0, 8.0)),
            part("jax", (1.0, 8.0, 2.0), agreement=losses),
            part("native", (4.0, 4.0, 4.0)),
        ]
    )
    assert rows[0]["agrees_with"] is None
    assert rows[1]["agrees_with"] == "tensorflow"
    assert rows[1]["logits_difference"] == 0.5
    assert rows[1]["loss_difference"] == 0.25
    assert rows[1]["logits_difference_after"] == 0.0
    # round by round 4/1, 4/8 and 4/2; the ratio of medians would be 2 as well, of means 1.1
    assert rows[1]["speed"] == {"wall": 2.0, "cpu": 2.0}
    assert rows[0]["compared_with"] == rows[1]["compared_with"] == "native"
    assert rows[1]["scans_per_second"] == {"train": 16.0, "predict": 100.0}
    assert rows[1]["step_wall"]["max"] == 8.0


def test_speed_against_another_session_is_marked():
    first, later = part("jax"), part("torch", (2.0, 2.0), session="two")
    rows = summarise([first, later])
    assert [row["same_rounds"] for row in rows] == [True, False]
    assert rows[1]["speed"]["wall"] == 1.0


def test_each_precision_agrees_with_its_own_first():
    half = {"precision": "mixed_bfloat16"}
    rows = summarise(
        [part("jax"), part("torch"), part("jax", **half), part("torch", **half)]
    )
    assert [row["agrees_with"] for row in rows] == [None, "jax", None, "jax bf16"]


def test_a_spread_holds_quartiles():
    found = spread([1.0, 2.0, 3.0, 4.0, 5.0])
    assert [found[key] for key in ("min", "q1", "median", "q3", "max")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"identity": {"data": "x" * 64, "split": "b" * 64, "batches": []}},
            r"^there \(torch\): other data than here \(jax\) \(sha256 xxxxxxxxxxxx and "
            r"sha256 aaaaaaaaaaaa\): cannot be compared\.$",
        ),
        (
            {"identity": {"data": "a" * 64, "split": "x" * 64, "batches": []}},
            r"another split than here",
        ),
        (
            {"weights": "x" * 64},
            r"other initial weights than .* Start one with --weights FOLDER/weights.npz",
        ),
        (
            {"dtypes": part()["dtypes"] | {"computed": "float64"}},
            r"other dtypes than .*computed float64.* and .*computed float32.*cannot",
        ),
        (
            {"parameters": 7},
            r"another network than here \(jax\) \(7 weights and 1,234 weights\): cannot",
        ),
        (
            {"agreement": {"logits": [0, 1], "losses": [1], "logits_after": [0, 2]}},
            r"another number of --steps than here",
        ),
    ],
)
def test_what_differs_is_refused_in_one_line(change, message):
    with pytest.raises(MismatchError, match=message):
        summarise([part("jax"), part("torch", machine="there", **change)])


def test_a_setup_that_failed_is_a_row_with_the_reason():
    failed = {**part("torch"), "status": "failed", "reason": "no memory"}
    rows = summarise([part("jax"), failed], [("tensorflow", "its job did not end")])
    assert [row["status"] for row in rows] == ["done", "failed", "missing"]
    assert failures(rows) == ["torch: no memory", "tensorflow: its job did not end"]
    titles, body = cells(rows)
    assert body[1] == ["torch", *["–"] * (len(titles) - 1)]
    assert "machine" not in titles


def test_scores_of_seeds_have_a_mean_and_an_interval_of_students_t():
    runs = {
        str(seed): {"auroc": 0.8 + 0.1 * seed, "balanced_accuracy": 0.5}
        for seed in range(3)
    }
    scores = {"runs": runs, "failed": {"3": "lost"}, "epochs": 2}
    rows = summarise([part("jax", scores=scores), part("torch")])
    area = rows[0]["scores"]["auroc"]
    assert area["mean"] == pytest.approx(0.9)
    # 0.1 / sqrt(3) times 4.303, the 97.5 % quantile of t with two degrees of freedom;
    # a score is never above 1
    assert area["interval"] == pytest.approx([0.9 - 0.2484, 1.0], abs=1e-4)
    titles, body = cells(rows)
    assert body[0][titles.index("AUROC")] == "0.900 [0.652, 1.000]"
    assert body[1][titles.index("AUROC")] == "–"
    assert failures(rows) == ["jax, seed 3: lost"]


def test_a_loss_that_is_not_finite_is_no_number():
    mad = {"logits": [0, 1], "losses": [1.0, float("nan")], "logits_after": [0, 1]}
    rows = summarise([part("jax"), part("torch", agreement=mad)])
    assert rows[1]["loss_difference"] is None
    titles, body = cells(rows)
    assert body[1][titles.index("loss differs")] == "not finite"
