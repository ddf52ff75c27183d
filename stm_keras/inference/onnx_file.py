"""Look through an .onnx file before onnxruntime, which is C, sees it.

An .onnx file is a protobuf message, and an install that only judges has no package to read
it, so its wire format is read here: numbered fields, each a number or some bytes. Only such
nodes may be in it as networks of stm-keras are exported to, and no file that it would have
onnxruntime open.
"""

import re
from collections.abc import Iterator
from math import prod

MOST_BYTES = 1 << 30
MOST_VALUES = 1 << 24  # of all inputs and outputs, for one scan
LIMITS = {11: MOST_VALUES, 12: MOST_VALUES, 13: 1 << 28}  # of an input, output, in between
MOST_NODES = 200_000  # what unrolls a recurrent network of 128 lines has 20,000
DEEPEST = 4  # graphs in one another
NUMBER, BYTES = 0, 2  # wire types; the others are numbers of a fixed size
FIXED = {1: 8, 5: 4}
BODIES = ("Loop", "Scan", "If")  # nodes that hold a graph: of whole scans alone
SHAPED = ("Expand", "Range", "Reshape", "Slice", "Split", "Tile", "ConstantOfShape")
SHAPED += ("Pad", "Resize", "Squeeze", "Unsqueeze", "Trilu")  # sized by their inputs
CHEAP = ("Cast", "Constant", "DequantizeLinear", "Identity", "Reshape", "Squeeze")
CHEAP += ("Transpose", "Unsqueeze")  # whose result is not larger than what goes in
MOST_FOLDED = 1 << 32  # bytes that onnxruntime may compute while it loads a file
NODES = frozenset(  # what networks become, ours and plain ones of Keras, by any backend
    re.findall(
        r"\w+",
        """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Celu Clip
    Concat Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos CumSum DequantizeLinear
    Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor GRU Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
    GroupNormalization HardSigmoid HardSwish Identity If InstanceNormalization IsInf IsNaN
    LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop MatMul
    MatMulInteger Max MaxPool Mean Min Mish Mod Mul Neg Not Or PRelu Pad Pow QuantizeLinear
    RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence Round Scan Selu
    SequenceAt Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign Split
    SplitToSequence Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile Transpose Trilu
    Unsqueeze Where Xor
    """,
    )
)


class Refused(ValueError):
    """The file is damaged, or has a part that no export of stm-keras has; in few words."""


