"""Damage what lies inside of containers, and close them again as if nothing were wrong."""

import io
import json
import re
import struct
import warnings
import zipfile
import zlib

import h5py
import numpy as np

LARGE = 16 << 20  # bytes that an archive may unpack to
BOMB = 48 << 20  # bytes of zeros, which deflate to a thousandth
TEXTS = ("", "\0", "nan", "../../../etc/hostname", "x" * 70000, "\x1b[31m\u202e", "a\nb")
NUMBERS = (0, -1, 1, 0.5, 1e308, -1e308, 1e-320, 2**31, 2**63, -(2**70), 10**400)
NUMBERS += (float("nan"), float("inf"), True, None)
SHAPES = ((0,), (1,), (2**40,), (70000, 70000), (3, 0, 5), (2, 3, 4, 5), ())
TOML = (
    "nan",
    "-inf",
    "1e999",
    "-1",
    "0",
    "''",
    "[]",
    "{}",
    "true",
    "1979-05-27",
    "0x7fffffff",
)
TOML += (
    "9" * 5000,
    "[" * 5000,
    "'\\u0000'",
    '"\\u001b[2J"',
    "{a={b={c=1}}}",
    "[1,[2,[3]]]",
)
TOML += (
    "2147483648",
    "9223372036854775808",
    "1e-320",
    '"x"',
    "'../../x'",
    "[nan, inf, -1]",
)


def damaged(data: bytes, draw, mutate) -> bytes | None:
    """Return a copy with something wrong inside, or None where the format is not known.

    Args:
        data: bytes.
        draw: `random.Random`.
        mutate: function of bytes, `draw` and `other`: what damages the inside.
    """
    other = _packed if re.search(ZLIB, data) else _lines
    way = next((KNOWN[begin] for begin in KNOWN if data.startswith(begin)), other)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return way(data, draw, mutate)
    except Exception:  # damaged before: it cannot be opened any more
        return None


