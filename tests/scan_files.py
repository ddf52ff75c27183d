"""Small scan files of every format, made up byte by byte: what each test reads."""

import struct
import zlib

import numpy as np

LINES, PIXELS = 12, 16
SIZE = (3.2e-9, 2.4e-9)  # m: pixels are square


def surface(lines=LINES, pixels=PIXELS, seed=0):
    """Make up heights of about 1e-10 m in which no flip goes unseen, float64.

    Row 0 is the top, column 0 the left edge; lines are alike, as on a surface.
    """
    row, column = np.mgrid[:lines, :pixels]
    wave = np.sin(2 * np.pi * column / 7) + 0.5 * np.sin(row / 3)
    noise = np.random.default_rng(seed).normal(0, 0.05, (lines, pixels))
    return (
        ((wave + 0.1 * row + 0.2 * (column == 1) + noise) * 1e-10).astype("f4").astype("f8")
    )


def sxm(images, slow="down", tabs=True, size=SIZE, **entries):
    """Bytes of a Nanonis file.

    Args:
        images: dict of channel name to tuple (unit, forward, backward) as they lay; the
            backward one may be None.
        slow: str.
        tabs: bool. False separates columns by spaces, as a converter does.
        size: tuple of float, m.
        **entries: Header entries that differ, with _ for -.
    """
    lines, pixels = next(iter(images.values()))[1].shape
    rows, blocks = ["Channel\tName\tUnit\tDirection\tCalibration\tOffset"], []
    for number, (name, (unit, forward, backward)) in enumerate(images.items()):
        way = "forward" if backward is None else "both"
        rows.append(f"{number}\t{name}\t{unit}\t{way}\t1.0E+0\t0.0E+0")
        stored = [forward] if backward is None else [forward, backward[:, ::-1]]
        blocks += [s[::-1] if slow == "up" else s for s in stored]
    header = {
        "NANONIS_VERSION": "2",
        "SCANIT_TYPE": "            FLOAT            MSBFIRST",
        "SCAN_PIXELS": f"       {pixels}       {lines}",
        "SCAN_TIME": "             2.000E-1             2.000E-1",
        "SCAN_RANGE": f"           {size[0]:E}           {size[1]:E}",
        "SCAN_ANGLE": "            3.500E+1",
        "SCAN_DIR": slow,
        "BIAS": "            -1.500E+0",
        "Z-CONTROLLER": "\tName\ton\tSetpoint\tP-gain\n\tlog\t1\t5.000E-11 A\t1E-12 m",
        "DATA_INFO": "\n".join("\t" + row for row in rows),
    }
    header |= {key.replace("_CONTROLLER", "-CONTROLLER"): v for key, v in entries.items()}
    text = "".join(f":{key}:\n{value}\n" for key, value in header.items())
    text = text if tabs else text.replace("\t", "    ")
    data = b"".join(np.asarray(block, ">f4").tobytes() for block in blocks)
    return text.encode() + b"\n:SCANIT_END:\n\n\n\x1a\x04" + data


def createc(
    images, slow="down", recorded=None, both=True, size=SIZE, version="co32", **entries
):
    """Bytes of a Createc file. `images` are arrays of counts, as they lay.

    Args:
        version: str. "co32" for deflated floats, "et32" for floats, "eter" for integers.
        **entries: Header entries that differ; None leaves one out.
    """
    images = [np.array(image, "f4") for image in images]
    lines, pixels = images[0].shape
    for image in images:
        if recorded is not None:  # lines are stored by their place, the rest is 0
            image[recorded:] = 0 if slow == "down" else image[recorded:]
            if slow == "up":
                image[: lines - recorded] = 0
    header = {
        "Num.X / Num.X": pixels,
        "Num.Y / Num.Y": lines,
        "Channels / Channels": len(images),
        "DAC-Type": "20bit",
        "ZPiezoconst": 20.0,
        "GainZ / GainZ": 10,
        "Gainpre 10^": 9,
        "BiasVoltage / BiasVolt.[mV]": 500.0,
        "FBLogIset / LogIset": 100,
        "Rotation": 15,
        "Sec/line:": 0.5,
        "Length x[A]": size[0] * 1e10,
        "Length y[A]": size[1] * 1e10,
        "ScanXMode": 2 if both else 1,
        "ScanYMode": 1 if slow == "down" else 2,
    } | entries
    text = "".join(f"{key}={v}\r\n" for key, v in header.items() if v is not None)
    head = f"[Param{version}]\r\n{text}".encode("cp1252").ljust(16380, b"\r") + b"DATA"
    block = np.concatenate([[0.0], *(image.ravel() for image in images)])
    data = block.astype("<i2" if version == "eter" else "<f4").tobytes()
    return head + (zlib.compress(data) if version == "co32" else data)


