"""Each layer of a streaming model as ONNX nodes, for one line: see `onnx_graph`.

A layer is one function here and one entry in `LAYERS`: `(graph, layer, *inputs)` adds the nodes
of the layer's `step` and returns the name of its output.
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
    return graph.add("Concat", *values, axis=1)


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
    parts = [kernel] if bias is None else [kernel, bias]
    return activate(graph, layer, graph.add("Gemm", value, *parts))


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
    size = graph.add("Expand", size, [1, pixels])
    channels = graph.add("Concat", shape, height, size, axis=0)
    return graph.add("Unsqueeze", channels, [0])


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
    # "same" padding, as Keras has it: the odd pixel at the end
    width = layer.kernel + (-(-pixels // layer.stride) - 1) * layer.stride
    missing = max(width - pixels, 0)
    return graph.add(
        "Conv",
        lines,
        kernel,
        strides=[layer.stride],
        pads=[missing // 2, missing - missing // 2],
    )


def line_summary(graph, layer, value):
    """`LineSummary`: `(1, channels, pixels)` to `(1, 2 * channels)`."""
    mean = graph.add("ReduceMean", value, [2], keepdims=0)
    largest = graph.add("ReduceMax", value, [2], keepdims=0)
    return graph.add("Concat", mean, largest, axis=1)


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


def causal_block(graph, layer, token):
    """`CausalBlock`: caches of keys and values `(heads, window, size)`."""
    heads, size, window = layer.num_heads, layer.size, layer.window
    dim = heads * size
    count, _ = graph.count_lines()
    # rotary positions: keys turn with their line, so scores depend on the distance
    angles = count * layer.frequencies[None]
    cosine, sine = graph.add("Cos", angles), graph.add("Sin", angles)

    def rotated(value):
        left, right = graph.add("Split", value, [size // 2] * 2, count=2, axis=2)
        turned = left * cosine - right * sine, right * cosine + left * sine
        return graph.add("Concat", *turned, axis=2)

    def cached(value, name):
        shape = (heads, window, size)
        before = graph.cache(f"{layer.name}_{name}", shape)
        before = graph.add("Slice", before, [1], [window], [1])
        window_of = graph.add("Concat", before, value, axis=1)
        graph.keep(window_of, f"{layer.name}_{name}")
        return window_of

    normed = layer_normalization(graph, layer.attention_norm, token)
    query, key, value = (
        graph.add("Reshape", dense(graph, part, normed), [heads, 1, size])
        for part in (layer.queries, layer.keys, layer.values)
    )
    keys = cached(rotated(key), "keys")
    values = cached(value, "values")
    query = graph.add("Reshape", rotated(query) * size**-0.5, [heads, size, 1])
    scores = graph.add("MatMul", keys, query)  # heads, window, 1
    age = np.arange(window, dtype=np.float32)[::-1].reshape(1, window, 1)
    recorded = graph.add("LessOrEqual", age, count)  # masks what is before the first line
    shares = graph.add("Softmax", graph.add("Where", recorded, scores, -1e9), axis=1)
    shares = graph.add("Reshape", shares, [heads, 1, window])
    attended = graph.add("Reshape", graph.add("MatMul", shares, values), [1, dim])
    token = token + dense(graph, layer.merge, attended)
    hidden = layer_normalization(graph, layer.mlp_norm, token)
    return token + dense(graph, layer.contract, dense(graph, layer.expand, hidden))


def running_spectra(graph, layer, line):
    """`RunningSpectra`: caches of waves `(lag, 2 * bins)` and a sum."""
    from stm_keras.layers.spectra import EPSILON

    bins, lags, lag = layer.bins, layer.lags, max(layer.lags)
    waves = graph.add("MatMul", _unit_line(graph, line)[0], layer.waves)
    before = graph.cache(f"{layer.name}_waves", (lag, 2 * bins))
    lines = graph.add("Concat", before, waves, axis=0)
    graph.keep(graph.add("Slice", lines, [1], [lag + 1], [0]), f"{layer.name}_waves")
    # cross spectra of this line with those `lags` lines before: (lags, 2 * bins)
    earlier = graph.add("Gather", before, [lag - each for each in lags], axis=0)
    real, imaginary = graph.add("Split", waves, [bins, bins], count=2, axis=1)
    other_real, other_imaginary = graph.add("Split", earlier, [bins] * 2, count=2, axis=1)

    along = real * other_real + imaginary * other_imaginary
    across = imaginary * other_real - real * other_imaginary
    cross = graph.add("Concat", along, across, axis=1)
    cross = graph.add("Reshape", cross, [1, 2 * bins * len(lags)])
    both = graph.add("Concat", real * real + imaginary * imaginary, cross, axis=1)
    width = bins * (1 + 2 * len(lags))
    mean = graph.running_sum(both, layer.name, width) / graph.count_lines()[1]
    power, cross = graph.add("Split", mean, [bins, width - bins], count=2, axis=1)
    power = power + EPSILON
    scale = graph.add("Tile", power, [1, 2 * len(lags)])
    return graph.add("Concat", graph.add("Log", power), cross / scale, axis=1)


def running_statistics(graph, layer, line):
    """`RunningStatistics`: caches of the line before and a sum."""
    from stm_keras.layers import statistics as own

    pixels, name, bands = layer.input.shape[-1], layer.name, layer.bands.shape[1]
    before = graph.cache(f"{name}_line", (1, pixels))
    graph.keep(line, f"{name}_line")

    def mean(values):
        return graph.add("ReduceMean", values, [1], keepdims=1)

    both = graph.add("Concat", line, before, axis=0)
    tall = graph.add("Clip", both, -own.LIMIT, own.LIMIT)
    largest, other = graph.add("Split", tall, [1, 1], count=2, axis=0)
    difference = largest - other
    flat = graph.add("Clip", both, -own.CLIP, own.CLIP)
    now, then = graph.add("Split", flat, [1, 1], count=2, axis=0)
    sizes = [mean(each * each) for each in (largest, difference)]
    sizes = graph.add("Log", graph.add("Concat", *sizes, axis=1) + own.TINY)
    squares = graph.add("Sqrt", mean(now * now) * mean(then * then) + own.TINY**2)
    numbers = graph.add("Concat", sizes, mean(now * then) / squares, axis=1)

    low, rise = layer.heights
    heights = (line - low[:, None]) * rise[:, None]
    heights = graph.add("Clip", heights, 0.0, 1.0)  # edges, pixels
    heights = graph.add("ReduceMean", heights, [1], keepdims=0)
    heights = graph.add("Reshape", heights, [1, -1])
    slides = graph.add("Gemm", numbers, layer.slides, layer.shifts)
    slides = graph.add("Clip", slides, 0.0, 1.0)
    waves = graph.add("MatMul", now, layer.waves)
    power = graph.add("MatMul", waves * waves, layer.bands)
    features = graph.add("Concat", heights, slides, numbers, power, axis=1)

    means = graph.running_sum(features, name, layer.size) / graph.count_lines()[1]
    parts = [layer.size - bands, bands]
    rest, power = graph.add("Split", means, parts, count=2, axis=1)
    return graph.add("Concat", rest, graph.add("Log", power + own.TINY), axis=1)


def boosted_trees(graph, layer, features):
    """`BoostedTrees`: splits level by level, each half of a level the other's sibling."""
    from stm_keras.layers import boosted as own

    count = layer.input.shape[-1]
    scaled = features * weights(layer.scale)[None]
    split_on = graph.constant(weights(layer.feature)[None], np.int32)
    right = graph.add("GatherElements", scaled, split_on, axis=1)
    right = graph.add("Clip", right - (weights(layer.threshold) - 0.5)[None], 0.0, 1.0)
    levels = [2**depth * layer.trees for depth in range(own.DEPTH)]
    shares = graph.add("Split", right, levels, count=own.DEPTH, axis=1)
    low, high = np.split(weights(layer.leaves)[None], 2, axis=1)
    rise = high - low
    for depth in reversed(range(own.DEPTH)):
        value = shares[depth] * rise + low
        if depth:
            half = [levels[depth - 1]] * 2
            low, high = graph.add("Split", value, half, count=2, axis=1)
            rise = high - low
    stages = len(layer.stages)
    value = graph.add("Reshape", value, [stages, layer.rounds, layer.classes])
    value = graph.add("ReduceSum", value, [1], keepdims=0)
    value = value + weights(layer.start)  # stages, classes

    # how much each stage counts after so many lines, whose logarithm is the last feature
    lines = graph.add("Slice", features, [count - 1], [count], [1])
    rise, begin, fall, end = (each[None] for each in own.stage_slopes(layer.stages))
    parts = graph.add("Min", lines * rise + begin, lines * fall + end)
    return graph.add("MatMul", graph.add("Clip", parts, 0.0, 1.0), value)


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
    square = graph.add("ReduceMean", line * line, [1], keepdims=1)
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
