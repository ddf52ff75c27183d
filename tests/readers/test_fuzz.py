"""Mutated files: every reader gives a scan or one line of refusal, soon, in little memory.

`STM_KERAS_FUZZ=100000 python -m pytest tests/readers/test_fuzz.py` is the nightly run: so
many mutations of every format. Gwyddion's converter is a process of its own and gets a
hundredth of that. With `STM_KERAS_FUZZ_LAST=FILE` the file that is being read is kept there:
what made a library's C code hang or crash is not lost, and FILE.where says where it hung.
"""

import faulthandler
import io
import os
import signal
import struct
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from helpers import SHARED
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scan_files import (
    createc,
    gxsm4,
    ibw,
    jpk,
    matrix_counts,
    matrix_index,
    matrix_result,
    mul,
    nanoscope,
    netcdf3,
    nexus,
    nid,
    park,
    rhkpy_netcdf3,
    scala,
    spym_netcdf4,
    surface,
    sxm,
    tiff,
    wsxm,
)
from scipy.io import savemat

from stm_keras.errors import ScanError
from stm_keras.readers import READERS
from stm_keras.readers.found import choose
from stm_keras.readers.sniff import scan_format

COUNT = int(os.environ.get("STM_KERAS_FUZZ", "1000"))
LAST = os.environ.get("STM_KERAS_FUZZ_LAST")  # where to keep the file that is being read
LAST = None if LAST is None else Path(LAST)
SECONDS = 20  # no file may take as long, on the slowest machine
HEIGHTS = surface(16, 16)
COUNTS = np.round(HEIGHTS * 1e12).astype(int)
GREY = (COUNTS - COUNTS.min()).astype("u1")
MATRIX = "session--3_1.Z_mtrx"
TABLE = "\n".join("\t".join(f"{value:.3g}" for value in row) for row in HEIGHTS)
POINTS = "\n".join(f"{x} {y} {HEIGHTS[y, x]:.3g}" for y in range(16) for x in range(16))


def written(write):
    """Make up a file by a function of its path, for libraries that want one."""

    def data(folder):
        write(folder / "made")
        return (folder / "made").read_bytes()

    return data


def stream(write):
    """Make up a file by a function of an open one."""

    def data(folder):
        file = io.BytesIO()
        write(file)
        return file.getvalue()

    return data


def gwyddion(path):
    import gwyfile.objects as gwy

    field = gwy.GwyDataField(HEIGHTS, 1e-9, 1e-9, si_unit_xy="m", si_unit_z="m")
    mask = gwy.GwyDataField(HEIGHTS * 0)
    meta = gwy.GwyContainer({"Bias": "1.5 V"})
    content = {"/0/data": field, "/0/mask": mask, "/0/meta": meta, "/0/data/title": "Z up"}
    gwy.GwyContainer(content).tofile(str(path))


def hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("FW_Z", data=HEIGHTS, compression="gzip", chunks=(8, 8))
        file["group/BW_Z"] = HEIGHTS
        file.attrs["bias"] = "1.5 V"


