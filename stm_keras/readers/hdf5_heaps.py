"""Find damage in HDF5 files over which HDF5 itself would never come to an end.

Values of variable length, texts above all, lie in heaps. HDF5 goes through a heap from
object to object by the sizes that are written there; where one is 0 it stays for ever, in C,
where no time limit of Python reaches it (HDF5 1.14.6, `H5HG__cache_heap_deserialize`).
"""

import mmap
from contextlib import closing

MAGIC = b"\x89HDF\r\n\x1a\n"
HEAP = b"GCOL\1\0\0\0"  # magic, version, reserved
MOST = 1 << 30  # bytes looked through; heaps of larger files are believed


def check_heaps(source):
    """Refuse a file with a heap in which HDF5 would go round for ever.

    Args:
        source: bytes of the file, or the file opened to be read in binary mode.

    Raises:
        ValueError: There is one.
    """
    if isinstance(source, bytes):
        _check(source)
        return
    size = source.seek(0, 2)
    source.seek(0)
    if 0 < size <= MOST:
        with closing(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)) as mapped:
            _check(mapped)


def _check(data):
    width = _width_of_lengths(data)
    place = data.find(HEAP)
    while place >= 0:
        end = _walk(data, place, width)
        place = data.find(HEAP, end)


def _width_of_lengths(data):
    """Return how many bytes a size takes in a file, as its superblock says."""
    place = data.find(MAGIC)
    if place < 0 or place + 15 > len(data):
        return 8
    version = data[place + 8]
    width = data[place + (14 if version < 2 else 10)]
    return width if width in (2, 4, 8) else 8


def _walk(data, place, width):
    """Go through a heap as HDF5 does; return where it ends, or where it makes no sense."""
    head = _aligned(8 + width)
    size = int.from_bytes(data[place + 8 : place + 8 + width], "little")
    end = min(place + size, len(data))
    at = place + head
    while at + head <= end:
        number = int.from_bytes(data[at : at + 2], "little")
        length = int.from_bytes(data[at + 8 : at + 8 + width], "little")
        step = head + _aligned(length) if number else length
        step %= 1 << 64  # as C adds
        if step == 0:
            raise ValueError(f"an object of size 0 in the heap at byte {place}")
        at += step
    return max(min(at, end), place + len(HEAP))


def _aligned(length):
    return -(-length // 8) * 8