def netcdf3(
    path,
    stored,
    name="scan-M-Xp-Topo.nc",
    unit="AA",
    control="TopDown",
    step=0.5,
    **texts,
):
    """Write a GXSM3 file. `stored` are counts of `step` Angstrom, as GXSM stores them.

    `texts` are variables more.
    """
    from scipy.io import netcdf_file

    lines, pixels = stored.shape
    with netcdf_file(path, "w") as file:
        sizes = {"time": 1, "value": 1, "dimy": lines, "dimx": pixels}
        for dimension, size in sizes.items():
            file.createDimension(dimension, size)
        field = file.createVariable("FloatField", "f4", tuple(sizes))
        field[:] = stored[None, None]
        field.ZLabel = "Z"
        texts |= {"basename": f"/data/{name}", "spm_scancontrol": control}
        for key, text in texts.items():
            file.createDimension(key, len(text))
            file.createVariable(key, "c", (key,))[:] = list(text)
        values = {"rangex": 32.0, "rangey": 24.0, "dz": step, "alpha": 10.0}
        values |= {"sranger_mk2_hwi_bias": -0.5, "sranger_mk2_hwi_scan_speed_x": 160.0}
        values |= {"sranger_mk2_hwi_mix0_set_point": 0.02}
        for key, value in values.items():
            variable = file.createVariable(key, "f8", ())
            variable.data = np.array(value, ">f8")
            variable.unit = unit
            variable.var_unit = "nA" if "mix0" in key else "Ang"


def gxsm4(
    path,
    stored,
    name="scan-M-Xp-Topo.nc",
    unit="AA",
    mode=3,
    hardware="rpspmc",
    date="Thu Dec  2 12:04:08 2021 \0",
):
    """Write a GXSM4 file: netCDF 4, that is HDF5.

    Args:
        path: str, `Path`, or file opened to be written.
        stored: array of counts of half a `unit`.
        name: str. What GXSM called the file.
        mode: int. What the Z servo did with the current: 3 followed its logarithm.
        hardware: str.
        date: str. When the scan began.
    """
    import h5py

    with h5py.File(path, "w") as file:
        file["FloatField"] = stored[None, None].astype("f4")
        file["FloatField"].attrs["ZLabel"] = "Z" if unit == "AA" else "Mon"
        file["dz"] = [0.5]
        file["dz"].attrs["unit"] = unit
        file["rangex"], file["rangey"] = [32.0], [24.0]
        file[f"{hardware}_hwi_Bias"] = [0.25]
        file[f"{hardware}_hwi_Z_Servo_SetPoint"] = [0.01]
        file[f"{hardware}_hwi_Z_Servo_SetPoint"].attrs["var_unit"] = "nA"
        file[f"{hardware}_hwi_Z_Servo_Transfer_Mode"] = [float(mode)]
        file["spm_scancontrol"] = np.frombuffer(b"BottomUp", "S1")
        file["basename"] = np.frombuffer(f"/data/{name}".encode(), "S1")
        file["dateofscan"] = np.frombuffer(date.encode(), "S1")


