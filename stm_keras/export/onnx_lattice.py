"""`RunningLattice` as ONNX nodes: see `onnx_layers`."""

import numpy as np


def running_lattice(graph, layer, line):
    """`RunningLattice`: caches of two complex sums `(1, 4 * places)` and a count."""
    from stm_keras.layers import lattice as own

    places, name = len(layer.across), layer.name
    place = graph.cache(f"{name}_count", (1, 1))
    line = graph.add("Clip", line, -own.CLIP, own.CLIP)
    waves = graph.add("MatMul", line, layer.waves)
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
    count = graph.add("Add", place, 1.0)
    graph.keep(total, f"{name}_total")
    graph.keep(count, f"{name}_count")

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
    return graph.add("Concat", _harmonics(graph, own, power), lines, axis=1)


def _harmonics(graph, own, power):
    """`read_harmonics` of one spectrum `(radii, angles)`: `(1, 12)`."""
    low, high = own.rows_between()
    angles = len(own.ANGLES)

    def turned(value, steps):
        steps %= angles
        if not steps:
            return value
        parts = (
            graph.add("Slice", value, [a], [b], [1])
            for a, b in ((steps, angles), (0, steps))
        )
        return graph.add("Concat", *parts, axis=1)

    def rows(value, chosen):
        return graph.add("Gather", value, [int(each) for each in chosen], axis=0)

    mean = graph.add("ReduceMean", power, [1], keepdims=1)
    peaks = graph.add("Sub", power, mean)
    above = rows(graph.add("Relu", peaks), range(low + own.OCTAVE, high + own.OCTAVE))
    above = graph.add("Mul", graph.add("Add", above, turned(above, own.RIGHT)), 0.5)
    comb = graph.add("Add", rows(peaks, range(low, high)), above)
    flat = graph.add(
        "Reshape", graph.add("Mul", comb, own.SHARPNESS), [1, (high - low) * angles]
    )
    choice = graph.add("Reshape", graph.add("Softmax", flat, axis=1), [high - low, angles])
    across = graph.add("Max", power, turned(power, 1), turned(power, -1))
    last = len(own.RADII) - 1
    below = rows(across, [0, *range(last)])
    beyond = rows(across, [*range(1, last + 1), last])
    nearby = graph.add("Max", across, below, beyond)

    def chosen(value, share=choice):
        weighted = graph.add("Mul", share, value)
        return graph.add(
            "Reshape", graph.add("ReduceSum", weighted, [0, 1], keepdims=0), [1, 1]
        )

    found = []
    for octaves, degrees in own.HARMONICS:
        steps = round(degrees / (own.ANGLES[1] - own.ANGLES[0]))
        there = rows(nearby, own.shifted_rows(octaves))
        found.append(chosen(graph.add("Max", turned(there, steps), turned(there, -steps))))
    by_radius = graph.add("ReduceSum", choice, [1], keepdims=1)
    found.append(chosen(rows(mean, range(low, high)), by_radius))
    radii = np.log2(own.RADII[low:high]).astype(np.float32)[:, None]
    found += [chosen(radii, by_radius), chosen(comb)]
    return graph.add("Concat", *found, axis=1)
