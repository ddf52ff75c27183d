"""Files of some kilobytes that promise much more memory, of every format that unpacks."""

import io
import struct
import zipfile
import zlib

import h5py
import numpy as np

PATTERN = np.random.default_rng(0).integers(0, 120, 64).astype("u1").tobytes()
PNG = b"\x89PNG\r\n\x1a\n"


def pattern(size):
    """Yield so many bytes that are no constant, a piece at a time."""
    piece = PATTERN * (1 << 14)
    for start in range(0, size, len(piece)):
        yield piece[: size - start]


def deflated(size, before=b"", wbits=15):
    """Return `before` and so many bytes more, packed."""
    stream = zlib.compressobj(1, wbits=wbits)
    parts = [stream.compress(before), *map(stream.compress, pattern(size))]
    return b"".join([*parts, stream.flush()])


def npz(path, shape, dtype="u1", names=("Z0",)):
    """Write an NPZ file of arrays of one shape."""
    kind = np.dtype(dtype)
    head = io.BytesIO()
    about = {"descr": kind.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, about)
    size = int(np.prod(shape)) * kind.itemsize
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(head.getvalue())
                for piece in pattern(size):
                    member.write(piece)


def mat5(path, shape, count=1):
    """Write a MATLAB file of packed arrays of doubles that are stored in one byte each."""
    size = int(np.prod(shape))
    arrays = []
    for index in range(count):
        name = f"scan{index}".encode()
        about = struct.pack("<IIII", 6, 8, 6, 0)
        about += struct.pack(f"<II{len(shape)}i", 5, 4 * len(shape), *shape)
        about += bytes(-len(about) % 8) + struct.pack("<II", 1, len(name)) + name
        about += bytes(-len(about) % 8) + struct.pack("<II", 2, size)
        whole = struct.pack("<II", 14, len(about) + size) + about
        packed = deflated(size, whole)
        arrays.append(struct.pack("<II", 15, len(packed)) + packed)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"
    path.write_bytes(head + b"".join(arrays))


def hdf5(path, shape, names=("Z",), dtype="f4", stored=True, matlab=False):
    """Write an HDF5 file of packed arrays, of one part each or of parts that are not there."""
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        packed = None
        for name in names:
            data = file.create_dataset(name, shape, dtype, chunks=shape, compression=1)
            if stored:
                packed = packed or deflated(int(np.prod(shape)) * data.dtype.itemsize)
                data.id.write_direct_chunk((0,) * len(shape), packed)
            if matlab:
                data.attrs["MATLAB_class"] = np.bytes_("double")
    if matlab:
        with path.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file".ljust(512))


def hdf5_part(path, shape, size):
    """Write an HDF5 file with a small array, of which the one part unpacks to so much."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("Z", shape, "f4", chunks=shape, compression=1)
        data.id.write_direct_chunk((0, 0), deflated(size))


def hdf5_texts(path, count, length):
    """Write an HDF5 dataset whose names all are one text that is stored once."""
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((count, 16, 16), "u1")
        file["labels"] = np.arange(count) % 4
        names = file.create_dataset("name", (count,), h5py.string_dtype(), chunks=(count,))
        names[0] = "x" * length
        file.flush()
        raw = names.id.read_direct_chunk((0,))[1][:16]
        names.id.write_direct_chunk((0,), raw * count)


def createc(path, side, images=2):
    """Write a packed Createc file."""
    lines = {"Num.X / Num.X": side, "Num.Y / Num.Y": side, "Channels / Channels": images}
    text = "[Paramco32]\r\n" + "".join(
        f"{name}={value}\r\n" for name, value in lines.items()
    )
    size = 4 * (1 + images * side * side)
    path.write_bytes(text.encode().ljust(16384, b"\0") + deflated(size))


def png(path, side, colours=3):
    """Write a picture in grey, in colour or with four channels."""
    kind = {1: 0, 3: 2, 4: 6}[colours]
    row = b"\0" + (PATTERN * (side * colours // 64 + 1))[: side * colours]
    stream = zlib.compressobj(1)
    data = b"".join([*(stream.compress(row) for _ in range(side)), stream.flush()])
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, kind, 0, 0, 0))]
    parts += [(b"IDAT", data), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(body))
        + name
        + body
        + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )
    path.write_bytes(PNG + b"".join(chunks))


def tiff(path, side, bits=64, kind=3):
    """Write a deflated TIFF of one channel of numbers."""
    data = deflated(side * side * bits // 8)
    entries = {256: side, 257: side, 258: bits, 259: 8, 262: 1, 273: 8, 277: 1, 278: side}
    entries |= {279: len(data), 339: kind}
    rows = (
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())
    )
    place = 8 + len(data) + len(data) % 2
    folder = struct.pack("<H", len(entries)) + b"".join(rows) + bytes(4)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", place) + data.ljust(place - 8, b"\0") + folder
    )


def tiff_loop(path, frames):
    """Write a TIFF of so many frames, which are all of one pixel."""
    folder = 2 + 12 * 9 + 4
    parts = []
    entries = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 1}
    rows = b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())
    )
    for frame in range(frames):
        after = 16 + (frame + 1) * folder if frame + 1 < frames else 0
        parts.append(struct.pack("<H", 9) + rows + struct.pack("<I", after))
    path.write_bytes(b"II*\0" + struct.pack("<I", 16) + bytes(8) + b"".join(parts))


def sparse_npy(path, shape):
    """Write an array of which only the header is on the disk."""
    with path.open("wb") as file:
        about = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
        file.truncate(file.tell() + 4 * int(np.prod(shape, dtype=object)))


def blank_text(path, size):
    """Write a text that begins as a matrix of numbers and goes on with empty lines."""
    line = " ".join(["1.5"] * 20) + "\n"
    path.write_text(line * 300 + "\n" * size, encoding="utf-8")