class Network:
    """What an .onnx file holds, as far as it must be known before it is loaded.

    Args:
        data: bytes of the file.

    Attributes:
        metadata: dict of str to bytes.
        inputs, outputs: lists of str, of the graph.
        foldable: bool. Whether what depends on weights alone takes little to compute.

    Raises:
        Refused: It is not an .onnx file, or is not to be loaded.
    """

    def __init__(self, data: bytes):
        if len(data) > MOST_BYTES:
            raise Refused(f"more than {MOST_BYTES >> 30} GiB")
        self.metadata, self.inputs, self.outputs = {}, [], []
        self._nodes = self._folds = self._weights = 0
        self.foldable, self._step = True, True
        graphs = []
        for number, value in fields(memoryview(data)):
            if number == 7:
                graphs.append(value)
            elif number == 14:
                entry = dict(fields(value))
                self.metadata[_text(entry.get(1, b""))] = _bytes(entry.get(2, b""))
            elif number in (20, 25):
                raise Refused("a training graph, or functions of its own")
        if len(graphs) != 1:
            raise Refused("no graph, or more than one")
        self._graph(graphs[0], 0, set())
        self.foldable &= self._folds * self._weights < MOST_FOLDED

    def _graph(self, data, depth, outside):
        if depth > DEEPEST:
            raise Refused("graphs nested too deeply")
        nodes, constant, inputs, outputs = [], set(outside), [], []
        for number, value in fields(data):
            if number == 1:
                nodes.append(value)
            elif number == 5:
                constant.add(self._tensor(value))
            elif number in (11, 12):
                names = inputs if number == 11 else outputs
                names.append(_bytes(dict(fields(value)).get(1, b"")))
            elif number == 15:
                raise Refused("sparse weights")
            if number in LIMITS and _declared_size(value) > LIMITS[number]:
                raise Refused("an array of more numbers than a network of stm-keras has")
        self._nodes += len(nodes)
        if self._nodes > MOST_NODES:
            raise Refused(f"more than {MOST_NODES} nodes")
        if depth == 0:
            self.inputs, self.outputs = [*map(_text, inputs)], [*map(_text, outputs)]
            self._step = inputs[:1] == [b"line"]
        if not constant.isdisjoint(inputs):
            raise Refused("weights that are inputs as well")
        for each in nodes:
            self._node(each, constant, depth)

    def _node(self, data, constant, depth):
        inputs, outputs, attributes, kind = [], [], [], ""
        for number, value in fields(data):
            if number == 1:
                inputs.append(_bytes(value))
            elif number == 2:
                outputs.append(_bytes(value))
            elif number == 4:
                kind = _text(value)
            elif number == 5:
                attributes.append(value)
            elif number == 7 and _text(value) not in ("", "ai.onnx"):
                raise Refused(f"a node of another standard, {_text(value)!r}")
        if kind not in NODES:
            raise Refused(f"a node {kind[:40]!r}, which no network of stm-keras has")
        for each in attributes:
            self._attribute(each, kind, depth, constant)
        sizes = [
            name for name in inputs[kind not in ("Range", "ConstantOfShape") :] if name
        ]
        if self._step and kind in SHAPED and not constant.issuperset(sizes):
            raise Refused(f"a node {kind!r} whose size depends on the scan")
        if kind not in BODIES and constant.issuperset(name for name in inputs if name):
            constant.update(outputs)
            self._folds += kind != "Constant"
            self.foldable &= kind in CHEAP

    def _attribute(self, data, kind, depth, constant):
        for number, value in fields(data):
            if number in (5, 10):
                self._tensor(value)
            elif number in (6, 11):
                if self._step or kind not in BODIES:
                    raise Refused(f"a graph inside a node {kind!r}")
                self._graph(value, depth + 1, constant)
            elif number in (22, 23):
                raise Refused("sparse weights")

    def _tensor(self, data):
        """Look through an array and return its name, bytes."""
        name, shape = b"", []
        for number, value in fields(data):
            if number == 8:
                name = _bytes(value)
            elif number == 1:
                shape += [value] if isinstance(value, int) else _numbers(value)
            elif number == 13 or (number == 14 and value):
                raise Refused("weights in another file")
        if any(each < 0 for each in shape) or prod(shape) > 2 * len(data):
            raise Refused("an array that is larger than its file")
        self._weights += len(data)
        return name


def fields(data: memoryview) -> Iterator[tuple]:
    """Yield the fields of a protobuf message: number, and value (int, or memoryview)."""
    if isinstance(data, int):
        raise Refused("damaged: a number in place of a part")
    offset, end = 0, len(data)
    try:
        while offset < end:
            key = data[offset]
            offset += 1
            if key > 127:
                key, offset = _varint(data, offset - 1)
            kind = key & 7
            if kind in (NUMBER, BYTES):
                value = data[offset]
                offset += 1
                if value > 127:
                    value, offset = _varint(data, offset - 1)
                if kind == BYTES:
                    start, offset = offset, offset + value
                    value = data[start:offset]
            else:
                start, offset = offset, offset + FIXED[kind]
                value = data[start:offset]
            if offset > end:
                raise Refused("damaged, or cut short")
            yield key >> 3, value
    except (IndexError, KeyError):
        raise Refused("damaged, or cut short") from None


def _declared_size(data):
    """Return how many numbers an input, an output or what is between them has at least."""
    count = 1
    for step in (2, 1, 2):  # its type, which is that of a tensor, which has a shape
        data = next((value for number, value in fields(data) if number == step), b"")
    for number, value in fields(data):
        if number == 1:  # of its sizes, one that is a number, not a name
            count *= dict(fields(value)).get(1, 1)
    return count


def _varint(data, offset):
    value = 0
    for shift in range(0, 70, 7):
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, offset
    raise Refused("damaged, or cut short")


def _numbers(data):
    numbers, offset = [], 0
    while offset < len(data):
        value, offset = _varint(data, offset)
        numbers.append(value)
    return numbers


def _bytes(value):
    if isinstance(value, int):
        raise Refused("damaged: a number in place of a name")
    return bytes(value)


def _text(value):
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError:
        raise Refused("damaged: a name that is not text") from None