def nexus(path, z, current, entries=("entry",)):
    """Write an NXstm file as pynxtools does, each entry with heights 1 nm above the last.

    Args:
        path: str, `Path`, or file opened to be written.
        z, current: arrays as they lay, forward; backward ones are their negative.
    """
    import h5py

    with h5py.File(path, "w") as file:
        for number, entry in enumerate(entries):
            group = file.create_group(entry)
            group.attrs["NX_class"] = "NXentry"
            for name, image, unit in (
                ("current", current, "ampere"),
                ("z", z, "nanometer"),
            ):
                for way, sign in (("backward", -1), ("forward", 1)):
                    data = group.create_group(f"{name}_{way}")
                    data[name] = (sign * image[::-1]) * (1e9 if name == "z" else 1) + number
                    data[name].attrs["units"] = unit
                    for axis, count in zip("yx", image.shape, strict=True):
                        data[axis] = np.linspace(0, 1, count)
            group["start_time"] = f"2025-06-05T15:0{number}:51.25+02:00"
            inside = group.create_group("instrument")
            fields = {
                "sample_bias_voltage/bias_voltage": (50.0 + number, "millivolt"),
                "height_piezo_sensor/spm_positioner/z_controller/set_point": (0.5, "nA"),
                "scan_environment/spm_scan_control/scan_region/scan_range_x": (4.0, "nm"),
                "scan_environment/spm_scan_control/scan_region/scan_range_y": (3.0, "nm"),
                "scan_environment/spm_scan_control/scan_region/scan_angle": (30.0, "deg"),
            }
            for name, (value, unit) in fields.items():
                inside[name] = value
                inside[name].attrs["units"] = unit


def rhkpy_netcdf3(path, forward, backward):
    """Write what rhkpy's images are saved as by xarray with scipy: classic netCDF."""
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for axis, size in (("y", len(forward)), ("x", forward.shape[1]), ("scandir", 2)):
            file.createDimension(axis, size)
        file.createDimension("string8", 8)
        letters = file.createVariable("scandir", "c", ("scandir", "string8"))
        letters[:] = [list(way.ljust(8, "\0")) for way in ("forward", "backward")]
        for axis, size in (("y", len(forward)), ("x", forward.shape[1])):
            file.createVariable(axis, "f8", (axis,))[:] = np.arange(size) * 0.2
            file.variables[axis].units = "nm"
        image = file.createVariable("topography", "f8", ("y", "x", "scandir"))
        image[:] = np.stack([forward[::-1], backward[::-1]], -1) * 1e9
        image.units = "nm"
        for key, value, unit in (("bias", 0.5, "V"), ("setpoint", 100.0, "pA")):
            setattr(file, key, value)
            setattr(file, f"{key} units", unit)
        setattr(file, "scan angle", 20.0)


def spym_netcdf4(path, forward, current):
    """Write what spym's images are saved as by xarray: HDF5 with numbered axes.

    The axis of the lines is called x, that of the pixels y; the top line comes first.
    """
    import h5py

    told = {"bias": [0.5], "setpoint": [1e-10], "setpoint_units": "A", "scan_angle": [20.0]}
    told |= {"time_per_point": [0.01], "feedback_active": [1]}
    with h5py.File(path, "w") as file:
        file.attrs["_NCProperties"] = "version=2,netcdf=4.9.3"
        pairs = (
            ("Topography_Forward", forward, "m"),
            ("LIA_Current_Forward", current, "A"),
        )
        for number, (name, image, unit) in enumerate(pairs):
            file[name] = image
            file[name].attrs["units"] = unit
            file[name].attrs["_Netcdf4Coordinates"] = np.array([0, 1], "i4") + 2 * number
            for key, value in told.items():
                file[name].attrs[key] = value
            for place, axis in enumerate("xy"):
                scale = file.create_dataset(
                    f"{name}_{axis}", data=np.arange(image.shape[place]) * 2e-10
                )
                scale.attrs["units"] = "m"
                scale.attrs["CLASS"] = np.bytes_("DIMENSION_SCALE")
                scale.attrs["_Netcdf4Dimid"] = np.int32(2 * number + place)


