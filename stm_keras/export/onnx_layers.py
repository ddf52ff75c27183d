"""Each layer of a streaming model as ONNX nodes: see `onnx_graph`.

A layer is one function here and one entry in `LAYERS`: `(graph, layer, *inputs)` adds its nodes
and returns the `Value` of its output. The same function writes the step and, for most layers, all
lines of scans: shapes below are those of the step, where all lines have `(scans, lines, dim)` in
place of `(1, dim)`, so that the last axis is the same. What looks back asks the graph for it.
"""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.export.onnx_lattice import last_features, running_lattice

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "linear": None}


def add(graph, layer, *values):
    """`Add`."""
    return graph.add("Sum", *values)


def concatenate(graph, layer, *values):
    """`Concatenate` of tokens."""
    if len(layer.output.shape) != 3:
        raise MismatchError(
            f"ONNX: {layer.name} may join tokens only. Export to .keras instead."
        )
    return graph.add("Concat", *values, axis=-1)


def dropout(graph, layer, value):
    """`Dropout`, which does nothing after training."""
    return value


def relu(graph, layer, value):
    """`ReLU` without slope, limit or threshold."""
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise MismatchError(
            f"ONNX: {layer.name} is not a plain ReLU. Export to .keras instead."
        )
    return graph.add("Relu", value)


def dense(graph, layer, value):
    """`Dense` on a token, with the norm before it where that norms for nothing else."""
    kernel = weights(layer.kernel)
    bias = weights(layer.bias) if layer.use_bias else None
    if layer.name in graph.norms:
        scale, shift = graph.norms[layer.name]
        bias = shift @ kernel + (0 if bias is None else bias)
        kernel = scale[:, None] * kernel
    return activate(graph, layer, graph.affine(value, kernel, bias))


def batch_normalization(graph, layer, value):
    """`BatchNormalization`, of channels or of a token."""
    mean, variance = weights(layer.moving_mean), weights(layer.moving_variance)
    scale = weights(layer.gamma) if layer.scale else np.ones_like(mean)
    shift = weights(layer.beta) if layer.center else np.zeros_like(mean)
    after = [node.operation for node in layer._outbound_nodes]
    if len(after) == 1 and type(after[0]).__name__ == "Dense":
        scale = scale / np.sqrt(variance + layer.epsilon)
        graph.norms[after[0].name] = scale, shift - mean * scale
        return value
    if len(layer.output.shape) == 3:  # ONNX would take the axis of lines for channels
        scale = scale / np.sqrt(variance + layer.epsilon)
        return value * scale + (shift - mean * scale)
    return graph.add(
        "BatchNormalization", value, scale, shift, mean, variance, epsilon=layer.epsilon
    )


def layer_normalization(graph, layer, value):
    """`LayerNormalization` of a token."""
    if len(layer.gamma.shape) != 1 or not (layer.scale and layer.center):
        raise MismatchError(f"ONNX: {layer.name} is not plain. Export to .keras instead.")
    parts = [weights(layer.gamma), weights(layer.beta)]
    return graph.add("LayerNormalization", value, *parts, epsilon=layer.epsilon)


def line_channels(graph, layer, line):
    """`LineChannels`: `(1, pixels)` to `(1, 3, pixels)`."""
    pixels = layer.input.shape[-1]
    shape, scale = _unit_line(graph, line)
    height = graph.add("Clip", line, -layer.limit, layer.limit)
    size = graph.add("Clip", graph.add("Log", scale), -3.0, 3.0)
    size = size + np.zeros((1, pixels), np.float32)
    return graph.channels(graph.add("Concat", shape, height, size, axis=-1), 3)


def causal_conv(graph, layer, value):
    """`CausalConv`: cache `(lag, channels, pixels)`."""
    _, _, pixels, channels = layer.input.shape
    lag, lines = layer.lag, value
    if lag:
        before = graph.cache(layer.name, (lag, channels, pixels))
        lines = graph.add("Concat", before, value, axis=0)
        graph.keep(graph.add("Slice", lines, [1], [lag + 1], [0]), layer.name)
    if layer.taps > 1:
        taps = [tap * layer.dilation for tap in range(layer.taps)]
        lines = graph.add("Gather", lines, taps, axis=0)
        lines = graph.add("Reshape", lines, [1, layer.taps * channels, pixels])
    kernel = weights(layer.convolution.kernel).transpose(2, 1, 0)
    return graph.add(
        "Conv",
        lines,
        kernel,
        strides=[layer.stride],
        pads=same_padding(layer, pixels),
    )


