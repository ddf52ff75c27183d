"""Find damage in HDF5 files over which HDF5 itself would crash, or never come to an end.

Values of variable length, texts above all, lie in heaps. HDF5 goes through a heap from
object to object by the sizes that are written there; where one is 0 it stays for ever, in C,
where no time limit of Python reaches it, and where one leads out of the heap it reads what is
not there (HDF5 1.14.6, `H5HG__cache_heap_deserialize`).
"""

import io

MAGIC = b"\x89HDF\r\n\x1a\n"
HEAP = b"GCOL\1\0\0\0"  # magic, version, reserved
MOST = 1 << 30  # bytes looked through; heaps of larger files are believed
BLOCK = 1 << 20
UNSEEN = 1 << 24  # bytes that a text has at most in a file that is believed


def check_heaps(source) -> int:
    """Refuse a file with a heap whose objects do not fill it one after the other.

    Args:
        source: bytes of the file, or the file opened to be read in binary mode.

    Returns:
        int: bytes of the longest text or list that lies in one: as many names as a file has
        may all stand for the same.

    Raises:
        ValueError: There is one.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    size = file.seek(0, io.SEEK_END)
    longest = 0 if size <= MOST else UNSEEN
    if size <= MOST:
        width, place = _width_of_lengths(file), _find(file, 0)
        while place >= 0:
            end, length = _walk(file, place, width, size)
            place, longest = _find(file, end), max(longest, length)
    file.seek(0)
    return longest


def _find(file, begin):
    """Return where the next heap begins, or -1. A block at a time: files may be large."""
    while True:
        file.seek(begin)
        block = file.read(BLOCK)
        place = block.find(HEAP)
        if place >= 0:
            return begin + place
        if len(block) < BLOCK:
            return -1
        begin += len(block) - len(HEAP) + 1


def _width_of_lengths(file):
    """Return how many bytes a size takes in a file, as its superblock says."""
    file.seek(0)
    head = file.read(1 << 16)
    place = head.find(MAGIC)
    if place < 0 or place + 15 > len(head):
        return 8
    width = head[place + (14 if head[place + 8] < 2 else 10)]
    return width if width in (2, 4, 8) else 8


def _walk(file, place, width, size):
    """Go through a heap as HDF5 does; return where it ends, and its longest object."""
    file.seek(place + 8)
    end = int.from_bytes(file.read(width), "little")
    head = _aligned(8 + width)
    if not head <= end <= size - place:
        raise ValueError(f"the heap at byte {place} is {end} bytes long")
    file.seek(place)
    heap, at, longest = file.read(end), head, 0
    while at + head <= end:  # a rest that is too small for an object is none
        number = int.from_bytes(heap[at : at + 2], "little")
        length = int.from_bytes(heap[at + 8 : at + 8 + width], "little")
        step = head + _aligned(length) if number else length  # 0 is the free space
        if not head <= step <= end - at:
            raise ValueError(f"an object of {length} bytes in the heap at byte {place}")
        at, longest = at + step, max(longest, length if number else 0)
    return place + end, longest


def _aligned(length):
    return -(-length // 8) * 8