def nid(forward, backward, up=False, recorded=None):
    """Bytes of a Nanosurf file. Counts (int) as they lay; Z of 1e-7 m per 2^16."""
    lines, pixels = forward.shape
    text = "[DataSet]\r\nVersion=2\r\nGroupCount=2\r\n"
    for group, name in enumerate(("Scan forward", "Scan backward")):
        text += f"Gr{group}-Name={name}\r\nGr{group}-Count=1\r\nGr{group}-Ch0=D-{group}\r\n"
    text += (
        f"\r\n[DataSet-Info]\r\nScan direction={'Up' if up else 'Down'}\r\n"
        "Time/Line=100ms\r\nTip voltage=1,5 V\r\nSetpoint=1,25nA\r\nRotation=5 \xb0\r\n"
    )
    for group in range(2):
        text += (
            f"\r\n[D-{group}]\r\nPoints={pixels}\r\nLines={lines}\r\nSaveBits=16\r\n"
            "Dim0Range=3.2e-09\r\nDim1Range=2.4e-09\r\nDim2Range=1e-07\r\n"
            "Dim2Min=-5e-08\r\nDim2Unit=m\r\nDim2Name=Z-Axis\r\n"
        )
    data = b""
    for image in (forward, backward):
        image = np.array(image, "<i2")
        if recorded is not None:
            image[recorded:] = 0
        data += image[::-1].tobytes()
    return text.encode("latin-1") + b"\r\n#!" + data


def ibw(array, name="Z_Forward_Down", unit="m", labels=(), note="Bias: 500 mV\r"):
    """Bytes of an Igor wave of version 5. `array` as Igor keeps it: [x, y(, layer)]."""
    array = np.asarray(array, "<f4")
    shape = [*array.shape, 0, 0, 0, 0][:4]
    label = b"".join(text.encode().ljust(32, b"\0") for text in ("", *labels))
    label = label if labels else b""
    data = array.tobytes(order="F")
    parts = (320 + len(data), 0, len(note), 0, 0, 0, 0, 0, 0, 0, len(label), 0, 0)
    head = struct.pack("<hh13iii", 5, 0, *parts, 0, 0)[:64].ljust(64, b"\0")
    wave = (
        struct.pack("<IIIihh", 0, 0, 0, array.size, 2, 0) + bytes(6) + struct.pack("<h", 0)
    )
    wave += name.encode().ljust(32, b"\0") + bytes(8)  # two indices of Igor's own
    wave += struct.pack("<4i", *shape) + struct.pack("<4d", 2e-10, 2e-10, 1, 1) + bytes(32)
    wave += unit.encode().ljust(4, b"\0") + b"m\0\0\0m\0\0\0" + bytes(8)
    wave = wave.ljust(320, b"\0")
    total = int(np.frombuffer(head + wave, "<i2").sum(dtype=int))
    head = head[:2] + struct.pack("<H", -total % 65536) + head[4:]
    return head + wave + data + note.encode() + label


def matrix_result(counts, planned):
    """Bytes of a MATRIX result file: `counts` recorded of so many planned."""
    counts = np.asarray(counts, "<i4").ravel()
    described = bytes(20) + struct.pack("<II", planned, len(counts)) + bytes(8)
    inner = _block("CSED", described) + _block("ATAD", counts.tobytes())
    return b"ONTMATRX0101" + b"TLKB" + struct.pack("<I", len(inner) + 4) + bytes(12) + inner


def matrix_index(name, lines, pixels, retrace=(True, True), channel="Z", more=()):
    """Bytes of a MATRIX index in which `name` (str) is recorded with these settings.

    `more` are further blocks after it, as of a session that went on.
    """
    blocks = [_settings(lines, pixels, retrace), _channels(channel)]
    blocks += [_timed("FERB", struct.pack("<I", 0) + _text(name)), *more]
    return b"ONTMATRX0101" + _timed("ATEM", bytes(4)) + b"".join(blocks)


def matrix_counts(images, forward_only=False):
    """Counts in the order of acquisition of up to four images (forward, backward, ...).

    Args:
        images: list of (forward, backward) int arrays as they lay; the first pair was
            scanned upwards, the second downwards.
        forward_only: bool. Whether backward lines are left out.
    """
    stored = []
    for number, (forward, backward) in enumerate(images):
        rows = range(len(forward))
        for row in reversed(rows) if number == 0 else rows:
            stored.append(forward[row])
            if not forward_only:
                stored.append(backward[row][::-1])
    return np.concatenate(stored)


def _block(name, content):
    return name.encode() + struct.pack("<I", len(content)) + content