def same_padding(layer, pixels):
    """Return the padding along the line, left and right: the odd pixel at the end, as Keras."""
    width = layer.kernel + (-(-pixels // layer.stride) - 1) * layer.stride
    missing = max(width - pixels, 0)
    return [missing // 2, missing - missing // 2]


def line_summary(graph, layer, value):
    """`LineSummary`: `(1, channels, pixels)` to `(1, 2 * channels)`."""
    mean = graph.add("ReduceMean", value, [-1], keepdims=0)
    largest = graph.add("ReduceMax", value, [-1], keepdims=0)
    return graph.tokens(graph.add("Concat", mean, largest, axis=1))


def running_mean(graph, layer, token):
    """`RunningMean`: cache of the sum `(1, dim)`."""
    total = graph.running_sum(token, layer.name, layer.input.shape[-1])
    return total / graph.count_lines()[1]


def line_window(graph, layer, token):
    """`LineWindow`: cache of the tokens before, `(window - 1, dim)`."""
    window, dim = layer.window, layer.input.shape[-1]
    before = graph.cache(layer.name, (window - 1, dim))
    tokens = graph.add("Concat", before, token, axis=0)
    graph.keep(graph.add("Slice", tokens, [1], [window], [0]), layer.name)
    return graph.add("Reshape", tokens, [1, window * dim])


def recurrent(graph, layer, token):
    """`Recurrent`: cache `(1, units)`. Gates are in the order update, reset, candidate."""
    cell, units = layer.gru.cell, layer.units
    state = graph.cache(layer.name, (1, units))
    bias = weights(cell.bias)
    by_token = graph.add("Gemm", token, weights(cell.kernel), bias[0])
    by_state = graph.add("Gemm", state, weights(cell.recurrent_kernel), bias[1])
    parts = [2 * units, units]
    token_gates, token_new = graph.add("Split", by_token, parts, count=2, axis=1)
    state_gates, state_new = graph.add("Split", by_state, parts, count=2, axis=1)
    gates = graph.add("Sigmoid", token_gates + state_gates)
    update, reset = graph.add("Split", gates, [units, units], count=2, axis=1)
    new = graph.add("Tanh", token_new + reset * state_new)
    state = new + update * (state - new)
    graph.keep(state, layer.name)
    return state


def causal_block(graph, layer, token, attend=None):
    """`CausalBlock`. `attend` is a function as `attend_cached`."""
    normed = layer_normalization(graph, layer.attention_norm, token)
    parts = [
        dense(graph, part, normed) for part in (layer.queries, layer.keys, layer.values)
    ]
    attended = (attend or attend_cached)(graph, layer, *parts)
    token = token + dense(graph, layer.merge, attended)
    hidden = layer_normalization(graph, layer.mlp_norm, token)
    return token + dense(graph, layer.contract, dense(graph, layer.expand, hidden))


def attend_cached(graph, layer, query, key, value):
    """Attend to the lines so far: caches of keys and values `(heads, window, size)`."""
    heads, size, window = layer.num_heads, layer.size, layer.window
    count, _ = graph.count_lines()
    waves = graph.turn(count, layer.frequencies)

    def cached(value, name):
        shape = (heads, window, size)
        before = graph.cache(f"{layer.name}_{name}", shape)
        before = graph.add("Slice", before, [1], [window], [1])
        window_of = graph.add("Concat", before, value, axis=1)
        graph.keep(window_of, f"{layer.name}_{name}")
        return window_of

    query, key, value = (
        graph.add("Reshape", part, [heads, 1, size]) for part in (query, key, value)
    )
    keys = cached(rotated(graph, key, *waves), "keys")
    values = cached(value, "values")
    query = rotated(graph, query, *waves) * size**-0.5
    query = graph.add("Reshape", query, [heads, size, 1])
    scores = graph.add("MatMul", keys, query)  # heads, window, 1
    age = np.arange(window, dtype=np.float32)[::-1].reshape(1, window, 1)
    recorded = graph.add("LessOrEqual", age, count)  # masks what is before the first line
    shares = graph.add("Softmax", graph.add("Where", recorded, scores, -1e9), axis=1)
    shares = graph.add("Reshape", shares, [heads, 1, window])
    return graph.add("Reshape", graph.add("MatMul", shares, values), [1, heads * size])


def rotated(graph, value, cosine, sine):
    """Turn keys or queries `(..., size)` with their line: scores depend on the distance."""
    left, right = graph.add("Split", value, count=2, axis=-1, num_outputs=2)
    turned = left * cosine - right * sine, right * cosine + left * sine
    return graph.add("Concat", *turned, axis=-1)


def running_spectra(graph, layer, line):
    """`RunningSpectra`: caches of waves `(lag, 2 * bins)` and a sum."""
    from stm_keras.layers.spectra import EPSILON

    bins, lags = layer.bins, layer.lags
    waves = graph.add("MatMul", _unit_line(graph, line)[0], layer.waves)
    # cross spectra of this line with those `lags` lines before: (lags, 2 * bins)
    earlier = graph.earlier(waves, lags, f"{layer.name}_waves", 2 * bins)
    parts = [bins, bins]
    real, imaginary = graph.add("Split", graph.beside(waves), parts, count=2, axis=-1)
    other_real, other_imaginary = graph.add("Split", earlier, parts, count=2, axis=-1)

    along = real * other_real + imaginary * other_imaginary
    across = imaginary * other_real - real * other_imaginary
    cross = graph.add("Concat", along, across, axis=-1)
    cross = graph.joined(cross, 2 * bins * len(lags))
    power = graph.joined(real * real + imaginary * imaginary, bins)
    both = graph.add("Concat", power, cross, axis=-1)
    width = bins * (1 + 2 * len(lags))
    mean = graph.running_sum(both, layer.name, width) / graph.count_lines()[1]
    power, cross = graph.add("Split", mean, [bins, width - bins], count=2, axis=-1)
    power = power + EPSILON
    scale = graph.add("Concat", *[power] * (2 * len(lags)), axis=-1)
    return graph.add("Concat", graph.add("Log", power), cross / scale, axis=-1)


def running_statistics(graph, layer, line):
    """`RunningStatistics`: caches of the line before and a sum."""
    from stm_keras.layers import statistics as own

    name, bands = layer.name, layer.bands.shape[1]
    before = graph.previous(line, f"{name}_line", layer.input.shape[-1])

    def mean(values):
        return graph.add("ReduceMean", values, [-1], keepdims=1)

    def halves(values):
        return graph.add("Split", values, count=2, axis=0, num_outputs=2)

    both = graph.add("Concat", line, before, axis=0)
    largest, other = halves(graph.add("Clip", both, -own.LIMIT, own.LIMIT))
    difference = largest - other
    now, then = halves(graph.add("Clip", both, -own.CLIP, own.CLIP))
    sizes = [mean(each * each) for each in (largest, difference)]
    sizes = graph.add("Log", graph.add("Concat", *sizes, axis=-1) + own.TINY)
    squares = graph.add("Sqrt", mean(now * now) * mean(then * then) + own.TINY**2)
    numbers = graph.add("Concat", sizes, mean(now * then) / squares, axis=-1)

    # how far a height x slides from an edge to the next is, from 0 to 1 and before the mean,
    # 1 + (max(x, edge) - max(x, next)) / (next - edge): an array of all edges in two nodes
    edges = np.asarray(own.HEIGHTS, np.float32)
    heights = graph.add("Clip", line, float(edges[0]), float(edges[-1]))
    heights = graph.add("Max", graph.add("Unsqueeze", heights, [-2]), edges[:, None])
    heights = graph.add("ReduceMean", heights, [-1], keepdims=0)  # (1, edges)
    beside = np.eye(len(edges), dtype=np.float32)
    heights = graph.add("MatMul", heights, beside[:, :-1] - beside[:, 1:])
    heights = heights * layer.heights[1] + 1.0
    slides = graph.affine(numbers, layer.slides, layer.shifts)
    slides = graph.add("Clip", slides, 0.0, 1.0)
    waves = graph.add("MatMul", now, layer.waves)
    power = graph.add("MatMul", waves * waves, layer.bands)
    features = graph.add("Concat", heights, slides, numbers, power, axis=-1)

    means = graph.running_sum(features, name, layer.size) / graph.count_lines()[1]
    parts = [layer.size - bands, bands]
    rest, power = graph.add("Split", means, parts, count=2, axis=-1)
    return graph.add("Concat", rest, graph.add("Log", power + own.TINY), axis=-1)


def boosted_trees(graph, layer, features):
    """`BoostedTrees`: splits level by level, each half of a level the other's sibling.

    Features and splits lie in rows here, so that all lines take a split side by side.
    """
    from stm_keras.layers import boosted as own

    features = graph.columns(features)  # (features, 1)
    count, trees = layer.input.shape[-1], layer.trees
    scaled = features * weights(layer.scale)[:, None]
    right = graph.pick(scaled, weights(layer.feature))
    right = graph.add("Clip", right - (weights(layer.threshold) - 0.5)[:, None], 0.0, 1.0)
    levels = [2**depth * trees for depth in range(own.DEPTH)]
    shares = graph.add("Split", right, levels, count=own.DEPTH, axis=0)
    low, high = np.split(weights(layer.leaves)[:, None], 2)
    rise = high - low
    for depth in reversed(range(own.DEPTH)):
        value = shares[depth] * rise + low
        if depth:
            half = [levels[depth - 1]] * 2
            low, high = graph.add("Split", value, half, count=2, axis=0)
            rise = high - low
    stages = len(layer.stages)
    value = graph.add("Reshape", value, [stages, layer.rounds, layer.classes, -1])
    value = graph.add("ReduceSum", value, [1], keepdims=0)
    value = value + weights(layer.start)[..., None]  # stages, classes, 1

    # how much each stage counts after so many lines, whose logarithm is the last feature
    lines = graph.add("Slice", features, [count - 1], [count], [0])
    slopes = own.stage_slopes(layer.stages)
    rise, begin, fall, end = (each[:, None, None] for each in slopes)
    parts = graph.add("Min", lines * rise + begin, lines * fall + end)
    parts = graph.add("Clip", parts, 0.0, 1.0)
    value = graph.add("ReduceSum", parts * value, [0], keepdims=0)
    return graph.rows(value, layer.classes)


def weights(variable):
    """Return a variable as a float32 array."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable), np.float32)


def activate(graph, layer, value):
    """`Activation`, or that of another layer."""
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in ACTIVATIONS:
        raise MismatchError(
            f"ONNX: the activation {name} of {layer.name} is not known. "
            f"Known: {', '.join(ACTIVATIONS)}. Export to .keras instead."
        )
    kind = ACTIVATIONS[name]
    return value if kind is None else graph.add(kind, value)


def _unit_line(graph, line):
    """Scale a line `(1, pixels)` to mean square 1; return it and its scale `(1, 1)`.

    A line that was not recorded stays 0 and has scale 1.
    """
    square = graph.add("ReduceMean", line * line, [-1], keepdims=1)
    recorded = graph.add("Greater", square, 1e-10)
    scale = graph.add("Sqrt", graph.add("Where", recorded, square, 1.0))
    return graph.add("Where", recorded, line / scale, 0.0), scale


LAYERS = {
    "Activation": activate,
    "Add": add,
    "BatchNormalization": batch_normalization,
    "BoostedTrees": boosted_trees,
    "CausalBlock": causal_block,
    "CausalConv": causal_conv,
    "Concatenate": concatenate,
    "Dense": dense,
    "Dropout": dropout,
    "LastFeatures": last_features,
    "LayerNormalization": layer_normalization,
    "LineChannels": line_channels,
    "LineSummary": line_summary,
    "LineWindow": line_window,
    "ReLU": relu,
    "Recurrent": recurrent,
    "RunningLattice": running_lattice,
    "RunningMean": running_mean,
    "RunningSpectra": running_spectra,
    "RunningStatistics": running_statistics,
}
