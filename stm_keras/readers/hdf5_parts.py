"""Read HDF5 arrays whose packed parts unpack to what they say, and look before HDF5 does.

HDF5 unpacks a part whole, whatever size it has, and goes on as if that were the right one: a
part of some bytes that unpacks to a gigabyte fills the memory, and one that unpacks to less
than it should is read past its end, which ends the process (HDF5 1.14.6).
"""

import math
import zlib
from itertools import product

from stm_keras.memory import charge

DEFLATED, SHUFFLED, SUMMED, LZF = 1, 2, 3, 32000  # filters whose output has a known size
CHECKSUM = 4  # bytes that a sum takes
UNPACKED = 3  # times a part, that HDF5 takes while it unpacks one
FEW = 20000  # parts that need not all be stored


class Parts:
    """An array of an open HDF5 file, of which parts are looked at before they are read.

    Raises:
        ValueError: It is packed in a way that is not read, or most of it is not stored.
    """

    def __init__(self, member: "h5py.Dataset"):  # noqa: F821  h5py takes long to import
        self.member, self.chunks = member, member.chunks
        self.name = f"`{member.name[-40:]}`"
        creation = member.id.get_create_plist()
        self.filters = [creation.get_filter(i)[0] for i in range(creation.get_nfilters())]
        unknown = set(self.filters) - {DEFLATED, SHUFFLED, SUMMED, LZF}
        packings = [each for each in self.filters if each in (DEFLATED, LZF)]
        if unknown or len(packings) > 1 or len(set(self.filters)) < len(self.filters):
            raise ValueError(
                f"{self.name} is packed in a way that is not read (HDF5 filters "
                f"{self.filters}): save it with gzip, or not packed"
            )
        self.size = math.prod(self.chunks or ()) * _stored_size(member)
        self._checked = set()
        if self.chunks:
            grid = math.prod(map(len, self._ranges(())))
            if grid > FEW and grid > member.id.get_num_chunks():
                raise ValueError(f"not all parts of {self.name} are stored")

    @property
    def work(self) -> int:
        """Bytes that HDF5 takes beside the array while it unpacks."""
        return self.size * UNPACKED if self.chunks else 0

    def read(self, slices: tuple = ()) -> object:
        """Read some of the array, or all: slices of the first axes, with a step of 1.

        Raises:
            ValueError: A part of it is damaged.
        """
        for offset in product(*self._ranges(slices)) if self.chunks else ():
            if offset not in self._checked:
                self._check(offset)
                self._checked.add(offset)
        return self.member[slices]

    def _ranges(self, slices):
        """Return where the parts begin that some of the array is in: a range for each axis."""
        whole = (slice(None),) * (self.member.ndim - len(slices))
        ranges = []
        for each, count, step in zip(
            (*slices, *whole), self.member.shape, self.chunks, strict=True
        ):
            start, stop, _ = each.indices(count)
            ranges.append(range(start // step * step, stop, step))
        return ranges

    def _check(self, offset):
        """Raise a `ValueError` unless a part unpacks to its size."""
        stored_part = self.member.id.get_chunk_info_by_coord(offset)
        if stored_part.byte_offset is None:  # not stored: it holds what fills gaps
            return
        skipped = stored_part.filter_mask
        done = [code for bit, code in enumerate(self.filters) if not skipped >> bit & 1]
        size, packed = self.size, None
        for code in done:  # in the order of writing
            if packed is None:
                size += CHECKSUM * (code == SUMMED)
            packed = packed or {DEFLATED: _deflated, LZF: _lzf}.get(code)
        stored = stored_part.size
        wrong = stored != size
        if packed is not None:
            after = done[done.index(DEFLATED if packed is _deflated else LZF) :]
            least = CHECKSUM * (SUMMED in after)
            wrong = stored <= least or stored > size + size // 8 + 1024
            if not wrong:
                data = self.member.id.read_direct_chunk(offset)[1]
                wrong = packed(memoryview(data)[: stored - least], size) != size
        if wrong:
            raise ValueError(f"a part of {self.name} has another size than it says")


def _stored_size(member):
    """Return the bytes of a value in the file: of a text of any length, where it lies."""
    from h5py import h5t  # h5py takes long to import

    kind = member.id.get_type()
    if kind.get_class() == h5t.STRING and kind.is_variable_str():
        address = member.file.id.get_create_plist().get_sizes()[0]
        return 8 + address  # length and number beside it
    return kind.get_size()


def read_values(member: "h5py.Dataset") -> object:  # noqa: F821
    """Read a whole array.

    Raises:
        ValueError: It is damaged, or packed in a way that is not read.
        StmKerasError: It takes more memory than the file may.
    """
    parts = Parts(member)
    charge(member.nbytes + parts.work, parts.name)
    return parts.read()


def _deflated(data, most):
    """Return the size that deflated bytes unpack to, at most `most` + 1; -1 of damaged ones."""
    stream = zlib.decompressobj()
    try:
        size = len(stream.decompress(data, most + 1))
    except zlib.error:
        return -1
    return size if stream.eof else -1


def _lzf(data, most):
    """Return the size that bytes packed by LZF unpack to; -1 of damaged ones."""
    data, position, size = bytes(data), 0, 0
    try:
        while position < len(data) and size <= most:
            control = data[position]
            if control < 32:  # so many bytes as they are, and one more
                position, size = position + control + 2, size + control + 1
                continue
            long = control >> 5 == 7
            length = (control >> 5) + 2 + (data[position + 1] if long else 0)
            back = ((control & 31) << 8 | data[position + 1 + long]) + 1
            if back > size:
                return -1
            position, size = position + 2 + long, size + length
    except IndexError:
        return -1
    return size if position == len(data) else -1
