"""`RunningLattice` as ONNX nodes: see `onnx_layers`."""

import numpy as np


def running_lattice(graph, layer, line):
    """`RunningLattice`: cache of two complex sums `(1, 4 * places)`."""
    from stm_keras.layers import lattice as own

    places, name = len(layer.across), layer.name
    place, count = graph.counted()
    line = graph.add("Clip", line, -own.CLIP, own.CLIP)
    # mirrored directions have the same waves along the line: half of them is computed
    alone, again = np.unique(layer.waves, axis=1, return_inverse=True)
    waves = graph.add("MatMul", line, alone)
    again = graph.constant(np.reshape(again, (1, -1)), np.int32)
    waves = graph.add("GatherElements", waves, again, axis=1)
    real, imaginary = graph.add("Split", waves, [places] * 2, count=2, axis=1)
    turn = graph.add("Mul", place, layer.across[None])
    cosine, sine = graph.add("Cos", turn), graph.add("Sin", turn)

    def products(kind, a, b, c, d):
        return graph.add(kind, graph.add("Mul", a, b), graph.add("Mul", c, d))

    turned = graph.add(
        "Concat",
        products("Add", real, cosine, imaginary, sine),
        products("Sub", imaginary, cosine, real, sine),
        axis=1,
    )
    at = graph.add("Add", place, 0.5)
    once = graph.add("Mul", turned, at)
    terms = graph.add("Concat", once, graph.add("Mul", once, at), axis=1)
    total = graph.add("Add", graph.cache(f"{name}_total", (1, 4 * places)), terms)
    graph.keep(total, f"{name}_total")

    first, second = graph.add("Split", total, [2 * places] * 2, count=2, axis=1)
    square = graph.add("Mul", count, count)
    field = graph.add(
        "Sub", graph.add("Div", first, count), graph.add("Div", second, square)
    )
    field = graph.add("Mul", field, 4.0)
    real, imaginary = graph.add("Split", field, [places] * 2, count=2, axis=1)
    few = graph.add("Div", 7 / 15, graph.add("Mul", square, count))
    weight = graph.add("Add", graph.add("Mul", count, 8 / 15), few)
    power = graph.add("Div", products("Add", real, real, imaginary, imaginary), weight)
    power = graph.add("Log", graph.add("Add", power, own.FLOOR))
    power = graph.add("Reshape", power, [len(own.RADII), len(own.ANGLES)])
    lines = graph.add("Div", graph.add("Log", count), float(np.log(2)))
    told = [_harmonics(graph, own, power), lines]
    if layer.profile:
        mean, largest = (
            graph.add("Reshape", graph.add(kind, power, [1], keepdims=0), [1, -1])
            for kind in ("ReduceMean", "ReduceMax")
        )
        told = [mean, graph.add("Sub", largest, mean), *told]
    return graph.add("Concat", *told, axis=1)


def last_features(graph, layer, value):
    """`LastFeatures`: `(1, features)` to `(1, count)`."""
    count = layer.input.shape[-1]
    return graph.add("Slice", value, [count - layer.count], [count], [1])


def _harmonics(graph, own, power):
    """`read_harmonics` of one spectrum `(radii, angles)`: `(1, 12)`.

    Every shift is an index, so that all harmonics are read in a few nodes: with some for
    each harmonic, starting nodes would take longer than what they compute. ONNX Runtime
    takes five times as long for `Gather` of single numbers as for `GatherElements`.
    """
    low, high = own.rows_between()
    places = np.arange(len(own.RADII) * len(own.ANGLES))
    grid = places.reshape(len(own.RADII), len(own.ANGLES))
    count = (high - low) * len(own.ANGLES)

    def flat(value):
        return graph.add("Reshape", value, [-1])

    def pick(value, *where):
        chosen = graph.constant(np.ravel(where), np.int32)
        found = graph.add("GatherElements", value, chosen, axis=0)
        return graph.add("Reshape", found, [*np.shape(where)])

    def turned(where, steps):
        return np.roll(where, -steps, axis=1).ravel()

    mean = graph.add("ReduceMean", power, [1], keepdims=1)
    peaks = flat(graph.add("Sub", power, mean))
    higher = grid[low + own.OCTAVE : high + own.OCTAVE]
    above = pick(graph.add("Relu", peaks), higher.ravel(), turned(higher, own.RIGHT))
    above = graph.add("ReduceMean", above, [0], keepdims=0)
    comb = graph.add("Add", pick(peaks, grid[low:high].ravel()), above)
    choice = graph.add("Softmax", graph.add("Mul", comb, own.SHARPNESS), axis=1)
    choice = graph.add("Reshape", choice, [count, 1])

    rows = np.arange(len(own.RADII))
    beside = [rows, np.maximum(rows - 1, 0), np.minimum(rows + 1, rows[-1])]
    around = [turned(grid[each], steps) for each in beside for steps in (-1, 0, 1)]
    nearby = graph.add("ReduceMax", pick(flat(power), *around), [0], keepdims=0)
    step = own.ANGLES[1] - own.ANGLES[0]
    both = [
        np.stack(
            [
                turned(grid[own.shifted_rows(octaves)], sign * round(degrees / step))
                for octaves, degrees in own.HARMONICS
            ]
        )
        for sign in (1, -1)
    ]
    found = graph.add("ReduceMax", pick(nearby, *both), [0], keepdims=0)
    row = np.repeat(np.arange(low, high), len(own.ANGLES))
    floor = pick(flat(mean), row)
    radii = np.log2(own.RADII[row]).astype(np.float32)[None]
    found = graph.add("Concat", found, floor, radii, comb, axis=0)
    return graph.add("Reshape", graph.add("MatMul", found, choice), [1, -1])
