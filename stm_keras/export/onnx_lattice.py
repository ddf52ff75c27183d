"""`RunningLattice` and `LastFeatures` as ONNX nodes: see `onnx_layers`."""

import numpy as np


def running_lattice(graph, layer, line):
    """`RunningLattice`: cache of two complex sums `(1, 4 * points)`.

    The points are those of the polar grid of spatial frequencies, radii by angles.
    """
    from stm_keras.layers import lattice as own

    index, count = graph.count_lines()
    line = graph.add("Clip", line, -own.CLIP, own.CLIP)
    # mirrored directions have the same waves along the line, and turn the other way: half of
    # them is computed
    alone, mirror, places = _mirrored(layer)
    points = alone.shape[1] // 2
    waves = graph.add("MatMul", line, alone)
    real, imaginary = graph.add("Split", waves, [points] * 2, count=2, axis=-1)
    # the wave along the slow axis turns the phase of each line
    cosine, sine = graph.turn(index, mirror)
    turned = real * cosine, imaginary * sine, imaginary * cosine, real * sine
    turned = graph.add("Concat", *turned, axis=-1)
    # sums over lines with the weights l and l^2: a parabolic (Welch) window, whatever their number
    at = index + 0.5
    first = graph.running_sum(turned, f"{layer.name}_first", 4 * points, at)
    second = graph.running_sum(turned, f"{layer.name}_second", 4 * points, at * at)

    square = count * count
    field = (first / count - second / square) * 4.0
    a, b, c, d = graph.add("Split", field, [points] * 4, count=4, axis=-1)
    real = graph.add("Concat", a + b, a - b, axis=-1)
    imaginary = graph.add("Concat", c - d, c + d, axis=-1)
    weight = count * (8 / 15) + graph.add("Div", 7 / 15, square * count)
    power = (real * real + imaginary * imaginary) / weight
    power = graph.columns(graph.add("Log", power + own.FLOOR))  # (2 * points, 1)
    power = graph.pick(power, places)
    power = graph.add("Reshape", power, [len(layer.radii), len(own.ANGLES), -1])
    lines = graph.add("Log", count) / float(np.log(2))
    features = _harmonics(graph, own, power, layer)
    if layer.profile:
        mean, largest = (
            graph.add(kind, power, [1], keepdims=0) for kind in ("ReduceMean", "ReduceMax")
        )
        features = graph.add("Concat", mean, largest - mean, features, axis=0)
    features = graph.rows(features, layer.size - 1)
    return graph.add("Concat", features, lines, axis=-1)


def _mirrored(layer):
    """Return the waves that differ, what they turn by, and where the points are in both.

    A point is a wave that turns by `mirror` a line, or one that turns by as much backwards.
    """
    real, imaginary = np.split(layer.waves, 2, axis=1)
    both = np.concatenate([real, imaginary, abs(layer.across)[None]])
    _, one, place = np.unique(both, axis=1, return_index=True, return_inverse=True)
    alone = np.concatenate([real[:, one], imaginary[:, one]], axis=1)
    place = np.ravel(place)
    return (
        alone,
        layer.across[one],
        place + len(one) * (layer.across != layer.across[one][place]),
    )


def last_features(graph, layer, value):
    """`LastFeatures`: `(1, features)` to `(1, count)`."""
    count = layer.input.shape[-1]
    return graph.add("Slice", value, [count - layer.count], [count], [-1])


def _harmonics(graph, own, power, layer):
    """`read_harmonics` of spectra `(radii, angles, 1)`: `(12, 1)`.

    Every shift is an index, so that all harmonics are read in a few nodes: with some for
    each harmonic, starting nodes would take longer than what they compute.
    """
    (low, high), last = layer.rows, len(layer.radii) - 1
    grid = np.arange(len(layer.radii) * len(own.ANGLES)).reshape(-1, len(own.ANGLES))
    count = (high - low) * len(own.ANGLES)

    def flat(value, size=grid.size):
        return graph.add("Reshape", value, [size, -1])

    def pick(value, *indices):
        picked = graph.pick(value, np.ravel(indices))
        return graph.add("Reshape", picked, [*np.shape(indices), -1])

    def turned(indices, steps):
        return np.roll(indices, -steps, axis=1).ravel()

    mean = graph.add("ReduceMean", power, [1], keepdims=1)
    peaks = flat(power - mean)
    higher = grid[low + own.OCTAVE : high + own.OCTAVE]
    above = pick(graph.add("Relu", peaks), higher.ravel(), turned(higher, own.RIGHT))
    above = graph.add("ReduceMean", above, [0], keepdims=0)
    comb = graph.pick(peaks, grid[low:high].ravel()) + above
    choice = graph.add("Softmax", comb * own.SHARPNESS, axis=0)  # (count, 1)

    rows = np.arange(last + 1)
    beside = [rows, np.maximum(rows - 1, 0), np.minimum(rows + 1, last)]
    around = [turned(grid[each], steps) for each in beside for steps in (-1, 0, 1)]
    nearby = graph.add("ReduceMax", pick(flat(power), *around), [0], keepdims=0)
    step = own.ANGLES[1] - own.ANGLES[0]
    both = [
        turned(
            grid[np.clip(rows[low:high] + round(octaves * own.OCTAVE), 0, last)],
            sign * round(degrees / step),
        )
        for sign in (1, -1)
        for octaves, degrees in own.HARMONICS
    ]
    both = np.reshape(both, (2, len(own.HARMONICS), count))
    harmonics = graph.add("ReduceMax", pick(nearby, *both), [0], keepdims=0)
    row = np.repeat(np.arange(low, high), len(own.ANGLES))
    floor = pick(flat(mean, len(rows)), row)
    radii = np.log2(layer.radii[row]).astype(np.float32)[None]
    read = graph.add("Concat", harmonics, floor, axis=0) * choice
    parts = [
        graph.add("ReduceSum", read, [1], keepdims=0),
        graph.add("MatMul", radii, choice),
        graph.add("ReduceSum", comb * choice, [0], keepdims=1),
    ]
    return graph.add("Concat", *parts, axis=0)
