"""How each layer of a streaming model is written as ONNX nodes: see `onnx_graph`."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.export.onnx_lattice import last_features, running_lattice

ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "linear": None}


def weights(variable):
    """Return a variable as a float32 array."""
    from keras import ops

    return np.asarray(ops.convert_to_numpy(variable), np.float32)


def activate(graph, layer, value):
    """Write the activation of a layer."""
    name = getattr(layer.activation, "__name__", str(layer.activation))
    if name not in ACTIVATIONS:
        raise MismatchError(
            f"ONNX: the activation {name} of {layer.name} is not known. "
            f"Known: {', '.join(ACTIVATIONS)}. Export to .keras instead."
        )
    kind = ACTIVATIONS[name]
    return value if kind is None else graph.add(kind, value)


def add(graph, layer, *values):
    """Sum of values."""
    return graph.add("Sum", *values)


def concatenate(graph, layer, *values):
    """Tokens side by side."""
    if len(layer.output.shape) != 3:
        raise MismatchError(f"ONNX: {layer.name} may join tokens only. Export to .keras.")
    return graph.add("Concat", *values, axis=1)


def same(graph, layer, value):
    """Dropout, which does nothing here."""
    return value


def activation(graph, layer, value):
    """An activation of its own."""
    return activate(graph, layer, value)


def relu(graph, layer, value):
    """Keras' ReLU, if it is a plain one."""
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise MismatchError(f"ONNX: {layer.name} is no plain ReLU. Export to .keras.")
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


def _scale(graph, line):
    """Root mean square of a line `(1, pixels)`, 1 where it is empty, and whether it is."""
    square = graph.add("ReduceMean", graph.add("Mul", line, line), [1], keepdims=1)
    there = graph.add("Greater", square, 1e-10)
    return graph.add("Sqrt", graph.add("Where", there, square, 1.0)), there


def line_channels(graph, layer, line):
    """`LineChannels`: `(1, pixels)` to `(1, 3, pixels)`."""
    pixels = layer.input.shape[-1]
    scale, there = _scale(graph, line)
    shape = graph.add("Where", there, graph.add("Div", line, scale), 0.0)
    height = graph.add("Clip", line, -layer.limit, layer.limit)
    size = graph.add("Clip", graph.add("Log", scale), -3.0, 3.0)
    size = graph.add("Expand", size, [1, pixels])
    channels = graph.add("Concat", shape, height, size, axis=0)
    return graph.add("Unsqueeze", channels, [0])


