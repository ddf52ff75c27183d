"""Open HDF5 files in memory, and take only arrays whose data are really in them.

HDF5 is a library in C that crashes, or goes on without end, over single wrong bytes: heaps of
texts, types and lists of names are looked at before it reads them, see `hdf5_parts` for the
packed parts of arrays.
"""

import io
import math
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

import numpy as np

from stm_keras.memory import charge, left, limited
from stm_keras.readers.file_bytes import DEFLATE, Later, damage
from stm_keras.readers.hdf5_parts import Parts, read_values

MAGIC = b"\x89HDF\r\n\x1a\n"
OFFSETS = (0, 512, 1024, 2048)  # where the header may begin; MATLAB puts its own first
HEAP = b"GCOL\1\0\0\0"  # magic, version, reserved
LARGEST_SEARCHED = 1 << 30  # bytes looked through; heaps of larger files are believed
BLOCK = 1 << 20  # bytes that are searched at a time
UNSEEN = 1 << 24  # bytes that a text has at most in a file that is believed
SMALL = 1 << 20  # bytes that may be declared without being stored
MOST = 2000  # arrays looked at in one file
LINKS = 20000  # names looked at in one file
DEEPEST = 8  # groups within groups
OBJECT = 64  # bytes of a text in memory beside its letters
longest_text: ContextVar[int] = ContextVar("longest_text", default=UNSEEN)  # of the file


def is_hdf5(head: bytes) -> bool:
    """Tell whether a file begins as an HDF5 file does."""
    return any(head[start : start + len(MAGIC)] == MAGIC for start in OFFSETS)


@contextmanager
def open_hdf5(path, data, kind="HDF5 file", checked=False):
    """Open an HDF5 file; yields an `h5py.File`.

    Args:
        data: bytes of the file, or the file opened to be read.
        kind: str. What it seems to be.
        checked: bool. Whether its heaps were looked through before.
    """
    import h5py

    source = io.BytesIO(data) if isinstance(data, bytes) else data
    with damage(path, kind), source, limited():
        if not checked:
            longest_text.set(check_heaps(data))
        try:
            with h5py.File(source, "r") as file:
                yield file
        except OSError as error:  # so HDF5 calls anything that it cannot make sense of
            raise ValueError(str(error)) from None


def names_of(group: "h5py.Group", attributes: bool = False) -> list:  # noqa: F821
    """List the names in a group, or those of its attributes.

    They are gone through as they lie: to sort them, HDF5 makes a table, which it frees when
    half of it was never filled, if a byte of the list is damaged (HDF5 1.14.6,
    `H5G__dense_build_table`): that ends the process.
    """
    from h5py import h5, h5a, h5g

    names, creation = [], group.id.get_create_plist()

    def take(name, *_):
        names.append(name)
        return len(names) >= LINKS or None

    if attributes:
        tracked = creation.get_attr_creation_order()
        index = h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME
        h5a.iterate(group.id, take, index_type=index, order=h5.ITER_NATIVE)
    else:
        tracked = isinstance(group.id, h5g.GroupID) and creation.get_link_creation_order()
        index = h5.INDEX_CRT_ORDER if tracked else h5.INDEX_NAME
        group.id.links.iterate(take, idx_type=index, order=h5.ITER_NATIVE)
    texts = [name.decode("utf-8", "surrogateescape") for name in names]
    return texts if tracked else sorted(texts)


def child(group: "h5py.Group", name: str) -> object | None:  # noqa: F821  h5py is slow to load
    """Return what a group holds by this name; None for a link, which may lead anywhere."""
    import h5py

    if "/" in name or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return None
    return group[name]


def arrays(file: "h5py.File") -> dict:  # noqa: F821
    """List the arrays whose data are in a file: dict of name to `h5py.Dataset`.

    Links to elsewhere are not followed. Each object is looked at once, however many names it
    has: groups that hold one another have names without end.
    """
    import h5py

    members, seen, links = {}, set(), count()

    def visit(prefix, group, depth):
        for name in names_of(group):
            if len(members) >= MOST or next(links) >= LINKS:
                return
            member = child(group, name)
            if member is None:
                continue
            # The address is that of the link. HDF5 itself, asked for that of an object, goes
            # through all that the object holds, and crashes over a damaged list of parts.
            address = group.id.links.get_info(name.encode("utf-8", "surrogateescape")).u
            if address in seen:
                continue
            seen.add(address)
            if isinstance(member, h5py.Dataset) and is_stored(member):
                members[prefix + name] = member
            elif isinstance(member, h5py.Group) and depth < DEEPEST:
                visit(f"{prefix}{name}/", member, depth + 1)

    visit("", file, 0)
    return members


def later(path: object, data: bytes, member: "h5py.Dataset") -> Later:  # noqa: F821
    """Return an array of an HDF5 file that is read when it is looked at.

    `data` are the bytes of the file; `member` need not stay open.
    """
    name = member.name

    def read():
        with open_hdf5(path, data, checked=True) as file:
            return read_all(file[name])

    return Later(member.shape, member.dtype, read)


