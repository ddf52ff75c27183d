"""The network that ours is timed against is ours, and the tables say what was measured."""

from pathlib import Path

import keras
import numpy as np
import pytest

from stm_keras.models import vit

SIZES = {"pixels": 5, "max_lines": 7, "layers": 2, "heads": 3, "dim": 12, "mlp_dim": 20}


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize("masked", [False, True])
def test_native_network_is_ours_in_plain_pytorch(masked):
    torch = pytest.importorskip("torch")
    from native_vit import NativeViT, copy_weights

    model = vit(4, **SIZES)
    network = NativeViT(4, **SIZES, masked=masked).eval()
    assert sum(weight.numel() for weight in network.parameters()) == model.count_params()
    rng = np.random.default_rng(0)
    weights = {}
    for variable in model.weights:
        variable.assign(rng.normal(0, 0.3, variable.shape))
        weights[variable.path] = keras.ops.convert_to_numpy(variable.value)
    copy_weights(weights, network)
    lines = rng.normal(size=(3, 6, 5)).astype("float32")
    if masked:
        lines[1, 4:] = 0
    with torch.no_grad():
        native = network(torch.from_numpy(lines)).numpy()
    ours = keras.ops.convert_to_numpy(model(lines, training=False))
    assert np.abs(native - ours).max() < 1e-4


@pytest.mark.usefixtures("benchmarks")
def test_native_step_learns_and_spares_what_must_not_decay():
    torch = pytest.importorskip("torch")
    from native_vit import NativeViT, native_step

    from stm_keras.sections import TrainConfig

    torch.manual_seed(0)
    network = NativeViT(4, **SIZES)
    settings = TrainConfig(learning_rate=0.1, weight_decay=0.5)
    step = native_step(network, settings)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(8, 7, 5)).astype("float32")
    targets = np.eye(4, dtype="float32")[np.arange(8) % 4]
    losses = [float(step(inputs, targets, np.ones(8, "float32"))) for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]

    before = {name: weight.clone() for name, weight in network.named_parameters()}
    still = native_step(network, settings)
    still(inputs, targets, np.zeros(8, "float32"))  # no gradient: decay alone
    moved = {
        name
        for name, weight in network.named_parameters()
        if not torch.equal(weight, before[name])
    }
    assert moved == {
        name for name in before if name.endswith("weight") and "norm" not in name
    }


@pytest.mark.usefixtures("benchmarks")
def test_table_compares_each_round_with_the_reference():
    from step_table import summarise, table

    def side(*times):
        rounds = [{"wall": 2 * t, "cpu": t, "memory_gb": 1.5} for t in times]
        return {
            "parameters": 1234,
            "versions": {"torch": "2"},
            "first": 9.0,
            "first_cpu": 8.0,
            "rounds": rounds,
            "epoch": {"waited": 0.3, "seconds": 10.0},
        }

    sides = summarise({"native": side(1, 2, 4), "jax": side(0.5, 2, 2)}, "native", 32)
    assert sides["jax"]["speed"] == {"cpu": 2.0, "wall": 2.0}
    assert sides["native"]["scans_per_second"] == 8.0
    text = table({"sides": sides})
    assert "| jax | 1,234 | 2.00 | 0.50–2.00 | 4.00 |" in text
    assert "| **2.00** | 2.00 | 9.0 (8.0) | 3.0% | 1.5 |" in text


@pytest.mark.usefixtures("benchmarks")
def test_a_section_of_a_page_is_replaced_or_added():
    from step_table import put_section

    once = put_section("# Speed\n\nText.\n", "Step", "old")
    twice = put_section(put_section(once, "Loading", "fast"), "Step", "new")
    assert twice == "# Speed\n\nText.\n\n## Step\n\nnew\n\n## Loading\n\nfast\n"


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
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:6]]
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