def _timed(name, content):
    return name.encode() + struct.pack("<I", len(content)) + bytes(8) + content


def _text(text):
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def _property(name, value, unit="--"):
    if isinstance(value, bool):
        packed = b"LOOB" + struct.pack("<I", value)
    elif isinstance(value, int):
        packed = b"GNOL" + struct.pack("<i", value)
    else:
        packed = b"BUOD" + struct.pack("<d", value)
    return _text(name) + _text(unit) + bytes(4) + packed


def _settings(lines, pixels, retrace):
    groups = {
        "XYScanner": {
            "X_Retrace": retrace[0],
            "Y_Retrace": retrace[1],
            "Points": pixels,
            "Lines": lines,
            "Width": SIZE[0],
            "Height": SIZE[1],
            "X_Offset": 0.0,
            "Y_Offset": 0.0,
            "Angle": 0,
            "Raster_Time": 0.01,
        },
        "GapVoltageControl": {"Voltage": 1.25},
        "Regulator": {"Setpoint_1": 3e-10},
    }
    content = bytes(4) + struct.pack("<I", len(groups))
    for name, properties in groups.items():
        content += _text(name) + struct.pack("<I", len(properties))
        content += b"".join(_property(key, value) for key, value in properties.items())
    return _timed("APEE", content)


def _channels(channel):
    """The block that tells what channels are called and how counts become heights."""
    entry = bytes(4) + struct.pack("<I", 7) + bytes(8) + _text(channel) + _text("Meter")
    none, one = struct.pack("<I", 0), struct.pack("<I", 1)
    named = _block("TCID", bytes(8) + none + one + entry + none)
    linear = b"".join(
        _text(key) + b"BUOD" + struct.pack("<d", value)
        for key, value in (("Factor", 1e12), ("Offset", 0.0))
    )
    entry = bytes(4) + struct.pack("<I", 7) + _text("TFF_Linear1D") + _text("Meter")
    return _timed(
        "YSCC", bytes(4) + named + _block("REFX", entry + struct.pack("<I", 2) + linear)
    )


def wsxm(stored, control, general, size=SIZE):
    """Bytes of a WSxM image. `stored` are counts (int16) of 1e-13 m, as they lay.

    Args:
        stored: int array of shape `(lines, pixels)`.
        control, general: dict of str to str. Entries of the two parts of its header.
        size: tuple of float, m.
    """
    stored = np.asarray(stored, "<i2")
    control = {
        **control,
        "X Amplitude": f"{size[0] * 1e9} nm",
        "Y Amplitude": f"{size[1] * 1e9} nm",
    }
    general = {
        **general,
        "Image Data Type": "short",
        "Number of columns": stored.shape[1],
        "Number of rows": stored.shape[0],
        "Z Amplitude": f"{np.ptp(stored) * 1e-4} nm",
    }
    header = "WSxM file copyright Nanotec Electronica\r\nSxM Image file\r\n"
    header += "Image header size: {size}\r\n"
    for name, entries in (("Control", control), ("General Info", general)):
        lines = "".join(f"    {key}: {value}\r\n" for key, value in entries.items())
        header += f"\r\n[{name}]\r\n\r\n{lines}"
    header += "\r\n[Header end]\r\n"
    header = header.format(size=len(header.format(size=1000)))
    return header.encode() + stored[::-1, ::-1].tobytes()  # from the end


