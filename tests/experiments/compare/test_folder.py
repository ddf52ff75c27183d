"""The folder of a comparison: resumed, refused, joined with others, written as pages."""

import json
import re

import numpy as np
import pytest
from compare_parts import made_up_folder, part
from helpers import ONCE

from stm_keras.errors import InputError, MismatchError, OutputError, UsageError
from stm_keras.experiments.compare.folder import ComparisonFolder, digest
from stm_keras.experiments.compare.report import collect, merge, write

pytestmark = ONCE  # no backend changes what is tested here


def test_a_plan_is_read_back_and_more_sides_join_it(tmp_path):
    folder = made_up_folder(tmp_path / "one", [part("jax")], repeats=7)
    plan = folder.plan()
    assert plan.repeats == 7
    assert plan.config.model.dim == 8
    assert made_up_folder(tmp_path / "one", [part("torch")], repeats=7).plan().setups == (
        part_setup("torch"),
        part_setup("jax"),
    )
    assert [each["name"] for each in folder.parts()] == ["torch", "jax"]


def part_setup(library):
    from stm_keras.experiments.compare.records import Setup

    return Setup(library=library)


def test_another_comparison_is_refused_and_replaced_when_asked(tmp_path):
    folder = made_up_folder(tmp_path, [part("jax")])
    with pytest.raises(
        UsageError, match=r"holds another comparison, different in repeats\. Choose"
    ):
        made_up_folder(tmp_path, [part("jax")], repeats=9)
    folder.start(folder.plan(), overwrite=True)
    assert folder.parts() == []


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("")
    with pytest.raises(OutputError, match="is not empty and not a comparison"):
        made_up_folder(tmp_path, [])
    with pytest.raises(InputError, match=r"is not a comparison \(no plan.json\)"):
        ComparisonFolder(tmp_path).plan()


def test_a_damaged_part_says_so(tmp_path):
    folder = made_up_folder(tmp_path, [part("jax")])
    folder.file("parts", "jax.json").write_text("{")
    with pytest.raises(InputError, match=r"jax.json: is damaged"):
        folder.parts()


def test_a_part_that_is_being_written_is_none_yet(tmp_path):
    folder = made_up_folder(tmp_path, [part("jax")])
    folder.file("parts", ".torch-stm01234567-1-abcdefgh.json").write_text("{")
    assert [each["name"] for each in folder.parts()] == ["jax"]


def test_two_processes_do_not_measure_in_one_folder(tmp_path):
    folder = made_up_folder(tmp_path, [])
    again = pytest.raises(OutputError, match="another process compares here")
    with folder.locked(), again, folder.locked():
        pass


@pytest.mark.parametrize("heads", [False, True])
def test_a_batch_is_read_back_as_it_was(tmp_path, heads):
    inputs, targets, weights = (np.full((3, n), n, "float32") for n in (2, 4, 1))
    if heads:
        targets = {"state": targets, "change": inputs}
        weights = {"state": weights, "change": weights}
    folder = ComparisonFolder(tmp_path)
    folder.save_batch(0, inputs, targets, weights)
    found = folder.batch(0)
    assert digest([found[0]]) == digest([inputs])
    for one, other in zip(found[1:], (targets, weights), strict=True):
        if heads:
            assert sorted(one) == sorted(other)
            one, other = one["change"], other["change"]
        assert (one == other).all()


def test_weights_keep_their_order_and_a_file_without_any_is_refused(tmp_path):
    folder = ComparisonFolder(tmp_path)
    folder.save_weights(["b", "a"], [np.zeros(2), np.ones(3)])
    assert list(folder.weights()) == ["b", "a"]
    folder.file("weights.npz").write_bytes(b"no zip")
    with pytest.raises(
        InputError, match=r"weights\.npz: cannot be read \(File is not a zip file\)"
    ):
        folder.weights()


def test_results_of_two_machines_are_joined_and_rows_carry_the_machine(tmp_path):
    one = made_up_folder(tmp_path / "one", [part("jax"), part("torch")])
    two = made_up_folder(tmp_path / "two", [part("jax", (0.5, 0.5, 0.5), machine="gpu1")])
    both = ComparisonFolder(tmp_path / "both")
    merge([one, two], both, "stm-keras compare --merge one two -o both")
    comparison = collect(both)
    found = [(row["side"], row["machine"]) for row in comparison["rows"]]
    assert found == [("jax", "gpu1"), ("jax", "here"), ("torch", "here")]
    assert comparison["rows"][0]["speed"]["wall"] == 1.0  # not against another machine
    write(both, comparison)
    text = both.file("comparison.md").read_text()
    assert "| setup | machine |" in text
    assert "| jax | gpu1 | cpu |" in text
    assert "`stm-keras compare --merge one two -o both`" in text


@pytest.mark.parametrize(
    ("change", "plan", "message"),
    [
        (
            {"weights": "x" * 64},
            {},
            r"two \(torch\): other initial weights than .*one \(jax",
        ),
        ({}, {"steps": 3}, r"another comparison than .*one, different in steps"),
        (
            {"precision": "mixed_bfloat16"},
            {},
            r"two: computed in mixed_bfloat16, and .*one in float32: cannot be compared",
        ),
    ],
)
def test_what_cannot_be_compared_is_not_joined(tmp_path, change, plan, message):
    one = made_up_folder(tmp_path / "one", [part("jax")])
    two = made_up_folder(tmp_path / "two", [part("torch", **change)], **plan)
    with pytest.raises(MismatchError, match=message):
        merge([one, two], ComparisonFolder(tmp_path / "both"))
    assert not (tmp_path / "both").exists()


def test_a_part_that_is_missing_is_a_row(tmp_path):
    folder = made_up_folder(tmp_path, [part("jax"), part("torch")])
    folder.file("parts", "torch.json").unlink()
    rows = collect(folder)["rows"]
    assert rows[1]["side"] == "torch"
    assert "its job did not end, or never started" in rows[1]["reason"]


def test_the_pages_hold_everything_and_need_nothing_else(tmp_path):
    scores = {"runs": {"0": {"auroc": 0.9, "balanced_accuracy": 0.8}}, "failed": {}}
    scored = part("jax", scores={**scores, "epochs": 1})
    failed = {**part("torch"), "status": "failed", "reason": "<script>alert(1)</script>"}
    folder = made_up_folder(tmp_path, [scored, part("timm"), failed])
    write(folder, collect(folder))
    page = folder.file("comparison.html").read_text()
    for title in ("Table", "Speed", "Agreement", "Machines"):
        assert f"<h2>{title}</h2>" in page
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == 2
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<script>alert" not in page
    assert "timm: attends to lines of zeros too" in page
    saved = json.loads(folder.file("comparison.json").read_text())
    assert saved["rows"][0]["losses"] == [1.0, 0.5]
    assert str(tmp_path) not in folder.file("comparison.md").read_text()
    assert "Did not run: torch: <script>" in folder.file("comparison.md").read_text()
    folder.save_batch(0, np.zeros(1), np.zeros(1), np.zeros(1))
    folder.remove_batches()
    assert list(folder.file("batches").iterdir()) == []