def _zip(data, draw, mutate):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(item.file_size for item in archive.infolist()) > LARGE:
            return None  # a bomb: it is damaged from outside
        members = [(item.filename, archive.read(item)) for item in archive.infolist()]
    number = draw.randrange(len(members))
    name, content = members[number]
    way = draw.randrange(12)
    if way < 8:
        members[number] = name, mutate(content, draw, draw.choice(members)[1])
    elif way == 8:
        del members[number]
    elif way == 9:
        members.append((name, mutate(content, draw)))
    elif way == 10:
        members[number] = draw.choice(TEXTS[1:]) + name, content
    elif draw.random() < 0.1:
        members[number] = name, content[:200] + bytes(BOMB)
    method = draw.choice(
        (zipfile.ZIP_DEFLATED,) * 8 + (zipfile.ZIP_STORED, zipfile.ZIP_BZIP2)
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as archive:
        for name, content in members:
            archive.writestr(name.replace("\0", "0"), content)
    packed = out.getvalue()
    if draw.random() < 0.05:  # a flag of its directory: encrypted, another method, sizes
        place = packed.rfind(b"PK\1\2") + draw.choice((8, 10, 20, 24))
        packed = packed[:place] + draw.randbytes(2) + packed[place + 2 :]
    return packed


def _hdf5(data, draw, mutate):
    memory = io.BytesIO(data)
    with h5py.File(memory, "r+") as file:
        names = []
        file.visit(names.append)
        name = draw.choice(names or ["/"])
        item, way = file[name], draw.randrange(9)
        owner = draw.choice((file, item))
        if way < 3:
            keys = [*owner.attrs, "bias", "classes", "version", "unit"]
            _set_attribute(owner, draw.choice(keys), draw)
        elif way == 3 and names:
            del file[name]
        elif way == 4:
            file[f"{name}-x"] = item  # a second name, maybe of a group that holds it
            link = draw.choice(
                (h5py.SoftLink("/nowhere"), h5py.ExternalLink("/etc/x", "/"))
            )
            file[f"{name}-y"] = link
        elif way == 5:
            file[name] if item is file else file["/"].move(name, f"moved {draw.random()}")
        elif isinstance(item, h5py.Dataset):
            _remake(file, name, item, draw, mutate)
    return memory.getvalue()


def _set_attribute(owner, key, draw):
    value = draw.choice(
        (*TEXTS, *NUMBERS[:-2], np.zeros(0), np.full((2, 3), np.nan), b"\xff")
    )
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        value = float("inf")
    owner.attrs[key] = value.replace("\0", "") if isinstance(value, str) else value


def _remake(file, name, item, draw, mutate):
    """Put another array in the place of one: other numbers, type, shape or storage."""
    values, kind = item[()], draw.randrange(5)
    attributes = dict(item.attrs)
    del file[name]
    if kind == 0:
        shape = draw.choice(SHAPES[1:5])
        chunks = tuple(min(n, 64) or 1 for n in shape)
        file.create_dataset(name, shape, draw.choice(("f8", "u1", "i4")), chunks=chunks)
    elif kind == 1:
        file[name] = draw.choice((*TEXTS[2:], np.nan, h5py.Empty("f8"), [b"a", b"b"]))
    elif kind == 2 and np.ndim(values):
        file[name] = np.moveaxis(values, 0, -1)[..., : draw.choice((1, 3, 1000))]
    elif kind == 3 and values.dtype.kind in "fiub":
        file[name] = values.astype(draw.choice(("f8", "i8", "u2", "c8", "S3", "f2", "?")))
    elif hasattr(values, "tobytes") and values.dtype.kind in "fiub":
        raw = mutate(values.tobytes(), draw)[: values.nbytes].ljust(values.nbytes, b"\0")
        file[name] = np.frombuffer(raw, values.dtype).reshape(values.shape)
    if name in file:
        file[name].attrs.update(attributes)


def _json(data, draw, mutate):
    value = json.loads(data)
    places = list(_places(value))
    if places:
        owner, key = draw.choice(places)
        way = draw.randrange(10)
        if way == 0:
            del owner[key]
        elif way == 1:
            other, place = draw.choice(places)
            owner[key] = json.loads(json.dumps(other[place]))
        elif way == 2:
            for _ in range(draw.choice((1, 50, 500))):
                owner[key] = [owner[key]]
        elif way == 3 and isinstance(owner[key], str | list):
            owner[key] = owner[key] * draw.choice((0, 2, 1000))
        elif way == 4 and type(owner[key]) in (int, float):
            owner[key] = draw.choice((owner[key] + 1, owner[key] - 1, -owner[key], 1e9))
        else:
            owner[key] = draw.choice((*TEXTS, *NUMBERS, [], {}, [[]], {"a": 1}))
    text = json.dumps(value)
    if draw.random() < 0.03:
        text = draw.choice(("[" * 100000, text[:-1] + ',"a":1,"a":2}', "1", '"x"', "[]"))
    return text.encode()


def _places(value):
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(each, dict | list):
            yield from _places(each)


def _png(data, draw, mutate):
    """Damage the content of one chunk; its length and its CRC are right again."""
    out, place, chunks = data[:8], 8, []
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind = data[place + 4 : place + 8]
        chunks.append([kind, data[place + 8 : place + 8 + length]])
        place += 12 + length
    chunk = draw.choice(chunks)
    if chunk[0] == b"IDAT" and draw.random() < 0.7:
        chunk[1] = zlib.compress(mutate(zlib.decompress(chunk[1]), draw), 1)
    else:
        chunk[1] = mutate(chunk[1], draw)
    if draw.random() < 0.1:
        chunks.insert(draw.randrange(len(chunks)), draw.choice(chunks))
    for kind, content in chunks:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        out += struct.pack(">I", len(content)) + kind + content + crc
    return out


def _packed(data, draw, mutate):
    """Damage what a zlib stream of a file holds, and mend the length that stands before."""
    starts = [at.start() for at in re.finditer(ZLIB, data)]
    start = draw.choice(starts)
    stream = zlib.decompressobj()
    content = stream.decompress(data[start:], BOMB)
    old = len(data) - start - len(stream.unused_data)
    new = zlib.compress(mutate(content, draw, deep=False), 1)
    head, tail = data[:start], data[start + old :]
    for order in "<>":
        if head.endswith(struct.pack(f"{order}I", old)):
            head = head[:-4] + struct.pack(f"{order}I", len(new))
    return head + new + tail


def _lines(data, draw, mutate):
    """Give another value to a key of a text such as TOML."""
    found = list(re.finditer(rb"(?m)^([\w.\"-]+ *= *)(.+)$", data[: 1 << 16]))
    if not found:
        return None
    one = draw.choice(found)
    value = draw.choice(TOML).encode()
    if draw.random() < 0.2:  # another key
        other = draw.choice(found)
        return data[: one.start()] + other.group(1) + one.group(2) + data[one.end() :]
    return data[: one.start(2)] + value + data[one.end() :]


def _onnx(data, draw, mutate):
    """Damage a network that onnx can read: nodes, attributes, shapes, what it says of itself."""
    import onnx

    model = onnx.load_from_string(data)
    graph, way = model.graph, draw.randrange(7)
    node = draw.choice(graph.node)
    if way == 0 and model.metadata_props:
        entry = draw.choice(model.metadata_props)
        changed = mutate(entry.value.encode(), draw)
        entry.value = changed.decode("utf-8", "replace")
    elif way == 1 and node.attribute:
        attribute = draw.choice(node.attribute)
        attribute.i = draw.choice((-1, 0, 2**31, 2**62, 7))
        if attribute.ints:
            attribute.ints[0] = draw.choice((-1, 0, 2**31, 3))
    elif way == 2:
        node.op_type = draw.choice(graph.node).op_type
    elif way == 3 and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(graph.node).output[0]
    elif way == 4:
        graph.node.remove(node)
    elif way == 5:
        weights = draw.choice(graph.initializer)
        if weights.dims and draw.random() < 0.5:
            weights.dims[0] = draw.choice((0, -1, 2**31, weights.dims[0] + 1))
        else:
            weights.raw_data = mutate(weights.raw_data, draw, deep=False)
    else:
        shape = draw.choice([*graph.input, *graph.output]).type.tensor_type.shape
        draw.choice(shape.dim).dim_value = draw.choice((0, -1, 1, 2**31, 77))
    return model.SerializeToString()


ZLIB = b"\x78[\x01\x5e\x9c\xda]"
KNOWN = {b"PK": _zip, b"\x89HDF": _hdf5, b"\x89PNG": _png, b"{": _json, b"[{": _json}
KNOWN |= {b"\x08\x07": _onnx, b"\x08\x08": _onnx, b"\x08\x09": _onnx, b"\x08\x0a": _onnx}
