"""One line at a time: the step of a model that answers after every line."""

import keras

from stm_keras import layers as own
from stm_keras.errors import MismatchError

LINE_BY_LINE = (  # layers that act on each line alone
    own.BoostedTrees,
    own.LastFeatures,
    own.LineChannels,
    own.LineSummary,
    keras.layers.Activation,
    keras.layers.Add,
    keras.layers.BatchNormalization,
    keras.layers.Concatenate,
    keras.layers.Dense,
    keras.layers.Dropout,
    keras.layers.LayerNormalization,
    keras.layers.ReLU,
)


def make_step(model):
    """Build the network that takes one line and a cache, from one that takes whole scans.

    The weights are the model's own. The cache is what the layers that look back keep of
    earlier lines; its size is the same at every line, so time and memory are too.

    Returns:
        A functional `keras.Model` from a list of line `(batch, 1, pixels)` and the arrays
        of the cache to a dict: logits of each head `(batch, outputs)`, and "cache", the
        list of arrays for the next line. The first is `first_cache`.

    Raises:
        MismatchError: A layer needs more than the line and a cache.
    """
    line = keras.Input((1, model.input_shape[2]), name="line", dtype="float32")
    entries, leaving = [line], []
    known = {id(model.inputs[0]): line}
    for layer in chain(model):
        given = keras.tree.map_structure(lambda tensor: known[id(tensor)], layer.input)
        if hasattr(layer, "step"):
            cache = [
                keras.Input(shape, name=f"{layer.name}_{index}", dtype="float32")
                for index, shape in enumerate(layer.cache_shapes(layer.input.shape))
            ]
            out, *following = _Step(layer, name=layer.name)([given, *cache])
            entries += cache
            leaving += following
        else:
            out = layer(given)
        known[id(layer.output)] = out
    heads = {name: known[id(tensor)][:, 0] for name, tensor in model.output.items()}
    return keras.Model(entries, {**heads, "cache": leaving}, name=f"{model.name}_step")


class _Step(keras.layers.Layer):
    """The `step` of a layer as a layer, whose parts keep their names to themselves."""

    def __init__(self, layer, **kwargs):
        super().__init__(dtype=layer.dtype_policy, **kwargs)
        self.layer = layer
        self.built = True

    def call(self, inputs):
        out, cache = self.layer.step(inputs[0], inputs[1:])
        return [out, *cache]


def first_cache(step, batch=1):
    """Return the cache of a `make_step` model before the first line: float32 tensors of 0.

    `batch` is how many scans are followed side by side.
    """
    return [
        keras.ops.zeros((batch, *each.shape[1:]), "float32") for each in step.inputs[1:]
    ]


def chain(model):
    """List the layers of a model in the order of computing, if each can stream."""
    advice = "Take a model that answers after every line, such as `sequential`."
    name = getattr(model, "name", type(model).__name__)
    if not isinstance(getattr(model, "output", None), dict):
        raise MismatchError(f"The model ({name}) judges whole scans. {advice}")
    layers = []
    for part in model.operations:
        if isinstance(part, keras.layers.InputLayer):
            continue
        if not _streams(part):
            raise MismatchError(
                f"The model ({name}) cannot go line by line: {part.name} "
                f"({type(part).__name__}) sees several lines at once. {advice}"
            )
        layers.append(part)
    return layers


def _streams(part):
    if hasattr(part, "step") and hasattr(part, "cache_shapes"):
        return True
    if not isinstance(part, LINE_BY_LINE):
        return False
    axis = getattr(part, "axis", -1)
    rank = len(part.output.shape)
    axes = axis if isinstance(axis, (list, tuple)) else [axis]
    return all(each in (-1, rank - 1) for each in axes)