def nanoscope(images, scan=(), size=SIZE):
    """Bytes of a NanoScope file. `images` are tuples (name, entries, counts as they lay)."""
    lines, pixels = np.shape(images[0][2])
    wide = f"{size[0] * 1e9:g} {size[1] * 1e9:g} nm"
    header = (
        "\\*File list\r\n\\Version: 0x05120000\r\n\\Data length: 8192\r\n"
        "\\*Scanner list\r\n\\@Sens. Zscan: V 10.0 nm/V\r\n"
        f"\\*Ciao scan list\r\n\\Scan size: {wide}\r\n\\Lines: {lines}\r\n"
    )
    header += "".join(f"\\{entry}\r\n" for entry in scan)
    data = b""
    for name, entries, stored in images:
        stored = np.asarray(stored, "<i2")
        header += (
            f"\\*Ciao image list\r\n\\Data offset: {8192 + len(data)}\r\n"
            f"\\Data length: {stored.nbytes}\r\n\\Bytes/pixel: 2\r\n\\Samps/line: {pixels}\r\n"
            f"\\Number of lines: {lines}\r\n\\Scan size: {wide}\r\n"
            f'\\@2:Image Data: S [{name}] "{name}"\r\n'
            "\\@2:Z scale: V [Sens. Zscan] (0.0001 V/LSB) 6.5536 V\r\n"
        )
        header += "".join(f"\\{entry}\r\n" for entry in entries)
        data += stored[::-1].tobytes()
    return (header + "\\*File list end\r\n\x1a").encode().ljust(8192, b"\0") + data


