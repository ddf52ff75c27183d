"""Open HDF5 files in memory, and take only arrays whose data are really in them."""

import io
from contextlib import contextmanager

import numpy as np

from stm_keras.readers.hdf5_heaps import MAGIC, check_heaps
from stm_keras.readers.source import DEFLATE, MAX_BYTES, damage

PLACES = (0, 512, 1024, 2048)  # where the header may begin; MATLAB puts its own first
SMALL = 1 << 20  # bytes that may be declared without being stored
MOST = 2000  # arrays looked at in one file
DEEPEST = 8  # groups within groups


def is_hdf5(head):
    """Tell whether a file begins as an HDF5 file does."""
    return any(head[place : place + len(MAGIC)] == MAGIC for place in PLACES)


@contextmanager
def open_hdf5(path, data, what="HDF5 file"):
    """Open an HDF5 file; yields an `h5py.File`.

    Args:
        path: str or `Path`. Named in errors.
        data: bytes of the file, or the file opened to be read.
        what: str. What it seems to be.
    """
    import h5py

    source = io.BytesIO(data) if isinstance(data, bytes) else data
    with damage(path, what), source:
        check_heaps(data)
        try:
            with h5py.File(source, "r") as file:
                yield file
        except OSError as error:  # so HDF5 calls anything that it cannot make sense of
            raise ValueError(str(error)) from None


def arrays(group, prefix="", depth=0):
    """List the arrays of a file by name: links to elsewhere are not followed.

    Args:
        group: open `h5py.File` or group.

    Returns:
        dict of str to `h5py.Dataset`, of those whose data are in the file.
    """
    import h5py

    found = {}
    for name in group:
        if len(found) >= MOST:
            break
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        member = group[name]
        if isinstance(member, h5py.Dataset):
            if is_stored(member):
                found[prefix + name] = member
        elif isinstance(member, h5py.Group) and depth < DEEPEST:
            found |= arrays(member, f"{prefix}{name}/", depth + 1)
    return found


def is_netcdf(file) -> bool:
    """Tell whether a library of netCDF wrote an open `h5py.File`."""
    return "_NCProperties" in file.attrs


def is_stored(member):
    """Tell whether an array's data lie in the file: its header may promise terabytes."""
    if member.shape is None or member.is_virtual or member.external:
        return False
    if not is_plain(member.id.get_type()):
        return False
    declared = int(np.prod(member.shape, dtype=object)) * member.dtype.itemsize
    if declared <= SMALL:
        return True
    packed = member.id.get_create_plist().get_nfilters() > 0
    kept = member.id.get_storage_size() * (DEFLATE if packed else 1)
    return declared <= min(kept, MAX_BYTES)


def is_plain(kind):
    """Tell whether an HDF5 type is a number or a text: HDF5 crashes over some others.

    A single damaged byte makes a text a sequence of made-up numbers, which HDF5 1.14 cannot
    convert and does not refuse.

    Args:
        kind: `h5py.h5t.TypeID`.
    """
    from h5py import h5t

    most = {h5t.INTEGER: 8, h5t.FLOAT: 8, h5t.ENUM: 1}  # bytes; a bool is an ENUM
    return kind.get_class() == h5t.STRING or kind.get_size() <= most.get(
        kind.get_class(), 0
    )


def attribute(thing, name, default=None):
    """Read an attribute that is a number or a text, or a few of them.

    Args:
        thing: open `h5py.File`, group or dataset.
        name: str.
        default: what to return where there is none, or one of another kind.
    """
    from h5py import h5a

    if name not in thing.attrs:
        return default
    found = h5a.open(thing.id, name.encode())
    if not is_plain(found.get_type()) or found.get_storage_size() > SMALL:
        return default
    return thing.attrs[name]


def read_variables(file, largest: int, wanted=()) -> tuple:
    """Read a netCDF 4 file as `netcdf3.read_variables` does classic ones.

    Args:
        file: open `h5py.File`.
        largest: int. Arrays of more values are left out, but for those wanted.
        wanted: container of str.

    Returns:
        Tuple of two dicts, of the variables and of the attributes of the file.
    """
    members = arrays(file)
    axes = {}  # by number, where netCDF wrote one
    for name, member in members.items():
        number = attribute(member, "_Netcdf4Dimid")
        scale = text_of(attribute(member, "CLASS", "")) == "DIMENSION_SCALE"
        if member.ndim == 1 and scale and number is not None:
            axes.setdefault(int(np.ravel(number)[0]), name)
    variables, left = {}, MAX_BYTES  # of all together: each may be packed
    for name, member in members.items():
        small = member.size <= largest and member.dtype.kind in "iufSO"
        left -= member.nbytes if small or name in wanted else 0
        if left >= 0 and (small or name in wanted):
            numbers = np.ravel(attribute(member, "_Netcdf4Coordinates", ()))
            own = tuple(axes.get(int(number)) for number in numbers)
            variables[name] = member[()], _attributes(member), own or (None,) * member.ndim
    return variables, _attributes(file)


def _attributes(thing):
    found = {name: attribute(thing, name) for name in list(thing.attrs)[:MOST]}
    return {name: value for name, value in found.items() if value is not None}


def text_of(value):
    """Return an attribute or array of letters as str, without what fills it up."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip("\0 ")
    if isinstance(value, str):
        return value.strip("\0 ")
    parts = [
        item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
        for item in np.ravel(value)[:4096]
    ]
    return "".join(parts).strip("\0 ")
