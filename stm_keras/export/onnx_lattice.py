"""`RunningLattice` and `LastFeatures` as ONNX nodes: see `onnx_layers`."""

import numpy as np


def running_lattice(graph, layer, line):
    """`RunningLattice`: cache of two complex sums `(1, 4 * points)`.

    The points are those of the polar grid of spatial frequencies, radii by angles.
    """
    from stm_keras.layers import lattice as own

    points = len(layer.across)
    index, count = graph.count_lines()
    line = graph.add("Clip", line, -own.CLIP, own.CLIP)
    # mirrored directions have the same waves along the line: half of them is computed
    alone, again = np.unique(layer.waves, axis=1, return_inverse=True)
    waves = graph.add("MatMul", line, alone)
    again = graph.constant(np.reshape(again, (1, -1)), np.int32)
    waves = graph.add("GatherElements", waves, again, axis=1)
    real, imaginary = graph.add("Split", waves, [points] * 2, count=2, axis=1)
    # the wave along the slow axis turns the phase of each line
    turn = index * layer.across[None]
    cosine, sine = graph.add("Cos", turn), graph.add("Sin", turn)
    turned = real * cosine + imaginary * sine, imaginary * cosine - real * sine
    # sums over lines with the weights l and l^2: a parabolic (Welch) window, whatever their number
    at = index + 0.5
    once = graph.add("Concat", *turned, axis=1) * at
    terms = graph.add("Concat", once, once * at, axis=1)
    total = graph.running_sum(terms, layer.name, 4 * points)

    first, second = graph.add("Split", total, [2 * points] * 2, count=2, axis=1)
    square = count * count
    field = (first / count - second / square) * 4.0
    real, imaginary = graph.add("Split", field, [points] * 2, count=2, axis=1)
    weight = count * (8 / 15) + graph.add("Div", 7 / 15, square * count)
    power = (real * real + imaginary * imaginary) / weight
    power = graph.add("Log", power + own.FLOOR)
    power = graph.add("Reshape", power, [len(own.RADII), len(own.ANGLES)])
    lines = graph.add("Log", count) / float(np.log(2))
    features = [_harmonics(graph, own, power), lines]
    if layer.profile:
        mean, largest = (
            graph.add("Reshape", graph.add(kind, power, [1], keepdims=0), [1, -1])
            for kind in ("ReduceMean", "ReduceMax")
        )
        features = [mean, largest - mean, *features]
    return graph.add("Concat", *features, axis=1)


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
    grid = np.arange(len(own.RADII) * len(own.ANGLES))
    grid = grid.reshape(len(own.RADII), len(own.ANGLES))
    count = (high - low) * len(own.ANGLES)

    def flat(value):
        return graph.add("Reshape", value, [-1])

    def pick(value, *indices):
        flat_indices = graph.constant(np.ravel(indices), np.int32)
        picked = graph.add("GatherElements", value, flat_indices, axis=0)
        return graph.add("Reshape", picked, [*np.shape(indices)])

    def turned(indices, steps):
        return np.roll(indices, -steps, axis=1).ravel()

    mean = graph.add("ReduceMean", power, [1], keepdims=1)
    peaks = flat(power - mean)
    higher = grid[low + own.OCTAVE : high + own.OCTAVE]
    above = pick(graph.add("Relu", peaks), higher.ravel(), turned(higher, own.RIGHT))
    above = graph.add("ReduceMean", above, [0], keepdims=0)
    comb = pick(peaks, grid[low:high].ravel()) + above
    choice = graph.add("Softmax", comb * own.SHARPNESS, axis=1)
    choice = graph.add("Reshape", choice, [count, 1])

    rows = np.arange(len(own.RADII))
    beside = [rows, np.maximum(rows - 1, 0), np.minimum(rows + 1, rows[-1])]
    around = [turned(grid[each], steps) for each in beside for steps in (-1, 0, 1)]
    nearby = graph.add("ReduceMax", pick(flat(power), *around), [0], keepdims=0)
    step = own.ANGLES[1] - own.ANGLES[0]
    both = [
        turned(grid[own.shifted_rows(octaves)], sign * round(degrees / step))
        for sign in (1, -1)
        for octaves, degrees in own.HARMONICS
    ]
    both = np.reshape(both, (2, len(own.HARMONICS), count))
    harmonics = graph.add("ReduceMax", pick(nearby, *both), [0], keepdims=0)
    row = np.repeat(np.arange(low, high), len(own.ANGLES))
    floor = pick(flat(mean), row)
    radii = np.log2(own.RADII[row]).astype(np.float32)[None]
    harmonics = graph.add("Concat", harmonics, floor, radii, comb, axis=0)
    return graph.add("Reshape", graph.add("MatMul", harmonics, choice), [1, -1])