def mul(images):
    """Bytes of an Aarhus MUL file.

    Args:
        images: list of tuples (counts as they lay, size in Angstrom, bias in V,
            current in nA, hour).
    """
    index, blocks, place = b"", b"", 3
    for number, (heights, size, bias, current, hour) in enumerate(images, 1):
        stored = -np.asarray(heights, "<i2")[::-1]
        count = 1 + -(-stored.nbytes // 128)
        label = struct.pack("<5H", number, count, stored.shape[1], stored.shape[0], 0)
        label += struct.pack("<6H", 2020, 1, 2, hour, 3, 4)
        label += struct.pack("<2H2h3H", *size, 0, 0, 440, 30, 1200)
        label += struct.pack("<2h", round(-bias * 3276.8), round(current * 100))
        label += b"\6sample".ljust(21, b"\0") + b"\4spot".ljust(21, b"\0")
        label += struct.pack("<7H16h", 0, 0, 0, 1, 0, 1, 1, *[0] * 16)
        blocks += label + stored.tobytes().ljust((count - 1) * 128, b"\0")
        index += struct.pack("<HI", number, place)
        place += count
    index += struct.pack("<HI", 0, place)
    return index.ljust(384, b"\0") + blocks


def tiff(directories, order="<"):
    """Bytes of a TIFF file: a list of dict of tag to int, float, str, bytes or array.

    An array of shape `(lines, pixels)` or `(lines, pixels, 3)` stands for the picture of a
    directory, under the tag 273.
    """
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for tags in directories:
        picture = np.asarray(tags[273])
        kind = {"u": 1, "i": 2, "f": 3}[picture.dtype.kind]
        samples = picture.shape[2] if picture.ndim == 3 else 1
        data = picture.astype(picture.dtype.newbyteorder(order)).tobytes()
        bits = np.full(samples, picture.dtype.itemsize * 8, "u2")
        basic = {256: picture.shape[1], 257: picture.shape[0], 258: bits, 259: 1}
        basic |= {262: 2 if samples == 3 else 1, 277: samples, 278: picture.shape[0]}
        basic |= {279: len(data), 339: np.full(samples, kind, "u2")}
        tags = basic | {**tags, 273: len(out)}
        out += data
        entries = b""
        for tag, value in sorted(tags.items()):
            code, count, raw = _tiff_value(value, order)
            if len(raw) > 4:
                out += b"\0" * (len(out) % 2)
                raw, place = struct.pack(f"{order}I", len(out)), raw
                out += place
            entries += struct.pack(f"{order}HHI", tag, code, count) + raw.ljust(4, b"\0")
        out += b"\0" * (len(out) % 2)
        out[link : link + 4] = struct.pack(f"{order}I", len(out))
        out += struct.pack(f"{order}H", len(tags)) + entries
        link = len(out)
        out += bytes(4)
    return bytes(out)


def _tiff_value(value, order):
    """Return type, count and bytes of a value of a TIFF tag."""
    if isinstance(value, str):
        return 2, len(value) + 1, value.encode() + b"\0"
    if isinstance(value, bytes):
        return 1, len(value), value
    if isinstance(value, float):
        return 12, 1, struct.pack(f"{order}d", value)
    if isinstance(value, np.ndarray):
        return 3, value.size, value.astype(f"{order}u2").tobytes()
    return 4, 1, struct.pack(f"{order}I", value)


def park(stored, up=True, forward=True, size=SIZE):
    """Bytes of a Park file: counts (int16) of 1e-13 m as they lay, behind a preview."""
    stored = np.asarray(stored, "<i2")
    lines, pixels = stored.shape

    def wide(text, count):
        return text.encode("utf-16-le").ljust(2 * count, b"\0")

    head = struct.pack("<I", 0) + wide("Topography", 32) + wide("STM", 8)
    head += struct.pack("<d4I", 0.5, 0, 0, pixels, lines)
    head += struct.pack("<dIdIII", 15.0, 0, 0.0, forward, up, 0)
    head += struct.pack("<6d", size[0] * 1e6, size[1] * 1e6, 0, 0, 2.0, 0.3)
    head += wide("nA", 8) + struct.pack("<5d", 0.0, -1.25, 1e-7, 1.0, 0.0) + wide("um", 8)
    head += struct.pack("<iii3I", 0, 0, 0, 0, 0, 0)
    preview = np.random.default_rng(0).integers(0, 255, (lines, pixels, 3)).astype("u1")
    tags = {50432: 0x0E031301, 50433: 0x1000001, 50434: stored[::-1].tobytes()}
    return tiff([{273: preview, **tags, 50435: head.ljust(356, b"\0")}])


def jpk(forward, backward, size=SIZE):
    """Bytes of a JPK scan: a preview, then counts (uint16) of 1e-13 m as they lay."""
    preview = np.zeros((*np.shape(forward), 3), "u1")
    first = {273: preview, 0x8042: size[0], 0x8043: size[1], 0x8040: 0.0, 0x8041: 0.0}
    first |= {0x8050: "height", 0x8049: 2.0, 0x804A: 1.0}
    directories = [first]
    for retrace, image in enumerate((forward, backward)):
        directories.append(
            {
                273: np.asarray(image, "u2")[::-1],
                0x8050: "height",
                0x8051: bytes([retrace]),
                0x8052: "Height",
                0x8080: 1,
                0x8081: "nominal",
                0x8090: "nominal",
                0x80A2: "m",
                0x80A3: "LinearScaling",
                0x80A4: 1e-13,
                0x80A5: 0.0,
            }
        )
    return tiff(directories, ">")


def scala(folder, name, images, more=""):
    """Write a SCALA scan: a parameter file and one of numbers for each image.

    Args:
        folder: `Path`.
        name: str. Of the files, without their suffix.
        images: list of tuples (suffix, letter, direction, unit, counts as they lay); a count
            is 0.001 of the unit. An image of counts None is named but not written.
        more: str. Further lines.

    Returns:
        `Path` of the parameter file.
    """
    lines, pixels = np.shape(images[0][4])
    text = (
        ";\n; Omicron SPM Control.\n; Parameter file for SPM data.\n;\n\nFormat : 1\n"
        f"Field X Size in nm : {SIZE[0] * 1e9:g} ;[nm]\n"
        f"Field Y Size in nm : {SIZE[1] * 1e9:g} ;[nm]\n"
        f"Image Size in X : {pixels}\nImage Size in Y : {lines}\n"
        "Scan Angle : 12.5 ;[Degree]\nGap Voltage : -1.5 ;[V]\nFeedback Set : 0.2 ;[nA]\n"
    )
    for suffix, letter, direction, unit, stored in images:
        text += (
            f"\nTopographic Channel : {letter} ;Channel\n  {direction} ;Direction\n"
            "  -32767 ;Minimum raw value\n  32767 ;Maximum raw value\n"
            "  -32.767 ;Minimum value in physical unit\n  32.767 ;Maximum value\n"
            f"  0.001 ;Resolution\n  {unit} ;Physical unit\n  {name}{suffix} ;Filename\n"
            "  TOPOGRAPHIC ;Display Name\n"
        )
        if stored is not None:
            numbers = np.asarray(stored, ">i2")[::-1].tobytes()
            (folder / f"{name}{suffix}").write_bytes(numbers)
    path = folder / f"{name}.par"
    path.write_text(text + more)
    return path
