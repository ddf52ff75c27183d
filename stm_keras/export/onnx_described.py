"""`RunningStatistics` and `BoostedTrees` as ONNX nodes: see `onnx_layers`."""

import numpy as np


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
    from stm_keras.export.onnx_layers import weights
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
