"""The tables of the benchmarks say what was measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import ONCE, made_up_dataset

pytestmark = ONCE  # no backend changes what is tested here


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")


@pytest.mark.usefixtures("benchmarks")
def test_a_section_of_a_page_is_replaced_or_added():
    from latency_table import put_section

    once = put_section("# Speed\n\nText.\n", "Step", "old")
    twice = put_section(put_section(once, "Loading", "fast"), "Step", "new")
    assert twice == "# Speed\n\nText.\n\n## Step\n\nnew\n\n## Loading\n\nfast\n"


@pytest.mark.usefixtures("benchmarks")
def test_a_marked_section_is_replaced_where_it_stands(tmp_path):
    from adapt import write_page

    path = tmp_path / "page.md"
    path.write_text("# Results\n", encoding="utf-8")
    for text in ("<!-- a -->\nold\n<!-- z -->\n", "<!-- b -->\nlast\n<!-- y -->\n"):
        write_page(path, text)
    write_page(path, "<!-- a -->\nnew\n<!-- z -->\n")
    sections = "<!-- a -->\nnew\n<!-- z -->\n\n<!-- b -->\nlast\n<!-- y -->\n"
    assert path.read_text(encoding="utf-8") == f"# Results\n\n{sections}"


@pytest.mark.usefixtures("benchmarks")
def test_latencies_are_sorted_and_compared_with_the_floor():
    from latency_table import page

    def side(milliseconds):
        times = {"median": milliseconds / 1e3, "p99": milliseconds / 500, "max": 1.0}
        return {"count": 7, "wall": times, "cpu": times}

    report = {
        "sides": {"stream jax": side(3), "onnx": side(0.5), "prefix jax": side(40)},
        "floor": 1e-4,
        "load": [1, 2],
        "failures": ["stream torch: no torch"],
        "versions": {"keras": "3"},
        "parameters": 1000,
        "bandwidth": 4e7,
        **dict.fromkeys(("command", "date", "processor", "cores", "config", "model"), "?"),
    }
    lines = page(report).split("\n")
    table = [line for line in lines if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert [row[0].split(",")[0] for row in cells] == [
        "`OnnxStream`",
        "`LineStream`",
        "all lines so far anew",
        "floor: weights once through memory",
    ]
    assert cells[1][1:] == ["3.00", "6.00", "3.00", "6.00", "30 x", "5"]
    assert lines[-1] == "Did not run: stream torch: no torch"


@pytest.mark.usefixtures("benchmarks")
def test_the_first_lines_of_a_stream_do_not_count():
    from latency import WARM_UP, clocked

    slept = []

    def work(order):
        slept.append(order)
        if order < WARM_UP:
            sum(range(200_000))

    found = clocked(work, range(WARM_UP + 20))
    assert slept == list(range(WARM_UP + 20))
    assert found["count"] == 20
    assert found["cpu"]["median"] < 1e-3


@pytest.mark.usefixtures("benchmarks")
def test_the_picture_of_lines_shows_full_agreement_scans_of_the_shipped_recipe():
    from lines import RESULTS, curves

    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    for label, curve in curves(rows).items():
        protocol = label[-3:-1].lower()
        (row,) = (
            r for r in rows if (r["config"], r["protocol"]) == ("sequential+one", protocol)
        )
        assert [each["lines"] for each in curve][-1] == 128
        assert curve[-1]["auroc"] == pytest.approx(
            row["full agreement"]["auroc"], abs=0.002
        )


@pytest.mark.usefixtures("benchmarks")
def test_a_ratio_that_lost_more_than_15_percent_is_named():
    from guard import compare

    stored = {"push": 2.0, "augment": 1.0, "audit": 0.2, "gone": 1.0}
    now = {"push": 1.5, "augment": 0.86, "audit": 0.3, "new": 0.1}
    assert compare(stored, now) == ["push: 25% slower than stored (ratio 1.5, was 2)."]


@pytest.mark.usefixtures("benchmarks")
def test_the_guard_fails_by_what_is_stored_of_the_same_processor(
    monkeypatch, tmp_path, capsys
):
    import guard

    monkeypatch.setattr(guard, "STORED", tmp_path / "guard.json")
    monkeypatch.setattr(guard, "PARTS", {"push": lambda: (None, None)})
    reached = iter([2.0, 2.0, 1.8, 1.6, 1.6])
    monkeypatch.setattr(guard, "measure", lambda *_: next(reached))
    monkeypatch.setattr(guard, "processor", lambda: "one")
    assert guard.main([]) == 0
    assert "Nothing is stored for one" in capsys.readouterr().out
    assert guard.main(["--store"]) == 0
    assert guard.main([]) == 0
    assert guard.main([]) == 1
    assert "push: 20% slower than stored" in capsys.readouterr().out
    monkeypatch.setattr(guard, "processor", lambda: "another")
    assert guard.main([]) == 0


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize("suffix", [".keras", ".onnx"])
def test_context_is_written_into_a_model_that_answers_as_before(suffix, tmp_path):
    from context import add_context
    from streaming import tiny_stream

    from stm_keras.errors import StmKerasError
    from stm_keras.export import export_model
    from stm_keras.inference.context import FEWEST_PAIRS, Context
    from stm_keras.inference.model_file import load_predictor

    count = 4 * FEWEST_PAIRS
    scans = made_up_dataset(
        count,
        images=np.ones((count, 24, 16), "u1"),
        run=np.ones(count),
        labels=np.arange(count) % 3,
        classes=tuple("abc"),
        voted=False,
    )
    trained = {"environment": {"dataset": {"sha256": scans.digest()}}}
    path = tmp_path / f"model{suffix}"
    export_model(tiny_stream(training=trained), path)
    before = load_predictor(path)
    told = add_context(path, scans)
    after = load_predictor(path)
    images = np.random.default_rng(0).normal(size=(3, 24, 16)).cumsum(2)
    for name, values in before.outputs(images).items():
        assert np.array_equal(after.outputs(images)[name], values)
    assert {**after.metadata, "context": None} == {**before.metadata, "context": None}
    assert Context.of(after.metadata).transitions.tolist() == told["transitions"]
    with pytest.raises(StmKerasError, match="was trained on other data"):
        add_context(path, replace(scans, labels=scans.labels[::-1]))
    with pytest.raises(StmKerasError, match="too few scans are known to follow another"):
        add_context(path, replace(scans, run=None))