MADE = {  # format: how its file is made, from a folder to write in
    "nanonis": lambda _: sxm(
        {"Z": ("m", HEIGHTS, HEIGHTS), "Current": ("A", HEIGHTS, None)}
    ),
    "createc": lambda _: createc([HEIGHTS * 1e14] * 4, Channelselectval=3),
    "createc 16": lambda _: createc([COUNTS] * 2, version="eter", Channelselectval="0x3"),
    "gxsm": written(lambda path: netcdf3(path, COUNTS)),
    "gxsm 4": written(lambda path: gxsm4(path, COUNTS)),
    "nanosurf": lambda _: nid(COUNTS, COUNTS),
    "gwyddion": written(gwyddion),
    "gsf": lambda _: (
        b"Gwyddion Simple Field 1.0\nXRes = 16\nYRes = 16\nXReal = 1e-9\nYReal = 1e-9\n"
        b"XYUnits = m\nZUnits = m\n\0" + HEIGHTS.astype("<f4").tobytes()
    ),
    "igor": lambda _: ibw(np.stack([HEIGHTS, HEIGHTS], 2), labels=("ZTrace", "ZRetrace")),
    "hdf5": written(hdf5),
    "nexus": written(lambda path: nexus(path, HEIGHTS, HEIGHTS)),
    "netcdf": written(lambda path: rhkpy_netcdf3(path, HEIGHTS, HEIGHTS)),
    "netcdf 4": written(lambda path: spym_netcdf4(path, HEIGHTS, HEIGHTS)),
    "npy": stream(lambda file: np.save(file, HEIGHTS)),
    "npz": stream(lambda file: np.savez_compressed(file, Z=HEIGHTS, bias_V=1.0)),
    "mat": stream(lambda file: savemat(file, {"Z": HEIGHTS, "slow": "up"})),
    "packed mat": stream(lambda file: savemat(file, {"Z": HEIGHTS}, do_compression=True)),
    "png": stream(lambda file: Image.fromarray(GREY).save(file, "PNG")),
    "deep tiff": lambda _: tiff([{273: HEIGHTS}]),
    "text": lambda _: (
        "# Channel: Z\n# Width: 1 nm\n# Height: 1 nm\n# Value units: m\n" + TABLE
    ).encode(),
    "points": lambda _: POINTS.encode(),
    "scala": lambda folder: scala(
        folder, "m", [(".tf0", "Z", "Forward", "nm", COUNTS)]
    ).read_bytes(),
    "tiff": stream(lambda file: Image.fromarray(HEIGHTS.astype("f4")).save(file, "TIFF")),
    "jpeg": stream(lambda file: Image.fromarray(GREY).save(file, "JPEG")),
    "matrix": lambda _: matrix_result(matrix_counts([(COUNTS, COUNTS)] * 2), 4 * 256),
}
MODULES = {"gxsm 4": "gxsm", "gwyddion": "gwy", "npy": "plain", "npz": "plain"}
MODULES |= {"mat": "plain", "packed mat": "plain", "createc 16": "createc"}
MODULES |= {"nexus": "hdf5", "netcdf": "gxsm", "netcdf 4": "hdf5"}
MODULES |= dict.fromkeys(("png", "tiff", "deep tiff", "jpeg"), "pictures")
MODULES |= {"points": "text"}

EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
PIECES = [struct.pack(f"{order}I", value) for value in EXTREMES for order in "<>"]
PIECES += [b"99999999", b"-1", b"nan", b"1e999", b"\0", b"\n", b"=", b"\xff\xfe"]
PIECES += [struct.pack("<d", float("nan")), struct.pack(">d", float("inf"))]

change = st.tuples(
    st.sampled_from(["put", "put", "put", "flip", "cut", "drop", "double", "insert"]),
    st.floats(0, 1, exclude_max=True),  # where in the file
    st.booleans(),  # in its first tenth, where headers are
    st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=8)),
)


def mutate(data, changes):
    """Return a damaged copy of a file: bytes put, cut, dropped, doubled or inserted."""
    data = bytearray(data)
    for how, share, early, piece in changes:
        place = int(share * len(data) * (0.1 if early else 1))
        if how == "put":
            data[place : place + len(piece)] = piece
        elif how == "flip" and data:
            data[place] ^= 1 << piece[0] % 8
        elif how == "cut":
            del data[max(place, 1) :]
        elif how == "drop":
            del data[place : place + len(piece)]
        elif how == "double":
            data[place:place] = data[place : place + 64]
        else:
            data[place:place] = piece
    return bytes(data)


class Late(BaseException):
    """Not an `Exception`: readers turn an `AssertionError` of a library into a refusal."""