def read_all(member: "h5py.Dataset") -> object:  # noqa: F821
    """Read a whole array as `hdf5_parts.read_values` does, texts of any length with care."""
    if not _is_text(member.id.get_type()):
        return read_values(member)
    most = OBJECT + 4 * longest_text.get()  # all may be the longest, and are copied
    if member.ndim == 0 or most * member.size <= left():
        return read_values(member)
    texts, parts, start = np.empty(member.shape, object), Parts(member), 0
    charge(member.nbytes + parts.work, parts.name)
    while start < len(texts):
        some = slice(start, start + max(left() // most, 1))
        texts[some] = parts.read((some,))
        charge(sum(len(text) + OBJECT for text in texts[some].flat), parts.name)
        start = some.stop
    return texts


def is_stored(member: "h5py.Dataset") -> bool:  # noqa: F821
    """Tell whether an array's data lie in the file: its header may promise terabytes."""
    if member.shape is None or member.is_virtual or member.external:
        return False
    if not is_plain(member.id.get_type()):
        return False
    declared = math.prod(member.shape) * member.dtype.itemsize
    if declared <= SMALL:
        return True
    packed = member.id.get_create_plist().get_nfilters() > 0
    return declared <= member.id.get_storage_size() * (DEFLATE if packed else 1)


def _is_text(kind):
    """Tell whether an HDF5 type is a text of any length, which lies elsewhere."""
    from h5py import h5t

    return kind.get_class() == h5t.STRING and kind.is_variable_str()


def is_plain(kind: "h5py.h5t.TypeID") -> bool:  # noqa: F821
    """Tell whether an HDF5 type is a number or a text: HDF5 crashes over some others.

    A single damaged byte makes a text a sequence of made-up numbers, which HDF5 1.14 cannot
    convert and does not refuse.
    """
    from h5py import h5t

    most = {h5t.INTEGER: 8, h5t.FLOAT: 8, h5t.ENUM: 1}  # bytes; a bool is an ENUM
    class_ = kind.get_class()
    return class_ == h5t.STRING or kind.get_size() <= most.get(class_, 0)


def attribute(owner, name, default=None):
    """Read an attribute that is a number or a text, or a few of them.

    `owner` is an open `h5py.File`, group or dataset; `default` stands for an attribute that is
    not there or of another kind.
    """
    from h5py import h5a

    if name not in owner.attrs:
        return default
    opened = h5a.open(owner.id, name.encode())
    kind = opened.get_type()
    if not is_plain(kind) or opened.get_storage_size() > SMALL:
        return default
    if _is_text(kind) and math.prod(opened.shape) * longest_text.get() > left():
        return default
    return owner.attrs[name]


def read_variables(path: object, data: bytes, file: "h5py.File") -> tuple:  # noqa: F821
    """Read a netCDF 4 file as `netcdf.read_variables` does classic ones; large arrays later."""
    members = arrays(file)
    axes = {}  # by number, where netCDF wrote one
    for name, member in members.items():
        number = attribute(member, "_Netcdf4Dimid")
        scale = text_of(attribute(member, "CLASS", "")) == "DIMENSION_SCALE"
        if member.ndim == 1 and scale and number is not None:
            axes.setdefault(int(np.ravel(number)[0]), name)
    variables = {}
    for name, member in members.items():
        if member.dtype.kind in "iufSO":
            numbers = np.ravel(attribute(member, "_Netcdf4Coordinates", ()))
            own = tuple(axes.get(int(number)) for number in numbers)
            small = member.nbytes <= SMALL
            values = read_all(member) if small else later(path, data, member)
            variables[name] = values, _attributes(member), own or (None,) * member.ndim
    return variables, _attributes(file)


def _attributes(owner):
    values = {name: attribute(owner, name) for name in names_of(owner, True)[:MOST]}
    return {name: value for name, value in values.items() if value is not None}


def text_of(value: object) -> str:
    """Return an attribute or array of letters as str, without what fills it up."""
    parts = [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in np.ravel(value)[:4096]
    ]
    return "".join(parts).strip("\0 ")


def check_heaps(source) -> int:
    """Refuse a file, or its bytes, with a heap whose objects do not fill it one by one.

    Returns:
        int: bytes of the longest text or list that lies in one: as many names as a file has
        may all stand for the same.

    Raises:
        ValueError: There is such a heap.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    size = file.seek(0, io.SEEK_END)
    longest = 0 if size <= LARGEST_SEARCHED else UNSEEN
    if size <= LARGEST_SEARCHED:
        width, start = _width_of_lengths(file), _find(file, 0)
        while start >= 0:
            end, length = _walk(file, start, width, size)
            start, longest = _find(file, end), max(longest, length)
    file.seek(0)
    return longest


def _find(file, begin):
    """Return where the next heap begins, or -1. A block at a time: files may be large."""
    while True:
        file.seek(begin)
        block = file.read(BLOCK)
        start = block.find(HEAP)
        if start >= 0:
            return begin + start
        if len(block) < BLOCK:
            return -1
        begin += len(block) - len(HEAP) + 1


def _width_of_lengths(file):
    """Return how many bytes a size takes in a file, as its superblock says."""
    file.seek(0)
    head = file.read(1 << 16)
    start = head.find(MAGIC)
    if start < 0 or start + 15 > len(head):
        return 8
    width = head[start + (14 if head[start + 8] < 2 else 10)]
    return width if width in (2, 4, 8) else 8


def _walk(file, start, width, size):
    """Go through a heap as HDF5 does; return where it ends, and its longest object."""
    file.seek(start + 8)
    end = int.from_bytes(file.read(width), "little")
    head = _aligned(8 + width)
    if not head <= end <= size - start:
        raise ValueError(f"the heap at byte {start} is {end} bytes long")
    file.seek(start)
    heap, position, longest = file.read(end), head, 0
    while position + head <= end:  # a rest that is too small for an object is none
        number = int.from_bytes(heap[position : position + 2], "little")
        length = int.from_bytes(heap[position + 8 : position + 8 + width], "little")
        step = head + _aligned(length) if number else length  # 0 is the free space
        if not head <= step <= end - position:
            raise ValueError(f"an object of {length} bytes in the heap at byte {start}")
        position, longest = position + step, max(longest, length if number else 0)
    return start + end, longest


def _aligned(length):
    return -(-length // 8) * 8