def causal_conv(graph, layer, value):
    """`CausalConv`: cache `(lag, channels, pixels)`."""
    _, _, pixels, channels = layer.input.shape
    lag, seen = layer.lag, value
    if lag:
        shape = (lag, channels, pixels)
        before = graph.cache(layer.name, shape)
        seen = graph.add("Concat", before, value, axis=0)
        following = graph.add("Slice", seen, [1], [lag + 1], [0])
        graph.keep(following, layer.name)
    if layer.taps > 1:
        places = [tap * layer.dilation for tap in range(layer.taps)]
        seen = graph.add("Gather", seen, places, axis=0)
        seen = graph.add("Reshape", seen, [1, layer.taps * channels, pixels])
    kernel = weights(layer.convolution.kernel).transpose(2, 1, 0)
    width = layer.kernel + (-(-pixels // layer.stride) - 1) * layer.stride
    missing = max(width - pixels, 0)
    return graph.add(
        "Conv",
        seen,
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
    dim = layer.input.shape[-1]
    total, count = _count_up(graph, layer.name, token, dim)
    return graph.add("Div", total, count)


def _count_up(graph, name, value, size):
    """Add a value to a running sum; return it and the number of lines."""
    total = graph.add("Add", graph.cache(f"{name}_total", (1, size)), value)
    graph.keep(total, f"{name}_total")
    return total, graph.counted()[1]


def line_window(graph, layer, token):
    """`LineWindow`: cache of the tokens before, `(window - 1, dim)`."""
    window, dim = layer.window, layer.input.shape[-1]
    before = graph.cache(layer.name, (window - 1, dim))
    seen = graph.add("Concat", before, token, axis=0)
    graph.keep(graph.add("Slice", seen, [1], [window], [0]), layer.name)
    return graph.add("Reshape", seen, [1, window * dim])


def recurrent(graph, layer, token):
    """`Recurrent`: cache `(1, units)`. Gates are in the order update, reset, candidate."""
    cell, units = layer.gru.cell, layer.units
    state = graph.cache(layer.name, (1, units))
    bias = weights(cell.bias)
    given = graph.add("Gemm", token, weights(cell.kernel), bias[0])
    kept = graph.add("Gemm", state, weights(cell.recurrent_kernel), bias[1])
    parts = [2 * units, units]
    given_gates, given_new = graph.add("Split", given, parts, count=2, axis=1)
    kept_gates, kept_new = graph.add("Split", kept, parts, count=2, axis=1)
    gates = graph.add("Sigmoid", graph.add("Add", given_gates, kept_gates))
    update, reset = graph.add("Split", gates, [units, units], count=2, axis=1)
    new = graph.add("Add", given_new, graph.add("Mul", reset, kept_new))
    new = graph.add("Tanh", new)
    change = graph.add("Mul", update, graph.add("Sub", state, new))
    state = graph.add("Add", new, change)
    graph.keep(state, layer.name)
    return state


def causal_block(graph, layer, token):
    """`CausalBlock`: caches of keys and values `(heads, window, size)`."""
    heads, size, window = layer.num_heads, layer.size, layer.window
    dim = heads * size
    count, _ = graph.counted()
    angles = graph.add("Mul", count, layer.frequencies[None])
    cosine, sine = graph.add("Cos", angles), graph.add("Sin", angles)

    def rotated(value):
        left, right = graph.add("Split", value, [size // 2] * 2, count=2, axis=2)
        turned = (
            graph.add(kind, graph.add("Mul", a, cosine), graph.add("Mul", b, sine))
            for kind, a, b in (("Sub", left, right), ("Add", right, left))
        )
        return graph.add("Concat", *turned, axis=2)

    def remembered(value, name):
        shape = (heads, window, size)
        before = graph.cache(f"{layer.name}_{name}", shape)
        before = graph.add("Slice", before, [1], [window], [1])
        seen = graph.add("Concat", before, value, axis=1)
        graph.keep(seen, f"{layer.name}_{name}")
        return seen

    looked = layer_normalization(graph, layer.attention_norm, token)
    query, key, value = (
        graph.add("Reshape", dense(graph, part, looked), [heads, 1, size])
        for part in (layer.queries, layer.keys, layer.values)
    )
    keys = remembered(rotated(key), "keys")
    values = remembered(value, "values")
    query = graph.add("Mul", rotated(query), size**-0.5)
    query = graph.add("Reshape", query, [heads, size, 1])
    scores = graph.add("MatMul", keys, query)  # heads, window, 1
    age = np.arange(window, dtype=np.float32)[::-1].reshape(1, window, 1)
    there = graph.add("LessOrEqual", age, count)
    shares = graph.add("Softmax", graph.add("Where", there, scores, -1e9), axis=1)
    shares = graph.add("Reshape", shares, [heads, 1, window])
    looked = graph.add("Reshape", graph.add("MatMul", shares, values), [1, dim])
    token = graph.add("Add", token, dense(graph, layer.merge, looked))
    thought = layer_normalization(graph, layer.mlp_norm, token)
    thought = dense(graph, layer.contract, dense(graph, layer.expand, thought))
    return graph.add("Add", token, thought)


def running_spectra(graph, layer, line):
    """`RunningSpectra`: caches of waves `(lag, 2 * bins)` and a sum."""
    from stm_keras.layers.spectra import EPSILON

    bins, lags, lag = layer.bins, layer.lags, max(layer.lags)
    scale, there = _scale(graph, line)
    shape = graph.add("Where", there, graph.add("Div", line, scale), 0.0)
    waves = graph.add("MatMul", shape, layer.waves)
    before = graph.cache(f"{layer.name}_waves", (lag, 2 * bins))
    seen = graph.add("Concat", before, waves, axis=0)
    graph.keep(graph.add("Slice", seen, [1], [lag + 1], [0]), f"{layer.name}_waves")
    others = graph.add("Gather", before, [lag - each for each in lags], axis=0)
    real, imaginary = graph.add("Split", waves, [bins, bins], count=2, axis=1)
    other_real, other_imaginary = graph.add("Split", others, [bins] * 2, count=2, axis=1)

    def products(kind, a, b, c, d):
        return graph.add(kind, graph.add("Mul", a, b), graph.add("Mul", c, d))

    power = products("Add", real, real, imaginary, imaginary)
    along = products("Add", real, other_real, imaginary, other_imaginary)
    across = products("Sub", imaginary, other_real, real, other_imaginary)
    cross = graph.add("Concat", along, across, axis=1)  # lags, 2 * bins
    cross = graph.add("Reshape", cross, [1, 2 * bins * len(lags)])
    both = graph.add("Concat", power, cross, axis=1)
    width = bins * (1 + 2 * len(lags))
    total, count = _count_up(graph, layer.name, both, width)
    mean = graph.add("Div", total, count)
    power, cross = graph.add("Split", mean, [bins, width - bins], count=2, axis=1)
    power = graph.add("Add", power, EPSILON)
    scale = graph.add("Tile", power, [1, 2 * len(lags)])
    return graph.add(
        "Concat", graph.add("Log", power), graph.add("Div", cross, scale), axis=1
    )


def running_statistics(graph, layer, line):
    """`RunningStatistics`: caches of the line before and a sum."""
    from stm_keras.layers import statistics as own

    pixels, name, bands = layer.input.shape[-1], layer.name, layer.bands.shape[1]
    before = graph.cache(f"{name}_line", (1, pixels))
    graph.keep(line, f"{name}_line")

    def mean(left, right):
        product = graph.add("Mul", left, right)
        return graph.add("ReduceMean", product, [1], keepdims=1)

    both = graph.add("Concat", line, before, axis=0)
    tall = graph.add("Clip", both, -own.LIMIT, own.LIMIT)
    largest, other = graph.add("Split", tall, [1, 1], count=2, axis=0)
    difference = graph.add("Sub", largest, other)
    flat = graph.add("Clip", both, -own.CLIP, own.CLIP)
    now, then = graph.add("Split", flat, [1, 1], count=2, axis=0)
    sizes = graph.add(
        "Concat", mean(largest, largest), mean(difference, difference), axis=1
    )
    sizes = graph.add("Log", graph.add("Add", sizes, own.TINY))
    squares = graph.add("Mul", mean(now, now), mean(then, then))
    squares = graph.add("Sqrt", graph.add("Add", squares, own.TINY**2))
    numbers = graph.add("Concat", sizes, graph.add("Div", mean(now, then), squares), axis=1)

    low, rise = layer.heights
    heights = graph.add("Mul", graph.add("Sub", line, low[:, None]), rise[:, None])
    heights = graph.add("Clip", heights, 0.0, 1.0)  # edges, pixels
    heights = graph.add("ReduceMean", heights, [1], keepdims=0)
    heights = graph.add("Reshape", heights, [1, -1])
    slides = graph.add("Gemm", numbers, layer.slides, layer.shifts)
    slides = graph.add("Clip", slides, 0.0, 1.0)
    waves = graph.add("MatMul", now, layer.waves)
    power = graph.add("MatMul", graph.add("Mul", waves, waves), layer.bands)
    told = graph.add("Concat", heights, slides, numbers, power, axis=1)

    total = graph.add("Add", graph.cache(f"{name}_total", (1, layer.size)), told)
    graph.keep(total, f"{name}_total")
    parts = [layer.size - bands, bands]
    means = graph.add("Div", total, graph.counted()[1])
    rest, power = graph.add("Split", means, parts, count=2, axis=1)
    power = graph.add("Log", graph.add("Add", power, own.TINY))
    return graph.add("Concat", rest, power, axis=1)


def boosted_trees(graph, layer, features):
    """`BoostedTrees`: splits level by level, each half of a level the other's sibling."""
    from stm_keras.layers import boosted as own

    count = layer.input.shape[-1]
    scaled = graph.add("Mul", features, weights(layer.scale)[None])
    where = graph.constant(weights(layer.feature)[None], np.int32)
    right = graph.add("GatherElements", scaled, where, axis=1)
    right = graph.add("Sub", right, (weights(layer.threshold) - 0.5)[None])
    right = graph.add("Clip", right, 0.0, 1.0)
    levels = [2**depth * layer.trees for depth in range(own.DEPTH)]
    shares = graph.add("Split", right, levels, count=own.DEPTH, axis=1)
    low, high = np.split(weights(layer.leaves)[None], 2, axis=1)
    rise = high - low
    for depth in reversed(range(own.DEPTH)):
        value = graph.add("Add", low, graph.add("Mul", shares[depth], rise))
        if depth:
            half = [levels[depth - 1]] * 2
            low, high = graph.add("Split", value, half, count=2, axis=1)
            rise = graph.add("Sub", high, low)
    stages = len(layer.stages)
    value = graph.add("Reshape", value, [stages, layer.rounds, layer.classes])
    value = graph.add("ReduceSum", value, [1], keepdims=0)
    value = graph.add("Add", value, weights(layer.start))  # stages, classes

    place = graph.add("Slice", features, [count - 1], [count], [1])
    rise, begin, fall, end = (each[None] for each in own.stage_slopes(layer.stages))
    sides = [
        graph.add("Add", graph.add("Mul", place, slope), start)
        for slope, start in ((rise, begin), (fall, end))
    ]
    parts = graph.add("Clip", graph.add("Min", *sides), 0.0, 1.0)
    return graph.add("MatMul", parts, value)


WRITERS = {
    "Activation": activation,
    "Add": add,
    "BatchNormalization": batch_normalization,
    "BoostedTrees": boosted_trees,
    "CausalBlock": causal_block,
    "CausalConv": causal_conv,
    "Concatenate": concatenate,
    "Dense": dense,
    "Dropout": same,
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