@contextmanager
def in_time():
    def late(number, frame):
        raise Late(f"a reader took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        if LAST is None:
            yield
        else:
            # a library's C code looks at no signal: then all ends here, and says where
            with LAST.with_suffix(".where").open("w") as where:
                faulthandler.dump_traceback_later(3 * SECONDS, exit=True, file=where)
                try:
                    yield
                finally:
                    faulthandler.cancel_dump_traceback_later()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read(module, path, data):
    """Read bytes as `read_scan` would, and see that what comes is a scan or a refusal."""
    refused = None
    if LAST is not None:
        LAST.write_bytes(data)
    with in_time():
        try:
            scan = choose(path, module.parse(path, data))
        except ScanError as error:
            refused = str(error)
    if refused is not None:
        assert refused.startswith(f"{path}: ")
        assert "\n" not in refused
        return None
    assert scan.heights.shape == scan.valid.shape
    assert np.isfinite(scan.heights[scan.valid]).all()
    assert 1 <= len(scan.lines()) <= len(scan.heights)
    assert scan.size is None or min(scan.size) > 0
    return scan


fuzzed = settings(
    max_examples=COUNT,
    deadline=None,
    database=None,
    derandomize=COUNT <= 1000,  # tests are the same every time, the nightly run is not
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return {name: make(folder) for name, make in MADE.items()}


@pytest.mark.parametrize("name", MADE)
def test_mutated_files_are_read_or_refused(name, made, tmp_path):
    module = MODULES.get(name, name)
    module = import_module(f"stm_keras.readers.{module}")
    path = tmp_path / MATRIX
    if name == "scala":  # its numbers lie in a file of their own
        scala(tmp_path, "m", [(".tf0", "Z", "Forward", "nm", COUNTS)])
    assert read(module, path, made[name]) is not None

    @fuzzed
    @given(st.lists(change, min_size=1, max_size=4))
    def check(changes):
        read(module, path, mutate(made[name], changes))

    check()


def test_mutated_indexes_are_used_or_passed_over(made, tmp_path):
    module = import_module("stm_keras.readers.matrix")
    index = matrix_index(MATRIX, 16, 16)
    path = tmp_path / MATRIX

    @settings(fuzzed, max_examples=max(COUNT // 4, 1))
    @given(st.lists(change, min_size=1, max_size=4))
    def check(changes):
        (tmp_path / "session_0001.mtrx").write_bytes(mutate(index, changes))
        assert read(module, path, made["matrix"]) is not None

    check()


def test_mutated_files_are_sniffed(made, tmp_path):
    path = tmp_path / "a"
    names = {*READERS, "refused", None}

    @settings(fuzzed, max_examples=max(COUNT // 2, 1))
    @given(st.sampled_from(sorted(MADE)), st.lists(change, min_size=1, max_size=4))
    def check(name, changes):
        path.write_bytes(mutate(made[name], changes))
        with in_time():
            assert scan_format(path) in names

    check()


CONVERTED = {
    ".mul": lambda: mul([(COUNTS, (100, 100), 1, 0.1, hour) for hour in range(3)]),
    ".tiff": lambda: park(COUNTS),
    ".jpk": lambda: jpk(COUNTS + 999, COUNTS + 999),
    ".stp": lambda: wsxm(
        COUNTS, {"Topography Bias": "1 V"}, {"Y scanning direction": "Up"}
    ),
    ".000": lambda: nanoscope([("Height", ["Line Direction: Trace"], COUNTS)]),
    ".sm4": lambda: shared(".sm4"),
    ".top": lambda: shared(".top"),
}


def shared(suffix):
    if not SHARED.exists():
        pytest.skip("the shared scans are not here")
    (file,) = (SHARED / "spm").glob(f"*{suffix}")
    return file.read_bytes()


@pytest.mark.parametrize("suffix", CONVERTED)
def test_mutated_files_for_gwyddion_are_read_or_refused(suffix, tmp_path):
    data, path = CONVERTED[suffix](), Path(tmp_path / f"a{suffix}")
    module = import_module("stm_keras.readers.converted")
    path.write_bytes(data)
    assert read(
        SimpleNamespace(parse=partial(module.parse, name=scan_format(path))), path, data
    )

    @settings(fuzzed, max_examples=max(COUNT // 100, 1))
    @given(st.lists(change, min_size=1, max_size=4))
    def check(changes):
        read(module, path, mutate(data, changes))

    check()
